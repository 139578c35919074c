"""What an object needs from the compiler's own library, and how that is said to whoever links it.

A processor without instructions for float64 computes with functions such as `__aeabi_dadd` (Arm, "Run-time ABI for the
Arm Architecture"), which libgcc and compiler-rt have: names that begin with two underscores are reserved for such
libraries. Every C compiler links its own by itself, unless it is told not to (`-nostdlib`). The square root of float64
is C's there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from graphc_llvm.export_elf import undefined_symbols

_RESERVED: Final = "__"
_OF_C: Final = "sqrt"
_WIDTH: Final = 112  # of the header's comments


def run_time_functions(content: bytes) -> list[str]:
    """The functions of C's libraries that an object file computes with, sorted; none where that is no ELF file."""
    return sorted(name for name in undefined_symbols(content) if name.startswith(_RESERVED) or name == _OF_C)


def _flags(needs: Sequence[str]) -> str:
    return "-lm -lc -lgcc" if _OF_C in needs else "-lgcc"


def note(name: str, needs: Sequence[str]) -> str:
    """The sentence for whoever exports an object file that needs some."""
    return (
        f"{name} calls functions of the compiler's run-time library, as for float64 on a processor without "
        f"instructions for it: link with {_flags(needs)} where -nostdlib leaves that out ({', '.join(needs)})"
    )


def comment(needs: Sequence[str]) -> list[str]:
    """The last lines of the header's first comment."""
    lines = [
        "   Programs link it, and the compiler's run-time library (libgcc or compiler-rt), which C compilers add by",
        f"   themselves: with -nostdlib add {_flags(needs)}. It computes what the processor has no instructions for:",
        "  ",
    ]
    for name in needs:
        if len(lines[-1]) + len(name) > _WIDTH:
            lines.append("  ")
        lines[-1] += f" {name}"
    lines[-1] += " */"
    return lines

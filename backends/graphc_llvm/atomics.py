"""Instructions for code that threads share: atomic i64 operations, loops that spin, variables on the stack.

Memory orders are LLVM's words (`monotonic`, `acquire`, `release`, `seq_cst`; Language Reference, "Atomic Memory
Ordering Constraints").
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from graphc_llvm.emit import I1, I32, I64, Builder, Value
from graphc_llvm.target import Target

# The instruction that tells the processor, or the other thread of its core, that this one only waits.
_PAUSE: Final = {
    "x86_64": ("llvm.x86.sse2.pause", ()),
    "aarch64": ("llvm.aarch64.hint", (1,)),  # yield
    "arm64": ("llvm.aarch64.hint", (1,)),
}


def atomic_load(b: Builder, pointer: Value, order: str) -> Value:
    """Load an i64."""
    return b.emit(f"load atomic i64, ptr {pointer.text} {order}, align 8", I64)


def atomic_store(b: Builder, value: Value | int, pointer: Value, order: str) -> None:
    """Store an i64."""
    b.lines.append(f"  store atomic i64 {b.operand(value, I64)}, ptr {pointer.text} {order}, align 8")


def atomic_update(b: Builder, operation: str, pointer: Value, value: Value, order: str) -> None:
    """Replace an i64 by what `operation` (add, sub, and, or) makes of it and `value`."""
    b.lines.append(f"  atomicrmw {operation} ptr {pointer.text}, i64 {value.text} {order}")


def swap(b: Builder, pointer: Value, old: Value | int, new: Value | int) -> Value:
    """Put `new` where `old` stands; an i1: whether it stood there. Then it is an acquire, otherwise monotonic."""
    text = f"cmpxchg ptr {pointer.text}, i64 {b.operand(old, I64)}, i64 {b.operand(new, I64)} acquire monotonic"
    return b.emit(f"extractvalue {{ i64, i1 }} {b.emit(text, I64).text}, 1", I1)


def pause(b: Builder, target: Target) -> None:
    """One turn of a loop that waits; nothing where the architecture has no instruction for it."""
    name, arguments = _PAUSE.get(target.triple.split("-")[0], ("", ()))
    if name:
        b.call(name, None, [b.const(I32, argument) for argument in arguments])


def variable(b: Builder) -> Value:
    """The address of an i64 on the stack. LLVM's sroa pass turns it into registers."""
    return b.alloca("i64", 1, align=8)


@contextmanager
def forever(b: Builder) -> Iterator[str]:
    """Repeat the body; gives the label of the block behind it."""
    top, behind = b.new_label("again"), b.new_label("behind")
    b.jump(top)
    b.start_block(top)
    yield behind
    b.jump(top)
    b.start_block(behind)


def leave_if(b: Builder, condition: Value, label: str) -> None:
    """Jump to a label if the i1 holds."""
    rest = b.new_label("rest")
    b.jump_if(condition, label, rest)
    b.start_block(rest)

"""A shared library, where the machine has a C compiler or a linker."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from graphc.errors import ExportError

COMPILERS: Final = ("cc", "gcc", "clang")
TOOLS: Final = (*COMPILERS, "ld", "ld.lld")


def find_linker(tools: Sequence[str] = TOOLS) -> str | None:
    """The path of the first of the tools that is there."""
    return next((path for path in map(shutil.which, tools) if path), None)


def shared_library(tool: str, object_bytes: bytes, name: str, has_threads: bool = False) -> bytes:
    """Link one object, which needs no other, to a shared library called `name`. ExportError: the tool refuses.

    One with threads needs the C library, and a compiler's start-up files: through them the C library forgets, when the
    library is closed, what it was to call in the child of a fork."""
    options = ["-shared", "-soname", name, "-z", "defs"]
    if Path(tool).name in COMPILERS:
        options = ["-shared", "-pthread" if has_threads else "-nostdlib", f"-Wl,-soname,{name}", "-Wl,-z,defs"]
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder, "code.o"), Path(folder, "library.so")
        source.write_bytes(object_bytes)
        command = [tool, *options, "-o", str(made), str(source)]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode or not made.is_file():
            said = " ".join(done.stderr.split()) or "it says nothing"
            raise ExportError(f"export: {tool} cannot make {name}: {said}")
        return made.read_bytes()

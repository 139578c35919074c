"""A shared library, where the machine has a C compiler or a linker."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from graphc.errors import ExportError

TOOLS: Final = ("cc", "gcc", "clang", "ld", "ld.lld")
_COMPILERS: Final = ("cc", "gcc", "clang")


def find_linker() -> str | None:
    """The path of the first of TOOLS that is there."""
    return next((path for path in map(shutil.which, TOOLS) if path), None)


def shared_library(tool: str, object_bytes: bytes, name: str) -> bytes:
    """Link one object, which needs no other, to a shared library called `name`. ExportError: the tool refuses."""
    options = ["-shared", "-soname", name, "-z", "defs"]
    if Path(tool).name in _COMPILERS:
        options = ["-shared", "-nostdlib", f"-Wl,-soname,{name}", "-Wl,-z,defs"]
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder, "code.o"), Path(folder, "library.so")
        source.write_bytes(object_bytes)
        command = [tool, *options, "-o", str(made), str(source)]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode or not made.is_file():
            said = " ".join(done.stderr.split()) or "it says nothing"
            raise ExportError(f"export: {tool} cannot make {name}: {said}")
        return made.read_bytes()

"""Compiled code that outlives the process: what goes into its key, and what is kept beside it.

The key is the SHA-256 of all that code follows from: what is compiled (a program's text, never a weight), the target,
the choices made for it, the versions of LLVM, llvmlite, NumPy and Python (a call's code knows how the latter two lay
their objects out), and the sources of this package and of what it imports of graphc, as far as names, sizes and times
of change tell them apart. Code is the same bytes whenever the key is the same, so it does not matter which process made
an entry. `graphc.cache` sees to it that what comes back is what was stored.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import os
import sys
from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np

from graphc import ir, program
from graphc.cache import say, user_cache
from graphc.config import LOADED_AT

_T = TypeVar("_T")
_FORMAT: Final = 1  # of an entry's content; another number makes all entries unknown


class Code(NamedTuple):
    """An object file, and what its caller must know of it: numbers, strings, None, tuples of them, by name."""

    object_bytes: bytes
    facts: dict[str, Any]


def cached(what: tuple[object, ...], label: str, make: Callable[[], Code], use: Callable[[Code], _T]) -> _T:
    """What `use` gives for the code of `what`: code that any process compiled before, else what `make` compiles now.

    what: all that the code follows from beside the versions, as values whose repr tells them apart. label: a name for
    people. Stored code on which `use` raises RuntimeError, LookupError, TypeError or ValueError is made again.
    """
    cache, sources = user_cache(), _sources()
    if cache is None:
        return use(make())
    if sources is None:
        say("not used: graphc's sources have changed since this process began, or cannot be listed")
        return use(make())
    key = hashlib.sha256(repr((_FORMAT, _versions(), sources, what)).encode()).digest()
    content = cache.fetch(key)
    if content is not None:
        try:
            return use(_unpacked(content))
        except (RuntimeError, LookupError, TypeError, ValueError, SyntaxError) as problem:
            say(f"{label}: what is stored cannot be used: {problem}")
            cache.remove(key)
    code = make()
    used = use(code)  # what cannot be used is not stored
    if _sources() == sources:  # else `make` may have imported what has just changed
        cache.store(key, _packed(code), label)
    return used


def _packed(code: Code) -> bytes:
    """One line that says the facts as Python does, then the object."""
    return repr(code.facts).encode() + b"\n" + code.object_bytes


def _unpacked(content: bytes) -> Code:
    facts, _, object_bytes = content.partition(b"\n")
    return Code(object_bytes, ast.literal_eval(facts.decode()))


@functools.cache
def _versions() -> tuple[object, ...]:
    import llvmlite.binding as llvm  # lazy: the import costs 28 ms
    from llvmlite import __version__ as llvmlite_version

    graphc_version = sys.modules["graphc"].__version__  # loaded, as we are; a backend does not import all of it
    return graphc_version, llvmlite_version, llvm.llvm_version_info, np.__version__, sys.version, sys.platform


def _sources() -> tuple[object, ...] | None:
    """The source files as they are now; None when they cannot be listed, or when one changed after this process began
    to import them: then nobody knows which of its states is running."""
    folders = [os.path.dirname(file) for file in (__file__, program.__file__, ir.__file__) if file]
    found: list[tuple[str, list[tuple[str, int, int]]]] = []
    newest = 0
    try:
        for folder in folders:
            files: list[tuple[str, int, int]] = []
            with os.scandir(folder) as listing:
                for item in listing:
                    if item.name.endswith((".py", ".pyc")):
                        status = item.stat()
                        files.append((item.name, status.st_size, status.st_mtime_ns))
                        newest = max(newest, status.st_mtime_ns)
            found.append((folder, sorted(files)))
    except OSError:
        return None
    return tuple(found) if newest < LOADED_AT * 1e9 else None

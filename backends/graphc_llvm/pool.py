"""The one thread pool of a process, which programs that the JIT has compiled share."""

from __future__ import annotations

import atexit
import ctypes
import os
import threading
from typing import Final

from graphc_llvm.cached import Code, cached
from graphc_llvm.emit import Module
from graphc_llvm.jit import Library, compile_object, load
from graphc_llvm.pool_code import RESET, SHUTDOWN, emit_alone, emit_pool, has_threads, needed_functions
from graphc_llvm.target import Target


def default_threads() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_loading = threading.Lock()
_pools: Final[dict[str, Library]] = {}  # by triple, so there is one; for ever, because workers run in it


def pool_library(target: Target) -> Library:
    """The process's one pool, which defines `graphc_parallel_for`; `target` must be of this machine.

    Loaded at the first call, from the disk cache if it is there. A forked child starts without workers, and gets its
    own when a section needs them; at exit the workers are joined. Where the process has no POSIX threads, sections run
    on their caller alone.
    """
    with _loading:
        if target.triple not in _pools:
            _pools[target.triple] = _loaded(target)
        return _pools[target.triple]


def _loaded(target: Target) -> Library:
    symbols = _posix_addresses(target) if has_threads(target) else {}

    def compiled() -> Code:
        module = Module(target)
        if symbols:
            emit_pool(module)
        else:
            emit_alone(module)
        return Code(compile_object(module.text(), target, passes=("sroa",)), {})

    what = ("pool", target, bool(symbols))
    library = cached(what, "thread pool", compiled, lambda code: load(code.object_bytes, symbols))
    if not symbols:
        return library
    reset, shutdown = (ctypes.CFUNCTYPE(None)(library.address(name)) for name in (RESET, SHUTDOWN))
    os.register_at_fork(after_in_child=reset)
    atexit.register(shutdown)
    return library


def _posix_addresses(target: Target) -> dict[str, int]:
    """The addresses of what the pool calls; none when the process lacks one of them."""
    process = ctypes.CDLL(None)
    try:
        functions = {name: getattr(process, name) for name in needed_functions(target)}
    except AttributeError:
        return {}
    return {name: ctypes.cast(function, ctypes.c_void_p).value or 0 for name, function in functions.items()}

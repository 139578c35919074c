"""A program that the JIT has compiled, callable with arrays."""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphc.backend import Options
from graphc.errors import BackendError
from graphc.ir.node import Opaque
from graphc.program import ALIGNMENT, ITEM_SIZES, Program
from graphc_llvm.jit import compile_assembly, compile_object, load
from graphc_llvm.lower import lower
from graphc_llvm.opaque import BAD_INDEX
from graphc_llvm.pool import default_threads, pool_library
from graphc_llvm.target import Target, host_target

KEPT_FROM = 4096  # bytes: what is smaller comes from the allocator's own store
KEPT_BYTES = 64 << 20  # of results that a function may hold back
UNSHARED = 3  # references to kept memory: the list's, the loop variable's, and getrefcount's own
_ENTRY = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)


def aligned_bytes(size: int) -> NDArray[np.uint8]:
    """`size` bytes whose address is a multiple of the alignment."""
    raw = np.empty(size + ALIGNMENT, dtype=np.uint8)
    skip = -raw.ctypes.data % ALIGNMENT
    return raw[skip : skip + size]


class ResultMemory:
    """Memory for results: that of earlier results which nobody holds any more, as far as there is.

    The system hands out fresh memory page by page, at the first touch of each: that takes longer than many a kernel.
    At most KEPT_BYTES are kept. A page or more starts at a cache line, so that vectors stored to it do not straddle
    two.
    """

    def __init__(self) -> None:
        self._kept: dict[int, list[NDArray[np.uint8]]] = {}
        self._bytes = 0
        self._lock = threading.Lock()

    def empty(self, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """An array of unspecified content, which no other array shares memory with."""
        size = ITEM_SIZES[dtype] * prod(shape)
        if size < KEPT_FROM:
            return np.empty(shape, dtype=dtype)
        with self._lock:
            return self._memory(size).view(dtype).reshape(shape)

    def _memory(self, size: int) -> NDArray[np.uint8]:
        kept = self._kept.setdefault(size, [])
        for raw in kept:
            if sys.getrefcount(raw) == UNSHARED:
                break
        else:
            raw = np.empty(size + ALIGNMENT, dtype=np.uint8)
            if self._bytes + size <= KEPT_BYTES:
                kept.append(raw)
                self._bytes += size
        skip = -raw.ctypes.data % ALIGNMENT
        return raw[skip : skip + size]  # NumPy makes `raw` the base of this and of every view of it


def runnable_target(cpu: str) -> Target:
    """The target for a processor's name; `BackendError` when it is unknown, or is more than this machine can run."""
    host = host_target()
    try:
        target = host_target(cpu)
    except ValueError as error:
        raise BackendError(f"cpu: {error}") from None
    lacks = [
        what
        for what, missing in (
            (target.triple.split("-")[0], target.triple.split("-")[0] != host.triple.split("-")[0]),
            (f"{target.vector_bits}-bit vectors", target.vector_bits > host.vector_bits),
            ("FMA", target.has_fma and not host.has_fma),
            ("AVX-512", target.has_avx512 and not host.has_avx512),
        )
        if missing
    ]
    if lacks:
        raise BackendError(f"cpu: this machine cannot run code for {cpu}: it has no {', no '.join(lacks)}")
    return target


class LlvmExecutable:
    """See `graphc.backend.Executable`. Reentrant: each call that runs at the same time has an arena of its own."""

    def __init__(self, program: Program, options: Options) -> None:
        self.program, self.options = program, options
        self.target = runnable_target(options.cpu)
        threads = options.threads or default_threads()
        module, self.layout = lower(program, self.target, threads=threads, winograd=options.winograd)
        self.text = module.text()
        pool = [pool_library(self.target)] if threads > 1 else []
        self._library = load(compile_object(self.text, self.target), libraries=pool)
        self._entry = _ENTRY(self._library.address("entry"))
        self._constants = [np.ascontiguousarray(program.by_name[name].value) for name in self.layout.constants]
        self._results = ResultMemory()
        self._arenas: list[NDArray[np.uint8]] = []
        self._lock = threading.Lock()
        count = len(self.layout.inputs) + len(self.layout.outputs) + len(self._constants)
        self._table = ctypes.c_void_p * max(count, 1)

    def run(self, arrays: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Call the entry; an index outside its axis raises IndexError, and then nothing was updated."""
        own: dict[str, NDArray[Any]] = {}
        for name in self.layout.outputs:
            buffer = self.program.by_name[name]
            own[name] = self._results.empty(buffer.shape, buffer.dtype)
        addresses = [array.ctypes.data for array in (*arrays, *own.values(), *self._constants)]
        table = self._table(*addresses)
        with self._lock:
            arena = self._arenas.pop() if self._arenas else None
        if arena is None:
            arena = aligned_bytes(self.layout.arena_bytes)
        try:
            status = self._entry(ctypes.addressof(table), arena.ctypes.data)
            if status == BAD_INDEX:
                index, extent = (int(n) for n in arena[8:24].view(np.int64))
                raise IndexError(f"{self._index_op()}: index {index} is outside an axis of {extent}")
        finally:
            with self._lock:
                self._arenas.append(arena)
        results: list[NDArray[Any]] = []
        for name in self.program.outputs:
            results.append(own[self.program.root(name).name].reshape(self.program.by_name[name].shape))
        return results

    def _index_op(self) -> str:
        ops = {stage.node.op for stage in self.program.stages() if isinstance(stage.node, Opaque)}
        return "take" if ops & {"take", "scatter_add"} else "index"

    def source(self, kind: str) -> str:
        """ "llvm": the textual IR; "asm": the machine code for the target, as assembly."""
        if kind == "llvm":
            return self.text
        if kind == "asm":
            return compile_assembly(self.text, self.target)
        raise BackendError(f"the llvm backend has the sources llvm and asm, not {kind!r}")

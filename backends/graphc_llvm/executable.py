"""A program that the JIT has compiled, callable with arrays."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from graphc.backend import Options
from graphc.errors import BackendError
from graphc.ir.node import Opaque
from graphc.phased import PhasedProgram
from graphc.program import Program
from graphc_llvm.cached import Code, cached
from graphc_llvm.fastcall_entry import Entry
from graphc_llvm.fastcall_layout import data_address
from graphc_llvm.jit import Compilation, Library, compile_assembly, load
from graphc_llvm.layout import Layout
from graphc_llvm.memory import ResultMemory, aligned_bytes
from graphc_llvm.parallel import PARALLEL_FOR
from graphc_llvm.pool import default_threads, pool_library
from graphc_llvm.program_text import program_text
from graphc_llvm.target import Target, host_target

if TYPE_CHECKING:
    from graphc_llvm.emit import Module

_ENTRY = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)


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


class Native:
    """The code of a program, loaded: what all executables of a phased program share."""

    def __init__(self, program: Program | PhasedProgram, options: Options) -> None:
        self.program, self.options = program, options
        self.target = runnable_target(options.cpu)
        self._threads = options.threads or default_threads()

        def loaded(code: Code) -> tuple[Layout, Library, Any]:
            pool = [pool_library(self.target)] if PARALLEL_FOR.encode() in code.object_bytes else []
            library = load(code.object_bytes, libraries=pool)
            return Layout(**code.facts), library, _ENTRY(library.address("entry"))

        what = ("program", program_text(program), self.target, self._threads, options.winograd)
        self.layout, self.image, self.entry = cached(what, program.name, self._compiled, loaded)
        self.results = ResultMemory()

    def _lowered(self, after_kernel: Callable[[Module], None] | None = None) -> tuple[Module, Layout]:
        """The module, which is the same each time, and how its code is called."""
        from graphc_llvm.lower import lower  # lazy: the import costs 30 ms, and code from the disk cache needs none

        return lower(
            self.program, self.target, threads=self._threads, winograd=self.options.winograd, after_kernel=after_kernel
        )

    def _compiled(self) -> Code:
        from graphc_llvm.parts import Parts  # lazy, too

        compilation = Compilation(self.target)
        parts: list[Parts] = []

        def compile_what_is_ready(module: Module) -> None:
            if not parts:
                parts.append(Parts(module))
            if (text := parts[0].ready()) is not None:
                compilation.add(text)

        module, layout = self._lowered(compile_what_is_ready)
        last = (parts or [Parts(module)])[0].rest()
        return Code(compilation.finish(last), asdict(layout))

    def source(self, kind: str) -> str:
        """See `LlvmExecutable.source`."""
        if kind == "llvm":
            return self._lowered()[0].text()
        if kind == "asm":
            return compile_assembly(self._lowered()[0].text(), self.target)
        raise BackendError(f"the llvm backend has the sources llvm and asm, not {kind!r}")


class LlvmExecutable:
    """See `graphc.backend.Executable`. Reentrant: each call that runs at the same time has an arena of its own.

    native: the code of a phased program, which `program` is for known sizes."""

    def __init__(self, program: Program | PhasedProgram, options: Options, native: Native | None = None) -> None:
        self.program = program
        self._native = native or Native(program, options)
        self.layout = layout = self._native.layout
        if isinstance(program, PhasedProgram) and layout.growing:
            self.layout = replace(layout, arena_bytes=layout.arena_for(program.sizes), growing=())
        self._constants = [np.ascontiguousarray(program.by_name[name].value) for name in layout.constants]
        self._arenas: list[NDArray[np.uint8]] = []
        self._fast_entry: Entry | None = None
        self._constant_addresses = [constant.ctypes.data for constant in self._constants]
        self._table = ctypes.c_void_p * (len(layout.inputs) + len(layout.outputs) + len(self._constants))

    @property
    def target(self) -> Target:
        """What the code is for."""
        return self._native.target

    def run(self, arrays: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Call the entry; an index outside its axis raises IndexError, and then nothing was updated."""
        own: dict[str, NDArray[Any]] = {}
        for name in self.layout.outputs:
            buffer = self.program.by_name[name]
            own[name] = self._native.results.empty(buffer.shape, buffer.dtype)
        table = self._table(*map(data_address, (*arrays, *own.values())), *self._constant_addresses)
        try:
            arena = self._arenas.pop()
        except IndexError:
            arena = aligned_bytes(self.layout.arena_bytes)
        try:
            status = self._native.entry(ctypes.addressof(table), data_address(arena))
            if status:  # BAD_INDEX of `graphc_llvm.opaque`, which is not imported for it; there is no other
                index, extent = (int(n) for n in arena[8:24].view(np.int64))
                raise IndexError(f"{self._index_op()}: index {index} is outside an axis of {extent}")
        finally:
            self._arenas.append(arena)
        results: list[NDArray[Any]] = []
        for name in self.program.outputs:
            results.append(own[self.program.root(name).name].reshape(self.program.by_name[name].shape))
        return results

    def fast_entry(self, variables: Sequence[NDArray[Any]], single: bool) -> Entry:
        """The program for `graphc_llvm.fastcall`, the same at each call."""
        if self._fast_entry is None:
            image = self._native.image
            self._fast_entry = Entry(
                self.program, self.layout, image.address("entry"), image, self._constants, variables, single
            )
        return self._fast_entry

    def _index_op(self) -> str:
        ops = {stage.node.op for stage in self.program.all_stages() if isinstance(stage.node, Opaque)}
        return "take" if ops & {"take", "scatter_add"} else "index"

    def source(self, kind: str) -> str:
        """ "llvm": the textual IR; "asm": the machine code for the target, as assembly."""
        return self._native.source(kind)

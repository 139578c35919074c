"""Program to LLVM IR: one internal function a kernel, and an entry that calls them in order.

The entry is  i64 NAME(ptr buffers, ptr arena): `buffers` points to the addresses of the program's inputs, then its
outputs, then its constants (see `Layout`). The arena, 64-byte aligned, holds the status record, the temporaries and
the workspace that kernels share. It returns 0, or the status of the first kernel that failed, before any update.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace

from graphc.ir.node import Generic
from graphc.phased import PhasedProgram
from graphc.program import ALIGNMENT, Kernel, Program
from graphc_llvm.emit import I32, I64, PTR, Builder, Module, Type, Value
from graphc_llvm.kernel_code import KernelCode
from graphc_llvm.layout import Layout
from graphc_llvm.target import Target

STATUS_BYTES = ALIGNMENT
"""The status record stands first in the arena: status, index, extent (i64 each)."""

SHORT_ENTRY = 64
"""Lines of IR in the entry of some kernels: next to so few the way to them counts, and the table of pointers."""

CALLS = 256
"""Calls of kernels in one function: LLVM takes longer than in proportion for many."""

MAY_FAIL = frozenset({"opaque", "scan"})
"""Kinds of kernels that get the arena instead of the workspace, and may leave a status in it."""

TIME_BYTES = 16
"""A `struct timespec` of 64-bit systems: seconds, nanoseconds (i64 each)."""


def lower(
    program: Program | PhasedProgram,
    target: Target,
    entry: str = "entry",
    linkage: str = "",
    threads: int = 1,
    winograd: bool = True,
    timed: bool = False,
    after_kernel: Callable[[Module], None] | None = None,
) -> tuple[Module, Layout]:
    """The module of a program, and how to call it. With `threads` above 1 the module needs the thread pool; with
    `timed` the C library's clock_gettime. `after_kernel` is called when the functions of one more kernel are made."""
    if isinstance(program, PhasedProgram):
        from graphc_llvm.phases import lower_phases  # which calls for the lowering of its parts

        assert not timed, "only the kernels of one program are timed"
        return lower_phases(program, target, entry, linkage, threads, winograd, after_kernel)
    module = Module(target, threads)
    return module, Lowering(program, target, entry, winograd, module, timed).layout(after_kernel, linkage)


class Lowering:
    """One program as functions of a module, which may hold others."""

    def __init__(
        self, program: Program, target: Target, entry: str, winograd: bool, module: Module, timed: bool = False
    ) -> None:
        self.target, self.entry, self.winograd, self.timed = target, entry, winograd, timed
        self.program, self.kernels = split_epilogues(program)
        self.module = module
        self._known: dict[Hashable, tuple[KernelCode, tuple[str, ...]]] = {}
        outputs = dict.fromkeys(self.program.root(name).name for name in self.program.outputs)
        constants = [
            buffer.name for buffer in self.program.buffers if buffer.kind == "constant" and buffer.alias is None
        ]
        self.outputs, self.constants = tuple(outputs), tuple(constants)
        self._places: dict[str, int] = {}  # in the table
        for position, place in enumerate((*self.program.inputs, *self.outputs, *self.constants)):
            self._places.setdefault(place, position)
        for source, variable in self.program.updates:
            if self.program.root(source).kind == "update":
                self._places[self.program.root(source).name] = self._places[variable]

    def layout(self, after_kernel: Callable[[Module], None] | None, linkage: str) -> Layout:
        """Make all functions, and say how the entry is called."""
        codes: list[KernelCode] = []
        for number, kernel in enumerate(self.kernels):
            codes.append(self._shared(kernel, f"{self.entry}_k{number}"))
            if after_kernel is not None:
                after_kernel(self.module)
        threads = self.module.threads
        workspace = max((code.workspace_bytes + threads * code.thread_bytes for code in codes), default=0)
        arena = STATUS_BYTES + self.program.arena_bytes + workspace
        times_at = None
        if self.timed:
            times_at = arena
            arena += TIME_BYTES * (len(codes) + 2)
        self._entry(codes, times_at, linkage)
        return Layout(self.program.inputs, self.outputs, self.constants, arena, times_at)

    def _shared(self, kernel: Kernel, name: str) -> KernelCode:
        """The code of a kernel: that of an earlier one that differs only in its buffers' names, or its own."""
        key, roots = same_code_key(self.program, kernel)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._kernel(kernel, name), roots
        code, its_roots = known
        renamed = dict(zip(its_roots, roots, strict=True))
        return replace(code, buffers=tuple(renamed[buffer] for buffer in code.buffers))

    def _kernel(self, kernel: Kernel, name: str) -> KernelCode:
        # Imported as they are needed: all of them take 50 ms, more than it takes to compile a small program.
        if kernel.kind == "opaque":
            from graphc_llvm.opaque import emit_opaque

            return emit_opaque(self.module, self.program, kernel, name)
        if kernel.loop is not None:
            from graphc_llvm.scan import Step, emit_scan

            step = Lowering(kernel.loop.program, self.target, f"{name}_step", self.winograd, self.module)
            lowered = Step(step.entry, step.layout(None, "internal"))
            workspace_at = STATUS_BYTES + self.program.arena_bytes
            return emit_scan(self.module, self.target, self.program, kernel, name, lowered, workspace_at)
        if kernel.kind == "contraction":
            from graphc_llvm.contraction import emit_contraction
            from graphc_llvm.stencil import emit_stencil
            from graphc_llvm.winograd import emit_winograd

            direct = (emit_stencil, emit_contraction)
            for emit in (emit_winograd, *direct) if self.winograd else direct:
                code = emit(self.module, self.target, self.program, kernel, name)
                if code is not None:
                    return code
        from graphc_llvm.loops import emit_loops

        return emit_loops(self.module, self.target, self.program, kernel, name)

    def _entry(self, codes: Sequence[KernelCode], times_at: int | None, linkage: str) -> None:
        params = [("buffers", PTR), ("arena", PTR)]
        calls: list[str] = []
        for start in range(0, len(codes), CALLS) if len(codes) > CALLS else ():
            calls.append(f"{self.entry}_calls{start}")
            part = self.module.function(calls[-1], params, I64, linkage="internal", attributes="noinline")
            self._calls(part, codes, range(start, min(start + CALLS, len(codes))), times_at)
            part.ret(part.const(I64, 0))
        b = self.module.function(self.entry, params, I64, linkage=linkage)
        if any(kernel.kind in MAY_FAIL for kernel in self.kernels):
            b.store(b.const(I64, 0), b.params[1])
        self._time(b, times_at, 0)
        for name in calls:
            self._return_unless_zero(b, b.call(name, I64, b.params))
        if not calls:
            self._calls(b, codes, range(len(codes)), times_at)
        for source, target in self.program.updates:
            if self.program.root(source).kind != "update":
                places = self._pointer(b, self.program.root(source).name), self._pointer(b, target)
                copy_bytes(b, self.target, self.program.by_name[target].nbytes, *places)
        self._time(b, times_at, len(codes) + 1)
        b.ret(b.const(I64, 0))

    def _calls(self, b: Builder, codes: Sequence[KernelCode], numbers: range, times_at: int | None) -> None:
        """Call these kernels in order; return the status of one that failed."""
        arena = b.params[1]
        for number in numbers:
            may_fail = self.kernels[number].kind in MAY_FAIL
            last = arena if may_fail else b.gep(arena, STATUS_BYTES + self.program.arena_bytes, "i8")
            b.call(codes[number].name, None, [*(self._pointer(b, name) for name in codes[number].buffers), last])
            if may_fail:
                self._return_unless_zero(b, b.load(arena, I64))
            self._time(b, times_at, number + 1)

    def _return_unless_zero(self, b: Builder, status: Value) -> None:
        with b.if_(b.icmp("ne", status, 0)):
            b.ret(status)
            b.start_block(b.new_label("unreachable"))

    def _pointer(self, b: Builder, name: str) -> Value:
        """The address of a buffer, made where it is used: thousands that live through a long program would not fit into
        registers."""
        table, arena = b.params
        offset = self.program.by_name[name].offset
        if offset is not None:
            return b.gep(arena, STATUS_BYTES + offset, "i8")
        return b.load(b.gep(table, self._places[name], "ptr"), PTR, align=4)

    def _time(self, b: Builder, times_at: int | None, number: int) -> None:
        """Note the time, if the program is timed."""
        if times_at is not None:
            self.module.declare("clock_gettime", "i32", ["i32", "ptr"])
            place = b.gep(b.params[1], times_at + TIME_BYTES * number, "i8")
            b.call("clock_gettime", I32, [b.const(I32, time.CLOCK_MONOTONIC), place])


def copy_bytes(b: Builder, target: Target, total: int, source: Value, destination: Value) -> None:
    """Whole vectors, then the bytes that are left."""
    width = target.lanes("f32") * 4
    whole = total - total % width
    with b.loop(0, whole, width, name="copy") as loop:
        value = b.load(b.gep(source, loop.index, "i8"), Type("i32", width // 4))
        b.store(value, b.gep(destination, loop.index, "i8"))
    with b.loop(whole, total, name="rest") as loop:
        b.store(b.load(b.gep(source, loop.index, "i8"), Type("i8")), b.gep(destination, loop.index, "i8"))


def same_code_key(program: Program, kernel: Kernel) -> tuple[Hashable, tuple[str, ...]]:
    """What decides a kernel's code, and the memory that it touches: kernels with equal keys have the same code, on the
    memory at the same places of the second value."""
    places: dict[str, int] = {}
    parts: list[Hashable] = [kernel.kind, kernel.outer, kernel.loop]
    for stage in kernel.stages:
        node = stage.node
        if isinstance(node, Generic):
            parts.append((node.domain, node.shape, node.out_map, node.maps, node.modes, node.body, node.reducer))
        else:
            parts.append((node.op, node.attributes, node.shape, node.dtype))
        parts.append(stage.initialise)
        for name in (*stage.reads, stage.write):
            buffer, root = program.by_name[name], program.root(name)
            place = places.setdefault(root.name, len(places))
            parts.append((place, buffer.shape, buffer.dtype, root.kind == "scratch", root.shape))
    return tuple(parts), tuple(places)


def split_epilogues(program: Program) -> tuple[Program, tuple[Kernel, ...]]:
    """The program with contractions split from epilogues that cannot run on their tile: the scratch buffer between
    the two becomes a temporary behind the others in the arena."""
    kernels: list[Kernel] = []
    buffers = {buffer.name: buffer for buffer in program.buffers}
    arena = program.arena_bytes
    for kernel in program.kernels:
        if kernel.kind != "contraction" or len(kernel.stages) == 1 or _can_fuse_epilogue(program, kernel):
            kernels.append(kernel)
            continue
        first = kernel.stages[0].write
        if buffers[first].kind == "scratch":
            buffers[first] = replace(buffers[first], kind="temporary", offset=arena)
            arena += -(-max(buffers[first].nbytes, 1) // ALIGNMENT) * ALIGNMENT
        kernels.append(Kernel(f"{kernel.name}_sum", "contraction", kernel.outer, kernel.stages[:1]))
        kernels.append(Kernel(kernel.name, "loops", kernel.outer, kernel.stages[1:]))
    changed = replace(program, buffers=tuple(buffers.values()), kernels=tuple(kernels), arena_bytes=arena)
    return changed, tuple(kernels)


def _can_fuse_epilogue(program: Program, kernel: Kernel) -> bool:
    from graphc_llvm.contraction import can_fuse_epilogue  # see `_kernel`

    return can_fuse_epilogue(program, kernel)

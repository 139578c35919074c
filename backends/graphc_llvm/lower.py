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
from graphc.program import ALIGNMENT, ITEM_SIZES, Buffer, Kernel, Program
from graphc_llvm.contraction import can_fuse_epilogue, emit_contraction
from graphc_llvm.emit import I32, I64, PTR, Builder, Module, Type, Value
from graphc_llvm.kernel_code import KernelCode
from graphc_llvm.layout import Layout
from graphc_llvm.loops import emit_loops
from graphc_llvm.opaque import emit_opaque
from graphc_llvm.stencil import emit_stencil
from graphc_llvm.target import Target
from graphc_llvm.winograd import emit_winograd

STATUS_BYTES = ALIGNMENT
"""The status record stands first in the arena: status, index, extent (i64 each)."""

TIME_BYTES = 16
"""A `struct timespec` of 64-bit systems: seconds, nanoseconds (i64 each)."""


def lower(
    program: Program,
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
    return _Lowering(program, target, entry, linkage, threads, winograd, timed).module_and_layout(after_kernel)


class _Lowering:
    def __init__(
        self, program: Program, target: Target, entry: str, linkage: str, threads: int, winograd: bool, timed: bool
    ) -> None:
        self.target, self.entry, self.linkage, self.winograd, self.timed = target, entry, linkage, winograd, timed
        self.program, self.kernels = split_epilogues(program)
        self.module = Module(target, threads)
        self._known: dict[Hashable, tuple[KernelCode, tuple[str, ...]]] = {}
        outputs = dict.fromkeys(self.program.root(name).name for name in self.program.outputs)
        constants = [
            buffer.name for buffer in self.program.buffers if buffer.kind == "constant" and buffer.alias is None
        ]
        self.outputs, self.constants = tuple(outputs), tuple(constants)

    def module_and_layout(self, after_kernel: Callable[[Module], None] | None) -> tuple[Module, Layout]:
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
        self._entry(codes, times_at)
        return self.module, Layout(self.program.inputs, self.outputs, self.constants, arena, times_at)

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
        if kernel.kind == "opaque":
            return emit_opaque(self.module, self.program, kernel, name)
        if kernel.kind == "contraction":
            direct = (emit_stencil, emit_contraction)
            for emit in (emit_winograd, *direct) if self.winograd else direct:
                code = emit(self.module, self.target, self.program, kernel, name)
                if code is not None:
                    return code
        return emit_loops(self.module, self.target, self.program, kernel, name)

    def _entry(self, codes: Sequence[KernelCode], times_at: int | None) -> None:
        b = self.module.function(self.entry, [("buffers", PTR), ("arena", PTR)], I64, linkage=self.linkage)
        table, arena = b.params
        pointers: dict[str, Value] = {}
        for position, name in enumerate((*self.program.inputs, *self.outputs, *self.constants)):
            pointers.setdefault(name, b.load(b.gep(table, position, "ptr"), PTR, align=4))
        for buffer in self.program.buffers:
            if buffer.offset is not None:
                pointers[buffer.name] = b.gep(arena, STATUS_BYTES + buffer.offset, "i8")
        copied: list[tuple[str, str]] = []
        for source, target in self.program.updates:
            if self.program.root(source).kind == "update":
                pointers[self.program.root(source).name] = pointers[target]
            else:
                copied.append((source, target))
        workspace = b.gep(arena, STATUS_BYTES + self.program.arena_bytes, "i8")
        checks = any(kernel.kind == "opaque" for kernel in self.kernels)
        if checks:
            b.store(b.const(I64, 0), arena)
        self._time(b, times_at, 0)
        for number, (kernel, code) in enumerate(zip(self.kernels, codes, strict=True), 1):
            last = arena if kernel.kind == "opaque" else workspace
            b.call(code.name, None, [*(pointers[name] for name in code.buffers), last])
            if kernel.kind == "opaque":
                status = b.load(arena, I64)
                with b.if_(b.icmp("ne", status, 0)):
                    b.ret(status)
                    b.start_block(b.new_label("unreachable"))
            self._time(b, times_at, number)
        for source, target in copied:
            self._copy(b, self.program.by_name[target], pointers[self.program.root(source).name], pointers[target])
        self._time(b, times_at, len(codes) + 1)
        b.ret(b.const(I64, 0))

    def _time(self, b: Builder, times_at: int | None, number: int) -> None:
        """Note the time, if the program is timed."""
        if times_at is not None:
            self.module.declare("clock_gettime", "i32", ["i32", "ptr"])
            place = b.gep(b.params[1], times_at + TIME_BYTES * number, "i8")
            b.call("clock_gettime", I32, [b.const(I32, time.CLOCK_MONOTONIC), place])

    def _copy(self, b: Builder, buffer: Buffer, source: Value, target: Value) -> None:
        """Whole vectors, then the bytes that are left."""
        width = self.target.lanes("f32") * 4
        total = buffer.size * ITEM_SIZES[buffer.dtype]
        whole = total - total % width
        with b.loop(0, whole, width, name="copy") as loop:
            value = b.load(b.gep(source, loop.index, "i8"), Type("i32", width // 4))
            b.store(value, b.gep(target, loop.index, "i8"))
        with b.loop(whole, total, name="rest") as loop:
            b.store(b.load(b.gep(source, loop.index, "i8"), Type("i8")), b.gep(target, loop.index, "i8"))


def same_code_key(program: Program, kernel: Kernel) -> tuple[Hashable, tuple[str, ...]]:
    """What decides a kernel's code, and the memory that it touches: kernels with equal keys have the same code, on the
    memory at the same places of the second value."""
    places: dict[str, int] = {}
    parts: list[Hashable] = [kernel.kind, kernel.outer]
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
        if kernel.kind != "contraction" or len(kernel.stages) == 1 or can_fuse_epilogue(program, kernel):
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

"""The loops around the tiles of a contraction, with the copies and packing that they need, as LLVM IR.

    for outer axes (batch, images):
        for k outer axes, for blocks of k:
            for blocks of V tiles, for tiles of S, for V tiles of the block:
                tile(...)

Each preparation (zero-bordered copy, packing of V) stands at the outermost loop where all that it reads is known.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod

from graphc_llvm.contraction import Axis, Copy, Schedule, plan_contraction, tile_accesses
from graphc_llvm.emit import I1, I64, PTR, Builder, Module, Type, Value
from graphc_llvm.emit_types import BYTES
from graphc_llvm.kernel_code import KernelCode
from graphc_llvm.microkernel import TileEmitter, TileSize, table_entry
from graphc_llvm.target import Target

from graphc.ir.extent import ints
from graphc.ir.node import Generic
from graphc.program import ALIGNMENT, Kernel, Program


def emit_contraction(
    module: Module, target: Target, program: Program, kernel: Kernel, name: str
) -> KernelCode | None:
    """Emit the function of a contraction with its epilogue; None (and nothing emitted) when general loops should
    compute the kernel: `contraction.supports` and `contraction_cost.choose_tiling` tell when."""
    node = kernel.stages[0].node
    if not isinstance(node, Generic):
        return None
    schedule = plan_contraction(program, kernel, target)
    if schedule is None:
        return None
    return _Nest(module, program, kernel, schedule, name).emit(0 in (ints(node.shape)))


class _Place:
    """Offsets of every access at the current loop indices, in elements; None is 0."""

    def __init__(self, b: Builder, count: int) -> None:
        self.b = b
        self.offsets: list[Value | None] = [None] * count

    @contextmanager
    def at(self, strides: Sequence[int], index: Value, scale: int = 1, start: int = 0) -> Iterator[None]:
        """Inside the block, the axis with these strides is at start + scale * index."""
        saved = list(self.offsets)
        for number, stride in enumerate(strides):
            if stride:
                term = self.b.mul(index, stride * scale)
                term = self.b.add(term, start * stride) if start else term
                old = self.offsets[number]
                self.offsets[number] = term if old is None else self.b.add(old, term)
        yield
        self.offsets = saved


class _Nest:
    def __init__(self, module: Module, program: Program, kernel: Kernel, schedule: Schedule, name: str) -> None:
        self.program, self.kernel, self.schedule, self.name = program, kernel, schedule, name
        accesses = tile_accesses(program, kernel)
        self.numbers = {key: number for number, key in enumerate(accesses)}
        names = dict.fromkeys(a.buffer for a in (*schedule.operands, *schedule.tile))
        self.buffers = tuple(names)
        params = [(f"b{number}", PTR) for number in range(len(self.buffers))]
        self.b = module.function(name, [*params, ("workspace", PTR)], linkage="internal")
        self.roots = dict(zip(self.buffers, self.b.params, strict=False))
        self.tiles = TileEmitter(module, program, kernel, schedule, name, self.numbers)
        self.place = _Place(self.b, 2 + len(schedule.tile))
        self.item = BYTES[schedule.kind]
        self.bytes = 0
        self.copies = [self._reserve(copy.size) if copy else None for copy in schedule.copies]
        t = schedule.tiling
        self.panels = self._reserve(schedule.v_tiles * schedule.k_depth * t.width) if t.packed else None
        rows = max((size for size, _ in t.splits), default=1) * prod(axis.extent for axis in schedule.s_box)
        self.tile_size = rows * t.width
        whole = schedule.v_tiles * schedule.s_tiles * self.tile_size
        self.partial = self._reserve(whole) if schedule.passes > 1 else self.b.params[-1]

    def _reserve(self, elements: int) -> Value:
        start = self.bytes
        self.bytes += -(-elements * self.item // ALIGNMENT) * ALIGNMENT
        return self.b.gep(self.b.params[-1], start, "i8")

    def emit(self, is_empty: bool) -> KernelCode:
        if not is_empty:
            self._clear_borders()
            self._descend(0)
        self.b.ret()
        return KernelCode(self.name, self.buffers, self.bytes)

    # ---- loops ---------------------------------------------------------------------------------------------

    def _descend(self, depth: int) -> None:
        """The outer loops from `depth` on, each with what is prepared before it."""
        loops = [*self.schedule.outer, *self.schedule.k_outer]
        self._prepare(depth)
        if depth == len(loops):
            self._k_blocks()
            return
        axis = loops[depth]
        with self.b.loop(0, axis.extent, 1, axis.name[:1]) as loop, self.place.at(axis.strides, loop.index):
            if depth >= len(self.schedule.outer):
                self.k_indices = [*getattr(self, "k_indices", []), (loop.index, axis.extent)]
            self._descend(depth + 1)
            if depth >= len(self.schedule.outer):
                self.k_indices = self.k_indices[:-1]

    def _prepare(self, depth: int) -> None:
        """Copies and packing that first become possible inside `depth` outer loops."""
        for j, copy in enumerate(self.schedule.copies):
            if copy is not None and self._copy_depth(j) == depth:
                self._copy(j, copy)
        if self.schedule.tiling.packed and self.schedule.k_blocks == 1 and self._pack_depth() == depth:
            self._pack(self.schedule.k_depth)

    def _copy_depth(self, j: int) -> int:
        """The number of outer loops that bind the peeled axes of a copy."""
        return 0

    def _pack_depth(self) -> int:
        return 0

    def _k_blocks(self) -> None:
        schedule = self.schedule
        if schedule.k_blocks == 1:
            self._blocks(self.b.const(I64, schedule.k_depth), getattr(self, "k_indices", []))
            return
        b, first = self.b, schedule.k[0]
        with b.loop(0, schedule.k_blocks, 1, "block") as loop:
            with self.place.at(first.strides, loop.index, schedule.k_chunk):
                rest = b.sub(first.extent, b.mul(loop.index, schedule.k_chunk))
                taken = b.select(b.icmp("slt", rest, schedule.k_chunk), rest, schedule.k_chunk)
                count = b.mul(taken, schedule.k_inner)
                if schedule.tiling.packed:
                    self._pack(count)
                self._blocks(count, [*getattr(self, "k_indices", []), (loop.index, schedule.k_blocks)])

"""The loops around the tiles of a contraction, with the copies and packing that they need, as LLVM IR.

    for outer axes (batch, images):
        for k outer axes, for blocks of k:
            for blocks of V tiles, for tiles of S, for V tiles of the block:
                tile(...)

Each preparation (zero-bordered copy, packing of V) stands at the outermost loop where all that it reads is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import prod

from graphc.ir.node import Generic
from graphc.program import ALIGNMENT, Kernel, Program
from graphc_llvm.bodies import memory_kind
from graphc_llvm.contraction_cost import ceil_div
from graphc_llvm.contraction_pack import copy_bordered, pack_panel
from graphc_llvm.contraction_plan import (
    Access,
    Axis,
    Schedule,
    can_fuse_epilogue,
    plan_contraction,
    supports,
    tile_accesses,
)
from graphc_llvm.emit import I1, I64, PTR, Builder, Module, Type, Value
from graphc_llvm.emit_types import BYTES
from graphc_llvm.kernel_code import KernelCode
from graphc_llvm.microkernel import TileEmitter, TileSize
from graphc_llvm.target import Target

__all__ = ["can_fuse_epilogue", "emit_contraction"]


def emit_contraction(
    module: Module, target: Target, program: Program, kernel: Kernel, name: str
) -> KernelCode | None:
    """Emit the function of a contraction with its epilogue; None (and nothing emitted) when general loops should
    compute the kernel: `contraction_plan.supports` and `contraction_cost.choose_tiling` tell when."""
    node = kernel.stages[0].node
    if not isinstance(node, Generic):
        return None
    out_axes = node.out_map.axes
    if supports(program, kernel) is not None and any(node.domain[axis] == 0 for axis in out_axes):
        module.function(name, [("workspace", PTR)], linkage="internal").ret()
        return KernelCode(name, (), 0)
    schedule = plan_contraction(program, kernel, target)
    return None if schedule is None else _Nest(module, program, kernel, schedule, name).emit()


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
    """The function of one kernel under construction."""

    def __init__(self, module: Module, program: Program, kernel: Kernel, schedule: Schedule, name: str) -> None:
        self.schedule, self.name = schedule, name
        accesses = tile_accesses(program, kernel)
        numbers = {key: number for number, key in enumerate(accesses)}
        self.buffers = tuple(dict.fromkeys(a.buffer for a in (*schedule.operands, *schedule.tile)))
        params = [(f"b{number}", PTR) for number in range(len(self.buffers))]
        self.b = module.function(name, [*params, ("workspace", PTR)], linkage="internal")
        self.roots = dict(zip(self.buffers, self.b.params, strict=False))
        self.tiles = TileEmitter(module, program, kernel, schedule, name, numbers)
        self.place = _Place(self.b, 4 + len(schedule.tile))
        self.k_indices: list[tuple[Value, int]] = []
        self.bytes = 0
        self.vector = Type(schedule.kind, schedule.tiling.lanes)
        self.copies = [self._reserve(copy.size) if copy else None for copy in schedule.copies]
        t = schedule.tiling
        panel = schedule.k_depth * t.width
        self.v_panels = self._reserve(schedule.v_tiles * panel) if t.packed else None
        rows = max((size for size, _ in t.splits), default=1) * prod(axis.extent for axis in schedule.s_box)
        self.tile_size = rows * t.width
        self.s_width = ceil_div(rows, t.lanes) * t.lanes
        panel = schedule.k_depth * self.s_width
        self.s_panels = self._reserve(schedule.s_tiles * panel) if schedule.s_packed else None
        blocked = schedule.passes > 1
        self.partial = (
            self._reserve(schedule.v_tiles * schedule.s_tiles * self.tile_size) if blocked else self.b.params[-1]
        )

    def _reserve(self, elements: int) -> Value:
        start = self.bytes
        self.bytes += ceil_div(elements * BYTES[self.schedule.kind], ALIGNMENT) * ALIGNMENT
        return self.b.gep(self.b.params[-1], start, "i8")

    def emit(self) -> KernelCode:
        """The whole function."""
        self._descend(0)
        self.b.ret()
        return KernelCode(self.name, self.buffers, self.bytes)

    # ---- loops ---------------------------------------------------------------------------------------------

    def _descend(self, depth: int) -> None:
        """The outer loops from `depth` on, each with what is prepared before it."""
        loops = (*self.schedule.outer, *self.schedule.k_outer)
        self._prepare(depth)
        if depth == len(loops):
            self._k_blocks()
            return
        axis = loops[depth]
        with self.b.loop(0, axis.extent, 1, axis.name) as loop, self.place.at(axis.strides, loop.index):
            if depth >= len(self.schedule.outer):
                self.k_indices.append((loop.index, axis.extent))
            self._descend(depth + 1)
            if depth >= len(self.schedule.outer):
                self.k_indices.pop()

    def _prepare(self, depth: int) -> None:
        """Copies and packing that first become possible inside `depth` outer loops."""
        schedule = self.schedule
        for j in (0, 1):
            copy, memory = schedule.copies[j], self.copies[j]
            if copy is not None and memory is not None and self._copy_depth(j) == depth:
                start = self._operand_place(schedule.sources[j], 2 + len(schedule.tile) + j)
                copy_bordered(self.b, self.vector, copy, memory, start)
        if schedule.k_blocks == 1:
            whole = self.b.const(I64, schedule.k_depth)
            if self.v_panels is not None and self._pack_depth(schedule.v) == depth:
                self._pack_v(whole)
            if self.s_panels is not None and self._pack_depth(schedule.s) == depth:
                self._pack_s(whole)

    def _pack_depth(self, j: int) -> int:
        return max(self._bound(j), self._copy_depth(j))

    def _copy_depth(self, j: int) -> int:
        return self._bound(2 + len(self.schedule.tile) + j)

    def _bound(self, number: int) -> int:
        """How many outer loops must stand around what depends on an access."""
        loops = (*self.schedule.outer, *self.schedule.k_outer)
        return max((depth + 1 for depth, axis in enumerate(loops) if axis.strides[number]), default=0)

    def _operand_place(self, access: Access, number: int) -> Value:
        """The address of an access in its buffer at the current indices."""
        return self._at(self.roots[access.buffer], access, number)

    def _at(self, root: Value, access: Access, number: int) -> Value:
        kind = memory_kind(access.dtype)
        offset = self.place.offsets[number]
        if offset is not None:
            root = self.b.gep(root, offset, kind)
        return self.b.gep(root, access.const, kind) if access.const else root

    def _side(self, j: int) -> Value:
        """The address of an operand, in its copy where it has one, at the current indices."""
        access = self.schedule.operands[j]
        return self._at(self.copies[j] or self.roots[access.buffer], access, j)

    def _k_blocks(self) -> None:
        schedule, b = self.schedule, self.b
        if schedule.k_blocks == 1:
            self._v_tiles(b.const(I64, schedule.k_depth))
            return
        first = schedule.k[0]
        with b.loop(0, schedule.k_blocks, 1, "block") as loop:
            self.k_indices.append((loop.index, schedule.k_blocks))
            with self.place.at(first.strides, loop.index, schedule.k_chunk):
                rest = b.sub(first.extent, b.mul(loop.index, schedule.k_chunk))
                taken = b.select(b.icmp("slt", rest, schedule.k_chunk), rest, schedule.k_chunk, I64)
                count = b.mul(taken, schedule.k_inner)
                if self.v_panels is not None:
                    self._pack_v(count)
                if self.s_panels is not None:
                    self._pack_s(count)
                self._v_tiles(count)
            self.k_indices.pop()

    def _nested(self, axes: Sequence[Axis], linear: Value | None, run: Callable[[Value | None], None]) -> None:
        if not axes:
            run(linear)
            return
        axis = axes[0]
        with self.b.loop(0, axis.extent, 1, axis.name) as loop, self.place.at(axis.strides, loop.index):
            inner = loop.index if linear is None else self.b.add(self.b.mul(linear, axis.extent), loop.index)
            self._nested(axes[1:], inner, run)

    def _v_tiles(self, depth: Value) -> None:
        """All tiles of one k block."""
        b = self.b
        first = last = b.const(I1, 1)
        for index, extent in self.k_indices:
            first = b.and_(first, b.icmp("eq", index, 0))
            last = b.and_(last, b.icmp("eq", index, extent - 1))
        self._nested(
            self.schedule.v_outer, None, lambda linear: self._lane_blocks(linear, depth, first, last)
        )

    def _lane_parts(self) -> tuple[int, TileSize | None]:
        """How many whole tiles the lane axis has, and the size of the last one that is not whole."""
        t, extent = self.schedule.tiling, self.schedule.lane.extent
        whole, rest = divmod(extent, t.width)
        if not rest:
            return whole, None
        vectors = ceil_div(rest, t.lanes)
        return whole, TileSize(0, vectors, rest - (vectors - 1) * t.lanes)

    def _lane_blocks(self, outer: Value | None, depth: Value, first: Value, last: Value) -> None:
        """The tiles along the lane axis: in blocks that the second-level cache holds while S passes by."""
        schedule, b = self.schedule, self.b
        whole, tail = self._lane_parts()
        tiles = whole + (tail is not None)
        base = b.const(I64, 0) if outer is None else b.mul(outer, tiles)
        full = TileSize(0, schedule.tiling.vectors, schedule.tiling.lanes)

        def group(start: Value | int, stop: Value | int, with_tail: bool) -> None:
            def run(split: int, s_linear: Value) -> None:
                if not (isinstance(start, int) and isinstance(stop, int) and start >= stop):
                    with b.loop(start, stop, 1, "tile") as loop:
                        self._call(replace(full, split=split), loop.index, base, s_linear, depth, first, last)
                if with_tail and tail is not None:
                    index = b.const(I64, whole)
                    self._call(replace(tail, split=split), index, base, s_linear, depth, first, last)

            self._s_tiles(run)

        if tiles <= schedule.v_block:
            group(0, whole, True)
            return
        blocks, rest = divmod(whole, schedule.v_block)
        if blocks:
            with b.loop(0, blocks, 1, "columns") as loop:
                start = b.mul(loop.index, schedule.v_block)
                group(start, b.add(start, schedule.v_block), False)
        if rest or tail is not None:
            group(blocks * schedule.v_block, whole, True)

    def _s_tiles(self, run: Callable[[int, Value], None]) -> None:
        """`run` for each tile of S, with its size and its row-major number."""
        schedule, b = self.schedule, self.b
        per_split = sum(count for _, count in schedule.tiling.splits)

        def splits(linear: Value | None) -> None:
            start = done = 0
            for size, count in schedule.tiling.splits:
                with b.loop(0, count, 1, "rows") as loop:
                    number = b.add(loop.index, done)
                    if linear is not None:
                        number = b.add(number, b.mul(linear, per_split))
                    with self.place.at(schedule.s_split.strides, loop.index, size, start):
                        run(size, number)
                start, done = start + size * count, done + count

        self._nested(schedule.s_outer, None, splits)

    def _call(
        self, size: TileSize, index: Value, base: Value, s_linear: Value, depth: Value, first: Value, last: Value
    ) -> None:
        """Call the tile function at the current indices and the lane tile `index`."""
        schedule, b, t = self.schedule, self.b, self.schedule.tiling
        name = self.tiles.function(size)
        number = b.add(base, index)
        with self.place.at(schedule.lane.strides, index, t.width):
            v = self._side(schedule.v) if self.v_panels is None else self._panel(self.v_panels, number, t.width)
            if self.s_panels is None:
                s = self._side(schedule.s)
            else:
                s = self._panel(self.s_panels, s_linear, self.s_width)
            partial = self.partial
            if schedule.passes > 1:
                at = b.mul(b.add(b.mul(number, schedule.s_tiles), s_linear), self.tile_size)
                partial = b.gep(partial, at, schedule.kind)
            places = [self._operand_place(one, 2 + j) for j, one in enumerate(schedule.tile)]
            b.call(name, None, [s, v, depth, partial, first, last, *places])

    # ---- panels --------------------------------------------------------------------------------------------

    def _pack_v(self, depth: Value) -> None:
        """V as panels [k][lanes of a tile], the lanes past the end zero."""
        whole, tail = self._lane_parts()
        b, t = self.b, self.schedule.tiling

        def run(linear: Value | None) -> None:
            base = b.const(I64, 0) if linear is None else b.mul(linear, whole + (tail is not None))

            def one(used: int, index: Value) -> None:
                assert self.v_panels is not None
                with self.place.at(self.schedule.lane.strides, index, t.width):
                    panel = self._panel(self.v_panels, b.add(base, index), t.width)
                    self._pack(self.schedule.v, self.schedule.lane, used, panel, depth)

            if whole:
                with b.loop(0, whole, 1, "panel") as loop:
                    one(t.width, loop.index)
            if tail is not None:
                one(self.schedule.lane.extent % t.width, b.const(I64, whole))

        self._nested(self.schedule.v_outer, None, run)

    def _pack_s(self, depth: Value) -> None:
        """S as panels [k][rows of a tile], where one axis is the whole side."""

        def one(size: int, number: Value) -> None:
            assert self.s_panels is not None
            panel = self._panel(self.s_panels, number, self.s_width)
            self._pack(self.schedule.s, self.schedule.s_split, size, panel, depth)

        self._s_tiles(one)

    def _panel(self, panels: Value, number: Value, width: int) -> Value:
        return self.b.gep(panels, self.b.mul(number, self.schedule.k_depth * width), self.schedule.kind)

    def _pack(self, j: int, axis: Axis, used: int, panel: Value, depth: Value) -> None:
        offsets, table = self.tiles.k_offsets(j)
        is_whole = self.schedule.k_blocks == 1
        source = self._side(j)
        pack_panel(self.b, self.vector, source, panel, depth, used, axis.strides[j], offsets, table, is_whole)

"""The loops around the tiles of a contraction, with the copies and packing that they need, as LLVM IR.

    for outer axes (batch, images):
        for k outer axes, for blocks of k:
            for blocks of V tiles, for tiles of S, for V tiles of the block:
                tile(...)

Each preparation (zero-bordered copy, packing of V) stands at the outermost loop where all that it reads is known.

Threads share the leading outer axes (then each has copies and panels of its own), or else, one after another, each
preparation and the tiles of each block of k.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import prod

from graphc.ir.node import Generic
from graphc.program import Kernel, Program
from graphc_llvm.bounds import Bound, least
from graphc_llvm.contraction_cost import ceil_div
from graphc_llvm.contraction_frame import Memory
from graphc_llvm.contraction_match import can_fuse_epilogue, supports, tile_accesses
from graphc_llvm.contraction_panels import Preparation
from graphc_llvm.contraction_plan import plan_contraction
from graphc_llvm.emit import I1, I64, PTR, Module, Value
from graphc_llvm.kernel_code import KernelCode
from graphc_llvm.microkernel import TileEmitter, TileSize
from graphc_llvm.offsets import table_entry
from graphc_llvm.schedule import Axis, Cut, Schedule
from graphc_llvm.target import Target

__all__ = ["can_fuse_epilogue", "emit_contraction"]


def emit_contraction(
    module: Module, target: Target, program: Program, kernel: Kernel, name: str, schedule: Schedule | None = None
) -> KernelCode | None:
    """Emit the function of a contraction with its epilogue; None (and nothing emitted) when general loops should
    compute the kernel: `contraction_match.supports` and `contraction_cost.choose_tiling` tell when. `schedule` replaces
    the planner's."""
    node = kernel.stages[0].node
    if not isinstance(node, Generic):
        return None
    out_axes = node.out_map.axes
    if supports(program, kernel) is not None and any(node.domain[axis] == 0 for axis in out_axes):
        module.function(name, [("workspace", PTR)], linkage="internal").ret()
        return KernelCode(name, (), 0)
    schedule = schedule or plan_contraction(program, kernel, target)
    return None if schedule is None else _Nest(module, program, kernel, schedule, name).emit()


class _Nest(Preparation):
    """The function of one kernel: loops around tiles."""

    def __init__(self, module: Module, program: Program, kernel: Kernel, schedule: Schedule, name: str) -> None:
        numbers = {key: number for number, key in enumerate(tile_accesses(program, kernel))}
        super().__init__(module, schedule, name, TileEmitter(module, program, kernel, schedule, name, numbers))
        self.packed_from: Value | None = None  # the first tile of the block that is packed
        self.area = schedule.v_tiles * schedule.s_tiles * self.tile_size  # of the sums of all tiles
        self.partial: Memory | None = None
        self.finishing = False
        if schedule.k_parts is not None:
            self.partial = self._reserve(schedule.k_parts.extent * self.area, 0)
        elif schedule.keeps_sums:
            self.partial = self._reserve(self.area, len(schedule.outer))

    def emit(self) -> KernelCode:
        """The whole function."""
        self._prepare(0)
        shared = self.schedule.shared_axes
        if shared:
            points = prod(axis.extent for axis in self.schedule.outer[:shared])
            self._section("outer", points, self.schedule.outer_tasks, self._outer_points)
        else:
            self._descend(0)
        if self.schedule.k_parts is not None:
            self.finishing = True
            self._all_tiles()
        self.b.ret()
        return KernelCode(self.name, self.buffers, self.bytes[False], self.bytes[True])

    # ---- outer loops ---------------------------------------------------------------------------------------

    def _outer_points(self, first: Bound, stop: Bound) -> None:
        """Points of the shared outer axes, as one row-major number."""
        axes = self.schedule.outer[: self.schedule.shared_axes]
        with self.b.loop(first, stop, 1, "point") as loop:
            self._decode(axes, loop.index)

    def _decode(self, axes: Sequence[Axis], linear: Value) -> None:
        if not axes:
            self._prepare(self.schedule.shared_axes)
            self._descend(self.schedule.shared_axes)
            return
        rest, index = linear, linear
        if len(axes) > 1:
            rest, index = self.b.divide_index(linear, axes[-1].extent)
        with self._at(axes[-1], index):
            self._decode(axes[:-1], rest)

    def _descend(self, depth: int) -> None:
        """The outer loops inside of `depth`, each with what is prepared in it."""
        loops = (*self.schedule.outer, *self.schedule.k_outer)
        if depth == len(loops):
            self._k_blocks()
            return
        axis = loops[depth]
        trips = axis.extent if depth >= len(self.schedule.outer) else 0
        with self.b.loop(0, axis.extent, 1, axis.label) as loop, self._at(axis, loop.index, trips=trips):
            self._prepare(depth + 1)
            self._descend(depth + 1)

    def _prepare(self, depth: int) -> None:
        """Copies and packing that first become possible inside `depth` outer loops."""
        schedule = self.schedule
        for j in (0, 1):
            copy, memory = schedule.copies[j], self.copies[j]
            if copy is not None and memory is not None and schedule.bound(2 + len(schedule.tile) + j) == depth:
                self._copy(j)
        if schedule.k_blocks == 1:
            if self.v_panels is not None and not schedule.packs_blocks and schedule.pack_depth(schedule.v) == depth:
                self._pack_v()
            if self.s_panels is not None and schedule.pack_depth(schedule.s) == depth:
                self._pack_s()

    def _k_blocks(self) -> None:
        schedule, b = self.schedule, self.b
        if schedule.k_blocks == 1:
            self._all_tiles()
            return
        with b.loop(0, schedule.k_blocks, 1, "block") as loop:
            with self._at(schedule.k[0], loop.index, schedule.k_chunk, trips=schedule.k_blocks):
                if self.v_panels is not None and not schedule.packs_blocks:
                    self._pack_v()
                if self.s_panels is not None:
                    self._pack_s()
                self._all_tiles()

    def _k_range(self) -> tuple[Value, Value]:
        """The products to sum at the current indices: all of the block, or those that a trimmed axis leaves."""
        trim, b = self.schedule.trim, self.b
        if trim is None:
            return b.const(I64, 0), self._depth()
        index, strip = self._index_of(trim.axis), self.schedule.strip
        if strip is not None and trim.axis is strip.inner:
            index = b.add(index, b.mul(self._index_of(strip.outer), strip.inner.extent))
        flat = [bound * self.schedule.k_inner for bounds in trim.ranges for bound in bounds]
        table = b.module.global_array(f"{self.name}.trim", flat, "i32")
        at = b.mul(index, 2)
        return table_entry(b, table, at), table_entry(b, table, b.add(at, 1))

    # ---- tiles ---------------------------------------------------------------------------------------------

    def _all_tiles(self) -> None:
        """All tiles of one k block, in parts along the axis that the schedule cuts."""
        cut = self.schedule.cut
        if cut is None or self.in_section:
            self._some_tiles()
        else:
            self._section("tiles", cut.tasks, cut.tasks, lambda task, _: self._part(cut, task))

    def _part(self, cut: Cut, task: Bound) -> None:
        assert isinstance(task, Value)
        b, ranges = self.b, self.ranges
        self.ranges = {}
        for name, extent, length in reversed(cut.parts):
            task, index = b.divide_index(task, ceil_div(extent, length))
            first = b.mul(index, length)
            stop = b.add(first, length)
            self.ranges[name] = first, least(self.b, stop, extent) if extent % length else stop
        self._some_tiles()
        self.ranges = ranges

    def _some_tiles(self) -> None:
        if self.schedule.s_first:
            self._s_tiles(lambda split, s: self._v_outer(lambda v: self._lane_tiles(v, split, s)))
        else:
            self._v_outer(self._lane_blocks)

    def _lane_tiles(self, outer: Value | None, split: int, s_linear: Value) -> None:
        """The tiles along the lane axis at one tile of S."""
        whole, tail = self._lane_parts()
        first, stop = self._range("lane", whole + (tail is not None))
        if whole:
            self._row_of_tiles(first, least(self.b, stop, whole), outer, split, s_linear)
        self._tail_tile(stop, outer, split, s_linear)

    def _row_of_tiles(
        self, first: Bound, stop: Bound, outer: Value | None, split: int, s_linear: Value, packs: bool = False
    ) -> None:
        full = replace(self.tiles.full_size(split), packs=packs)
        with self.b.loop(first, stop, 1, "tile") as loop:
            self._call(full, loop.index, outer, s_linear)

    def _first_row_packs(
        self, first: Value, stop: Bound, outer: Value | None, split: int, s_linear: Value
    ) -> None:
        """Tiles of one block, which those of the first tile of S fill."""
        if split != self.schedule.tiling.splits[0][0]:
            self._row_of_tiles(first, stop, outer, split, s_linear)
            return
        with self.b.if_else(self.b.icmp("eq", s_linear, 0)) as choice:
            for packs, arm in ((True, choice.then), (False, choice.otherwise)):
                with arm():
                    self._row_of_tiles(first, stop, outer, split, s_linear, packs)

    def _tail_tile(self, stop: Bound, outer: Value | None, split: int, s_linear: Value) -> None:
        """The last, narrower tile, where `stop` lies behind it."""
        whole, tail = self._lane_parts()
        if tail is None:
            return
        with self._where_past(stop, whole):
            self._call(replace(tail, split=split), self.b.const(I64, whole), outer, s_linear)

    def _lane_blocks(self, outer: Value | None) -> None:
        """The tiles along the lane axis: in blocks that the second-level cache holds while S passes by."""
        schedule, b = self.schedule, self.b
        whole, tail = self._lane_parts()
        first, stop = self._range("lane", whole + (tail is not None))
        if not (isinstance(stop, Value) or stop > schedule.v_block or schedule.packs_blocks):
            self._s_tiles(lambda split, s: self._lane_tiles(outer, split, s))
            return
        if whole:
            last = least(self.b, stop, whole)
            with b.loop(first, last, schedule.v_block, "columns") as loop:
                end = least(self.b, b.add(loop.index, schedule.v_block), last)
                if not schedule.packs_in_tiles:
                    with self._packed(loop.index, end, schedule.tiling.width):
                        self._s_tiles(lambda split, s: self._row_of_tiles(loop.index, end, outer, split, s))
                else:
                    self.packed_from = loop.index
                    self._s_tiles(lambda split, s: self._first_row_packs(loop.index, end, outer, split, s))
                    self.packed_from = None
        if tail is not None:
            with self._where_past(stop, whole):
                start = b.const(I64, whole)
                with self._packed(start, b.const(I64, whole + 1), schedule.lane.extent % schedule.tiling.width):
                    self._s_tiles(lambda split, s: self._call(replace(tail, split=split), start, outer, s))

    @contextmanager
    def _packed(self, first: Value, stop: Bound, used: int) -> Iterator[None]:
        """Around the tiles of one block: their panels, each of `used` lanes, where the schedule packs by blocks."""
        schedule, panels = self.schedule, self.v_panels
        if not schedule.packs_blocks or panels is None:
            yield
            return

        def pack(count: Value) -> None:
            panel = self._panel(panels, self.b.const(I64, 0), schedule.tiling.width)
            self._pack(schedule.v, schedule.lane, used, panel, count)

        with self._at(schedule.lane, first, schedule.tiling.width):
            self._outlined("pack", [self.b.sub(stop, first)], pack)
        self.packed_from = first
        yield
        self.packed_from = None

    def _call(self, size: TileSize, index: Value, outer: Value | None, s_linear: Value) -> None:
        """Call the tile function at the current indices and the lane tile `index`."""
        schedule, b, t = self.schedule, self.b, self.schedule.tiling
        whole, tail = self._lane_parts()
        number = index if outer is None else b.add(b.mul(outer, whole + (tail is not None)), index)
        with self._at(schedule.lane, index, t.width):
            places = [self._operand_place(one, 2 + j) for j, one in enumerate(schedule.tile)]
            at = b.mul(b.add(b.mul(number, schedule.s_tiles), s_linear), self.tile_size)
            if self.finishing:
                assert self.partial is not None and schedule.k_parts is not None
                name = self.tiles.finish_function(size, schedule.k_parts.extent, self.area)
                b.call(name, None, [b.gep(self._address(self.partial), at, schedule.kind), *places])
                return
            panel = None
            if self.v_panels is not None:
                local = number if self.packed_from is None else b.sub(index, self.packed_from)
                panel = self._panel(self.v_panels, local, t.width)
            v = self._side(schedule.v) if panel is None or size.packs else panel
            if self.s_panels is None:
                s = self._side(schedule.s)
            else:
                s = self._panel(self.s_panels, s_linear, self.s_width)
            arguments = [s, v, *self._k_range()]
            if schedule.prefetch:
                arguments.append(self._ahead(s_linear))
            if self.partial is not None:
                if schedule.k_parts is not None:
                    at = b.add(at, b.mul(self._index_of(schedule.k_parts), self.area))
                arguments += [b.gep(self._address(self.partial), at, schedule.kind), *self._ends()]
            if size.packs and panel is not None:
                places.append(panel)
            b.call(self.tiles.function(size), None, [*arguments, *places])

    def _ahead(self, s_linear: Value) -> Value:
        """What the tile asks for while it sums: a line of the tile at the same place of the next block, one line after
        the other as the tiles of S pass."""
        schedule, lanes = self.schedule, self.schedule.tiling.lanes
        _, line = self.b.divide_index(s_linear, schedule.tiling.vectors)
        place = self.b.gep(self._side(schedule.v), schedule.v_block * schedule.tiling.width, schedule.kind)
        return self.b.gep(place, self.b.mul(line, lanes), schedule.kind)

    def _ends(self) -> tuple[Value, Value]:
        """Whether this is the first, and the last, pass over k."""
        b = self.b
        first = last = b.const(I1, 1)
        for loop in self.open:
            if loop.trips:
                first = b.and_(first, b.icmp("eq", loop.index, 0))
                last = b.and_(last, b.icmp("eq", loop.index, loop.trips - 1))
        return first, last

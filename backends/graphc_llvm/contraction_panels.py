"""What a contraction prepares: zero-bordered copies of operands, and panels."""

from __future__ import annotations

from math import prod

from graphc.program import ALIGNMENT
from graphc_llvm.bounds import Bound, least
from graphc_llvm.contraction_copy import ALIASED_BYTES
from graphc_llvm.contraction_cost import ceil_div
from graphc_llvm.contraction_frame import Frame, Memory
from graphc_llvm.contraction_pack import PACK_UNIT, copy_bordered, pack_panel, pack_panels
from graphc_llvm.contraction_tasks import tasks_of
from graphc_llvm.emit import I64, Module, Type, Value
from graphc_llvm.emit_types import BYTES
from graphc_llvm.microkernel import TileEmitter
from graphc_llvm.schedule import Axis, Schedule


class Preparation(Frame):
    """Copies and panels: the room for them, and the code that fills them."""

    def __init__(self, module: Module, schedule: Schedule, name: str, tiles: TileEmitter) -> None:
        super().__init__(module, schedule, name)
        self.tiles = tiles
        t = schedule.tiling
        self.vector = Type(schedule.kind, t.lanes)
        source = 2 + len(schedule.tile)  # the number of operand 0's source among the accesses
        self.copies = [
            self._reserve(copy.size, schedule.bound(source + j)) if copy else None
            for j, copy in enumerate(schedule.copies)
        ]
        blocked = len(schedule.outer) if schedule.k_blocks > 1 else 0
        self.v_panels: Memory | None = None
        if schedule.packs_blocks:
            self.v_panels = self._reserve(min(schedule.v_block, schedule.v_tiles) * self._pitch(t.width), 0, own=True)
        elif t.packed:
            depth = max(blocked, schedule.pack_depth(schedule.v))
            self.v_panels = self._reserve(schedule.v_tiles * self._pitch(t.width), depth)
        rows = max((size for size, _ in t.splits), default=1) * prod(axis.extent for axis in schedule.s_box)
        self.tile_size = rows * t.width * (t.lanes if t.along_k else 1)
        self.s_width = ceil_div(rows, t.lanes) * t.lanes
        self.s_panels: Memory | None = None
        if schedule.s_packed:
            depth = max(blocked, schedule.pack_depth(schedule.s))
            self.s_panels = self._reserve(schedule.s_tiles * self._pitch(self.s_width), depth)

    def _side(self, j: int) -> Value:
        """The address of an operand, in its copy where it has one, at the current indices."""
        access, copy = self.schedule.operands[j], self.copies[j]
        return self._displaced(self._address(copy) if copy else self.roots[access.buffer], access, j)

    def _panel(self, panels: Memory, number: Value, width: int) -> Value:
        start = self.b.mul(number, self._pitch(width))
        return self.b.gep(self._address(panels), start, self.schedule.kind)

    def _pitch(self, width: int) -> int:
        """From one panel to the next: a line more than it holds where the same rows of all would share a set of the
        first-level cache."""
        size, item = self.schedule.k_depth * width, BYTES[self.schedule.kind]
        return size + ALIGNMENT // item if size * item % ALIASED_BYTES == 0 else size

    def _copy(self, j: int) -> None:
        """Fill the zero-bordered copy of an operand."""
        schedule = self.schedule
        copy, memory = schedule.copies[j], self.copies[j]
        assert copy is not None and memory is not None

        def run(first: Bound, stop: Bound) -> None:
            start = self._operand_place(schedule.sources[j], 2 + len(schedule.tile) + j)
            strip, moved = schedule.strip, None
            if strip is not None and strip.j == j:
                moved = strip.dim, self.b.mul(self._index_of(strip.outer), strip.advance)
            copy_bordered(self.b, self.vector, copy, self._address(memory), start, first, stop, moved)

        self._section("copy", copy.shape[0], tasks_of(copy.size) if len(copy.shape) > 1 else 1, run)

    def _pack_v(self) -> None:
        """V as panels [k][lanes of a tile], the lanes past the end zero."""
        schedule, t, panels, lane = self.schedule, self.schedule.tiling, self.v_panels, self.schedule.lane
        assert panels is not None
        whole, tail = self._lane_parts()
        tiles = whole + (tail is not None)

        def lanes(outer: Value | None) -> None:
            b = self.b

            def one(used: int, index: Value) -> None:
                number = index if outer is None else b.add(b.mul(outer, tiles), index)
                with self._at(lane, index, t.width):
                    self._pack(schedule.v, lane, used, self._panel(panels, number, t.width))

            first, stop = self._range("lane", tiles)
            with b.loop(first, least(self.b, stop, whole), 1, "panel") as loop:
                one(t.width, loop.index)
            if tail is not None:
                with self._where_past(stop, whole):
                    one(lane.extent % t.width, b.const(I64, whole))

        axis, count = ("v0", schedule.v_outer[0].extent) if schedule.v_outer else ("lane", tiles)
        tasks = tasks_of(schedule.v_tiles * schedule.k_depth * t.width)
        units = schedule.k_depth // PACK_UNIT
        if count < min(tasks, units):  # too few panels: threads share the steps of k
            axis, count = "pack", units
        self._section("pack", count, tasks, lambda *part: self._in_part(axis, part, lambda: self._v_outer(lanes)))

    def _pack_s(self) -> None:
        """S as panels [k][rows of a tile], where one axis is the whole side."""
        schedule, panels = self.schedule, self.s_panels
        assert panels is not None

        def one(size: int, number: Value) -> None:
            self._pack(schedule.s, schedule.s_split, size, self._panel(panels, number, self.s_width))

        count = sum(count for _, count in schedule.tiling.splits)
        tasks = tasks_of(count * self.s_width * schedule.k_depth)
        self._section("pack", count, tasks, lambda *part: self._in_part("split", part, lambda: self._s_tiles(one)))

    def _pack(self, j: int, axis: Axis, used: int, panel: Value, panels: Value | None = None) -> None:
        """Fill a panel, or so many neighbouring ones."""
        b, schedule = self.b, self.schedule
        offsets, table = self.tiles.k_offsets(j)
        total = schedule.k[0].extent * schedule.k_inner
        source, stride, width = self._side(j), axis.strides[j], schedule.tiling.width
        if panels is None:
            first, stop = self._pack_range()
            pack_panel(b, self.vector, source, panel, first, stop, used, stride, offsets, table, total)
        elif stride == 1:
            pitch = self._pitch(width)
            pack_panels(b, self.vector, source, panel, self._depth(), used, offsets, table, panels, width, pitch)
        else:
            with b.loop(0, panels, 1, "panel") as loop:
                far = b.gep(source, b.mul(loop.index, width * stride), schedule.kind)
                near = b.gep(panel, b.mul(loop.index, self._pitch(width)), schedule.kind)
                pack_panel(b, self.vector, far, near, 0, self._depth(), used, stride, offsets, table, total)

    def _pack_range(self) -> tuple[Bound, Bound]:
        """The steps of k that this part packs."""
        b, depth, units = self.b, self._depth(), self.schedule.k_depth // PACK_UNIT
        if "pack" not in self.ranges:
            return 0, depth
        first, stop = self.ranges["pack"]
        if isinstance(first, int) or isinstance(stop, int):
            return 0, depth
        end = b.select(b.icmp("slt", stop, units), b.mul(stop, PACK_UNIT), depth, I64)
        return b.mul(first, PACK_UNIT), least(b, end, depth)

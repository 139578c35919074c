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

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import prod

from graphc.ir.node import Generic
from graphc.program import ALIGNMENT, Kernel, Program
from graphc_llvm.bodies import memory_kind
from graphc_llvm.bounds import Bound, least, most
from graphc_llvm.contraction_copy import ALIASED_BYTES
from graphc_llvm.contraction_cost import ceil_div
from graphc_llvm.contraction_match import can_fuse_epilogue, supports, tile_accesses
from graphc_llvm.contraction_pack import PACK_UNIT, copy_bordered, pack_panel, pack_panels
from graphc_llvm.contraction_plan import plan_contraction
from graphc_llvm.contraction_tasks import tasks_of
from graphc_llvm.emit import I1, I64, PTR, Builder, Module, Type, Value
from graphc_llvm.emit_types import BYTES
from graphc_llvm.kernel_code import KernelCode
from graphc_llvm.microkernel import TileEmitter, TileSize, table_entry
from graphc_llvm.parallel import COLD, HOT, parallel_for
from graphc_llvm.schedule import Access, Axis, Cut, Schedule
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


HOT_SECTIONS = ("copy", "pack")
LONG_TILE = 4096  # multiply-adds of vectors in a tile, beside which some fifty instructions do not matter


@dataclass(frozen=True)
class _Memory:
    """Bytes of the workspace: shared, or of the thread's own part."""

    start: int
    own: bool


@dataclass(frozen=True)
class _Open:
    """An open loop: its axis stands at start + scale * index."""

    axis: Axis
    index: Value
    scale: int
    start: int
    trips: int  # of a loop over k (0 for the others)


class _Nest:
    """The function of one kernel under construction."""

    def __init__(self, module: Module, program: Program, kernel: Kernel, schedule: Schedule, name: str) -> None:
        self.schedule, self.name = schedule, name
        accesses = tile_accesses(program, kernel)
        numbers = {key: number for number, key in enumerate(accesses)}
        self.buffers = tuple(dict.fromkeys(a.buffer for a in (*schedule.operands, *schedule.tile)))
        params = [(f"b{number}", PTR) for number in range(len(self.buffers))]
        self.attributes = COLD if schedule.tile_steps >= LONG_TILE else HOT
        self.b = module.function(name, [*params, ("workspace", PTR)], linkage="internal", attributes=self.attributes)
        self.roots = dict(zip(self.buffers, self.b.params, strict=False))
        self.workspace = self.b.params[-1]
        self.slot = self.b.const(I64, 0)
        self.sections = 0
        self.in_section = False
        self.tiles = TileEmitter(module, program, kernel, schedule, name, numbers)
        self.open: list[_Open] = []
        self.offsets: list[Value | None] = [None] * (4 + len(schedule.tile))  # of every access, in elements
        self.bytes = {False: 0, True: 0}
        self.ranges: dict[str, tuple[Bound, Bound]] = {}  # what of an axis the section at hand covers
        self.vector = Type(schedule.kind, schedule.tiling.lanes)
        source = 2 + len(schedule.tile)  # the number of operand 0's source among the accesses
        self.copies = [
            self._reserve(copy.size, schedule.bound(source + j)) if copy else None
            for j, copy in enumerate(schedule.copies)
        ]
        t = schedule.tiling
        blocked = len(schedule.outer) if schedule.k_blocks > 1 else 0
        panel = self._pitch(t.width)
        v_depth, s_depth = max(blocked, schedule.pack_depth(schedule.v)), max(blocked, schedule.pack_depth(schedule.s))
        self.v_panels = self._reserve(schedule.v_tiles * panel, v_depth) if t.packed else None
        if schedule.packs_blocks:
            self.v_panels = self._reserve(min(schedule.v_block, schedule.v_tiles) * panel, 0, own=True)
        self.packed_from: Value | None = None  # the first tile of the block that is packed
        rows = max((size for size, _ in t.splits), default=1) * prod(axis.extent for axis in schedule.s_box)
        self.tile_size = rows * t.width * (t.lanes if t.along_k else 1)
        self.s_width = ceil_div(rows, t.lanes) * t.lanes
        panel = self._pitch(self.s_width)
        self.s_panels = self._reserve(schedule.s_tiles * panel, s_depth) if schedule.s_packed else None
        self.partial: _Memory | None = None
        self.area = schedule.v_tiles * schedule.s_tiles * self.tile_size
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

    # ---- memory --------------------------------------------------------------------------------------------

    def _reserve(self, elements: int, depth: int, own: bool = False) -> _Memory:
        """Room in the workspace for what is filled inside `depth` outer loops, or inside a section (`own`)."""
        own = own or (depth > 0 and self.schedule.shared_axes > 0)
        start = self.bytes[own]
        self.bytes[own] += ceil_div(elements * BYTES[self.schedule.kind], ALIGNMENT) * ALIGNMENT
        return _Memory(start, own)

    def _address(self, memory: _Memory) -> Value:
        b = self.b
        if not memory.own:
            return b.gep(self.workspace, memory.start, "i8")
        start = b.add(b.mul(self.slot, self.bytes[True]), self.bytes[False] + memory.start)
        return b.gep(self.workspace, start, "i8")

    def _operand_place(self, access: Access, number: int) -> Value:
        """The address of an access in its buffer at the current indices."""
        return self._displaced(self.roots[access.buffer], access, number)

    def _displaced(self, root: Value, access: Access, number: int) -> Value:
        kind = memory_kind(access.dtype)
        offset = self.offsets[number]
        if offset is not None:
            root = self.b.gep(root, offset, kind)
        return self.b.gep(root, access.const, kind) if access.const else root

    def _side(self, j: int) -> Value:
        """The address of an operand, in its copy where it has one, at the current indices."""
        access, copy = self.schedule.operands[j], self.copies[j]
        return self._displaced(self._address(copy) if copy else self.roots[access.buffer], access, j)

    def _panel(self, panels: _Memory, number: Value, width: int) -> Value:
        start = self.b.mul(number, self._pitch(width))
        return self.b.gep(self._address(panels), start, self.schedule.kind)

    def _pitch(self, width: int) -> int:
        """From one panel to the next: a line more than it holds where the same rows of all would share a set of the
        first-level cache."""
        size, item = self.schedule.k_depth * width, BYTES[self.schedule.kind]
        return size + ALIGNMENT // item if size * item % ALIASED_BYTES == 0 else size

    # ---- loops and sections --------------------------------------------------------------------------------

    @contextmanager
    def _at(self, axis: Axis, index: Value, scale: int = 1, start: int = 0, trips: int = 0) -> Iterator[None]:
        """Inside the block the axis is at start + scale * index."""
        saved = list(self.offsets)
        self.open.append(_Open(axis, index, scale, start, trips))
        self._displace(self.open[-1])
        yield
        self.open.pop()
        self.offsets = saved

    def _displace(self, loop: _Open) -> None:
        b = self.b
        for number, stride in enumerate(loop.axis.strides):
            if stride:
                term = b.mul(loop.index, stride * loop.scale)
                term = b.add(term, loop.start * stride) if loop.start else term
                old = self.offsets[number]
                self.offsets[number] = term if old is None else b.add(old, term)

    def _section(self, label: str, count: int, tasks: int, run: Callable[[Bound, Bound], None]) -> None:
        """`run(first, stop)` over 0 to count, cut into at most `tasks` parts that threads share; in one go inside of a
        section, and for one task."""
        is_hot = label in HOT_SECTIONS
        chunk = ceil_div(count, max(tasks, 1))
        if self.in_section or tasks <= 1 or count <= 1:
            if is_hot:
                self._outlined(label, [], lambda: run(0, count))
            else:
                run(0, count)
            return

        def body(b: Builder, task: Value, slot: Value, live: list[Value]) -> None:
            with self._inside(b, slot, live):
                self.in_section = True
                first = b.mul(task, chunk)
                stop = b.add(first, chunk)
                run(first, least(self.b, stop, count) if count % chunk else stop)
                self.in_section = False

        name = self._function_name(label)
        attributes = HOT if is_hot else self.attributes
        parallel_for(self.b, name, ceil_div(count, chunk), self._live(), body, attributes)

    def _outlined(self, label: str, extra: Sequence[Value], run: Callable[..., None]) -> None:
        """`run(*extra)` as a function of its own, where the one at hand is compiled without optimisation."""
        if self.attributes == HOT:
            run(*extra)
            return
        live = [self.slot, *self._live(), *extra]
        name = self._function_name(label)
        params = [(f"p{number}", value.type) for number, value in enumerate(live)]
        b = self.b.module.function(name, params, linkage="internal", attributes=HOT)
        with self._inside(b, b.params[0], b.params[1:]):
            run(*b.params[len(live) - len(extra):])
        b.ret()
        self.b.call(name, None, live)

    def _function_name(self, label: str) -> str:
        self.sections += 1
        return f"{self.name}.{label}{self.sections}"

    def _live(self) -> list[Value]:
        """What code in another function needs: pointers, and the indices of the open loops."""
        return [self.workspace, *self.roots.values(), *(loop.index for loop in self.open)]

    @contextmanager
    def _inside(self, b: Builder, slot: Value, live: Sequence[Value]) -> Iterator[None]:
        """Build in another function, whose values of `_live` are given."""
        kept = self.b, self.roots, self.workspace, self.slot, self.open, self.offsets
        self.b, self.slot, self.workspace = b, slot, live[0]
        self.roots = dict(zip(self.buffers, live[1:], strict=False))
        indices = live[1 + len(self.buffers):]
        self.open = [replace(loop, index=index) for loop, index in zip(kept[4], indices, strict=False)]
        self.offsets = [None] * len(kept[5])
        for loop in self.open:
            self._displace(loop)
        yield
        self.b, self.roots, self.workspace, self.slot, self.open, self.offsets = kept

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

    def _depth(self) -> Value:
        """The products of this block of k."""
        schedule, b = self.schedule, self.b
        if schedule.k_blocks == 1:
            return b.const(I64, schedule.k_depth)
        block = self._index_of(schedule.k[0])
        rest = b.sub(schedule.k[0].extent, b.mul(block, schedule.k_chunk))
        return b.mul(b.select(b.icmp("slt", rest, schedule.k_chunk), rest, schedule.k_chunk, I64), schedule.k_inner)

    def _index_of(self, axis: Axis) -> Value:
        return next(loop.index for loop in self.open if loop.axis is axis)

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

    def _in_part(self, axis: str, part: tuple[Bound, Bound], run: Callable[[], None]) -> None:
        """`run` with the loops over one axis (named as in a Cut) limited to a part of it."""
        self.ranges[axis] = part
        run()
        del self.ranges[axis]

    def _range(self, axis: str, count: int) -> tuple[Bound, Bound]:
        return self.ranges.get(axis, (0, count))

    def _nested(
        self, axes: Sequence[Axis], side: str, run: Callable[[Value | None], None],
        number: int = 0, linear: Value | None = None,
    ) -> None:
        if number == len(axes):
            run(linear)
            return
        axis = axes[number]
        bounds = self._range(f"{side}{number}", axis.extent)
        with self.b.loop(*bounds, 1, axis.label) as loop, self._at(axis, loop.index):
            inner = loop.index if linear is None else self.b.add(self.b.mul(linear, axis.extent), loop.index)
            self._nested(axes, side, run, number + 1, inner)

    def _v_outer(self, run: Callable[[Value | None], None]) -> None:
        self._nested(self.schedule.v_outer, "v", run)

    def _lane_parts(self) -> tuple[int, TileSize | None]:
        """How many whole tiles the lane axis has, and the size of the last one that is not whole."""
        t, extent = self.schedule.tiling, self.schedule.lane.extent
        whole, rest = divmod(extent, t.width)
        if not rest:
            return whole, None
        vectors = ceil_div(rest, t.lanes)
        return whole, TileSize(0, vectors, rest - (vectors - 1) * t.lanes)

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

    @contextmanager
    def _where_past(self, stop: Bound, whole: int) -> Iterator[None]:
        """Emit the block under the condition that the range reaches past the whole tiles."""
        if isinstance(stop, int):
            yield
            return
        with self.b.if_(self.b.icmp("sgt", stop, whole)):
            yield

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

    def _s_tiles(self, run: Callable[[int, Value], None]) -> None:
        """`run` for each tile of S, with its size and its row-major number."""
        schedule, b = self.schedule, self.b
        per_split = sum(count for _, count in schedule.tiling.splits)

        def splits(linear: Value | None) -> None:
            low, high = self._range("split", per_split)
            start = done = 0
            for size, count in schedule.tiling.splits:
                first = most(self.b, low, done) if isinstance(low, Value) else done
                stop = least(self.b, high, done + count)
                with b.loop(first, stop, 1, "rows") as loop:
                    number = loop.index
                    if linear is not None:
                        number = b.add(number, b.mul(linear, per_split))
                    with self._at(schedule.s_split, loop.index, size, start - done * size):
                        run(size, number)
                start, done = start + size * count, done + count

        self._nested(schedule.s_outer, "s", splits)

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

    # ---- copies and panels ---------------------------------------------------------------------------------

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

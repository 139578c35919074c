"""A contraction's function under construction: where memory lies, which loops are open, what threads share.

Code for one kernel is spread over several functions: sections that threads share, and parts that are optimised apart.
Each of them gets the pointers and the indices of the open loops, and works out the rest anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from graphc.program import ALIGNMENT
from graphc_llvm.bodies import memory_kind
from graphc_llvm.bounds import Bound, least, most
from graphc_llvm.contraction_cost import ceil_div
from graphc_llvm.emit import I64, PTR, Builder, Module, Value
from graphc_llvm.emit_types import BYTES
from graphc_llvm.microkernel import TileSize
from graphc_llvm.parallel import COLD, HOT, parallel_for
from graphc_llvm.schedule import Access, Axis, Schedule

HOT_SECTIONS = ("copy", "pack")
LONG_TILE = 4096  # multiply-adds of vectors in a tile, beside which some fifty instructions do not matter


@dataclass(frozen=True)
class Memory:
    """Bytes of the workspace: shared, or of the thread's own part."""

    start: int
    own: bool


@dataclass(frozen=True)
class Open:
    """An open loop: its axis stands at start + scale * index."""

    axis: Axis
    index: Value
    scale: int
    start: int
    trips: int  # of a loop over k (0 for the others)


class Frame:
    """The builder of the function at hand, its pointers, its open loops; and the loops that every part runs."""

    def __init__(self, module: Module, schedule: Schedule, name: str) -> None:
        self.schedule, self.name = schedule, name
        self.buffers = tuple(dict.fromkeys(a.buffer for a in (*schedule.operands, *schedule.tile)))
        params = [(f"b{number}", PTR) for number in range(len(self.buffers))]
        self.attributes = COLD if schedule.tile_steps >= LONG_TILE else HOT
        self.b = module.function(name, [*params, ("workspace", PTR)], linkage="internal", attributes=self.attributes)
        self.roots = dict(zip(self.buffers, self.b.params, strict=False))
        self.workspace = self.b.params[-1]
        self.slot = self.b.const(I64, 0)
        self.functions = 0
        self.in_section = False
        self.open: list[Open] = []
        self.offsets: list[Value | None] = [None] * (4 + len(schedule.tile))  # of every access, in elements
        self.bytes = {False: 0, True: 0}
        self.ranges: dict[str, tuple[Bound, Bound]] = {}  # what of an axis the section at hand covers

    # ---- memory --------------------------------------------------------------------------------------------

    def _reserve(self, elements: int, depth: int, own: bool = False) -> Memory:
        """Room in the workspace for what is filled inside `depth` outer loops, or inside a section (`own`)."""
        own = own or (depth > 0 and self.schedule.shared_axes > 0)
        start = self.bytes[own]
        self.bytes[own] += ceil_div(elements * BYTES[self.schedule.kind], ALIGNMENT) * ALIGNMENT
        return Memory(start, own)

    def _address(self, memory: Memory) -> Value:
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

    # ---- functions -----------------------------------------------------------------------------------------

    @contextmanager
    def _at(self, axis: Axis, index: Value, scale: int = 1, start: int = 0, trips: int = 0) -> Iterator[None]:
        """Inside the block the axis is at start + scale * index."""
        saved = list(self.offsets)
        self.open.append(Open(axis, index, scale, start, trips))
        self._displace(self.open[-1])
        yield
        self.open.pop()
        self.offsets = saved

    def _displace(self, loop: Open) -> None:
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
        self.functions += 1
        return f"{self.name}.{label}{self.functions}"

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

    # ---- loops ---------------------------------------------------------------------------------------------

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

    @contextmanager
    def _where_past(self, stop: Bound, whole: int) -> Iterator[None]:
        """Emit the block under the condition that the range reaches past the whole tiles."""
        if isinstance(stop, int):
            yield
            return
        with self.b.if_(self.b.icmp("sgt", stop, whole)):
            yield

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

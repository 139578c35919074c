"""Where the tiles of a stencil read the image: in place, or in the thread's own copy of some rows.

A *line* is an image row counted from the first one that a tile reads. `InPlace.tile` and `Copied.tile` give a function
(line, tap column, v) that loads what that tap reads for vector v of the tile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from graphc_llvm.bounds import Bound, least, most
from graphc_llvm.emit import I64, Builder, Type, Value
from graphc_llvm.emit_types import BYTES
from graphc_llvm.offsets import lane_mask
from graphc_llvm.stencil_plan import Run, Stencil
from graphc_llvm.stencil_tile import Plane

Load: TypeAlias = Callable[[int, int, int], Value]

UNROLLED_VECTORS = 8  # of a row that is copied: more are a loop


class InPlace:
    """The image itself; `zeros` is a row of zeros that stands for those above and below it."""

    def __init__(self, plan: Stencil, b: Builder, image: Value, zeros: Value) -> None:
        self.plan, self.b, self.image, self.zeros = plan, b, image, zeros
        self.vector = Type(plan.kind, plan.lanes)

    def tile(self, row: Value, column: Value, run: Run, lines: Sequence[int]) -> Load:
        """Loads for the tile at an output row and column."""
        plan, b = self.plan, self.b
        first = b.add(b.mul(row, plan.shape.row_step), plan.low)
        skip = b.mul(column, plan.shape.column_step)
        places: dict[int, Value] = {}
        base = b.gep(self.image, b.add(b.mul(first, plan.image_row_stride), skip), plan.kind)
        zeros = b.gep(self.zeros, skip, plan.kind) if plan.leaves_rows else base
        for line in lines:
            place = b.gep(base, line * plan.image_row_stride, plan.kind)
            if plan.leaves_rows:
                inside = b.icmp("ult", b.add(first, line), plan.shape.image_rows)
                place = b.select(inside, place, zeros)
            places[line] = place
        bases = {column: base for base, columns in plan.loads for column in columns}
        loaded: dict[tuple[int, int, int], tuple[Value, ...]] = {}

        def load(line: int, column: int, v: int) -> Value:
            key = line, bases[column], v
            if key not in loaded:
                start = v * plan.lanes * plan.shape.column_step + bases[column]
                loaded[key] = tuple(
                    self._load(b.gep(places[line], start + at, plan.kind), run.clipped(plan, start + at))
                    for at in range(0, plan.lanes * plan.shape.column_step, plan.lanes)
                )
            parts = loaded[key]
            if len(parts) == 1:
                return parts[0]
            even, odd = parts
            return b.shuffle(even, odd, range(column - bases[column], 2 * plan.lanes, 2))

        return load

    def _load(self, place: Value, bounds: tuple[int, int]) -> Value:
        """The lanes within the bounds; zeros in the others."""
        low, high = bounds
        lanes = self.plan.lanes
        if low >= high:
            return self.b.const(self.vector, 0)
        if (low, high) == (0, lanes):
            return self.b.load(place, self.vector)
        return self.b.masked_load(place, self.vector, lanes_within(lanes, low, high))


class Copied:
    """A copy whose first row is the first one that output row `origin` reads."""

    def __init__(
        self, plan: Stencil, b: Builder, plane: Plane, image: Value, memory: Value, origin: Bound
    ) -> None:
        self.plan, self.b, self.plane, self.origin = plan, b, plane, origin
        self.image, self.memory = image, memory
        self.vector = Type(plan.kind, plan.lanes)

    def tile(self, row: Value, column: Value, run: Run, lines: Sequence[int]) -> Load:
        """Loads for the tile at an output row and column, from tap column 0."""
        plan, b, plane = self.plan, self.b, self.plane
        start = b.mul(b.sub(row, self.origin), plan.shape.row_step * plane.pitch)
        place = b.gep(self.memory, b.add(start, column), plan.kind)

        def load(line: int, column: int, v: int) -> Value:
            at = line * plane.pitch + plane.column(column) + v * plan.lanes
            return b.load(b.gep(place, at, plan.kind), self.vector)

        return load

    def fill(self, end: Bound) -> None:
        """Copy what the output rows up to `end` read. Rows outside of the image are zeros; with one band a plane they
        are so from the beginning."""
        plan, plane, b = self.plan, self.plane, self.b
        if isinstance(self.origin, int):
            low = plan.low
            first: Bound = max(0, low)
            stop: Bound = min(plan.shape.image_rows, (plan.shape.rows - 1) * plan.shape.row_step + low + plan.reach + 1)
            from_: Bound = low
        else:
            from_ = b.add(b.mul(self.origin, plan.shape.row_step), plan.low)
            last = b.add(b.mul(as_value(b, end), plan.shape.row_step), plan.low + plan.reach + 1 - plan.shape.row_step)
            if plan.leaves_rows:
                for start, after in ((from_, least(b, last, 0)), (most(b, from_, plan.shape.image_rows), last)):
                    with b.loop(start, after, 1, "border") as loop:
                        place = b.gep(self.memory, b.mul(b.sub(loop.index, from_), plane.pitch), plan.kind)
                        with b.loop(0, plane.pitch, plan.lanes, "zero") as inner:
                            b.store(b.const(self.vector, 0), b.gep(place, inner.index, plan.kind))
            first, stop = most(b, from_, 0), least(b, last, plan.shape.image_rows)
        if isinstance(first, int) and isinstance(stop, int) and first >= stop:
            return
        with b.loop(first, stop, 1, "copy") as loop:
            near = b.gep(self.memory, b.mul(b.sub(loop.index, from_), plane.pitch), plan.kind)
            self._row(near, b.gep(self.image, b.mul(loop.index, plan.image_row_stride), plan.kind))

    def _row(self, near: Value, far: Value) -> None:
        plan, plane, b = self.plan, self.plane, self.b
        step = plan.lanes * plane.phases
        whole = plan.shape.image_columns // step * step
        start = 0
        if whole > UNROLLED_VECTORS * plan.lanes:
            with b.loop(0, whole, step, "move") as loop:
                at = loop.index if plane.phases == 1 else b.lshr(loop.index, 1)
                self._move(b.gep(near, at, plan.kind), b.gep(far, loop.index, plan.kind), step)
            start = whole
        for column in range(start, plan.shape.image_columns, step):
            place = b.gep(near, column // plane.phases, plan.kind)
            self._move(place, b.gep(far, column, plan.kind), plan.shape.image_columns - column)

    def _move(self, near: Value, far: Value, count: int) -> None:
        """One vector of each phase; zeros follow the `count` elements that remain of the row."""
        plan, plane, lanes, b = self.plan, self.plane, self.plan.lanes, self.b
        parts: list[Value] = []
        for at in range(0, lanes * plane.phases, lanes):
            place = b.gep(far, at, plan.kind)
            if count - at >= lanes:
                parts.append(b.load(place, self.vector))
            elif count > at:
                parts.append(b.masked_load(place, self.vector, lane_mask(lanes, count - at)))
            else:
                parts.append(b.const(self.vector, 0))
        if plane.phases == 2:
            even, odd = parts
            parts = [b.shuffle(even, odd, range(phase, 2 * lanes, 2)) for phase in (0, 1)]
        for phase, value in enumerate(parts):
            offset = phase * plane.phase_pitch + plane.lead
            b.store(value, b.gep(near, offset, plan.kind), lanes * BYTES[plan.kind])


def as_value(b: Builder, bound: Bound) -> Value:
    """A bound as an operand."""
    return bound if isinstance(bound, Value) else b.const(I64, bound)


def lanes_within(lanes: int, low: int, high: int, step: int = 1) -> Value:
    """The mask of every `step`-th lane from `low` that is below `high`."""
    used = range(low, high, step)
    return Value(f"<{', '.join(f'i1 {str(lane in used).lower()}' for lane in range(lanes))}>", Type("i1", lanes))

"""A depthwise convolution as LLVM IR, as `stencil_plan` has planned it.

    for planes (and bands of their rows), shared by threads:
        copy the band into the thread's own memory, where the image is not read in place
        for tiles of rows, for tiles of columns:
            acc[o][v] += splat(W[tap]) * X[row_step*o + tap.row][column_step*i + tap.column, i < lanes], for all taps
            run the epilogue on acc, and write it
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from graphc.program import Kernel, Program
from graphc_llvm.bodies import memory_kind
from graphc_llvm.bounds import Bound, least, most
from graphc_llvm.contraction_cost import ceil_div
from graphc_llvm.emit import I64, PTR, Builder, Module, Type, Value
from graphc_llvm.emit_types import BYTES
from graphc_llvm.kernel_code import KernelCode
from graphc_llvm.offsets import multiply_add, table_entry
from graphc_llvm.parallel import parallel_for
from graphc_llvm.stencil_finish import Finish
from graphc_llvm.stencil_match import Tap
from graphc_llvm.stencil_plan import Run, Stencil, plan_stencil
from graphc_llvm.stencil_source import Copied, InPlace, Load, as_value
from graphc_llvm.target import Target


def emit_stencil(module: Module, target: Target, program: Program, kernel: Kernel, name: str) -> KernelCode | None:
    """Emit the function of a depthwise convolution with its epilogue; None (and nothing emitted) where
    `plan_stencil` has no plan."""
    plan = plan_stencil(program, kernel, target)
    return None if plan is None else _Emitter(module, program, kernel, plan, name).emit()


class _Emitter:
    """The function of one kernel under construction."""

    def __init__(self, module: Module, program: Program, kernel: Kernel, plan: Stencil, name: str) -> None:
        self.program, self.kernel, self.plan, self.name = program, kernel, plan, name
        self.accesses = (plan.image, plan.weights, *plan.tile)
        self.buffers = tuple(dict.fromkeys(access.buffer for access in self.accesses))
        params = [(f"b{number}", PTR) for number in range(len(self.buffers))]
        self.b = module.function(name, [*params, ("workspace", PTR)], linkage="internal")
        self.vector = Type(plan.kind, plan.lanes)
        self.bytes = plan.scratch * BYTES[plan.kind]

    def emit(self) -> KernelCode:
        """The whole function."""
        plan = self.plan
        items = plan.planes * plan.parts
        live = [self.b.params[-1], *self.b.params[:-1]]
        chunk = ceil_div(items, plan.tasks)

        def body(b: Builder, task: Value, slot: Value, live: list[Value]) -> None:
            first = b.mul(task, chunk)
            stop: Bound = b.add(first, chunk)
            stop = least(b, stop, items) if items % chunk else stop
            self._items(b, b.gep(live[0], b.mul(slot, self.bytes), "i8"), live[1:], first, stop)

        if plan.tasks > 1:
            parallel_for(self.b, f"{self.name}.planes", ceil_div(items, chunk), live, body)
        else:
            self._items(self.b, live[0], live[1:], 0, items)
        self.b.ret()
        return KernelCode(self.name, self.buffers, 0, self.bytes)

    def _items(self, b: Builder, memory: Value, buffers: Sequence[Value], first: Bound, stop: Bound) -> None:
        """Bands from `first` to `stop`, in one numbering over all planes."""
        plan, kind = self.plan, self.plan.kind
        zero = b.const(self.vector, 0)
        if plan.scratch:
            with b.loop(0, plan.scratch, plan.lanes, "clear") as loop:
                b.store(zero, b.gep(memory, loop.index, kind))
        roots = dict(zip(self.buffers, buffers, strict=True))
        with b.loop(first, stop, 1, "item") as loop:
            rest, part = loop.index, None
            if plan.parts > 1:
                rest, part = b.divide_index(rest, plan.parts)
            places: list[Value | None] = [None] * len(self.accesses)
            for axis in reversed(plan.outer):
                index = rest
                if axis is not plan.outer[0]:
                    rest, index = b.divide_index(rest, axis.extent)
                for number, stride in enumerate(axis.strides):
                    if stride:
                        term, old = b.mul(index, stride), places[number]
                        places[number] = term if old is None else b.add(old, term)
            pointers: list[Value] = []
            for access, place in zip(self.accesses, places, strict=True):
                pointer = roots[access.buffer]
                element = memory_kind(access.dtype)
                pointer = pointer if place is None else b.gep(pointer, place, element)
                pointers.append(b.gep(pointer, access.const, element) if access.const else pointer)
            start: Bound = 0 if part is None else b.mul(part, plan.band)
            end: Bound = plan.row_tile_count
            if part is not None:
                end = least(b, b.add(b.mul(part, plan.band), plan.band), plan.row_tile_count)
            source: InPlace | Copied = InPlace(plan, b, pointers[0], memory)
            if plan.plane is not None:
                source = Copied(plan, b, plan.plane, pointers[0], memory, self._row_of(b, start))
                source.fill(self._row_of(b, end))
            self._tiles(b, source, pointers[1], pointers[2:], start, end)

    def _row_of(self, b: Builder, tile: Bound) -> Bound:
        """The first output row of a row tile."""
        (size, count), *rest = self.plan.row_tiles
        if isinstance(tile, int):
            return tile * size - max(0, tile - count)
        row = b.mul(tile, size)
        return b.sub(row, most(b, b.sub(tile, count), 0)) if rest else row

    # ---- the tiles -----------------------------------------------------------------------------------------

    def _tiles(
        self, b: Builder, source: InPlace | Copied, weights: Value, tile: Sequence[Value], start: Bound, end: Bound
    ) -> None:
        """The row tiles from `start` to `end` of all columns."""
        plan = self.plan
        kept: dict[int, Value] = {}
        if plan.choice.keeps_weights:
            kept = {tap.weight: self._weight(b, weights, tap.weight) for tap in plan.taps}
        before = 0
        for size, count in plan.row_tiles:
            low, high = most(b, start, before), least(b, end, before + count)
            before += count
            with b.loop(low, high, 1, "rows") as loop:
                row = as_value(b, self._row_of(b, loop.index))
                for run in plan.runs:
                    if run.count == 1:
                        column = b.const(I64, run.first * plan.lanes)
                        self._tile(b, source, weights, kept, tile, row, size, column, run)
                        continue
                    with b.loop(0, run.count, 1, "columns") as inner:
                        column = b.add(b.mul(inner.index, run.vectors * plan.lanes), run.first * plan.lanes)
                        self._tile(b, source, weights, kept, tile, row, size, column, run)

    def _tile(
        self, b: Builder, source: InPlace | Copied, weights: Value, kept: Mapping[int, Value], tile: Sequence[Value],
        row: Value, rows: int, column: Value, run: Run,
    ) -> None:
        """One tile, at an output row and column."""
        plan = self.plan
        lines = sorted({o * plan.shape.row_step + tap.row - plan.low for o in range(rows) for tap in plan.taps})
        sums = self._sums(
            b, lambda column: source.tile(row, column, run, lines), column, weights, kept, rows, run.vectors
        )
        places: list[Value] = []
        for number, access in enumerate(plan.tile):
            at = b.add(b.mul(row, plan.row_strides[number]), b.mul(column, plan.column_strides[number]))
            places.append(b.gep(tile[number], at, memory_kind(access.dtype)))
        Finish(self.program, self.kernel, plan, b, places, run).run(sums)

    def _weight(self, b: Builder, weights: Value, offset: int) -> Value:
        return b.splat(b.load(b.gep(weights, offset, self.plan.kind), self.vector.scalar()), self.plan.lanes)

    def _sums(
        self, b: Builder, load_from: Callable[[Value], Load], column: Value, weights: Value,
        kept: Mapping[int, Value], rows: int, vectors: int,
    ) -> list[Value]:
        """The sums of a tile at a column of the output, row by row."""
        plan = self.plan
        sums: list[Value | None] = [None] * (rows * vectors)
        columns = plan.tap_columns
        if not plan.choice.is_rolled:
            by_column = {taps[0].column: taps for taps in columns}
            load = load_from(column)
            for _, together in plan.loads:
                taps = [tap for at in together for tap in by_column[at]]
                splats = [kept.get(tap.weight) or self._weight(b, weights, tap.weight) for tap in taps]
                self._add(b, load, taps, splats, sums, rows, vectors)
            return [value for value in sums if value is not None]
        assert plan.plane is not None
        origin = plan.plane.column(columns[0][0].column)
        shifts = [plan.plane.column(taps[0].column) - origin for taps in columns]
        table = b.module.global_array(f"{self.name}.columns", shifts, "i32")
        offsets = b.module.global_array(f"{self.name}.weights", [taps[0].weight for taps in columns], "i32")
        zeros = [b.const(self.vector, 0)] * (rows * vectors)
        with b.loop(0, len(columns), 1, "taps", zeros) as loop:
            base = b.gep(weights, table_entry(b, offsets, loop.index), plan.kind)
            splats = [self._weight(b, base, tap.weight - columns[0][0].weight) for tap in columns[0]]
            load = load_from(b.add(column, table_entry(b, table, loop.index)))
            carried: list[Value | None] = list(loop.carried)
            self._add(b, load, columns[0], splats, carried, rows, vectors)
            loop.yield_([value for value in carried if value is not None])
        return loop.results

    def _add(
        self, b: Builder, load: Load, taps: Sequence[Tap], splats: Sequence[Value],
        sums: list[Value | None], rows: int, vectors: int,
    ) -> None:
        """Add taps that share their loads: every vector is loaded once for all the rows that it serves."""
        plan = self.plan
        users: dict[int, list[tuple[int, int, Value]]] = {}
        for row in range(rows):
            for tap, splat in zip(taps, splats, strict=True):
                line = row * plan.shape.row_step + tap.row - plan.low
                users.setdefault(line, []).append((row, tap.column, splat))
        for line in sorted(users):
            for v in range(vectors):
                loaded = {column: load(line, column, v) for column in dict.fromkeys(use[1] for use in users[line])}
                for row, column, splat in users[line]:
                    value, old = loaded[column], sums[row * vectors + v]
                    new = b.mul(splat, value) if old is None else multiply_add(b, splat, value, old)
                    sums[row * vectors + v] = new

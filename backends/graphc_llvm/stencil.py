"""A depthwise convolution as LLVM IR, as `stencil_plan` has planned it.

    for planes (and bands of their rows), shared by threads:
        copy the band into the thread's own memory
        for tiles of columns, for tiles of rows:
            acc[o][v] += splat(W[tap]) * copy[row_step*o + tap.row][tap.column + v*lanes : + lanes], for all taps
            run the epilogue on acc, and write it
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from graphc.ir import scalar as sc
from graphc.ir.node import Generic
from graphc.program import Kernel, Program
from graphc_llvm.bodies import emit_body, memory_kind
from graphc_llvm.bounds import Bound, least, most
from graphc_llvm.contraction_cost import ceil_div
from graphc_llvm.contraction_match import tile_accesses
from graphc_llvm.emit import I64, PTR, Builder, Module, Type, Value
from graphc_llvm.emit_types import BYTES
from graphc_llvm.kernel_code import KernelCode
from graphc_llvm.microkernel import lane_mask, multiply_add, table_entry
from graphc_llvm.parallel import parallel_for
from graphc_llvm.stencil_plan import Stencil, Tap, plan_stencil
from graphc_llvm.target import Target

UNROLLED_VECTORS = 8  # of a row that is copied: more are a loop
UNROLLED_OPS = 64  # of an epilogue that is written out for each vector of a tile: more are a loop over a stack tile


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
        self.numbers = {key: number for number, key in enumerate(tile_accesses(program, kernel))}
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
            if plan.plane is not None:
                self._copy(b, plan.plane, memory, pointers[0], start, end)
                source = _Copied(self, b, plan.plane, memory, self._row_of(b, start))
            else:
                source = _InPlace(self, b, memory, pointers[0])
            self._tiles(b, source, pointers[1], pointers[2:], start, end)

    # ---- the copy ------------------------------------------------------------------------------------------

    def _row_of(self, b: Builder, tile: Bound) -> Bound:
        """The first output row of a row tile."""
        (size, count), *rest = self.plan.row_tiles
        if isinstance(tile, int):
            return tile * size - max(0, tile - count)
        row = b.mul(tile, size)
        return b.sub(row, most(b, b.sub(tile, count), 0)) if rest else row

    def _copy(self, b: Builder, memory: Value, image: Value, start: Bound, end: Bound) -> None:
        """The image rows that the row tiles from `start` to `end` read. Those outside of the image are zeros; with one
        band a plane they are so from the beginning."""
        plan, plane = self.plan, self.plan.plane
        if isinstance(start, int):
            low, high = plane.low, (plan.rows - 1) * plan.row_step + plane.low + plane.reach + 1
            first, stop = max(0, low), min(plan.image_rows, high)
            origin: Bound = low
        else:
            origin = b.add(b.mul(self._value(b, self._row_of(b, start)), plan.row_step), plane.low)
            after = b.mul(self._value(b, self._row_of(b, end)), plan.row_step)
            last = b.add(after, plane.low + plane.reach + 1 - plan.row_step)
            for low_, high_ in ((origin, least(b, last, 0)), (most(b, origin, plan.image_rows), last)):
                with b.loop(low_, high_, 1, "border") as loop:
                    place = b.gep(memory, b.mul(b.sub(loop.index, origin), plane.pitch), plan.kind)
                    with b.loop(0, plane.pitch, plan.lanes, "zero") as inner:
                        b.store(b.const(self.vector, 0), b.gep(place, inner.index, plan.kind))
            first, stop = most(b, origin, 0), least(b, last, plan.image_rows)
        if isinstance(first, int) and isinstance(stop, int) and first >= stop:
            return
        with b.loop(first, stop, 1, "copy") as loop:
            near = b.gep(memory, b.mul(b.sub(loop.index, origin), plane.pitch), plan.kind)
            far = b.gep(image, b.mul(loop.index, plan.image_row_stride), plan.kind)
            self._copy_row(b, near, far)

    def _value(self, b: Builder, bound: Bound) -> Value:
        return bound if isinstance(bound, Value) else b.const(I64, bound)

    def _copy_row(self, b: Builder, near: Value, far: Value) -> None:
        plan, plane = self.plan, self.plan.plane
        step = plan.lanes * plane.phases
        whole = plan.image_columns // step * step
        done = 0
        if whole > UNROLLED_VECTORS * plan.lanes:
            with b.loop(0, whole, step, "move") as loop:
                at = b.mul(loop.index, 1) if plane.phases == 1 else b.lshr(loop.index, 1)
                self._move(b, b.gep(near, at, plan.kind), b.gep(far, loop.index, plan.kind), step)
            done = whole
        for at_column in range(done, plan.image_columns, step):
            place = b.gep(near, at_column // plane.phases, plan.kind)
            self._move(b, place, b.gep(far, at_column, plan.kind), min(step, plan.image_columns - at_column))

    def _move(self, b: Builder, near: Value, far: Value, count: int) -> None:
        """One vector of each phase; `count` elements of the image remain, zeros follow."""
        plan, plane, lanes = self.plan, self.plan.plane, self.plan.lanes
        loaded: list[Value] = []
        for at in range(0, lanes * plane.phases, lanes):
            valid, place = min(lanes, count - at), b.gep(far, at, plan.kind)
            if valid <= 0:
                loaded.append(b.const(self.vector, 0))
            elif valid == lanes:
                loaded.append(b.load(place, self.vector))
            else:
                loaded.append(b.masked_load(place, self.vector, lane_mask(lanes, valid)))
        if plane.phases == 2:
            even, odd = loaded
            loaded = [b.shuffle(even, odd, range(phase, 2 * lanes, 2)) for phase in (0, 1)]
        for phase, value in enumerate(loaded):
            offset = phase * plane.phase_pitch + plane.lead
            b.store(value, b.gep(near, offset, plan.kind), min(64, lanes * BYTES[plan.kind]))

    # ---- the tiles -----------------------------------------------------------------------------------------

    def _tiles(
        self, b: Builder, memory: Value, weights: Value, tile: Sequence[Value], start: Bound, end: Bound
    ) -> None:
        plan = self.plan
        kept: dict[int, Value] = {}
        if plan.keeps_weights:
            for tap in plan.taps:
                if tap.weight not in kept:
                    kept[tap.weight] = self._weight(b, weights, tap.weight)
        vector = 0
        for vectors, count in plan.column_tiles:
            is_cut = plan.tail < plan.lanes and (vectors, count) == plan.column_tiles[-1]
            if count > is_cut:
                with b.loop(0, count - is_cut, 1, "columns") as loop:
                    column = b.add(b.mul(loop.index, vectors * plan.lanes), vector * plan.lanes)
                    self._row_tiles(b, memory, weights, kept, tile, start, end, column, vectors, plan.lanes)
            vector += vectors * count
            if is_cut:
                column = b.const(I64, (vector - vectors) * plan.lanes)
                self._row_tiles(b, memory, weights, kept, tile, start, end, column, vectors, plan.tail)

    def _row_tiles(
        self, b: Builder, memory: Value, weights: Value, kept: Mapping[int, Value], tile: Sequence[Value],
        start: Bound, end: Bound, column: Value, vectors: int, valid: int,
    ) -> None:
        """All row tiles of one column tile; its last vector has `valid` lanes in use."""
        plan = self.plan
        origin = self._row_of(b, start)
        before = 0
        for size, count in plan.row_tiles:
            low, high = most(b, start, before), least(b, end, before + count)
            before += count
            if isinstance(low, int) and isinstance(high, int) and low >= high:
                continue
            with b.loop(low, high, 1, "rows") as loop:
                row = self._value(b, self._row_of(b, loop.index))
                offset = b.add(b.mul(b.sub(row, origin), plan.row_step * plan.plane.pitch), column)
                sums = self._sums(b, b.gep(memory, offset, plan.kind), weights, kept, size, vectors)
                places: list[Value] = []
                for number, access in enumerate(plan.tile):
                    at = b.add(b.mul(row, plan.row_strides[number]), b.mul(column, plan.column_strides[number]))
                    places.append(b.gep(tile[number], at, memory_kind(access.dtype)))
                _Finish(self, b, places, vectors, valid).run(sums)

    def _weight(self, b: Builder, weights: Value, offset: int) -> Value:
        return b.splat(b.load(b.gep(weights, offset, self.plan.kind), self.vector.scalar()), self.plan.lanes)

    def _sums(
        self, b: Builder, place: Value, weights: Value, kept: Mapping[int, Value], rows: int, vectors: int
    ) -> list[Value]:
        """The sums of a tile, row by row."""
        plan, plane = self.plan, self.plan.plane
        columns = plan.tap_columns
        sums: list[Value | None] = [None] * (rows * vectors)
        if not plan.is_rolled:
            for column in columns:
                splats = [kept.get(tap.weight) or self._weight(b, weights, tap.weight) for tap in column]
                here = b.gep(place, plane.column(column[0].column), plan.kind)
                self._column(b, here, column, splats, sums, rows, vectors)
            return [value for value in sums if value is not None]
        first = columns[0]
        table = b.module.global_array(f"{self.name}.columns", [plane.column(c[0].column) for c in columns], "i32")
        offsets = b.module.global_array(f"{self.name}.weights", [c[0].weight for c in columns], "i32")
        zeros = [b.const(self.vector, 0)] * (rows * vectors)
        with b.loop(0, len(columns), 1, "taps", zeros) as loop:
            here = b.gep(place, table_entry(b, table, loop.index), plan.kind)
            base = b.gep(weights, table_entry(b, offsets, loop.index), plan.kind)
            splats = [self._weight(b, base, tap.weight - first[0].weight) for tap in first]
            carried: list[Value | None] = list(loop.carried)
            self._column(b, here, first, splats, carried, rows, vectors)
            loop.yield_([value for value in carried if value is not None])
        return loop.results

    def _column(
        self, b: Builder, place: Value, taps: Sequence[Tap], splats: Sequence[Value], sums: list[Value | None],
        rows: int, vectors: int,
    ) -> None:
        """Add the taps of one column: every vector is loaded once for all the rows that it serves."""
        plan = self.plan
        users: dict[int, list[tuple[int, Value]]] = {}
        for row in range(rows):
            for tap, splat in zip(taps, splats, strict=True):
                users.setdefault(row * plan.row_step + tap.row - plan.plane.low, []).append((row, splat))
        for line in sorted(users):
            for v in range(vectors):
                at = line * plan.plane.pitch + v * plan.lanes
                value = b.load(b.gep(place, at, plan.kind), self.vector)
                for row, splat in users[line]:
                    old = sums[row * vectors + v]
                    new = b.mul(splat, value) if old is None else multiply_add(b, splat, value, old)
                    sums[row * vectors + v] = new


class _Finish:
    """The stages after the sum on one tile, and all writes."""

    def __init__(self, emitter: _Emitter, b: Builder, places: Sequence[Value], vectors: int, valid: int) -> None:
        self.e, self.b, self.places, self.vectors, self.valid = emitter, b, places, vectors, valid
        self.plan, self.lanes = emitter.plan, emitter.plan.lanes

    def run(self, sums: Sequence[Value]) -> None:
        """Vectors straight from registers, or, when the stages are long, in a loop over the rows of a stack tile."""
        b, plan, stages = self.b, self.plan, self.e.kernel.stages
        bodies = [stage.node.body for stage in stages[1:] if isinstance(stage.node, Generic)]
        if sum(len(sc.postorder(body)) for body in bodies) * len(sums) <= UNROLLED_OPS:
            for at, value in enumerate(sums):
                self._vector(value, b.const(I64, at // self.vectors), at % self.vectors)
            return
        tile = b.alloca(plan.kind, len(sums) * self.lanes)
        for at, value in enumerate(sums):
            b.store(value, b.gep(tile, at * self.lanes, plan.kind))
        with b.loop(0, len(sums) // self.vectors, 1, "row") as loop:
            for v in range(self.vectors):
                at_row = b.add(b.mul(loop.index, self.vectors * self.lanes), v * self.lanes)
                self._vector(b.load(b.gep(tile, at_row, plan.kind), self.e.vector), loop.index, v)

    def _vector(self, value: Value, row: Value, v: int) -> None:
        e = self.e
        values: dict[str, Value] = {}
        for number, stage in enumerate(e.kernel.stages):
            node = stage.node
            assert isinstance(node, Generic)
            if number:
                names = [e.program.root(name).name for name in stage.reads]
                reads = {
                    k: values[name] if name in values else self._load(e.numbers[number, k], row, v)
                    for k, name in enumerate(names)
                }
                value = emit_body(self.b, node.body, self.lanes, _reader(reads), _no_index, _no_bounds)
            values[e.program.root(stage.write).name] = value
            if (number, -1) in e.numbers:
                self._store(e.numbers[number, -1], value, row, v)

    def _place(self, number: int, row: Value, v: int) -> Value:
        kind = memory_kind(self.plan.tile[number].dtype)
        at = self.b.add(
            self.b.mul(row, self.plan.row_strides[number]), v * self.lanes * self.plan.column_strides[number]
        )
        return self.b.gep(self.places[number], at, kind)

    def _count(self, v: int) -> int:
        return self.valid if v == self.vectors - 1 else self.lanes

    def _load(self, number: int, row: Value, v: int) -> Value:
        b, dtype = self.b, self.plan.tile[number].dtype
        type_ = Type(memory_kind(dtype), self.lanes)
        place = self._place(number, row, v)
        if self.plan.column_strides[number] == 0:
            value = b.splat(b.load(place, type_.scalar()), self.lanes)
        elif self._count(v) < self.lanes:
            value = b.masked_load(place, type_, lane_mask(self.lanes, self._count(v)))
        else:
            value = b.load(place, type_)
        return b.icmp("ne", value, 0) if dtype == "bool" else value

    def _store(self, number: int, value: Value, row: Value, v: int) -> None:
        b, lanes, count = self.b, self.lanes, self._count(v)
        if self.plan.tile[number].dtype == "bool":
            value = b.zext(value, Type("i8", lanes))
        place = self._place(number, row, v)
        if self.plan.column_strides[number] == 1:
            if count < lanes:
                b.masked_store(value, place, lane_mask(lanes, count))
            else:
                b.store(value, place)
            return
        for half in (0, 1):  # every second element
            used = [lane % 2 == 0 and half * lanes // 2 + lane // 2 < count for lane in range(lanes)]
            if any(used):
                spread = b.shuffle(value, value, [half * lanes // 2 + lane // 2 for lane in range(lanes)])
                listed = ", ".join(f"i1 {str(one).lower()}" for one in used)
                at = b.gep(place, half * lanes, value.type.kind)
                b.masked_store(spread, at, Value(f"<{listed}>", value.type.mask()))


def _reader(reads: Mapping[int, Value]) -> Callable[[sc.Arg], Value]:
    return lambda arg: reads[arg.index]


def _no_index(axis: int) -> Value:
    raise ValueError(f"an epilogue cannot use the loop index {axis}")


def _no_bounds(test: sc.InBounds) -> Value:
    raise ValueError(f"an epilogue cannot test bounds: {test.map}")

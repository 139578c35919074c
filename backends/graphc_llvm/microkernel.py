"""The register tile of a contraction: one internal function for each size of tile.

    void tile(ptr S, ptr V, i64 start, i64 stop, [ptr ahead,] [ptr partial,
              i1 first, i1 last,] ptr access_0, ptr access_1, ...)

    acc[i][j] = 0, or the partial sums of the blocks before
    for start <= k < stop:  acc[i][j] += S[offset_s(k) + row_i] * V[offset_v(k) + j * lanes : + lanes]
    write acc to `partial`, or run the epilogue on it

All accumulators are loop-carried vectors, which is what keeps them in registers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphc.program import Kernel, Program
from graphc_llvm.emit import I1, I64, PTR, Builder, Module, Type, Value
from graphc_llvm.offsets import is_regular, lane_mask, multiply_add, step_of, table_entry
from graphc_llvm.schedule import Schedule
from graphc_llvm.tile_epilogue import Epilogue


@dataclass(frozen=True)
class TileSize:
    """`split` rows of the split axis of S, times its box, by `vectors` of V, of which the last has `valid` lanes in
    use. `packs`: V is read in place, and what is read is left in a panel (a last parameter) for the next tiles of S."""

    split: int
    vectors: int
    valid: int
    packs: bool = False


class TileEmitter:
    """Emits the tile functions of one kernel, each size once."""

    def __init__(
        self, module: Module, program: Program, kernel: Kernel, schedule: Schedule, name: str,
        accesses: dict[tuple[int, int], int],
    ) -> None:
        self.module, self.program, self.kernel, self.schedule = module, program, kernel, schedule
        self.name = name
        self.accesses = accesses  # (stage, operand or -1) to the number of the tile access
        self.first_access = 4 + schedule.prefetch + (3 if schedule.keeps_sums else 0)  # of the tile's parameters
        self.lanes = schedule.tiling.lanes
        self.vector = Type(schedule.kind, self.lanes)
        self._k_offsets: dict[int, tuple[list[int], Value | None]] = {}

    def row_offsets(self, size: TileSize, which: int) -> list[int]:
        """Where each row of the tile lies, in elements from its first, for one of an Axis's strides."""
        offsets = [i * self.schedule.s_split.strides[which] for i in range(size.split)]
        for axis in self.schedule.s_box:
            offsets = [base + i * axis.strides[which] for base in offsets for i in range(axis.extent)]
        return offsets

    def full_size(self, split: int) -> TileSize:
        """The size of a tile that is whole along the lane axis."""
        tiling = self.schedule.tiling
        return TileSize(split, 1, tiling.width) if tiling.along_k else TileSize(split, tiling.vectors, tiling.lanes)

    def function(self, size: TileSize) -> str:
        """The name of the tile function of this size; emitted on first use."""
        name = f"{self.name}.{'pack' if size.packs else 'tile'}{size.split}x{size.vectors}x{size.valid}"
        if not self.module.has_function(name):
            self._emit(name, size)
        return name

    def _emit(self, name: str, size: TileSize) -> None:
        schedule = self.schedule
        params = [("s", PTR), ("v", PTR), ("start", I64), ("stop", I64)]
        if schedule.prefetch:
            params.append(("ahead", PTR))
        if schedule.keeps_sums:
            params += [("partial", PTR), ("first", I1), ("last", I1)]
        params += [(f"a{number}", PTR) for number in range(len(schedule.tile))]
        params += [("panel", PTR)] * size.packs
        b = self.module.function(name, params, linkage="internal", attributes="noinline")
        s, v, k_start, k_stop = b.params[:4]
        places = self._places(size)
        zeros = [b.const(self.vector, 0) for _ in places]
        summed = self._sum_along_k if schedule.tiling.along_k else self._sum
        if not schedule.keeps_sums:
            self._finish(b, summed(b, s, v, k_start, k_stop, zeros, size), size)
            b.ret()
            return
        partial, first, last = b.params[self.first_access - 3 : self.first_access]
        with b.if_(b.not_(first), zeros) as branch:
            branch.yield_([b.load(b.gep(partial, at, schedule.kind), self.vector, 64) for at in places])
        sums = summed(b, s, v, k_start, k_stop, branch.results, size)

        def keep() -> None:
            for at, value in zip(places, sums, strict=True):
                b.store(value, b.gep(partial, at, schedule.kind), 64)

        if schedule.k_parts is not None:  # `finish_function` ends the tile
            keep()
            b.ret()
            return
        with b.if_else(last) as choice:
            with choice.then():
                self._finish(b, sums, size)
            with choice.otherwise():
                keep()
        b.ret()

    def _places(self, size: TileSize) -> list[int]:
        """Where each accumulator of a tile is kept."""
        columns = size.valid if self.schedule.tiling.along_k else size.vectors
        return [index * self.lanes for index in range(len(self.row_offsets(size, self.schedule.s)) * columns)]

    def finish_function(self, size: TileSize, parts: int, apart: int) -> str:
        """The name of the function (partial, accesses) that adds the sums of all parts of k, which lie `apart` elements
        from one another, in their order, and runs the epilogue."""
        name = f"{self.name}.finish{size.split}x{size.vectors}x{size.valid}"
        if self.module.has_function(name):
            return name
        schedule, kind, places = self.schedule, self.schedule.kind, self._places(size)
        params = [("partial", PTR), *((f"a{number}", PTR) for number in range(len(schedule.tile)))]
        b = self.module.function(name, params, linkage="internal", attributes="noinline")
        begin = [b.load(b.gep(b.params[0], at, kind), self.vector, 64) for at in places]
        with b.loop(1, parts, 1, "part", begin) as loop:
            here = b.gep(b.params[0], b.mul(loop.index, apart), kind)
            more = [b.load(b.gep(here, at, kind), self.vector, 64) for at in places]
            loop.yield_([b.add(total, one) for total, one in zip(loop.carried, more, strict=True)])
        self._finish(b, loop.results, size, b.params[1:])
        b.ret()
        return name

    # ---- the sum -------------------------------------------------------------------------------------------

    def _sum(
        self, b: Builder, s: Value, v: Value, k_start: Value, k_stop: Value, zeros: Sequence[Value], size: TileSize
    ) -> list[Value]:
        schedule, kind = self.schedule, self.schedule.kind
        offsets = self.row_offsets(size, schedule.s)
        if schedule.s_packed:
            offsets = list(range(len(offsets)))
        mask = self.tail_mask(size)
        if schedule.s_packed:
            s_step, s_table = -(-len(offsets) // self.lanes) * self.lanes, None
        else:
            s_step, s_table = self._k_step(schedule.s)
        if schedule.tiling.packed and not size.packs:
            v_step, v_table = size.vectors * self.lanes, None
        else:
            v_step, v_table = self._k_step(schedule.v)
        if schedule.trim is not None:
            s = s if s_table is not None else b.gep(s, b.mul(k_start, s_step), kind)
            v = v if v_table is not None else b.gep(v, b.mul(k_start, v_step), kind)
        else:
            k_start = b.const(I64, 0)
        with b.loop(k_start, k_stop, 1, "k", [s, v, *zeros]) as loop:
            s_base, v_base, *sums = loop.carried
            s_here = s_base if s_table is None else b.gep(s_base, table_entry(b, s_table, loop.index), kind)
            v_here = v_base if v_table is None else b.gep(v_base, table_entry(b, v_table, loop.index), kind)
            if schedule.prefetch:
                b.prefetch(b.gep(b.params[4], b.mul(loop.index, schedule.k[0].strides[schedule.v]), kind))
            columns: list[Value] = []
            for j in range(size.vectors):
                place = b.gep(v_here, j * self.lanes, kind)
                if mask is not None and j == size.vectors - 1 and not schedule.tiling.packed:
                    columns.append(b.masked_load(place, self.vector, mask))
                else:
                    columns.append(b.load(place, self.vector))
                if size.packs:
                    at = b.add(b.mul(loop.index, size.vectors * self.lanes), j * self.lanes)
                    b.store(columns[-1], b.gep(b.params[-1], at, kind))
            following: list[Value] = []
            for i, offset in enumerate(offsets):
                scalar = b.splat(b.load(b.gep(s_here, offset, kind), Type(kind)), self.lanes)
                for j, column in enumerate(columns):
                    following.append(multiply_add(b, scalar, column, sums[i * size.vectors + j]))
            loop.yield_([
                b.gep(s_base, s_step, kind) if s_table is None else s_base,
                b.gep(v_base, v_step, kind) if v_table is None else v_base,
                *following,
            ])
        return loop.results[2:]

    def _sum_along_k(
        self, b: Builder, s: Value, v: Value, k_start: Value, k_stop: Value, zeros: Sequence[Value], size: TileSize
    ) -> list[Value]:
        """Lanes along the last axis of k: both sides are loaded as vectors, and each pair has its own accumulator."""
        schedule, kind = self.schedule, self.schedule.kind
        rows = self.row_offsets(size, schedule.s)
        columns = [j * schedule.lane.strides[schedule.v] for j in range(size.valid)]
        whole, rest = divmod(schedule.k[-1].extent, self.lanes)
        mask = lane_mask(self.lanes, rest) if rest else None

        def base(pointer: Value, which: int, index: Value) -> Value:
            step, table = self._k_step(which)
            return b.gep(pointer, b.mul(index, step) if table is None else table_entry(b, table, index), kind)

        def step(s_here: Value, v_here: Value, sums: Sequence[Value], masked: Value | None) -> list[Value]:
            def load(pointer: Value, offset: int) -> Value:
                place = b.gep(pointer, offset, kind)
                return b.load(place, self.vector) if masked is None else b.masked_load(place, self.vector, masked)

            others = [load(v_here, offset) for offset in columns]
            following: list[Value] = []
            for i, offset in enumerate(rows):
                one = load(s_here, offset)
                for j, other in enumerate(others):
                    following.append(multiply_add(b, one, other, sums[i * len(columns) + j]))
            return following

        start = k_start if schedule.trim is not None else b.const(I64, 0)
        with b.loop(start, k_stop, 1, "k", zeros) as loop:
            s_here, v_here = base(s, schedule.s, loop.index), base(v, schedule.v, loop.index)
            sums = list(loop.carried)
            if whole:
                with b.loop(0, whole * self.lanes, self.lanes, "along", sums) as inner:
                    at_s, at_v = b.gep(s_here, inner.index, kind), b.gep(v_here, inner.index, kind)
                    inner.yield_(step(at_s, at_v, inner.carried, None))
                sums = inner.results
            if mask is not None:
                end = whole * self.lanes
                sums = step(b.gep(s_here, end, kind), b.gep(v_here, end, kind), sums, mask)
            loop.yield_(sums)
        return loop.results

    def k_offsets(self, which: int) -> tuple[list[int], Value | None]:
        """Where each k of one block lies, in elements from its first, and the table of that in memory; no table where
        the offsets are multiples of the first step."""
        known = self._k_offsets.get(which)
        if known is None:
            schedule = self.schedule
            offsets = [i * schedule.k[0].strides[which] for i in range(schedule.k_chunk)]
            for axis in schedule.k[1:-1] if schedule.tiling.along_k else schedule.k[1:]:
                offsets = [base + i * axis.strides[which] for base in offsets for i in range(axis.extent)]
            table: Value | None = None
            if not is_regular(offsets):
                table = self.module.global_array(f"{self.name}.offsets", offsets, "i32")
            known = self._k_offsets[which] = offsets, table
        return known

    def _k_step(self, which: int) -> tuple[int, Value | None]:
        """The step from one k to the next, or the table of offsets."""
        offsets, table = self.k_offsets(which)
        return step_of(offsets), table

    def tail_mask(self, size: TileSize) -> Value | None:
        """Which lanes of the last vector are in use; None when all are."""
        return None if size.valid == self.lanes else lane_mask(self.lanes, size.valid)

    # ---- the epilogue --------------------------------------------------------------------------------------

    def _finish(
        self, b: Builder, sums: Sequence[Value], size: TileSize, pointers: Sequence[Value] | None = None
    ) -> None:
        schedule = self.schedule
        pointers = b.params[self.first_access :] if pointers is None else pointers
        if schedule.tiling.along_k:
            sums = [across(b, sums[at : at + size.valid]) for at in range(0, len(sums), size.valid)]
        plain = len(self.kernel.stages) == 1 and self._is_contiguous(self.accesses[0, -1])
        if not plain:
            Epilogue(self, b, size, pointers).run(sums)
            return
        number = self.accesses[0, -1]
        mask = self.tail_mask(size)
        pointer = pointers[number]
        for i, offset in enumerate(self.row_offsets(size, 2 + number)):
            for j in range(size.vectors):
                place = b.gep(pointer, offset + j * self.lanes, schedule.kind)
                value = sums[i * size.vectors + j]
                if mask is not None and j == size.vectors - 1:
                    b.masked_store(value, place, mask)
                else:
                    b.store(value, place)

    def _is_contiguous(self, number: int) -> bool:
        return self.schedule.lane.strides[2 + number] == 1 or self.schedule.lane.extent == 1


def across(b: Builder, sums: Sequence[Value]) -> Value:
    """One vector of the sums over the lanes of each of several vectors."""
    result = b.const(sums[0].type, 0)
    for lane, value in enumerate(sums):
        result = b.insert(result, b.reduce_add(value), lane)
    return result

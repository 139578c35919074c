"""The end of a stencil's tile: the stages after the sum, and all writes."""

from __future__ import annotations

from collections.abc import Sequence

from graphc.ir import scalar as sc
from graphc.ir.node import Generic
from graphc.program import Kernel, Program
from graphc_llvm.bodies import emit_map_body, memory_kind
from graphc_llvm.contraction_match import tile_accesses
from graphc_llvm.emit import I64, Builder, Type, Value
from graphc_llvm.stencil_plan import Run, Stencil
from graphc_llvm.stencil_source import lanes_within

UNROLLED_OPS = 64  # of an epilogue that is written out for each vector of a tile: more are a loop over a stack tile


class Finish:
    """Accesses whose lanes are neighbours go to memory directly, one that does not vary along them is a scalar,
    broadcast; a lone sum may go to every second element. `places`: the tile's first element of each access."""

    def __init__(
        self, program: Program, kernel: Kernel, plan: Stencil, b: Builder, places: Sequence[Value], run: Run
    ) -> None:
        self.program, self.kernel, self.plan, self.b, self.places, self.run_ = program, kernel, plan, b, places, run
        self.numbers = {key: number for number, key in enumerate(tile_accesses(program, kernel))}
        self.vectors, self.lanes = run.vectors, plan.lanes
        self.vector = Type(plan.kind, plan.lanes)

    def run(self, sums: Sequence[Value]) -> None:
        """Vectors straight from registers, or, when the stages are long, in a loop over the rows of a stack tile."""
        b, plan, stages = self.b, self.plan, self.kernel.stages
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
                self._vector(b.load(b.gep(tile, at_row, plan.kind), self.vector), loop.index, v)

    def _vector(self, value: Value, row: Value, v: int) -> None:
        values: dict[str, Value] = {}
        for number, stage in enumerate(self.kernel.stages):
            node = stage.node
            assert isinstance(node, Generic)
            if number:
                names = [self.program.root(name).name for name in stage.reads]
                reads = {
                    k: values[name] if name in values else self._load(self.numbers[number, k], row, v)
                    for k, name in enumerate(names)
                }
                value = emit_map_body(self.b, node.body, self.lanes, reads)
            values[self.program.root(stage.write).name] = value
            if (number, -1) in self.numbers:
                self._store(self.numbers[number, -1], value, row, v)

    def _place(self, number: int, row: Value, v: int) -> Value:
        kind = memory_kind(self.plan.tile[number].dtype)
        at = self.b.add(
            self.b.mul(row, self.plan.row_strides[number]), v * self.lanes * self.plan.column_strides[number]
        )
        return self.b.gep(self.places[number], at, kind)

    def _count(self, v: int) -> int:
        return self.run_.valid if v == self.vectors - 1 else self.lanes

    def _load(self, number: int, row: Value, v: int) -> Value:
        b, dtype = self.b, self.plan.tile[number].dtype
        type_ = Type(memory_kind(dtype), self.lanes)
        place = self._place(number, row, v)
        if self.plan.column_strides[number] == 0:
            value = b.splat(b.load(place, type_.scalar()), self.lanes)
        elif self._count(v) < self.lanes:
            value = b.masked_load(place, type_, lanes_within(self.lanes, 0, self._count(v)))
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
                b.masked_store(value, place, lanes_within(lanes, 0, count))
            else:
                b.store(value, place)
            return
        for half in (0, lanes // 2):  # every second element
            high = min(lanes, 2 * (count - half))
            if high > 0:
                spread = b.shuffle(value, value, [half + lane // 2 for lane in range(lanes)])
                at = b.gep(place, 2 * half, value.type.kind)
                b.masked_store(spread, at, lanes_within(lanes, 0, high, 2))

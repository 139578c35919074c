"""The stages after the sum of a contraction, on one tile."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from graphc.ir import scalar as sc
from graphc.ir.node import Generic
from graphc_llvm.bodies import emit_body, memory_kind
from graphc_llvm.emit import Builder, Type, Value
from graphc_llvm.emit_types import BYTES
from graphc_llvm.offsets import is_regular, step_of, table_entry

if TYPE_CHECKING:
    from graphc_llvm.microkernel import TileEmitter, TileSize


class Epilogue:
    """The stages after the sum, on a tile of sums kept on the stack as [rows][width].

    Accesses whose lanes are neighbours go to memory directly; one that does not vary along the lanes is a scalar,
    broadcast; the others pass through a stack tile of their own, lane by lane.
    """

    def __init__(self, emitter: TileEmitter, b: Builder, size: TileSize, pointers: Sequence[Value]) -> None:
        self.e, self.b, self.size, self.pointers = emitter, b, size, pointers
        self.lanes = emitter.lanes
        self.width = size.vectors * self.lanes
        self.used = self.width - self.lanes + size.valid
        self.rows = len(emitter.row_offsets(size, emitter.schedule.s))
        self.mask = emitter.tail_mask(size)
        self.staged: dict[int, Value] = {}

    def run(self, sums: Sequence[Value]) -> None:
        """Emit all stages and all writes."""
        b, schedule = self.b, self.e.schedule
        tile = b.alloca(schedule.kind, self.rows * self.width)
        for at, value in enumerate(sums):
            b.store(value, b.gep(tile, at * self.lanes, schedule.kind), BYTES[schedule.kind] * self.lanes)
        writes = [(key, number) for key, number in self.e.accesses.items() if key[1] < 0]
        for key, number in self.e.accesses.items():
            if self._stride(number) not in (0, 1) or (key[1] < 0 and self._stride(number) == 0):
                if key == (0, -1):
                    self.staged[number] = tile  # the sums themselves: they are there already
                    continue
                self.staged[number] = b.alloca(self._kind(number), self.rows * self.width)
                if key[1] >= 0:
                    self._transfer(number, into=True)
        if len(self.e.kernel.stages) > 1 or len(self.staged) < len(writes):
            with b.loop(0, self.rows, 1, "row") as loop:
                for j in range(self.size.vectors):
                    self._vector(tile, loop.index, j)
        for _, number in writes:
            if number in self.staged:
                self._transfer(number, into=False)

    def _stride(self, number: int) -> int:
        lane = self.e.schedule.lane
        return lane.strides[2 + number] if lane.extent > 1 else 1

    def _kind(self, number: int) -> str:
        return memory_kind(self.e.schedule.tile[number].dtype)

    def _transfer(self, number: int, into: bool) -> None:
        """Copy between a stack tile and memory, lane by lane."""
        b, kind = self.b, self._kind(number)
        offsets = self.e.row_offsets(self.size, 2 + number)
        element = Type(kind)
        with b.loop(0, self.used, 1, "lane") as loop:
            memory = b.gep(self.pointers[number], b.mul(loop.index, self._stride(number)), kind)
            tile = b.gep(self.staged[number], loop.index, kind)
            for i, offset in enumerate(offsets):
                far, near = b.gep(memory, offset, kind), b.gep(tile, i * self.width, kind)
                if into:
                    b.store(b.load(far, element), near)
                else:
                    b.store(b.load(near, element), far)

    def _vector(self, tile: Value, row: Value, j: int) -> None:
        """All stages for one vector of the tile."""
        b, e = self.b, self.e
        here = b.add(b.mul(row, self.width), j * self.lanes)
        value = b.load(b.gep(tile, here, e.schedule.kind), e.vector)
        values: dict[str, Value] = {}
        for number, stage in enumerate(e.kernel.stages):
            node = stage.node
            assert isinstance(node, Generic)
            if number:
                names = [e.program.root(name).name for name in stage.reads]
                reads = {
                    k: values[name] if name in values else self._load(e.accesses[number, k], row, here, j)
                    for k, name in enumerate(names)
                }
                value = emit_body(b, node.body, self.lanes, _reader(reads), _no_index, _no_bounds)
            values[e.program.root(stage.write).name] = value
            if (number, -1) in e.accesses:
                self._store(e.accesses[number, -1], value, row, here, j)

    def _place(self, number: int, row: Value, j: int) -> Value:
        b, kind = self.b, self._kind(number)
        offsets = self.e.row_offsets(self.size, 2 + number)
        if is_regular(offsets):
            offset = b.mul(row, step_of(offsets))
        else:
            table = b.module.global_array(f"{self.e.name}.rows", offsets, "i32")
            offset = table_entry(b, table, row)
        lane = j * self.lanes if self._stride(number) == 1 else 0
        return b.gep(b.gep(self.pointers[number], offset, kind), lane, kind)

    def _load(self, number: int, row: Value, here: Value, j: int) -> Value:
        b, kind = self.b, self._kind(number)
        dtype = self.e.schedule.tile[number].dtype
        type_ = Type(kind, self.lanes)
        if number in self.staged:
            value = b.load(b.gep(self.staged[number], here, kind), type_)
        elif self._stride(number) == 0:
            value = b.splat(b.load(self._place(number, row, j), Type(kind)), self.lanes)
        elif self.mask is not None and j == self.size.vectors - 1:
            value = b.masked_load(self._place(number, row, j), type_, self.mask)
        else:
            value = b.load(self._place(number, row, j), type_)
        return b.icmp("ne", value, 0) if dtype == "bool" else value

    def _store(self, number: int, value: Value, row: Value, here: Value, j: int) -> None:
        b, kind = self.b, self._kind(number)
        if self.e.schedule.tile[number].dtype == "bool":
            value = b.zext(value, Type("i8", self.lanes))
        if number in self.staged:
            b.store(value, b.gep(self.staged[number], here, kind))
        elif self.mask is not None and j == self.size.vectors - 1:
            b.masked_store(value, self._place(number, row, j), self.mask)
        else:
            b.store(value, self._place(number, row, j))


def _reader(reads: Mapping[int, Value]) -> Callable[[sc.Arg], Value]:
    return lambda arg: reads[arg.index]


def _no_index(axis: int) -> Value:
    raise ValueError(f"an epilogue cannot use the loop index {axis}")


def _no_bounds(test: sc.InBounds) -> Value:
    raise ValueError(f"an epilogue cannot test bounds: {test.map}")

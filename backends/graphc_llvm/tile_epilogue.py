"""The stages after the sum of a contraction, on one tile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from graphc.ir.node import Generic
from graphc_llvm.bodies import emit_map_body, memory_kind
from graphc_llvm.contraction_pack import SQUARE_BITS, transposer
from graphc_llvm.emit import I64, Builder, Type, Value
from graphc_llvm.emit_types import BYTES
from graphc_llvm.offsets import is_regular, step_of, table_entry

if TYPE_CHECKING:
    from graphc_llvm.microkernel import TileEmitter, TileSize


class Epilogue:
    """The stages after the sum, on a tile of sums kept on the stack as [rows][width].

    Accesses whose lanes are neighbours go to memory directly; one that does not vary along the lanes is a scalar,
    broadcast; the others pass through a stack tile of their own.
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
        """Copy between a stack tile and memory, where lanes are apart: in squares that are transposed in registers
        where rows are neighbours in memory, else element by element."""
        kind = self._kind(number)
        offsets = self.e.row_offsets(self.size, 2 + number)
        square = Type(kind, min(self.lanes, SQUARE_BITS // Type(kind).bits))
        side = square.lanes
        squared = self.used // side * side if side > 1 and kind != "i8" else 0  # lanes
        runs = [run for run in neighbours(offsets) if len(run) >= side] if squared else []
        if runs:
            self._squares(number, into, square, squared, runs, offsets)
        rest = [row for row in range(self.rows) if not any(row in run for run in runs)]
        if rest and runs:
            self._elements(number, into, range(squared), rest, offsets)
        if squared < self.used or not runs:
            self._elements(number, into, range(squared if runs else 0, self.used), range(self.rows), offsets)

    def _squares(
        self, number: int, into: bool, square: Type, lanes: int, runs: Sequence[range], offsets: Sequence[int]
    ) -> None:
        """Transpose each run of rows by the first `lanes` lanes. The last square of a run that is not a multiple of its
        side overlaps the one before, so that nothing outside is touched."""
        b, kind, side, stride = self.b, self._kind(number), square.lanes, self._stride(number)
        name = transposer(b.module, square)
        far_rows = b.module.global_array("apart", [lane * stride for lane in range(side)], "i32")
        near_rows = b.module.global_array("rows", [row * self.width for row in range(side)], "i32")
        last = b.const(I64, side - 1)
        with b.loop(0, lanes, side, "square") as loop:
            memory = b.gep(self.pointers[number], b.mul(loop.index, stride), kind)
            tile = b.gep(self.staged[number], loop.index, kind)
            for run in runs:
                for row in sorted({*range(run.start, run.stop - side + 1, side), run.stop - side}):
                    far, near = b.gep(memory, offsets[row], kind), b.gep(tile, row * self.width, kind)
                    if into:
                        b.call(name, None, [far, b.const(I64, stride), near, near_rows, last])
                    else:
                        b.call(name, None, [near, b.const(I64, self.width), far, far_rows, last])

    def _elements(
        self, number: int, into: bool, lanes: range, rows: Sequence[int], offsets: Sequence[int]
    ) -> None:
        b, kind = self.b, self._kind(number)
        element = Type(kind)
        with b.loop(lanes.start, lanes.stop, 1, "lane") as loop:
            memory = b.gep(self.pointers[number], b.mul(loop.index, self._stride(number)), kind)
            tile = b.gep(self.staged[number], loop.index, kind)
            for row in rows:
                far, near = b.gep(memory, offsets[row], kind), b.gep(tile, row * self.width, kind)
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
                value = emit_map_body(b, node.body, self.lanes, reads)
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


def neighbours(offsets: Sequence[int]) -> list[range]:
    """The longest ranges of positions whose offsets follow one another without a gap."""
    starts = [at for at, offset in enumerate(offsets) if at == 0 or offset != offsets[at - 1] + 1]
    return [range(start, stop) for start, stop in zip(starts, [*starts[1:], len(offsets)], strict=True)]

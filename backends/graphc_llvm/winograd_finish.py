"""From the products of Winograd's algorithm to what is stored: the transform back, and the stages after the sum."""

from __future__ import annotations

from collections.abc import Mapping

from graphc.ir.node import Generic
from graphc.program import Kernel, Program
from graphc_llvm.bodies import emit_map_body, memory_kind
from graphc_llvm.emit import I64, Builder, Type, Value
from graphc_llvm.offsets import lane_mask
from graphc_llvm.winograd_functions import each, output_function
from graphc_llvm.winograd_match import Convolution
from graphc_llvm.winograd_plan import OUTPUTS, WinogradPlan


class Finish:
    """Emits the outputs of one tile row of one channel."""

    def __init__(self, program: Program, kernel: Kernel, conv: Convolution, plan: WinogradPlan) -> None:
        self.program, self.kernel, self.conv, self.plan = program, kernel, conv, plan
        self.vector = Type(plan.kind, plan.lanes)
        self.accesses = dict(conv.accesses)
        self.is_plain = len(kernel.stages) == 1

    def row(
        self, b: Builder, roots: Mapping[str, Value], index: tuple[Value, Value, Value], m: Value, plane: int
    ) -> None:
        """Two rows of outputs at (image, channel, first row) from the products that stand at `m`, a plane for each
        point: whole vectors in a loop, then what is left."""
        whole, rest = divmod(self.conv.width, OUTPUTS * self.plan.lanes)
        starts = {key: self._start(b, roots, key, index) for key in self.accesses}
        if whole:
            with each(b, whole, "whole") as number:
                place = b.gep(m, b.mul(number, self.plan.lanes), self.plan.kind)
                column = b.mul(number, OUTPUTS * self.plan.lanes)
                self._tiles(b, place, plane, starts, column, index[2], OUTPUTS * self.plan.lanes)
        if rest:
            place = b.gep(m, whole * self.plan.lanes, self.plan.kind)
            column = b.const(I64, whole * OUTPUTS * self.plan.lanes)
            self._tiles(b, place, plane, starts, column, index[2], rest)

    def _start(
        self, b: Builder, roots: Mapping[str, Value], key: tuple[int, int], index: tuple[Value, Value, Value]
    ) -> Value:
        one = self.accesses[key]
        offset = b.const(I64, one.const)
        for position, stride in zip(index, self.conv.offsets(one)[:3], strict=True):
            if stride:
                offset = b.add(offset, b.mul(position, stride))
        return b.gep(roots[one.buffer], offset, memory_kind(one.dtype))

    def _tiles(
        self, b: Builder, m: Value, plane: int, starts: Mapping[tuple[int, int], Value], column: Value, top: Value,
        used: int,
    ) -> None:
        """The outputs of one vector of tiles, of which `used` columns are stored. Only whole vectors of plain outputs
        go to memory directly."""
        lanes, kind, height = self.plan.lanes, self.plan.kind, self.conv.height
        transform = output_function(b.module, self.vector)
        width = OUTPUTS * lanes
        if self.is_plain and used == width and height % OUTPUTS == 0:
            result = self.accesses[0, -1]
            target = b.gep(starts[0, -1], column, kind)
            b.call(transform, None, [m, b.const(I64, plane), target, b.const(I64, self.conv.offsets(result)[2])])
            return
        near = b.alloca(kind, OUTPUTS * width)
        b.call(transform, None, [m, b.const(I64, plane), near, b.const(I64, width)])
        rows: Value | int = OUTPUTS
        if height % OUTPUTS:
            left = b.sub(height, top)
            rows = b.select(b.icmp("slt", left, OUTPUTS), left, OUTPUTS, I64)
        with b.loop(0, rows, 1, "row") as loop:
            here = b.gep(near, b.mul(loop.index, width), kind)
            for j in range(OUTPUTS):
                valid = min(lanes, used - j * lanes)
                if valid > 0:
                    mask = None if valid == lanes else lane_mask(lanes, valid)
                    value = b.load(b.gep(here, j * lanes, kind), self.vector)
                    self._stages(b, value, starts, b.add(column, j * lanes), loop.index, mask)

    def _stages(
        self, b: Builder, value: Value, starts: Mapping[tuple[int, int], Value], column: Value, i: Value,
        mask: Value | None,
    ) -> None:
        """All stages for one vector of outputs, in row i of its tiles."""
        values: dict[str, Value] = {}

        def place(key: tuple[int, int]) -> Value:
            one = self.accesses[key]
            kind = memory_kind(one.dtype)
            pointer = starts[key]
            _, _, down, along = self.conv.offsets(one)
            if down:
                pointer = b.gep(pointer, b.mul(i, down), kind)
            return b.gep(pointer, column, kind) if self._is_row(along) else pointer

        for number, stage in enumerate(self.kernel.stages):
            node = stage.node
            assert isinstance(node, Generic)
            if number:
                names = [self.program.root(name).name for name in stage.reads]
                reads = {
                    j: values[name] if name in values else self._load(b, (number, j), place((number, j)), mask)
                    for j, name in enumerate(names)
                }
                value = emit_map_body(b, node.body, self.plan.lanes, reads)
            values[self.program.root(stage.write).name] = value
            key = number, -1
            if key in self.accesses:
                stored = b.zext(value, Type("i8", self.plan.lanes)) if value.type.kind == "i1" else value
                if mask is None:
                    b.store(stored, place(key))
                else:
                    b.masked_store(stored, place(key), mask)

    def _is_row(self, along: int) -> bool:
        return along == 1 or self.conv.width == 1

    def _load(self, b: Builder, key: tuple[int, int], place: Value, mask: Value | None) -> Value:
        one = self.accesses[key]
        kind = memory_kind(one.dtype)
        vector = Type(kind, self.plan.lanes)
        if not self._is_row(self.conv.offsets(one)[3]):
            value = b.splat(b.load(place, Type(kind)), self.plan.lanes)
        elif mask is None:
            value = b.load(place, vector)
        else:
            value = b.masked_load(place, vector, mask)
        return b.icmp("ne", value, 0) if one.dtype == "bool" else value

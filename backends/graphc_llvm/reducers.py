"""Reductions: how values are combined, lane by lane and across lanes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from graphc.ir.dtypes import identity_of
from graphc.ir.extent import ints
from graphc.ir.node import Generic
from graphc_llvm.bodies import KINDS, value_type
from graphc_llvm.emit import Builder, Value


@dataclass(frozen=True)
class Reducer:
    """sum, prod, max and min carry one value; argmax and argmin carry the extreme and its position."""

    name: str
    dtype: str
    position: str = "int64"  # the dtype of positions while they are compared

    @property
    def needs_position(self) -> bool:
        return self.name.startswith("arg")

    @property
    def width(self) -> int:
        """The number of values carried."""
        return 2 if self.needs_position else 1

    @property
    def identity_number(self) -> float | int:
        """What combines to nothing."""
        if self.needs_position:
            return -1
        return identity_of(self.name, self.dtype)

    def start(self, b: Builder, lanes: int) -> list[Value]:
        """The values before the first point."""
        type_ = value_type(self.dtype, lanes)
        if self.needs_position:
            return [b.const(type_, 0), self._no_position(b, lanes)]
        return [b.const(type_, self.identity_number)]

    def _no_position(self, b: Builder, lanes: int) -> Value:
        return b.const(value_type(self.position, lanes), -1)

    def combine(
        self,
        b: Builder,
        carried: Sequence[Value],
        value: Value,
        mask: Value | None,
        position: Value | None,
        in_order: bool = False,
        ascends: bool = True,
    ) -> list[Value]:
        """One more point; nothing changes in the lanes where the mask is false. `in_order`: the points are emitted one
        after another, the first of them first, and none has a mask. `ascends`: each point comes behind those before it;
        otherwise, of two extremes the one is taken whose position is less."""
        if self.needs_position:
            assert position is not None
            if in_order and carried[1].text == self._no_position(b, value.type.lanes).text:
                return [value, position]
            take = self._beats(b, value, carried[0])
            if not ascends:
                equal = b.not_(b.or_(take, self._beats(b, carried[0], value)))
                take = b.or_(take, b.and_(equal, b.icmp("slt", position, carried[1])))
            if not in_order:
                take = b.or_(b.icmp("slt", carried[1], 0), take)
            if mask is not None:
                take = b.and_(take, mask)
            return [b.select(take, value, carried[0]), b.select(take, position, carried[1])]
        if mask is not None:
            value = b.select(mask, value, b.const(value.type, self.identity_number))
        return [self._join(b, carried[0], value)]

    def result(self, b: Builder, values: Sequence[Value]) -> Value:
        """What is stored."""
        last = values[-1]
        return b.sext(last, value_type("int64", last.type.lanes)) if self.position == "int32" else last

    def fold(self, b: Builder, values: Sequence[Value]) -> Value:
        """The lanes combined in a fixed tree: upper half onto lower half."""
        if not self.needs_position:
            return b.reduce(values[0], lambda low, high: self._join(b, low, high))
        best, where = values
        lanes = best.type.lanes
        while lanes > 1:
            half = lanes // 2
            low, high = range(half), range(half, lanes)
            poison, poison_index = Value("poison", best.type), Value("poison", where.type)
            a, c = b.shuffle(best, poison, low), b.shuffle(best, poison, high)
            at, ct = b.shuffle(where, poison_index, low), b.shuffle(where, poison_index, high)
            earlier = b.and_(b.not_(self._beats(b, a, c)), b.icmp("slt", ct, at))
            take = b.or_(self._beats(b, c, a), earlier)
            take = b.and_(b.icmp("sge", ct, 0), b.or_(b.icmp("slt", at, 0), take))
            best, where = b.select(take, c, a), b.select(take, ct, at)
            lanes = half
        return self.result(b, [b.extract(where, 0)])

    def _beats(self, b: Builder, new: Value, old: Value) -> Value:
        """Strictly more extreme; NaN beats everything but NaN."""
        greater = self.name in ("argmax", "max")
        if self.dtype.startswith("float"):  # unordered comparisons hold for NaN
            return b.and_(b.fcmp("ugt" if greater else "ult", new, old), b.fcmp("ord", old, old))
        sign = "u" if self.dtype in ("bool", "uint32") else "s"
        return b.icmp(sign + ("gt" if greater else "lt"), new, old)

    def _join(self, b: Builder, a: Value, c: Value) -> Value:
        if self.name == "sum":
            return b.or_(a, c) if KINDS[self.dtype] == "i1" else b.add(a, c)
        if self.name == "prod":
            return b.and_(a, c) if KINDS[self.dtype] == "i1" else b.mul(a, c)
        if self.dtype.startswith("float"):
            return b.maximum(a, c) if self.name == "max" else b.minimum(a, c)
        return b.select(self._beats(b, c, a), c, a)


def reducer_of(node: Generic) -> Reducer:
    """The reducer of a Generic that has one."""
    assert node.reducer is not None
    if not node.reducer.startswith("arg"):
        return Reducer(node.reducer, node.body.dtype)
    positions = prod(ints(node.domain)[axis] for axis in node.reduced_axes)
    return Reducer(node.reducer, node.body.dtype, "int32" if positions < 2**31 else "int64")

"""Where a read or write lies: flat element offsets of affine maps, and the bounds that remain to be tested.

`Cursor` follows a loop nest: as each loop axis gets its index, the offsets of all accesses advance, so that the
innermost loop adds one product instead of summing over all axes. One axis may be the vector axis, whose index is that
of the first lane.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from graphc.ir.affine import Affine, AffineMap, affine
from graphc_llvm.bodies import memory_kind, value_type
from graphc_llvm.emit import I32, I64, Builder, Type, Value

Terms = tuple[tuple[int, int], ...]  # of an affine expression: axes and their coefficients

MOST_SPREAD = 4  # elements between two lanes up to which a row is loaded whole, to take the lanes' elements out of it
NARROW = 1 << 30
"""Extents below this are tested in 32 bits: twice as many lanes to a register."""
INTERLEAVED = (2, 4)  # elements between two lanes for which that is done with stores


def flat_offset(index_map: AffineMap, strides: Sequence[int]) -> Affine:
    """The element offset as one affine expression of the loop axes."""
    total: dict[int, int] = {}
    const = 0
    for row, stride in zip(index_map.rows, strides, strict=True):
        assert isinstance(row.const, int)
        const += row.const * stride
        for axis, coefficient in row.terms:
            total[axis] = total.get(axis, 0) + coefficient * stride
    return affine(total, const)


def open_bounds(index_map: AffineMap, shape: Sequence[int], domain: Sequence[int]) -> list[tuple[Affine, int]]:
    """The rows that can leave their axis somewhere in the domain, with the axis's extent."""
    found: list[tuple[Affine, int]] = []
    for row, extent in zip(index_map.rows, shape, strict=True):
        if not AffineMap(index_map.rank, (row,)).stays_inside(tuple(domain), (extent,)):
            found.append((row, extent))
    return found


@dataclass(frozen=True, eq=False)
class Waiting:
    """A store whose lanes lie `step` elements apart, from the element `base` + `const` on."""

    pointer: Value
    kind: str
    offset: Affine
    const: int
    base: Value | None
    step: int
    value: Value

    def follows(self, other: Waiting, distance: int) -> bool:
        """Whether it writes the elements so many places behind the other's."""
        same = (self.pointer.text, self.kind, self.step) == (other.pointer.text, other.kind, other.step)
        bases = [None if base is None else base.text for base in (self.base, other.base)]
        return same and bases[0] == bases[1] and self.const == other.const + distance


class Cursor:
    """The indices of a loop nest and the offsets that follow them.

    `lanes` is 0 for scalar code; `rest`: of how many lanes there are elements, at the end of the vector axis (None: of
    all). Stores that lie a few elements apart wait for `flush`, so that their neighbours can join them.
    """

    def __init__(self, b: Builder, vector_axis: int | None, lanes: int) -> None:
        self.b = b
        self.vector_axis = vector_axis
        self.lanes = lanes
        self.rest: int | None = None
        self._waiting: list[Waiting] = []
        self.indices: dict[int, Value] = {}
        self._offsets: dict[Terms, tuple[int, Value | None]] = {}

    def follow(self, expressions: Sequence[Affine]) -> None:
        """Keep these affine expressions up to date as axes are bound; those that differ by a constant are one."""
        for expression in expressions:
            if expression.terms not in self._offsets:
                base: Value | None = None
                for axis, index in self.indices.items():
                    base = self._advance(base, expression.terms, axis, index)
                self._offsets[expression.terms] = (0, base)

    @contextmanager
    def bind(self, axis: int, index: Value | int) -> Iterator[None]:
        """Inside the block the axis has this index."""
        saved = dict(self._offsets)
        for terms, (const, base) in saved.items():
            if isinstance(index, int):
                self._offsets[terms] = (const + dict(terms).get(axis, 0) * index, base)
            else:
                self._offsets[terms] = (const, self._advance(base, terms, axis, index))
        self.indices[axis] = self.b.const(I64, index) if isinstance(index, int) else index
        yield
        del self.indices[axis]
        self._offsets = saved

    def _advance(self, base: Value | None, terms: Terms, axis: int, index: Value) -> Value | None:
        coefficient = dict(terms).get(axis, 0)
        if not coefficient:
            return base
        term = index if coefficient == 1 else self.b.mul(index, coefficient)
        return term if base is None else self.b.add(base, term)

    def _place(self, expression: Affine) -> tuple[int, Value | None]:
        """The constant and the varying part of an expression at the current indices."""
        assert isinstance(expression.const, int)
        const, base = self._offsets[expression.terms]
        return expression.const + const, base

    @property
    def tail(self) -> Value | None:
        """A mask of the lanes that have elements; None: all do."""
        return None if self.rest is None else prefix(self.rest, self.lanes)

    def value(self, expression: Affine) -> Value:
        """The expression at the current indices (of the first lane), i64; it must be followed."""
        const, base = self._place(expression)
        if base is None:
            return self.b.const(I64, const)
        return self.b.add(base, const) if const else base

    def lane_values(self, expression: Affine) -> Value:
        """The expression in every lane."""
        first = self.value(expression)
        if not self.lanes:
            return first
        step = 0 if self.vector_axis is None else expression.coefficient(self.vector_axis)
        spread = self.b.splat(first, self.lanes)
        if not step:
            return spread
        iota = self.b.iota("i64", self.lanes)
        return self.b.add(spread, self.b.mul(iota, step) if step != 1 else iota)

    def index(self, axis: int) -> Value:
        """A loop index in every lane."""
        index = self.indices[axis]
        if not self.lanes:
            return index
        spread = self.b.splat(index, self.lanes)
        return self.b.add(spread, self.b.iota("i64", self.lanes)) if axis == self.vector_axis else spread

    def inside(self, bounds: Sequence[tuple[Affine, int]]) -> Value | None:
        """Whether all rows lie in [0, extent), in every lane; None when nothing needs a test."""
        result: Value | None = None
        for row, extent in bounds:
            # one unsigned comparison tests both ends: a negative index is a huge unsigned number
            varies = self.vector_axis is not None and row.coefficient(self.vector_axis) != 0
            if varies and self.lanes and extent < NARROW:
                place = self._narrow_lanes(row)
            else:
                place = self.lane_values(row) if varies and self.lanes else self.value(row)
            test = self.b.icmp("ult", place, extent)
            if not test.type.lanes and self.lanes:
                test = self.b.splat(test, self.lanes)
            result = test if result is None else self.b.and_(result, test)
        return result

    def _narrow_lanes(self, row: Affine) -> Value:
        """The row in every lane as i32: right where it lies in [0, NARROW), outside of that elsewhere."""
        b, first = self.b, self.value(row)
        for bound, outside in ((-NARROW, "slt"), (NARROW, "sgt")):
            first = b.select(b.icmp(outside, first, bound), b.const(I64, bound), first)
        assert self.vector_axis is not None
        step = row.coefficient(self.vector_axis)
        lanes = b.iota("i32", self.lanes)
        return b.add(b.splat(b.trunc(first, I32), self.lanes), b.mul(lanes, step) if step != 1 else lanes)

    def _step(self, offset: Affine) -> int:
        return 0 if self.vector_axis is None or not self.lanes else offset.coefficient(self.vector_axis)

    def load(self, pointer: Value, dtype: str, offset: Affine, inside: Value | None) -> Value:
        """Read an element in every lane; 0 where `inside` is false, and nothing is read there."""
        b, kind = self.b, memory_kind(dtype)
        step = self._step(offset)
        if self.lanes and step:
            type_ = Type(kind, self.lanes)
            mask = _both(b, inside, self.tail)
            if step == 1:
                place = b.gep(pointer, self.value(offset), kind)
                loaded = b.load(place, type_) if mask is None else b.masked_load(place, type_, mask)
            elif 1 < step <= MOST_SPREAD:
                loaded = self._load_spread(b.gep(pointer, self.value(offset), kind), type_, step, inside)
            else:
                places = b.gep(pointer, self.lane_values(offset), kind)
                loaded = b.gather(places, type_, mask)
            return self._from_memory(loaded, dtype)
        where = self.value(offset)
        if inside is None:
            scalar = self._from_memory(b.load(b.gep(pointer, where, kind), Type(kind)), dtype)
            return b.splat(scalar, self.lanes)
        any_inside = b.any_(inside) if self.lanes else inside
        with b.if_(any_inside, [b.const(Type(kind), 0)]) as branch:
            branch.yield_([b.load(b.gep(pointer, where, kind), Type(kind))])
        value = b.splat(self._from_memory(branch.results[0], dtype), self.lanes)
        return b.select(inside, value, b.const(value.type, 0)) if self.lanes else value

    def store(self, pointer: Value, dtype: str, offset: Affine, value: Value) -> None:
        """Write an element from every lane that is not masked; along an axis the offset must vary with it."""
        b, kind = self.b, memory_kind(dtype)
        value = self._to_memory(value, dtype)
        if not self.lanes:
            b.store(value, b.gep(pointer, self.value(offset), kind))
            return
        step = self._step(offset)
        if step == 1:
            self._store_row(value, b.gep(pointer, self.value(offset), kind), self.rest)
        elif step in INTERLEAVED:
            self._waiting.append(Waiting(pointer, kind, offset, *self._place(offset), step, value))
        else:
            self._scatter(value, b.gep(pointer, self.lane_values(offset), kind), kind)

    def flush(self) -> None:
        """Emit the stores that wait: neighbours interleaved, others element by element."""
        b, waiting = self.b, self._waiting
        self._waiting = []
        while waiting:
            first = min(waiting, key=lambda one: one.const)
            row = [
                next((one for one in waiting if one.follows(first, distance)), None) for distance in range(first.step)
            ]
            found = [one for one in row if one is not None]
            if len(found) < first.step:
                found = [first]
                places = b.gep(first.pointer, self.lane_values(first.offset), first.kind)
                self._scatter(first.value, places, first.kind)
            else:
                place = b.gep(first.pointer, self.value(first.offset), first.kind)
                rest = None if self.rest is None else self.rest * first.step
                self._store_row(_interleaved(b, [one.value for one in found]), place, rest)
            waiting = [one for one in waiting if one not in found]

    def _load_spread(self, place: Value, type_: Type, step: int, inside: Value | None) -> Value:
        """Elements `step` apart: what lies between is loaded, too, but nothing behind the last one, and nothing but the
        elements themselves where some of them are outside."""
        b = self.b
        needed = step * ((self.rest or self.lanes) - 1) + 1
        row = Type(type_.kind, step * self.lanes)
        mask = prefix(needed, row.lanes)
        if inside is not None:
            own = _both(b, inside, self.tail)
            assert own is not None
            none = b.const(own.type, 0)
            mask = b.shuffle(own, none, [n // step if n % step == 0 else self.lanes for n in range(row.lanes)])
        loaded = b.masked_load(place, row, mask)
        return b.shuffle(loaded, Value("poison", row), range(0, row.lanes, step))

    def _store_row(self, value: Value, place: Value, rest: int | None) -> None:
        if rest is None:
            self.b.store(value, place)
        else:
            self.b.masked_store(value, place, prefix(rest, value.type.lanes))

    def _scatter(self, value: Value, places: Value, kind: str) -> None:
        b = self.b
        mask = self.tail if self.tail is not None else b.const(value.type.mask(), 1)
        name = f"llvm.masked.scatter.{value.type.suffix}.{places.type.suffix}"
        b.module.declare(name, "void", [value.type.text, places.type.text, "i32", mask.type.text])
        size = Type(kind).bits // 8
        b.lines.append(
            f"  call void @{name}({value.type.text} {value.text}, {places.type.text} {places.text}, "
            f"i32 {size}, {mask.type.text} {mask.text})"
        )

    def _from_memory(self, value: Value, dtype: str) -> Value:
        return self.b.icmp("ne", value, 0) if dtype == "bool" else value

    def _to_memory(self, value: Value, dtype: str) -> Value:
        return self.b.zext(value, Type("i8", value.type.lanes)) if dtype == "bool" else value


def prefix(count: int, lanes: int) -> Value:
    """A mask of the first `count` lanes."""
    bits = ", ".join(f"i1 {int(lane < count)}" for lane in range(lanes))
    return Value(f"<{bits}>", Type("i1", lanes))


def _interleaved(b: Builder, rows: list[Value]) -> Value:
    """Lane 0 of each row, then lane 1 of each, and so on; as many rows as a power of two."""
    while len(rows) > 1:
        half, lanes = len(rows) // 2, rows[0].type.lanes
        order = [lane // 2 + lanes * (lane % 2) for lane in range(2 * lanes)]
        rows = [b.shuffle(one, other, order) for one, other in zip(rows[:half], rows[half:], strict=True)]
    return rows[0]


def _both(b: Builder, one: Value | None, other: Value | None) -> Value | None:
    if one is None or other is None:
        return one if other is None else other
    return b.and_(one, other)


def zero(b: Builder, dtype: str, lanes: int) -> Value:
    """0 of a dtype."""
    return b.const(value_type(dtype, lanes), 0)

"""Affine index maps: from a point of a loop domain to a point of an array.

>>> window = AffineMap(2, (affine({0: 2, 1: 1}, -1),))
>>> print(window)
(i, j) -> (2*i + j - 1)
>>> window.range_of((4, 3))          # least and greatest value of each row over the box 4 x 3
((-1, 7),)

Coefficients are ints; the constant of a row may be a symbolic extent, as in `x[N-1-i]`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from graphc.ir.extent import Extent, Shape, evaluate
from graphc.ir.intern import Interned

AXIS_NAMES = "ijklmnpqrstuvwxyzabcdefgh"


def axis_name(axis: int) -> str:
    """The letter that prints for a loop axis: i, j, k, ..."""
    return AXIS_NAMES[axis] if axis < len(AXIS_NAMES) else f"i{axis}"


@dataclass(frozen=True, eq=False, slots=True, weakref_slot=True)
class Affine(metaclass=Interned):
    """const + the sum of coefficient * axis; `terms` holds (axis, coefficient) by axis, no coefficient is 0."""

    terms: tuple[tuple[int, int], ...]
    const: Extent
    digest: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        const = self.const if isinstance(self.const, int) else self.const.digest
        object.__setattr__(self, "digest", hash((self.terms, const)))

    @property
    def single_axis(self) -> int | None:
        """The axis, when the row is that axis alone with coefficient 1 and no constant."""
        if len(self.terms) == 1 and self.terms[0][1] == 1 and self.const == 0:
            return self.terms[0][0]
        return None

    def coefficient(self, axis: int) -> int:
        for candidate, coefficient in self.terms:
            if candidate == axis:
                return coefficient
        return 0

    def plus(self, other: Affine, scale: int = 1) -> Affine:
        total = dict(self.terms)
        for axis, coefficient in other.terms:
            total[axis] = total.get(axis, 0) + scale * coefficient
        return affine(total, self.const + other.const * scale)

    def substitute(self, rows: Sequence[Affine]) -> Affine:
        """Put rows[axis] in place of each axis."""
        axis = self.single_axis
        if axis is not None:
            return rows[axis]
        total: dict[int, int] = {}
        const = self.const
        for axis, coefficient in self.terms:
            row = rows[axis]
            for inner, factor in row.terms:
                total[inner] = total.get(inner, 0) + coefficient * factor
            const = const + row.const * coefficient
        return affine(total, const)

    def text(self, names: Sequence[str] | None = None) -> str:
        parts: list[str] = []
        for axis, coefficient in self.terms:
            name = names[axis] if names is not None else axis_name(axis)
            factor = name if abs(coefficient) == 1 else f"{abs(coefficient)}*{name}"
            sign = ("- " if coefficient < 0 else "+ ") if parts else ("-" if coefficient < 0 else "")
            parts.append(sign + factor)
        if not isinstance(self.const, int):
            parts.append(f"+ {self.const}" if parts else str(self.const))
        elif self.const or not parts:
            sign = ("- " if self.const < 0 else "+ ") if parts else ("-" if self.const < 0 else "")
            parts.append(f"{sign}{abs(self.const)}")
        return " ".join(parts)

    def __str__(self) -> str:
        return self.text()


def affine(terms: Mapping[int, int], const: Extent = 0) -> Affine:
    """The row with these coefficients by axis."""
    return Affine(tuple(sorted((a, c) for a, c in terms.items() if c)), const)


@lru_cache(maxsize=256)
def axis_row(axis: int) -> Affine:
    """The row that is one axis."""
    return Affine(((axis, 1),), 0)


ZERO = Affine((), 0)


@dataclass(frozen=True, eq=False, slots=True, weakref_slot=True)
class AffineMap(metaclass=Interned):
    """A map from a domain of `rank` axes to an array of len(rows) axes."""

    rank: int
    rows: tuple[Affine, ...]
    digest: int = field(init=False, repr=False)
    is_identity: bool = field(init=False, repr=False)
    projection: tuple[int, ...] | None = field(init=False, repr=False)
    """The axes that the rows are, when each row is a different axis and nothing else."""
    axes: frozenset[int] = field(init=False, repr=False)
    """The axes that some row reads."""

    def __post_init__(self) -> None:
        single = [row.single_axis for row in self.rows]
        plain = None not in single and len(set(single)) == len(single)
        projection = tuple(axis for axis in single if axis is not None) if plain else None
        object.__setattr__(self, "digest", hash((self.rank, *(row.digest for row in self.rows))))
        object.__setattr__(self, "is_identity", projection == tuple(range(self.rank)))
        object.__setattr__(self, "projection", projection)
        object.__setattr__(self, "axes", frozenset(axis for row in self.rows for axis, _ in row.terms))

    def compose(self, inner: AffineMap) -> AffineMap:
        """d -> self(inner(d))."""
        if self.is_identity:
            return inner
        return AffineMap(inner.rank, tuple(row.substitute(inner.rows) for row in self.rows))

    def renumber(self, rank: int, axes: Sequence[int]) -> AffineMap:
        """Axis a becomes axes[a], in a domain of `rank` axes."""
        rows = tuple(affine({axes[a]: c for a, c in row.terms}, row.const) for row in self.rows)
        return AffineMap(rank, rows)

    def evaluate(self, sizes: Mapping[str, int]) -> AffineMap:
        """Put numbers in place of named dimensions."""
        if all(isinstance(row.const, int) for row in self.rows):
            return self
        return AffineMap(self.rank, tuple(Affine(row.terms, evaluate(row.const, sizes)) for row in self.rows))

    def range_of(self, domain: Shape) -> tuple[tuple[int, int] | None, ...]:
        """Least and greatest value of each row over a box that is not empty; None where an extent is symbolic."""
        return tuple(_row_range(row, domain) for row in self.rows)

    def stays_inside(self, domain: Shape, shape: Shape) -> bool:
        """True when every point of `domain` provably maps inside an array of `shape`."""
        if any(extent == 0 for extent in domain):
            return True
        for row, extent in zip(self.rows, shape, strict=True):
            axis = row.single_axis
            if axis is not None and domain[axis] is extent:
                continue
            if axis is not None and domain[axis] == extent:
                continue
            bounds = _row_range(row, domain)
            if bounds is None:
                if not _symbolic_inside(row, domain, extent):
                    return False
            elif bounds[0] < 0 or not isinstance(extent, int) or bounds[1] >= extent:
                if not (bounds[0] >= 0 and not isinstance(extent, int) and _symbolic_inside(row, domain, extent)):
                    return False
        return True

    def __str__(self) -> str:
        axes = ", ".join(axis_name(axis) for axis in range(self.rank))
        return f"({axes}) -> ({', '.join(str(row) for row in self.rows)})"


def _row_range(row: Affine, domain: Shape) -> tuple[int, int] | None:
    if not isinstance(row.const, int):
        return None
    low = high = row.const
    for axis, coefficient in row.terms:
        extent = domain[axis]
        if not isinstance(extent, int):
            return None
        span = coefficient * (extent - 1)
        low, high = (low, high + span) if coefficient > 0 else (low + span, high)
    return low, high


def _symbolic_inside(row: Affine, domain: Shape, extent: Extent) -> bool:
    """Least value is a known number >= 0, and extent - 1 - greatest value is a known number >= 0."""
    low: Extent = row.const
    high: Extent = row.const
    for axis, coefficient in row.terms:
        span = (domain[axis] - 1) * coefficient
        low, high = (low, high + span) if coefficient > 0 else (low + span, high)
    room = extent - 1 - high
    return isinstance(low, int) and low >= 0 and isinstance(room, int) and room >= 0


@lru_cache(maxsize=64)
def identity(rank: int) -> AffineMap:
    """The identity map of `rank` axes."""
    return AffineMap(rank, tuple(axis_row(axis) for axis in range(rank)))

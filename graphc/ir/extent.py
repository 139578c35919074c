"""Extents: the size of an axis, an int or an integer polynomial in named dimensions.

>>> n = dimension("N")
>>> n + n - 3
2*N - 3
>>> (2 * n + 4) // 2
N + 2
>>> evaluate(parse_extent("(L-K)//2+1"), {"L": 9, "K": 3})
4

A floor division that does not come out even is an atom of its own, equal to itself alone. Two extents are the same
when they are the same polynomial; nothing is assumed about the size of a dimension but that it is not negative.
"""

from __future__ import annotations

import ast
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from graphc.ir.intern import Interned


@dataclass(frozen=True, eq=False, slots=True, weakref_slot=True)
class FloorQuotient(metaclass=Interned):
    """The atom floor(dividend / divisor)."""

    dividend: Polynomial
    divisor: int

    def __str__(self) -> str:
        return f"(({self.dividend})//{self.divisor})"


Atom: TypeAlias = str | FloorQuotient
Monomial: TypeAlias = tuple[tuple[Atom, int], ...]  # ((atom, power), ...) in the order of the atoms' text


@dataclass(frozen=True, eq=False, slots=True, weakref_slot=True)
class Polynomial(metaclass=Interned):
    """A polynomial that is not constant: ((monomial, coefficient), ...), highest degree first, no zero coefficient."""

    terms: tuple[tuple[Monomial, int], ...]
    digest: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", zlib.crc32(str(self).encode()))

    def __add__(self, other: Extent) -> Extent:
        total = dict(self.terms)
        for monomial, coefficient in _terms(other):
            total[monomial] = total.get(monomial, 0) + coefficient
        return _polynomial(total)

    def __mul__(self, other: Extent) -> Extent:
        total: dict[Monomial, int] = {}
        for left, a in self.terms:
            for right, b in _terms(other):
                monomial = _multiply(left, right)
                total[monomial] = total.get(monomial, 0) + a * b
        return _polynomial(total)

    def __neg__(self) -> Extent:
        return self * -1

    def __sub__(self, other: Extent) -> Extent:
        return self + (other * -1)

    def __rsub__(self, other: int) -> Extent:
        return -self + other

    __radd__ = __add__
    __rmul__ = __mul__

    def __floordiv__(self, divisor: Extent) -> Extent:
        if divisor is self:
            return 1
        if not isinstance(divisor, int):
            raise ValueError(f"an extent can be divided by a whole number only, not by {divisor}")
        if divisor <= 0:
            raise ValueError(f"an extent can be divided by a positive number only, not by {divisor}")
        whole: dict[Monomial, int] = {}
        rest: dict[Monomial, int] = {}
        for monomial, coefficient in self.terms:
            if coefficient % divisor == 0:
                whole[monomial] = coefficient // divisor
            elif not monomial:  # keep the remainder of the constant small, so that equal quotients look equal
                whole[monomial], rest[monomial] = divmod(coefficient, divisor)
            else:
                rest[monomial] = coefficient
        remainder = _polynomial(rest)
        if isinstance(remainder, int):
            return _polynomial(whole) + remainder // divisor
        return _polynomial(whole) + Polynomial(((((FloorQuotient(remainder, divisor), 1),), 1),))

    def __str__(self) -> str:
        parts: list[str] = []
        for monomial, coefficient in self.terms:
            factors = [str(atom) if power == 1 else f"{atom}**{power}" for atom, power in monomial]
            if not factors or abs(coefficient) != 1:
                factors.insert(0, str(abs(coefficient)))
            sign = ("- " if coefficient < 0 else "+ ") if parts else ("-" if coefficient < 0 else "")
            parts.append(sign + "*".join(factors))
        return " ".join(parts)

    __repr__ = __str__


Extent: TypeAlias = int | Polynomial
Shape: TypeAlias = tuple[Extent, ...]


def dimension(name: str) -> Polynomial:
    """The extent called `name`."""
    if not name.isidentifier():
        raise ValueError(f"the name of a dimension must be an identifier, not {name!r}")
    return Polynomial(((((name, 1),), 1),))


def as_extent(value: object) -> Extent:
    """An int, a NumPy integer, an extent, or the text of one ("N", "2*N+1") as an extent."""
    if isinstance(value, Polynomial):
        return value
    if isinstance(value, str):
        return parse_extent(value)
    if hasattr(value, "__index__") and not isinstance(value, bool):
        size = int(value.__index__())
        if size < 0:
            raise ValueError(f"an extent cannot be negative: {size}")
        return size
    raise ValueError(f"an extent is a whole number or the name of a dimension, not {value!r}")


def parse_extent(text: str) -> Extent:
    """Read an extent such as "N" or "(L-K)//2+1": names, whole numbers, + - * // and parentheses."""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except SyntaxError:
        raise ValueError(f"cannot read the extent {text!r}") from None
    return _from_syntax(tree, text)


def _from_syntax(tree: ast.expr, text: str) -> Extent:
    match tree:
        case ast.Name(id=name):
            return dimension(name)
        case ast.Constant(value=int(number)):
            return number
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_from_syntax(operand, text)
        case ast.BinOp(left=left, op=operator, right=right) if type(operator) in _OPERATORS:
            return _OPERATORS[type(operator)](_from_syntax(left, text), _from_syntax(right, text))
    raise ValueError(f"an extent is made of names, whole numbers, + - * and //: {text!r}")


_OPERATORS: Mapping[type, Callable[[Extent, Extent], Extent]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.FloorDiv: lambda a, b: _quotient(a, b),
}


def _quotient(a: Extent, b: Extent) -> Extent:
    if isinstance(b, int):
        return a // b
    if a is b:
        return 1
    raise ValueError(f"an extent can be divided by a whole number only: ({a})//({b})")


def evaluate(extent: Extent, sizes: Mapping[str, int]) -> Extent:
    """Put numbers in place of the dimensions that `sizes` names."""
    if isinstance(extent, int):
        return extent
    total: Extent = 0
    for monomial, coefficient in extent.terms:
        product: Extent = coefficient
        for atom, power in monomial:
            if isinstance(atom, str):
                value: Extent = sizes[atom] if atom in sizes else dimension(atom)
            else:
                value = evaluate(atom.dividend, sizes) // atom.divisor
            for _ in range(power):
                product = product * value
        total = total + product
    return total


def dimension_names(extent: Extent) -> set[str]:
    """The names that occur in an extent."""
    if isinstance(extent, int):
        return set()
    names: set[str] = set()
    for monomial, _ in extent.terms:
        for atom, _ in monomial:
            names |= {atom} if isinstance(atom, str) else dimension_names(atom.dividend)
    return names


def product(shape: Shape) -> Extent:
    """The number of elements of a shape."""
    total: Extent = 1
    for extent in shape:
        total = total * extent
    return total


def ints(shape: Shape) -> tuple[int, ...]:
    """A shape whose extents are all known, as ints; `ValueError` names the first that is not."""
    for extent in shape:
        if not isinstance(extent, int):
            raise ValueError(f"the extent {extent} is not known yet")
    return shape  # type: ignore[return-value]  # just checked


def format_shape(shape: Shape) -> str:
    """A shape as NumPy writes it: (), (3,), (N, 784)."""
    inner = ", ".join(str(extent) for extent in shape)
    return f"({inner},)" if len(shape) == 1 else f"({inner})"


def _terms(extent: Extent) -> tuple[tuple[Monomial, int], ...]:
    return extent.terms if isinstance(extent, Polynomial) else (((), extent),)


def _multiply(left: Monomial, right: Monomial) -> Monomial:
    powers = dict(left)
    for atom, power in right:
        powers[atom] = powers.get(atom, 0) + power
    return tuple(sorted(powers.items(), key=lambda item: str(item[0])))


def _polynomial(total: dict[Monomial, int]) -> Extent:
    terms = [(monomial, coefficient) for monomial, coefficient in total.items() if coefficient]
    if not terms:
        return 0
    if len(terms) == 1 and not terms[0][0]:
        return terms[0][1]
    terms.sort(key=lambda term: (-sum(power for _, power in term[0]), str(term[0])))
    return Polynomial(tuple(terms))

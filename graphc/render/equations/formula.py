"""Terms: the right sides of equations, as a reader writes them.

A term is a small tree above the graph. Its leaves are values that have an equation of their own, numbers and extents;
inner parts are sums, products, scalar functions and the operations of matrices. LaTeX, text and NumPy code are three
ways to write a term. The factories below tidy what differentiation leaves: factors 1, signs, the order of factors.

    value(node)  delta(node: a gradient)  number  size(extent)  ones(shape)
    add  mul  div  pow  call(name)  prime(name)  compare(op)  logic(op)  select  iverson       element by element
    matmul  transpose  outer  column(v: the same in every column)  full(s, shape)               matrices
    sum, max, ... (value: axes)  reshape  permute(axes)  apply(op: an Opaque)  join

Shapes follow NumPy's broadcasting.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from graphc.errors import ShapeError
from graphc.ir.build import broadcast_shapes
from graphc.ir.extent import Polynomial, Shape
from graphc.ir.node import Input, Node

_READ_AS_ONE = ("call", "prime", "apply", "select", "permute")


@dataclass(frozen=True, eq=False)
class Term:
    """One part of a right side; `value` is a node, a number, a name or axes, as the op says."""

    op: str
    args: tuple[Term, ...] = ()
    shape: Shape = ()
    value: Any = None
    depth: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "depth", 1 + max((arg.depth for arg in self.args), default=0))

    def parts(self) -> Iterator[Term]:
        """The term and all below it."""
        waiting = [self]
        while waiting:
            term = waiting.pop()
            yield term
            waiting += term.args

    @property
    def weight(self) -> int:
        """How much there is to read: leaves and functions."""
        return sum(1 for part in self.parts() if not part.args or part.op in _READ_AS_ONE)

    def has(self, *ops: str) -> bool:
        return any(part.op in ops for part in self.parts())


ELEMENTWISE = ("add", "mul", "div", "pow", "call", "prime", "compare", "logic", "select", "iverson")


def value(node: Node) -> Term:
    return Term("value", (), node.shape, node)


def delta(node: Node) -> Term:
    """A gradient that has an equation of its own."""
    return Term("delta", (), node.shape, node)


def number(number: float | int | bool) -> Term:
    return Term("number", (), (), number)


def is_number(term: Term, *values: float) -> bool:
    return term.op == "number" and (not values or term.value in values)


def common_shape(args: Sequence[Term]) -> Shape:
    return broadcast_shapes("equation", [arg.shape for arg in args]) if args else ()


def elementwise(op: str, args: Sequence[Term], name: Any = None) -> Term:
    """An elementwise op; an argument that repeats itself over a whole array is read as what it repeats."""
    plain = tuple(arg.args[0] if arg.op == "full" else arg for arg in args)
    if op == "add":
        return _add(plain)
    if op == "mul":
        return mul(plain)
    if op == "div":
        return _div(*plain)
    if op == "pow" and is_number(plain[1], 1):
        return plain[0]
    return Term(op, plain, common_shape(plain), name)


def negative(term: Term) -> Term:
    return mul((number(-1), term))


def _add(args: Sequence[Term]) -> Term:
    parts: list[Term] = []
    for arg in args:
        parts += arg.args if arg.op == "add" else (arg,)
    shape = common_shape(parts)
    parts = [part for part in parts if not is_number(part, 0)] or [number(0)]
    if len(parts) == 2 and alike(*parts):
        return mul((number(2), parts[0]))
    if shape:  # the product before what is added to it: X W + b
        parts.sort(key=lambda part: (-len(part.shape), not part.has("matmul")) if part.shape else (1, True))
    parts.sort(key=is_negative)
    return parts[0] if len(parts) == 1 else Term("add", tuple(parts), shape)


def is_negative(term: Term) -> bool:
    """Whether the term is written with a minus sign before it."""
    first = term.args[0] if term.op == "mul" else term
    return first.op == "number" and not isinstance(first.value, bool) and first.value < 0


def mul(args: Sequence[Term]) -> Term:
    """A product: the number first, then scalars, then arrays; a gradient after its local derivative where both are
    scalars, before it where they are arrays."""
    factors: list[Term] = []
    for arg in args:
        factors += arg.args if arg.op == "mul" else (arg,)
    total: float | int = 1
    others: list[Term] = []
    for factor in factors:
        if factor.op == "number":
            total = total * factor.value
        else:
            others.append(factor)
    shape = common_shape(factors)
    if total == 0 or not others:
        return number(total)
    for place, factor in enumerate(others):  # a (b / c) with a number a in it: the number goes above the line
        if factor.op == "div" and total not in (1, -1):
            others[place] = _div(mul((number(abs(total)), factor.args[0])), factor.args[1])
            total = -1 if total < 0 else 1
            break
    others.sort(key=_place)
    others = _powers(others)
    if len(others) > 1 and not shape and not any(other.has("delta") for other in others):
        others = _one_fraction(others)
    if total != 1:
        others.insert(0, number(total))
    return others[0] if len(others) == 1 else Term("mul", tuple(others), shape)


def _place(factor: Term) -> tuple[int, ...]:
    is_param = factor.op == "value" and isinstance(factor.value, Input) and factor.value.kind == "param"
    if not factor.shape:
        return 0, factor.has("delta"), not is_param
    return 1, not factor.has("delta"), not is_param


def _powers(factors: Sequence[Term]) -> list[Term]:
    """x * x as x^2."""
    groups: list[list[Term]] = []
    for factor in factors:
        group = next((group for group in groups if alike(group[0], factor)), None)
        if group is None:
            groups.append([factor])
        else:
            group.append(factor)
    return [g[0] if len(g) == 1 else Term("pow", (g[0], number(len(g))), g[0].shape) for g in groups]


def _one_fraction(factors: Sequence[Term]) -> list[Term]:
    """a (b / c) as (a b) / c, of scalars."""
    if not any(factor.op == "div" and not is_number(factor.args[0]) for factor in factors):
        return list(factors)
    above = mul([factor.args[0] if factor.op == "div" else factor for factor in factors])
    below = mul([factor.args[1] for factor in factors if factor.op == "div"])
    return [Term("div", (above, below))]


def alike(one: Term, other: Term) -> bool:
    """Whether two terms are written alike."""
    if one is other:
        return True
    same = one.op == other.op and one.value == other.value and len(one.args) == len(other.args)
    return same and all(alike(a, b) for a, b in zip(one.args, other.args, strict=True))


def _div(above: Term, below: Term) -> Term:
    if is_number(below, 1):
        return above
    if is_number(above) and is_number(below) and below.value:
        return number(above.value / below.value)
    if is_negative(above):
        return negative(_div(negative(above), below))
    if below.op == "size" and (above.op == "number" or (above.op == "mul" and is_number(above.args[0]))):
        above, below = _reduced(above, below)
    if is_number(above, 0):
        return above
    if above.op == "mul" and above.has("delta") and not above.shape and not below.shape:
        deltas = [part for part in above.args if part.has("delta")]  # the local derivative, then the gradient
        rest = [part for part in above.args if not part.has("delta")]
        return mul((_div(mul(rest) if rest else number(1), below), *deltas))
    if above.op == "delta" and not above.shape and not below.shape:
        return mul((_div(number(1), below), above))
    if above.op == "div":
        return _div(above.args[0], mul((above.args[1], below)))
    return Term("div", (above, below), common_shape((above, below)))


def _reduced(above: Term, below: Term) -> tuple[Term, Term]:
    """2 x / (2 N) as x / N."""
    first = above.args[0] if above.op == "mul" else above
    factor = math.gcd(*(coefficient for _, coefficient in below.value.terms))
    if not float(first.value).is_integer() or math.gcd(factor, int(first.value)) == 1:
        return above, below
    factor = math.gcd(factor, int(first.value))
    smaller = Polynomial(tuple((monomial, coefficient // factor) for monomial, coefficient in below.value.terms))
    rest = above.args[1:] if above.op == "mul" else ()
    return mul((number(int(first.value) // factor), *rest)), Term("size", (), (), smaller)


def reduce(reducer: str, axes: tuple[int, ...], term: Term, shape: Shape) -> Term:
    """A sum, product or extreme over some axes."""
    if reducer == "sum" and is_negative(term):
        return negative(reduce(reducer, axes, negative(term), shape))
    return Term("reduce", (term,), shape, (reducer, axes))


def matmul(left: Term, right: Term, shape: Shape) -> Term:
    return Term("matmul", (left, right), shape)


def transpose(term: Term) -> Term:
    """The last two axes exchanged."""
    if term.op == "transpose":
        return term.args[0]
    *batch, rows, columns = term.shape
    return Term("transpose", (term,), (*batch, columns, rows))


def permute(term: Term, order: tuple[int, ...]) -> Term:
    """The axes in another order: axis k of the result is axis order[k] of the term."""
    if term.op == "permute":
        order = tuple(term.value[axis] for axis in order)
        (term,) = term.args
    rank = len(order)
    if order == tuple(range(rank)):
        return term
    if order == (*range(rank - 2), rank - 1, rank - 2):
        return transpose(term)
    return Term("permute", (term,), tuple(term.shape[axis] for axis in order), order)


def spread(term: Term, shape: Shape) -> Term:
    """The term over a whole array of this shape, into which it broadcasts."""
    return term if term.shape == shape else Term("full", (term,), shape)


def broadcasts(shape: Shape, out: Shape) -> bool:
    """Whether NumPy would read an array of `shape` as one of `out`."""
    try:
        return broadcast_shapes("equation", [shape, out]) == out
    except ShapeError:
        return False


def shown(term: Term) -> Term:
    """The term as a reader writes it: a value where a condition holds, and 0 elsewhere, is a product."""
    if not term.args:
        return term
    args = tuple(map(shown, term.args))
    if term.op == "select":
        condition, then, other = args
        if is_number(then, 0):
            is_relu = condition.op == "compare" and condition.value == "le" and is_number(condition.args[1], 0)
            if is_relu:
                gate = elementwise("prime", (condition.args[0],), "relu")
            else:
                gate = elementwise("iverson", (_opposite(condition),))
            return spread(mul((gate, other)), term.shape)
        if is_number(other, 0):
            return spread(mul((elementwise("iverson", (condition,)), then)), term.shape)
    if term.op == "logic" and term.value == "not":
        return _opposite(args[0])
    if all(new is old for new, old in zip(args, term.args, strict=True)):
        return term
    if term.op in ("add", "mul"):
        return elementwise(term.op, args)
    return Term(term.op, args, term.shape, term.value)


_OPPOSITES = {"lt": "ge", "le": "gt", "eq": "ne", "ne": "eq"}


def _opposite(condition: Term) -> Term:
    """Where a condition does not hold; of numbers, that is, for a NaN neither x < y nor x >= y holds."""
    if condition.op == "compare" and condition.value in _OPPOSITES:
        return Term("compare", condition.args, condition.shape, _OPPOSITES[condition.value])
    return elementwise("logic", (condition,), "not")

"""How an element of a Generic came to be NaN or infinite: its body is evaluated at the points that make the element."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from graphc.ir import scalar as sc
from graphc.ir.affine import Affine, AffineMap, identity
from graphc.ir.extent import ints
from graphc.ir.graph import Graph
from graphc.ir.interp import interpret
from graphc.ir.node import Generic, Node, leaf, scalar_map

Array: TypeAlias = NDArray[Any]

_MOST_POINTS = 1 << 20  # of the sum that makes one element; a longer one is described by its operands alone
_OVERFLOW = {"float32": "88.7", "float64": "709.8"}  # exp of more is above the greatest number of the dtype


class Culprit(NamedTuple):
    """The calculation that went wrong, the operands' values, and what to do."""

    calculation: str
    operands: tuple[tuple[str, str], ...]
    hint: str


def look_closer(
    node: Generic, index: tuple[int, ...], result: Any, known: Mapping[Node, Array], names: Mapping[Node, str]
) -> Culprit:
    """What made `result` at `index` of a node whose operands are `known`."""
    points = _points(node, index)
    if points is None:
        operands = tuple((names[operand], _range(known[operand])) for operand in dict.fromkeys(node.operands))
        return Culprit(str(result), operands, "")
    reads = [
        _read(known[operand], index_map, points) for operand, index_map in zip(node.operands, node.maps, strict=True)
    ]
    told = tuple(
        (names[operand], str(read[0]) if len(read) == 1 else _range(read))
        for operand, read in zip(node.operands, reads, strict=True)
    )
    computed: dict[sc.Scalar, Array] = {}
    for step in sc.postorder(node.body):
        computed[step] = _value(step, computed, reads, points)
        if not isinstance(step, sc.Apply):
            continue
        arguments = [computed[argument] for argument in step.args]
        new = _new(computed[step], arguments)
        if not new.any():
            continue
        at = int(np.argmax(new))
        numbers = [argument[at] for argument in arguments]
        hint = _HINTS.get(step.op, _no_hint)(numbers, step.dtype)
        return Culprit(f"{_call(step.op, numbers)} = {computed[step][at]!s}", told, hint or _beyond(step.dtype))
    count = points.shape[1]
    if any(isinstance(step, sc.Literal) and math.isnan(step.value) for step in computed):
        return Culprit("a NaN that is written in the op itself", told, "")
    if node.reducer is None or count == 1:
        return Culprit(str(result), told, "")
    return Culprit(
        f"the {node.reducer} of {count} numbers, {_range(computed[node.body])}, is {result}",
        told,
        _beyond(node.dtype),
    )


def _new(value: Array, arguments: Sequence[Array]) -> Array:
    """Where a NaN was made of no NaN, or an infinity of finite numbers; the others were handed on."""
    if value.dtype.kind != "f":
        return np.zeros(value.shape, dtype=bool)
    floats = [argument for argument in arguments if argument.dtype.kind == "f"]
    has_nan = np.logical_or.reduce([np.isnan(one) for one in floats]) if floats else np.zeros(value.shape, dtype=bool)
    is_finite = np.logical_and.reduce([np.isfinite(one) for one in floats]) if floats else ~has_nan
    found: Array = (np.isnan(value) & ~has_nan) | (np.isinf(value) & is_finite)
    return found


def _points(node: Generic, index: tuple[int, ...]) -> Array | None:
    """The points of the domain, one a column, that are written to `index`; None where they are too many to look at."""
    domain = ints(node.domain)
    free = list(domain)
    fixed: dict[int, int] = {}
    for row, position in zip(node.out_map.rows, index, strict=True):
        if len(row.terms) == 1 and row.terms[0][1] == 1 and isinstance(row.const, int):
            axis = row.terms[0][0]
            fixed[axis], free[axis] = position - row.const, 1
    if math.prod(free) > _MOST_POINTS:
        return None
    points = np.indices(free, dtype=np.int64).reshape(len(free), math.prod(free))
    for axis, position in fixed.items():
        points[axis] = position
    hit = np.ones(points.shape[1], dtype=bool)
    for row, position in zip(node.out_map.rows, index, strict=True):
        hit &= _row(row, points) == position
    found: Array = points[:, hit]
    return found if hit.any() else None


def _row(row: Affine, points: Array) -> Array:
    total: Array = np.full(points.shape[1], row.const, np.int64)
    for axis, coefficient in row.terms:
        total += points[axis] * coefficient
    return total


def _read(array: Array, index_map: AffineMap, points: Array) -> Array:
    """What the points read; 0 outside."""
    flat = np.zeros(points.shape[1], dtype=np.int64)
    inside = np.ones(points.shape[1], dtype=bool)
    for row, extent in zip(index_map.rows, array.shape, strict=True):
        at = _row(row, points)
        inside &= (at >= 0) & (at < extent)
        flat = flat * extent + at
    values: Array = np.where(inside, array.reshape(-1)[np.where(inside, flat, 0)], 0).astype(array.dtype)
    return values


def _value(step: sc.Scalar, computed: Mapping[sc.Scalar, Array], reads: Sequence[Array], points: Array) -> Array:
    """One step of a body at all points; the interpreter computes it from the steps before."""
    count = points.shape[1]
    if isinstance(step, sc.Arg):
        return reads[step.index]
    if isinstance(step, sc.Index):
        position: Array = points[step.axis]
        return position
    if isinstance(step, sc.Literal):
        return np.full(count, step.value, step.dtype)
    if isinstance(step, sc.InBounds):
        inside = np.ones(count, dtype=bool)
        for row, extent in zip(step.map.rows, ints(step.shape), strict=True):
            at = _row(row, points)
            inside &= (at >= 0) & (at < extent)
        return inside
    assert isinstance(step, sc.Apply)
    leaves = [leaf("a", (count,), argument.dtype, "input") for argument in step.args]
    body = sc.cast(sc.Arg(0, step.args[0].dtype), step.dtype) if step.op == "cast" else sc.apply(
        step.op, *(sc.Arg(n, argument.dtype) for n, argument in enumerate(step.args))
    )
    alone = scalar_map((count,), leaves, [identity(1)] * len(leaves), body)
    values: dict[Node, Array] = {one: computed[given] for one, given in zip(leaves, step.args, strict=True)}
    return interpret(Graph((alone,)), values)[0]


def _call(op: str, numbers: Sequence[Any]) -> str:
    symbol = sc.OPS[op].symbol
    if symbol is not None and len(numbers) == 2:
        return f"{numbers[0]!s} {symbol} {numbers[1]!s}"
    return f"{op}({', '.join(map(str, numbers))})"


def _range(values: Array) -> str:
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    if not finite.size:
        return f"{values.size} numbers, none of them finite"
    return f"{values.size} numbers from {finite.min()!s} to {finite.max()!s}"


def _beyond(dtype: str) -> str:
    return f"the result is beyond the greatest {dtype}, {np.finfo(dtype).max:.3g}"


def _no_hint(numbers: Sequence[Any], dtype: str) -> str:
    return ""


def _hint_log(numbers: Sequence[Any], dtype: str) -> str:
    if numbers[0] < 0:
        return "the logarithm of a negative number"
    return "the logarithm of 0: keep its argument above 0 with gc.clip, or use a loss on logits"


def _hint_divide(numbers: Sequence[Any], dtype: str) -> str:
    if numbers[1] == 0:
        return "division by 0: add a small number to the denominator, or choose with gc.where before dividing"
    return "infinity divided by infinity" if np.isinf(numbers).all() else ""


def _hint_power(numbers: Sequence[Any], dtype: str) -> str:
    base, exponent = numbers
    if base < 0 and exponent != int(exponent):
        return "a negative number to a power that is not whole"
    return "0 to a negative power" if base == 0 else ""


_HINTS: Mapping[str, Callable[[Sequence[Any], str], str]] = {
    "log": _hint_log,
    "log1p": lambda numbers, dtype: "log1p of -1 or less: its argument must be above -1",
    "div": _hint_divide,
    "mod": _hint_divide,
    "floordiv": _hint_divide,
    "exp": lambda numbers, dtype: (
        f"exp overflows above {_OVERFLOW[dtype]} in {dtype}: subtract the greatest value first, as gc.softmax does"
    ),
    "expm1": lambda numbers, dtype: f"expm1 overflows above {_OVERFLOW[dtype]} in {dtype}",
    "sqrt": lambda numbers, dtype: "the root of a negative number",
    "rsqrt": lambda numbers, dtype: "one over the root of 0 or of a negative number: add a small number before",
    "pow": _hint_power,
    "mul": lambda numbers, dtype: "0 times infinity" if any(n == 0 for n in numbers) else "",
    "add": lambda numbers, dtype: "infinity minus infinity" if np.isinf(numbers).all() else "",
    "sub": lambda numbers, dtype: "infinity minus infinity" if np.isinf(numbers).all() else "",
}

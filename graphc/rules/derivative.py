"""Reverse mode on one scalar body: the adjoint of each operand's value.

Adjoints carry their mask apart: inside select(c, a, b) the adjoint of a is (c, g), and the partials of what lies
below multiply g *inside* the mask. The gradient of where(x > 0, log(x), 0) at x = 0 is therefore 0 and not 0/0.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache

from graphc.ir import scalar as sc
from graphc.ir.dtypes import is_float
from graphc.rules.partials import TABLE
from graphc.rules.pattern import build, parse
from graphc.rules.simplify_scalar import simplify_scalar


def partial(node: sc.Apply, position: int) -> sc.Scalar | None:
    """The derivative of an op in one of its arguments; None where it is 0."""
    if node.op not in TABLE:
        return None
    names = ("x", "y")[: len(node.args)]
    bound: dict[str, sc.Scalar] = dict(zip(names, node.args, strict=True))
    bound["out"] = node
    value = simplify_scalar(build(parse(TABLE[node.op][position]), bound, node.dtype))
    return None if isinstance(value, sc.Literal) and value.value == 0 else value


def adjoints(body: sc.Scalar, seed: sc.Scalar, wanted: Collection[int]) -> dict[int, sc.Scalar]:
    """d(body)/d(Arg j) times the seed, for the wanted operands on which the body depends smoothly."""
    return dict(_adjoints(body, seed, frozenset(wanted)))


@lru_cache(maxsize=1 << 12)  # most bodies of a graph are alike
def _adjoints(body: sc.Scalar, seed: sc.Scalar, wanted: frozenset[int]) -> dict[int, sc.Scalar]:
    order = sc.postorder(body)
    live: set[sc.Scalar] = set()
    for node in order:
        if isinstance(node, sc.Arg):
            if node.index in wanted and is_float(node.dtype):
                live.add(node)
        elif isinstance(node, sc.Apply) and is_float(node.dtype) and any(arg in live for arg in node.args):
            live.add(node)
    pending: dict[sc.Scalar, list[tuple[sc.Scalar | None, sc.Scalar]]] = {body: [(None, seed)]}
    found: dict[int, sc.Scalar] = {}
    for node in reversed(order):
        if node not in live or node not in pending:
            continue
        mask, value = _total(pending.pop(node))
        if isinstance(node, sc.Arg):
            found[node.index] = simplify_scalar(_masked(mask, value))
        elif isinstance(node, sc.Apply):
            for arg, contribution in _contributions(node, mask, value):
                if arg in live:
                    pending.setdefault(arg, []).append(contribution)
    return found


def _contributions(
    node: sc.Apply, mask: sc.Scalar | None, value: sc.Scalar
) -> list[tuple[sc.Scalar, tuple[sc.Scalar | None, sc.Scalar]]]:
    if node.op == "select":
        condition, then, other = node.args
        return [
            (then, (_both(mask, condition), value)),
            (other, (_both(mask, sc.apply("not", condition)), value)),
        ]
    if node.op == "cast":
        return [(node.args[0], (mask, sc.cast(value, node.args[0].dtype)))]
    out: list[tuple[sc.Scalar, tuple[sc.Scalar | None, sc.Scalar]]] = []
    for position, arg in enumerate(node.args):
        slope = partial(node, position) if is_float(arg.dtype) else None
        if slope is None:
            continue
        if isinstance(slope, sc.Apply) and slope.op == "select":  # a piecewise slope selects, it does not multiply
            out.append((arg, (mask, _scale_select(slope, value))))
        else:
            out.append((arg, (mask, sc.apply("mul", value, slope))))
    return out


def _scale_select(slope: sc.Scalar, value: sc.Scalar) -> sc.Scalar:
    """value * select(c, a, b) as select(c, value*a, value*b), with 0 and 1 multiplied out."""
    if isinstance(slope, sc.Apply) and slope.op == "select":
        condition, then, other = slope.args
        return sc.apply("select", condition, _scale_select(then, value), _scale_select(other, value))
    if isinstance(slope, sc.Literal) and slope.value == 0:
        return slope
    return simplify_scalar(sc.apply("mul", value, slope))


def _both(mask: sc.Scalar | None, condition: sc.Scalar) -> sc.Scalar:
    return condition if mask is None else sc.apply("and", mask, condition)


def _masked(mask: sc.Scalar | None, value: sc.Scalar) -> sc.Scalar:
    return value if mask is None else sc.apply("select", mask, value, sc.literal(0, value.dtype))


def _total(parts: list[tuple[sc.Scalar | None, sc.Scalar]]) -> tuple[sc.Scalar | None, sc.Scalar]:
    if len(parts) == 1:
        return parts[0]
    masks = {mask for mask, _ in parts}
    shared = masks.pop() if len(masks) == 1 else None
    values = [value if shared is mask else _masked(mask, value) for mask, value in parts]
    total = values[0]
    for value in values[1:]:
        total = sc.apply("add", total, value)
    return shared, total

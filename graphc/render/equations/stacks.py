"""Stacks of a loop that hold what has a name already: carried values, or slices."""

from __future__ import annotations

from graphc.ir.loop import loop_of, value_of
from graphc.ir.node import Node, Opaque, View
from graphc.render.equations.matrix import unit_axes_only


def plain_stack(result: Node) -> tuple[Node, bool] | None:
    """Of a stack of carried values the leaf, and whether they are those after the step; of slices their array."""
    loop = loop_of(result)
    if loop is None or not isinstance(result, Opaque) or result.attribute("final") >= 0:
        return None
    value = value_of(result)
    while isinstance(value, View) and unit_axes_only(value.shape, value.operand.shape):
        value = value.operand
    for place, leaf in enumerate(loop.leaves[: loop.first_constant]):
        if value is leaf:
            return (leaf if place < loop.carried else loop.operands[place]), False
    for leaf, node in zip(loop.leaves, loop.following, strict=False):
        if value is node:
            return leaf, True
    return None

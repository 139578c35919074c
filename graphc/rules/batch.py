"""A graph over a leaf turned into the same graph over a stack of values for that leaf.

Each node that depends on the leaf gains leading axes: a Generic gets them in its domain, its output map and the maps
of what is stacked. Used to push a whole identity matrix of cotangents through one vector-Jacobian product.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from graphc.errors import GradientError
from graphc.ir import scalar as sc
from graphc.ir.affine import AffineMap, axis_row
from graphc.ir.extent import Shape
from graphc.ir.graph import Graph, rewrite, topological
from graphc.ir.loop import Loop, depends, loop_of, value_of
from graphc.ir.node import INSIDE, Generic, Join, Node, Opaque, View, generic, join, opaque, view
from graphc.ir.node import leaf as new_leaf
from graphc.ir.origin import originating, origins_of, where


def stack_over(outputs: Sequence[Node], leaf: Node, stacked: Node, extra: Shape) -> list[Node]:
    """The outputs with `stacked` (shape `extra` + leaf's) for `leaf`; each has `extra` in front of its shape.

    What would be computed again once the leaf is known is kept instead: beside a stack of cotangents it is small.
    """
    outputs = rewrite(Graph(tuple(outputs)), lambda node: node.operands[0] if _waits_for(node, leaf) else node).outputs
    return _stacked(outputs, {leaf: stacked}, extra)


def _stacked(outputs: Sequence[Node], given: Mapping[Node, Node], extra: Shape) -> list[Node]:
    done = dict(given)
    order = topological(outputs)
    touched = depends(outputs, given)
    joined = {part for node in order if isinstance(node, Join) and node in touched for part in node.parts}
    loops: dict[Loop, Loop] = {}
    for node in order:
        if node in done or not (any(operand in done for operand in node.operands) or node in joined):
            continue
        with originating(origins_of(node)):
            loop = loop_of(node)
            done[node] = _stack(node, done, extra) if loop is None else _stack_loop(node, loop, done, extra, loops)
    return [done[node] if node in done else _repeat(node, extra) for node in outputs]


def _waits_for(node: Node, leaf: Node) -> bool:
    return isinstance(node, Opaque) and node.op == "again" and leaf in topological(node.operands[1:])


def _stack(node: Node, done: dict[Node, Node], extra: Shape) -> Node:
    shift = len(extra)
    match node:
        case Generic():
            rank = len(node.domain) + shift
            axes = [axis + shift for axis in range(len(node.domain))]
            front = tuple(axis_row(axis) for axis in range(shift))
            maps: list[AffineMap] = []
            for operand, index_map in zip(node.operands, node.maps, strict=True):
                rows = index_map.renumber(rank, axes).rows
                maps.append(AffineMap(rank, (*front, *rows) if operand in done else rows))
            out_map = AffineMap(rank, (*front, *node.out_map.renumber(rank, axes).rows))
            body = sc.move_axes(node.body, [axis_row(axis) for axis in axes], rank)
            operands = [done.get(operand, operand) for operand in node.operands]
            shape = (*extra, *node.shape)
            return generic((*extra, *node.domain), shape, out_map, operands, maps, node.modes, body, node.reducer)
        case View():
            return view(done[node.operand], (*extra, *node.shape))
        case Join():
            parts = [part for part in (done[part] for part in node.parts) if isinstance(part, Generic)]
            return join(parts)
        case Opaque(op="checked"):
            shape = (*extra, *node.shape)
            return opaque(node.op, (done[node.operands[0]],), shape, node.dtype, **dict(node.attributes))
        case Opaque() if node.op in ("stop_gradient", "custom_vjp", "checkpoint_in", "checkpoint_out", "again"):
            return done.get(node.operands[0]) or _repeat(node.operands[0], extra)
        case Opaque() if node.operands[0] in done and not any(operand in done for operand in node.operands[1:]):
            attributes = dict(node.attributes)
            attributes["axis"] += shift
            operands = [done[node.operands[0]], *node.operands[1:]]
            return opaque(node.op, operands, (*extra, *node.shape), node.dtype, **attributes)
    raise GradientError(f"{type(node).__name__.lower()} cannot be stacked", where(node))


def _repeat(node: Node, extra: Shape) -> Node:
    """A node that does not depend on the leaf, once for each place of the stack."""
    shape = (*extra, *node.shape)
    rank = len(shape)
    index_map = AffineMap(rank, tuple(axis_row(axis) for axis in range(len(extra), rank)))
    front = AffineMap(rank, tuple(axis_row(axis) for axis in range(rank)))
    return generic(shape, shape, front, (node,), (index_map,), (INSIDE,), sc.Arg(0, node.dtype), None)


def _stack_loop(node: Node, loop: Loop, done: Mapping[Node, Node], extra: Shape, loops: dict[Loop, Loop]) -> Node:
    """A result of a loop that carries stacks: all of them, for a step may make any depend on any other."""
    assert isinstance(node, Opaque)
    shift = len(extra)
    if loop not in loops:
        leaves, operands = list(loop.leaves), list(loop.operands)
        for place, operand in enumerate(loop.operands):
            if place < loop.carried or operand in done:
                old = leaves[place]
                leaves[place] = new_leaf(old.name, (*extra, *old.shape), old.dtype, "input")
                moved = done.get(operand) or _repeat(operand, extra)
                is_slice = loop.carried <= place < loop.first_constant
                operands[place] = _moved(moved, (shift, *range(shift))) if is_slice else moved
        loops[loop] = Loop(tuple(leaves), (), tuple(operands), loop.sliced, loop.reverse)
    wide = loops[loop]
    given: dict[Node, Node] = {old: new for old, new in zip(loop.leaves, wide.leaves, strict=True) if old is not new}
    *following, value = _stacked([*loop.following, value_of(node)], given, extra)
    result = Loop(wide.leaves, tuple(following), wide.operands, wide.sliced, wide.reverse)
    final = node.attribute("final")
    return result.final(final) if final >= 0 else _moved(result.stack(value), (*range(1, shift + 1), 0))


def _moved(node: Node, first: Sequence[int]) -> Node:
    """The node with some of its axes in front, in this order, and the others behind them."""
    rank = len(node.shape)
    order = (*first, *(axis for axis in range(rank) if axis not in first))
    shape = tuple(node.shape[axis] for axis in order)
    rows = tuple(axis_row(order.index(axis)) for axis in range(rank))
    index_map, out = AffineMap(rank, rows), AffineMap(rank, tuple(axis_row(axis) for axis in range(rank)))
    return generic(shape, shape, out, (node,), (index_map,), (INSIDE,), sc.Arg(0, node.dtype), None)

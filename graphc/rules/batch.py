"""A graph over a leaf turned into the same graph over a stack of values for that leaf.

Each node that depends on the leaf gains leading axes: a Generic gets them in its domain, its output map and the maps
of what is stacked. Used to push a whole identity matrix of cotangents through one vector-Jacobian product.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.errors import GradientError
from graphc.ir import scalar as sc
from graphc.ir.affine import AffineMap, axis_row
from graphc.ir.extent import Shape
from graphc.ir.graph import Graph, rewrite, topological
from graphc.ir.node import INSIDE, Generic, Join, Node, Opaque, View, generic, join, opaque, view
from graphc.ir.origin import originating, origins_of, where


def stack_over(outputs: Sequence[Node], leaf: Node, stacked: Node, extra: Shape) -> list[Node]:
    """The outputs with `stacked` (shape `extra` + leaf's) for `leaf`; each has `extra` in front of its shape.

    What would be computed again once the leaf is known is kept instead: beside a stack of cotangents it is small.
    """
    outputs = rewrite(Graph(tuple(outputs)), lambda node: node.operands[0] if _waits_for(node, leaf) else node).outputs
    done: dict[Node, Node] = {leaf: stacked}
    order = topological(outputs)
    joined = {part for node in order if isinstance(node, Join) and _touches(node, leaf) for part in node.parts}
    for node in order:
        if node in done or not (any(operand in done for operand in node.operands) or node in joined):
            continue
        with originating(origins_of(node)):
            done[node] = _stack(node, done, extra)
    return [done[node] if node in done else _repeat(node, extra) for node in outputs]


def _waits_for(node: Node, leaf: Node) -> bool:
    return isinstance(node, Opaque) and node.op == "again" and leaf in topological(node.operands[1:])


def _touches(node: Node, leaf: Node) -> bool:
    return leaf in topological((node,))


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

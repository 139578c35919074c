"""Small builders of nodes that rules and passes share: elementwise ops with broadcasting, sums, fills."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphc.errors import ShapeError
from graphc.ir import scalar as sc
from graphc.ir.affine import ZERO, AffineMap, axis_row, identity
from graphc.ir.extent import Extent, Shape, format_shape
from graphc.ir.node import INSIDE, Node, generic, scalar_map


def broadcast_shapes(op: str, shapes: Sequence[Shape]) -> Shape:
    """NumPy's rule: aligned at the right, an extent of 1 stretches. `ShapeError` names the op and the shapes."""
    first = shapes[0]
    if all(shape is first or shape == first for shape in shapes):
        return first
    rank = max(len(shape) for shape in shapes)
    out: list[Extent] = []
    for position in range(rank):
        extent: Extent = 1
        for shape in shapes:
            axis = position - rank + len(shape)
            if axis < 0 or shape[axis] == 1 or shape[axis] == extent:
                continue
            if extent != 1:
                text = " and ".join(format_shape(shape) for shape in shapes)
                raise ShapeError(f"{op}: the shapes {text} do not broadcast: {extent} and {shape[axis]} differ")
            extent = shape[axis]
        out.append(extent)
    return tuple(out)


def broadcast_map(shape: Shape, out: Shape) -> AffineMap:
    """The map by which an array of `shape` is read when broadcast to `out`."""
    if shape == out:
        return identity(len(out))
    offset = len(out) - len(shape)
    rows = tuple(axis_row(offset + axis) if extent == out[offset + axis] else ZERO for axis, extent in enumerate(shape))
    return AffineMap(len(out), rows)


def elementwise(op: str, operands: Sequence[Node], body: sc.Scalar) -> Node:
    """body over operands broadcast against one another."""
    shape = broadcast_shapes(op, [operand.shape for operand in operands])
    return scalar_map(shape, operands, [broadcast_map(operand.shape, shape) for operand in operands], body)


def add_nodes(nodes: Sequence[Node]) -> Node:
    """The sum of nodes of one shape and dtype, from left to right."""
    total = nodes[0]
    for node in nodes[1:]:
        body = sc.apply("add", sc.Arg(0, total.dtype), sc.Arg(1, node.dtype))
        total = elementwise("add", (total, node), body)
    return total


def fill(shape: Shape, value: Any, dtype: str) -> Node:
    """An array of one number."""
    return scalar_map(shape, (), (), sc.literal(value, dtype))


def cast_node(node: Node, dtype: str) -> Node:
    """A node converted to another dtype."""
    if node.dtype == dtype:
        return node
    return elementwise("cast", (node,), sc.cast(sc.Arg(0, node.dtype), dtype))


def reduce_axes(node: Node, axes: Sequence[int], reducer: str, body: sc.Scalar | None = None) -> Node:
    """Reduce a node over some of its axes, which go."""
    rank = len(node.shape)
    kept = [axis for axis in range(rank) if axis not in axes]
    shape = tuple(node.shape[axis] for axis in kept)
    out_map = AffineMap(rank, tuple(axis_row(axis) for axis in kept))
    arg = body if body is not None else sc.Arg(0, node.dtype)
    return generic(node.shape, shape, out_map, (node,), (identity(rank),), (INSIDE,), arg, reducer)

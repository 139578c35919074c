"""The same graph in float64: for reference values and for comparing derivatives with finite differences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphc.ir import scalar as sc
from graphc.ir.graph import Graph, rebuild, topological
from graphc.ir.node import Const, Generic, Input, Node, Opaque, Step, View, const, generic, leaf, opaque, view
from graphc.ir.origin import originating, origins_of

NARROW, WIDE = "float32", "float64"


def widen(graph: Graph) -> tuple[Graph, dict[Node, Node]]:
    """The graph with float64 wherever it has float32, and the new leaf of each leaf.

    Constants keep the values that they had in float32. A `custom_vjp` keeps its value and loses its rule: differentiate
    first, then widen value and derivatives together.
    """
    done: dict[Node, Node] = {}
    leaves: dict[Node, Node] = {}
    for node in graph.nodes:
        with originating(origins_of(node)):
            done[node] = _widened(node, [done[operand] for operand in node.operands])
        if isinstance(node, Input):
            leaves[node] = done[node]
    return Graph(tuple(done[node] for node in graph.outputs), graph.names), leaves


def _wide(dtype: str) -> str:
    return WIDE if dtype == NARROW else dtype


def _widened(node: Node, operands: Sequence[Node]) -> Node:
    match node:
        case Input():
            return leaf(node.name, node.shape, WIDE, node.kind) if node.dtype == NARROW else node
        case Const():
            return const(node.value.astype(np.float64)) if node.dtype == NARROW else node
        case Generic():
            return generic(
                node.domain,
                node.shape,
                node.out_map,
                operands,
                node.maps,
                node.modes,
                widen_scalar(node.body),
                node.reducer,
            )
        case View():
            return view(operands[0], node.shape)
        case Opaque(op="custom_vjp"):
            return operands[0]
        case Opaque():
            step = None if node.step is None else _widened_step(node.step)
            return opaque(node.op, operands, node.shape, _wide(node.dtype), step, **dict(node.attributes))
    return rebuild(node, operands)



def _wide_leaf(leaf: Input) -> Input:
    return leaf if leaf.dtype != NARROW else Input(leaf.name, leaf.shape, WIDE, leaf.kind, leaf.serial)


def _widened_step(step: Step) -> Step:
    """The step with leaves of the same numbers: they are in nobody's hands but the loop's."""
    done: dict[Node, Node] = {leaf: _wide_leaf(leaf) for leaf in step.leaves}
    outputs = (*step.following, step.value)
    for node in topological(outputs):
        if node not in done:
            with originating(origins_of(node)):
                done[node] = _widened(node, [done[operand] for operand in node.operands])
    leaves = tuple(_wide_leaf(leaf) for leaf in step.leaves)
    return Step(leaves, tuple(done[node] for node in step.following), done[step.value])


def widen_scalar(root: sc.Scalar) -> sc.Scalar:
    """A body in float64."""
    done: dict[sc.Scalar, sc.Scalar] = {}
    for node in sc.postorder(root):
        match node:
            case sc.Arg():
                done[node] = sc.Arg(node.index, _wide(node.dtype))
            case sc.Literal():
                done[node] = sc.literal(node.value, _wide(node.dtype))
            case sc.Apply(op="cast"):
                done[node] = sc.cast(done[node.args[0]], _wide(node.dtype))
            case sc.Apply():
                done[node] = sc.apply(node.op, *(done[arg] for arg in node.args))
            case _:
                done[node] = node
    return done[root]

"""Drop the markers that only derivatives look at."""

from __future__ import annotations

from graphc.ir.graph import Graph, rewrite
from graphc.ir.node import Node, Opaque


def drop_markers(graph: Graph) -> Graph:
    """Before: derivatives are taken. After: no stop_gradient or custom_vjp is left; their values take their place."""
    return rewrite(graph, _value)


def _value(node: Node) -> Node:
    if isinstance(node, Opaque) and node.op in ("stop_gradient", "custom_vjp"):
        return node.operands[0]
    return node

"""Drop the markers that only derivatives look at."""

from __future__ import annotations

from graphc.ir.changes import Reason, note
from graphc.ir.graph import Graph, rewrite
from graphc.ir.node import Node, Opaque

MARKERS = frozenset({"stop_gradient", "custom_vjp", "checkpoint_in", "checkpoint_out"})
MARKER = Reason("rewritten", "marker", "stop_gradient(x) -> x, ...", "only derivatives look at it")


def drop_markers(graph: Graph) -> Graph:
    """Before: derivatives are taken. After: none of MARKERS is left; their values take their place."""
    return rewrite(graph, _value)


def _value(node: Node) -> Node:
    if isinstance(node, Opaque) and node.op in MARKERS:
        return note(MARKER, node, node.operands[0])
    return node

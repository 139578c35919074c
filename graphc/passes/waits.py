"""What `again` waits for: nothing is computed for that alone.

A checkpoint waits for cotangents. One that fusion computes where it is read is no longer there by itself; then what it
is computed from is waited for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from graphc.ir.changes import Reason, carried, note
from graphc.ir.graph import Graph, rebuild, rewrite
from graphc.ir.node import Const, Input, Node, Opaque, alias_of, opaque
from graphc.ir.origin import originating, origins_of
from graphc.ir.walk import postorder

TRIMMED = Reason("rewritten", "waits", "again(x, w) -> again(x, what w is computed from)", "nothing else needs w")


def trim_waits(graph: Graph) -> Graph:
    """Before: fused. After: some output depends on the value of each node that an `again` waits for."""
    if not any(_waits(node) for node in graph.nodes):
        return graph
    needed = set(postorder(graph.outputs, lambda node: node.operands[:1] if _waits(node) else node.operands))
    there: dict[Node, dict[Node, None]] = {}  # by node: what tells that it could be computed
    done: dict[Node, Node] = {}
    for node in graph.nodes:
        with originating(origins_of(node)):
            done[node] = rebuild(node, [done[operand] for operand in node.operands])
            if isinstance(node, Opaque) and _waits(node):
                waits = dict.fromkeys(wait for operand in node.operands[1:] for wait in there[operand])
                trimmed = opaque("again", (done[node.operands[0]], *waits), node.shape, node.dtype)
                done[node] = note(TRIMMED, done[node], trimmed)
        if node in needed:
            there[node] = {} if isinstance(node, (Input, Const)) else {done[node]: None}
        else:
            there[node] = dict.fromkeys(wait for operand in node.operands for wait in there[operand])
    carried(done)
    return Graph(tuple(done[node] for node in graph.outputs), graph.names)


def wait_in_rows(graph: Graph, rows_of: Callable[[Node], str | None]) -> Graph:
    """Before: `rows_of` tells the dimension of a node's rows, None where it has none (`graphc.passes.rows`). After: an
    `again` waits for no rows but those of its own dimension, since others are computed in a pass of their own; one with
    nothing to wait for is its operand."""

    def trimmed(node: Node) -> Node:
        if not isinstance(node, Opaque) or not _waits(node):
            return node
        waits = [wait for wait in _waits(node) if rows_of(wait) in (None, rows_of(node))]
        first = node.operands[0]
        return opaque("again", (first, *waits), node.shape, node.dtype) if waits else first

    return rewrite(graph, trimmed)


def _waits(node: Node) -> Sequence[Node]:
    """What an `again` waits for."""
    return node.operands[1:] if isinstance(node, Opaque) and alias_of(node) is not None else ()

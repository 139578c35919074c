"""The order in which values are computed: each output when it can be, so that what it needs is soon free again.

A value is computed just before what asks for it. Outputs are asked for from the shallow ones to the deep ones: of a
training step first the loss, then the updates of the last layer, whose gradient is there first, and so back to the
first layer; of the cotangents only the newest is then alive. Before an update come all readers of the old value, so
that it can be written in place. Checks of what the caller gave (labels) come first of all: what is refused is refused
before anything is computed, and no check stands between loops that belong together.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.ir.dtypes import is_float
from graphc.ir.graph import Graph, topological
from graphc.ir.node import Input, Node, Opaque
from graphc.ir.walk import postorder


def execution_order(graph: Graph, results: int, targets: Sequence[Input]) -> list[Node]:
    """All nodes, operands first. The outputs after the first `results` are the new values of `targets`, in order."""
    users = graph.users()
    before: dict[Node, list[Node]] = {}
    roots: list[tuple[bool, int, Node]] = []
    for position, output in enumerate(graph.outputs):
        readers: list[Node] = []
        if position >= results:
            readers = [node for node in users.get(targets[position - results], ()) if node is not output]
            # Depth falls along operands; if it falls along these too, they close no circle.
            shallow = sorted((node for node in readers if _depth(node) < _depth(output)), key=_depth)
            before.setdefault(output, []).extend(shallow)
        if not users[output]:  # the others are computed on the way
            is_shallow = any(_depth(node) >= _depth(output) for node in readers)  # a step count: it comes last
            roots.append((is_shallow, max(map(_depth, (output, *readers))), output))
    roots.sort(key=lambda root: root[:2])
    first = [node for node in graph.nodes if _is_check_of_input(node)]
    return postorder((*first, *(node for *_, node in roots)), lambda node: (*before.get(node, ()), *node.operands))


def _is_check_of_input(node: Node) -> bool:
    """A check of integers that come from integers alone."""
    is_check = isinstance(node, Opaque) and node.op == "checked"
    return is_check and not any(is_float(below.dtype) for below in topological((node,)))


def _depth(node: Node) -> int:
    """The length of the longest way down to a leaf, which a node's order begins with."""
    return node.order[0]

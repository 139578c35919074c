"""A training step has three parts: what its outputs need, the gradients, and the new values of params and states."""

from __future__ import annotations

from collections.abc import Mapping

from graphc.ir.graph import Graph, topological
from graphc.ir.node import Input, Node
from graphc.ir.origin import Frame, origins_of
from graphc.render.names import is_derived

MOST_NAMES = 3  # states that the part for all params names


def forward_half(graph: Graph) -> set[Node]:
    """What the named outputs need, without what a derivative made and what reads that."""
    back: set[Node] = set()
    for node in graph.nodes:
        if is_derived(node) or any(operand in back for operand in node.operands):
            back.add(node)
    named = graph.outputs[: len(graph.names)] or graph.outputs
    found = {node for node in topological(named) if node not in back}
    return found if found else set(graph.nodes)


def updates_of(graph: Graph, forward: set[Node], targets: Mapping[Node, Node]) -> dict[Node, tuple[Node | None, Frame]]:
    """For each node that only computes new values the param whose new value it is for, None where there are several,
    and the part of the drawing that it belongs to: one for each param, one for what they share.

    targets: the leaf that each new value is for. What changes states alone, such as running means, is left out.
    """
    own = {node for node in graph.nodes if node not in forward and not is_derived(node)}
    serves: dict[Node, set[Node]] = {}
    for value, leaf in targets.items():
        if isinstance(leaf, Input) and leaf.kind == "param":
            for node in topological((value,)):
                if node in own:
                    serves.setdefault(node, set()).add(leaf)
    found: dict[Node, tuple[Node | None, Frame]] = {}
    shared = [node for node, leaves in serves.items() if len(leaves) > 1]
    names = [node.name for node in shared if isinstance(node, Input)]
    told = ", ".join(names if len(names) <= MOST_NAMES else [*names[:MOST_NAMES], "…"]) or "for all"
    if all(isinstance(node, Input) for node in shared):
        serves = {node: leaves for node, leaves in serves.items() if len(leaves) == 1}  # a rate needs no box around it
    for node, leaves in serves.items():
        if len(leaves) == 1:
            (leaf,) = leaves
            assert isinstance(leaf, Input)
            found[node] = leaf, Frame(f"{leaf.name} :=", 0, _maker(node, graph, serves), is_op=True)
        else:
            found[node] = None, Frame(told, 0, _maker(node, graph, serves), is_op=True)
    return found


def _maker(node: Node, graph: Graph, serves: Mapping[Node, set[Node]]) -> str:
    """The optimiser's name: the scope that the new values were made in."""
    for other in (node, *serves):
        for origin in origins_of(other):
            for frame in origin.frames:
                if not frame.is_op:
                    return frame.name
    return "update"

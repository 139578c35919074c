"""Algebra and stability on the whole graph; the rows stand in `graphc.rules`."""

from __future__ import annotations

from graphc.ir.graph import Graph, rewrite
from graphc.rules.simplify import drop_unit_axes, drop_unit_outputs, simplify_node
from graphc.rules.stable import stabilise as stabilise_outputs


def simplify(graph: Graph) -> Graph:
    """After: no Generic reads through a plain re-read, a fill or a constant of one element; bodies are simple."""
    return rewrite(graph, lambda node: drop_unit_axes(drop_unit_outputs(simplify_node(node))), part_step=simplify_node)


def stabilise(graph: Graph) -> Graph:
    """After: no row of `graphc.rules.stable` matches."""
    return Graph(tuple(stabilise_outputs(graph.outputs)), graph.names)

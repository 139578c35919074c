"""A graph as numbered equations in plain text: the printer's lines with a reader's names."""

from __future__ import annotations

from graphc.ir.graph import Graph
from graphc.ir.node import Node
from graphc.ir.printer import format_node
from graphc.render.gradients import Gradients, recovered
from graphc.render.names import is_derived, user_names


def equation_names(graph: Graph, gradients: Gradients | None = None) -> dict[Node, str]:
    """The user's name of each node; v4 is the unnamed value of equation 4, grad_h the gradient of h."""
    of = gradients.of if gradients is not None else recovered(graph)
    given = user_names(graph)
    owners: dict[Node, Node] = {}
    for value in graph.nodes:
        if value in of and (value in given or of[value] not in owners):
            owners[of[value]] = value
    names: dict[Node, str] = {}
    taken: set[str] = set()
    for number, node in enumerate(graph.nodes, 1):
        if node in given:
            stem = given[node]
        elif node in owners and owners[node] in names:
            stem = f"grad_{names[owners[node]]}"
        else:
            stem = f"{'g' if is_derived(node) else 'v'}{number}"
        name = stem if stem not in taken else f"{stem}_{number}"
        taken.add(name)
        names[node] = name
    return names


def text_of_graph(graph: Graph, gradients: Gradients | None = None) -> str:
    """One numbered line a node: `(3) h: float32(N, 4) = [i,j] x[i,j] + b[j]`."""
    names = equation_names(graph, gradients)
    width = len(str(len(graph.nodes))) + 2
    lines = [f"{f'({n})':>{width}} {format_node(node, names)}" for n, node in enumerate(graph.nodes, 1)]
    of = gradients.of if gradients is not None else recovered(graph)
    given = user_names(graph)
    for value in graph.nodes:  # one node may be the gradient of several values: say so
        shared = names.get(of[value]) if value in of else None
        if value in given and shared is not None and shared != f"grad_{names[value]}":
            lines.append(f"{f'({len(lines) + 1})':>{width}} grad_{names[value]} = {shared}")
    return "\n".join(lines)

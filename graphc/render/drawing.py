"""A graph as DOT: the user's ops and leaves, and beside them, mirrored, the gradients.

Every edge of the drawing is a read of the graph. An edge between two gradients is written from its reader to what it
reads and drawn with `dir=back`: so both halves are laid out in the forward direction, each gradient under its value,
with arrows that run back. An edge from a value into the gradient half is dashed and takes no part in the layout.
Shape as well as colour tells the kinds apart:

    input ellipse   parameter house   state cylinder   constant note   op rounded box   output double box
    gradient hexagon
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import graphviz
from numpy.typing import NDArray

from graphc.ir.extent import format_shape
from graphc.ir.graph import Graph, topological
from graphc.ir.node import Input, Node
from graphc.ir.printer import format_node, node_names
from graphc.render import labels
from graphc.render.gradients import Gradients
from graphc.render.names import (
    constant_text,
    formula,
    is_constant,
    is_derived,
    is_recomputed,
    op_label,
    scope_of,
    user_names,
)
from graphc.render.values import summary

STYLES: Mapping[str, Mapping[str, str]] = {
    "input": {"shape": "ellipse", "style": "filled", "fillcolor": "#d6e9f8"},
    "param": {"shape": "house", "style": "filled", "fillcolor": "#fde3b0"},
    "state": {"shape": "cylinder", "style": "filled", "fillcolor": "#e6dcf2"},
    "constant": {"shape": "note", "style": "filled", "fillcolor": "#eeeeee"},
    "op": {"shape": "box", "style": "rounded,filled", "fillcolor": "#ffffff"},
    "output": {"shape": "box", "peripheries": "2", "style": "filled", "fillcolor": "#c9eed9"},
    "gradient": {"shape": "hexagon", "style": "filled", "fillcolor": "#f9d9e4", "margin": "0.01,0.03"},
}
KIND_WORDS = {
    "input": "input",
    "param": "parameter",
    "state": "state",
    "constant": "constant",
    "op": "operation",
    "output": "output, loss",
    "gradient": "gradient",
}
FONT = "Helvetica,Arial,sans-serif"


@dataclass(eq=False)
class _Cluster:
    """A scope of the user's: its nodes, and the scopes inside it."""

    members: list[Node] = field(default_factory=list)
    inner: dict[str, _Cluster] = field(default_factory=dict)


class Drawing:
    """A graph, the gradients to draw beside it, and the numbers to write on the edges.

    graph: what the user wrote. gradients: of its loss; drawn as nodes when `backward`, as numbers when there are
    values. values: the array of each node that gets a number.
    """

    def __init__(
        self,
        graph: Graph,
        gradients: Gradients | None = None,
        values: Mapping[Node, NDArray[Any]] | None = None,
        backward: bool = False,
    ) -> None:
        self.graph = graph
        self.gradients = gradients
        self.values = values or {}
        self.is_backward = backward and gradients is not None
        extra = gradients.graph.outputs if gradients is not None and backward else ()
        self.nodes = tuple(topological((*graph.outputs, *extra)))
        self.forward = set(graph.nodes)
        self.ids = {node: f"n{number}" for number, node in enumerate(self.nodes)}
        self.names = user_names(graph)
        self.owners = gradients.owners() if gradients is not None and backward else {}
        self.identifiers = node_names(Graph((*graph.outputs, *extra)))
        read = {source for source, target in self.edges if (source in self.forward) == (target in self.forward)}
        self.unread = {node for node in self.nodes if node not in read}

    @property
    def edges(self) -> list[tuple[Node, Node]]:
        """(what is read, who reads it), each pair once."""
        return [(operand, node) for node in self.nodes for operand in dict.fromkeys(node.operands)]

    def kind(self, node: Node) -> str:
        """The key of the node's row in STYLES."""
        if isinstance(node, Input):
            return node.kind
        if node not in self.forward:
            return "gradient"
        if node in self.graph.outputs and not is_derived(node):
            return "output"
        if is_constant(node):
            return "constant"
        return "gradient" if is_derived(node) else "op"

    def dot(self) -> str:
        """The DOT text; the same graph gives the same text."""
        picture = graphviz.Digraph("graphc")
        picture.attr("graph", rankdir="LR", newrank="true", nodesep="0.35", ranksep="0.55", fontname=FONT)
        picture.attr("graph", fontsize="11", bgcolor="white", compound="true")
        picture.attr("node", fontname=FONT, fontsize="12", margin="0.12,0.06", height="0.4", color="#333333")
        picture.attr("edge", fontname=FONT, fontsize="11", color="#333333", arrowsize="0.7")
        self._scopes(picture, [node for node in self.nodes if node in self.forward], "f", "")
        self._scopes(picture, [node for node in self.nodes if node not in self.forward], "b", "gradients of ")
        self._align(picture)
        for source, target in self.edges:
            self._edge(picture, source, target)
        self._legend(picture)
        return str(picture.source)

    # --- Nodes ------------------------------------------------------------------------------------------------------

    def _scopes(self, picture: graphviz.Digraph, nodes: Sequence[Node], prefix: str, title: str) -> None:
        root = _Cluster()
        for node in nodes:
            cluster = root
            for part in scope_of(node):
                cluster = cluster.inner.setdefault(part, _Cluster())
            cluster.members.append(node)
        self._cluster(picture, root, prefix, title)

    def _cluster(self, picture: graphviz.Digraph, cluster: _Cluster, prefix: str, title: str) -> None:
        for node in cluster.members:
            self._node(picture, node)
        for number, (name, inner) in enumerate(cluster.inner.items()):
            with picture.subgraph(name=f"cluster_{prefix}{number}") as box:
                box.attr(label=labels.lines([labels.escaped(title + name)]), style="rounded", color="#888888")
                self._cluster(box, inner, f"{prefix}{number}_", title)

    def _node(self, picture: graphviz.Digraph, node: Node) -> None:
        equation = format_node(node, self.identifiers)
        tip = labels.escaped(equation)
        picture.node(
            self.ids[node],
            labels.lines(self._node_lines(node)),
            tooltip=graphviz.escape(tip),
            **STYLES[self.kind(node)],
        )

    def _node_lines(self, node: Node) -> list[str]:
        kind = self.kind(node)
        name = self.names.get(node)
        if isinstance(node, Input):
            return [labels.bold(node.name), *self._own_shape(node)]
        if kind == "constant":
            text = constant_text(node) or op_label(node)
            return [labels.bold(text), *([labels.italic(name)] if name else []), *self._own_shape(node)]
        if kind == "gradient":
            return [*self._gradient_title(node), *self._own_shape(node)]
        found = [labels.bold(op_label(node))]
        arithmetic = formula(node)
        if arithmetic is not None:
            found.append(labels.escaped(arithmetic))
        if name:
            found.append(labels.italic(name))
        if node in self.graph.outputs:  # nothing reads it: its numbers stand inside
            found.extend(self._own_shape(node))
            above, below = self._numbers(node)
            found.extend([*above, *below])
        return found

    def _gradient_title(self, node: Node) -> list[str]:
        """∂f/∂h for the gradient of a value, and the op whose backward step it is."""
        owned = self.owners.get(node, [])
        found: list[str] = []
        if owned and self.gradients is not None:
            loss = self.names.get(self.gradients.loss, "output")
            named = [self.names[value] for value in owned if value in self.names]
            text = " = ".join(f"∂{loss}/∂{name}" for name in named) if named else f"∂{loss}/∂({op_label(owned[0])})"
            found.append(labels.bold(text))
        if is_constant(node):
            found.append(labels.escaped(constant_text(node) or op_label(node)))
        elif not found or node.operands:
            found.append(labels.quiet(f"{op_label(node)}, {'again' if is_recomputed(node) else 'backward'}"))
        if node in self.unread and node in self.values:  # no edge carries its number
            found.extend(labels.gradient_line(text) for text in summary(self.values[node]))
        return found

    def _own_shape(self, node: Node) -> list[str]:
        """The shape inside a node that no drawn edge reads, where it would be said nowhere else."""
        text = self._shape_text(node)
        return [labels.quiet(text)] if text and node in self.unread else []

    def _shape_text(self, node: Node) -> str:
        """The shape, that of its value where it has one, and the dtype when it is not float32; nothing for a scalar."""
        extents = self.values[node].shape if node in self.values else node.shape
        shape = format_shape(extents) if extents else ""
        return shape if node.dtype == "float32" else f"{node.dtype}{shape}"

    def _align(self, picture: graphviz.Digraph) -> None:
        """Each gradient stands in the column of its value."""
        for gradient, values in self.owners.items():
            if gradient in self.ids and gradient not in self.forward:
                with picture.subgraph() as column:
                    column.attr(rank="same")
                    column.node(self.ids[values[0]])
                    column.node(self.ids[gradient])

    # --- Edges ------------------------------------------------------------------------------------------------------

    def _numbers(self, node: Node) -> tuple[list[str], list[str]]:
        """The lines of a node's value, and those of its gradient."""
        if node not in self.values:
            return [], []
        above = [labels.value_line(text) for text in summary(self.values[node])]
        gradient = self.gradients.of.get(node) if self.gradients is not None else None
        below: list[str] = []
        if gradient is not None and gradient in self.values:
            below = [labels.gradient_line(text) for text in summary(self.values[gradient])]
        return above, below

    def _edge(self, picture: graphviz.Digraph, source: Node, target: Node) -> None:
        attributes: dict[str, str] = {}
        is_reversed = source not in self.forward and target not in self.forward
        if source in self.forward and target not in self.forward:
            attributes |= {"constraint": "false", "style": "dashed", "color": "#999999"}
        else:
            above, below = self._numbers(source)
            text = self._shape_text(source)
            shape = [labels.quiet(text)] if text else []
            if is_reversed:
                attributes |= {"dir": "back", "color": labels.GRADIENT_COLOUR}
                above = [labels.gradient_line(text) for text in summary(self.values[source])] if above else []
                if above or shape:
                    attributes["label"] = labels.lines([*shape, *above])
            elif above:
                attributes |= {"label": labels.around_edge([*shape, *above], below), "class": "numbers"}
            elif shape:
                attributes["label"] = labels.lines(shape)
        tail, head = (target, source) if is_reversed else (source, target)
        picture.edge(self.ids[tail], self.ids[head], **attributes)

    # --- Legend -----------------------------------------------------------------------------------------------------

    def _legend(self, picture: graphviz.Digraph) -> None:
        """A row of samples; the edges that hold it in a row are invisible."""
        kinds = {self.kind(node) for node in self.nodes}
        row = [kind for kind in STYLES if kind in kinds]
        text = self._legend_text()
        with picture.subgraph(name="cluster_legend") as box:
            box.attr(label="", style="rounded,dashed", color="#aaaaaa")
            for kind in row:
                style = {**STYLES[kind], "fontsize": "9", "height": "0.25", "width": "0.3", "margin": "0.08,0.03"}
                box.node(f"legend_{kind}", KIND_WORDS[kind], **style)
            if text:
                row.append("text")
                box.node("legend_text", labels.lines(text), shape="plaintext", fontsize="9", margin="0", height="0")
            for left, right in pairwise(row):
                box.edge(f"legend_{left}", f"legend_{right}", style="invis", minlen="1", weight="0")

    def _legend_text(self) -> list[str]:
        text: list[str] = []
        if self.values:
            text.append(labels.value_line("value above the edge"))
            if self.gradients is not None:
                text.append(labels.gradient_line("gradient below it"))
        if self.is_backward:
            text.append(labels.gradient_line("←  gradient flows back"))
            text.append(labels.quiet("- - →  value used again"))
        return text

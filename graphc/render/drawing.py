"""A graph as a picture: the user's ops and leaves, and beside them, mirrored, the gradients.

Every arrow of the picture is a read of the graph. Boxes are grouped by the user's scopes and by the ops that are made
of others (`groups.py`); which groups are folded depends on the depth asked for, or on how much there is to draw.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeAlias

from numpy.typing import NDArray

from graphc.errors import ArgumentError
from graphc.ir.extent import format_shape
from graphc.ir.graph import Graph, topological
from graphc.ir.node import Input, Node, Opaque
from graphc.ir.printer import format_node, node_names
from graphc.render.fitting import LONGEST_ROW, LONGEST_ROW_OF_VALUES, fit, longest_row
from graphc.render.fold import fold
from graphc.render.gradients import Gradients, recovered
from graphc.render.groups import Part, Parts, frames_of
from graphc.render.names import (
    asking_lines,
    body_text,
    constant_text,
    formula,
    is_constant,
    is_derived,
    is_recomputed,
    op_label,
    short_places,
    user_names,
)
from graphc.render.picture import Arrow, Box, Group, Half, Line, Picture, Role
from graphc.render.sequence import steps_of
from graphc.render.updates import forward_half, updates_of
from graphc.render.values import summary

Direction: TypeAlias = Literal["LR", "TB"]
DIRECTIONS = ("LR", "TB")

MOST_NAMED = 3  # gradients in a folded box
MOST_SOURCES = 4  # lines of the user's in a box


def picture_of_graph(
    graph: Graph,
    gradients: Gradients | None = None,
    values: Mapping[Node, NDArray[Any]] | None = None,
    *,
    backward: bool = False,
    of: Mapping[Node, Node] | None = None,
    targets: Mapping[Node, Node] | None = None,
    is_rewritten: bool = False,
    depth: int | None = None,
    direction: Direction | None = None,
    title: str = "",
) -> Picture:
    """The picture of a graph, with every box; `fold` leaves those that are to be drawn.

    graph: what the user wrote.
    gradients: of its loss; drawn as boxes when `backward`, as numbers when there are values.
    values: the array of each node that gets a number.
    of: where there are no `gradients`, which node of the graph is the derivative of which; found where it can be when
        left out.
    targets: for the new value of a param or state that leaf.
    is_rewritten: ops may compute something else than their names say.
    depth: scopes deeper than this are folded; None folds as much as a page needs.
    direction: "LR" or "TB"; None chooses by the length.
    """
    if depth is not None and depth < 0:
        raise ArgumentError(f"depth: a number from 0 up is needed, not {depth}")
    if direction is not None and direction not in DIRECTIONS:
        raise ArgumentError(f"direction: {' or '.join(DIRECTIONS)} is needed, not {direction!r}")
    drawing = _Drawing(graph, gradients, values or {}, backward, of, targets or {}, is_rewritten)
    return drawing.picture(depth, direction, title)


class _Drawing:
    def __init__(
        self,
        graph: Graph,
        gradients: Gradients | None,
        values: Mapping[Node, NDArray[Any]],
        backward: bool,
        of: Mapping[Node, Node] | None,
        targets: Mapping[Node, Node],
        is_rewritten: bool,
    ) -> None:
        self.graph = graph
        self.gradients = gradients
        self.values = values
        self.targets = targets
        self.is_rewritten = is_rewritten
        extra = gradients.graph.outputs if gradients is not None and backward else ()
        self.nodes = tuple(topological((*graph.outputs, *extra)))
        self.forward = forward_half(graph)
        self.updates = updates_of(graph, self.forward, targets)
        self.is_backward = len(self.forward) < len(self.nodes)
        self.ids = {node: f"n{number}" for number, node in enumerate(self.nodes)}
        self.names = user_names(graph)
        named = graph.outputs[: len(graph.names)] or graph.outputs
        self.outputs = {node for node in named if node in self.forward}
        self.loss = gradients.loss if gradients is not None else next(iter(self.outputs), None)
        self.of: Mapping[Node, Node] = {}
        if gradients is not None:
            self.of = gradients.of
        elif self.is_backward:
            self.of = recovered(graph) if of is None else of
        self.owners: dict[Node, list[Node]] = {}
        for value in reversed(self.nodes):
            if value in self.of and self.of[value] in self.ids and self.of[value] not in self.forward:
                self.owners.setdefault(self.of[value], []).append(value)
        derivatives = tuple(gradients.of.values()) if gradients is not None else ()
        self.identifiers = node_names(Graph((*graph.outputs, *extra, *derivatives)))
        self._derivatives = {
            self.identifiers[self.of[value]]: self._derivative(value)
            for value in graph.nodes
            if self.of.get(value) in self.identifiers
        }
        made = {frames_of(node): self.ids[node] for node in self.nodes if node in self.forward}
        self.beside = {node: made.get(frames_of(node)) for node in self.nodes if node not in self.forward}
        self.readers: dict[Node, list[Node]] = {node: [] for node in self.nodes}
        for source, target in self.edges():
            self.readers[source].append(target)
        self.unread = {node for node in self.nodes if all(self.half(r) != self.half(node) for r in self.readers[node])}

    def picture(self, depth: int | None, direction: Direction | None, title: str) -> Picture:
        boxes = tuple(self._box(node) for node in self.nodes)
        arrows = (*(self._arrow(source, target) for source, target in self.edges()), *self._updates())
        whole = Picture(title or self.names.get(self.loss or self.nodes[-1], "graph"), boxes, arrows)
        steps = steps_of(self.nodes, self.ids, self.forward, self.of, self._named, self._caption)
        whole = replace(whole, steps=steps, notes=tuple(self._notes()))
        parts, runs = (Parts(self.nodes, self.forward, self.updates) for _ in range(2))
        whole = fit(whole, parts, runs, self._group, depth)
        if direction is None:
            limit = LONGEST_ROW_OF_VALUES if self.values else LONGEST_ROW
            direction = "TB" if longest_row(fold(whole)) > limit else "LR"
        return replace(whole, direction=direction)

    def edges(self) -> list[tuple[Node, Node]]:
        """(what is read, who reads it), each pair once."""
        return [(operand, node) for node in self.nodes for operand in dict.fromkeys(node.operands)]

    def half(self, node: Node) -> Half:
        return "forward" if node in self.forward else "gradient"

    # --- Groups -----------------------------------------------------------------------------------------------------

    def _group(self, part: Part) -> Group:
        held = part.all_members()
        here = set(held)
        params = sum(_size(node) for node in held if isinstance(node, Input) and node.kind == "param")
        about: list[Line] = []
        if part.is_op and part.frame.title:
            about = [Line(part.frame.title, "bold"), Line(part.frame.name, "quiet")]
        elif part.is_op:
            about = [Line(part.frame.name, "bold")]
            named = [node for node in held if node in self.names and not isinstance(node, Input)]
            about += [Line(self.names[node], "italic") for node in named[-1:] if node not in self.outputs]
        else:
            about = [Line(part.frame.title or part.frame.name, "bold")]
            if part.frame.title and part.frame.name not in ("", part.frame.title):
                about.append(Line(part.frame.name, "italic"))
            if part.times > 1:
                about.append(Line(f"× {part.times}", "bold"))
            if params:
                about.append(Line(f"{params:,} parameters", "quiet"))
        gradient: list[Line] = []
        owned = [self.owners[node] for node in held if node in self.owners]
        best = [min(values, key=lambda value: (value not in self.names, value in here)) for values in owned]
        outside = [self._derivative(value) for value in dict.fromkeys(best) if value not in here]
        inside = [value for value in dict.fromkeys(best) if value in here and isinstance(value, Input)]
        gradient += [Line(text, "bold") for text in _few(outside)]
        loss = self._loss_name()
        local = dict.fromkeys(f"∂{loss}/∂{self.names[value].rpartition('.')[2]}" for value in inside)
        gradient += [Line(", ".join(_few(list(local))))] if local else []
        makers = dict.fromkeys(self.updates[node][1].title for node in held if node in self.updates)
        gradient += [Line(f"updates: {', '.join(makers)}")] if makers else []
        word = part.frame.title or part.frame.name
        if part.times > 1:
            word += f" × {part.times}"
        gradient.append(Line(f"{word}, backward", "quiet" if gradient else "bold"))
        parent = part.parent.key if part.parent is not None and part.parent.key else None
        title = f"{part.title} × {part.times}" if part.times > 1 else part.title
        if part.is_op and part.frame.title:
            gradient = about
        return Group(part.key, title, parent, tuple(about), tuple(gradient), "op" if part.is_op else "block")

    # --- Boxes ------------------------------------------------------------------------------------------------------

    def _kind(self, node: Node) -> str:
        if isinstance(node, Input):
            return node.kind
        if node in self.outputs:
            return "output"
        if node in self.forward:
            return "constant" if is_constant(node) else "op"
        return "op" if self.gradients is None and not is_derived(node) else "gradient"

    def _box(self, node: Node) -> Box:
        asked = asking_lines(node)
        is_shared = len(asked) > 1 and len(self.readers[node]) > 1 and not isinstance(node, Input)
        lines = self._lines(node)
        if is_shared:
            lines.append(Line(f"shared: {short_places(asked, MOST_SOURCES)}", "quiet"))
        owned = self.owners.get(node)
        owner = self.ids[owned[0]] if owned else self.ids.get(self.targets[node]) if node in self.targets else None
        details = self._details(node, asked, is_shared)
        return Box(
            self.ids[node],
            self._kind(node),
            tuple(lines),
            self.half(node),
            None,
            owner,
            self.beside.get(node),
            (node,),
            is_shared,
            details,
        )

    def _details(self, node: Node, asked: Sequence[str], is_shared: bool) -> Mapping[str, tuple[str, ...]]:
        title = self.names.get(node, op_label(node))
        owned = self.owners.get(node, ())
        found: dict[str, tuple[str, ...]] = {
            "": (" = ".join(self._derivative(value) for value in owned) or title,),
            "type": (f"{node.dtype}{format_shape(node.shape)}",),
        }
        if node in self.values:
            found["value" if node in self.forward else "gradient"] = tuple(summary(self.values[node]))
        gradient = self.of.get(node)
        if gradient is not None and gradient in self.values and node in self.forward:
            found["gradient"] = tuple(summary(self.values[gradient]))
        found["equation"] = (self._equation(node),)
        if isinstance(node, Opaque) and node.step is not None:
            found["in each step"] = tuple(str(Graph((*node.step.following, node.step.value))).splitlines())
        if is_shared:
            found["shared: asked for by"] = tuple(asked)
        elif asked:
            found["source"] = tuple(asked[:MOST_SOURCES])
        return found

    def _lines(self, node: Node) -> list[Line]:
        kind = self._kind(node)
        name = self.names.get(node)
        if isinstance(node, Input):
            return [Line(node.name, "bold"), *self._own_shape(node)]
        if kind == "constant":
            text = constant_text(node) or op_label(node)
            return [Line(text, "bold"), *([Line(name, "italic")] if name else []), *self._own_shape(node)]
        if kind == "gradient":
            return [*self._gradient_title(node), *self._own_shape(node)]
        found = [Line(op_label(node), "bold")]
        arithmetic = self._formula(node)
        if arithmetic is not None:
            found.append(Line(arithmetic))
        if name:
            found.append(Line(name, "italic"))
        if node in self.graph.outputs:  # nothing reads it: its numbers stand inside
            found.extend(self._own_shape(node))
            above, below = self._numbers(node)
            found.extend([*above, *below])
        return found

    def _loss_name(self) -> str:
        return self.names.get(self.loss, "output") if self.loss is not None else "output"

    def _derivative(self, value: Node) -> str:
        loss = self._loss_name()
        return f"∂{loss}/∂{self.names[value]}" if value in self.names else f"∂{loss}/∂({op_label(value)})"

    def _gradient_title(self, node: Node) -> list[Line]:
        """∂f/∂h for the gradient of a value, and the op whose backward step it is."""
        owned = self.owners.get(node, [])
        found: list[Line] = []
        if owned:
            named = [value for value in owned if value in self.names]
            found.append(Line(" = ".join(map(self._derivative, named or owned[:1])), "bold"))
        if is_constant(node):
            found.append(Line(constant_text(node) or op_label(node)))
        elif not found or node.operands:
            found.append(Line(f"{op_label(node)}, {'again' if is_recomputed(node) else 'backward'}", "quiet"))
        if self.is_rewritten and (arithmetic := self._formula(node)) is not None:
            found.append(Line(arithmetic))
        if node in self.unread and node in self.values:  # no edge carries its number
            found.extend(Line(text, "gradient") for text in summary(self.values[node]))
        return found

    def _formula(self, node: Node) -> str | None:
        """The scalar formula where the op's name does not say all."""
        return body_text(node) if self.is_rewritten else formula(node)

    def _own_shape(self, node: Node) -> list[Line]:
        """The shape inside a node that no drawn edge reads, where it would be said nowhere else."""
        text = self._shape_text(node)
        return [Line(text, "quiet")] if text and node in self.unread else []

    def _shape_text(self, node: Node) -> str:
        """The shape, that of its value where it has one, and the dtype when it is not float32; nothing for a scalar."""
        extents = self.values[node].shape if node in self.values else node.shape
        shape = format_shape(extents) if extents else ""
        return shape if node.dtype == "float32" else f"{node.dtype}{shape}"

    # --- Arrows -----------------------------------------------------------------------------------------------------

    def _numbers(self, node: Node) -> tuple[list[Line], list[Line]]:
        """The lines of a node's value, and those of its gradient."""
        if node not in self.values:
            return [], []
        above = [Line(text, "value") for text in summary(self.values[node])]
        gradient = self.of.get(node)
        below: list[Line] = []
        if gradient is not None and gradient in self.values:
            below = [Line(text, "gradient") for text in summary(self.values[gradient])]
        return above, below

    def _arrow(self, source: Node, target: Node) -> Arrow:
        reads = ((source, target),)
        if self.half(source) != self.half(target):
            return Arrow(self.ids[source], self.ids[target], "reuse", reads=reads)
        role: Role = self.half(source)
        above, below = self._numbers(source)
        text = self._shape_text(source)
        shape = [Line(text, "quiet")] if text else []
        if role == "gradient":
            above, below = [Line(line.text, "gradient") for line in above], []
        return Arrow(self.ids[source], self.ids[target], role, (*shape, *above), tuple(below), reads)

    def _updates(self) -> list[Arrow]:
        """From the new value of a param or state to that leaf."""
        found: list[Arrow] = []
        for value, leaf in self.targets.items():
            if value in self.ids and leaf in self.ids:
                found.append(Arrow(self.ids[value], self.ids[leaf], "update", (Line(":="),)))
        return found

    # --- The rest ---------------------------------------------------------------------------------------------------

    def _named(self, node: Node) -> str:
        """x = -2; without values x alone."""
        own = self.names.get(node, op_label(node))
        return f"{own} = {self._number(node)}" if node in self.values else own

    def _caption(self, node: Node) -> str:
        """q = x + y = 3."""
        owned = self.owners.get(node) or [value for value in self.graph.nodes if self.of.get(value) is node]
        named = [value for value in owned if value in self.names]
        title = " = ".join(map(self._derivative, named or owned[:1])) or self.names.get(node, self.identifiers[node])
        found = f"{title} = {self._equation(node).partition(' = ')[2]}"
        return f"{found} = {self._number(node)}" if node in self.values else found

    def _equation(self, node: Node) -> str:
        """The printer's line, with ∂f/∂q for the gradient of q."""
        line = format_node(node, self.identifiers)
        return re.sub(r"[A-Za-z_]\w*", lambda found: self._derivatives.get(found[0], found[0]), line)

    def _number(self, node: Node) -> str:
        return ", ".join(summary(self.values[node]))

    def _notes(self) -> list[Line]:
        found: list[Line] = []
        if self.values:
            found.append(Line("value above the edge", "value"))
            if self.gradients is not None:
                found.append(Line("gradient below it", "gradient"))
        if self.is_backward:
            found.append(Line("←  gradient flows back", "gradient"))
            found.append(Line("- - →  value used again", "quiet"))
        if self.targets:
            found.append(Line("· · · →  new value", "quiet"))
        return found


def _few(texts: Sequence[str]) -> list[str]:
    if len(texts) <= MOST_NAMED:
        return list(texts)
    return [*texts[: MOST_NAMED - 1], f"and {len(texts) - MOST_NAMED + 1} more"]


def _size(node: Node) -> int:
    size = 1
    for extent in node.shape:
        size *= extent if isinstance(extent, int) else 1
    return size

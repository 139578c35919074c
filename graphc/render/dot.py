"""A picture as DOT text, which pygraphviz or Graphviz's `dot` lays out.

An arrow of the gradient half is written from its reader to what it reads and drawn with `dir=back`: so both halves are
laid out in the same direction, each gradient beside its value, with arrows that run back. An arrow from a value into
the gradient half is dashed and takes no part in the layout. Shape as well as colour tells the kinds of boxes apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import graphviz

from graphc.render import labels
from graphc.render.picture import KINDS, Arrow, Box, Group, Half, Line, Picture

STYLES: Mapping[str, Mapping[str, str]] = {
    "input": {"shape": "ellipse", "style": "filled", "fillcolor": "#d6e9f8"},
    "param": {"shape": "house", "style": "filled", "fillcolor": "#fde3b0"},
    "state": {"shape": "cylinder", "style": "filled", "fillcolor": "#e6dcf2"},
    "constant": {"shape": "note", "style": "filled", "fillcolor": "#eeeeee"},
    "op": {"shape": "box", "style": "rounded,filled", "fillcolor": "#ffffff"},
    "block": {"shape": "box3d", "style": "filled", "fillcolor": "#f6f6f0"},
    "output": {"shape": "box", "peripheries": "2", "style": "filled", "fillcolor": "#c9eed9"},
    "gradient": {"shape": "hexagon", "style": "filled", "fillcolor": "#f9d9e4", "margin": "0.01,0.03"},
    "gradients": {"shape": "box3d", "style": "filled", "fillcolor": "#f9d9e4"},
    "kernel": {"shape": "box", "style": "rounded,filled", "fillcolor": "#ffffff"},
    "contraction": {"shape": "box", "style": "rounded,filled", "fillcolor": "#e3ecf7", "penwidth": "2"},
    "removed": {"shape": "box", "style": "diagonals,dashed,filled", "fillcolor": "#f4f4f4"},
    "added": {"shape": "box", "style": "rounded,filled", "fillcolor": "#e2f3d8", "penwidth": "2.5"},
}
FONT = "Helvetica,Arial,sans-serif"
LINE_COLOUR = "#333333"
FAINT_COLOUR = "#999999"
PALE = {"color": "#cccccc", "fillcolor": "#ffffff"}  # a box whose turn comes later
REACHED = {"color": "#c05000", "penwidth": "2.5"}  # the box whose turn it is


def dot_of_picture(picture: Picture, step: int | None = None) -> str:
    """The DOT text; the same picture gives the same text. With a step, what comes later is pale and has no numbers."""
    return _Writer(picture, step).text()


class _Writer:
    def __init__(self, picture: Picture, step: int | None) -> None:
        self.picture = picture
        self.inside: dict[str | None, list[Box]] = {}
        for box in picture.boxes:
            self.inside.setdefault(box.group, []).append(box)
        self.children: dict[str | None, list[Group]] = {}
        for group in picture.groups:
            self.children.setdefault(group.parent, []).append(group)
        self.halves = {box.id: box.half for box in picture.boxes}
        self.holds = _halves_of_groups(picture)
        taken = picture.steps if step is None else picture.steps[: step + 1]
        self.values = None if step is None else {name for one in taken for name in one.boxes}
        self.gradients = None if step is None else {name for one in taken for name in one.gradients}
        self.now: tuple[str, ...] = ()
        self.caption = ""
        if step is not None:
            self.now = (*taken[-1].boxes, *taken[-1].gradients)
            self.caption = f"{step + 1} of {len(picture.steps)}: {taken[-1].caption}"

    def text(self) -> str:
        dot = graphviz.Digraph("graphc")
        direction = self.picture.direction
        separation = {"nodesep": "0.35", "ranksep": "0.55" if direction == "LR" else "0.4"}
        dot.attr("graph", rankdir=direction, newrank="true", fontname=FONT, fontsize="11", bgcolor="white")
        dot.attr("graph", **separation)
        dot.attr("node", fontname=FONT, fontsize="12", margin="0.12,0.06", height="0.4", color=LINE_COLOUR)
        dot.attr("edge", fontname=FONT, fontsize="11", color=LINE_COLOUR, arrowsize="0.7")
        if self.caption:
            dot.attr("graph", label=labels.lines([labels.escaped(self.caption)]), labelloc="b", fontsize="14")
        self._half(dot, None, "forward")
        self._half(dot, None, "gradient")
        self._align(dot)
        for arrow in self.picture.arrows:
            self._arrow(dot, arrow)
        self._legend(dot)
        return str(dot.source)

    # --- Boxes ------------------------------------------------------------------------------------------------------

    def _half(self, dot: graphviz.Digraph, group: str | None, half: Half) -> None:
        """The boxes of one half in a group, and the groups inside it as clusters."""
        for box in self.inside.get(group, ()):
            if box.half == half:
                self._box(dot, box)
        for inner in self.children.get(group, ()):
            if (inner.key, half) not in self.holds:
                continue
            with dot.subgraph(name=f"cluster_{half}_{inner.key}") as cluster:
                title = inner.title if half == "forward" else f"gradients of {inner.title}"
                label = labels.lines([labels.escaped(title)])
                cluster.attr(label=label, style="rounded", color="#888888", fontsize="11")
                self._half(cluster, inner.key, half)

    def _box(self, dot: graphviz.Digraph, box: Box) -> None:
        style = dict(STYLES[box.kind])
        is_due = self.values is None or box.id in self.values
        if not is_due:
            style |= PALE
        elif box.id in self.now:
            style |= REACHED
        lines = [self._line(line, box.id, is_due) for line in box.lines]
        told = [text for heading, texts in box.details.items() if heading not in ("", "type") for text in texts]
        tip = "&#10;".join(map(labels.tip, told))
        dot.node(box.id, labels.lines(lines), tooltip=tip, **style)

    def _line(self, line: Line, owner: str, is_due: bool) -> str:
        """A line of a box, or of an arrow from it; its numbers are there, but not to be seen, until they are known."""
        known = self.gradients if line.style == "gradient" and self.halves.get(owner) == "forward" else self.values
        if line.style in ("value", "gradient") and known is not None and owner not in known:
            return labels.unseen(line.text)
        return labels.marked(line) if is_due else labels.pale(line)

    def _align(self, dot: graphviz.Digraph) -> None:
        """Each gradient stands in the column of its value."""
        for box in self.picture.boxes:
            if box.owner is not None and box.owner in self.halves:
                with dot.subgraph() as column:
                    column.attr(rank="same")
                    column.node(box.owner)
                    column.node(box.id)

    # --- Arrows -----------------------------------------------------------------------------------------------------

    def _arrow(self, dot: graphviz.Digraph, arrow: Arrow) -> None:
        attributes: dict[str, str] = {}
        is_due = self.values is None or arrow.target in self.values
        aside = "&nbsp;&nbsp;" if self.picture.direction == "TB" else ""  # away from an arrow that runs down
        above = [aside + self._line(line, arrow.source, True) for line in arrow.above]
        below = [aside + self._line(line, arrow.source, True) for line in arrow.below]
        match arrow.role:
            case "reuse":
                attributes |= {"constraint": "false", "style": "dashed", "color": FAINT_COLOUR}
            case "update":  # a label would lie on the boxes between
                attributes |= {"constraint": "false", "style": "dotted", "color": LINE_COLOUR, "arrowhead": "vee"}
            case "gradient":
                attributes |= {"dir": "back", "color": labels.GRADIENT_COLOUR}
                if above:
                    attributes["label"] = labels.lines(above)
            case "forward":
                has_numbers = any(line.style == "value" for line in arrow.above)
                if has_numbers and self.picture.direction == "LR":
                    attributes |= {"label": labels.around_edge(above, below), "class": "numbers"}
                elif above or below:
                    attributes["label"] = labels.lines([*above, *below])
        if not is_due:
            attributes["color"] = PALE["color"]
        tail, head = (arrow.target, arrow.source) if arrow.role == "gradient" else (arrow.source, arrow.target)
        dot.edge(tail, head, **attributes)

    # --- Legend -----------------------------------------------------------------------------------------------------

    def _legend(self, dot: graphviz.Digraph) -> None:
        """A row of samples; the edges that hold it in a row are invisible."""
        found = {box.kind for box in self.picture.boxes}
        row = [kind for kind in STYLES if kind in found]
        with dot.subgraph(name="cluster_legend") as box:
            box.attr(label="", style="rounded,dashed", color="#aaaaaa")
            for kind in row:
                style = {**STYLES[kind], "fontsize": "9", "height": "0.25", "width": "0.3", "margin": "0.08,0.03"}
                box.node(f"legend_{kind}", KINDS[kind], **style)
            if self.picture.notes:
                row.append("text")
                text = labels.lines([labels.marked(note) for note in self.picture.notes])
                box.node("legend_text", text, shape="plaintext", fontsize="9", margin="0", height="0")
            for left, right in pairwise(row):
                box.edge(f"legend_{left}", f"legend_{right}", style="invis", minlen="1", weight="0")


def _halves_of_groups(picture: Picture) -> set[tuple[str, Half]]:
    """(group, half) for every group that holds a box of the half, however deep."""
    parents = {group.key: group.parent for group in picture.groups}
    found: set[tuple[str, Half]] = set()
    for box in picture.boxes:
        key = box.group
        while key is not None:
            found.add((key, box.half))
            key = parents[key]
    return found


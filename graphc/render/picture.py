"""A picture before it is written down: boxes, the arrows between them, the groups that fold, the steps of a sequence.

Whatever is drawn (a graph, a program, a pass before and after) becomes a `Picture`; `dot.py` writes it as DOT and
`page.py` as an HTML page. Nothing here knows how a picture is laid out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from graphc.ir.node import Node

Style: TypeAlias = Literal["plain", "bold", "italic", "quiet", "value", "gradient"]
Half: TypeAlias = Literal["forward", "gradient"]
Role: TypeAlias = Literal["forward", "gradient", "reuse", "update"]

KINDS: Mapping[str, str] = {
    "input": "input",
    "param": "parameter",
    "state": "state",
    "constant": "constant",
    "op": "operation",
    "block": "folded block",
    "output": "output, loss",
    "gradient": "gradient",
    "gradients": "folded gradients",
    "kernel": "kernel",
    "contraction": "kernel: contraction",
    "removed": "gone after the pass",
    "added": "made by the pass",
}
"""The kinds of boxes, and what a legend calls them. Each has a shape of its own as well as a colour."""


@dataclass(frozen=True)
class Line:
    """A line of text in a box or on an arrow, in any letters: whoever writes it down escapes it."""

    text: str
    style: Style = "plain"


@dataclass(frozen=True, eq=False)
class Box:
    """What is drawn as one shape.

    id: letters, digits and _; unique in the picture. half: the gradients are mirrored below or beside the forward half.
    group: the key of the innermost group that holds it, or None. owner: the id of the value of which this is the
    gradient, which stands in the same column. beside: that of the op whose backward step it is, which stands in the
    same column instead where blocks are folded. nodes: the nodes of the graph that it stands for. is_shared: more than
    one line of the user's asked for it. details: what a reader sees of it on hovering, by heading, in the order in
    which they are shown ("value", "gradient", "equation", "source", ...); lines of one heading are apart.
    """

    id: str
    kind: str
    lines: tuple[Line, ...]
    half: Half = "forward"
    group: str | None = None
    owner: str | None = None
    beside: str | None = None
    nodes: tuple[Node, ...] = field(default=(), repr=False)
    is_shared: bool = False
    details: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Arrow:
    """From what is read (`source`, a box's id) to who reads it (`target`).

    role: "forward" within the forward half; "gradient" within the gradient half, where `source` is nearer to the loss
    and the picture is laid out with the arrow turned, so that it points back; "reuse" from a value into the gradient
    half, which takes no part in the layout; "update" from a kernel back to the param that it changes.
    above, below: what is written over and under the line; a value and its gradient. reads: the edges of the graph that
    it stands for, each as (what is read, who reads it).
    """

    source: str
    target: str
    role: Role = "forward"
    above: tuple[Line, ...] = ()
    below: tuple[Line, ...] = ()
    reads: tuple[tuple[Node, Node], ...] = field(default=(), repr=False)


@dataclass(frozen=True, eq=False)
class Group:
    """Boxes that belong together: a scope of the user's, an op made of others, a run of equal blocks.

    key: unique in the picture. parent: the key of the group around it. title: what stands over it when it is open.
    lines: what stands in the box that it folds into, in the forward half, and in the gradient half `gradient_lines`.
    kind: of that box in the forward half, unless it holds an output; in the gradient half it is a gradient.
    is_folded: at first; a page lets the reader change it.
    """

    key: str
    title: str
    parent: str | None = None
    lines: tuple[Line, ...] = ()
    gradient_lines: tuple[Line, ...] = ()
    kind: str = "block"
    is_folded: bool = False


@dataclass(frozen=True)
class Step:
    """One frame of a sequence: the boxes that get their values now, those of the forward half whose gradients are now
    known (where gradients are written below the arrows), and what a reader is told."""

    boxes: tuple[str, ...]
    caption: str
    gradients: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Picture:
    """title: of a page. direction: "LR" or "TB", the way that the forward half runs. boxes are in an order in which
    each comes after what it reads; groups come after their parents; notes are lines of the legend."""

    title: str
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]
    groups: tuple[Group, ...] = ()
    steps: tuple[Step, ...] = ()
    notes: tuple[Line, ...] = ()
    direction: Literal["LR", "TB"] = "LR"

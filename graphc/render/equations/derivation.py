"""A derivation as lines: equations and recurrences in parts, which LaTeX, text and code write their way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from graphc.ir.graph import Graph
from graphc.ir.loop import Loop
from graphc.ir.node import Input, Node, Opaque
from graphc.render.equations.formula import Term
from graphc.render.equations.symbols import Symbol

GIVEN, FORWARD, BACKWARD_1, BACKWARD_2, UPDATES = "given", "forward", "intermediate", "parameters", "updates"
TITLES = {
    GIVEN: "Given",
    FORWARD: "Forward pass",
    BACKWARD_1: "Backward pass 1: gradients of the intermediate values",
    BACKWARD_2: "Backward pass 2: gradients of the parameters and inputs",
    UPDATES: "Updates",
}


@dataclass(frozen=True, eq=False)
class Equation:
    """`node` = `term`; in index notation where there is no term. For an update, `target` is what becomes it; for the
    gradient of several values, `of` is the value that this line is about, and `same` says that an earlier line had it.
    `loop` is the loop whose last carried value this is."""

    node: Node
    part: str
    term: Term | None = None
    of: Node | None = None
    same: bool = False
    target: Node | None = None
    loop: Loop | None = None


@dataclass(frozen=True, eq=False)
class Recurrence:
    """A loop: the equations of one step, which are about the values of the step, and the results that it stacks."""

    loop: Loop
    stacks: tuple[Opaque, ...]
    step: Equations
    part: str
    node: Node


@dataclass(frozen=True, eq=False)
class Equations:
    """All lines in order, and the symbols: of a gradient that of the value that it is the gradient of."""

    graph: Graph
    loss: Node | None
    lines: tuple[Equation | Recurrence, ...]
    symbols: Mapping[Node, Symbol]
    owner: Mapping[Node, Node] = field(default_factory=dict)
    alias: Mapping[Node, Node] = field(default_factory=dict)
    terms: Mapping[Node, Term | None] = field(default_factory=dict)
    heads: frozenset[Node] = frozenset()


def declared(line: Equation | Recurrence) -> tuple[bool, bool, int]:
    """Inputs before parameters, as declared; constants last."""
    node = line.node
    if not isinstance(node, Input):
        return True, True, 0
    return False, node.kind != "input", node.serial


def leaf_order(line: Equation | Recurrence, order: Mapping[Node, int]) -> tuple[bool, int]:
    """Parameters before inputs, and those near the loss first."""
    leaf = line.of if isinstance(line, Equation) else None
    if not isinstance(leaf, Input):
        return False, -1
    return leaf.kind == "input", order.get(leaf, len(order))

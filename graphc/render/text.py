"""Equations in plain text: the parts of a derivation, numbered throughout.

     (7) f3 = b3 + w3 * h3
     (9) dl/df3 = 2 * (f3 - y)

Layers are in matrix notation (`@`, `^T`; `*` is element by element); delta_Z is the gradient with respect to an array Z.
What has no matrix notation is in index notation; with `index=True`, everything is, one equation for each node.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from graphc.ir.extent import format_shape
from graphc.ir.graph import Graph
from graphc.ir.node import Input, Node
from graphc.ir.printer import format_node
from graphc.render.equations import BACKWARD_1, GIVEN, TITLES, UPDATES, Equation, Equations, Recurrence, equations_of
from graphc.render.gradients import Gradients
from graphc.render.text_terms import TextTerms

_SETS = {"float32": "R", "float64": "R", "int32": "Z", "int64": "Z", "bool": "{0, 1}"}


def text_of_graph(
    graph: Graph, gradients: Gradients | None = None, *, index: bool = False, targets: Sequence[Node] = ()
) -> str:
    """The equations of a graph, a line each; the arguments are those of `graphc.render.equations.equations_of`."""
    return text_of(equations_of(graph, gradients, index=index, targets=targets), index)


def text_of(equations: Equations, index: bool = False) -> str:
    """The equations, a line each."""
    names = Names(equations, index)
    counted = sum(len(names.lines(line)) for line in equations.lines if line.part != GIVEN)
    width = len(str(counted)) + 2
    lines: list[str] = []
    part, number = "", 0
    for line in equations.lines:
        if line.part != part:
            part = line.part
            lines += [*([""] if lines else []), TITLES[part] + names.legend(part)]
        for text in names.lines(line):
            if part == GIVEN or text.startswith(" "):
                lines.append(" " * (width + 1) + text)
                continue
            number += 1
            lines.append(f"{f'({number})':>{width}} {text}")
    return "\n".join(lines)


class Names:
    """How the values of some equations are written, and their lines with them. suffix: of the values of a step."""

    def __init__(self, equations: Equations, index: bool) -> None:
        self.equations, self.index = equations, index
        self.terms = TextTerms(self.head, self.gradient)

    def head(self, node: Node) -> str:
        symbol = self.equations.symbols.get(node)
        return visible(symbol.text) if symbol is not None else self.gradient(node)

    def gradient(self, node: Node) -> str:
        owner = self.equations.owner.get(node)
        return self.of(owner) if owner is not None else self.head(node)

    def of(self, value: Node) -> str:
        """The gradient with respect to a value."""
        head = self.head(value)
        if value.shape and not self.index and not isinstance(value, Input):
            return f"delta_{head}"
        assert self.equations.loss is not None
        loss = self.head(self.equations.loss)
        return "/".join(f"d{name}" if re.fullmatch(r"[\w.]+", name) else f"d({name})" for name in (loss, head))

    def legend(self, part: str) -> str:
        """What the gradient of an array is called."""
        if part != BACKWARD_1 or self.index or self.equations.loss is None:
            return ""
        if not any(line.part == part and line.node.shape for line in self.equations.lines):
            return ""
        return f", delta_V = d{self.head(self.equations.loss)}/dV"

    def lines(self, line: Equation | Recurrence) -> list[str]:
        """An equation, or those of a loop."""
        if isinstance(line, Recurrence):
            return []
        if line.part == UPDATES and line.target is not None:
            right = self.terms(line.term) if line.term is not None else self.gradient(line.node)
            return [f"{self.head(line.target)} <- {right}"]
        if line.part == GIVEN:
            return [self._given(line.node)]
        if line.term is not None:
            left = self.of(line.of) if line.same and line.of is not None else self.gradient(line.node)
            return [f"{left} = {self.terms(line.term)}"]
        return [self._in_indices(line.node)]

    def _given(self, node: Node) -> str:
        base = _SETS.get(node.dtype, "N")
        space = f"{base}^({' x '.join(map(str, node.shape))})" if node.shape else base
        note = node.kind if isinstance(node, Input) else "constant"
        return f"{self.head(node)} in {space}" + ("" if note == "input" else f"  ({note})")

    def _in_indices(self, node: Node) -> str:
        names = {operand: self.gradient(self.equations.alias.get(operand, operand)) for operand in node.operands}
        names[node] = self.gradient(node)
        left, _, right = format_node(node, names).partition(f": {node.dtype}{format_shape(node.shape)} = ")
        return f"{left} = {right}"


def visible(text: str) -> str:
    """A name with what does not print written out."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


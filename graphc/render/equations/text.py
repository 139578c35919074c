"""Equations in plain text: the parts of a derivation, numbered throughout.

     (7) f3 = b3 + w3 * h3
     (9) dl/df3 = 2 * (f3 - y)

Layers are in matrix notation (`@`, `^T`; `*` is element by element); delta_Z is the gradient with respect to an array
Z. What has no matrix notation is in index notation; with `index=True`, everything is, one equation for each node.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from graphc.ir.extent import format_shape
from graphc.ir.graph import Graph
from graphc.ir.node import Const, Input, Node, Opaque
from graphc.ir.printer import format_node
from graphc.render.equations.derivation import BACKWARD_1, GIVEN, TITLES, Equation, Equations, Recurrence
from graphc.render.equations.derive import equations_of
from graphc.render.equations.recurrence import begins, names_of, repeated, times_of
from graphc.render.equations.text_terms import TextTerms
from graphc.render.gradients import Gradients

_SETS = {"float32": "R", "float64": "R", "int32": "Z", "int64": "Z", "bool": "{0, 1}"}


def text_of_graph(
    graph: Graph, gradients: Gradients | None = None, *, index: bool = False, targets: Sequence[Node] = ()
) -> str:
    """The equations of a graph, a line each; the arguments are those of `graphc.render.equations.equations_of`."""
    return text_of(equations_of(graph, gradients, index=index, targets=targets), index)


def text_of(equations: Equations, index: bool = False) -> str:
    """The equations, a line each."""
    names = Names(equations, index)
    written = [(line, names.lines(line)) for line in equations.lines]
    width = len(str(sum(is_numbered for _, found in written for is_numbered, _ in found))) + 2
    lines: list[str] = []
    part, number = "", 0
    for line, found in written:
        if line.part != part:
            part = line.part
            lines += [*([""] if lines else []), TITLES[part] + names.legend(part)]
        for is_numbered, text in found:
            number += is_numbered
            lines.append(f"{f'({number})' if is_numbered else '':>{width}} {text}")
    return "\n".join(lines)


class Names:
    """How the values of some equations are written, and their lines with them.

    fixed: names that are decided already, as of the values of a loop's step; depth: how many loops stand around it.
    """

    def __init__(
        self, equations: Equations, index: bool, fixed: Mapping[Node, str] | None = None, depth: int = 0
    ) -> None:
        self.equations, self.index, self.depth = equations, index, depth
        self.fixed = fixed or {}
        self.terms = TextTerms(self.head, self.gradient)

    def head(self, node: Node) -> str:
        if node in self.fixed:
            return self.fixed[node]
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

    def lines(self, line: Equation | Recurrence) -> list[tuple[bool, str]]:
        """The lines of an equation or a loop, each with whether it has a number."""
        if isinstance(line, Recurrence):
            return self._loop(line)
        if line.part == GIVEN:
            return [(False, self._given(line.node))]
        return [(True, self._line(line))]

    def _line(self, line: Equation) -> str:
        if line.target is not None:
            right = self.terms(line.term) if line.term is not None else self.gradient(line.node)
            return f"{self.head(line.target)} <- {right}"
        if line.loop is not None and isinstance(line.node, Opaque):
            carried = line.loop.leaves[line.node.attribute("final")]
            last = "0" if line.loop.reverse else str(line.loop.length)
            return f"{self.gradient(line.node)} = {_at(self.head(carried), last)}"
        if line.term is not None:
            left = self.of(line.of) if line.same and line.of is not None else self.gradient(line.node)
            return f"{left} = {self.terms(line.term)}"
        return self._in_indices(line.node)

    def _loop(self, line: Recurrence) -> list[tuple[bool, str]]:
        times = times_of(line, self.depth, str(line.loop.length))
        names = names_of(line, times, self.gradient, Names(line.step, self.index).head, _at)
        inner = Names(line.step, self.index, names, self.depth + 1)
        firsts = zip(begins(line, times, self.gradient, _at), map(self._operand, line.loop.operands), strict=False)
        lines = [(True, f"{left} = {right}") for left, right in firsts if left != right]
        lines.append((False, f"for {times.letter} = {times.order[0]}, ..., {times.order[1]}:"))
        for step in line.step.lines:
            if step.part != GIVEN or isinstance(step.node, Const):
                lines += [(is_numbered, f"    {text}") for is_numbered, text in inner.lines(step)]
        return lines + [(True, f"    {a} = {b}") for a, b in repeated(line, times, names, self.gradient, _at)]

    def _operand(self, node: Node) -> str:
        """A value that a loop begins with."""
        term = self.equations.terms.get(node)
        return self.gradient(node) if term is None or node in self.equations.heads else self.terms(term)

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


def _at(name: str, index: str) -> str:
    return f"{name}[{index}]"


def visible(text: str) -> str:
    """A name with what does not print written out."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)

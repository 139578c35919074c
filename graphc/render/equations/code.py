"""Equations as flat Python: NumPy alone, one assignment a line, the forward pass and then the two backward passes.

    f3 = b3 + w3 * h3
    grad_f3 = 2 * (f3 - y)
    grad_w3 = h3 * grad_f3

The values of the leaves are given as arrays under the names that the first comment lists; then the text runs by itself.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Sequence

from graphc.errors import BackendError
from graphc.ir.extent import Polynomial, format_shape
from graphc.ir.graph import Graph
from graphc.ir.node import Const, Generic, Input, Join, Node
from graphc.ir.origin import where
from graphc.render.equations.code_loops import HELPERS, LoopCode
from graphc.render.equations.code_terms import CodeTerms, shape_code
from graphc.render.equations.derivation import GIVEN, TITLES, UPDATES, Equation, Equations, Recurrence
from graphc.render.equations.derive import equations_of
from graphc.render.equations.formula import Term
from graphc.render.equations.latex_scalar import ATOM
from graphc.render.equations.windows import window_of
from graphc.render.gradients import Gradients
from graphc.render.names import op_label

_WINDOW_NAMES = {"forward": "conv", "input": "conv_transposed", "weight": "correlation"}
_MOST_NUMBERS = 4096  # of an array that is written out


def code_of_graph(graph: Graph, gradients: Gradients | None = None, *, targets: Sequence[Node] = ()) -> str:
    """The code of a graph; the arguments are those of `graphc.render.equations.equations_of`.

    Errors: `BackendError` names an op that has no plain NumPy form, with its line.
    """
    return code_of(equations_of(graph, gradients, targets=targets, inner=True))


def code_of(equations: Equations) -> str:
    """The code of equations. Errors: as `code_of_graph`."""
    return _Code(equations).text()


class _Code:
    def __init__(self, equations: Equations) -> None:
        self.equations = equations
        self.taken = {"np", "math", *HELPERS, *keyword.kwlist, *equations.graph.dimensions}
        self.names: dict[Node, str] = {}
        for node, symbol in equations.symbols.items():
            self.names[node] = self._fresh(symbol.code)
        for gradient, value in equations.owner.items():
            if gradient in equations.symbols or gradient in self.names:
                continue
            self.names[gradient] = self._fresh(f"grad_{self.names.get(value, 'v')}")
        self.terms = CodeTerms(self.name, self.name)
        self.loops = LoopCode(self.terms, self._fresh)

    def _fresh(self, stem: str) -> str:
        name, number = stem, 1
        while name in self.taken:
            number += 1
            name = f"{stem}_{number}"
        self.taken.add(name)
        return name

    def name(self, node: Node) -> str:
        return self.names[self.equations.alias.get(node, node)]

    def text(self) -> str:
        """The whole text."""
        body: list[str] = []
        part = GIVEN
        for line in self.equations.lines:
            if line.part != part:
                part = line.part
                body += ["", f"# {TITLES[part]}"]
            if part != GIVEN or isinstance(line.node, Const):
                body += self._lines(line)
        text = "\n".join(body)
        head = ["# Given, as arrays:", *(f"#   {self._given(leaf)}" for leaf in self.equations.graph.inputs)]
        helpers = _needed(text)
        imports = ["import math", ""] if any("math." in source for source in helpers) else []
        head += ["", *imports, "import numpy as np", ""]
        for source in helpers:
            head += ["", source, ""]
        return "\n".join([*head, *self._sizes(), text.lstrip("\n")])

    def _given(self, leaf: Input) -> str:
        own = "" if self.names[leaf] == leaf.name else f"{leaf.name!r}, "
        return f"{self.names[leaf]}: {own}{leaf.kind} {leaf.dtype}{format_shape(leaf.shape)}"

    def _sizes(self) -> list[str]:
        lines: list[str] = []
        for name in self.equations.graph.dimensions:
            for leaf in self.equations.graph.inputs:
                axes = [a for a, e in enumerate(leaf.shape) if isinstance(e, Polynomial) and str(e) == name]
                if axes:
                    lines.append(f"{name} = {self.names[leaf]}.shape[{axes[0]}]")
                    break
        return [*lines, ""] if lines else []

    def _lines(self, line: Equation | Recurrence) -> list[str]:
        node = line.node
        if isinstance(line, Recurrence):
            raise _no_form(node, "a loop (gc.scan); gc.scan(..., unroll=True) writes its steps one after another")
        if line.part == UPDATES and line.target is not None:
            left = self._fresh(f"new_{self.names[line.target]}")
            return [f"{left} = {self.terms(line.term) if line.term is not None else self.name(node)}"]
        if line.same and line.of is not None and line.term is not None:
            of = self.names.get(line.of) or self._fresh("v")
            left = self._fresh(f"grad_{of}")
            right = self.terms(line.term)
            return [f"{left} = np.zeros({shape_code(line.of.shape)})" if right == "0" else f"{left} = {right}"]
        name = self.names[node]
        if isinstance(node, Const):
            if node.value.size > _MOST_NUMBERS:
                raise _no_form(node, f"a constant of {node.value.size} numbers")
            values = np_list(node)
            return [f"{name} = {values}"]
        if line.term is None:
            return self._in_loops(name, node)
        if line.term.op == "window":
            return self._window(name, line.term)
        return [*self._windows(line.term), f"{name} = {self.terms(line.term)}"]

    def _windows(self, term: Term) -> list[str]:
        """Convolutions inside of a line get lines of their own before it."""
        lines: list[str] = []
        for part in term.parts():
            if part.op == "window":
                self.terms.written[part] = self._fresh(_WINDOW_NAMES[part.value[0]])
                lines += self._window(self.terms.written[part], part)
        return lines

    def _window(self, name: str, term: Term) -> list[str]:
        node: Generic = term.value[1]
        found = window_of(node)
        assert found is not None
        operands = dict(zip((node.operands[place] for place in found.places), term.args, strict=True))
        return self.loops.lines(name, node, [self.terms.at_least(operands[one], ATOM) for one in node.operands])

    def _in_loops(self, name: str, node: Node) -> list[str]:
        if isinstance(node, Generic):
            texts: list[str] = []
            for operand in node.operands:
                text = self.name(operand)
                if operand in self.equations.alias and self.equations.alias[operand].shape != operand.shape:
                    text = f"{text}.reshape({shape_code(operand.shape)})"
                texts.append(text)
            return self.loops.lines(name, node, texts)
        if isinstance(node, Join):
            return [f"{name} = {' + '.join(self.name(part) for part in node.parts)}"]
        raise _no_form(node, op_label(node))


def _needed(text: str) -> list[str]:
    """The helpers that a text calls, those first that others call."""
    found: list[str] = []
    for helper, source in reversed(tuple(HELPERS.items())):
        if re.search(rf"\b{helper}\(", "\n".join([text, *found])):
            found.insert(0, source.strip())
    return found


def np_list(node: Const) -> str:
    """An array written out."""
    return f"np.array({node.value.tolist()!r}, dtype=np.{node.dtype if node.dtype != 'bool' else 'bool_'})"


def _no_form(node: Node, what: str) -> BackendError:
    message = f"show --as code: {what} has no plain NumPy form; --as numpy prints the compiled one"
    return BackendError(message, where(node))

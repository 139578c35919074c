r"""Equations in LaTeX: the parts of a derivation, numbered throughout, for LaTeX, KaTeX and MathJax.

    f_3 &= b_3 + w_3 \, h_3 \tag{7} \\
    \frac{\partial l}{\partial f_3} &= 2 (f_3 - y) \tag{9} \\

Layers are in matrix notation; \delta_Z is the gradient of the loss with respect to an array Z. What has no matrix
notation is in index notation, with indices from 0; with `index=True`, everything is, one equation for each node.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from graphc.ir.affine import ZERO, AffineMap, axis_name
from graphc.ir.extent import Shape
from graphc.ir.graph import Graph
from graphc.ir.node import INSIDE, SKIP, Const, Generic, Input, Join, Node, Opaque, View
from graphc.render.equations import latex_scalar as tex
from graphc.render.equations.derivation import BACKWARD_1, GIVEN, TITLES, Equation, Equations, Recurrence
from graphc.render.equations.derive import equations_of
from graphc.render.equations.latex_terms import LatexTerms
from graphc.render.equations.recurrence import begins, names_of, repeated, times_of
from graphc.render.gradients import Gradients

_SETS = {"float32": r"\mathbb{R}", "float64": r"\mathbb{R}", "int32": r"\mathbb{Z}", "int64": r"\mathbb{Z}"}
_SIGNS = {"sum": r"\sum", "prod": r"\prod"}
_EXTREMES = {
    "max": r"\max",
    "min": r"\min",
    "argmax": r"\operatorname*{arg\,max}",
    "argmin": r"\operatorname*{arg\,min}",
}
_TITLE = r"&\textbf"  # how the row begins that names a part
_MOST_ROWS = 20  # of one environment: a page of LaTeX holds them, and they stay below KaTeX's limit of expansions


def latex_of_graph(
    graph: Graph, gradients: Gradients | None = None, *, index: bool = False, targets: Sequence[Node] = ()
) -> str:
    """The equations of a graph as one `aligned` environment, for use inside of a formula.

    The arguments are those of `graphc.render.equations.equations_of`.
    """
    equations = equations_of(graph, gradients, index=index, targets=targets)
    rows = _Rows(equations, index).rows(r"\text{{({0})}} && {1}", "&&")
    return "\n".join([r"\begin{aligned}", *_ended(rows), r"\end{aligned}"])


def latex_document_of(equations: Equations, index: bool = False) -> str:
    """The equations as `align*` environments, one or more for each part, for LaTeX (amsmath, amssymb) and KaTeX."""
    found: list[list[str]] = []
    for row in _Rows(equations, index).rows(r"{1} \tag{{{0}}}", ""):
        if not found or row.startswith(_TITLE) or len(found[-1]) == _MOST_ROWS:
            found.append([])
        found[-1].append(row)
    return "\n\n".join("\n".join([r"\begin{align*}", *_ended(rows), r"\end{align*}"]) for rows in found)


def _ended(rows: Sequence[str]) -> list[str]:
    return [row + r" \\" for row in rows[:-1]] + list(rows[-1:])


class _Rows:
    """The rows of one environment. prefix: what stands before the indices and rows of a loop's step."""

    def __init__(self, equations: Equations, index: bool) -> None:
        self.equations, self.index = equations, index
        self.number = 0

    def rows(self, numbered: str, plain: str) -> list[str]:
        """numbered: the form of a row with a number (0) and its equation (1). plain: what begins a row without."""
        rows: list[str] = []
        part = ""
        names = Names(self.equations, self.index)
        for line in self.equations.lines:
            if line.part != part:
                part = line.part
                rows.append(rf"{plain}{_TITLE}{{{TITLES[part]}}}" + self._legend(part))
            for is_numbered, row in names.rows(line):
                rows.append(self._numbered(row, numbered) if is_numbered else f"{plain}{row}")
        return rows

    def _numbered(self, row: str, numbered: str) -> str:
        self.number += 1
        return numbered.format(self.number, row)

    def _legend(self, part: str) -> str:
        """What the gradient of an array is called."""
        if part != BACKWARD_1 or self.index or self.equations.loss is None:
            return ""
        if not any(line.part == part and line.node.shape for line in self.equations.lines):
            return ""
        loss = Names(self.equations, self.index).head(self.equations.loss)
        return rf"\textbf{{, }} \delta_{{V}} = \frac{{\partial {loss}}}{{\partial V}}"


class Names:
    """How the values of some equations are written, and their lines with them.

    fixed: names that are decided already, as of the values of a loop's step; depth: how many loops stand around it.
    """

    def __init__(
        self, equations: Equations, index: bool, fixed: Mapping[Node, str] | None = None, depth: int = 0
    ) -> None:
        self.equations, self.index, self.depth = equations, index, depth
        self.fixed = fixed or {}
        self.terms = LatexTerms(self.head, self.gradient)

    # --- Names -----------------------------------------------------------------------------------------------------

    def head(self, node: Node) -> str:
        """The symbol of a value, without indices."""
        if node in self.fixed:
            return self.fixed[node]
        symbol = self.equations.symbols.get(node)
        if symbol is None:
            return self.gradient(node)
        if self.index and symbol.rank and not symbol.place and not symbol.about:
            base, index = tex.name_parts(symbol.base)
            return f"{base}^{{({index})}}" if index else base
        return symbol.latex

    def gradient(self, node: Node) -> str:
        """The symbol of a gradient, without indices."""
        owner = self.equations.owner.get(node)
        if owner is None:
            return self.head(node)
        return self.of(owner)

    def of(self, value: Node, indices: str = "") -> str:
        """The symbol of the gradient with respect to a value."""
        head = self.head(value)
        if value.shape and not self.index and not isinstance(value, Input):
            return rf"\delta_{{{head}}}" if not indices else rf"(\delta_{{{head}}})_{{{indices}}}"
        assert self.equations.loss is not None
        at = self._subscript(head, indices) if indices else head
        return rf"\frac{{\partial {self.head(self.equations.loss)}}}{{\partial {at}}}"

    def at(self, node: Node, index_map: AffineMap) -> str:
        """One element."""
        if node in self.equations.alias:
            other = self.equations.alias[node]
            index_map = read_through(index_map, node.shape, other.shape)
            node = other
        if not index_map.rows:
            return self.gradient(node)
        indices = tex.indices(index_map)
        owner = self.equations.owner.get(node)
        return self.of(owner, indices) if owner is not None else self._subscript(self.head(node), indices)

    def _subscript(self, head: str, indices: str) -> str:
        is_free = "_" not in head.replace(r"\_", "") and not head.startswith(r"\frac")
        return f"{head}_{{{indices}}}" if is_free else rf"{tex.brackets(head)}_{{{indices}}}"

    # --- Lines -----------------------------------------------------------------------------------------------------

    def rows(self, line: Equation | Recurrence) -> list[tuple[bool, str]]:
        """The rows of an equation or a loop, aligned at their relations, each with whether it has a number."""
        if isinstance(line, Recurrence):
            return self._loop(line)
        row, *more = [self._row(line), *self._extra(line)]
        if line.term is not None and line.target is None:
            first, *others = self.terms.lines(line.term)
            row, more = row.partition("&=")[0] + f"&= {first}", [*(rf"&\quad {other}" for other in others), *more]
        return [(line.part != GIVEN, row), *((False, extra) for extra in more)]

    def _row(self, line: Equation) -> str:
        if line.target is not None:
            right = self.terms(line.term) if line.term is not None else self.gradient(line.node)
            return rf"{self.head(line.target)} &\leftarrow {right}"
        if line.loop is not None and isinstance(line.node, Opaque):
            carried = line.loop.leaves[line.node.attribute("final")]
            last = "0" if line.loop.reverse else tex.extent(line.loop.length)
            return f"{self.gradient(line.node)} &= {self._subscript(self.head(carried), last)}"
        if line.same and line.of is not None and line.term is not None:
            return f"{self.of(line.of)} &= {self.terms(line.term)}"
        if line.term is not None:
            return f"{self.gradient(line.node)} &= {self.terms(line.term)}"
        left, relation, right = self._in_indices(line.node)
        return f"{left} &{relation} {right}"

    def _extra(self, line: Equation) -> list[str]:
        """Rows below an equation: convolutions in index notation."""
        if line.term is None or line.same:
            return []
        rows: list[str] = []
        for part in line.term.parts():
            if part.op == "window" and all(arg.op in ("value", "delta") for arg in part.args):
                node: Generic = part.value[1]
                relation, right = self._sum(node)
                left = tex.indices(node.out_map)
                rows.append(rf"{tex.brackets(self.terms(part))}_{{{left}}} &{relation} {right}")
        return rows

    def _loop(self, line: Recurrence) -> list[tuple[bool, str]]:
        times = times_of(line, self.depth, tex.extent(line.loop.length))
        at = self._subscript
        names = names_of(line, times, self.gradient, Names(line.step, self.index).head, at)
        inner = Names(line.step, self.index, names, self.depth + 1)
        firsts = zip(begins(line, times, self.gradient, at), map(self._operand, line.loop.operands), strict=False)
        rows = [(True, f"{left} &= {right}") for left, right in firsts if left != right]
        first, last = times.order
        rows.append((False, rf"&\text{{for }} {times.letter} = {first}, \ldots, {last}\text{{:}}"))
        for step in line.step.lines:
            if step.part != GIVEN or isinstance(step.node, Const):
                rows += inner.rows(step)
        return rows + [(True, f"{a} &= {b}") for a, b in repeated(line, times, names, self.gradient, at)]

    def _operand(self, node: Node) -> str:
        """A value that a loop begins with."""
        term = self.equations.terms.get(node)
        return self.gradient(node) if term is None or node in self.equations.heads else self.terms(term)

    def _in_indices(self, node: Node) -> tuple[str, str, str]:
        name = self.gradient(node)
        match node:
            case Input():
                return name, r"\in", space(node) + (rf" \quad \text{{({node.kind})}}" if node.kind != "input" else "")
            case Const():
                if node.value.size == 1:
                    return name, "=", tex.number(node.value.reshape(-1)[0].item(), node.dtype)
                return name, r"\in", space(node) + r" \quad \text{(constant)}"
            case View():
                text = self.gradient(node.operand)
                return name, "=", rf"\operatorname{{reshape}}{tex.brackets(text)} \in {space(node)}"
            case Join():
                parts = ", ".join(self.gradient(p) for p in node.parts)
                return name, "=", rf"\operatorname{{join}}{tex.brackets(parts)}"
            case Opaque():
                shown = [(key, value) for key, value in node.attributes if key != "key"]
                attributes = [rf"\mathrm{{{tex.escape(key)}}}={value}" for key, value in shown]
                inside = ", ".join([*(self.gradient(operand) for operand in node.operands), *attributes])
                return name, "=", rf"\operatorname{{{tex.word(node.op)}}}{tex.brackets(inside)}"
            case Generic():
                relation, right = self._sum(node)
                return self.at(node, node.out_map), relation, right

    def _sum(self, node: Generic) -> tuple[str, str]:
        reads = [self.at(operand, m) for operand, m in zip(node.operands, node.maps, strict=True)]
        text, level, named = tex.body(node.body, reads)
        if node.dtype == "bool":
            text, level = tex.square(text), tex.ATOM
        if node.reducer is not None and node.reduced_axes:
            text = _reduction(node) + " " + tex.bracketed((text, level), tex.MUL)
        notes: list[str] = []
        if named:
            notes.append(r"\text{where } " + ", ".join(named))
        if any(mode not in (INSIDE, SKIP) for mode in node.modes):
            notes.append(r"\text{(0 outside)}")
        if SKIP in node.modes:
            notes.append(r"\text{(inside only)}")
        # Where several points write one element in a sum, its value is the sum over all of them.
        relation = r"\mathrel{+}=" if node.reducer == "sum" and node.out_map.projection is None else "="
        return relation, r" \quad ".join([text, *notes])


def read_through(index_map: AffineMap, shape: Shape, other: Shape) -> AffineMap:
    """The map by which an array is read that has the same axes but for those of extent 1."""
    rows = iter(row for row, extent in zip(index_map.rows, shape, strict=True) if extent != 1)
    return AffineMap(index_map.rank, tuple(ZERO if extent == 1 else next(rows) for extent in other))


def space(node: Node) -> str:
    """The set that a node's value lies in."""
    base = _SETS.get(node.dtype, r"\{0, 1\}" if node.dtype == "bool" else r"\mathbb{N}")
    return f"{base}^{{{tex.shape(node.shape)}}}" if node.shape else base


def _reduction(node: Generic) -> str:
    assert node.reducer is not None
    if node.reducer in _SIGNS:
        sign = _SIGNS[node.reducer]
        return " ".join(f"{sign}_{{{axis_name(a)}=0}}^{{{tex.extent(node.domain[a] - 1)}}}" for a in node.reduced_axes)
    ranges = ", ".join(rf"0 \le {axis_name(a)} < {tex.extent(node.domain[a])}" for a in node.reduced_axes)
    return f"{_EXTREMES[node.reducer]}_{{{ranges}}}"

r"""Equations in LaTeX: the parts of a derivation, numbered throughout, for LaTeX, KaTeX and MathJax.

    f_3 &= b_3 + w_3 \, h_3 \tag{7} \\
    \frac{\partial l}{\partial f_3} &= 2 \left(f_3 - y\right) \tag{9} \\

Layers are in matrix notation; \delta_Z is the gradient of the loss with respect to an array Z. What has no matrix
notation is in index notation, with indices from 0; with `index=True`, everything is, one equation for each node.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.ir.affine import ZERO, AffineMap, axis_name
from graphc.ir.extent import Shape
from graphc.ir.graph import Graph
from graphc.ir.node import INSIDE, SKIP, Const, Generic, Input, Join, Node, Opaque, View
from graphc.render import latex_scalar as tex
from graphc.render.equations import BACKWARD_1, GIVEN, TITLES, UPDATES, Equation, Equations, Recurrence, equations_of
from graphc.render.gradients import Gradients
from graphc.render.latex_terms import LatexTerms

_SETS = {"float32": r"\mathbb{R}", "float64": r"\mathbb{R}", "int32": r"\mathbb{Z}", "int64": r"\mathbb{Z}"}
_SIGNS = {"sum": r"\sum", "prod": r"\prod"}
_EXTREMES = {
    "max": r"\max",
    "min": r"\min",
    "argmax": r"\operatorname*{arg\,max}",
    "argmin": r"\operatorname*{arg\,min}",
}
# In LaTeX this lets the lines go over pages; KaTeX, which has no pages, does not know the command.
_OVER_PAGES = r"\providecommand{\allowdisplaybreaks}{}\allowdisplaybreaks"


def latex_of_graph(
    graph: Graph, gradients: Gradients | None = None, *, index: bool = False, targets: Sequence[Node] = ()
) -> str:
    """The equations of a graph as one `aligned` environment, for use inside of a formula.

    The arguments are those of `graphc.render.equations.equations_of`.
    """
    rows = _Rows(equations_of(graph, gradients, index=index, targets=targets), index).rows(r"\text{{({0})}} && {1}", "&&")
    return "\n".join([r"\begin{aligned}", *_ended(rows), r"\end{aligned}"])


def latex_document_of(equations: Equations, index: bool = False) -> str:
    """The equations as an `align*` environment that goes over pages; LaTeX (amsmath, amssymb) and KaTeX set it."""
    rows = _Rows(equations, index).rows(r"{1} \tag{{{0}}}", "")
    return "\n".join([_OVER_PAGES, r"\begin{align*}", *_ended(rows), r"\end{align*}"])


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
        for line in self.equations.lines:
            if line.part != part:
                part = line.part
                rows.append(rf"{plain}&\textbf{{{TITLES[part]}}}" + self._legend(part))
            names = Names(self.equations, self.index)
            if isinstance(line, Recurrence):
                for row in names.recurrence(line):
                    rows.append(f"{plain}{row[1:]}" if row.startswith("!") else self._numbered(row, numbered))
                continue
            row = names.row(line)
            rows.append(f"{plain} {row}" if part == GIVEN else self._numbered(row, numbered))
            rows += [f"{plain} {extra}" for extra in names.extra(line)]
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
    """How the values of some equations are written, and their lines with them."""

    def __init__(self, equations: Equations, index: bool) -> None:
        self.equations, self.index = equations, index
        self.terms = LatexTerms(self.head, self.gradient)

    # --- Names -----------------------------------------------------------------------------------------------------

    def head(self, node: Node) -> str:
        """The symbol of a value, without indices."""
        symbol = self.equations.symbols.get(node)
        if symbol is None:
            return self.gradient(node)
        if self.index and symbol.rank and not symbol.place:
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
            return rf"\delta_{{{head}}}" if not indices else rf"\left(\delta_{{{head}}}\right)_{{{indices}}}"
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
        return rf"\left({head}\right)_{{{indices}}}" if "_" in head.replace(r"\_", "") else f"{head}_{{{indices}}}"

    # --- Lines -----------------------------------------------------------------------------------------------------

    def row(self, line: Equation) -> str:
        """An equation, aligned at its relation."""
        if line.part == UPDATES and line.target is not None:
            right = self.terms(line.term) if line.term is not None else self.gradient(line.node)
            return rf"{self.head(line.target)} &\leftarrow {right}"
        if line.same and line.of is not None and line.term is not None:
            return f"{self.of(line.of)} &= {self.terms(line.term)}"
        if line.term is not None:
            return f"{self.gradient(line.node)} &= {self.terms(line.term)}"
        left, relation, right = self._in_indices(line.node)
        return f"{left} &{relation} {right}"

    def extra(self, line: Equation) -> list[str]:
        """Rows below an equation: convolutions in index notation."""
        if line.term is None or line.same:
            return []
        rows: list[str] = []
        for part in line.term.parts():
            if part.op == "window":
                node: Generic = part.value[1]
                if all(arg.op in ("value", "delta") for arg in part.args):
                    left = tex.indices(node.out_map)
                    relation, right = self._sum(node)
                    rows.append(rf"\left({self.terms(part)}\right)_{{{left}}} &{relation} {right}")
        return rows

    def recurrence(self, line: Recurrence) -> list[str]:
        """A loop."""
        return []

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
                return name, "=", rf"\operatorname{{reshape}}\left({text}\right) \in {space(node)}"
            case Join():
                parts = ", ".join(self.gradient(p) for p in node.parts)
                return name, "=", rf"\operatorname{{join}}\left({parts}\right)"
            case Opaque():
                shown = [(key, value) for key, value in node.attributes if key != "key"]
                attributes = [rf"\mathrm{{{tex.escape(key)}}}={value}" for key, value in shown]
                inside = ", ".join([*(self.gradient(operand) for operand in node.operands), *attributes])
                return name, "=", rf"\operatorname{{{tex.word(node.op)}}}\left({inside}\right)"
            case Generic():
                relation, right = self._sum(node)
                return self.at(node, node.out_map), relation, right

    def _sum(self, node: Generic) -> tuple[str, str]:
        reads = [self.at(operand, m) for operand, m in zip(node.operands, node.maps, strict=True)]
        text, level, named = tex.body(node.body, reads)
        if node.reducer is not None:
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

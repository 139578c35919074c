r"""A graph as numbered equations in LaTeX, one for each node, in index notation.

    \text{(3)} && h_{ij} &= \sum_{k=0}^{63} x_{ik} \, W_{kj} \\

The whole is one `aligned` environment, for a display of LaTeX, KaTeX or MathJax. Indices count from 0. A value with the
user's name has it; one without is v with the number of its equation. \overline{h} is the derivative of the loss with
respect to h; a step of the derivation that is no such derivative is \bar{v} with its number.
"""

from __future__ import annotations

from collections.abc import Mapping

from graphc.ir.affine import AffineMap, axis_name
from graphc.ir.graph import Graph
from graphc.ir.node import INSIDE, SKIP, Const, Generic, Input, Join, Node, Opaque, View
from graphc.render import latex_scalar as tex
from graphc.render.gradients import Gradients, recovered
from graphc.render.names import is_derived, user_names

_SETS = {"float32": r"\mathbb{R}", "float64": r"\mathbb{R}", "int32": r"\mathbb{Z}", "int64": r"\mathbb{Z}"}
_SIGNS = {"sum": r"\sum", "prod": r"\prod"}
_EXTREMES = {
    "max": r"\max",
    "min": r"\min",
    "argmax": r"\operatorname*{arg\,max}",
    "argmin": r"\operatorname*{arg\,min}",
}


def latex_of_graph(graph: Graph, gradients: Gradients | None = None) -> str:
    """The equations of a graph.

    gradients: which node is the derivative of which value. Left out, it is found again when the graph holds one float
    scalar output and gradients made by `gc.grad`.
    """
    return "\n".join([r"\begin{aligned}", *_Equations(graph, gradients).rows(), r"\end{aligned}"])


class _Equations:
    def __init__(self, graph: Graph, gradients: Gradients | None) -> None:
        self.graph = graph
        of: Mapping[Node, Node] = gradients.of if gradients is not None else recovered(graph)
        self.numbers = {node: number for number, node in enumerate(graph.nodes, 1)}
        self.owners: dict[Node, list[Node]] = {}
        for value in reversed(graph.nodes):
            if value in of and of[value] in self.numbers:
                self.owners.setdefault(of[value], []).append(value)
        given = user_names(graph)
        for values in self.owners.values():  # of several values the one is shown that the user named and computed
            values.sort(key=lambda value: (value not in given) + (isinstance(value, Input)))
        self.names = self._heads(given)

    def _heads(self, given: Mapping[Node, str]) -> dict[Node, str]:
        """The symbol of each node, without indices; two nodes never have the same."""
        heads: dict[Node, str] = {}
        taken: set[str] = set()
        for node in self.graph.nodes:
            if node in self.owners and self.owners[node][0] in heads:
                head = rf"\overline{{{heads[self.owners[node][0]]}}}"
            elif node in given:
                head = _with_index(*tex.name_parts(given[node]), bool(node.shape))
            else:
                head = _with_index(r"\bar{v}" if is_derived(node) else "v", str(self.numbers[node]), bool(node.shape))
            if head in taken:
                head = f"{{{head}}}'" if f"{{{head}}}'" not in taken else rf"{{{head}}}'_{{({self.numbers[node]})}}"
            taken.add(head)
            heads[node] = head
        return heads

    def rows(self) -> list[str]:
        rows: list[str] = []
        for node, number in self.numbers.items():
            left, relation, right = self._equation(node)
            rows.append(rf"\text{{({number})}} && {left} &{relation} {right}")
        number = len(rows)
        for gradient, values in self.owners.items():
            for value in values[1:]:  # one node serves several values: say so
                number += 1
                rows.append(rf"\text{{({number})}} && \overline{{{self.names[value]}}} &= {self.names[gradient]}")
        return [row + r" \\" for row in rows[:-1]] + rows[-1:]

    def _equation(self, node: Node) -> tuple[str, str, str]:
        name = self.names[node]
        match node:
            case Input():
                return name, r"\in", _space(node) + (rf" \quad \text{{({node.kind})}}" if node.kind != "input" else "")
            case Const():
                if node.value.size == 1:
                    return name, "=", tex.number(node.value.reshape(-1)[0].item(), node.dtype)
                return name, r"\in", _space(node) + r" \quad \text{(constant)}"
            case View():
                return name, "=", rf"\operatorname{{reshape}}\left({self.names[node.operand]}\right) \in {_space(node)}"
            case Join():
                return name, "=", rf"\operatorname{{join}}\left({', '.join(self.names[p] for p in node.parts)}\right)"
            case Opaque():
                shown = [(key, value) for key, value in node.attributes if key != "key"]
                attributes = [rf"\mathrm{{{tex.escape(key)}}}={value}" for key, value in shown]
                inside = ", ".join([*(self.names[operand] for operand in node.operands), *attributes])
                return name, "=", rf"\operatorname{{{tex.escape(node.op)}}}\left({inside}\right)"
            case Generic():
                return self._generic(node)

    def _generic(self, node: Generic) -> tuple[str, str, str]:
        reads = [_at(self.names[operand], m) for operand, m in zip(node.operands, node.maps, strict=True)]
        text, level, named = tex.body(node.body, reads)
        if node.reducer is not None:
            text = _reduction(node) + " " + tex.bracketed((text, level), 7)
        notes: list[str] = []
        if named:
            notes.append(r"\text{where } " + ", ".join(named))
        if any(mode not in (INSIDE, SKIP) for mode in node.modes):
            notes.append(r"\text{(0 outside)}")
        if SKIP in node.modes:
            notes.append(r"\text{(inside only)}")
        # Where several points write one element in a sum, its value is the sum over all of them.
        relation = r"\mathrel{+}=" if node.reducer == "sum" and node.out_map.projection is None else "="
        return _at(self.names[node], node.out_map), relation, r" \quad ".join([text, *notes])


def _with_index(base: str, index: str, has_axes: bool) -> str:
    """A name's own index stands below it, or above in brackets where the axes' indices are below."""
    if not index:
        return base
    return f"{base}^{{({index})}}" if has_axes else f"{base}_{{{index}}}"


def _at(head: str, index_map: AffineMap) -> str:
    return f"{head}_{{{tex.indices(index_map)}}}" if index_map.rows else head


def _space(node: Node) -> str:
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

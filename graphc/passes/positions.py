"""The place of an extreme over rows, which does not go block by block, as the least place where the extreme is.

    argmax over n of f(n) = min over n of (n where f(n) = max over n of f(n), else more than any n)

Both go block by block (`graphc.passes.phases`), one after the other. A NaN is the extreme wherever there is one, as in
NumPy, and equals nothing: the first NaN's place is asked for by itself.
"""

from __future__ import annotations

from graphc.ir import scalar as sc
from graphc.ir.dtypes import is_float
from graphc.ir.graph import Graph, rewrite
from graphc.ir.node import INSIDE, Generic, Node, generic
from graphc.passes.rows import RowAnalysis

_NOWHERE = 2**63 - 1  # behind every place, and what the least of no places is


def places_of_extremes(graph: Graph, analysis: RowAnalysis) -> Graph:
    """After: there is no argmax and no argmin over rows."""

    def step(node: Node) -> Node:
        if not isinstance(node, Generic) or node.reducer not in ("argmax", "argmin"):
            return node
        rows = analysis.rows_of(node.domain, node)
        return _least_place(node) if rows is not None and rows.axis in node.reduced_axes else node

    return rewrite(graph, step)


def _least_place(node: Generic) -> Node:
    body = sc.cast(node.body, "int32") if node.body.dtype == "bool" else node.body
    around = node.domain, node.shape, node.out_map
    extreme = generic(*around, node.operands, node.maps, node.modes, body, str(node.reducer).removeprefix("arg"))
    found = sc.apply("eq", body, sc.Arg(len(node.operands), extreme.dtype))
    if is_float(body.dtype):
        found = sc.apply("select", sc.apply("isnan", body), sc.TRUE, found)
    first, *others = node.reduced_axes
    place: sc.Scalar = sc.Index(first)
    for axis in others:
        place = sc.apply("add", sc.apply("mul", place, sc.size_of(node.domain[axis])), sc.Index(axis))
    return generic(
        *around,
        (*node.operands, extreme),
        (*node.maps, node.out_map),
        (*node.modes, INSIDE),
        sc.apply("select", found, place, sc.literal(_NOWHERE, "int64")),
        "min",
    )

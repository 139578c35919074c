"""The size of a dimension, and the number of a row, as values that a block of rows reads (`graphc.phased`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from graphc.ir import scalar as sc
from graphc.ir.affine import AffineMap
from graphc.ir.extent import Extent, dimension_names
from graphc.ir.node import INSIDE, Generic, Input, Node, generic, leaf
from graphc.passes.rows import RowAnalysis


class Numbers:
    """The leaves that stand for them: `sizes` by dimension, `first_row` of a block."""

    def __init__(self, analysis: RowAnalysis) -> None:
        self._analysis = analysis
        self.sizes = {dimension: leaf(dimension, (), "int64", "input") for dimension in sorted(analysis.names)}
        self.first_row = leaf("first_row", (), "int64", "input")

    def read_by(self, node: Node) -> Node:
        """The node with these numbers read from the leaves, where its body uses them."""
        if not isinstance(node, Generic) or not self._analysis.reads_numbers(node):
            return node
        operands = list(node.operands)
        replace: dict[sc.Scalar, sc.Scalar] = {}

        def read(number: Input) -> sc.Scalar:
            if number not in operands:
                operands.append(number)
            return sc.Arg(operands.index(number), "int64")

        rows = self._analysis.rows_of(node.domain, node)
        for part in sc.postorder(node.body):
            if isinstance(part, sc.Size) and dimension_names(part.extent) & self._analysis.names:
                replace[part] = _number(part.extent, read, self.sizes)
            elif isinstance(part, sc.Index) and rows is not None and part.axis == rows.axis:
                first = sc.apply("mul", read(self.first_row), sc.literal(rows.each, "int64"))
                replace[part] = sc.apply("add", first, part)
        body = sc.substitute(node.body, replace)
        scalar = AffineMap(len(node.domain), ())
        more = len(operands) - len(node.operands)
        return generic(
            node.domain, node.shape, node.out_map, operands, (*node.maps, *[scalar] * more),
            (*node.modes, *[INSIDE] * more), body, node.reducer,
        )


def _number(
    extent: Extent, read: Callable[[Input], sc.Scalar], sizes: Mapping[str, Input]
) -> sc.Scalar:
    """An extent as an int64 scalar, with the sizes of dimensions read from leaves."""
    if isinstance(extent, int):
        return sc.literal(extent, "int64")
    total: sc.Scalar | None = None
    for monomial, coefficient in extent.terms:
        term: sc.Scalar = sc.literal(coefficient, "int64")
        for atom, power in monomial:
            if isinstance(atom, str):
                factor = read(sizes[atom])
            else:
                factor = sc.apply("floordiv", _number(atom.dividend, read, sizes), sc.literal(atom.divisor, "int64"))
            for _ in range(power):
                term = factor if term is sc.literal(1, "int64") else sc.apply("mul", term, factor)
        total = term if total is None else sc.apply("add", total, term)
    assert total is not None
    return total

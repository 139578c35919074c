"""Which nodes of a graph compute each row by itself, and which combine the rows of a dimension.

A dimension whose size only a call tells (`graphc.phased`) is a number of rows: of an array whose shape has an extent
c*N, row r is the part r*c up to (r+1)*c along that axis. A node is computed block by block when each of its rows needs
no other row of what it reads; the only nodes that may combine rows are sums, products, maxima and minima over all of
them, and the gradient of `take`, which adds up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from graphc.errors import CompileError
from graphc.ir import scalar as sc
from graphc.ir.affine import Affine
from graphc.ir.extent import Extent, Shape, dimension, dimension_names, evaluate, format_shape, product
from graphc.ir.graph import topological
from graphc.ir.loop import loop_of, value_of
from graphc.ir.node import Const, Generic, Input, Join, Node, Opaque, View
from graphc.ir.origin import origins_of, where

TOTALS = ("sum", "prod", "max", "min")
"""Reducers whose results over some blocks can be combined to the result over all of them."""


_PICKED = "one row, or some rows, are picked by their numbers"
_BY_NUMBER = "the number of a row is an index of something else"


class Rows(NamedTuple):
    """The rows of an array or of a loop: `each` elements of axis `axis` for each one of `dimension`."""

    dimension: str
    axis: int
    each: int


class Combining(NamedTuple):
    """A node that combines the rows of a dimension to something without rows."""

    dimension: str
    reducer: str


class RowAnalysis:
    """What the nodes of a graph are for the dimensions `names`; `CompileError`, with the line, where rows mix."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = frozenset(names)

    def rows_of(self, shape: Shape, node: Node) -> Rows | None:
        """The axis that is the rows; None where no extent knows one of the dimensions."""
        found: Rows | None = None
        for axis, extent in enumerate(shape):
            named = dimension_names(extent) & self.names
            if not named:
                continue
            name = min(named)
            if found is not None or len(named) > 1:
                pair = sorted({name if found is None else found.dimension, *named})
                meet = f"each row meets every other one, over {name} twice" if len(pair) == 1 else (
                    f"each row of {' meets each one of '.join(pair)}"
                )
                raise self._error(node, name, f"{meet}: {format_shape(shape)}")
            count = evaluate(extent, {name: 1})
            if not isinstance(count, int) or extent != dimension(name) * count:
                raise self._error(node, name, f"axis {axis} has the extent {extent}, no multiple of {name}")
            found = Rows(name, axis, count)
        return found

    def check(self, node: Node) -> Combining | None:
        """How a node combines rows, or None: then it computes each row by itself, or has none."""
        match node:
            case Input() | Const():
                self.rows_of(node.shape, node)
                return None
            case Generic():
                return self._generic(node)
            case View():
                self._view(node)
            case Join():
                self._join(node)
            case Opaque() if node.step is not None:
                self._loop(node)
            case Opaque():
                return self._opaque(node)
        return None

    def require_first(self, rows: Rows, node: Node, kind: str) -> None:
        """`CompileError` unless the rows are along the first axis: of memory that one pointer tells."""
        if rows.axis:
            raise self._error(node, rows.dimension, f"it is axis {rows.axis} of an {kind}, and must be axis 0")

    def _generic(self, node: Generic) -> Combining | None:
        rows = self.rows_of(node.domain, node)
        if rows is None:
            for shape in (node.shape, *(operand.shape for operand in node.operands)):
                if (own := self.rows_of(shape, node)) is not None:
                    raise self._error(node, own.dimension, _PICKED)
            return None
        for operand, index_map in zip(node.operands, node.maps, strict=True):
            self._local(node, rows, operand.shape, index_map.rows)
        for part in sc.postorder(node.body):
            if isinstance(part, sc.InBounds):
                self._local(node, rows, part.shape, part.map.rows)
        if self.rows_of(node.shape, node) is not None:
            self._local(node, rows, node.shape, node.out_map.rows, "rows are put in other places than their own")
            return None
        if rows.axis in node.out_map.axes or node.reducer not in TOTALS:
            why = f"{node.reducer} over it does not go block by block" if node.reducer else _BY_NUMBER
            raise self._error(node, rows.dimension, why)
        return Combining(rows.dimension, node.reducer)

    def _local(
        self, node: Node, rows: Rows, shape: Shape, index: Sequence[Affine], why: str = "a row needs other rows"
    ) -> None:
        """An index map stays in the row: it reads (or writes) element each*n + (0 up to each) of the axis of rows."""
        assert isinstance(node, Generic)
        own = self.rows_of(shape, node)
        for axis, row in enumerate(index):
            if own is not None and axis == own.axis and own.dimension == rows.dimension:
                step, rest = divmod(own.each, rows.each)
                if rest == 0 and row.coefficient(rows.axis) == step and _within(row, node.domain, rows.axis, step):
                    continue
                raise self._error(node, rows.dimension, why)
            if row.coefficient(rows.axis) or dimension_names(row.const) & self.names:
                raise self._error(node, rows.dimension, _BY_NUMBER)
        if own is not None and own.dimension != rows.dimension:
            raise self._error(node, rows.dimension, f"each row of {own.dimension} meets each one of {rows.dimension}")

    def _view(self, node: View) -> None:
        before, after = self.rows_of(node.operand.shape, node), self.rows_of(node.shape, node)
        if before is None or after is None:
            if (rows := before or after) is not None:
                raise self._error(node, rows.dimension, "an array without elements is given another shape")
            return
        if product(node.operand.shape[: before.axis]) != product(node.shape[: after.axis]):
            raise self._error(node, after.dimension, "a change of shape mixes it with the axes before it")

    def _join(self, node: Join) -> None:
        for part in node.parts:
            combining = self.check(part)
            if combining is not None:
                raise self._error(part, combining.dimension, "a part of an array adds it up")

    def _loop(self, node: Opaque) -> None:
        loop = loop_of(node)
        assert loop is not None
        names = dimension_names(loop.length) & self.names
        if names:
            raise self._error(node, sorted(names)[0], "the loop of a scan goes over it")
        for inner in topological((*loop.following, value_of(node))):
            combining = self.check(inner)
            if combining is not None:
                raise self._error(inner, combining.dimension, "each step of a loop adds up over it")
            if isinstance(inner, Generic) and self.reads_numbers(inner):
                raise self._error(inner, sorted(self.names)[0], "a step of a loop uses its size or a row's number")

    def reads_numbers(self, node: Generic) -> bool:
        """Whether the body uses the size of a dimension, or the number of a row."""
        rows = self.rows_of(node.domain, node)
        for part in sc.postorder(node.body):
            if isinstance(part, sc.Size) and dimension_names(part.extent) & self.names:
                return True
            if isinstance(part, sc.Index) and rows is not None and part.axis == rows.axis:
                return True
        return False

    def _opaque(self, node: Opaque) -> Combining | None:
        own = [self.rows_of(operand.shape, node) for operand in node.operands]
        after = self.rows_of(node.shape, node)
        names = [rows.dimension for rows in (*own, after) if rows is not None]
        if not names or node.op in ("again", "checked"):
            return None
        axis = node.attribute("axis")
        match node.op:
            case "cumsum" if own[0] is not None and own[0].axis != axis:
                return None
            case "take" if own[0] is None or (own[1] is None and own[0].axis != axis):
                return None
            case "scatter_add":
                if after is None and own[0] is not None and own[1] is not None:
                    return Combining(names[0], "sum")
                if after is not None and own[1] is None and after.axis != axis:
                    return None
        why = {"cumsum": "a row needs those before it", "take": _PICKED, "scatter_add": _PICKED}.get(node.op)
        raise self._error(node, names[0], why or f"{node.op} goes along it")

    def _error(self, node: Node, name: str, why: str) -> CompileError:
        what = f"the input {node.name!r}" if isinstance(node, Input) else ""
        what = what or next((origin.op for origin in origins_of(node)), "")
        return CompileError(
            f"compile: {name} cannot be dynamic{f': in {what}' if what else ''}, {why}. A dynamic dimension is a "
            "number of independent rows, which may only be summed, multiplied up, or searched for a maximum or "
            "minimum; a dimension that dynamic= does not list is compiled for each size that a call brings",
            where(node),
        )


def _within(row: Affine, domain: Shape, axis: int, count: int) -> bool:
    """Whether what is added to a multiple of the row's number stays in [0, count)."""
    low = high = row.const
    if not isinstance(low, int) or not isinstance(high, int):
        return False
    for other, coefficient in row.terms:
        extent: Extent = domain[other]
        if other == axis:
            continue
        if not isinstance(extent, int):
            return False
        span = coefficient * (extent - 1)
        low, high = (low, high + span) if coefficient > 0 else (low + span, high)
    return low >= 0 and high < count


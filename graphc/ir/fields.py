"""Receptive fields: how far one element of a node reaches back along each axis of a leaf, from the index maps alone.

For each axis of the leaf and each node a `Reach` says which indices of the leaf the element at index i of one axis of
the node depends on: those from scale * i + low to scale * i + high. It follows from the maps of a Generic: what the
domain's axis is to the output (out_map, solved for the axis) is put into the row by which the operand is read; a
reduced axis spreads the reach over its extent. Paths that meet are joined to the least range that holds both, so a
residual connection has the reach of its longer path. Edges do not limit a range that moves with i: it is what an
element far from all edges reaches. Where the place cannot be written so (after a reshape that merges axes) only its
width is kept, and where that is not enough, the whole axis is assumed. A reach is never too small; for stacks of
convolutions, pooling, dense layers and residual connections it is exact. Behind a transposed convolution elements
differ by their phase: the widest counts, and where strides and several of them meet, somewhat more may be said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TypeAlias

from graphc.ir.affine import Affine, AffineMap
from graphc.ir.extent import Extent, Shape
from graphc.ir.node import Generic, Join, Node, Opaque, View
from graphc.ir.walk import postorder

Number: TypeAlias = Fraction | int
Span: TypeAlias = tuple[Number, Number]


@dataclass(frozen=True)
class Reach:
    """The indices from scale * i + low to scale * i + high, where i is the index on the node's `axis`.

    With axis None the range is the same for all elements. `loose`: axes of the node on which the place depends in some
    other way: the range is from p + low to p + high, and all ranges lie in `span`. `place` tells p from others; ()
    equals none.
    """

    axis: int | None = None
    scale: Number = 0
    low: Number = 0
    high: Number = 0
    loose: frozenset[int] = frozenset()
    span: Span | None = None
    place: tuple[object, ...] = ()
    is_whole: bool = False

    def size(self, extent: Extent) -> Extent:
        """How many indices of an axis of `extent` one element depends on."""
        return extent if self.is_whole else int((self.high - self.low) // 1) + 1


WHOLE = Reach(is_whole=True)
Reaches: TypeAlias = tuple[Reach, ...] | None  # one for each axis of the leaf; None: no path to it


class Fields:
    """The reaches of nodes into one leaf; each node is visited once, however many are asked for."""

    def __init__(self, leaf: Node) -> None:
        self._leaf = leaf
        self._known: dict[Node, Reaches] = {
            leaf: tuple(Reach(axis, 1) for axis in range(len(leaf.shape))),
        }

    def sizes(self, node: Node) -> tuple[Extent, ...] | None:
        """How many indices of each of the leaf's axes an element of `node` depends on; None without a path."""
        for one in postorder([node], lambda n: () if n in self._known else n.operands):
            if one not in self._known:
                self._known[one] = self._reaches(one)
        reaches = self._known[node]
        if reaches is None:
            return None
        return tuple(reach.size(extent) for reach, extent in zip(reaches, self._leaf.shape, strict=True))

    def _reaches(self, node: Node) -> Reaches:
        found = [self._known[operand] for operand in node.operands]
        match node:
            case Generic():
                solved = _Solved(node)
                read = [
                    None if reaches is None else tuple(solved.read(reach, index_map) for reach in reaches)
                    for reaches, index_map in zip(found, node.maps, strict=True)
                ]
                return self._joined(read)
            case Join():
                return self._parts(node, found)
            case View():
                return _reshaped(found[0], node.operand.shape, node.shape)
            case Opaque():
                return self._joined(_through(node, found))
        return None

    def _joined(self, many: Sequence[Reaches]) -> Reaches:
        there = [reaches for reaches in many if reaches is not None]
        if not there:
            return None
        total = there[0]
        for other in there[1:]:
            total = tuple(map(_union, total, other))
        return tuple(
            self._limited(reach, extent) for reach, extent in zip(total, self._leaf.shape, strict=True)
        )

    def _limited(self, reach: Reach, extent: Extent) -> Reach:
        """A range that does not move ends at the edges."""
        if reach.axis is not None or reach.loose or reach.is_whole or not isinstance(extent, int):
            return reach
        low, high = max(reach.low, 0), min(reach.high, extent - 1)
        return WHOLE if low <= 0 and high >= extent - 1 else replace(reach, low=low, high=max(low, high))

    def _parts(self, node: Join, found: Sequence[Reaches]) -> Reaches:
        """Each element is in one part: along an axis that the parts share out, the widest reach counts."""
        whole_rows = [
            all(part.out_map.rows[axis].single_axis is not None for part in node.parts)
            for axis in range(len(node.shape))
        ]
        there = [reaches for reaches in found if reaches is not None]
        if len(there) < 2:
            return there[0] if there else None

        def widest(*reaches: Reach) -> Reach:
            if any(reach.is_whole for reach in reaches):
                return WHOLE
            axes = {reach.axis for reach in reaches} | {axis for reach in reaches for axis in reach.loose}
            shared = [axis for axis in axes if axis is not None and not whole_rows[axis]]
            if not shared and all(not reach.loose for reach in reaches):
                total = reaches[0]
                for other in reaches[1:]:
                    total = _union(total, other)
                return total
            width = max(reach.high - reach.low for reach in reaches)
            span = _hull([_span(reach, node.shape) for reach in reaches])
            return Reach(high=width, loose=frozenset(axis for axis in axes if axis is not None), span=span)

        return tuple(widest(*reaches) for reaches in zip(*there, strict=True))


class _Solved:
    """A Generic's domain axes as what they are to the output: an index of an output axis, or free in a range."""

    def __init__(self, node: Generic) -> None:
        self._domain, self._out_map = node.domain, node.out_map
        self._of_output: dict[int, tuple[int, int, Affine]] = {}  # domain axis: output axis, coefficient, its row
        for position, row in enumerate(node.out_map.rows):
            for axis, coefficient in row.terms:
                self._of_output.setdefault(axis, (position, coefficient, row))

    def read(self, reach: Reach, index_map: AffineMap) -> Reach:
        """The reach of the output through an operand that is read by this map."""
        if reach.is_whole:
            return WHOLE
        if reach.loose:
            return self._read_loose(reach, {axis: index_map.rows[axis] for axis in sorted(reach.loose)})
        if reach.axis is None:
            return reach
        row = index_map.rows[reach.axis]
        outer: dict[int, Number] = {}
        low: Number = 0
        high: Number = 0
        is_placed = isinstance(row.const, int)
        if isinstance(row.const, int):
            low = high = row.const
        for axis, coefficient in row.terms:
            if axis in self._of_output:
                position, factor, out_row = self._of_output[axis]
                rest = self._range(out_row, without=axis)
                if rest is None:
                    return WHOLE
                scale = Fraction(coefficient, factor)
                outer[position] = outer.get(position, 0) + scale
                ends = _sorted(-scale * rest[0], -scale * rest[1])
                is_placed = is_placed and isinstance(out_row.const, int)
            else:
                extent = self._domain[axis]
                if not isinstance(extent, int):
                    return WHOLE
                ends = _sorted(0, coefficient * (extent - 1))
            low, high = low + ends[0], high + ends[1]
        start, end = _sorted(reach.scale * low, reach.scale * high)
        start, end = reach.low + start, reach.high + end
        outer = {position: scale for position, scale in outer.items() if scale}
        if len(outer) == 1 and is_placed:
            [(position, factor_of_place)] = outer.items()
            return Reach(position, reach.scale * factor_of_place, start, end)
        if outer:
            place = (reach.scale, row, self._out_map)
            return Reach(low=start, high=end, loose=frozenset(outer), place=place)
        return Reach(low=start, high=end) if is_placed else WHOLE

    def _range(self, row: Affine, without: int) -> tuple[int, int] | None:
        """Least and greatest value of a row of the output's map without one of its axes; a symbolic constant is 0."""
        low = high = row.const if isinstance(row.const, int) else 0
        for axis, coefficient in row.terms:
            extent = self._domain[axis]
            if axis == without:
                continue
            if not isinstance(extent, int):
                return None
            span = coefficient * (extent - 1)
            low, high = low + min(span, 0), high + max(span, 0)
        return low, high

    def _read_loose(self, reach: Reach, rows: Mapping[int, Affine]) -> Reach:
        axes = {axis for row in rows.values() for axis, _ in row.terms}
        if any(axis not in self._of_output and self._domain[axis] != 1 for axis in axes):
            return WHOLE if reach.span is None else Reach(low=reach.span[0], high=reach.span[1])
        loose = frozenset(self._of_output[axis][0] for axis in axes if axis in self._of_output)
        is_same = self._out_map.is_identity and all(row.single_axis == axis for axis, row in rows.items())
        place = (reach.place, tuple(rows.items()), self._out_map) if reach.place and not is_same else reach.place
        return replace(reach, loose=loose, place=place)


def _union(a: Reach, b: Reach) -> Reach:
    if a == b:
        return a
    if a.is_whole or b.is_whole:
        return WHOLE
    if a.loose or b.loose:
        if a.loose != b.loose or not a.place or a.place != b.place:
            return WHOLE
        return replace(a, low=min(a.low, b.low), high=max(a.high, b.high), span=_hull([a.span, b.span]))
    if (a.axis, a.scale) != (b.axis, b.scale):
        return WHOLE
    return replace(a, low=min(a.low, b.low), high=max(a.high, b.high))


def _span(reach: Reach, shape: Shape) -> Span | None:
    """The range that all elements of a node reach together."""
    if reach.axis is None:
        return reach.span if reach.loose else (reach.low, reach.high)
    extent = shape[reach.axis]
    if not isinstance(extent, int):
        return None
    start, end = _sorted(0, reach.scale * (extent - 1))
    return reach.low + start, reach.high + end


def _hull(spans: Sequence[Span | None]) -> Span | None:
    known = [span for span in spans if span is not None]
    return (min(low for low, _ in known), max(high for _, high in known)) if len(known) == len(spans) else None


def _sorted(a: Number, b: Number) -> Span:
    return (a, b) if a <= b else (b, a)


def _reshaped(found: Reaches, old: Shape, new: Shape) -> Reaches:
    """Axes at both ends that stay are followed; those between them are one group, in which only widths are known."""
    if found is None:
        return None
    head = 0
    while head < min(len(old), len(new)) and old[head] == new[head]:
        head += 1
    tail = 0
    while tail < min(len(old), len(new)) - head and old[-1 - tail] == new[-1 - tail]:
        tail += 1
    inside = [axis for axis in range(head, len(new) - tail) if new[axis] != 1]
    filled = [axis for axis in range(head, len(old) - tail) if old[axis] != 1]
    moved = {axis: axis for axis in range(head)}
    moved |= {len(old) - 1 - n: len(new) - 1 - n for n in range(tail)}
    if len(inside) == len(filled) and [new[axis] for axis in inside] == [old[axis] for axis in filled]:
        moved |= dict(zip(filled, inside, strict=True))  # axes of one element came or went

    def place(reach: Reach) -> Reach:
        axes = reach.loose if reach.axis is None else {reach.axis}
        if all(axis in moved for axis in axes):
            loose = frozenset(moved[axis] for axis in reach.loose)
            moved_axis = None if reach.axis is None else moved[reach.axis]
            return replace(reach, axis=moved_axis, loose=loose, place=(reach.place, old, new) if reach.place else ())
        if all(old[axis] == 1 for axis in axes):
            return Reach(low=reach.low, high=reach.high)
        loose = frozenset(moved[axis] for axis in axes if axis in moved) | frozenset(inside)
        origin = (reach.axis, reach.scale, reach.place, old, new)
        return Reach(low=reach.low, high=reach.high, loose=loose, span=_span(reach, old), place=origin)

    return tuple(reach if reach.is_whole else place(reach) for reach in found)


_SAME = ("stop_gradient", "custom_vjp", "checkpoint_in", "checkpoint_out", "again")  # the first operand as it is


def _through(node: Opaque, found: Sequence[Reaches]) -> list[Reaches]:
    if node.op in _SAME:
        return [found[0]]
    if node.op == "take":
        axis, rank = node.attribute("axis"), len(node.operands[1].shape)
        shape, at = node.operands[0].shape, frozenset(range(axis, axis + rank))
        moved = {n: n if n < axis else n + rank - 1 for n in range(len(shape)) if n != axis}
        table = None if found[0] is None else tuple(_gathered(reach, moved, at, shape) for reach in found[0])
        indices = None if found[1] is None else tuple(_shifted(reach, axis) for reach in found[1])
        return [table, indices]
    if node.op == "cumsum":
        axis = node.attribute("axis")
        return [
            None
            if reaches is None
            else tuple(WHOLE if axis == reach.axis or axis in reach.loose else reach for reach in reaches)
            for reaches in found
        ]
    return [None if reaches is None else (WHOLE,) * len(reaches) for reaches in found]


def _gathered(reach: Reach, moved: dict[int, int], at: frozenset[int], shape: Shape) -> Reach:
    axes = reach.loose if reach.axis is None else {reach.axis}
    if all(axis in moved for axis in axes):
        loose = frozenset(moved[axis] for axis in reach.loose)
        return replace(reach, axis=None if reach.axis is None else moved[reach.axis], loose=loose, place=())
    kept = frozenset(moved[axis] for axis in axes if axis in moved)
    return Reach(high=reach.high - reach.low, loose=kept | at, span=_span(reach, shape))


def _shifted(reach: Reach, by: int) -> Reach:
    loose = frozenset(axis + by for axis in reach.loose)
    return replace(reach, axis=None if reach.axis is None else reach.axis + by, loose=loose, place=())

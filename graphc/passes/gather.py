"""Gather form: a sum that scatters becomes one that gathers, so that every output element has one writer.

A gradient with respect to a window read writes  out[s*i + d*p - a] += ...  Solve the row for one axis (the pivot):

    s = 1    u = i + d*p - a           i = u - d*p + a: a unimodular change of variables
    s > 1    u = s*v + r, and every other axis is split by residue so that its term is a known number modulo s:
             p = m*p' + q; then i = v - (d*m*p' + (d*q - a - r)) / s.  One part for each residue r, joined.

The old bounds of the pivot become a guard: the cotangent, which is read exactly at the pivot, is read with `skip`;
where nothing is, the body selects. Where the residues of one row differ little, `residues` sums them all at once.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from graphc.ir import scalar as sc
from graphc.ir.affine import Affine, AffineMap, affine, axis_row
from graphc.ir.build import add_nodes
from graphc.ir.changes import Reason, note
from graphc.ir.graph import Graph, rewrite
from graphc.ir.node import INSIDE, SKIP, ZERO, Generic, Node, generic, join
from graphc.passes.residues import gather_residues
from graphc.passes.taps import write_out

MOST_PARTS = 64  # residue combinations beyond which a scatter is left as it is
GATHERED = Reason("gathered", "pivot", "out[s*i + p] += f(i, p) -> out[u] = sum f(...)", "one writer an element")


@dataclass(frozen=True)
class Part:
    """A Generic under construction, and the residue of each output row that it covers."""

    domain: tuple[int, ...]
    out_rows: tuple[Affine, ...]
    maps: tuple[AffineMap, ...]
    modes: tuple[str, ...]
    body: sc.Scalar
    residues: tuple[int, ...] = ()


def gather(graph: Graph) -> Graph:
    """Before: extents are known. After: an output map has single-axis rows, but where that takes too many parts."""
    return rewrite(
        graph, lambda node: _gather(node) if isinstance(node, Generic) else node, part_step=lambda node: node
    )


def _gather(node: Generic) -> Node:
    if node.reducer not in (None, "sum") or not any(
        _needs_work(node, position) for position in range(len(node.shape))
    ):
        return node
    if any(extent == 0 for extent in (*node.domain, *node.shape)):
        return node
    if (whole := gather_residues(node)) is not None:
        return whole
    domain = tuple(extent for extent in node.domain if isinstance(extent, int))
    parts = [Part(domain, node.out_map.rows, node.maps, node.modes, node.body)]
    moduli: list[int] = []
    for position, row in enumerate(node.out_map.rows):
        if not _needs_work(node, position):
            parts = [replace(part, residues=(*part.residues, 0)) for part in parts]
            moduli.append(1)
            continue
        pivot = _pivot(node, position)
        if pivot is None or not _splits_alone(node, position, pivot):
            return node
        moduli.append(abs(row.coefficient(pivot)))
        extent = node.shape[position]
        assert isinstance(extent, int)
        parts = [new for part in parts for new in _solve(part, position, pivot, extent, node)]
        if len(parts) > MOST_PARTS:
            return node
    if max(moduli) > 1 and not all(
        _needs_work(node, position) or row.single_axis is not None for position, row in enumerate(node.out_map.rows)
    ):
        return node  # parts by residue must cover the array together, and a row that does not cover its axis forbids it
    return write_out(note(GATHERED, node, _assemble(node, parts, moduli)))


def _splits_alone(node: Generic, position: int, pivot: int) -> bool:
    """No axis that is split by residue is in another output row, which the split would make strided."""
    row = node.out_map.rows[position]
    step = abs(row.coefficient(pivot))
    split = {axis for axis, c in row.terms if axis != pivot and math.gcd(abs(c), step) < step}
    others = {axis for p, r in enumerate(node.out_map.rows) if p != position for axis, _ in r.terms}
    return split.isdisjoint(others)


def _needs_work(node: Generic, position: int) -> bool:
    """A row of several axes, or of one that is shifted, reversed or shorter than what it writes into."""
    row = node.out_map.rows[position]
    if len(row.terms) != 1:
        return len(row.terms) > 1
    axis, coefficient = row.terms[0]
    return abs(coefficient) == 1 and (row.single_axis is None or node.domain[axis] != node.shape[position])


def _pivot(node: Generic, position: int) -> int | None:
    """The axis of the row with the greatest extent that no other row has: the one over which not to sum."""
    row = node.out_map.rows[position]
    others = {a for p, r in enumerate(node.out_map.rows) if p != position for a, _ in r.terms}
    candidates = [axis for axis, _ in row.terms if axis not in others]
    if not candidates:
        return None

    def rank(axis: int) -> tuple[int, int]:
        extent = node.domain[axis]
        assert isinstance(extent, int)
        return extent * abs(row.coefficient(axis)), -axis

    return max(candidates, key=rank)


def _solve(part: Part, position: int, pivot: int, extent: int, node: Generic) -> list[Part]:
    """The parts that replace one, with row `position` solved for the pivot."""
    row = part.out_rows[position]
    step = abs(row.coefficient(pivot))
    sign = 1 if row.coefficient(pivot) > 0 else -1
    others = [(axis, c) for axis, c in row.terms if axis != pivot]
    splits = {axis: step // math.gcd(abs(c), step) for axis, c in others}
    assert isinstance(row.const, int)
    result: list[Part] = []
    for choice in itertools.product(*(range(splits[axis]) for axis, _ in others)):
        start = row.const + sum(c * q for (_, c), q in zip(others, choice, strict=True))
        residue = start % step
        if residue >= extent:
            continue
        domain = list(part.domain)
        domain[pivot] = -((residue - extent) // step)
        rows = [axis_row(axis) for axis in range(len(domain))]
        terms = {pivot: sign}
        for (axis, c), q in zip(others, choice, strict=True):
            m = splits[axis]
            domain[axis] = max(0, -((q - part.domain[axis]) // m))
            rows[axis] = affine({axis: m}, q)
            terms[axis] = -sign * c * m // step
        rows[pivot] = affine(terms, -sign * (start - residue) // step)
        if any(size == 0 for size in domain):
            continue
        result.append(
            _change(part, node, tuple(domain), rows, pivot, position, affine({pivot: step}, residue), residue)
        )
    return result


def _change(
    part: Part,
    node: Generic,
    domain: tuple[int, ...],
    rows: Sequence[Affine],
    pivot: int,
    position: int,
    out_row: Affine,
    residue: int,
) -> Part:
    """Change variables: old axis a is rows[a] of the new ones; the pivot's old bounds become a guard."""
    rank = len(domain)
    inner = AffineMap(rank, tuple(rows))
    modes = list(part.modes)
    body = sc.move_axes(part.body, rows, rank)
    bound = AffineMap(rank, (rows[pivot],))
    limit = (part.domain[pivot],)
    if not bound.stays_inside(domain, limit):
        guard = _exact_reader(part, node, pivot)
        for j, index_map in enumerate(part.maps):
            if modes[j] == INSIDE and pivot in index_map.axes:
                modes[j] = ZERO
        if guard is not None:
            modes[guard] = SKIP
        else:
            body = sc.apply("select", sc.InBounds(bound, limit), body, sc.literal(0, body.dtype))
    out_rows = tuple(out_row if p == position else r.substitute(rows) for p, r in enumerate(part.out_rows))
    maps = tuple(index_map.compose(inner) for index_map in part.maps)
    return Part(domain, out_rows, maps, tuple(modes), body, (*part.residues, residue))


def _exact_reader(part: Part, node: Generic, pivot: int) -> int | None:
    """An operand that is outside exactly when the pivot is: read at it, over an axis as long as its old extent."""
    for j, index_map in enumerate(part.maps):
        if part.modes[j] == ZERO:
            continue
        for row, extent in zip(index_map.rows, node.operands[j].shape, strict=True):
            if row.single_axis == pivot and extent == part.domain[pivot]:
                return j
    return None


def _assemble(node: Generic, parts: list[Part], moduli: list[int]) -> Node:
    """Join the parts by residue; several parts of one residue go to several joins, which are added."""
    layers: list[dict[tuple[int, ...], Part]] = []
    for part in parts:
        for layer in layers:
            if part.residues not in layer:
                layer[part.residues] = part
                break
        else:
            layers.append({part.residues: part})
    sums: list[Node] = []
    for layer in layers:
        pieces: list[Node] = []
        ranges = [range(min(m, e)) for m, e in zip(moduli, node.shape, strict=True) if isinstance(e, int)]
        for residues in itertools.product(*ranges):
            if residues in layer:
                pieces.append(_piece(node, layer[residues]))
            else:
                pieces.append(_zeros(node, residues, moduli))
        if len(pieces) == 1:
            sums.append(pieces[0])
        else:
            sums.append(join([piece for piece in pieces if isinstance(piece, Generic)]))
    if not sums:
        return _fill_zero(node)
    return add_nodes(sums)


def _piece(node: Generic, part: Part) -> Node:
    out_map = AffineMap(len(part.domain), part.out_rows)
    body, modes = part.body, list(part.modes)
    if not _has_reduction(part):  # what is skipped is 0, and a part writes all that is its own
        for operand, index_map, mode in zip(node.operands, part.maps, part.modes, strict=True):
            if mode == SKIP and not isinstance(body, sc.Arg):
                body = sc.apply("select", sc.InBounds(index_map, operand.shape), body, sc.literal(0, body.dtype))
        modes = [ZERO if mode == SKIP else mode for mode in modes]
    return generic(part.domain, node.shape, out_map, node.operands, part.maps, modes, body, "sum")


def _has_reduction(part: Part) -> bool:
    written = {axis for row in part.out_rows for axis, _ in row.terms}
    return any(extent != 1 for axis, extent in enumerate(part.domain) if axis not in written)


def _zeros(node: Generic, residues: tuple[int, ...], moduli: list[int]) -> Node:
    extents = [e for e in node.shape if isinstance(e, int)]
    domain = tuple(-((r - e) // m) for r, e, m in zip(residues, extents, moduli, strict=True))
    rank = len(domain)
    rows = tuple(affine({axis: moduli[axis]}, residues[axis]) for axis in range(rank))
    return generic(domain, node.shape, AffineMap(rank, rows), (), (), (), sc.literal(0, node.dtype), "sum")


def _fill_zero(node: Generic) -> Node:
    rank = len(node.shape)
    out_map = AffineMap(rank, tuple(axis_row(axis) for axis in range(rank)))
    return generic(node.shape, node.shape, out_map, (), (), (), sc.literal(0, node.dtype), "sum")

"""The parts of a scatter that add a few terms, written out as maps.

The gradient of overlapping windows comes, after `gather`, as a Join of one sum for each residue:

    x[2*k]     = sum[m<1] f(k - m),   x[2*k + 1] = sum[m<2] f(k - m)

Sums over different axes cannot share loops, and each would write every other element. As maps over one domain the parts
are one loop nest, which writes whole rows:  x[2*k] = f(k),  x[2*k + 1] = f(k) + f(k - 1).
"""

from __future__ import annotations

import itertools
from math import prod

from graphc.ir import scalar as sc
from graphc.ir.affine import Affine, AffineMap, axis_row
from graphc.ir.changes import Reason, note
from graphc.ir.classify import is_product
from graphc.ir.extent import ints
from graphc.ir.node import SKIP, ZERO, Generic, Join, Node, generic, join
from graphc.rules.simplify_scalar import simplify_scalar

MOST_TERMS = 4  # of a part; more would make bodies too large to share a loop
WRITTEN_OUT = Reason("gathered", "taps", "sums of few terms, joined -> maps, joined", "they share one loop nest")


def write_out(node: Node) -> Node:
    """A Join of sums of few terms as a Join of maps; other nodes as they are."""
    if not isinstance(node, Join) or all(part.reducer is None for part in node.parts):
        return node
    parts = [_as_map(part) for part in node.parts]
    found = [part for part in parts if isinstance(part, Generic)]
    return note(WRITTEN_OUT, node, join(found)) if len(found) == len(parts) else node


def _as_map(part: Generic) -> Node | None:
    """The part without its sum, the terms added in the sum's order."""
    if part.reducer is None:
        return part
    reduced = part.reduced_axes
    extents = ints(tuple(part.domain[axis] for axis in reduced))
    if part.reducer != "sum" or is_product(part) or not 0 < prod(extents) <= MOST_TERMS:
        return None
    kept = [axis for axis in range(len(part.domain)) if axis not in reduced]
    rank = len(kept)
    operands: list[Node] = []
    maps: list[AffineMap] = []
    modes: list[str] = []
    total: sc.Scalar | None = None
    rows = [axis_row(kept.index(axis)) if axis in kept else axis_row(0) for axis in range(len(part.domain))]
    for values in itertools.product(*map(range, extents)):
        for axis, value in zip(reduced, values, strict=True):
            rows[axis] = Affine((), value)
        inner = AffineMap(rank, tuple(rows))
        numbers = range(len(operands), len(operands) + len(part.maps))
        term = sc.renumber_args(sc.move_axes(part.body, rows, rank), numbers)
        for operand, index_map, mode in zip(part.operands, part.maps, part.modes, strict=True):
            operands.append(operand)
            maps.append(index_map.compose(inner))
            modes.append(ZERO if mode == SKIP else mode)
            if mode == SKIP:  # a point that is skipped adds nothing
                inside = sc.InBounds(maps[-1], operand.shape)
                term = sc.apply("select", inside, term, sc.literal(0, term.dtype))
        total = term if total is None else sc.apply("add", total, term)
    assert total is not None
    out_map = part.out_map.compose(AffineMap(rank, tuple(rows)))
    domain = tuple(part.domain[axis] for axis in kept)
    return generic(domain, part.shape, out_map, operands, maps, modes, simplify_scalar(total), None)

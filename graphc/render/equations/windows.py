"""Convolutions and their two gradients, told from the structure of a Generic.

    forward   z[n,o,i] = sum[c,k]   x[n,c, s*i + d*k - a] * w[o,c,k]       of any number of places i, with groups
    input     x'[n,c, s*i + d*k - a] += sum[o] w[o,c,k] * z'[n,o,i]
    weight    w'[o,c,k] = sum[n,i]  x[n,c, s*i + d*k - a] * z'[n,o,i]

One of the three maps has rows of two axes, a place and a tap; where it stands says which of the three it is.
"""

from __future__ import annotations

from dataclasses import dataclass

from graphc.ir import scalar as sc
from graphc.ir.affine import AffineMap
from graphc.ir.node import Generic


@dataclass(frozen=True)
class Convolution:
    """kind: "forward", "input" or "weight". places: of the first and second operand as they are written."""

    kind: str
    places: tuple[int, int]


def window_of(node: Generic) -> Convolution | None:
    """What a Generic is in a convolution, or None."""
    body = node.body
    if node.reducer != "sum" or len(node.operands) != 2 or not isinstance(body, sc.Apply) or body.op != "mul":
        return None
    if not all(isinstance(arg, sc.Arg) for arg in body.args):
        return None
    maps = (*node.maps, node.out_map)
    sliding = [place for place, index_map in enumerate(maps) if _slides(index_map)]
    if len(sliding) != 1 or any(maps[place].projection is None for place in range(3) if place not in sliding):
        return None
    pairs = [tuple(axis for axis, _ in row.terms) for row in maps[sliding[0]].rows if len(row.terms) == 2]
    if sliding[0] == 2:  # the weight is what has no place, only taps
        tapless = [place for place in (0, 1) if all(len(set(pair) & maps[place].axes) == 1 for pair in pairs)]
        if len(tapless) != 2 or not pairs:
            return None
        batch = [place for place in (0, 1) if _first_axis(maps[place]) == _first_axis(maps[2])]
        if len(batch) != 1:
            return None
        return Convolution("input", (1 - batch[0], batch[0]))
    other = 1 - sliding[0]
    if not all(len(set(pair) & maps[other].axes) == 1 and len(set(pair) & maps[2].axes) == 1 for pair in pairs):
        return None
    if _first_axis(maps[sliding[0]]) in maps[2].axes and _first_axis(maps[sliding[0]]) not in maps[other].axes:
        return Convolution("forward", (other, sliding[0]))
    return Convolution("weight", (other, sliding[0]))


def _slides(index_map: AffineMap) -> bool:
    return any(len(row.terms) == 2 for row in index_map.rows) and all(len(row.terms) <= 2 for row in index_map.rows)


def _first_axis(index_map: AffineMap) -> int | None:
    return index_map.rows[0].single_axis if index_map.rows else None

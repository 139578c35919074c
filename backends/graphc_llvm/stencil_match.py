"""Which contractions are stencils: what plays the image and the weights, rows and columns, and the taps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

from graphc.ir.affine import Affine
from graphc.ir.classify import Contraction
from graphc.ir.extent import ints
from graphc.ir.node import INSIDE, Generic
from graphc.program import Kernel, Program, Stage
from graphc_llvm.contraction_match import access, tile_accesses

LEAST_COLUMNS = 4  # of the output: with fewer, most lanes would be idle


@dataclass(frozen=True)
class Tap:
    """Reads the image at (row, column) from the output's place times the steps, and a weight at an offset."""

    row: int
    column: int
    weight: int


@dataclass(frozen=True)
class Match:
    """The axes of the domain and the dimensions of the image that play a part."""

    j: int  # the image's operand
    row_axis: int | None
    column_axis: int
    row_dim: int | None
    column_dim: int


def match_axes(node: Generic, classes: Contraction, domain: Sequence[int]) -> Match | None:
    """Which operand is the image, and which of its dimensions are rows and columns."""
    used = {axis for axis in range(len(domain)) if domain[axis] > 1}
    summed = {axis for axis in classes.k if axis in used}
    for j, own in ((0, classes.m), (1, classes.n)):
        axes = {axis for axis in own if axis in used}
        index_map = node.maps[j]
        terms = [{a: c for a, c in row.terms if a in used} for row in index_map.rows]
        if not axes or not summed or node.modes[1 - j] != INSIDE:
            continue
        if not all(isinstance(row.const, int) for row in index_map.rows):
            continue
        shape = ints(node.operands[j].shape)
        strides = [prod(shape[d + 1:]) for d in range(len(shape))]
        last = next((d for d in reversed(range(len(shape))) if terms[d]), None)
        if last is None or strides[last] != 1 or any(axis not in index_map.axes for axis in summed):
            continue
        column = _spatial(terms[last], axes, summed)
        if column is None or terms[last][column] not in (1, 2) or domain[column] < LEAST_COLUMNS:
            continue
        others = [d for d in range(len(shape)) if d != last]
        windowed = [d for d in others if summed & terms[d].keys()]
        if len(windowed) > 1:
            continue
        candidates = windowed or [d for d in reversed(others) if _spatial(terms[d], axes, summed) is not None]
        row_dim = candidates[0] if candidates else None
        row = None if row_dim is None else _spatial(terms[row_dim], axes, summed)
        if windowed and row is None:
            continue
        places = [axis for d in range(len(shape)) for axis in terms[d]]
        if any(places.count(axis) > 1 for axis in (row, column) if axis is not None):
            continue
        bounds = index_map.range_of(tuple(domain))
        inside = all(
            bound is not None and bound[0] >= 0 and bound[1] < shape[d]
            for d, bound in enumerate(bounds) if d not in (row_dim, last)
        )
        if inside and (row_dim is None or row is None or terms[row_dim][row] > 0):
            return Match(j, row, column, row_dim, last)
    return None


def _spatial(terms: dict[int, int], axes: set[int], summed: set[int]) -> int | None:
    """The one axis of the image's own in this row of its map, beside which only summed axes may stand."""
    found = [axis for axis in terms if axis not in summed]
    return found[0] if len(found) == 1 and found[0] in axes else None


def list_taps(
    program: Program, stage: Stage, match: Match, domain: Sequence[int], summed: Sequence[int]
) -> Iterator[Tap]:
    """A tap for each point of the summed axes."""
    node = stage.node
    assert isinstance(node, Generic)
    weights = access(program, stage.reads[1 - match.j], node.maps[1 - match.j])
    rows = node.maps[match.j].rows

    def along(dim: int | None, point: Sequence[int]) -> int:
        row = rows[dim] if dim is not None else Affine((), 0)
        assert isinstance(row.const, int)
        return row.const + sum(row.coefficient(axis) * index for axis, index in zip(summed, point, strict=True))

    for point in product(*(range(domain[axis]) for axis in summed)):
        weight = sum(weights.strides[axis] * index for axis, index in zip(summed, point, strict=True))
        yield Tap(along(match.row_dim, point), along(match.column_dim, point), weight)


def can_write(program: Program, kernel: Kernel, column_strides: Sequence[int]) -> bool:
    """Lanes of every access are neighbours or one element; a lone sum may be written to every second element."""
    keys = list(tile_accesses(program, kernel))
    if len(kernel.stages) == 1:
        return column_strides[0] in (1, 2)
    return all(stride in ((1,) if key[1] < 0 else (0, 1)) for key, stride in zip(keys, column_strides, strict=True))

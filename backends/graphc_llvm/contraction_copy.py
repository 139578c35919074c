"""What zero padding costs a contraction: copies with a border of zeros, and the products that can be left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

from graphc.ir.affine import Affine, AffineMap, axis_name
from graphc.ir.classify import Contraction
from graphc.ir.node import INSIDE, Generic
from graphc.program import ALIGNMENT, Buffer, Program, Stage
from graphc_llvm.addressing import flat_offset
from graphc_llvm.bodies import memory_kind
from graphc_llvm.emit_types import BYTES
from graphc_llvm.schedule import Access, Axis, Copy, Trim
from graphc_llvm.target import Target

SMALLEST_PASS = 256  # products of one pass when a summed axis is peeled
LEAST_TRIMMED = 0.02  # the share of the products that trimming must save
SHORTEST_STRIP = 4  # output rows: with fewer, the rows that two strips share are copied too often
ALIASED_BYTES = 4096  # addresses that differ by a multiple of it share a set of every first-level cache that we know


@dataclass(frozen=True)
class StripOf:
    """Strips of `length` indices of an axis of the domain; one index moves the box's axis `dim` by `step`."""

    axis: int
    length: int
    dim: int
    step: int


@dataclass(frozen=True)
class Placed:
    """A copy, the access of it, where in the array it is taken from, the peeled axes, and the strips."""

    copy: Copy
    access: Access
    source: Access
    peeled: list[int]
    strip: StripOf | None


def plan_copy(
    index_map: AffineMap, buffer: Buffer, domain: tuple[int, ...], plain: Access, classes: Contraction, target: Target,
    strips: bool,
) -> Placed:
    """A zero-bordered copy that holds every element that is read.

    Leading axes up to the last batch axis are peeled: the copy holds one index of them at a time, and they become outer
    loops. If what is left exceeds half the second-level cache, so is its first axis (the images of a batch). A summed
    axis is peeled only where enough products remain inside to pay for keeping partial sums. A copy that then exceeds
    the cache is made in strips of one loop, if `strips` allows it."""
    ranges = [bounds for bounds in index_map.range_of(domain) if bounds is not None]
    rows = index_map.rows
    extents = [high - low + 1 for low, high in ranges]
    item = BYTES[memory_kind(buffer.dtype)]
    peeled: list[int] = []
    batched = max((at + 1 for at, row in enumerate(rows) if row.single_axis in classes.batch), default=0)
    while (at := len(peeled)) < len(rows) - 1:
        if at >= batched and prod(extents[at:]) * item <= target.l2_bytes // 2:
            break
        low, high = ranges[at]
        terms = rows[at].terms
        if low < 0 or high >= buffer.shape[at] or len(terms) > 1:
            break
        if terms:
            axis = terms[0][0]
            used = sum(row.coefficient(axis) != 0 for row in rows)
            rest = prod(domain[a] for a in classes.k if a != axis and a not in peeled)
            if used > 1 or (axis in classes.k and rest < SMALLEST_PASS) or (at and axis not in classes.batch):
                break
            peeled.append(axis)
        else:
            peeled.append(-1)
    skip = len(peeled)
    strip = None
    if strips and prod(extents[skip:]) * item > target.l2_bytes:
        strip = _strip(rows, skip, extents, domain, classes, target.l2_bytes // 2 // item)
    if strip is not None:
        cut = domain[strip.axis] - strip.length
        ranges[strip.dim] = ranges[strip.dim][0], ranges[strip.dim][1] - cut * strip.step
        extents[strip.dim] -= cut * strip.step
        strip = replace(strip, dim=strip.dim - skip)
    shape = tuple(extents[skip:])
    lows = tuple(low for low, _ in ranges[skip:])
    strides = _apart(shape, item)
    flat = flat_offset(AffineMap(index_map.rank, rows[skip:]), strides)
    assert isinstance(flat.const, int)
    base = flat.const - sum(low * stride for low, stride in zip(lows, strides, strict=True))
    rank = index_map.rank
    outside = flat_offset(AffineMap(rank, rows[:skip]), buffer.strides[:skip])
    assert isinstance(outside.const, int)
    return Placed(
        Copy(lows, shape, buffer.shape[skip:], buffer.strides[skip:], strides),
        Access(plain.buffer, plain.dtype, tuple(flat.coefficient(a) for a in range(rank)), base),
        Access(plain.buffer, plain.dtype, tuple(outside.coefficient(a) for a in range(rank)), outside.const),
        [axis for axis in peeled if axis >= 0], strip,
    )


def _strip(
    rows: Sequence[Affine], skip: int, extents: Sequence[int], domain: tuple[int, ...], classes: Contraction, most: int
) -> StripOf | None:
    """Strips of a loop over output rows: `most` elements of the copy at a time."""
    for dim in range(skip, len(rows) - 1):
        others = [(axis, step) for axis, step in rows[dim].terms if axis not in classes.k]
        if len(rows[dim].terms) != 2 or len(others) != 1:
            continue
        axis, step = others[0]
        if step < 0 or sum(row.coefficient(axis) != 0 for row in rows) > 1:
            continue
        per_row = prod(extents[skip:]) // extents[dim]
        window = extents[dim] - (domain[axis] - 1) * step
        lengths = [n for n in range(SHORTEST_STRIP, domain[axis]) if domain[axis] % n == 0]
        lengths = [n for n in lengths if ((n - 1) * step + window) * per_row <= most]
        if lengths:
            return StripOf(axis, lengths[-1], dim, step)
    return None


def _apart(shape: Sequence[int], item: int) -> tuple[int, ...]:
    """Row-major strides, but for one that would put many rows or planes into the same sets of the first-level cache."""
    strides: list[int] = []
    step = 1
    for extent in reversed(shape):
        strides.append(step)
        step *= extent
        if step * item % ALIASED_BYTES == 0:
            step += ALIGNMENT // item
    return tuple(reversed(strides))


def possible_trims(
    program: Program, stage: Stage, domain: tuple[int, ...], classes: Contraction, k: Sequence[Axis],
    loops: Sequence[Axis],
) -> list[tuple[Axis, Trim]]:
    """What could be trimmed: the axes of k and the loops whose sum is an index outside its array here and there."""
    node = stage.node
    assert isinstance(node, Generic)
    found: list[tuple[Axis, Trim]] = []
    for j in (0, 1):
        if node.modes[j] == INSIDE or len(k) < 2:
            continue
        for row, size in zip(node.maps[j].rows, program.by_name[stage.reads[j]].shape, strict=True):
            summed = [term for term in row.terms if term[0] in classes.k]
            others = [term for term in row.terms if term[0] not in classes.k]
            if len(summed) != 1 or len(others) != 1 or not isinstance(row.const, int):
                continue
            (a, step), (o, outer_step) = summed[0], others[0]
            axis = next((axis for axis in k if axis.name == axis_name(a)), None)
            loop = next((axis for axis in loops if axis.name == axis_name(o)), None)
            if axis is None or loop is None:
                continue
            ranges: list[tuple[int, int]] = []
            for index in range(domain[o]):
                first = row.const + outer_step * index
                inside = [i for i in range(domain[a]) if 0 <= first + step * i < size]
                ranges.append((inside[0], inside[-1] + 1) if inside else (0, 0))
            trim = Trim(loop, tuple(ranges))
            if trim.share <= 1 - LEAST_TRIMMED:
                found.append((axis, trim))
    return found

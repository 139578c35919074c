"""Which operand is the vector side, and how large the tiles are: the least of an estimate in cycles.

The estimate is of a processor that starts two fused multiply-adds and two vector loads a cycle and ends a
multiply-add after four. Only the ratios matter: they rank tiles by what remainders, transposed stores and packing cost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf, prod

from graphc_llvm.target import Target

STRIDED_STORE = 1.0  # cycles an element that a tile reads or writes with lanes apart: a load and a store each
STRIDED_PACK = 1.0  # cycles an element
PLAIN_PACK = 0.15
TILE_START = 20.0  # cycles a call of the micro-kernel spends outside its loop
UNALIGNED_LOAD = 0.75  # cycles: half of them straddle two lines
TWO_STREAMS = 1.2  # what tiles with lanes along k were measured to take, over this estimate
ACROSS = 4.0  # cycles for adding the lanes of one accumulator
MOST_STREAMS = 8  # rows that a tile reads along k at once: more, and the hardware prefetchers lose track
SIZE_HANDICAP = 0.01  # of the time, that one size of tile less may cost
SHARED_WORK = 1 << 20  # products, from which threads share what has no outer axes
DEEP = 2048  # bytes of one column: 512 floats, 256 doubles
SPARSE = 2048  # bytes from one step of k to the next, from which no hardware prefetcher helps
FEW_STEPS = 32  # of k: so many pages at once are no burden
MISSES = 3.0  # the factor by which a sparse vector side in place that exceeds the second-level cache slows the loop

Side = tuple[tuple[int, tuple[int, ...]], ...]


def ceil_div(a: int, b: int) -> int:
    """The least integer not below a / b."""
    return -(-a // b)


@dataclass(frozen=True)
class Work:
    """What the choice depends on: (extent, strides) of the axes of both sides, products summed, points outside."""

    sides: tuple[Side, Side]
    depth: int
    outer: int
    k_extents: tuple[int, ...]
    k_strides: tuple[tuple[int, ...], ...]
    accesses: int
    item_bytes: int
    shares: tuple[tuple[float, ...], ...] = ((), (), ())  # of the products, that trimming by a loop over an axis leaves

    def share(self, v: int, lane_axis: int, s_loops: Sequence[int]) -> float:
        """What the best trimming leaves, if lanes run along an axis of V and these axes of S are loops."""
        v_shares = [share for axis, share in enumerate(self.shares[1 + v]) if axis != lane_axis]
        return min([1.0, *self.shares[0], *v_shares, *(self.shares[2 - v][axis] for axis in s_loops)])

    @cached_property
    def _sizes(self) -> tuple[int, int]:
        one, other = (prod(extent for extent, _ in side) for side in self.sides)
        return one, other

    def side_size(self, side: int) -> int:
        return self._sizes[side]

    def is_deep(self, side: int, cache: int) -> bool:
        """A plain matrix of many rows that exceeds the cache: each tile of it lies in as many pages as k is long."""
        pages = self.depth * self.item_bytes >= DEEP
        return pages and len(self.k_strides[side]) == 1 and self.side_bytes(side) > cache

    def is_sparse(self, side: int, cache: int) -> bool:
        """Each step of k is in another page, and the whole exceeds the cache."""
        strides = self.k_strides[side]
        far = len(strides) == 1 and strides[0] * self.item_bytes >= SPARSE and self.depth > FEW_STEPS
        return far and self.side_bytes(side) > cache

    def side_bytes(self, side: int) -> int:
        return self.side_size(side) * self.depth * self.item_bytes


@dataclass(frozen=True)
class Tiling:
    """`v`: which operand is the vector side; `lane_axis`: along which of its axes lanes run; `s_order`: the axes of the
    scalar side from the outermost to the innermost loop; `boxed`: how many of the innermost lie in a tile whole;
    `splits`: (size, how many) parts of the next axis."""

    v: int
    lane_axis: int
    lanes: int
    vectors: int
    s_order: tuple[int, ...]
    boxed: int
    splits: tuple[tuple[int, int], ...]
    packed: bool
    cost: float
    along_k: bool = False  # lanes run along the last axis of k: `vectors` elements of V, each with `lanes` partial sums

    @property
    def width(self) -> int:
        """Elements of V in a whole tile."""
        return self.vectors if self.along_k else self.vectors * self.lanes


def balanced(extent: int, most: int) -> tuple[tuple[int, int], ...]:
    """`extent` in the fewest parts of at most `most`, of at most two neighbouring sizes: 64 by 14 is 4x13 and 12."""
    parts = ceil_div(extent, most)
    size = ceil_div(extent, parts)
    smaller = parts * size - extent
    whole = ((size, parts - smaller),) if parts - smaller else ()
    return (*whole, (size - 1, smaller)) if smaller else whole


def choose_tiling(work: Work, target: Target, lanes: int) -> Tiling | None:
    """The cheapest tiling; None when even that keeps the vector units mostly idle (a matrix times a vector whose lanes
    would have to be packed for one use)."""
    best: Tiling | None = None
    least = inf
    for tiling in _candidates(work, target, lanes):
        if tiling.cost < least:  # a handicap is at least 1
            cost = tiling.cost * _handicap(work, tiling)
            if cost < least:
                best, least = tiling, cost
    assert best is not None
    products = work.outer * work.depth * work.side_size(0) * work.side_size(1)
    if products and lanes > 1 and best.cost > max(0.6 * products, 1000.0):
        return None
    return best


def _handicap(work: Work, tiling: Tiling) -> float:
    """What speaks against a tiling beside its cycles: threads that wait for each other, and more sizes of tile, each of
    which is a function to compile."""
    v_side = work.sides[tiling.v]
    extent = v_side[tiling.lane_axis][0] if v_side else 1
    sizes = len(tiling.splits) * ((extent > tiling.width) + (extent % tiling.width != 0) or 1)
    return _unevenness(work, tiling) * (1 + SIZE_HANDICAP * (sizes - 1))


def _unevenness(work: Work, tiling: Tiling) -> float:
    """By how much longer few tiles take on one, two and four threads than if they could be divided; the mean."""
    if work.outer > 1 or work.depth * work.side_size(0) * work.side_size(1) < SHARED_WORK:
        return 1.0
    v_side = work.sides[tiling.v]
    extent = v_side[tiling.lane_axis][0] if v_side else 1
    s_extents = [work.sides[1 - tiling.v][axis][0] for axis in tiling.s_order]
    loops = max(0, len(s_extents) - tiling.boxed - 1)
    tiles = ceil_div(extent, tiling.width) * (work.side_size(tiling.v) // extent)
    tiles *= sum(count for _, count in tiling.splits) * prod(s_extents[:loops])
    return sum(ceil_div(tiles, threads) * threads / tiles for threads in (1, 2, 4)) / 3


def _candidates(work: Work, target: Target, lanes: int) -> Iterator[Tiling]:
    registers = target.vector_registers - 1 - (0 if target.has_fma else 1)
    for v in (0, 1):
        v_side, s_side = work.sides[v], work.sides[1 - v]
        for lane_axis in range(max(1, len(v_side))):
            extent, strides = v_side[lane_axis] if v_side else (1, (0,) * (4 + work.accesses))
            in_place = strides[v] == 1 or extent == 1
            for packed in (False, True) if in_place else (True,):
                for vectors in range(1, min(8, ceil_div(extent, lanes)) + 1):
                    rows = (registers - vectors) // vectors
                    if rows < 1:
                        break
                    for order, boxed, splits in _row_splits(s_side, rows):
                        yield _estimate(work, target, v, lane_axis, lanes, vectors, order, boxed, splits, packed)
            if lanes > 1 and work.k_extents[-1] > 1 and all(strides[-1] == 1 for strides in work.k_strides):
                for columns in range(1, min(8, lanes, extent) + 1):
                    rows = (registers - columns) // columns
                    if len(s_side) < 2 and work.side_bytes(1 - v) > target.l2_bytes:
                        rows = min(rows, MOST_STREAMS)
                    for order, boxed, splits in _row_splits(s_side, rows):
                        yield _estimate_along_k(work, v, lane_axis, lanes, columns, order, boxed, splits)


def _estimate_along_k(
    work: Work, v: int, lane_axis: int, lanes: int, columns: int, order: tuple[int, ...], boxed: int,
    splits: tuple[tuple[int, int], ...],
) -> Tiling:
    v_side = work.sides[v]
    extent = v_side[lane_axis][0] if v_side else 1
    s_extents = [work.sides[1 - v][axis][0] for axis in order]
    inner = prod(s_extents[len(s_extents) - boxed:])
    loops = max(0, len(s_extents) - boxed - 1)
    length = work.k_extents[-1]
    steps = work.depth / length * ceil_div(length, lanes) * work.share(v, lane_axis, order[:loops])
    whole, rest = divmod(extent, columns)
    cycles = 0.0
    for size, count in splits:
        for width, tiles in ((columns, whole), (rest, 1 if rest else 0)):
            sums = size * inner * width
            step = max(sums / 2, (size * inner + width) * UNALIGNED_LOAD, 4.0) + 0.5
            cycles += count * tiles * (step * steps + TILE_START + sums * ACROSS)
    cycles *= TWO_STREAMS * prod(s_extents[:loops]) * (work.side_size(v) // extent) * work.outer
    return Tiling(v, lane_axis, lanes, columns, order, boxed, splits, False, cycles, along_k=True)


def _row_splits(side: Side, rows: int) -> Iterator[tuple[tuple[int, ...], int, tuple[tuple[int, int], ...]]]:
    """(order of the axes, axes in the box, parts of the next axis) for tiles of at most `rows`. The orders are that of
    the domain, and those that move one axis to the front."""
    natural = tuple(range(len(side)))
    yield from _splits_of(side, rows, natural)
    for front in natural[1:]:
        order = (front, *(axis for axis in natural if axis != front))
        yield from _splits_of(side, rows, order)


def _splits_of(
    axes: Side, rows: int, order: tuple[int, ...]
) -> Iterator[tuple[tuple[int, ...], int, tuple[tuple[int, int], ...]]]:
    side = [axes[axis] for axis in order]
    for boxed in range(len(side) + 1):
        inner = prod(extent for extent, _ in side[len(side) - boxed:])
        if inner > rows:
            return
        rest = side[: len(side) - boxed]
        extent = rest[-1][0] if rest else 1
        seen: set[tuple[tuple[int, int], ...]] = set()
        for most in range(1, min(rows // inner, extent) + 1):
            splits = balanced(extent, most)
            if splits not in seen:
                seen.add(splits)
                yield order, boxed, splits


def _estimate(
    work: Work, target: Target, v: int, lane_axis: int, lanes: int, vectors: int, order: tuple[int, ...], boxed: int,
    splits: tuple[tuple[int, int], ...], packed: bool,
) -> Tiling:
    v_side = work.sides[v]
    extent, strides = v_side[lane_axis] if v_side else (1, (0,) * (4 + work.accesses))
    s_extents = [work.sides[1 - v][axis][0] for axis in order]
    inner = prod(s_extents[len(s_extents) - boxed:])
    loops = max(0, len(s_extents) - boxed - 1)
    s_outer = prod(s_extents[:loops])
    depth = work.depth * (work.share(v, lane_axis, order[:loops]) if any(work.shares) else 1.0)
    v_outer = work.side_size(v) // extent
    whole, rest = divmod(ceil_div(extent, lanes), vectors)
    widths = [(vectors, whole), (rest, 1 if rest else 0)]
    cycles = 0.0
    for size, count in splits:
        for width, tiles in widths:
            rows = size * inner
            step = max(rows * width / 2, (rows + width) / 2, 4.0) + 0.25
            cycles += count * tiles * (step * depth + TILE_START + rows * width)
    cycles *= s_outer * v_outer * work.outer
    misses = not packed and work.is_sparse(v, target.l2_bytes) and work.side_size(1 - v) > 32
    cycles *= MISSES if misses else 1.0
    elements = work.outer * work.side_size(0) * work.side_size(1)
    for stride in strides[2:]:
        cycles += elements * STRIDED_STORE if stride not in (0, 1) and extent > 1 else 0.0
    if packed:
        cycles += work.depth * work.side_size(v) * (PLAIN_PACK if strides[v] == 1 else STRIDED_PACK)
    return Tiling(v, lane_axis, lanes, vectors, order, boxed, splits, packed, cycles)

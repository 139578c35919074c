"""How a sum of products is computed: roles, tiles, blocks. Planning only, as frozen data that prints.

    C[b, s, v]  =  sum over k of  S[b, s, k] * V[b, v, k]

The axes of the domain are batch (in both operands), s, v and k. Lanes of a vector run along one axis of the side V,
so V is loaded as vectors and S one element at a time, broadcast: a tile of `rows` elements of S by `vectors` vectors
of V is held in registers while k runs. Every address is affine in the axes, therefore

    address = base(tile) + offset(k) + constant(row or lane)

and nothing needs to be rearranged in memory first, but for two cases that are planned here:

* an operand that is read outside of its array (zero padding) is first copied into an array with a border of zeros;
* V is packed, into one [k][lanes] panel for each tile, when the lanes are not neighbours or when V exceeds the cache.

k is cut into blocks where the offsets of one block would fill too large a table, or a panel the cache. Sums of all
blocks but the last go to a workspace. The order of a sum follows from the schedule: k runs through its axes as they
stand, a trimmed one first; with lanes along k each lane has a sum of its own, and so has each part of k that threads
share. A schedule depends on shapes, strides and the target alone, and with it the bits of a result.

A point that is not visited (a read of mode `skip` outside its array) counts as 0 times the other operand. Both are
the same where the other operand is finite; where it is infinite or NaN there, the result is NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

from graphc.ir.affine import axis_name
from graphc.ir.classify import Contraction
from graphc.ir.extent import ints
from graphc.ir.node import INSIDE, Generic
from graphc.program import Kernel, Program
from graphc_llvm.bodies import memory_kind
from graphc_llvm.contraction_copy import StripOf, plan_copy, possible_trims
from graphc_llvm.contraction_cost import MOST_STREAMS, Tiling, Work, ceil_div, choose_tiling
from graphc_llvm.contraction_match import access, supports, tile_accesses
from graphc_llvm.contraction_tasks import cut_tiles, shared_axes
from graphc_llvm.emit_types import BYTES
from graphc_llvm.schedule import Access, Axis, Copy, Schedule, Strip, Trim, merged, unit_axis
from graphc_llvm.target import Target

LARGEST_TABLE = 8192  # offsets of one k block: 32 KiB of i32, read once in a pass over k
MATMUL_DEPTH = 512  # k block of a large matrix product: a panel of 32 lanes is then 64 KiB, well inside a second level
DEEP_SUM = 1024  # products, from which a large matrix product is cut: below it, putting sums aside costs more
SHORTEST_BLOCK = 2048  # products of a k block whose sums are then put aside, lanes and all
FEW_ROWS = 32  # of S: with fewer, a V too large for the cache is read in the order of the memory
FEWEST_PARTS, MOST_PARTS = 8, 16  # of a long sum that threads share: both divide well by two, three and four
SHORTEST_PART = 256  # products: then keeping and adding its sums takes a few percent
LONG_SUM = 1 << 21  # products, from which parts of it are worth adding
LEAST_USES = 8  # of an element, for products to take longer than loads from the second-level cache
LANES_ADDED = 16  # products that take as long as fetching and adding one kept sum
LEAST_BLOCKED = 16  # tiles of V from which they may be packed block by block
BLOCK_SHARE = 8  # of the second-level cache, for a block of panels that is packed: the next block is on its way there
LEAST_REUSE = 8  # tiles of V that must share a panel of S to pay for packing it


@dataclass(frozen=True)
class _Axes:
    """The loops of a contraction before tiles are chosen, and the accesses that their strides are of."""

    kind: str
    operands: tuple[Access, Access]
    copies: tuple[Copy | None, Copy | None]
    sources: tuple[Access, Access]
    tile: tuple[Access, ...]
    result: int  # the number of the first write among all accesses
    outer: tuple[Axis, ...]
    k_outer: tuple[Axis, ...]
    k: tuple[Axis, ...]
    sides: tuple[tuple[Axis, ...], tuple[Axis, ...]]
    strip: Strip | None
    trims: list[tuple[Axis, Trim]]

    @property
    def accesses(self) -> int:
        return 4 + len(self.tile)


def plan_contraction(
    program: Program, kernel: Kernel, target: Target, tiling: Tiling | None = None
) -> Schedule | None:
    """The schedule, or None when general loops should compute this kernel. The output must not be empty. `tiling`
    replaces the choice of roles and tiles."""
    classes = supports(program, kernel)
    if classes is None:
        return None
    axes = _axes(program, kernel, classes, target)
    work = _work(axes)
    tiling = tiling or choose_tiling(work, target, target.lanes(axes.kind))
    return None if tiling is None else _schedule(axes, work, tiling, target)


def _axes(program: Program, kernel: Kernel, classes: Contraction, target: Target) -> _Axes:
    """Copies, and the axes of the domain in groups."""
    stage = kernel.stages[0]
    node = stage.node
    assert isinstance(node, Generic)
    domain = ints(node.domain)
    operands = [access(program, stage.reads[j], node.maps[j]) for j in (0, 1)]
    sources = [replace(one, strides=(0,) * len(domain), const=0) for one in operands]
    copies: list[Copy | None] = [None, None]
    structural: list[int] = []
    bordered = [j for j in (0, 1) if node.modes[j] != INSIDE and 0 not in domain]
    strips: dict[int, StripOf] = {}
    for j in bordered:
        buffer = program.by_name[stage.reads[j]]
        may_strip = not any(len(row.terms) > 1 for row in node.maps[1 - j].rows)
        placed = plan_copy(node.maps[j], buffer, domain, operands[j], classes, target, may_strip)
        copies[j], operands[j], sources[j] = placed.copy, placed.access, placed.source
        structural += placed.peeled
        if placed.strip is not None:
            strips[j] = placed.strip
    touched = tile_accesses(program, kernel)
    tile = tuple(touched.values())
    result = next(number for number, (_, operand) in enumerate(touched, 2) if operand < 0)
    every = (*operands, *tile, *sources)
    short = {one.axis: one.length for one in strips.values()}  # at most one

    def axis_of(a: int) -> Axis:
        return Axis(axis_name(a), short.get(a, domain[a]), tuple(x.strides[a] for x in every))

    def group(axes: Sequence[int]) -> tuple[Axis, ...]:
        made = [axis_of(a) for a in dict.fromkeys(axes) if domain[a] != 1]
        return merged(made, {axis_name(a) for a in short})

    outer = group([*classes.batch, *(a for a in structural if a not in classes.k)])
    sides = (
        group([a for a in classes.m if a not in structural]), group([a for a in classes.n if a not in structural])
    )
    strip = None
    for j, one in strips.items():
        count = domain[one.axis] // one.length
        strides = [one.length * x.strides[one.axis] for x in every]
        copy = copies[j]
        assert copy is not None
        strides[j], strides[2 + len(tile) + j] = 0, one.length * one.step * copy.source_strides[one.dim]
        inner = next(axis for axis in (*sides[0], *sides[1]) if axis.name == axis_name(one.axis))
        strip = Strip(j, Axis(f"{inner.name}'", count, tuple(strides)), inner, one.dim, one.length * one.step)
        outer = (*outer, strip.outer)
    k_outer = list(group([a for a in classes.k if a in structural]))
    k = list(group([a for a in classes.k if a not in structural])) or [unit_axis(len(every))]
    while len(k) > 1 and prod(axis.extent for axis in k[1:]) > LARGEST_TABLE:
        k_outer.append(k.pop(0))
    return _Axes(
        memory_kind(node.dtype), (operands[0], operands[1]), (copies[0], copies[1]), (sources[0], sources[1]), tile,
        result, outer, tuple(k_outer), tuple(k), sides, strip,
        possible_trims(program, stage, domain, classes, k, (*outer, *sides[0], *sides[1])),
    )


def _work(axes: _Axes) -> Work:
    """What the choice of tiles depends on."""

    def shares(group: Sequence[Axis]) -> tuple[float, ...]:
        return tuple(min((trim.share for _, trim in axes.trims if trim.axis is one), default=1.0) for one in group)

    first, second = (tuple((axis.extent, axis.strides) for axis in side) for side in axes.sides)
    return Work(
        sides=(first, second),
        depth=prod(axis.extent for axis in (*axes.k, *axes.k_outer)),
        outer=prod(axis.extent for axis in axes.outer),
        k_extents=tuple(axis.extent for axis in axes.k),
        k_strides=tuple(tuple(axis.strides[j] for axis in axes.k) for j in (0, 1)),
        accesses=len(axes.tile), item_bytes=BYTES[axes.kind],
        shares=(shares(axes.outer), shares(axes.sides[0]), shares(axes.sides[1])),
    )


def _schedule(axes: _Axes, work: Work, tiling: Tiling, target: Target) -> Schedule:
    """Blocks of k, panels, blocks of V, and how threads share it all."""
    v_axes, s_axes = list(axes.sides[tiling.v]), [axes.sides[1 - tiling.v][axis] for axis in tiling.s_order]
    lane = v_axes.pop(tiling.lane_axis) if v_axes else unit_axis(axes.accesses)
    boxed = len(s_axes) - tiling.boxed
    box, s_outer = s_axes[boxed:], s_axes[:boxed]
    split = s_outer.pop() if s_outer else unit_axis(axes.accesses)
    k, k_outer, outer = list(axes.k), list(axes.k_outer), axes.outer
    k_parts = _parts_of_k(axes, work, tiling, target)
    if k_parts is not None:
        outer = (k_parts,)
        group = k_outer or k
        group[0] = replace(group[0], extent=group[0].extent // k_parts.extent)
    if tiling.along_k and len(k) == 1:
        k.insert(0, unit_axis(axes.accesses))
    item = work.item_bytes
    while tiling.packed and len(k) > 1 and prod(axis.extent for axis in k[1:]) * tiling.width * item > target.l2_bytes:
        k_outer.append(k.pop(0))
    chunk = _chunk(k, tiling, work, target)
    trim = None
    summed = k[:-1] if tiling.along_k else k
    possible = [pair for pair in axes.trims if pair[1].axis in (*outer, *v_axes, *s_outer) and pair[0] in summed]
    if possible and chunk == k[0].extent:  # the trimmed axis comes first, so that what remains of it is one range
        first, trim = min(possible, key=lambda pair: pair[1].share)
        k = [first, *(axis for axis in k if axis is not first)]
        chunk = first.extent
    lane_tiles = ceil_div(lane.extent, tiling.width)
    tiles = lane_tiles * prod(axis.extent for axis in v_axes)
    s_packed = not (box or s_outer or tiling.along_k) and work.is_deep(1 - tiling.v, target.l2_bytes) and (
        lane.extent >= LEAST_REUSE * tiling.width
    )
    panel = chunk * prod(axis.extent for axis in k[1:]) * tiling.width * item
    packs_blocks = tiling.packed and not s_packed and tiles >= LEAST_BLOCKED and tiles * panel > target.l2_bytes
    copy = axes.copies[tiling.v]
    near = tiles * panel if tiling.packed else copy.size * item if copy is not None else work.side_bytes(tiling.v)
    share = BLOCK_SHARE if packs_blocks else 2
    block = max(1, min(target.l2_bytes // share // max(panel, 1), lane_tiles))
    shared, outer_tasks = (1, k_parts.extent) if k_parts is not None else shared_axes(outer, work)
    size = max(size for size, _ in tiling.splits)

    def apart(axis: Axis, indices: int = 1) -> int:
        return abs(axis.strides[axes.result]) * indices * item

    counts = {f"v{number}": (axis.extent, apart(axis)) for number, axis in enumerate(v_axes)}
    counts["lane"] = lane_tiles, apart(lane, tiling.width)
    if not packs_blocks:  # each thread packs for itself, so none should share a tile of V
        counts |= {f"s{number}": (axis.extent, apart(axis)) for number, axis in enumerate(s_outer)}
        counts["split"] = sum(count for _, count in tiling.splits), apart(split, size)
    each = LANES_ADDED * k_parts.extent if k_parts is not None else prod(axis.extent for axis in k)
    least, most = sorted((work.side_size(0), work.side_size(1)))
    effort = each * max(least, LEAST_USES) * most  # an element that is used few times takes as long as its load
    cut = cut_tiles(counts, effort) if k_parts is not None or not shared else None
    return Schedule(
        kind=axes.kind, operands=axes.operands, copies=axes.copies, sources=axes.sources, tile=axes.tile,
        outer=outer, k_outer=tuple(k_outer), k=tuple(k), k_chunk=chunk, tiling=tiling, v_outer=tuple(v_axes),
        lane=lane, s_outer=tuple(s_outer), s_split=split, s_box=tuple(box), s_packed=s_packed,
        v_block=ceil_div(lane_tiles, ceil_div(lane_tiles, block)), 
        s_first=bool(v_axes) and not packs_blocks and near <= target.l2_bytes, packs_blocks=packs_blocks,
        prefetch=packs_blocks and len(k) == 1, trim=trim, strip=axes.strip, k_parts=k_parts, shared_axes=shared,
        outer_tasks=outer_tasks, cut=cut,
    )


def _parts_of_k(axes: _Axes, work: Work, tiling: Tiling, target: Target) -> Axis | None:
    """The parts of a long sum with a small result, such as a weight gradient: if threads shared its tiles, each would
    wait for what the others had copied and packed."""
    first = (axes.k_outer or axes.k)[0]
    size = work.side_size(0) * work.side_size(1)
    kept = size * work.item_bytes * (tiling.lanes if tiling.along_k else 1)
    if work.outer > 1 or size * work.depth < LONG_SUM:
        return None
    counts = [n for n in range(FEWEST_PARTS, MOST_PARTS + 1) if first.extent % n == 0 and n * kept <= target.l2_bytes]
    if not counts or work.depth // counts[-1] < SHORTEST_PART:
        return None
    return Axis(f"{first.name}'", counts[-1], tuple(stride * (first.extent // counts[-1]) for stride in first.strides))


def _chunk(k: Sequence[Axis], tiling: Tiling, work: Work, target: Target) -> int:
    """How much of the first k axis one block takes; blocks are as equal as they can be."""
    extent = k[0].extent
    inner = prod(axis.extent for axis in (k[1:-1] if tiling.along_k else k[1:]))
    most = max(1, LARGEST_TABLE // max(inner, 1)) if inner > 1 else extent
    if tiling.packed and extent > DEEP_SUM and len(k) == 1 and work.side_bytes(tiling.v) > target.l2_bytes // 2:
        most = MATMUL_DEPTH
    row = tiling.width * work.item_bytes
    if tiling.packed and work.outer == 1 and min(extent, most) * inner * row > target.l2_bytes * 3 // 4:
        most = min(most, ceil_div(max(target.l2_bytes // 4 // row, MATMUL_DEPTH), inner))
    if not tiling.packed and work.side_size(1 - tiling.v) <= FEW_ROWS and work.is_sparse(tiling.v, target.l2_bytes):
        most = MOST_STREAMS
    if tiling.along_k and work.sides[0] and work.sides[1]:
        row = inner * k[-1].extent * work.item_bytes * (work.side_size(0) + work.side_size(1))
        most = min(most, max(target.l2_bytes // 2 // row, ceil_div(SHORTEST_BLOCK, inner * k[-1].extent)))
    blocks = ceil_div(extent, most) if extent else 1
    return ceil_div(extent, blocks)

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
blocks but the last go to a workspace. The order of a sum is that of the domain's k axes whatever the tiles are, so
results depend on shapes and the target alone.

A point that is not visited (a read of mode `skip` outside its array) counts as 0 times the other operand. Both are
the same where the other operand is finite; where it is infinite or NaN there, the result is NaN.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

from graphc.ir import scalar as sc
from graphc.ir.affine import AffineMap, axis_name
from graphc.ir.classify import Contraction, classify
from graphc.ir.extent import ints
from graphc.ir.node import INSIDE, Generic
from graphc.program import Buffer, Kernel, Program, Stage
from graphc_llvm.addressing import flat_offset
from graphc_llvm.bodies import KINDS, memory_kind
from graphc_llvm.contraction_cost import MOST_STREAMS, Tiling, Work, ceil_div, choose_tiling
from graphc_llvm.emit_types import BYTES
from graphc_llvm.target import Target

LARGEST_TABLE = 8192  # offsets of one k block: 32 KiB of i32, read once in a pass over k
MATMUL_DEPTH = 512  # k block of a large matrix product: a panel of 32 lanes is then 64 KiB, well inside a second level
SHORTEST_BLOCK = 2048  # products of a k block whose sums are then put aside, lanes and all
FEW_ROWS = 32  # of S: with fewer, a V too large for the cache is read in the order of the memory
SMALLEST_WORK = 512  # products: below it general loops are as good and smaller
SMALLEST_PASS = 256  # products of one pass when a summed axis is peeled
MOST_TASKS = 32  # of a section: enough that a thread that loses its processor for a while delays little
TASK_PRODUCTS = 1 << 18  # of a task: some 5 us; handing one out costs 0.1 us
TASK_ELEMENTS = 1 << 13  # of a task that copies or packs
LEAST_OUTER = 8  # points of the outer axes from which threads share these instead of what is inside
LEAST_TRIMMED = 0.02  # the share of the products that trimming must save
LEAST_BLOCKED = 16  # tiles of V from which they may be packed block by block
LEAST_REUSE = 8  # tiles of V that must share a panel of S to pay for packing it
DTYPES = ("float32", "float64", "int32", "int64")


@dataclass(frozen=True)
class Access:
    """Elements of one buffer at const + the sum of strides[axis] * axis, over the axes of the domain."""

    buffer: str
    dtype: str
    strides: tuple[int, ...]
    const: int


@dataclass(frozen=True)
class Axis:
    """One loop: an axis of the domain, or several that step through every access like one. `strides` are in elements:
    operand 0, operand 1, then the accesses of the tile, then the sources of the copies of operands 0 and 1."""

    name: str
    extent: int
    strides: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name}<{self.extent}"


@dataclass(frozen=True)
class Copy:
    """A zero-bordered copy of an operand: the box [low, low + shape) of the array's last axes (a loop around the copy
    binds the others, the peeled ones). `inside` is the part of the box that the array covers."""

    low: tuple[int, ...]
    shape: tuple[int, ...]
    inside: tuple[tuple[int, int], ...]  # first and stop, in the copy's coordinates
    source_strides: tuple[int, ...]

    @property
    def size(self) -> int:
        return prod(self.shape)

    def __str__(self) -> str:
        return f"{'x'.join(map(str, self.shape))} from {self.low}"


@dataclass(frozen=True)
class Cut:
    """Axes of the tiles along which threads share them: (name, extent, length of a part). The names: "v0", "v1", ...
    outer axes of V, "lane" its tiles along the lane axis, "s0", "s1", ... outer axes of S, "split" its tiles."""

    parts: tuple[tuple[str, int, int], ...]

    @property
    def tasks(self) -> int:
        return prod(ceil_div(extent, length) for _, extent, length in self.parts)

    def __str__(self) -> str:
        return " x ".join(f"{ceil_div(extent, length)} of {name}" for name, extent, length in self.parts)


@dataclass(frozen=True)
class Trim:
    """At each index of `axis`, the range of the first k axis that lies inside the array."""

    axis: Axis
    ranges: tuple[tuple[int, int], ...]

    def __str__(self) -> str:
        return f"by {self.axis}: {self.share:.0%} of the products remain"

    @property
    def share(self) -> float:
        full = max(stop for _, stop in self.ranges) * len(self.ranges)
        return sum(stop - start for start, stop in self.ranges) / full if full else 1.0


@dataclass(frozen=True)
class Schedule:
    """The whole plan of one contraction."""

    kind: str
    operands: tuple[Access, Access]
    copies: tuple[Copy | None, Copy | None]
    sources: tuple[Access, Access]  # where the copies start in the arrays
    tile: tuple[Access, ...]  # what the epilogue reads and writes, results included
    outer: tuple[Axis, ...]
    k_outer: tuple[Axis, ...]  # one pass over everything inside for each point
    k: tuple[Axis, ...]
    k_chunk: int  # of the first axis of `k`
    tiling: Tiling
    v_outer: tuple[Axis, ...]
    lane: Axis
    s_outer: tuple[Axis, ...]
    s_split: Axis
    s_box: tuple[Axis, ...]
    s_packed: bool
    v_block: int  # tiles of V that are run through for each tile of S
    packs_blocks: bool  # V is packed block by block, by the thread that sums it
    prefetch: bool  # tiles ask for the next block of V while they sum
    s_first: bool  # tiles of S are the outer loop
    trim: Trim | None
    shared_axes: int  # leading outer axes whose points threads share; 0: they share copies, packing and tiles
    outer_tasks: int
    cut: Cut | None

    def tasks_of(self, elements: int) -> int:
        """Tasks for copying or packing so many elements."""
        return 1 if self.shared_axes else min(MOST_TASKS, elements // TASK_ELEMENTS)

    @property
    def v(self) -> int:
        return self.tiling.v

    @property
    def s(self) -> int:
        return 1 - self.tiling.v

    @property
    def k_inner(self) -> int:
        """Points of one index of the first k axis, lanes along the last one not counted."""
        return prod(axis.extent for axis in (self.k[1:-1] if self.tiling.along_k else self.k[1:]))

    @property
    def k_blocks(self) -> int:
        return ceil_div(self.k[0].extent, self.k_chunk) if self.k_chunk else 1

    @property
    def k_depth(self) -> int:
        """Points of one block."""
        return self.k_chunk * self.k_inner

    @property
    def passes(self) -> int:
        return self.k_blocks * prod(axis.extent for axis in self.k_outer)

    @property
    def v_tiles(self) -> int:
        return ceil_div(self.lane.extent, self.tiling.width) * prod(axis.extent for axis in self.v_outer)

    @property
    def s_tiles(self) -> int:
        return sum(count for _, count in self.tiling.splits) * prod(axis.extent for axis in self.s_outer)

    def __str__(self) -> str:
        def axes(group: Sequence[Axis]) -> str:
            return " ".join(map(str, group)) or "-"

        t = self.tiling
        rows = " ".join(f"{count}x{size}" for size, count in t.splits)
        size = f"{t.vectors}, {t.lanes} lanes along {self.k[-1]}," if t.along_k else f"{t.vectors} x {t.lanes} lanes"
        lines = [
            f"vector side {self.operands[self.v].buffer}, {'packed' if t.packed else 'in place'}; "
            f"scalar side {self.operands[self.s].buffer}, {'packed' if self.s_packed else 'in place'}; {self.kind}",
            f"outer {axes(self.outer)}; k outer {axes(self.k_outer)}; k {axes(self.k)} by {self.k_chunk}",
            f"tile of V: {size} of {self.lane}, over {axes(self.v_outer)}; block {self.v_block}",
            f"tile of S: {rows} of {self.s_split}, times {axes(self.s_box)}, over {axes(self.s_outer)}",
        ]
        if self.trim is not None:
            lines.append(f"trimmed {self.trim}")
        if self.s_first:
            lines.append("tiles of S first")
        if self.shared_axes:
            axes_ = axes(self.outer[: self.shared_axes])
            lines.append(f"tasks: {self.outer_tasks} along {axes_}")
        elif self.cut is not None:
            lines.append(f"tasks: {self.cut}")
        lines += [
            f"copy of {self.operands[j].buffer}: {copy}" for j, copy in enumerate(self.copies) if copy is not None
        ]
        return "\n".join(lines)


def can_fuse_epilogue(program: Program, kernel: Kernel) -> bool:
    """Whether the stages after the first can be computed inside the tile: maps over exactly the result, whose reads
    stay inside and whose bodies need no loop index."""
    first = kernel.stages[0].node
    if not isinstance(first, Generic) or first.out_map.projection is None:
        return len(kernel.stages) == 1
    order = first.out_map.projection
    if tuple(first.domain[axis] for axis in order) != first.shape:
        return len(kernel.stages) == 1
    written = {program.root(kernel.stages[0].write).name}
    for stage in kernel.stages[1:]:
        node = stage.node
        if not isinstance(node, Generic) or not node.is_map or node.domain != first.shape or stage.initialise:
            return False
        if any(mode != INSIDE for mode in node.modes):
            return False
        if any(isinstance(part, (sc.Index, sc.InBounds, sc.Size)) for part in sc.postorder(node.body)):
            return False
        for name, index_map in zip(stage.reads, node.maps, strict=True):
            if program.root(name).name in written and not index_map.is_identity:
                return False
        written.add(program.root(stage.write).name)
    return True


def tile_accesses(program: Program, kernel: Kernel) -> dict[tuple[int, int], Access]:
    """What the epilogue touches in memory, by (stage, operand; -1 for the write): reads of values that an earlier
    stage left in the tile, and writes of values that live only there, are absent."""
    first = kernel.stages[0].node
    assert isinstance(first, Generic)
    found: dict[tuple[int, int], Access] = {}
    written: set[str] = set()
    for number, stage in enumerate(kernel.stages):
        assert isinstance(stage.node, Generic)
        if number:
            for j, (name, index_map) in enumerate(zip(stage.reads, stage.node.maps, strict=True)):
                if program.root(name).name not in written:
                    found[number, j] = access(program, name, index_map.compose(first.out_map))
        if program.root(stage.write).kind != "scratch":
            found[number, -1] = access(program, stage.write, first.out_map)
        written.add(program.root(stage.write).name)
    return found


def access(program: Program, name: str, index_map: AffineMap) -> Access:
    """The access of a buffer through a map from the domain."""
    buffer = program.by_name[name]
    flat = flat_offset(index_map, buffer.strides)
    assert isinstance(flat.const, int)
    strides = tuple(flat.coefficient(axis) for axis in range(index_map.rank))
    return Access(program.root(name).name, buffer.dtype, strides, flat.const)


def supports(program: Program, kernel: Kernel) -> Contraction | None:
    """The classes of the axes, when this kernel can be planned."""
    stage = kernel.stages[0]
    node = stage.node
    if not isinstance(node, Generic) or stage.initialise or not can_fuse_epilogue(program, kernel):
        return None
    found = classify(node)
    if not isinstance(found, Contraction) or sc.args_of(node.body) != {0, 1}:
        return None
    dtypes = {program.by_name[name].dtype for name in (*stage.reads, stage.write)}
    if len(dtypes) != 1 or node.dtype not in DTYPES:
        return None
    if any(program.by_name[name].dtype not in KINDS for one in kernel.stages for name in (*one.reads, one.write)):
        return None
    domain = ints(node.domain)
    long = [row.terms[0][0] for row in node.out_map.rows if row.terms and domain[row.terms[0][0]] > 1]
    if long and long[-1] in found.batch:  # lanes along it would need both operands as vectors: an elementwise sum
        return None
    low_high = node.out_map.range_of(node.domain)
    for bounds, extent in zip(low_high, ints(node.shape), strict=True):
        if bounds is None or (0 not in domain and (bounds[0] < 0 or bounds[1] >= extent)):
            return None
    if prod(domain) and prod(domain) < SMALLEST_WORK:
        return None
    return found


def plan_contraction(program: Program, kernel: Kernel, target: Target) -> Schedule | None:
    """The schedule, or None when general loops should compute this kernel. The output must not be empty."""
    classes = supports(program, kernel)
    if classes is None:
        return None
    stage = kernel.stages[0]
    node = stage.node
    assert isinstance(node, Generic)
    domain = ints(node.domain)
    kind = memory_kind(node.dtype)
    copies: list[Copy | None] = [None, None]
    operands: list[Access] = []
    sources: list[Access] = []
    structural: list[int] = []
    for j in (0, 1):
        buffer = program.by_name[stage.reads[j]]
        one = access(program, stage.reads[j], node.maps[j])
        source = Access(one.buffer, one.dtype, (0,) * len(domain), 0)
        if node.modes[j] != INSIDE and 0 not in domain:
            copies[j], one, source, peeled = plan_copy(node.maps[j], buffer, domain, one, classes, target)
            structural += [axis for axis in peeled if axis not in structural]
        operands.append(one)
        sources.append(source)
    tile = tuple(tile_accesses(program, kernel).values())
    every = (*operands, *tile, *sources)

    def group(axes: Sequence[int]) -> tuple[Axis, ...]:
        return merged(
            [Axis(axis_name(a), domain[a], tuple(x.strides[a] for x in every)) for a in axes if domain[a] != 1]
        )

    outer = group([*classes.batch, *(a for a in structural if a not in classes.batch and a not in classes.k)])
    k_outer = list(group([a for a in classes.k if a in structural]))
    k = list(group([a for a in classes.k if a not in structural])) or [_unit(len(every))]
    sides = tuple(group([a for a in side if a not in structural]) for side in (classes.m, classes.n))
    while len(k) > 1 and prod(axis.extent for axis in k[1:]) > LARGEST_TABLE:
        k_outer.append(k.pop(0))
    depth = prod(axis.extent for axis in k)
    trims = _trims(program, stage, domain, classes, k, (*outer, *sides[0], *sides[1]))
    work = Work(
        sides=(tuple((a.extent, a.strides) for a in sides[0]), tuple((a.extent, a.strides) for a in sides[1])),
        depth=depth * prod(axis.extent for axis in k_outer),
        outer=prod(axis.extent for axis in outer),
        k_extents=tuple(axis.extent for axis in k),
        k_strides=tuple(tuple(axis.strides[j] for axis in k) for j in (0, 1)),
        accesses=len(tile), item_bytes=BYTES[kind],
        shares=tuple(
            tuple(min((trim.share for _, trim in trims if trim.axis is axis), default=1.0) for axis in group_)
            for group_ in (outer, *sides)
        ),
    )
    tiling = choose_tiling(work, target, target.lanes(kind))
    if tiling is None:
        return None
    v_axes, s_axes = list(sides[tiling.v]), [sides[1 - tiling.v][axis] for axis in tiling.s_order]
    lane = v_axes.pop(tiling.lane_axis) if v_axes else _unit(len(every))
    boxed = len(s_axes) - tiling.boxed
    box, split_outer = s_axes[boxed:], s_axes[:boxed]
    split = split_outer.pop() if split_outer else _unit(len(every))
    if tiling.along_k and len(k) == 1:
        k.insert(0, _unit(len(every)))
    row = tiling.width * BYTES[kind]  # of a panel at one k
    while tiling.packed and len(k) > 1 and prod(axis.extent for axis in k[1:]) * row > target.l2_bytes:
        k_outer.append(k.pop(0))
    trim = None
    chunk = _chunk(k, depth, tiling, work, target)
    possible = [pair for pair in trims if pair[1].axis in (*outer, *v_axes, *split_outer) and pair[0] in k]
    if tiling.along_k:
        possible = [pair for pair in possible if pair[0] is not k[-1]]
    if possible and chunk == k[0].extent:  # the trimmed axis comes first, so that what remains of it is one range
        first, trim = min(possible, key=lambda pair: pair[1].share)
        k = [first, *(axis for axis in k if axis is not first)]
        chunk = first.extent
    s_packed = not (box or split_outer) and work.is_deep(1 - tiling.v, target.l2_bytes) and (
        lane.extent >= LEAST_REUSE * tiling.width
    )
    panel = chunk * prod(axis.extent for axis in k[1:]) * tiling.width * BYTES[kind]
    lane_tiles = ceil_div(lane.extent, tiling.width)
    block = max(1, min(target.l2_bytes // 2 // max(panel, 1), lane_tiles))
    block = ceil_div(lane_tiles, ceil_div(lane_tiles, block))
    shared, outer_tasks = _shared_axes(outer, work)
    counts = {
        **{f"v{number}": axis.extent for number, axis in enumerate(v_axes)},
        "lane": ceil_div(lane.extent, tiling.width),
        **{f"s{number}": axis.extent for number, axis in enumerate(split_outer)},
        "split": sum(count for _, count in tiling.splits),
    }
    tiles = lane_tiles * prod(axis.extent for axis in v_axes)
    packs_blocks = tiling.packed and not s_packed and tiles >= LEAST_BLOCKED and tiles * panel > target.l2_bytes
    if packs_blocks:
        counts = {name: count for name, count in counts.items() if name[0] in "vl"}
    prefetch = packs_blocks and len(k) == 1
    cut = None if shared else _cut(counts, depth * work.side_size(0) * work.side_size(1))
    return Schedule(
        kind, (operands[0], operands[1]), (copies[0], copies[1]), (sources[0], sources[1]), tile, outer,
        tuple(k_outer), tuple(k), chunk, tiling, tuple(v_axes), lane, tuple(split_outer), split, tuple(box),
        s_packed, block, packs_blocks, prefetch, bool(__import__("os").environ.get("SFIRST")), trim, shared, outer_tasks, cut,
    )


def _trims(
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


def _shared_axes(outer: tuple[Axis, ...], work: Work) -> tuple[int, int]:
    """How many leading outer axes threads share, and in how many tasks. A copy or a panel that depends on fewer axes
    would be made anew at each point, so these axes are shared alone."""
    points = 1
    products = work.depth * work.side_size(0) * work.side_size(1)
    for count, axis in enumerate(outer, 1):
        points *= axis.extent
        if points >= LEAST_OUTER:
            tasks = min(points, MOST_TASKS, points * products // TASK_PRODUCTS)
            return (count, tasks) if tasks > 1 else (0, 0)
    return 0, 0


def _cut(counts: Mapping[str, int], products: int) -> Cut | None:
    """The axis, or two, along which two, three and four threads share the tiles most evenly."""
    most = min(MOST_TASKS, products // TASK_PRODUCTS)

    def parts(name: str, limit: int) -> tuple[str, int, int]:
        return name, counts[name], ceil_div(counts[name], max(1, min(limit, counts[name])))

    def evenness(cut: Cut) -> float:
        largest = prod(length for _, _, length in cut.parts)
        total = prod(extent for _, extent, _ in cut.parts)
        return sum(total / (threads * largest * ceil_div(cut.tasks, threads)) for threads in (2, 3, 4))

    names = [name for name, count in counts.items() if count > 1]
    cuts = [Cut((parts(name, most),)) for name in names]
    for one in names:
        whole = parts(one, most)
        limit = most // ceil_div(whole[1], whole[2])
        cuts += [Cut((whole, parts(other, limit))) for other in names if other != one and limit > 1]
    cuts = [cut for cut in cuts if 1 < cut.tasks <= most]
    return max(cuts, key=evenness, default=None)


def _chunk(k: Sequence[Axis], depth: int, tiling: Tiling, work: Work, target: Target) -> int:
    """How much of the first k axis one block takes; blocks are as equal as they can be."""
    extent = k[0].extent
    inner = prod(axis.extent for axis in (k[1:-1] if tiling.along_k else k[1:]))
    most = max(1, LARGEST_TABLE // max(inner, 1)) if inner > 1 else extent
    if tiling.packed and depth > MATMUL_DEPTH and len(k) == 1 and work.side_bytes(tiling.v) > target.l2_bytes // 2:
        most = MATMUL_DEPTH
    row = tiling.width * work.item_bytes
    if tiling.packed and min(extent, most) * inner * row > target.l2_bytes * 3 // 4:
        most = min(most, ceil_div(max(target.l2_bytes // 4 // row, MATMUL_DEPTH), inner))
    if not tiling.packed and work.side_size(1 - tiling.v) <= FEW_ROWS and work.is_sparse(tiling.v, target.l2_bytes):
        most = MOST_STREAMS
    if tiling.along_k and work.sides[0] and work.sides[1]:
        row = inner * k[-1].extent * work.item_bytes * (work.side_size(0) + work.side_size(1))
        most = min(most, max(target.l2_bytes // 2 // row, ceil_div(SHORTEST_BLOCK, inner * k[-1].extent)))
    blocks = ceil_div(extent, most) if extent else 1
    return ceil_div(extent, blocks)


def plan_copy(
    index_map: AffineMap, buffer: Buffer, domain: tuple[int, ...], plain: Access, classes: Contraction, target: Target,
) -> tuple[Copy, Access, Access, list[int]]:
    """A zero-bordered copy that holds every element that is read, the access of it, where in the array the copy is
    taken from, and the peeled axes.

    Leading axes up to the last batch axis are peeled: the copy holds one index of them at a time, and they become outer
    loops. If what is left exceeds half the second-level cache, so is its first axis (the images of a batch). A summed
    axis is peeled only where enough products remain inside to pay for keeping partial sums."""
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
    shape = tuple(extents[skip:])
    lows = tuple(low for low, _ in ranges[skip:])
    strides = [prod(shape[d + 1:]) for d in range(len(shape))]
    flat = flat_offset(AffineMap(index_map.rank, rows[skip:]), strides)
    assert isinstance(flat.const, int)
    base = flat.const - sum(low * stride for low, stride in zip(lows, strides, strict=True))
    inside = tuple(
        (max(0, -low), max(max(0, -low), min(extent, size - low)))
        for low, extent, size in zip(lows, shape, buffer.shape[skip:], strict=True)
    )
    copy = Copy(lows, shape, inside, buffer.strides[skip:])
    rank = index_map.rank
    copied = Access(plain.buffer, plain.dtype, tuple(flat.coefficient(a) for a in range(rank)), base)
    outside = flat_offset(AffineMap(rank, rows[:skip]), buffer.strides[:skip])
    assert isinstance(outside.const, int)
    source = Access(plain.buffer, plain.dtype, tuple(outside.coefficient(a) for a in range(rank)), outside.const)
    return copy, copied, source, [axis for axis in peeled if axis >= 0]


def merged(axes: Sequence[Axis]) -> tuple[Axis, ...]:
    """Neighbouring axes that every access steps through like one become one."""
    result: list[Axis] = []
    for axis in axes:
        if result:
            last = result[-1]
            if all(a == axis.extent * b for a, b in zip(last.strides, axis.strides, strict=True)):
                result[-1] = Axis(last.name + axis.name, last.extent * axis.extent, axis.strides)
                continue
        result.append(axis)
    return tuple(result)


def _unit(accesses: int) -> Axis:
    return Axis("1", 1, (0,) * accesses)

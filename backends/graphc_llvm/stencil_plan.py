"""How a depthwise convolution is computed: which axes, which tile, which copy. Frozen data that prints.

    C[outer, o, i]  =  sum over the taps t of  W[outer, t] * X[outer, row_step*o + t.row, column_step*i + t.column]

One operand, the image, has the rows o and the columns i of the output; the other, the weights, varies along the outer
axes only (image, channel). Lanes run along the columns. A matrix tile would load one vector for each multiply-add;
here a tile of R rows by V vectors loads every vector that it needs once and uses it for all the rows and taps that read
it: (R + 2) * 3 * V loads for the 9 * R * V multiply-adds of a 3 x 3 window.

Windows of few taps read the image where it is: loads that reach beyond the ends of a row are masked, rows outside of
the image are replaced by a row of zeros, and for a column step of two a pair of vectors is split into its even and its
odd columns. For windows of many taps the image's plane, or a band of its rows, is copied into memory of the thread's
own. There each row starts with zeros, at least as many as a tap reaches beyond either end (the zeros behind a row are
those before the next one), and for a column step of two it is split into its even and its odd columns: every load is
the same, so that one loop over the columns of the window does for all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod

from graphc.ir.affine import Affine, AffineMap, axis_name
from graphc.ir.classify import Contraction
from graphc.ir.extent import ints
from graphc.ir.node import Generic
from graphc.program import ALIGNMENT, Kernel, Program, Stage
from graphc_llvm.addressing import flat_offset
from graphc_llvm.bodies import memory_kind
from graphc_llvm.contraction_cost import balanced, ceil_div
from graphc_llvm.contraction_match import access, supports, tile_accesses
from graphc_llvm.contraction_tasks import MOST_TASKS, TASK_PRODUCTS
from graphc_llvm.emit_types import BYTES
from graphc_llvm.schedule import Access
from graphc_llvm.target import Target

MOST_TAPS = 128  # more would be better transformed
MOST_TAP_ROWS = 16  # of one column of taps: their weights stay in registers while the column is summed
LARGEST_BODY = 200  # multiply-adds written out in one tile; they compile in some 5 ms
MOST_WRITTEN = 12  # taps: with more, a copy costs less than what is written out takes to compile
MOST_ROWS = 16  # of a tile
MOST_VECTORS = 8  # of a row of a tile
LEAST_COLUMNS = 4  # of the output: with fewer, most lanes would be idle
LINE = 64  # bytes of a cache line


@dataclass(frozen=True)
class Tap:
    """Reads the image at (row, column) from the output's place times the steps, and a weight at an offset."""

    row: int
    column: int
    weight: int


@dataclass(frozen=True)
class OuterAxis:
    """An axis around the planes; `strides` in elements: of the image's plane, the weights, the tile's accesses."""

    name: str
    extent: int
    strides: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name}<{self.extent}"


@dataclass(frozen=True)
class Plane:
    """The thread's own copy of image rows: [row][phase][lead zeros, then columns], in elements."""

    lead: int
    width: int  # of the columns of one phase, rounded up to whole vectors
    phases: int  # the column step
    rows: int
    size: int

    @property
    def phase_pitch(self) -> int:
        return self.lead + self.width

    @property
    def pitch(self) -> int:
        return self.phases * self.phase_pitch

    def column(self, column: int) -> int:
        """Where a tap's column lies in a row, from the output's column 0."""
        return column % self.phases * self.phase_pitch + self.lead + column // self.phases


@dataclass(frozen=True)
class Run:
    """`count` column tiles of so many vectors each, from vector `first` on, whose loads and stores use the same lanes;
    the last vector's stores `valid` ones."""

    first: int
    vectors: int
    count: int
    valid: int

    def clipped(self, plan: Stencil, start: int) -> tuple[int, int]:
        """The lanes of a load, `start` columns behind the tile's first one, that lie inside the image's row."""
        at = self.first * plan.lanes * plan.column_step + start
        return max(0, -at), min(plan.lanes, plan.image_columns - at)

    def masks(self, plan: Stencil) -> tuple[tuple[int, int], ...]:
        """The lanes of each load of one line, when the image is read in place."""
        width = plan.lanes * plan.column_step
        starts = (v * width + base for v in range(self.vectors) for base, _ in plan.loads)
        return tuple(self.clipped(plan, start + at) for start in starts for at in range(0, width, plan.lanes))


@dataclass(frozen=True)
class Stencil:
    """The whole plan of one kernel."""

    kind: str
    lanes: int
    image: Access  # of a plane's first element: strides are those of the outer axes alone
    weights: Access
    tile: tuple[Access, ...]  # what the epilogue reads and writes, results included
    outer: tuple[OuterAxis, ...]
    rows: int  # of the output
    columns: int
    row_strides: tuple[int, ...]  # of the tile's accesses, from one output row or column to the next
    column_strides: tuple[int, ...]
    row_step: int
    image_rows: int
    image_columns: int
    image_row_stride: int
    taps: tuple[Tap, ...]
    row_tiles: tuple[tuple[int, int], ...]  # (rows, how many), in order
    column_tiles: tuple[tuple[int, int], ...]  # (vectors, how many), in order
    is_rolled: bool  # a loop over the columns of the taps; else all taps are written out
    keeps_weights: bool  # in registers, throughout a plane
    column_step: int
    plane: Plane | None  # the copy; None: the image is read in place
    band: int  # row tiles of one copy, or of one share of a plane
    tasks: int

    @property
    def planes(self) -> int:
        return prod(axis.extent for axis in self.outer)

    @property
    def row_tile_count(self) -> int:
        return sum(count for _, count in self.row_tiles)

    @property
    def parts(self) -> int:
        """Bands of one plane."""
        return ceil_div(self.row_tile_count, self.band)

    @property
    def low(self) -> int:
        """The image row that the first output row reads first."""
        return min(tap.row for tap in self.taps)

    @property
    def reach(self) -> int:
        """From the first row that an output row reads to the last."""
        return max(tap.row for tap in self.taps) - self.low

    @property
    def leaves_rows(self) -> bool:
        """Whether some tap reads above or below the image."""
        return self.low < 0 or (self.rows - 1) * self.row_step + self.low + self.reach >= self.image_rows

    @property
    def scratch(self) -> int:
        """Elements of a thread's own memory: the copy, or a row of zeros."""
        if self.plane is not None:
            return self.plane.size
        return ceil_div(self.image_columns, ALIGNMENT) * ALIGNMENT if self.leaves_rows else 0

    @property
    def tail(self) -> int:
        """Lanes of the last vector of a row that are in use."""
        return (self.columns - 1) % self.lanes + 1

    @property
    def loads(self) -> tuple[tuple[int, tuple[int, ...]], ...]:
        """Where vectors are loaded for one output vector, relative to its first column, and the tap columns that each
        load gives: for a column step of two, those of an even and an odd lane."""
        found: list[tuple[int, tuple[int, ...]]] = []
        for column in sorted({tap.column for tap in self.taps}):
            if self.plane is None and self.column_step == 2 and found and found[-1][1] == (column - 1,):
                found[-1] = column - 1, (column - 1, column)
            else:
                found.append((column, (column,)))
        return tuple(found)

    @property
    def runs(self) -> tuple[Run, ...]:
        """The column tiles, those that differ only in their place together."""
        found: list[Run] = []
        keys: list[object] = []
        first, last = 0, ceil_div(self.columns, self.lanes)
        for vectors, count in self.column_tiles:
            for _ in range(count):
                run = Run(first, vectors, 1, self.tail if first + vectors == last else self.lanes)
                key = vectors, run.valid, self.plane is None and run.masks(self)
                if keys and keys[-1] == key:
                    found[-1] = replace(found[-1], count=found[-1].count + 1)
                else:
                    found.append(run)
                    keys.append(key)
                first += vectors
        return tuple(found)

    @property
    def tap_columns(self) -> tuple[tuple[Tap, ...], ...]:
        """The taps by column."""
        return tap_columns(self.taps)

    def __str__(self) -> str:
        def tiles(parts: Sequence[tuple[int, int]]) -> str:
            return " ".join(f"{count}x{size}" for size, count in parts)

        plane = self.plane
        source = "image in place" if plane is None else (
            f"copy of {plane.rows} rows from {self.low}: pitch {plane.pitch}, {plane.lead} zeros first"
        )
        weights = "in registers" if self.keeps_weights else "a column at a time"
        return "\n".join([
            f"stencil of {len(self.taps)} taps on {self.image.buffer}, weights {self.weights.buffer} {weights}; "
            f"{self.kind}, {self.lanes} lanes; outer {' '.join(map(str, self.outer)) or '-'}",
            f"steps {self.row_step} x {self.column_step}; rows {tiles(self.row_tiles)}; vectors "
            f"{tiles(self.column_tiles)}, last {self.tail} lanes; "
            f"taps {'in a loop over columns' if self.is_rolled else 'written out'}",
            f"{source}; {self.parts} a plane; tasks: {self.tasks}",
        ])


def tap_columns(taps: Sequence[Tap]) -> tuple[tuple[Tap, ...], ...]:
    """The taps by column, each column from the first row to the last."""
    columns = sorted({tap.column for tap in taps})
    return tuple(
        tuple(sorted((t for t in taps if t.column == column), key=lambda t: (t.row, t.weight))) for column in columns
    )


@dataclass(frozen=True)
class _Match:
    """The axes of the domain and the dimensions of the image that play a part."""

    j: int  # the image's operand
    row_axis: int | None
    column_axis: int
    row_dim: int | None
    column_dim: int


def plan_stencil(program: Program, kernel: Kernel, target: Target) -> Stencil | None:
    """The plan, or None when the kernel is not a stencil, or tiles of the general contraction serve it as well."""
    classes = supports(program, kernel)
    if classes is None:
        return None
    stage = kernel.stages[0]
    node = stage.node
    assert isinstance(node, Generic)
    domain = ints(node.domain)
    if 0 in domain:
        return None
    match = _match(node, classes, domain)
    if match is None:
        return None
    j, image_map = match.j, node.maps[match.j]
    taps = tuple(_taps(program, stage, match, domain, classes.k))
    kind = memory_kind(node.dtype)
    buffer = program.by_name[stage.reads[j]]
    plane_dims = [d for d in range(len(image_map.rows)) if d not in (match.row_dim, match.column_dim)]
    flat = flat_offset(
        AffineMap(image_map.rank, tuple(image_map.rows[d] for d in plane_dims)), [buffer.strides[d] for d in plane_dims]
    )
    assert isinstance(flat.const, int)
    strides = tuple(flat.coefficient(axis) for axis in range(len(domain)))
    image = Access(program.root(buffer.name).name, buffer.dtype, strides, flat.const)
    weights = access(program, stage.reads[1 - j], node.maps[1 - j])
    tile = tuple(tile_accesses(program, kernel).values())
    column_strides = tuple(one.strides[match.column_axis] for one in tile)
    if not _can_write(program, kernel, column_strides):
        return None
    every = (image, weights, *tile)
    outer = _merged([
        OuterAxis(axis_name(axis), domain[axis], tuple(one.strides[axis] for one in every))
        for axis in sorted(node.out_map.axes)
        if domain[axis] > 1 and axis not in (match.row_axis, match.column_axis)
    ])
    rows = 1 if match.row_axis is None else domain[match.row_axis]
    columns = domain[match.column_axis]
    row_strides = tuple(0 if match.row_axis is None else one.strides[match.row_axis] for one in tile)
    row_step = 1 if match.row_dim is None else image_map.rows[match.row_dim].coefficient(match.row_axis or 0)
    row_step = max(1, row_step)
    steps = image_map.rows[match.column_dim].coefficient(match.column_axis)
    lanes = target.lanes(kind)
    while lanes // 2 >= max(columns, 2):
        lanes //= 2
    if lanes < 2:
        return None
    chosen = _tile(taps, rows, ceil_div(columns, lanes), row_step, target.vector_registers, lanes * BYTES[kind])
    if chosen is None:
        return None
    row_size, vectors, is_rolled, keeps_weights = chosen
    row_tiles, column_tiles = balanced(rows, row_size), _cut(ceil_div(columns, lanes), vectors)
    image_rows = 1 if match.row_dim is None else buffer.shape[match.row_dim]
    products = prod(domain)
    planes = prod(axis.extent for axis in outer)
    tasks = min(MOST_TASKS, products // TASK_PRODUCTS)
    count = sum(number for _, number in row_tiles)
    plane: Plane | None = None
    band = ceil_div(count, min(count, ceil_div(tasks, planes))) if 0 < planes < tasks else count
    if is_rolled:
        plane, band = _plane(
            taps, rows, columns, row_step, steps, buffer.shape[match.column_dim], lanes, row_tiles, band,
            target.l1_bytes // BYTES[kind],
        )
    return Stencil(
        kind, lanes, image, weights, tile, outer, rows, columns, row_strides, column_strides, row_step, image_rows,
        buffer.shape[match.column_dim], 0 if match.row_dim is None else buffer.strides[match.row_dim], taps, row_tiles,
        column_tiles, is_rolled, keeps_weights, steps, plane, band, max(1, min(tasks, planes * ceil_div(count, band))),
    )


def _match(node: Generic, classes: Contraction, domain: Sequence[int]) -> _Match | None:
    """Which operand is the image, and which of its dimensions are rows and columns."""
    used = {axis for axis in range(len(domain)) if domain[axis] > 1}
    summed = {axis for axis in classes.k if axis in used}
    for j, own in ((0, classes.m), (1, classes.n)):
        axes = {axis for axis in own if axis in used}
        index_map = node.maps[j]
        terms = [{a: c for a, c in row.terms if a in used} for row in index_map.rows]
        constant = [row.const for row in index_map.rows]
        if not axes or not summed or not all(isinstance(const, int) for const in constant):
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
        if windowed and row is None and axes & terms[windowed[0]].keys():
            continue
        if windowed and row is None:
            continue
        places = [axis for d in range(len(shape)) for axis in terms[d]]
        if any(places.count(axis) > 1 for axis in (row, column) if axis is not None):
            continue
        bounds = index_map.range_of(tuple(domain))
        inside = all(
            bound is not None and 0 <= bound[0] and bound[1] < shape[d]
            for d, bound in enumerate(bounds) if d not in (row_dim, last)
        )
        if inside and (row_dim is None or row is None or terms[row_dim][row] > 0):
            return _Match(j, row, column, row_dim, last)
    return None


def _spatial(terms: dict[int, int], axes: set[int], summed: set[int]) -> int | None:
    """The one axis of the image's own in this row of its map, beside which only summed axes may stand."""
    found = [axis for axis in terms if axis not in summed]
    return found[0] if len(found) == 1 and found[0] in axes else None


def _taps(
    program: Program, stage: Stage, match: _Match, domain: Sequence[int], summed: Sequence[int]
) -> Iterator[Tap]:
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


def _can_write(program: Program, kernel: Kernel, column_strides: Sequence[int]) -> bool:
    """Lanes of every access are neighbours or one element; a lone sum may be written to every second element."""
    keys = list(tile_accesses(program, kernel))
    if len(kernel.stages) == 1:
        return column_strides[0] in (1, 2)
    return all(stride in ((1,) if key[1] < 0 else (0, 1)) for key, stride in zip(keys, column_strides, strict=True))


def _merged(axes: Sequence[OuterAxis]) -> tuple[OuterAxis, ...]:
    """Neighbouring axes that every access steps through like one become one."""
    result: list[OuterAxis] = []
    for axis in axes:
        if result and all(a == axis.extent * b for a, b in zip(result[-1].strides, axis.strides, strict=True)):
            last = result.pop()
            axis = OuterAxis(last.name + axis.name, last.extent * axis.extent, axis.strides)
        result.append(axis)
    return tuple(result)


def _tile(
    taps: Sequence[Tap], rows: int, vectors: int, row_step: int, registers: int, vector_bytes: int
) -> tuple[int, int, bool, bool] | None:
    """Rows and vectors of a tile, whether the taps' columns are a loop, and whether all weights stay in registers."""
    columns = tap_columns(taps)
    tallest = max(len(column) for column in columns)
    if len(taps) > MOST_TAPS or tallest > MOST_TAP_ROWS:
        return None
    first = columns[0]
    is_grid = all(
        len(column) == len(first) and len({(t.row - o.row, t.weight - o.weight) for t, o in zip(column, first)}) == 1
        and column[0].row == first[0].row for column in columns
    )
    # a vector that straddles two cache lines is two accesses
    load = 1 + vector_bytes / LINE
    best: tuple[float, tuple[int, int, bool, bool]] | None = None
    for count in range(1, min(vectors, MOST_VECTORS) + 1):
        for height in range(1, min(rows, MOST_ROWS) + 1):
            sums = count * height
            keeps = sums + len(taps) + 2 <= registers
            if sums + (0 if keeps else tallest if registers > 16 else 0) + 2 > registers:
                continue
            is_rolled = len(taps) > MOST_WRITTEN or len(taps) * sums > LARGEST_BODY
            if is_rolled and (not is_grid or tallest * sums > LARGEST_BODY):
                continue
            cost = 0.0
            for size, number in balanced(rows, height):
                lines = sum(len({o * row_step + t.row for o in range(size) for t in column}) for column in columns)
                for width, times in _cut(vectors, count):
                    sums = len(taps) * size * width
                    loads = lines * width * load
                    if not keeps:
                        loads += sums if registers <= 16 else len(taps)
                    cost += number * times * (max(sums, loads) + 0.2 * min(sums, loads) + 10)
            cost *= (1.0 if keeps else 1.02) * (1.0 if len(balanced(rows, height)) == 1 else 1.05)
            if best is None or cost < best[0]:
                best = cost, (height, count, is_rolled, keeps)
    return None if best is None else best[1]


def _cut(vectors: int, most: int) -> tuple[tuple[int, int], ...]:
    """The tiles of a row: two of nearly equal size, or else as many whole ones as there are."""
    if vectors <= 2 * most:
        return balanced(vectors, most)
    rest = vectors % most
    return ((most, vectors // most), (rest, 1)) if rest else ((most, vectors // most),)


def _plane(
    taps: Sequence[Tap], rows: int, columns: int, row_step: int, column_step: int, image_columns: int, lanes: int,
    row_tiles: Sequence[tuple[int, int]], band: int, cache: int,
) -> tuple[Plane, int]:
    """The copy, and how many row tiles one of it serves."""
    low = min(tap.row for tap in taps)
    reach = max(tap.row for tap in taps) - low
    width = ceil_div(ceil_div(image_columns, column_step), lanes) * lanes
    shifts = [tap.column // column_step for tap in taps]
    over = max(0, -min(shifts), columns + max(shifts) - width)
    lead = ceil_div(over, lanes) * lanes
    pitch = column_step * (lead + width)
    tallest, count = row_tiles[0][0], sum(number for _, number in row_tiles)
    # a band's rows should fill most of the first-level cache, but not be mostly rows that the next band copies again
    within = (cache * 3 // 4 // pitch - reach - 1) // row_step + 1
    fit = max(within, 4 * reach // row_step, 2 * tallest) // tallest
    band = ceil_div(count, max(ceil_div(count, max(1, fit)), ceil_div(count, band)))
    copied = (min(rows, band * tallest) - 1) * row_step + reach + 1
    plane = Plane(lead, width, column_step, copied, 0)
    end = max(plane.column(tap.column) for tap in taps) + ceil_div(columns, lanes) * lanes
    size = max((copied - 1) * pitch + end, copied * pitch)
    align = ALIGNMENT  # elements of at least one byte: whole vectors and whole cache lines
    return Plane(lead, width, column_step, copied, ceil_div(size, align) * align), band

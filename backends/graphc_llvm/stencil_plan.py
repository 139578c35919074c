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

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

from graphc.ir.affine import AffineMap, axis_name
from graphc.ir.extent import ints
from graphc.ir.node import Generic
from graphc.program import ALIGNMENT, Kernel, Program
from graphc_llvm.addressing import flat_offset
from graphc_llvm.bodies import memory_kind
from graphc_llvm.contraction_cost import balanced, ceil_div
from graphc_llvm.contraction_match import access, supports, tile_accesses
from graphc_llvm.contraction_tasks import LEAST_OUTER, MOST_TASKS, TASK_PRODUCTS
from graphc_llvm.emit_types import BYTES
from graphc_llvm.schedule import Access
from graphc_llvm.stencil_match import Tap, can_write, list_taps, match_axes
from graphc_llvm.stencil_tile import Plane, Shape, Tile, choose_tile, cut_row, load_starts, plan_copy, tap_columns
from graphc_llvm.target import Target


@dataclass(frozen=True)
class OuterAxis:
    """An axis around the planes; `strides` in elements: of the image's plane, the weights, the tile's accesses."""

    name: str
    extent: int
    strides: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name}<{self.extent}"


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
        shape = plan.shape
        at = self.first * shape.lanes * shape.column_step + start
        return max(0, -at), min(shape.lanes, shape.image_columns - at)

    def masks(self, plan: Stencil) -> tuple[tuple[int, int], ...]:
        """The lanes of each load of one line, when the image is read in place."""
        lanes, width = plan.shape.lanes, plan.shape.lanes * plan.shape.column_step
        starts = (v * width + base for v in range(self.vectors) for base, _ in plan.loads)
        return tuple(self.clipped(plan, start + at) for start in starts for at in range(0, width, lanes))


@dataclass(frozen=True)
class Stencil:
    """The whole plan of one kernel."""

    kind: str
    image: Access  # of a plane's first element: strides are those of the outer axes alone
    weights: Access
    tile: tuple[Access, ...]  # what the epilogue reads and writes, results included
    outer: tuple[OuterAxis, ...]
    columns: int  # of the output
    row_strides: tuple[int, ...]  # of the tile's accesses, from one output row or column to the next
    column_strides: tuple[int, ...]
    image_row_stride: int
    shape: Shape
    choice: Tile
    plane: Plane | None  # the copy; None: the image is read in place
    band: int  # row tiles of one copy, or of one share of a plane
    tasks: int

    @property
    def taps(self) -> tuple[Tap, ...]:
        return self.shape.taps

    @property
    def lanes(self) -> int:
        return self.shape.lanes

    @property
    def row_tiles(self) -> tuple[tuple[int, int], ...]:
        """(rows, how many), in order."""
        return balanced(self.shape.rows, self.choice.rows)

    @property
    def column_tiles(self) -> tuple[tuple[int, int], ...]:
        """(vectors, how many), in order."""
        return cut_row(self.shape.vectors, self.choice.vectors)

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
        last = (self.shape.rows - 1) * self.shape.row_step + self.low + self.reach
        return self.low < 0 or last >= self.shape.image_rows

    @property
    def scratch(self) -> int:
        """Elements of a thread's own memory: the copy, or a row of zeros."""
        if self.plane is not None:
            return self.plane.size
        return ceil_div(self.shape.image_columns, ALIGNMENT) * ALIGNMENT if self.leaves_rows else 0

    @property
    def tail(self) -> int:
        """Lanes of the last vector of a row that are in use."""
        return (self.columns - 1) % self.lanes + 1

    @property
    def loads(self) -> tuple[tuple[int, tuple[int, ...]], ...]:
        """Where vectors are loaded for one output vector, relative to its first column, and the tap columns that each
        load gives."""
        return load_starts([taps[0].column for taps in self.tap_columns], 1 if self.plane else self.shape.column_step)

    @property
    def runs(self) -> tuple[Run, ...]:
        """The column tiles, those that differ only in their place together."""
        found: list[Run] = []
        keys: list[object] = []
        first = 0
        for vectors, count in self.column_tiles:
            for _ in range(count):
                run = Run(first, vectors, 1, self.tail if first + vectors == self.shape.vectors else self.lanes)
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

        plane, shape = self.plane, self.shape
        source = "image in place" if plane is None else (
            f"copy of {plane.rows} rows from {self.low}, pitch {plane.pitch}, {plane.lead} zeros first"
        )
        weights = "in registers" if self.choice.keeps_weights else "a column at a time"
        return "\n".join([
            f"stencil of {len(self.taps)} taps on {self.image.buffer}, weights {self.weights.buffer} {weights}; "
            f"{self.kind}, {self.lanes} lanes; outer {' '.join(map(str, self.outer)) or '-'}",
            f"steps {shape.row_step} x {shape.column_step}; tiles: rows {tiles(self.row_tiles)}, vectors "
            f"{tiles(self.column_tiles)}, the last of {self.tail} lanes; "
            f"taps {'in a loop over columns' if self.choice.is_rolled else 'written out'}",
            f"{source}; {self.parts} a plane; tasks: {self.tasks}",
        ])


def plan_stencil(program: Program, kernel: Kernel, target: Target) -> Stencil | None:
    """The plan, or None when the kernel is not a stencil, or tiles of the general contraction serve it as well."""
    classes = supports(program, kernel)
    if classes is None:
        return None
    stage = kernel.stages[0]
    node = stage.node
    assert isinstance(node, Generic)
    domain = ints(node.domain)
    match = None if 0 in domain else match_axes(node, classes, domain)
    if match is None:
        return None
    j, image_map, rank = match.j, node.maps[match.j], len(domain)
    buffer = program.by_name[stage.reads[j]]
    tile = tuple(tile_accesses(program, kernel).values())
    column_strides = tuple(one.strides[match.column_axis] for one in tile)
    kind = memory_kind(node.dtype)
    columns = domain[match.column_axis]
    lanes = target.lanes(kind)
    while lanes // 2 >= columns:
        lanes //= 2
    if lanes < 2 or not can_write(program, kernel, column_strides):
        return None
    rows = row_step = image_rows = 1
    row_strides, image_row_stride = (0,) * len(tile), 0
    if match.row_dim is not None and match.row_axis is not None:
        rows, row_step = domain[match.row_axis], image_map.rows[match.row_dim].coefficient(match.row_axis)
        row_strides = tuple(one.strides[match.row_axis] for one in tile)
        image_rows, image_row_stride = buffer.shape[match.row_dim], buffer.strides[match.row_dim]
    taps = tuple(list_taps(program, stage, match, domain, classes.k))
    shape = Shape(
        taps, rows, ceil_div(columns, lanes), lanes, row_step,
        image_map.rows[match.column_dim].coefficient(match.column_axis), image_rows, buffer.shape[match.column_dim],
        lanes * BYTES[kind], target.vector_registers,
    )
    choice = choose_tile(shape)
    if choice is None:
        return None
    dims = [d for d in range(len(buffer.shape)) if d not in (match.row_dim, match.column_dim)]
    flat = flat_offset(AffineMap(rank, tuple(image_map.rows[d] for d in dims)), [buffer.strides[d] for d in dims])
    assert isinstance(flat.const, int)
    strides = tuple(flat.coefficient(axis) for axis in range(rank))
    image = Access(program.root(buffer.name).name, buffer.dtype, strides, flat.const)
    weights = access(program, stage.reads[1 - j], node.maps[1 - j])
    every = (image, weights, *tile)
    outer = _merged([
        OuterAxis(axis_name(axis), domain[axis], tuple(one.strides[axis] for one in every))
        for axis in sorted(node.out_map.axes)
        if domain[axis] > 1 and axis not in (match.row_axis, match.column_axis)
    ])
    planes = prod(axis.extent for axis in outer)
    tasks = min(MOST_TASKS, prod(domain) // TASK_PRODUCTS)
    row_tiles = balanced(rows, choice.rows)
    count = sum(number for _, number in row_tiles)
    band = ceil_div(count, min(count, ceil_div(tasks, planes))) if planes < min(tasks, LEAST_OUTER) else count
    plane: Plane | None = None
    if choice.is_rolled:
        plane, band = plan_copy(shape, columns, row_tiles, band, target.l1_bytes // BYTES[kind])
    return Stencil(
        kind, image, weights, tile, outer, columns, row_strides, column_strides, image_row_stride, shape, choice, plane,
        band, max(1, min(tasks, planes * ceil_div(count, band))),
    )


def _merged(axes: Sequence[OuterAxis]) -> tuple[OuterAxis, ...]:
    """Neighbouring axes that every access steps through like one become one."""
    result: list[OuterAxis] = []
    for axis in axes:
        if result and all(a == axis.extent * b for a, b in zip(result[-1].strides, axis.strides, strict=True)):
            last = result.pop()
            axis = OuterAxis(last.name + axis.name, last.extent * axis.extent, axis.strides)
        result.append(axis)
    return tuple(result)

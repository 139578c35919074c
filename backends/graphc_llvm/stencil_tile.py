"""Which tile a stencil is computed in, and where it reads the image: in place or in a copy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphc.program import ALIGNMENT
from graphc_llvm.contraction_cost import balanced, ceil_div
from graphc_llvm.stencil_match import Tap

MOST_TAPS = 256  # more would be better transformed
MOST_TAP_ROWS = 16  # of one column of taps: their weights stay in registers while the column is summed
LARGEST_CODE = 480  # multiply-adds written out in all tiles together: they compile in some 25 ms
MOST_ROWS = 16  # of a tile
MOST_VECTORS = 8  # of a row of a tile
LINE = 64  # bytes of a cache line

# Costs in multiply-adds of one vector. They order the tiles of 14, 28, 56 and 112 columns, 3 x 3, 5 x 5 and 7 x 7, as a
# Zen 4 runs them.
TILE_COST = 10  # of a tile: its loops and its writes
PLACE_COST = 1  # of a line of a tile that is read in place: its address
COPY_COST = 3  # of a vector that is copied
LOOP_COST = 8  # of a column of taps, when columns are a loop
NARROW_COST = 0.1  # share: rows are read and written in pieces of the tile's vectors
CODE_COST = 0.1  # share: of the largest code, for the time that it takes to compile
PLACE_CODE = 8  # multiply-adds that compile as fast as the address of a line
SPLIT_CODE = 1.5  # a multiply-add of a column step of two, with its part in the loads and shuffles


@dataclass(frozen=True)
class Shape:
    """What tiles depend on; columns are counted in vectors but for `image_columns`."""

    taps: tuple[Tap, ...]
    rows: int
    vectors: int
    lanes: int
    row_step: int
    column_step: int
    image_rows: int
    image_columns: int
    vector_bytes: int
    registers: int


@dataclass(frozen=True)
class Tile:
    """`rows` x `vectors` sums. `is_rolled`: a loop over the columns of the taps, on a copy of the image; else all taps
    are written out and read the image in place. `keeps_weights`: in registers, throughout a plane."""

    rows: int
    vectors: int
    is_rolled: bool
    keeps_weights: bool


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


def tap_columns(taps: Sequence[Tap]) -> tuple[tuple[Tap, ...], ...]:
    """The taps by column, each column from the first row to the last."""
    columns = sorted({tap.column for tap in taps})
    return tuple(
        tuple(sorted((t for t in taps if t.column == column), key=lambda t: (t.row, t.weight))) for column in columns
    )


def load_starts(columns: Sequence[int], step: int) -> tuple[tuple[int, tuple[int, ...]], ...]:
    """Where vectors are loaded in place for tap columns in order, and the columns that each load gives: for a column
    step of two those of its even and its odd lanes."""
    found: list[tuple[int, tuple[int, ...]]] = []
    for column in columns:
        if step == 2 and found and found[-1][1] == (column - 1,):
            found[-1] = column - 1, (column - 1, column)
        else:
            found.append((column, (column,)))
    return tuple(found)


def cut_row(vectors: int, most: int) -> tuple[tuple[int, int], ...]:
    """The tiles of a row, (vectors, how many): two of nearly equal size, or else as many whole ones as there are."""
    if vectors <= 2 * most:
        return balanced(vectors, most)
    rest = vectors % most
    return ((most, vectors // most), (rest, 1)) if rest else ((most, vectors // most),)


def choose_tile(shape: Shape) -> Tile | None:
    """The cheapest tile that fits the registers and does not take long to compile."""
    columns = tap_columns(shape.taps)
    tallest = max(len(column) for column in columns)
    if len(shape.taps) > MOST_TAPS or tallest > MOST_TAP_ROWS:
        return None
    found: list[Tile] = []
    for vectors in range(1, min(shape.vectors, MOST_VECTORS) + 1):
        for rows in range(1, min(shape.rows, MOST_ROWS) + 1):
            sums = rows * vectors
            keeps = sums + len(shape.taps) + 2 <= shape.registers
            if sums + tallest + 2 > shape.registers and sums > 1 and not keeps:
                continue
            found.append(Tile(rows, vectors, False, keeps))
            if is_grid(columns):
                found.append(Tile(rows, vectors, True, False))
    found = [tile for tile in found if _code(shape, columns, tile) <= LARGEST_CODE]
    return min(found, key=lambda tile: _cost(shape, columns, tile), default=None)


def is_grid(columns: Sequence[Sequence[Tap]]) -> bool:
    """Whether every column has the taps of the first, with weights that lie alike."""
    forms = {tuple((tap.row, tap.weight - column[0].weight) for tap in column) for column in columns}
    return len(forms) == 1


def _code(shape: Shape, columns: Sequence[Sequence[Tap]], tile: Tile) -> float:
    """How much is written out, in multiply-adds; a row's first and last tile differ in their masks."""
    heights = [size for size, _ in balanced(shape.rows, tile.rows)]
    widths = cut_row(shape.vectors, tile.vectors)
    count = min(sum(number for _, number in widths), len(widths) + 2)
    sums = sum(heights) * min(shape.vectors, count * tile.vectors)
    if tile.is_rolled:
        return len(columns[0]) * sums
    places = sum(len(_lines(shape, shape.taps, rows)) for rows in heights) * count
    return len(shape.taps) * sums * (1 if shape.column_step == 1 else SPLIT_CODE) + PLACE_CODE * places


def _lines(shape: Shape, taps: Sequence[Tap], rows: int) -> set[int]:
    """The image rows that so many output rows read."""
    return {o * shape.row_step + tap.row for o in range(rows) for tap in taps}


def _cost(shape: Shape, columns: Sequence[Sequence[Tap]], tile: Tile) -> float:
    # a vector that straddles two cache lines is two accesses; every second column is loaded with its neighbours
    access = 1 + shape.vector_bytes / LINE
    if not tile.is_rolled:
        starts = load_starts([column[0].column for column in columns], shape.column_step)
        access *= shape.column_step * len(starts) / len(columns)
    cost = 0.0
    for rows, number in balanced(shape.rows, tile.rows):
        used = [_lines(shape, column, rows) for column in columns]
        fixed = TILE_COST + (LOOP_COST * len(columns) if tile.is_rolled else PLACE_COST * len(set.union(*used)))
        for vectors, times in cut_row(shape.vectors, tile.vectors):
            sums = len(shape.taps) * rows * vectors
            loads = sum(map(len, used)) * vectors * access + (0 if tile.keeps_weights else len(shape.taps))
            cost += number * times * (max(sums, loads) + 0.2 * min(sums, loads) + fixed)
    if tile.is_rolled:
        cost += COPY_COST * shape.image_rows * ceil_div(shape.image_columns, shape.lanes)
    return cost * (1 + NARROW_COST / tile.vectors) * (1 + CODE_COST * _code(shape, columns, tile) / LARGEST_CODE)


def plan_copy(
    shape: Shape, columns: int, row_tiles: Sequence[tuple[int, int]], band: int, cache: int
) -> tuple[Plane, int]:
    """The copy for `columns` of output, and how many row tiles one of it serves: at most `band`. `cache`: elements of
    the first-level cache."""
    taps, step, lanes = shape.taps, shape.column_step, shape.lanes
    reach = max(tap.row for tap in taps) - min(tap.row for tap in taps)
    width = ceil_div(ceil_div(shape.image_columns, step), lanes) * lanes
    shifts = [tap.column // step for tap in taps]
    over = max(0, -min(shifts), columns + max(shifts) - width)
    lead = ceil_div(over, lanes) * lanes
    pitch = step * (lead + width)
    tallest, count = row_tiles[0][0], sum(number for _, number in row_tiles)
    # a band should fill most of the first-level cache, but not consist mostly of rows that the next one copies again
    within = (cache * 3 // 4 // pitch - reach - 1) // shape.row_step + 1
    fit = max(1, max(within, 4 * reach // shape.row_step, 2 * tallest) // tallest)
    band = ceil_div(count, ceil_div(count, min(fit, band)))
    rows = (min(shape.rows, band * tallest) - 1) * shape.row_step + reach + 1
    plane = Plane(lead, width, step, rows, 0)
    end = max(plane.column(tap.column) for tap in taps) + shape.vectors * lanes
    size = max((rows - 1) * pitch + end, rows * pitch)
    return Plane(lead, width, step, rows, ceil_div(size, ALIGNMENT) * ALIGNMENT), band

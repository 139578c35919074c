"""How a 3x3 convolution is computed by Winograd's algorithm, and whether that pays: planning only.

A tile is 2x2 outputs; a tile row is all tiles of two rows of outputs of one image. A block is `rows` consecutive
tile rows, numbered through all images; its tiles lie side by side, as many vectors as that takes. For each block

    V[point][c][tile]  = transformed input                        in the second-level cache
    M[point][k][tile]  = sum over c of U[point][c][k] * V         for a group of output channels at a time
    y                  = M transformed back, and the epilogue

The sum is 16 matrix products in register tiles: `panel` output channels by some vectors of tiles. The last panel and
the last register tile of a block are computed whole; what is too much is not stored. V is read once for each panel:
where it exceeds the second-level cache, a group has several panels, which pass by while one point of V stays.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from graphc.program import ALIGNMENT
from graphc_llvm.contraction_cost import balanced, ceil_div
from graphc_llvm.emit_types import BYTES
from graphc_llvm.target import Target
from graphc_llvm.winograd_match import TAPS, Convolution

OUTPUTS = 2  # rows and columns of outputs of a tile
POINTS = 16  # products of a tile, where the direct sum needs 36
MOST_VECTORS = 4  # of a register tile
MOST_WEIGHT_LANES = 8
FEWEST_BLOCKS = 8  # fewer blocks than that are too few tasks
MOST_BLOCK_VECTORS = 16  # of a block of more than one tile row: 16 rows fill whole vectors of up to 16 lanes
MOST_ROWS = 1024  # tile rows of a block: their table stands on the stack

# The estimate, in cycles of one multiply-add of a vector each; measured on a Zen 4 core with 512-bit vectors (one such
# multiply-add a cycle, 1 MiB of second-level cache). Only the ratios matter.
LATENCY = 5.0  # of a multiply-add: the least number of sums of a register tile
LOAD = 1.05  # one load, which may be a broadcast one
TILE_START = 30.0  # a call of a register tile outside of its loop
INPUT_CYCLES = 120.0  # transform of one vector of tiles of one channel
OUTPUT_CYCLES = 80.0
WEIGHT_CYCLES = 13.0  # transform of the kernel of one pair of channels
NEAR_BYTE = 1 / 128  # what streaming a byte adds, from the second-level cache
FAR_BYTE = 1 / 32  # and from the third
MEMORY_BYTE = 1 / 3  # and from memory
WEIGHT_PASSES = 2  # writing U costs what reading it twice does: a line is read before it is written
LEAST_GAIN = 0.9  # of the direct cost: what a plan may cost at most
DIRECT_FACTOR = 1.12  # the direct sum by the multiply-adds that it consists of


@dataclass(frozen=True)
class WinogradPlan:
    """All decisions. Pitches are in elements, costs in cycles of the estimate."""

    kind: str
    lanes: int  # of the vectors of tiles
    tile_rows: int  # of one image
    tile_columns: int
    rows: int  # tile rows of a block
    blocks: int
    splits: tuple[tuple[int, int], ...]  # a block's vectors: (vectors of a register tile, how many such)
    panel: int  # output channels of a register tile, side by side in U
    panels: int
    group: int  # panels between two transforms back
    pitch: int  # of V and M, from one channel to the next
    weight_lanes: int  # of the vectors of output channels whose kernels are transformed together
    panel_pitch: int  # of U, from one input channel to the next
    is_shared: bool  # V of all blocks is made first, then tasks are groups; otherwise U of all panels, tasks are blocks
    parts: int  # that share the blocks of a group
    cost: float
    direct_cost: float

    @property
    def groups(self) -> int:
        return ceil_div(self.panels, self.group)

    def tiles(self, vectors: int) -> tuple[int, ...]:
        """How many register tiles of each size of `splits` a block takes of which `vectors` vectors are in use."""
        counts, start = [], 0
        for size, count in self.splits:
            counts.append(min(count, max(0, ceil_div(vectors - start, size))))
            start += size * count
        return tuple(counts)

    @property
    def vectors(self) -> int:
        """Vectors of a block."""
        return sum(size * count for size, count in self.splits)

    def __str__(self) -> str:
        parts = " ".join(f"{count}x{size}" for size, count in self.splits)
        return "\n".join([
            f"Winograd F({OUTPUTS}x{OUTPUTS}, 3x3) of {self.kind} x {self.lanes}, "
            f"{self.tile_rows}x{self.tile_columns} tiles an image",
            f"{self.blocks} blocks of {self.rows} tile rows: vectors {parts}, pitch {self.pitch}",
            f"{self.panels} panels of {self.panel} output channels, {self.group} a group",
            f"tasks are {'groups of channels' if self.is_shared else 'blocks'}; "
            f"cost {self.cost:.3g}, direct {self.direct_cost:.3g}",
        ])


def round_up(a: int, b: int) -> int:
    """The least multiple of b not below a."""
    return ceil_div(a, b) * b


def plan_winograd(conv: Convolution, target: Target) -> WinogradPlan | None:
    """The cheapest plan; None where the direct sum is as fast."""
    c, k = conv.channels, conv.outputs
    least = POINTS * c * k + INPUT_CYCLES * c + OUTPUT_CYCLES * k  # of a vector of tiles
    if least >= OUTPUTS * OUTPUTS * TAPS * TAPS * c * k * DIRECT_FACTOR:
        return None  # the transforms alone cost more than they save
    best = min(candidates(conv, target), key=lambda plan: plan.cost, default=None)
    return best if best is not None and best.cost < best.direct_cost * LEAST_GAIN else None


def candidates(conv: Convolution, target: Target) -> Iterator[WinogradPlan]:
    """Plans for all sizes of blocks that are sensible; none where vectors have one lane."""
    kind = "f32" if conv.dtype == "float32" else "f64"
    lanes = target.lanes(kind)
    if lanes < 2:
        return
    columns = ceil_div(conv.width, OUTPUTS)
    total = conv.images * ceil_div(conv.height, OUTPUTS)
    for rows in range(1, min(total, MOST_ROWS) + 1):
        vectors = ceil_div(rows * columns, lanes)
        v_bytes = POINTS * conv.channels * vectors * lanes * BYTES[kind]
        if rows > 1 and (vectors > MOST_BLOCK_VECTORS or v_bytes > 2 * target.l2_bytes):
            return
        for width in range(1, min(MOST_VECTORS, vectors) + 1):
            plan = _plan(conv, target, kind, rows, balanced(vectors, width))
            if plan is not None:
                yield replace(plan, cost=_cost(conv, target, plan))


def _plan(
    conv: Convolution, target: Target, kind: str, rows: int, splits: tuple[tuple[int, int], ...]
) -> WinogradPlan | None:
    """The plan for a size of blocks, and register tiles, without its cost."""
    lanes, item = target.lanes(kind), BYTES[kind]
    tile_rows, columns = ceil_div(conv.height, OUTPUTS), ceil_div(conv.width, OUTPUTS)
    blocks = ceil_div(conv.images * tile_rows, rows)
    widest = splits[0][0]
    registers = target.vector_registers - (0 if target.has_fma else 1)
    most = (registers - 1 - widest) // widest
    if most < 1:
        return None
    panels = ceil_div(conv.outputs, most)
    panel = ceil_div(conv.outputs, panels)
    weight_lanes = min(lanes, MOST_WEIGHT_LANES)
    is_shared = blocks < FEWEST_BLOCKS
    line, vectors = ALIGNMENT // item, sum(size * count for size, count in splits)
    pitch = round_up(vectors * lanes, line)
    if is_shared:  # a vector past the end of the last tile row must not reach the next channel, of another task
        pitch = max(pitch, round_up((rows - 1) * columns + ceil_div(columns, lanes) * lanes, line))
    if vectors > widest and pitch // line % 2 == 0:  # odd numbers of lines: neighbours fall into all sets of a cache
        pitch += line
    fitting = max(1, target.l2_bytes // 4 // (POINTS * panel * pitch * item))
    group = 1 if POINTS * conv.channels * pitch * item <= target.l2_bytes // 2 else fitting
    group = min(group, max(1, panels // FEWEST_BLOCKS) if is_shared else panels)
    groups = ceil_div(panels, group)
    group = ceil_div(panels, groups)
    parts = min(blocks, ceil_div(FEWEST_BLOCKS, groups)) if is_shared else 1
    return WinogradPlan(
        kind, lanes, tile_rows, columns, rows, blocks, splits, panel, panels, group, pitch, weight_lanes,
        round_up(panel, weight_lanes), is_shared, parts, 0.0, _direct_cost(conv, lanes),
    )


def _direct_cost(conv: Convolution, lanes: int) -> float:
    """Of the direct sum, which leaves out the rows of its kernel that lie outside of x."""
    rows = sum(
        max(0, min(TAPS, conv.in_height + conv.top - row) - max(0, conv.top - row)) for row in range(conv.height)
    )
    return conv.images * conv.outputs * conv.channels * conv.width * rows * TAPS / lanes * DIRECT_FACTOR


def _cost(conv: Convolution, target: Target, plan: WinogradPlan) -> float:
    item, last_rows = BYTES[plan.kind], conv.images * plan.tile_rows - (plan.blocks - 1) * plan.rows
    last = ceil_div(last_rows * plan.tile_columns, plan.lanes)
    sums = 0.0  # of one panel and point
    for vectors, blocks in ((plan.vectors, plan.blocks - 1), (last, 1)):
        for (size, _), count in zip(plan.splits, plan.tiles(vectors), strict=True):
            step = max(plan.panel * size, (plan.panel + size) * LOAD, LATENCY)
            sums += blocks * count * (conv.channels * step + TILE_START)
    row_vectors = ceil_div(plan.tile_columns, plan.lanes)
    v_bytes = POINTS * conv.channels * plan.vectors * plan.lanes * item
    u_bytes = POINTS * conv.channels * plan.panels * plan.panel_pitch * item
    m_bytes = POINTS * plan.group * plan.panel * plan.pitch * item
    u_byte = v_byte = FAR_BYTE
    near = target.l2_bytes - v_bytes - m_bytes
    if (u_bytes // plan.groups if plan.is_shared else u_bytes) <= near:
        u_byte = NEAR_BYTE
    if v_bytes <= target.l2_bytes // 2:
        v_byte = 0.0
    cost = (
        plan.panels * POINTS * sums
        + conv.images * plan.tile_rows * row_vectors * (conv.channels * INPUT_CYCLES + conv.outputs * OUTPUT_CYCLES)
        + plan.parts * plan.panels * plan.panel_pitch * conv.channels * WEIGHT_CYCLES
        + (plan.parts * WEIGHT_PASSES + plan.blocks) * u_bytes * u_byte
        + plan.blocks * v_bytes * (plan.groups * v_byte + plan.panels * NEAR_BYTE)
    )
    if not plan.is_shared:
        cost += (plan.blocks + WEIGHT_PASSES) * max(0, u_bytes - target.l3_bytes) * MEMORY_BYTE
    return cost

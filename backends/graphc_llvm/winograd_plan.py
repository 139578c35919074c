"""How a 3x3 convolution is computed by Winograd's algorithm, and whether that pays: planning only.

A tile is 2x2 outputs; a tile row is all tiles of two rows of outputs of one image. A block is `rows` consecutive
tile rows, numbered through all images; its tiles lie side by side, as many vectors as that takes. For each block

    V[point][c][tile]  = transformed input                        in the second-level cache
    M[point][k][tile]  = sum over c of U[point][c][k] * V         for a group of output channels at a time
    y                  = M transformed back, and the epilogue

The sum is 16 matrix products of register tiles: `tile_rows` output channels by some vectors of tiles. The last panel of
output channels, the last vector of a block and the last block are computed whole; what is too much is not stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from graphc.program import ALIGNMENT
from graphc_llvm.emit_types import BYTES
from graphc_llvm.target import Target
from graphc_llvm.winograd_match import TAPS, Convolution

OUTPUTS = 2  # rows and columns of outputs of a tile
POINTS = 16  # products of a tile, where the direct sum needs 36
MOST_VECTORS = 4  # of a register tile
MOST_WEIGHT_LANES = 8
FEWEST_BLOCKS = 8  # fewer blocks than that are too few tasks
MOST_ROWS = 1024  # tile rows of a block: their table stands on the stack

# The estimate, in cycles of one multiply-add of a vector each; measured on a Zen 4 core with 512-bit vectors (one such
# multiply-add a cycle, 1 MiB of second-level cache). Only the ratios matter.
LATENCY = 5.0  # of a multiply-add: the least number of sums of a register tile
TILE_START = 30.0  # a call of a register tile outside of its loop
INPUT_CYCLES = 130.0  # transform of one vector of tiles of one channel
OUTPUT_CYCLES = 100.0
WEIGHT_CYCLES = 15.0  # transform of the kernel of one pair of channels
NEAR_BYTE = 1 / 256  # what streaming a byte adds, from the second-level cache
FAR_BYTE = 1 / 48  # and from the third
MEMORY_BYTE = 1 / 3  # and from memory
WEIGHT_PASSES = 2  # writing U costs twice what reading it does: a line is read before it is written
LEAST_GAIN = 0.9  # of the direct cost: what a plan may cost at most
DIRECT_FACTOR = 1.12  # the direct sum by the multiply-adds that it consists of


@dataclass(frozen=True)
class WinogradPlan:
    """All decisions; sizes in elements, where nothing else is said."""

    kind: str
    lanes: int
    tile_rows: int  # of one image
    tile_columns: int
    rows: int  # tile rows of a block
    blocks: int
    splits: tuple[tuple[int, int], ...]  # a block's vectors: (vectors of a register tile, how many such)
    panel: int  # output channels of a register tile
    panels: int
    group: int  # panels between two transforms back
    pitch: int  # of V and M, from one channel to the next
    weight_lanes: int
    panel_pitch: int  # of U, from one input channel to the next
    is_shared: bool  # V of all blocks is made first, then tasks are groups; otherwise tasks are blocks
    cost: float
    direct_cost: float

    @property
    def groups(self) -> int:
        return ceil_div(self.panels, self.group)

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


def ceil_div(a: int, b: int) -> int:
    """The least integer not below a / b."""
    return -(-a // b)


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
    """Plans for all sizes of blocks that the second-level cache might hold; none where vectors have one lane."""
    kind = "f32" if conv.dtype == "float32" else "f64"
    lanes = target.lanes(kind)
    if lanes < 2:
        return
    tile_rows, columns = ceil_div(conv.height, OUTPUTS), ceil_div(conv.width, OUTPUTS)
    total = conv.images * tile_rows
    seen: set[int] = set()
    for most in range(1, min(total, MOST_ROWS) + 1):
        blocks = ceil_div(total, most)
        rows = ceil_div(total, blocks)
        tiles = rows * columns
        if rows in seen:
            continue
        seen.add(rows)
        if len(seen) > 1 and tiles * conv.channels * POINTS * BYTES[kind] > 2 * target.l2_bytes:
            return
        for width in range(1, min(MOST_VECTORS, ceil_div(tiles, lanes)) + 1):
            plan = _plan(conv, target, kind, rows, blocks, width)
            if plan is not None:
                yield plan


def _plan(conv: Convolution, target: Target, kind: str, rows: int, blocks: int, width: int) -> WinogradPlan | None:
    lanes, item = target.lanes(kind), BYTES[kind]
    registers = target.vector_registers - (0 if target.has_fma else 1)
    tile_rows, columns = ceil_div(conv.height, OUTPUTS), ceil_div(conv.width, OUTPUTS)
    vectors = ceil_div(rows * columns, lanes)
    splits = balanced(vectors, width)
    widest = splits[0][0]
    most = (registers - 1 - widest) // widest
    if most < 1:
        return None
    panels = ceil_div(conv.outputs, most)
    panel = ceil_div(conv.outputs, panels)
    row_vectors = ceil_div(columns, lanes)
    line = ALIGNMENT // item
    pitch = round_up(max(vectors * lanes, (rows - 1) * columns + row_vectors * lanes), line)
    pitch += line if pitch // line % 2 == 0 else 0  # an odd number of lines: neighbours fall into all sets of a cache
    weight_lanes = min(lanes, MOST_WEIGHT_LANES)
    panel_pitch = round_up(panel, weight_lanes)
    v_bytes = POINTS * conv.channels * vectors * lanes * item
    u_bytes = POINTS * conv.channels * panels * panel_pitch * item
    m_bytes = POINTS * panel * pitch * item
    group = 1 if v_bytes <= target.l2_bytes // 2 else max(1, target.l2_bytes // 4 // m_bytes)
    is_shared = blocks < FEWEST_BLOCKS
    group = min(group, max(1, panels // FEWEST_BLOCKS) if is_shared else panels)
    groups = ceil_div(panels, group)
    group = ceil_div(panels, groups)
    step = sum(count * max(panel * size, panel + size, LATENCY) for size, count in splits)
    near, far = NEAR_BYTE, FAR_BYTE
    beyond = max(0, u_bytes - target.l3_bytes)
    cost = (
        blocks * panels * POINTS * (conv.channels * step + TILE_START * sum(count for _, count in splits))
        + conv.images * tile_rows * row_vectors * (conv.channels * INPUT_CYCLES + conv.outputs * OUTPUT_CYCLES)
        + panels * panel_pitch * conv.channels * WEIGHT_CYCLES
        + blocks * u_bytes * (near if u_bytes + v_bytes + group * m_bytes <= target.l2_bytes else far)
        + (blocks + WEIGHT_PASSES) * beyond * MEMORY_BYTE
        + blocks * groups * v_bytes * (near if v_bytes <= target.l2_bytes // 2 else far)
    )
    outputs = conv.images * conv.height * conv.width * conv.outputs
    direct = outputs * conv.channels * TAPS * TAPS / lanes * DIRECT_FACTOR
    return WinogradPlan(
        kind, lanes, tile_rows, columns, rows, blocks, splits, panel, panels, group, pitch, weight_lanes, panel_pitch,
        is_shared, cost, direct,
    )


def balanced(extent: int, most: int) -> tuple[tuple[int, int], ...]:
    """`extent` in the fewest parts of at most `most`, of at most two neighbouring sizes, the larger first."""
    parts = ceil_div(extent, most)
    size = ceil_div(extent, parts)
    smaller = parts * size - extent
    return ((size, parts - smaller), (size - 1, smaller)) if smaller else ((size, parts),)

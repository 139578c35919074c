"""The schedule of a contraction: frozen data that decides its code, and prints.

`contraction_plan` makes one, `contraction` turns it into loops, `microkernel` into tiles.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from math import prod

from graphc_llvm.contraction_cost import Tiling, ceil_div

PACKED_FOR_FEW = 12  # tiles of S; with 19, packing first and packing on the way were measured to be as fast


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

    @property
    def label(self) -> str:
        """The name as a part of an identifier."""
        return self.name.replace("'", "_")

    def __str__(self) -> str:
        return f"{self.name}<{self.extent}"


@dataclass(frozen=True)
class Copy:
    """A zero-bordered copy of an operand: the box [low, low + shape) of the array's last axes (a loop around the copy
    binds the others, the peeled ones)."""

    low: tuple[int, ...]
    shape: tuple[int, ...]
    extents: tuple[int, ...]  # of the array
    source_strides: tuple[int, ...]
    strides: tuple[int, ...]  # of the copy

    @property
    def inside(self) -> tuple[tuple[int, int], ...]:
        """The part of the box that the array covers: first and stop along each axis."""
        sizes = zip(self.low, self.shape, self.extents, strict=True)
        starts = [(max(0, -low), min(shape, extent - low)) for low, shape, extent in sizes]
        return tuple((start, max(start, stop)) for start, stop in starts)

    @property
    def size(self) -> int:
        return self.shape[0] * self.strides[0]

    def __str__(self) -> str:
        return f"{'x'.join(map(str, self.shape))} from {self.low}"


@dataclass(frozen=True)
class Strip:
    """A copy of operand `j` holds only what one strip of the loop `inner` reads; `outer` counts the strips. From one to
    the next the copy moves by `advance` along axis `dim` of its box."""

    j: int
    outer: Axis
    inner: Axis
    dim: int
    advance: int

    def __str__(self) -> str:
        return f"in {self.outer.extent} strips of {self.inner}"


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

    @property
    def share(self) -> float:
        """How much of the products remains."""
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
    s_first: bool  # each tile of S meets all of V before the next one
    packs_blocks: bool  # V is packed block by block, by the thread that sums it; see also packs_in_tiles
    prefetch: bool  # tiles ask for the next block of V while they sum
    trim: Trim | None
    strip: Strip | None
    k_parts: Axis | None  # an axis of k that is the outermost loop: each point has sums of its own, added at the end
    shared_axes: int  # leading outer axes whose points threads share; 0: they share copies, packing and tiles
    outer_tasks: int
    cut: Cut | None

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
    def packs_in_tiles(self) -> bool:
        """Whether the tiles of the first rows of S pack their V on the way: its lanes are neighbours, and few tiles
        share a panel, so that packing would take a part of the time."""
        in_place = self.packs_blocks and self.lane.strides[self.v] == 1
        return in_place and self.s_tiles <= PACKED_FOR_FEW

    @property
    def tile_steps(self) -> int:
        """Multiply-adds of vectors in a whole tile."""
        t = self.tiling
        rows = max((size for size, _ in t.splits), default=1) * prod(axis.extent for axis in self.s_box)
        along = ceil_div(self.k[-1].extent, t.lanes) if t.along_k else 1
        return rows * t.vectors * self.k_depth * along

    @property
    def keeps_sums(self) -> bool:
        """Whether sums of tiles are kept in the workspace."""
        return self.passes > 1 or self.k_parts is not None

    @property
    def v_tiles(self) -> int:
        return ceil_div(self.lane.extent, self.tiling.width) * prod(axis.extent for axis in self.v_outer)

    @property
    def s_tiles(self) -> int:
        return sum(count for _, count in self.tiling.splits) * prod(axis.extent for axis in self.s_outer)

    def __str__(self) -> str:
        """The loops that the code has, from the outermost in, with what is prepared in them."""
        t, names = self.tiling, [one.buffer for one in self.operands]
        places = ["packed" if packed else "in place" for packed in (t.packed, self.s_packed)]
        lines = [
            f"{self.kind}: vectors of {names[self.v]}, {places[0]}; elements of {names[self.s]}, {places[1]}"
        ]
        loops = (*self.outer, *self.k_outer)
        wide = f"{t.vectors}, lanes along {self.k[-1]}" if t.along_k else f"{t.vectors} x {t.lanes} lanes"
        placed = 0

        def add(depth: int, text: str) -> None:
            lines.append("    " * depth + text)

        def prepare(depth: int) -> None:
            for j, copy in enumerate(self.copies):
                if copy is not None and self.bound(2 + len(self.tile) + j) == depth:
                    strips = f", {self.strip}" if self.strip is not None and self.strip.j == j else ""
                    add(depth, f"copy {names[j]} with a border of zeros: {copy}{strips}")
            packs = [(self.v, t.packed and not self.packs_blocks), (self.s, self.s_packed)]
            for j, is_packed in packs:
                if is_packed and self.k_blocks == 1 and self.pack_depth(j) == depth:
                    add(depth, f"pack {names[j]} into panels [k][{wide if j == self.v else 'rows'}]")

        prepare(0)
        for placed, axis in enumerate(loops, 1):
            shared = f"    # threads share: {self.outer_tasks} tasks" if placed == self.shared_axes else ""
            add(placed - 1, f"for {axis}:{shared}")
            prepare(placed)
        if self.k_blocks > 1:
            add(placed, f"for each of {self.k_blocks} blocks of {self.k_chunk} of {self.k[0]}:")
            placed += 1
            if t.packed:
                add(placed, f"pack {names[self.v]}")
        if self.cut is not None and not self.shared_axes:
            add(placed, f"# threads share: {self.cut.tasks} tasks, {self.cut}")
        v_loops, s_loops = list(self.v_outer), list(self.s_outer)
        for axis in v_loops * (not self.s_first):
            add(placed, f"for {axis}:")
            placed += 1
        if self.packs_blocks:
            add(placed, f"for blocks of {self.v_block} tiles along {self.lane}: pack {names[self.v]}")
            placed += 1
        for axis in s_loops:
            add(placed, f"for {axis}:")
            placed += 1
        rows = " and ".join(f"{count} of {size}" for size, count in t.splits)
        box = "".join(f" x {axis}" for axis in self.s_box)
        add(placed, f"for tiles of {names[self.s]}: {rows} of {self.s_split}{box}:")
        for axis in v_loops * self.s_first:
            placed += 1
            add(placed, f"for {axis}:")
        add(placed + 1, f"for tiles of {names[self.v]}: {wide} of {self.lane}:")
        trim = self.trim
        trimmed = "" if trim is None else f" ({trim.share:.0%}: inside the array at {trim.axis.name})"
        add(placed + 2, f"for {' '.join(map(str, self.k))}{trimmed}: sums += {names[self.s]} * {names[self.v]}")
        if self.k_parts is not None:
            add(0, f"add the sums of the {self.k_parts.extent} parts")
        return "\n".join(lines)

    def bound(self, number: int) -> int:
        """How many outer loops must stand around what depends on an access: all the shared ones, if any."""
        loops = (*self.outer, *self.k_outer)
        depth = max((depth + 1 for depth, axis in enumerate(loops) if axis.strides[number]), default=0)
        return max(depth, self.shared_axes) if depth else 0

    def pack_depth(self, j: int) -> int:
        """How many outer loops stand around the packing of an operand."""
        return max(self.bound(j), self.bound(2 + len(self.tile) + j))


def merged(axes: Sequence[Axis], alone: Container[str]) -> tuple[Axis, ...]:
    """Neighbouring axes that every access steps through like one become one, but for those named in `alone`."""
    result: list[Axis] = []
    for axis in axes:
        if result and axis.name not in alone and result[-1].name not in alone:
            last = result[-1]
            if all(a == axis.extent * b for a, b in zip(last.strides, axis.strides, strict=True)):
                result[-1] = Axis(last.name + axis.name, last.extent * axis.extent, axis.strides)
                continue
        result.append(axis)
    return tuple(result)


def unit_axis(accesses: int) -> Axis:
    """The axis of one point."""
    return Axis("1", 1, (0,) * accesses)

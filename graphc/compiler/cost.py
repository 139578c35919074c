"""What a kernel has to do at least: float operations and bytes, counted from its index notation alone.

Operations. Each point of a domain counts, also one whose read falls outside its array: a convolution with padding
counts as one over a larger image does, which is the custom where such figures are published. At a point each op of the
body that takes floats counts one: arithmetic, a comparison, a function such as exp, however many instructions that
takes. A select, a conversion and work on integers count nothing, and a term that occurs twice counts once. What is
combined into a sum, a maximum or the like counts one more: so a multiply-add of a sum of products counts two. How a
backend computes it does not enter: by Winograd's algorithm a convolution counts as the direct sum does.

Bytes. Each array that a kernel shares with the rest of the program counts once for reading and once for writing, as far
as its maps reach; what several maps read of one array counts at most as the whole array. Scratch counts nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from graphc.ir.affine import Affine, AffineMap
from graphc.ir.cost import operations_per_point
from graphc.ir.dtypes import is_float
from graphc.ir.extent import ints
from graphc.ir.node import Generic, Opaque
from graphc.program import ITEM_SIZES, Kernel, Loop, Program, Stage


@dataclass(frozen=True)
class Cost:
    """Float operations, by the dtype in which they are done, and bytes."""

    operations: Mapping[str, int]
    read: int
    written: int

    @property
    def total_operations(self) -> int:
        return sum(self.operations.values())

    @property
    def bytes(self) -> int:
        return self.read + self.written


def cost_of(program: Program, kernel: Kernel) -> Cost:
    """The cost of one kernel of a program.

    >>> import graphc as gc
    >>> x, w = gc.input("x", (8, 32)), gc.input("w", (32, 16))
    >>> program = gc.compile([x, w], gc.relu(x @ w), backend="numpy").program
    >>> cost = cost_of(program, program.kernels[0])
    >>> cost.operations["float32"] == 2 * 8 * 32 * 16 + 8 * 16  # and a comparison for each element
    True
    >>> cost.read == 4 * (8 * 32 + 32 * 16), cost.written == 4 * 8 * 16
    (True, True)
    """
    if kernel.loop is not None:
        return _loop_cost(kernel.loop)
    operations: dict[str, int] = {}
    for stage in kernel.stages:
        for dtype, count in stage_operations(program, stage).items():
            operations[dtype] = operations.get(dtype, 0) + count
    reads: dict[str, dict[object, int]] = {}  # by root: elements that each map reaches
    writes: dict[str, int] = {}
    for stage in kernel.stages:
        for name, key, count in _reached(program, stage):
            root = program.root(name)
            if root.kind != "scratch" and root.name not in writes:
                reads.setdefault(root.name, {})[key] = count
        root = program.root(stage.write)
        if root.kind != "scratch":
            writes[root.name] = min(root.size, writes.get(root.name, 0) + _written(program, stage))

    def size_of(root: str, elements: int) -> int:
        buffer = program.by_name[root]
        return min(elements, buffer.size) * ITEM_SIZES[buffer.dtype]

    read = sum(size_of(root, sum(counts.values())) for root, counts in reads.items())
    return Cost(operations, read, sum(size_of(root, count) for root, count in writes.items()))


def _loop_cost(loop: Loop) -> Cost:
    """As many times the cost of a step as there are steps: what stays in a cache is counted each time."""
    costs = [cost_of(loop.program, kernel) for kernel in loop.program.kernels]
    operations: dict[str, int] = {}
    for cost in costs:
        for dtype, count in cost.operations.items():
            operations[dtype] = operations.get(dtype, 0) + loop.length * count
    return Cost(operations, loop.length * sum(c.read for c in costs), loop.length * sum(c.written for c in costs))


def updates_cost(program: Program) -> Cost:
    """The cost of the copies after the last kernel: of the updates whose values were not computed in place."""
    copied = [target for source, target in program.updates if program.root(source).kind != "update"]
    moved = sum(program.by_name[target].nbytes for target in copied)
    return Cost({}, moved, moved)


def stage_operations(program: Program, stage: Stage) -> dict[str, int]:
    """The float operations of one stage, by dtype."""
    node = stage.node
    if isinstance(node, Generic):
        points = math.prod(ints(node.domain))
        return {dtype: points * count for dtype, count in operations_per_point(node.body, node.reducer)}
    if node.op in ("scatter_add", "cumsum") and is_float(node.dtype):
        return {node.dtype: program.by_name[stage.reads[0]].size}  # each element is added once
    return {}


def _reached(program: Program, stage: Stage) -> list[tuple[str, object, int]]:
    """What a stage reads: the buffer, what tells two reads of it apart, and how many elements are reached."""
    node = stage.node
    if isinstance(node, Generic):
        domain = ints(node.domain)
        return [
            (name, (index_map, domain), elements_reached(index_map, domain, program.by_name[name].shape))
            for name, index_map in zip(stage.reads, node.maps, strict=True)
        ]
    sizes = [program.by_name[name].size for name in stage.reads]
    if node.op == "take":
        sizes[0] = min(sizes[0], program.by_name[stage.write].size)
    return [(name, None, size) for name, size in zip(stage.reads, sizes, strict=True)]


def _written(program: Program, stage: Stage) -> int:
    buffer = program.by_name[stage.write]
    if stage.initialise or isinstance(stage.node, Opaque):
        return buffer.size
    return elements_reached(stage.node.out_map, ints(stage.node.domain), buffer.shape)


def elements_reached(index_map: AffineMap, domain: tuple[int, ...], shape: tuple[int, ...]) -> int:
    """How many elements of an array of `shape` the map reaches from a box of points: exactly where no two of its rows
    share an axis, else at most so many.

    >>> from graphc.ir.affine import AffineMap, affine
    >>> window = AffineMap(2, (affine({0: 2, 1: 1}, -1),))        # 2*i + j - 1 for i<3, j<2: -1, 0, 1, 2, 3, 4
    >>> elements_reached(window, (3, 2), (9,))
    5
    """
    if 0 in domain:
        return 0
    box = math.prod(_places(row, domain, extent) for row, extent in zip(index_map.rows, shape, strict=True))
    return min(box, math.prod(domain[axis] for axis in index_map.axes))


def _places(row: Affine, domain: tuple[int, ...], extent: int) -> int:
    """How many places of an axis a row of a map reaches."""
    assert isinstance(row.const, int)
    if row.single_axis is not None:
        return min(domain[row.single_axis], extent)
    values = np.array([row.const])
    for axis, coefficient in row.terms:
        values = np.unique(np.add.outer(values, coefficient * np.arange(domain[axis])))
    return int(np.count_nonzero((values >= 0) & (values < extent)))

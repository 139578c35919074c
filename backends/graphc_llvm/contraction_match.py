"""Which kernels are contractions that tiles can compute, and what memory they touch."""

from __future__ import annotations

from math import prod

from graphc.ir import scalar as sc
from graphc.ir.affine import AffineMap
from graphc.ir.classify import Contraction, classify
from graphc.ir.extent import ints
from graphc.ir.node import INSIDE, Generic
from graphc.program import Kernel, Program
from graphc_llvm.addressing import flat_offset
from graphc_llvm.bodies import KINDS
from graphc_llvm.schedule import Access

SMALLEST_WORK = 512  # products: below it general loops are as good and smaller
DTYPES = ("float32", "float64", "int32", "int64")


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

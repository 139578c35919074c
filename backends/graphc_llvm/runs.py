"""Stages that share one loop nest, and the shape of that nest: which axes, which order, which one along the lanes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

from graphc.ir import scalar as sc
from graphc.ir.affine import Affine, affine
from graphc.ir.extent import ints
from graphc.ir.node import INSIDE, SKIP, Generic
from graphc.program import Kernel, Program, Stage
from graphc_llvm.addressing import MOST_SPREAD, flat_offset, open_bounds

Bounds = tuple[tuple[Affine, int], ...]

# What an access of a vector costs, roughly, by its step along the vector axis: consecutive, the same for all lanes, a
# few elements apart, anything else (a gather or scatter takes the lanes one by one).
CONSECUTIVE, UNIFORM, SPREAD, SCATTERED = 1.0, 1.0, 2.0, 16.0
HORIZONTAL = 16.0  # what it costs to combine the lanes of a sum's last vector
LANES = 16  # of the widest vectors

FEWER_OUTER = 1.5  # how much better lanes must fit for stages to hand on whole arrays rather than rows
UNROLLED_OPS = 128  # operations of the points that are unrolled, together

LONG = frozenset("exp expm1 log log1p sin cos tan tanh sigmoid softplus erf ndtr pow atan2".split())
"""Scalar functions that are long chains of dependent instructions."""

HEAVY = LONG | {"sqrt", "rsqrt", "div", "mod"}
"""Scalar functions that take several cycles an element."""

# Nanoseconds an element that an access, a scalar operation and a heavy one take in vectors of 512 bits, roughly.
ACCESS_NS, OP_NS, HEAVY_NS = 0.03, 0.01, 0.12


@dataclass(frozen=True)
class Access:
    """One read: its buffer, its flat offset, and what must be tested before it is read."""

    buffer: str
    dtype: str
    offset: Affine
    bounds: Bounds
    skips: bool


@dataclass(frozen=True)
class Step:
    """A stage inside a run. `forwarded[j]` names the buffer whose value is at hand instead of a read."""

    stage: Stage
    node: Generic
    reads: tuple[Access, ...]
    forwarded: tuple[str | None, ...]
    write: Affine
    stored: bool

    @property
    def reduces(self) -> bool:
        return self.node.reducer is not None


@dataclass(frozen=True)
class Run:
    """Steps over one domain. `axes` are the loops inside the outer ones, in order; `vector` is the one along the lanes
    (None: scalar code); `extents` gives the trip count of each axis, merged axes counting as their innermost. The
    points of the `unrolled` axes, the innermost ones, are emitted one after another."""

    steps: tuple[Step, ...]
    extents: Mapping[int, int]
    kept: tuple[int, ...]
    reduced: tuple[int, ...]
    vector: int | None
    unrolled: frozenset[int] = frozenset()


def split_runs(program: Program, kernel: Kernel, outer: int, scratch: Mapping[str, tuple[int, ...]]) -> list[Run]:
    """The kernel's stages in runs. `scratch` gives the strides of the scratch buffers (0 along the outer axes)."""
    batches: list[list[Stage]] = []
    for stage in kernel.stages:
        if batches and _may_join(batches[-1], stage, outer):
            batches[-1].append(stage)
        else:
            batches.append([stage])
    runs: list[Run] = []
    for place, batch in enumerate(batches):
        later = {name for other in batches[place + 1 :] for stage in other for name in stage.reads}
        runs.append(_make_run(program, batch, outer, scratch, later))
    return runs


def is_plain(stage: Stage) -> bool:
    """Whether the stage can be an ordinary nest: every point writes inside the output, through single-axis rows."""
    node = stage.node
    assert isinstance(node, Generic)
    if any(len(row.terms) > 1 for row in node.out_map.rows):
        return False
    return not open_bounds(node.out_map, ints(node.shape), ints(node.domain))


def _may_join(batch: Sequence[Stage], stage: Stage, outer: int) -> bool:
    node, first = stage.node, batch[0].node
    assert isinstance(node, Generic) and isinstance(first, Generic)
    if node.domain != first.domain or not is_plain(stage) or not is_plain(batch[0]):
        return False
    if not _fits_run(node, outer) or not all(_fits_run(s.node, outer) for s in batch if isinstance(s.node, Generic)):
        return False
    writers = {s.write: s for s in batch}
    for name, index_map, mode in zip(stage.reads, node.maps, node.modes, strict=True):
        writer = writers.get(name)
        if writer is None:
            continue
        source = writer.node
        assert isinstance(source, Generic)
        if source.reducer is not None or index_map is not source.out_map or mode != INSIDE or writer.initialise:
            return False
    return True


def _fits_run(node: Generic, outer: int) -> bool:
    """A map, or a reduction over all the inner axes."""
    return node.reducer is None or all(axis < outer for axis in node.out_map.axes)


def _make_run(
    program: Program, batch: Sequence[Stage], outer: int, scratch: Mapping[str, tuple[int, ...]], later: set[str]
) -> Run:
    written: dict[str, Stage] = {}
    steps: list[Step] = []
    for stage in batch:
        node = stage.node
        assert isinstance(node, Generic)
        reads = plain_reads(program, stage, scratch)
        forwarded = tuple(name if name in written else None for name in stage.reads)
        write = flat_offset(node.out_map, strides_of(program, stage.write, scratch))
        stored = stage.write not in scratch or stage.write in later or node.reducer is not None
        steps.append(Step(stage, node, reads, forwarded, write, stored))
        written[stage.write] = stage
    return _shape_run(steps, outer)


def plain_reads(program: Program, stage: Stage, scratch: Mapping[str, tuple[int, ...]]) -> tuple[Access, ...]:
    """The reads of a stage, with their flat offsets and open bounds."""
    node = stage.node
    assert isinstance(node, Generic)
    reads: list[Access] = []
    for name, index_map, mode in zip(stage.reads, node.maps, node.modes, strict=True):
        buffer = program.by_name[name]
        offset = flat_offset(index_map, strides_of(program, name, scratch))
        bounds = () if mode == INSIDE else tuple(open_bounds(index_map, buffer.shape, ints(node.domain)))
        reads.append(Access(name, buffer.dtype, offset, bounds, mode == SKIP))
    return tuple(reads)


def strides_of(program: Program, name: str, scratch: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    """The element strides of a buffer; those of a scratch buffer do not move along the outer axes."""
    return scratch[name] if name in scratch else program.by_name[name].strides


def _shape_run(steps: list[Step], outer: int) -> Run:
    node = steps[0].node
    domain = ints(node.domain)
    written: set[int] = set()
    for step in steps:
        if not step.reduces:
            written |= set(range(len(domain)))
        written |= step.node.out_map.axes
    only_map = all(not step.reduces for step in steps)
    full = all(_fits_run(step.node, outer) for step in steps)
    inner = [axis for axis in range(outer, len(domain))]
    extents = dict(enumerate(domain))
    if full and not only_map:
        kept: list[int] = []
        reduced = inner
    else:
        kept = [axis for axis in inner if axis in written]
        reduced = [axis for axis in inner if axis not in written]
    steps, kept = _collapse(steps, kept, extents)
    steps, reduced = _collapse(steps, reduced, extents)
    vector = _vector_axis(steps, [*kept, *reduced], extents)
    if vector in kept:
        kept = [axis for axis in kept if axis != vector] + [vector]
    elif vector in reduced:
        reduced = [axis for axis in reduced if axis != vector] + [vector]
    unrolled: frozenset[int] = frozenset()
    points = prod(extents[axis] for axis in reduced)
    if vector in kept and points * sum(scalar_ops(step.node) for step in steps) <= UNROLLED_OPS:
        unrolled = frozenset(reduced)
    return Run(tuple(steps), extents, tuple(kept), tuple(reduced), vector, unrolled)


def _collapse(steps: list[Step], axes: list[int], extents: dict[int, int]) -> tuple[list[Step], list[int]]:
    """Merge neighbouring axes that every access walks as one; the merged axis keeps the inner one's number."""
    position = 0
    axes = list(axes)
    while position + 1 < len(axes):
        a, c = axes[position], axes[position + 1]
        if all(_merges(step, a, c, extents[c]) for step in steps):
            extents[c] *= extents[a]
            extents[a] = 1
            steps = [_without(step, a) for step in steps]
            del axes[position]
            position = max(0, position - 1)
        else:
            position += 1
    return steps, axes


def _merges(step: Step, a: int, c: int, inner: int) -> bool:
    if a in sc.axes_of(step.node.body) or c in sc.axes_of(step.node.body):
        return False
    if step.node.reducer in ("argmax", "argmin"):
        return False
    for offset in (*(read.offset for read in step.reads), step.write):
        if offset.coefficient(a) != offset.coefficient(c) * inner:
            return False
    return not any(row.coefficient(a) or row.coefficient(c) for read in step.reads for row, _ in read.bounds)


def _without(step: Step, axis: int) -> Step:
    def drop(offset: Affine) -> Affine:
        return affine({a: c for a, c in offset.terms if a != axis}, offset.const)

    reads = tuple(Access(r.buffer, r.dtype, drop(r.offset), r.bounds, r.skips) for r in step.reads)
    return Step(step.stage, step.node, reads, step.forwarded, drop(step.write), step.stored)


def _vector_axis(steps: Sequence[Step], axes: Sequence[int], extents: Mapping[int, int]) -> int | None:
    long = [axis for axis in axes if extents[axis] > 1]
    return min(reversed(long), key=lambda axis: lane_cost(steps, axis, extents[axis]), default=None)


def lane_cost(steps: Sequence[Step], axis: int | None, extent: int) -> float:
    """What a point costs, in accesses of full vectors, with lanes along an axis of this extent (None: scalar code).

    One scattered array weighs more than several small ones (the parameters of each channel, beside an image) that
    could be read side by side.
    """
    cost = 0.0
    for step in steps:
        for offset in (*(r.offset for r, f in zip(step.reads, step.forwarded, strict=True) if f is None), step.write):
            coefficient = 0 if axis is None else offset.coefficient(axis)
            if coefficient in (0, 1):
                cost += CONSECUTIVE if coefficient else UNIFORM
            else:
                cost += SPREAD if 1 < coefficient <= MOST_SPREAD else SCATTERED
        if step.reduces and axis is not None and axis not in step.node.out_map.axes:
            cost += HORIZONTAL / -(-extent // LANES)
    return cost * LANES / min(LANES, extent if axis is not None else 1)


def scalar_ops(node: Generic) -> int:
    """The operations of a body, each counted once."""
    return sum(isinstance(part, sc.Apply) for part in sc.postorder(node.body)) + 1


def nanoseconds(run: Run) -> float:
    """A rough estimate of the time of a run, at one point of the outer axes."""
    point = 0.0
    for step in run.steps:
        heavy = sum(isinstance(part, sc.Apply) and part.op in HEAVY for part in sc.postorder(step.node.body))
        accesses = sum(forwarded is None for forwarded in step.forwarded) + step.stored
        point += ACCESS_NS * accesses + OP_NS * scalar_ops(step.node) + HEAVY_NS * heavy
    return point * prod(run.extents[axis] for axis in (*run.kept, *run.reduced))


def choose_outer(program: Program, kernel: Kernel) -> int:
    """How many axes are scalar loops around all stages: the kernel's, or fewer where lanes then fit better."""
    nodes = [stage.node for stage in kernel.stages if isinstance(stage.node, Generic)]
    if all(node.reducer is None and node.domain == nodes[0].domain for node in nodes):
        return 0
    if kernel.outer and _cost(program, kernel, kernel.outer) > FEWER_OUTER * _cost(program, kernel, kernel.outer - 1):
        return kernel.outer - 1
    return kernel.outer


def _cost(program: Program, kernel: Kernel, outer: int) -> float:
    return sum(
        prod(ints(run.steps[0].node.domain))
        * lane_cost(run.steps, run.vector, 1 if run.vector is None else run.extents[run.vector])
        for run in split_runs(program, kernel, outer, {})
    )

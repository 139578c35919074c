"""A Generic prepared for whole-array code: variables for operands, axes cropped to the points that are visited."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from graphc.ir import scalar as sc
from graphc.ir.affine import Affine, affine, axis_row
from graphc.ir.extent import ints
from graphc.ir.node import SKIP, ZERO, Generic
from graphc_numpy.access import Read, bounds, const, is_simple, leaves_array
from graphc_numpy.code import Frame


@dataclass(frozen=True)
class Task:
    """domain: an extent for each loop axis. origin: what cropping took off each axis, from the axis's start;
    extents: the axes before that (argmax counts in them)."""

    domain: tuple[int, ...]
    origin: tuple[int, ...]
    extents: tuple[int, ...]
    out_rows: tuple[Affine, ...]
    out_shape: tuple[int, ...]
    reads: tuple[Read, ...]
    body: sc.Scalar
    reducer: str | None
    dtype: str

    @property
    def is_empty(self) -> bool:
        return 0 in self.domain

    @property
    def sizes(self) -> Mapping[int, int]:
        return dict(enumerate(self.domain))

    @property
    def kept(self) -> tuple[int, ...]:
        """The axes that the output reads, in the order of its rows."""
        return tuple(dict.fromkeys(axis for row in self.out_rows for axis, _ in row.terms))

    @property
    def reduced(self) -> tuple[int, ...]:
        kept = self.kept
        return tuple(axis for axis in range(len(self.domain)) if axis not in kept)

    @property
    def skips(self) -> tuple[Read, ...]:
        """The reads that still leave their arrays and skip the point then."""
        return tuple(read for read in self.reads if read.mode == SKIP and leaves_array(read, self.sizes))

    @property
    def writes_slices(self) -> bool:
        """Basic slicing gives the elements that are written."""
        return is_simple(self.out_rows)

    @property
    def writes_all(self) -> bool:
        """Each element is written, in the order of the kept axes."""
        return self.writes_slices and all(
            extent == (self.domain[row.terms[0][0]] if row.terms else 1) and (not row.terms or row.terms[0][1] == 1)
            for row, extent in zip(self.out_rows, self.out_shape, strict=True)
        )

    def frame(self, axes: Sequence[int]) -> Frame:
        return Frame(tuple(axes), tuple(self.domain[axis] for axis in axes))


def task_of(node: Generic, names: Sequence[str]) -> Task:
    """The task of a stage whose operands are these variables, cropped and with known bounds tests folded."""
    domain = ints(node.domain)
    reads = tuple(
        Read(name, ints(operand.shape), operand.dtype, index_map.rows, mode)
        for name, operand, index_map, mode in zip(names, node.operands, node.maps, node.modes, strict=True)
    )
    task = Task(
        domain,
        (0,) * len(domain),
        domain,
        node.out_map.rows,
        ints(node.shape),
        reads,
        node.body,
        node.reducer,
        node.dtype,
    )
    return task if task.is_empty else _settle(_fix_units(_crop(task)))


def _crop(task: Task) -> Task:
    """Leave out what is known to be skipped: rows with one axis tell which part of the axis lies inside."""
    low, high = [0] * len(task.domain), list(task.domain)
    rows = list(zip(task.out_rows, task.out_shape, strict=True))
    for read in task.reads:
        if read.mode == SKIP:
            rows.extend(zip(read.rows, read.shape, strict=True))
    for row, extent in rows:
        if len(row.terms) > 1:
            continue
        if not row.terms:
            if not 0 <= const(row) < extent:
                high = [0] * len(task.domain)
                return replace(task, domain=(0,) * max(1, len(high)))
            continue
        ((axis, c),) = row.terms
        first, last = -const(row), extent - 1 - const(row)  # first <= c * axis <= last
        if c < 0:
            first, last, c = -last, -first, -c
        low[axis] = max(low[axis], -(-first // c))
        high[axis] = min(high[axis], last // c + 1)
    domain = tuple(max(0, stop - start) for start, stop in zip(low, high, strict=True))
    if not any(low):
        return replace(task, domain=domain)
    inner = [affine({axis: 1}, start) for axis, start in enumerate(low)]
    return change(replace(task, domain=domain, origin=tuple(low)), inner)


def _fix_units(task: Task) -> Task:
    """Without a reducer an axis that the output does not read has one point: it is 0 wherever it is read."""
    if task.reducer is not None or not task.reduced or task.is_empty:
        return task
    return change(task, [affine({} if axis in task.reduced else {axis: 1}) for axis in range(len(task.domain))])


def change(task: Task, inner: Sequence[Affine]) -> Task:
    """Old axis a is the affine function inner[a] of the new axes, of which there are as many."""
    return replace(
        task,
        out_rows=tuple(row.substitute(inner) for row in task.out_rows),
        reads=tuple(replace(read, rows=tuple(row.substitute(inner) for row in read.rows)) for read in task.reads),
        body=sc.move_axes(task.body, inner, len(inner)),
    )


def _settle(task: Task) -> Task:
    """Fold the bounds tests whose answer is known."""
    if task.is_empty:
        return task
    answers: dict[sc.Scalar, sc.Scalar] = {}
    for node in sc.postorder(task.body):
        if isinstance(node, sc.InBounds):
            answer = _known(node, task.sizes)
            if answer is not None:
                answers[node] = sc.literal(answer, "bool")
    return replace(task, body=sc.substitute(task.body, answers)) if answers else task


def _known(node: sc.InBounds, domain: Mapping[int, int]) -> bool | None:
    answer: bool | None = True
    for row, extent in zip(node.map.rows, ints(node.shape), strict=True):
        low, high = bounds(row, domain)
        if high < 0 or low >= extent:
            return False
        if low < 0 or high >= extent:
            answer = None
    return answer


def scatter_form(task: Task) -> Task | None:
    """Undo the gather form of a sum: where a window read skips, loop over the array that it reads instead.

    A read row  u - p + a  that skips, with u an axis of the output, becomes the axis i; then u = i + p - a, and what
    falls outside the output is not written. No point is visited that was not visited before: the result has an output
    map with several axes in a row and no such skip. None when the task has no such form.
    """
    if task.reducer != "sum":
        return None
    changed = False
    while True:
        found = next(
            (
                (row, extent, axis)
                for read in task.skips
                for row, extent in zip(read.rows, read.shape, strict=True)
                if _leaves(row, extent, task.sizes)
                for axis in [_pivot(task, row)]
                if axis is not None
            ),
            None,
        )
        if found is None:
            break
        row, extent, pivot = found
        sign = row.coefficient(pivot)
        rest = affine({axis: c for axis, c in row.terms if axis != pivot}, const(row))
        inner = [axis_row(axis) for axis in range(len(task.domain))]
        inner[pivot] = affine({pivot: sign}).plus(rest, -sign)
        domain = tuple(extent if axis == pivot else e for axis, e in enumerate(task.domain))
        # Reads that the old bounds kept inside may leave their arrays at points that are not written: pad them.
        reads = tuple(
            replace(read, mode=ZERO) if read.mode != SKIP and pivot in read.axes else read for read in task.reads
        )
        task = change(replace(task, domain=domain, reads=reads), inner)
        changed = True
    return None if not changed or task.skips or task.is_empty else task


def _leaves(row: Affine, extent: int, domain: Mapping[int, int]) -> bool:
    low, high = bounds(row, domain)
    return low < 0 or high >= extent


def _pivot(task: Task, row: Affine) -> int | None:
    """An axis of the row, with coefficient 1 or -1, that one output row reads alone over exactly its inside."""
    for axis, coefficient in row.terms:
        if abs(coefficient) != 1:
            continue
        users = [
            (r, extent) for r, extent in zip(task.out_rows, task.out_shape, strict=True) if r.coefficient(axis)
        ]
        if len(users) != 1 or len(users[0][0].terms) != 1:
            continue
        out, extent = users[0]
        step, start = out.terms[0][1], const(out)
        if step > 0 and start - step < 0 and start + step * task.domain[axis] >= extent:
            return axis
    return None

"""Sums of products over shared axes as `@`, np.tensordot or np.einsum.

The factors of the body are gathered into two groups (more, and einsum takes over), each an array over the axes that it
reads: windows are strided views, so that a convolution becomes a matrix product with the usual table of patches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from graphc.ir import scalar as sc
from graphc_numpy.access import Read, alignment, read_at, subscript
from graphc_numpy.code import Code, Ref, shape_text
from graphc_numpy.scalars import axes_of, evaluate
from graphc_numpy.task import Task

_LEAST_BATCHED = 1 << 15  # products in one matrix product that make it worth a call of its own in a batch
_LETTERS = "ijklmnpqrstuvwxyzabcdefghoIJKLMNPQRSTUVWXYZ"


@dataclass(frozen=True)
class Factor:
    """A part of the product, and the axes that it depends on."""

    body: sc.Scalar
    axes: frozenset[int]


def contract(code: Code, task: Task) -> Ref | None:
    """The sum as a matrix product; None where it is no sum of products of two or more arrays.

    The result's axes may be in another order than the output's.
    """
    if task.reducer != "sum" or not task.reduced:
        return None
    found = _factors(task.body, task.reads)
    if found is None or len(found) < 2:
        return None
    groups = _merge(found, frozenset(task.reduced))
    if len(groups) < 2 or len(frozenset().union(*(group.axes for group in groups))) < len(task.domain):
        return None
    operands = [_Operand(code, task, group) for group in groups]
    if len(operands) > 2:
        return None if task.dtype == "bool" else _einsum(code, task, operands)
    left, right = operands
    shared = left.axes & right.axes
    summed = [axis for axis in task.reduced if axis in shared]
    batch = [axis for axis in task.kept if axis in shared]
    if len(summed) < len(task.reduced) or (batch and len(shared) in (len(left.axes), len(right.axes))):
        if task.dtype == "bool":
            return None
        both = shared == left.axes | right.axes
        if len(summed) < len(task.reduced) or both:
            return _einsum(code, task, operands)
    first = next((axis for axis in task.kept if axis not in shared), None)
    if first is not None and first in right.axes:
        left, right = right, left
    rows = [axis for axis in task.kept if axis in left.axes and axis not in shared]
    columns = [axis for axis in task.kept if axis in right.axes and axis not in shared]
    if not batch:
        if len(rows) <= 1 and len(columns) <= 1 and len(summed) == 1:
            return _matrix_product(left, right, rows, columns, summed)
        if leading := _leading(task, rows, columns, summed):
            # out[n, o, i, j] with windows over (n, i, j): one product for each n needs no transposition afterwards
            rows = [axis for axis in rows if axis not in leading]
            return _batched(task, right, left, leading, columns, rows, summed)
        return _tensordot(left, right, rows, columns, summed)
    return _batched(task, left, right, batch, rows, columns, summed)


def _factors(body: sc.Scalar, reads: Sequence[Read]) -> list[Factor] | None:
    """The body as a product; None where it is none."""
    if not isinstance(body, sc.Apply):
        return [Factor(body, axes_of(body, reads))]
    if body.op == ("and" if body.dtype == "bool" else "mul"):
        parts = [_factors(arg, reads) for arg in body.args]
        return [factor for part in parts if part is not None for factor in part]
    if body.op in ("neg", "div"):
        inner = _factors(body.args[0], reads) or []
        divisor = axes_of(body.args[1], reads) if body.op == "div" else frozenset()
        for position, factor in enumerate(inner):
            if divisor <= factor.axes:
                changed = sc.apply(body.op, factor.body, *body.args[1:])
                return [*inner[:position], Factor(changed, factor.axes), *inner[position + 1 :]]
    return [Factor(body, axes_of(body, reads))]


def _merge(factors: list[Factor], reduced: frozenset[int]) -> list[Factor]:
    """Multiply factors elementwise where that makes no array larger: those over equal axes, those that the sum does not
    touch into one that has their axes, and then, while there are more than two, any into one that has its axes."""
    groups: dict[frozenset[int], Factor] = {}
    for factor in factors:
        held = groups.get(factor.axes)
        groups[factor.axes] = _product(held, factor) if held else factor
    for axes in sorted(groups, key=lambda axes: (len(axes), sorted(axes))):
        if axes & reduced and len(groups) <= 2:
            continue
        home = min(
            (other for other in groups if axes < other), key=lambda other: (len(other), sorted(other)), default=None
        )
        if home is not None:
            groups[home] = _product(groups[home], groups.pop(axes))
    return list(groups.values())


def _product(one: Factor, two: Factor) -> Factor:
    op = "and" if one.body.dtype == "bool" else "mul"
    return Factor(sc.apply(op, one.body, two.body), one.axes | two.axes)


class _Operand:
    """A factor as an array, in whatever order of axes is asked for."""

    def __init__(self, code: Code, task: Task, factor: Factor) -> None:
        self.code, self.task, self.body, self.axes = code, task, factor.body, factor.axes
        self._value: Ref | None = None

    @property
    def natural(self) -> tuple[int, ...]:
        """The order in which memory holds the axes, as far as it is known."""
        if self._value is not None:
            return self._value.axes
        best: tuple[int, ...] = tuple(sorted(self.axes))
        for position in sorted(sc.args_of(self.body)):
            read = self.task.reads[position]
            if read.is_simple and read.axes == self.axes:
                return tuple(row.terms[0][0] for row in read.rows if row.terms)
        return best

    def aligned(self, axes: Sequence[int]) -> Ref:
        """The array with these axes in order; the ones that it does not have are None."""
        frame = self.task.frame(axes)
        if isinstance(self.body, sc.Arg):
            return read_at(self.code, self.task.reads[self.body.index], frame)
        if self._value is None:
            value = evaluate(self.code, self.body, self.task.reads, self.task.frame(self.natural))
            if value.array_shape != tuple(self.task.domain[axis] for axis in value.axes):
                shape = shape_text([self.task.domain[axis] for axis in value.axes])
                text = f"np.broadcast_to({value.text}, {shape})"
                value = replace(value, text=text, lead=0, atomic=True, in_order=False)
            self._value = value
        own = [axis for axis in axes if axis in self.axes]
        lead, items = alignment(frame, own)
        ref = self._value.permuted(own)
        extents = tuple(extent if axis in self.axes else 1 for axis, extent in zip(axes, frame.extents, strict=True))
        text = ref.operand + subscript(items)
        return replace(ref, text=text, axes=tuple(axes), shape=extents, lead=lead, atomic=True)


def _result(text: str, task: Task, axes: Sequence[int], operands: Sequence[Ref], atomic: bool = False) -> Ref:
    shape = tuple(task.domain[axis] for axis in axes)
    reads = tuple(read for ref in operands for read in ref.reads)
    return Ref(text, tuple(axes), shape, task.dtype, reads, atomic=atomic, fresh=True)


def _matrix_product(
    left: _Operand, right: _Operand, rows: Sequence[int], columns: Sequence[int], summed: Sequence[int]
) -> Ref:
    one, two = left.aligned([*rows, *summed]), right.aligned([*summed, *columns])
    return _result(f"{one.operand} @ {two.operand}", left.task, [*rows, *columns], (one, two))


def _tensordot(
    left: _Operand, right: _Operand, rows: Sequence[int], columns: Sequence[int], summed: Sequence[int]
) -> Ref:
    one, two = left.aligned(_plain(left, rows, summed)), right.aligned(_plain(right, summed, columns))
    places = [[ref.axes.index(axis) for axis in summed] for ref in (one, two)]
    axes = ", ".join(str(place[0]) if len(place) == 1 else str(place) for place in places)
    order = [*(a for a in one.axes if a in rows), *(a for a in two.axes if a in columns)]
    return _result(f"np.tensordot({one.text}, {two.text}, axes=({axes}))", left.task, order, (one, two), atomic=True)


def _plain(operand: _Operand, first: Sequence[int], second: Sequence[int]) -> tuple[int, ...]:
    """The order of memory where there is one, else the order that the product needs."""
    if isinstance(operand.body, sc.Arg) and not operand.task.reads[operand.body.index].is_simple:
        return (*first, *second)
    return operand.natural


def _leading(task: Task, rows: Sequence[int], columns: Sequence[int], summed: Sequence[int]) -> list[int]:
    """The row axes that come before all columns in the output, when a column comes before the other rows."""
    leading: list[int] = []
    for axis in task.kept:
        if axis not in rows:
            break
        leading.append(axis)
    rest = [axis for axis in rows if axis not in leading]
    if not leading or not columns or not rest:
        return []
    products = math.prod(task.domain[axis] for axis in (*rest, *columns, *summed))
    return leading if products >= _LEAST_BATCHED else []


def _batched(
    task: Task,
    left: _Operand,
    right: _Operand,
    batch: Sequence[int],
    rows: Sequence[int],
    columns: Sequence[int],
    summed: Sequence[int],
) -> Ref:
    """np.matmul over leading axes; several row, column or summed axes are reshaped to one."""
    one, two = left.aligned([*batch, *rows, *summed]), right.aligned([*batch, *summed, *columns])
    texts = [
        _flattened(task, one, len(batch), (rows, summed)),
        _flattened(task, two, len(batch), (summed, columns)),
    ]
    if len(batch) > 1 and not (one.in_order and two.in_order):
        text, atomic = f'np.matmul({texts[0]}, {texts[1]}, order="C")', True
    else:
        text, atomic = f"{texts[0]} @ {texts[1]}", False
    if len(rows) != 1 or len(columns) != 1:
        shape = [task.domain[axis] for axis in (*batch, *rows, *columns)]
        text, atomic = f"{text if atomic else f'({text})'}.reshape({', '.join(map(str, shape))})", True
    return _result(text, task, [*batch, *rows, *columns], (one, two), atomic)


def _flattened(task: Task, ref: Ref, batch: int, sides: Sequence[Sequence[int]]) -> str:
    if all(len(side) == 1 for side in sides):
        return ref.operand
    lead = min(ref.lead, batch)
    shape = [*ref.shape[lead:batch], *(math.prod(task.domain[axis] for axis in side) for side in sides)]
    return f"{ref.operand}.reshape({', '.join(map(str, shape))})"


def _einsum(code: Code, task: Task, operands: Sequence[_Operand]) -> Ref:
    refs = [operand.aligned(operand.natural) for operand in operands]
    letters = dict(zip((*task.kept, *task.reduced), _LETTERS, strict=False))
    terms = ",".join("".join(letters[axis] for axis in ref.axes) for ref in refs)
    out = "".join(letters[axis] for axis in task.kept)
    texts = ", ".join(ref.text for ref in refs)
    optimize = ", optimize=True" if len(refs) > 2 else ""
    text = f'np.einsum("{terms}->{out}", {texts}{optimize})'
    if len(task.kept) > 1:
        text = f"np.ascontiguousarray({text})"
    return _result(text, task, task.kept, refs, atomic=True)

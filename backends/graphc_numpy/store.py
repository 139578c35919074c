"""Stages as lines: the value of each, and where it goes."""

from __future__ import annotations

from dataclasses import replace

from graphc_numpy.access import Read, const, leaves_array, slice_text, strided_text, subscript
from graphc_numpy.code import Code, Ref, shape_text
from graphc_numpy.literals import dtype_text, identity
from graphc_numpy.scatter import index_arrays, scatter
from graphc_numpy.task import Task
from graphc_numpy.values import value


def define(code: Code, task: Task, target: str) -> None:
    """A stage that alone writes its buffer: `target` becomes the whole array."""
    code.stem = target
    if task.is_empty:
        return fill(code, task, target)
    if not task.writes_slices and task.reducer == "sum":
        scatter(code, task, value, target)
        return None
    if not task.writes_all:
        fill(code, task, target)
        return write(code, task, target)
    has_ones = any(not row.terms for row in task.out_rows)
    ref = value(code, task, None if has_ones else target)
    memory = (task.out_shape, task.dtype)
    if ref.text == target:
        assert code.arrays[target] == memory
        return None
    extents = tuple(task.domain[axis] for axis in ref.axes)
    if ref.literal or ref.array_shape != extents:  # the same for all points of some axis
        text = f"np.full({shape_text(task.out_shape)}, {_stored(ref, task)}, {dtype_text(task.dtype)})"
        code.assign(text, ref.reads, memory, target)
        return None
    ordered = ref.permuted(task.kept)
    text = ordered.text if ordered.fresh else f"{ordered.operand}.copy()"
    if has_ones:
        shape = ", ".join(map(str, task.out_shape))
        text = f"{ordered.operand}.reshape({shape})" + ("" if ordered.fresh else ".copy()")
    if ordered.fresh and ref.text in code.arrays:
        code.assign(text, ref.reads, memory, target, view_of=ref.text)
    else:
        code.assign(text, ref.reads, memory, target)
    return None


def fill(code: Code, task: Task, target: str) -> None:
    """`target` as a new array that holds what an element holds that no point writes."""
    rest = identity(task.reducer, task.body.dtype)
    shape, dtype = shape_text(task.out_shape), dtype_text(task.dtype)
    made = f"np.zeros({shape}, {dtype})" if rest in ("0", "False") else f"np.full({shape}, {rest}, {dtype})"
    code.assign(made, (), (task.out_shape, task.dtype), target)


def write(code: Code, task: Task, target: str) -> None:
    """A stage that writes a part of an array that exists and holds 0 (or the identity) there."""
    if task.is_empty:
        return None
    code.stem = target
    if not task.writes_slices and task.reducer == "sum":
        total = scatter(code, task, value)
        code.statement(f"{target} += {total}", (target, total))
        return None
    ref = value(code, task)
    if task.writes_slices:
        index = _slices(task)
        code.statement(f"{target}[{index}] = {_stored(ref, task, is_sliced=True)}", (target, *ref.reads))
        return None
    ref = ref.permuted(task.kept)
    where = Read(target, task.out_shape, task.dtype, task.out_rows, "inside")
    frame = task.frame(task.kept)
    if not leaves_array(where, task.sizes):
        view = strided_text(code, target, task.out_shape, task.out_rows, frame)
        code.statement(f"{view}[...] = {ref.text}", (target, *ref.reads))
        return None
    indices, mask, reads = index_arrays(code, task, task.kept)
    values = f"np.broadcast_to({ref.text}, {shape_text(frame.extents)}){mask}"
    code.statement(f"{target}[{indices}] = {values}", (target, *ref.reads, *reads))
    return None


def _slices(task: Task) -> str:
    items = [
        slice_text(const(row), row.terms[0][1], task.domain[row.terms[0][0]], extent) if row.terms else str(const(row))
        for row, extent in zip(task.out_rows, task.out_shape, strict=True)
    ]
    return subscript(items)[1:-1] or "..."


def _stored(ref: Ref, task: Task, is_sliced: bool = False) -> str:
    """The value as it broadcasts to the output (or to the slice of it that is written)."""
    ref = ref.permuted(task.kept)
    if is_sliced or all(row.terms for row in task.out_rows) or not ref.array_shape:
        return ref.text
    items = [":" if row.terms else "None" for row in task.out_rows]
    full = replace(ref, text=ref.operand + (f"[{'None, ' * ref.lead}...]" if ref.lead else ""), lead=0, atomic=True)
    return full.text + subscript(items)

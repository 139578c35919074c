"""Sums that scatter, and other loops over small axes: slices added to slices.

    for p in range(3):
        y[:, :, p:p + 8] += part[p]

A row with several axes, such as  2*i + p,  is a slice along its longest axis once the others are fixed; those become
loops in Python. What falls outside the output lands in padding that is cut off at the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from graphc.ir.affine import Affine, affine, axis_name, axis_row
from graphc_numpy.access import bounds, const, inside, row_ref
from graphc_numpy.code import Code, Ref, shape_text, transposition
from graphc_numpy.literals import dtype_text
from graphc_numpy.task import Task

_MOST_STEPS = 4096  # iterations of Python loops in one scatter; beyond, np.add.at
_MOST_PADDING = 8

Value = Callable[[Code, Task], Ref]


def scatter(code: Code, task: Task, value: Value, target: str | None = None) -> str:
    """The variable (`target`, or a new one) that holds the sum, of the output's shape."""
    ranges = [bounds(row, task.sizes) for row in task.out_rows]
    before = [max(0, -low) for low, _ in ranges]
    after = [max(0, high - extent + 1) for (_, high), extent in zip(ranges, task.out_shape, strict=True)]
    shape = tuple(b + e + a for b, e, a in zip(before, task.out_shape, after, strict=True))
    loops = _loops(task)
    steps = math.prod(task.domain[axis] for axis in loops)
    points = math.prod(task.domain[axis] for axis in task.kept)
    if steps > _MOST_STEPS or math.prod(shape) > _MOST_PADDING * (math.prod(task.out_shape) + points) + 4096:
        return _add_at(code, task, value, target)
    memory = (shape, task.dtype)
    is_padded = shape != task.out_shape
    total = code.fresh_name(f"{code.stem}_sum") if is_padded else target or code.fresh_name(f"{code.stem}_sum")
    inner = [axis for row in task.out_rows for axis, _ in row.terms if axis not in loops]
    part = _part(code, task, [*loops, *inner], value)
    code.assign(f"np.zeros({shape_text(shape)}, {dtype_text(task.dtype)})", (), memory, total)
    rows = [affine(dict(row.terms), const(row) + b) for row, b in zip(task.out_rows, before, strict=True)]
    names = {axis: code.fresh_name(axis_name(axis)) for axis in loops}
    lines = loop_lines(task, names)
    index = tap_index(rows, shape, task.domain, names)
    lines.append(f"{'    ' * len(loops)}{total}[{index}] += {_part_text(part, names, inner)}")
    code.statement("\n".join(lines), (total, *part.reads))
    if not is_padded:
        return total
    cut = ", ".join(
        f"{b}:{b + e}" if b or a else ":" for b, e, a in zip(before, task.out_shape, after, strict=True)
    )
    return code.assign(f"{total}[{cut}].copy()", (total,), (task.out_shape, task.dtype), target)


def _loops(task: Task) -> list[int]:
    """The axes to loop over so that each row has one axis at most, and each axis one row."""
    loops: list[int] = []
    taken: set[int] = set()
    for row in task.out_rows:
        axes = [axis for axis, _ in row.terms if axis not in loops]
        free = [axis for axis in axes if axis not in taken]
        main = max(free, key=lambda axis: (task.domain[axis], -axis), default=None)
        loops.extend(axis for axis in axes if axis != main)
        if main is not None:
            taken.add(main)
    # an axis that became a loop after it was the slice of an earlier row is fixed in both
    return sorted(set(loops))


def _part(code: Code, task: Task, order: Sequence[int], value: Value) -> Ref:
    """The values to add, over the loop axes and the axes of the slices."""
    rows = tuple(axis_row(axis) for axis in order)
    part = value(code, replace(task, out_rows=rows, out_shape=tuple(task.domain[axis] for axis in order)))
    if part.literal or (part.fresh and part.text in code.arrays):
        return part
    return code.bind(part)


def _part_text(part: Ref, names: Mapping[int, str], inner: Sequence[int]) -> str:
    """The part at one step of the loops, its axes in the order of the output's rows."""
    items: list[str] = []
    left: list[int] = []
    for position, axis in enumerate(part.axes):
        if axis not in names:
            left.append(axis)
        if position < part.lead:
            continue
        items.append(":" if axis not in names else names[axis] if part.shape[position] > 1 else "0")
    while items and items[-1] == ":":
        items.pop()
    text = part.operand + (f"[{', '.join(items)}]" if items else "")
    lead = sum(axis not in names for axis in part.axes[: part.lead])
    wanted = [axis for axis in inner if axis not in names]
    order = [left.index(axis) for axis in wanted]
    moved = transposition(order)
    if moved and lead:
        text += f"[{'None, ' * lead}...]"
    return text + moved


def loop_lines(task: Task, names: Mapping[int, str]) -> list[str]:
    """The heads of nested loops over these axes."""
    return [f"{'    ' * depth}for {name} in range({task.domain[a]}):" for depth, (a, name) in enumerate(names.items())]


def tap_index(
    rows: Sequence[Affine], shape: Sequence[int], domain: Sequence[int], names: Mapping[int, str]
) -> str:
    """The index of an array at these rows inside loops over `names`: a slice where a row has an axis left."""
    items = [_tap(row, extent, domain, names) for row, extent in zip(rows, shape, strict=True)]
    return ", ".join(items) or "..."


def _tap(row: Affine, extent: int, domain: Sequence[int], names: Mapping[int, str]) -> str:
    terms = [(axis, c) for axis, c in row.terms if axis in names]
    rest = [(axis, c) for axis, c in row.terms if axis not in names]
    if not rest:
        return _sum_text(terms, const(row), names)
    ((axis, step),) = rest
    count = domain[axis]
    if not terms and const(row) == 0 and step == 1 and count == extent:
        return ":"
    span = step * (count - 1)
    low, high = const(row) + min(span, 0), const(row) + max(span, 0) + 1
    # A falling slice is written as a rising one that is reversed by its step: its last index may be -1.
    if step < 0:
        first, last = _sum_text(terms, high - 1, names), _sum_text(terms, low - 1, names)
        end = f"{last} if {last} >= 0 else None" if terms else (last if low > 0 else "None")
        return f"slice({first}, {end}, {step})"
    text = f"{_sum_text(terms, low, names)}:{_sum_text(terms, high, names)}"
    return text + (f":{step}" if step != 1 else "")


def _sum_text(terms: Sequence[tuple[int, int]], start: int, names: Mapping[int, str]) -> str:
    row = affine(dict(terms), start)
    return row.text([names.get(axis, "") for axis in range(1 + max((axis for axis, _ in terms), default=0))])


def _add_at(code: Code, task: Task, value: Value, target: str | None) -> str:
    """Element by element, through index arrays."""
    kept = tuple(sorted(task.kept))
    frame = task.frame(kept)
    part = _part(code, task, kept, value).permuted(kept)
    memory = (task.out_shape, task.dtype)
    total = code.assign(f"np.zeros({shape_text(task.out_shape)}, {dtype_text(task.dtype)})", (), memory, target)
    indices, mask, reads = index_arrays(code, task, frame.axes)
    shape = shape_text(frame.extents)
    values = f"np.broadcast_to({part.text}, {shape}){mask}"
    code.statement(f"np.add.at({total}, {indices}, {values})", (total, *part.reads, *reads))
    return total


def index_arrays(code: Code, task: Task, axes: Sequence[int]) -> tuple[str, str, tuple[str, ...]]:
    """The positions that are written as a tuple of index arrays, the mask to put on values, and what both read."""
    frame = task.frame(axes)
    shape = shape_text(frame.extents)
    mask = inside(code, task.out_rows, task.out_shape, frame)
    rows = [row_ref(row, frame).text for row in task.out_rows]
    if isinstance(mask, bool):  # False cannot be: cropping leaves no such axis
        return f"({', '.join(rows)},)", "", ()
    chosen = f"[np.broadcast_to({mask.text}, {shape})]"
    return f"({', '.join(f'np.broadcast_to({row}, {shape}){chosen}' for row in rows)},)", chosen, mask.reads

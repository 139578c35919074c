"""Reads: an array at an affine map, as a view aligned with loop axes wherever one exists.

An affine map over a contiguous array is always a strided view; what lies outside is padded first. Only where padding
would be much larger than the array, elements are gathered by index arrays.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from graphc.ir.affine import Affine, affine
from graphc_numpy.code import Code, Frame, Ref, shape_text, transposition
from graphc_numpy.literals import dtype_text

_MOST_PADDING = 8  # times the elements of the array and of the loop: beyond this, gather by index


@dataclass(frozen=True)
class Read:
    """One operand of a Generic: a variable, its shape, the map's rows and the mode."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    rows: tuple[Affine, ...]
    mode: str

    @property
    def axes(self) -> frozenset[int]:
        return frozenset(axis for row in self.rows for axis, _ in row.terms)

    @property
    def is_simple(self) -> bool:
        """Basic slicing and a transposition give this read."""
        return is_simple(self.rows)


def is_simple(rows: Sequence[Affine]) -> bool:
    """At most one axis in each row, and each axis in one row."""
    axes = [axis for row in rows for axis, _ in row.terms]
    return all(len(row.terms) <= 1 for row in rows) and len(set(axes)) == len(axes)


def const(row: Affine) -> int:
    assert isinstance(row.const, int)
    return row.const


def bounds(row: Affine, domain: Mapping[int, int]) -> tuple[int, int]:
    """Least and greatest value over a domain that is not empty."""
    low = high = const(row)
    for axis, coefficient in row.terms:
        span = coefficient * (domain[axis] - 1)
        low, high = low + min(span, 0), high + max(span, 0)
    return low, high


def leaves_array(read: Read, domain: Mapping[int, int]) -> bool:
    """Some point of the domain is read outside the array."""
    for row, extent in zip(read.rows, read.shape, strict=True):
        low, high = bounds(row, domain)
        if low < 0 or high >= extent:
            return True
    return False


def read_at(code: Code, read: Read, frame: Frame, fill: str = "0") -> Ref:
    """The read as an expression; outside the array it is `fill`."""
    domain = dict(zip(frame.axes, frame.extents, strict=True))
    if leaves_array(read, domain):
        before, after = _margins(read, domain)
        size = math.prod(b + e + a for b, e, a in zip(before, read.shape, after, strict=True))
        if size > _MOST_PADDING * (math.prod(read.shape) + math.prod(frame.extents)) + 4096:
            return _gather(code, read, frame, fill)
        read = padded(code, read, domain, fill)
    if read.is_simple:
        return _slice(read, frame)
    return _strided(code, read, frame)


def _margins(read: Read, domain: Mapping[int, int]) -> tuple[list[int], list[int]]:
    """How far the read goes beyond the start and the end of each axis."""
    ranges = [bounds(row, domain) for row in read.rows]
    before = [max(0, -low) for low, _ in ranges]
    after = [max(0, high - extent + 1) for (_, high), extent in zip(ranges, read.shape, strict=True)]
    return before, after


def padded(code: Code, read: Read, domain: Mapping[int, int], fill: str) -> Read:
    """The same read of a copy of the array that has `fill` all around it, as far as the read goes."""
    before, after = _margins(read, domain)
    shape = tuple(b + e + a for b, e, a in zip(before, read.shape, after, strict=True))
    rows = tuple(affine(dict(row.terms), const(row) + b) for row, b in zip(read.rows, before, strict=True))
    key = (read.name, tuple(before), shape, fill)
    found = code.cache.get(key)
    if found is None:
        made = f"np.zeros({shape_text(shape)}, {dtype_text(read.dtype)})"
        if fill != "0":
            made = f"np.full({shape_text(shape)}, {fill}, {dtype_text(read.dtype)})"
        name = code.assign(made, (), (shape, read.dtype), code.fresh_name(f"{read.name}_padded"))
        inner = ", ".join(
            ":" if b == 0 and a == 0 else f"{b or ''}:{b + e}"
            for b, e, a in zip(before, read.shape, after, strict=True)
        )
        code.statement(f"{name}[{inner}] = {read.name}", (name, read.name))
        found = code.cache[key] = Ref(name, (), (), read.dtype, (name,))
    return Read(found.text, shape, read.dtype, rows, "inside")


def alignment(frame: Frame, present: Sequence[int]) -> tuple[int, list[str]]:
    """How many leading axes are absent, and for the rest ":" where the array has the axis, else "None"."""
    lead = 0
    while lead < len(frame.axes) and frame.axes[lead] not in present:
        lead += 1
    return lead, [":" if axis in present else "None" for axis in frame.axes[lead:]]


def subscript(items: Sequence[str]) -> str:
    """An index without the colons at its end; nothing when nothing is left."""
    items = list(items)
    while items and items[-1] == ":":
        items.pop()
    return f"[{', '.join(items)}]" if items else ""


def slice_text(start: int, step: int, count: int, extent: int) -> str:
    """The slice of an axis of `extent` that holds `count` elements from `start`.

    >>> slice_text(0, 1, 8, 8), slice_text(1, 2, 3, 7), slice_text(7, -1, 8, 8), slice_text(2, 1, 1, 4)
    (':', '1::2', '::-1', '2:3')
    """
    stop = start + step * (count - 1) + (1 if step > 0 else -1)
    if step > 0:
        first = str(start) if start else ""
        last = str(stop) if start + step * count < extent else ""
        return f"{first}:{last}" + (f":{step}" if step != 1 else "")
    first = str(start) if start != extent - 1 else ""
    last = str(stop) if start + step * count >= 0 else ""
    return f"{first}:{last}:{step}"


def _slice(read: Read, frame: Frame) -> Ref:
    items: list[str] = []
    order: list[int] = []
    plain = True
    for row, extent in zip(read.rows, read.shape, strict=True):
        if not row.terms:
            items.append(str(const(row)))
            continue
        ((axis, coefficient),) = row.terms
        order.append(axis)
        items.append(slice_text(const(row), coefficient, frame.extent(axis), extent))
        plain = plain and coefficient > 0
    lead, aligned = alignment(frame, order)
    wanted = [axis for axis in frame.axes if axis in order]
    shape = tuple(frame.extent(axis) if axis in order else 1 for axis in frame.axes)
    if order == wanted:
        kept = iter(item for item, row in zip(items, read.rows, strict=True) if row.terms)
        if len(order) == len(read.rows):
            merged = [next(kept) if item == ":" else item for item in aligned]
            text = read.name + subscript(merged)
        elif "None" in aligned:
            text = read.name + subscript(items) + subscript(aligned)
        else:
            text = read.name + subscript(items)
    else:
        text = read.name + subscript(items) + transposition([order.index(axis) for axis in wanted]) + subscript(aligned)
        # an axis of one element has no order
        plain = plain and _same_order(order, wanted, frame)
    return Ref(text, frame.axes, shape, read.dtype, (read.name,), lead, plain)


def _same_order(order: Sequence[int], wanted: Sequence[int], frame: Frame) -> bool:
    return [a for a in order if frame.extent(a) > 1] == [a for a in wanted if frame.extent(a) > 1]


def strides(shape: Sequence[int]) -> list[int]:
    """Row-major strides, in elements."""
    result: list[int] = []
    step = 1
    for extent in reversed(shape):
        result.append(step)
        step *= extent
    return result[::-1]


def linear(rows: Sequence[Affine], shape: Sequence[int]) -> Affine:
    """The position in a contiguous array as one affine row."""
    total = Affine((), 0)
    for row, stride in zip(rows, strides(shape), strict=True):
        total = total.plus(row, stride)
    return total


def strided_text(code: Code, name: str, shape: Sequence[int], rows: Sequence[Affine], frame: Frame) -> str:
    """A call of the helper `strided`: the array at these rows, over all axes of the frame."""
    row = linear(rows, shape)
    steps = [row.coefficient(axis) for axis in frame.axes]
    return f"{code.helper('strided')}({name}, {const(row)}, {shape_text(frame.extents)}, {shape_text(steps)})"


def _strided(code: Code, read: Read, frame: Frame) -> Ref:
    key = ("view", read.name, read.rows, frame)
    if key in code.cache:
        return code.cache[key]
    present = [axis for axis in frame.axes if axis in read.axes]
    lead, aligned = alignment(frame, present)
    inner = Frame(tuple(present), tuple(frame.extent(axis) for axis in present))
    text = strided_text(code, read.name, read.shape, read.rows, inner) + subscript(aligned)
    shape = tuple(frame.extent(axis) if axis in present else 1 for axis in frame.axes)
    row = linear(read.rows, read.shape)
    steps = [row.coefficient(axis) for axis in present if frame.extent(axis) > 1]
    in_order = all(step > 0 for step in steps) and steps == sorted(steps, reverse=True)
    name = code.assign(text, (read.name,), (shape[lead:], read.dtype), code.fresh_name(f"{read.name}_view"), read.name)
    result = code.cache[key] = Ref(name, frame.axes, shape, read.dtype, (name,), lead, in_order)
    return result


def row_ref(row: Affine, frame: Frame) -> Ref:
    """The value of an affine row at each point, as an int64 array or a number."""
    parts: list[str] = []
    offset = const(row)
    lead = len(frame.axes)
    shape = [1] * len(frame.axes)
    for position, (axis, coefficient) in enumerate(sorted(row.terms, key=lambda term: frame.axes.index(term[0]))):
        place = frame.axes.index(axis)
        extent = shape[place] = frame.extents[place]
        lead = min(lead, place)
        if position == 0:  # the constant goes into the first term
            stop = offset + coefficient * extent
            arguments = [str(stop)]
            if offset or coefficient != 1:
                arguments = [str(offset), str(stop)] + ([str(coefficient)] if coefficient != 1 else [])
        else:
            arguments = [str(coefficient * extent)]
            if coefficient != 1:
                arguments = ["0", str(coefficient * extent), str(coefficient)]
        after = len(frame.axes) - 1 - place
        parts.append(f"np.arange({', '.join(arguments)})" + (f"[:{', None' * after}]" if after else ""))
    if not parts:
        text = str(offset)
        return Ref(text, frame.axes, tuple(shape), "int64", (), lead, atomic=not text.startswith("-"), literal=True)
    return Ref(" + ".join(parts), frame.axes, tuple(shape), "int64", (), lead, atomic=len(parts) == 1)


def inside(code: Code, rows: Sequence[Affine], shape: Sequence[int], frame: Frame) -> Ref | bool:
    """Whether the rows lie inside an array of `shape`, at each point; True or False where that is known."""
    domain = dict(zip(frame.axes, frame.extents, strict=True))
    tests: list[str] = []
    refs: list[Ref] = []
    for row, extent in zip(rows, shape, strict=True):
        low, high = bounds(row, domain)
        if high < 0 or low >= extent:
            return False
        if low >= 0 and high < extent:
            continue
        ref = row_ref(row, frame)
        if low < 0:
            tests.append(f"({ref.operand} >= 0)")
            refs.append(ref)
        if high >= extent:
            tests.append(f"({ref.operand} < {extent})")
            refs.append(ref)
    if not tests:
        return True
    text = " & ".join(tests) if len(tests) > 1 else tests[0][1:-1]
    key = ("inside", text, frame)
    found = code.cache.get(key)
    if found is None:
        lead = min(ref.lead for ref in refs)
        out = tuple(max(extents) for extents in zip(*(ref.shape for ref in refs), strict=True))
        name = code.assign(text, (), (out[lead:], "bool"), code.fresh_name("inside"))
        found = code.cache[key] = Ref(name, frame.axes, out, "bool", (name,), lead)
    return found


def _gather(code: Code, read: Read, frame: Frame, fill: str) -> Ref:
    """Index arrays, held inside the array, and a mask for what is outside."""
    full = tuple(frame.extent(axis) if axis in read.axes else 1 for axis in frame.axes)
    if math.prod(read.shape) == 0 or (mask := inside(code, read.rows, read.shape, frame)) is False:
        name = code.assign(f"np.full({shape_text(full)}, {fill}, {dtype_text(read.dtype)})", (), (full, read.dtype))
        return Ref(name, frame.axes, full, read.dtype, (name,))
    domain = dict(zip(frame.axes, frame.extents, strict=True))
    indices: list[str] = []
    for row, extent in zip(read.rows, read.shape, strict=True):
        low, high = bounds(row, domain)
        ref = row_ref(row, frame)
        indices.append(ref.text if low >= 0 and high < extent else f"np.clip({ref.text}, 0, {extent - 1})")
    lead, _ = alignment(frame, sorted(read.axes))
    taken = f"{read.name}[{', '.join(indices)}]"
    reads: tuple[str, ...] = (read.name,)
    if isinstance(mask, Ref):
        taken, reads = f"np.where({mask.text}, {taken}, {fill})", (read.name, *mask.reads)
    memory = (full[lead:], read.dtype)
    name = code.assign(taken, reads, memory)
    return Ref(name, frame.axes, full, read.dtype, (name,), lead)

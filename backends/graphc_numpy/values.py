"""The value of a Generic over the axes that its output reads: maps, reductions, windows, masks for skipped points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from graphc.ir import scalar as sc
from graphc.ir.affine import axis_name, axis_row
from graphc.ir.node import SKIP
from graphc_numpy.access import Read, inside, leaves_array, padded, strides
from graphc_numpy.code import Code, Frame, Ref, shape_text
from graphc_numpy.contract import contract
from graphc_numpy.literals import dtype_text, identity
from graphc_numpy.scalars import evaluate, spans, where
from graphc_numpy.scatter import loop_lines, scatter, tap_index
from graphc_numpy.task import Task, scatter_form

_COMBINE = {"sum": "np.add", "prod": "np.multiply", "max": "np.maximum", "min": "np.minimum"}
_MOST_TAPS = 128  # points of a window that are visited by a loop in Python


def value(code: Code, task: Task, target: str | None = None) -> Ref:
    """The value at each point of the kept axes, in some order of these; the last line may define `target`."""
    if task.reducer is None or (task.reducer != "argmax" and task.reducer != "argmin" and not task.reduced):
        return _mapped(code, task, target)
    task = _before_windows(code, task)
    if task.skips:
        found = _scattered(code, task, target)
        if found is not None:
            return found
    else:
        product = contract(code, task)
        if product is not None:
            return product
    taps = _window_taps(task)
    if taps:
        return _window_loop(code, task, taps, target)
    if task.reducer in ("argmax", "argmin"):
        return _first_extreme(code, task)
    return _reduced(code, task)


def _mapped(code: Code, task: Task, target: str | None) -> Ref:
    frame = task.frame(task.kept)
    mask = _visited(code, task.skips, frame)
    if mask is True:
        return evaluate(code, task.body, task.reads, frame, target)
    return _masked(code, task, frame, mask, target)


def _masked(code: Code, task: Task, frame: Frame, mask: Ref | bool, target: str | None = None) -> Ref:
    """The body where points are visited, the reducer's identity elsewhere."""
    extreme = {"argmax": "max", "argmin": "min"}.get(task.reducer or "", task.reducer)
    rest = _number(identity(extreme, task.body.dtype), task.body.dtype, frame)
    if mask is False:
        return replace(rest, text=_typed(rest), atomic=True)
    body = evaluate(code, task.body, task.reads, frame)
    if mask is True:
        return body
    assert isinstance(mask, Ref)
    if body.literal:
        body = replace(body, text=_typed(body), atomic=True)
    return where(code, mask, body, rest, target if spans([mask, body], frame) else None)


def _number(text: str, dtype: str, frame: Frame) -> Ref:
    rank = len(frame.axes)
    return Ref(text, frame.axes, (1,) * rank, dtype, (), rank, atomic=not text.startswith("-"), literal=True)


def _typed(ref: Ref) -> str:
    """A number with its dtype."""
    return ref.text if ref.dtype == "bool" else f"np.{ref.dtype}({ref.text})"


def _visited(code: Code, skips: Sequence[Read], frame: Frame) -> Ref | bool:
    """Where every read that skips is inside."""
    result: Ref | bool = True
    for read in skips:
        mask = inside(code, read.rows, read.shape, frame)
        if mask is False or result is False:
            return False
        if isinstance(mask, Ref):
            result = code.ufunc("np.logical_and", "&", [result, mask], "bool") if isinstance(result, Ref) else mask
    return result


def _scattered(code: Code, task: Task, target: str | None) -> Ref | None:
    """A sum whose window reads skip, as slices added to slices; see `scatter_form`."""
    rank = len(task.domain)
    compact = replace(
        task, out_rows=tuple(axis_row(axis) for axis in task.kept), out_shape=tuple(task.domain[a] for a in task.kept)
    )
    form = scatter_form(compact)
    if form is None or len(form.domain) != rank:
        return None
    name = scatter(code, form, value, target)
    return Ref(name, task.kept, compact.out_shape, task.dtype, (name,), fresh=True)


# --- Windows --------------------------------------------------------------------------------------------------------


def _before_windows(code: Code, task: Task) -> Task:
    """A body over one window read is computed once for each element of the array, before the windows are taken."""
    if len(task.reads) != 1 or isinstance(task.body, sc.Arg) or task.reads[0].is_simple or task.skips:
        return task
    (read,) = task.reads
    if sc.args_of(task.body) != {0} or sc.axes_of(task.body):
        return task
    if leaves_array(read, task.sizes):
        read = padded(code, read, task.sizes, "0")
    if math.prod(read.shape) > math.prod(task.domain):
        return task
    key = ("elements", task.body, read.name)
    found = code.cache.get(key)
    if found is None:
        frame = Frame(tuple(range(len(read.shape))), read.shape)
        plain = replace(read, rows=tuple(axis_row(axis) for axis in frame.axes))
        found = code.cache[key] = evaluate(code, task.body, (plain,), frame)
    changed = Read(found.text, read.shape, task.body.dtype, read.rows, "inside")
    return replace(task, reads=(changed,), body=sc.Arg(0, task.body.dtype))


def _window_taps(task: Task) -> tuple[int, ...]:
    """The axes of a small window, when the body is one read whose rows hold all reduced axes beside others."""
    if not isinstance(task.body, sc.Arg) or task.reducer in ("argmax", "argmin") or len(task.reads) != 1:
        return ()
    if task.dtype == "bool":
        return ()
    (read,) = task.reads
    shared = {axis for row in read.rows if len(row.terms) > 1 for axis, _ in row.terms}
    taps = task.reduced
    rest = [axis for row in read.rows for axis, _ in row.terms if axis not in taps]
    if not set(taps) <= shared or len(set(rest)) != len(rest) or set(rest) != set(task.kept):
        return ()
    one_each = all(sum(axis not in taps for axis, _ in row.terms) <= 1 for row in read.rows)
    return taps if one_each and math.prod(task.domain[axis] for axis in taps) <= _MOST_TAPS else ()


def _window_loop(code: Code, task: Task, taps: Sequence[int], target: str | None) -> Ref:
    """Combine the slices of a window one after another: out = max(out, x[..., p::s, q::s]) for all p, q."""
    (read,) = task.reads
    assert task.reducer is not None
    first = identity(task.reducer, task.dtype)
    if leaves_array(read, task.sizes):  # skipped: the identity changes nothing; else a 0 takes part
        read = padded(code, read, task.sizes, first if read.mode == SKIP else "0")
    kept = task.kept
    shape = tuple(task.domain[axis] for axis in kept)
    made = f"np.full({shape_text(shape)}, {first}, {dtype_text(task.dtype)})"
    out = code.assign(made, (), (shape, task.dtype), target)
    names = {axis: code.fresh_name(axis_name(axis)) for axis in taps}
    lines = loop_lines(task, names)
    index = tap_index(read.rows, read.shape, task.domain, names)
    order = [axis for row in read.rows for axis, _ in row.terms if axis in kept]
    tap = Ref(f"{read.name}[{index}]", tuple(order), tuple(task.domain[a] for a in order), task.dtype)
    lines.append(f"{'    ' * len(taps)}{_COMBINE[task.reducer]}({out}, {tap.permuted(kept).text}, out={out})")
    code.statement("\n".join(lines), (out, read.name))
    return Ref(out, kept, shape, task.dtype, (out,), fresh=True)


# --- Reductions -----------------------------------------------------------------------------------------------------


def _natural(task: Task) -> tuple[int, ...]:
    """An order of all axes in which some read is stored; the domain's order when none has all."""
    for read in task.reads:
        if read.is_simple and len(read.axes) == len(task.domain):
            return tuple(row.terms[0][0] for row in read.rows if row.terms)
    return tuple(range(len(task.domain)))


def _whole(ref: Ref, frame: Frame, axes: Sequence[int]) -> Ref:
    """The value with its full extent along these axes, which a reduction counts."""
    places = [position for position, axis in enumerate(frame.axes) if axis in axes]
    if all(ref.shape[p] == frame.extents[p] and p >= ref.lead for p in places):
        return ref
    one = _typed(ref) if ref.literal else ref.text
    text = f"np.broadcast_to({one}, {shape_text(frame.extents)})"
    return replace(ref, text=text, shape=frame.extents, lead=0, in_order=False, atomic=True, literal=False, fresh=False)


def _over(ref: Ref, axes: Sequence[int]) -> str:
    """The axis argument; nothing when all axes go."""
    places = sorted(ref.axes.index(axis) - ref.lead for axis in axes)
    if len(places) == len(ref.array_shape):
        return ""
    return f"axis={places[0]}" if len(places) == 1 else f"axis={shape_text(places)}"


def _call(ref: Ref, method: str, axes: Sequence[int], *more: str) -> str:
    """The call of a method that reduces some axes (a method takes half the time of the function of its name)."""
    return f"{ref.operand}.{method}({', '.join(part for part in (_over(ref, axes), *more) if part)})"


def _reduced(code: Code, task: Task) -> Ref:
    frame = task.frame(_natural(task))
    mask = _visited(code, task.skips, frame)
    ref = _whole(_masked(code, task, frame, mask), frame, task.reduced)
    assert task.reducer is not None
    method = task.reducer
    dtype = f"dtype=np.{task.dtype}" if task.dtype in ("int32", "uint32") and task.reducer in ("sum", "prod") else ""
    if task.dtype == "bool":
        method = "any" if task.reducer in ("sum", "max") else "all"
    text = _call(ref, method, task.reduced, dtype)
    return _rest(text, ref, task, ref.in_order)


def _rest(text: str, ref: Ref, task: Task, in_order: bool) -> Ref:
    """What a reduction leaves, over the axes that stay."""
    stay = [(axis, e) for axis, e in zip(ref.axes, ref.shape, strict=True) if axis not in task.reduced]
    lead = sum(axis not in task.reduced for axis in ref.axes[: ref.lead])
    axes, shape = tuple(axis for axis, _ in stay), tuple(extent for _, extent in stay)
    if not in_order and len(shape[lead:]) > 1:
        text = f"np.ascontiguousarray({text})"
    return Ref(text, axes, shape, task.dtype, ref.reads, lead, fresh=True)


def _first_extreme(code: Code, task: Task) -> Ref:
    """argmax, argmin: the first extreme in row-major order of the reduced axes; -1 where nothing was visited."""
    assert task.reducer is not None
    frame = task.frame(_natural(task))
    mask = _visited(code, task.skips, frame)
    ref = _whole(_masked(code, task, frame, mask), frame, task.reduced)
    if mask is False:
        return _rest("-1", replace(ref, shape=(1,) * len(ref.shape), lead=len(ref.shape)), task, True)
    if mask is True:
        return _position(code, task, ref, task.reducer)
    ref = code.bind(ref)
    assert isinstance(mask, Ref)
    best = _call(ref, task.reducer.removeprefix("arg"), task.reduced, "keepdims=True")
    memory = (ref.array_shape, "bool")
    nan = f" | ({ref.text} != {ref.text})" if task.body.dtype.startswith("float") else ""
    text = f"{mask.text} & (({ref.text} == {best}){nan})"
    hits = code.assign(text, (*ref.reads, *mask.reads), memory)
    found = replace(ref, text=hits, reads=(hits,), dtype="bool", in_order=False)
    place = _position(code, task, found, "argmax")
    some = _call(found, "any", task.reduced)
    text = f"np.where({some}, {place.text}, -1)"
    return replace(place, text=text, reads=(*place.reads, hits), atomic=True, fresh=True)


def _position(code: Code, task: Task, ref: Ref, method: str) -> Ref:
    reduced = sorted(task.reduced)
    kept = [axis for axis in ref.axes if axis not in reduced]
    dims = [task.domain[axis] for axis in reduced]
    if len(reduced) == 1:
        text = _call(ref, method, reduced)
        result = _rest(text, ref, task, ref.in_order)
    else:
        ordered = ref.permuted([*kept, *reduced])
        lead = min(ordered.lead, len(kept))
        shape = ", ".join(map(str, (*ordered.shape[lead : len(kept)], math.prod(dims))))
        text = f"{ordered.operand}.reshape({shape}).{method}(axis=-1)"
        result = _rest(text, replace(ordered, lead=lead), task, True)
    origin = [task.origin[axis] for axis in reduced]
    extents = [task.extents[axis] for axis in reduced]
    if not any(origin) and extents[1:] == dims[1:]:
        return result
    steps = strides(extents)
    shift = sum(start * step for start, step in zip(origin, steps, strict=True))
    if len(reduced) == 1:
        return replace(result, text=f"{result.text} + {shift}", atomic=False)
    array = code.bind(result)
    parts = [code.fresh_name() for _ in reduced]
    lines = f"{', '.join(parts)} = np.unravel_index({array.text}, {shape_text(dims)})"
    code.statement(lines, array.reads)
    terms = " + ".join(f"{step} * {part}" if step != 1 else part for part, step in zip(parts, steps, strict=True))
    return replace(array, text=f"{terms} + {shift}", atomic=False, fresh=True)


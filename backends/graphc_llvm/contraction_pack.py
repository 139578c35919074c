"""Moving operands of a contraction into the workspace: zero-bordered copies, and panels.

A panel holds what one tile reads of one operand, as [k][width]: the elements that a step of k needs are neighbours.
Where the source is contiguous along the width, vectors are copied; where it is contiguous along k, square blocks are
transposed in registers by one shared function, which reads every cache line whole; else elements move one by one.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc_llvm.bounds import Bound, least, most
from graphc_llvm.emit import I64, PTR, Builder, Module, Type, Value
from graphc_llvm.offsets import lane_mask, step_of, table_entry
from graphc_llvm.schedule import Copy

# The widest vector that is transposed. Selecting shuffles is what compiles slowest: sixteen by sixteen floats cost
# 10 ms, eight by eight 2 ms, and moving the data is bound by loads and stores either way.
SQUARE_BITS = 256
PACK_UNIT = 64  # steps of k that one thread packs at least: whole squares on every processor


def copy_bordered(
    b: Builder, vector: Type, copy: Copy, memory: Value, source: Value, first: Bound, stop: Bound,
    moved: tuple[int, Value] | None = None,
) -> None:
    """Copy the part of an array that the box of `copy` covers, and zeros around it: of the box's first axis the indices
    from `first` to `stop`. `moved`: an axis of the box, and how far the box (and `source`) stands along it."""
    if len(copy.shape) == 1:
        _copy_axis(b, vector, copy, 0, memory, source, moved)
    else:
        _copy_rows(b, vector, copy, 0, memory, source, (first, stop), moved)


def _copy_axis(
    b: Builder, vector: Type, copy: Copy, d: int, near: Value, far: Value, moved: tuple[int, Value] | None
) -> None:
    start, stop = copy.inside[d]
    kind = vector.kind
    if d < len(copy.shape) - 1:
        _copy_rows(b, vector, copy, d, near, far, (0, copy.shape[d]), moved)
        return
    _fill(b, vector, near, start)
    _fill(b, vector, b.gep(near, stop, kind), copy.shape[d] - stop)
    if start < stop:
        _move(b, vector, b.gep(near, start, kind), b.gep(far, start + copy.low[d], kind), stop - start)


def _copy_rows(
    b: Builder, vector: Type, copy: Copy, d: int, near: Value, far: Value, bounds: tuple[Bound, Bound],
    moved: tuple[int, Value] | None,
) -> None:
    """Along an axis but the last: zeros up to where the array begins, the array, zeros from where it ends."""
    kind, size, stride = vector.kind, copy.shape[d], copy.strides[d]
    begin: Bound = copy.inside[d][0]
    end: Bound = copy.inside[d][1]
    if moved is not None and moved[0] == d:
        begin = most(b, b.sub(-copy.low[d], moved[1]), 0)
        end = most(b, least(b, b.sub(copy.extents[d] - copy.low[d], moved[1]), size), begin)
    first, stop = bounds
    for low, high in ((first, least(b, stop, begin)), (most(b, first, end), stop)):
        if not (isinstance(low, int) and isinstance(high, int) and low >= high):
            with b.loop(low, high, 1, "border") as loop:
                name = _clearer(b.module, vector)
                b.call(name, None, [b.gep(near, b.mul(loop.index, stride), kind), b.const(I64, stride)])
    with b.loop(most(b, first, begin), least(b, stop, end), 1, "copy") as loop:
        here = b.gep(near, b.mul(loop.index, stride), kind)
        there = b.gep(far, b.mul(b.add(loop.index, copy.low[d]), copy.source_strides[d]), kind)
        _copy_axis(b, vector, copy, d + 1, here, there, moved)


def _clearer(module: Module, vector: Type) -> str:
    """The function `(ptr place, i64 count)` that zeroes neighbouring elements: rows and planes of borders, in one place
    because loops in loops take long to compile."""
    name = f"clear.{vector.suffix}"
    if not module.has_function(name):
        b = module.function(name, [("place", PTR), ("count", I64)], linkage="internal", attributes="noinline")
        place, count = b.params
        whole = b.and_(count, -vector.lanes)
        with b.loop(0, whole, vector.lanes, "clear") as loop:
            b.store(b.const(vector, 0), b.gep(place, loop.index, vector.kind))
        with b.loop(whole, count, 1, "rest") as loop:
            b.store(b.const(vector.scalar(), 0), b.gep(place, loop.index, vector.kind))
        b.ret()
    return name


def _fill(b: Builder, vector: Type, near: Value, count: int) -> None:
    """Zero `count` neighbouring elements."""
    kind, lanes = vector.kind, vector.lanes
    whole = count // lanes * lanes
    if whole:
        with b.loop(0, whole, lanes, "clear") as loop:
            b.store(b.const(vector, 0), b.gep(near, loop.index, kind))
    for at in range(whole, count):
        b.store(b.const(vector.scalar(), 0), b.gep(near, at, kind))


def _move(b: Builder, vector: Type, near: Value, far: Value, count: int) -> None:
    """Copy `count` neighbouring elements."""
    kind, lanes = vector.kind, vector.lanes
    whole = count // lanes * lanes
    if whole:
        with b.loop(0, whole, lanes, "move") as loop:
            b.store(b.load(b.gep(far, loop.index, kind), vector), b.gep(near, loop.index, kind))
    if count > whole:
        mask = lane_mask(lanes, count - whole)
        b.masked_store(b.masked_load(b.gep(far, whole, kind), vector, mask), b.gep(near, whole, kind), mask)


def pack_panel(
    b: Builder, vector: Type, source: Value, panel: Value, first: Bound, depth: Bound, used: int, stride: int,
    offsets: Sequence[int], table: Value | None, total: int,
) -> None:
    """Fill panel[k][i] for first <= k < depth and i < `used` from source[i * stride + offsets[k]], where `table` holds
    the offsets unless they are multiples of one step. A row is as wide as whole vectors hold `used` elements; the rest
    of it holds numbers that nothing depends on: zeros, or copies of the last element. `first` is a multiple of
    PACK_UNIT; depths are len(offsets) and, if that is not `total`, what remains of `total` at the end."""
    kind, lanes = vector.kind, vector.lanes
    width = -(-used // lanes) * lanes
    parts = [(at, min(lanes, used - at)) for at in range(0, width, lanes)]
    square = vector.with_lanes(min(lanes, SQUARE_BITS // vector.bits))
    places: Value | None = None  # where in the panel the k-th smallest offset belongs, if they are not in order
    if stride != 1 and lanes > 1 and total == len(offsets) and not _in_runs(offsets, square.lanes):
        order = sorted(range(len(offsets)), key=offsets.__getitem__)
        if _in_runs([offsets[k] for k in order], square.lanes):
            offsets = [offsets[k] for k in order]
            table = b.module.global_array("sorted", offsets, "i32")
            places = b.module.global_array("places", [k * width for k in order], "i32")
    start = first
    step = step_of(offsets)

    def at_k(index: Value) -> Value:
        return b.gep(source, b.mul(index, step) if table is None else table_entry(b, table, index), kind)

    if stride != 1 and lanes > 1 and _in_runs(offsets, square.lanes):
        name = transposer(b.module, square)
        rows = b.module.global_array("rows", [k * width for k in range(square.lanes)], "i32")
        start = b.and_(depth, -square.lanes) if isinstance(depth, Value) else depth // square.lanes * square.lanes
        with b.loop(first, start, square.lanes, "square") as loop:
            first = b.gep(panel, b.mul(loop.index, width), kind) if places is None else panel
            here = rows if places is None else b.gep(places, loop.index, "i32")
            for at in range(0, width, square.lanes):
                far = b.gep(at_k(loop.index), min(at, used - 1) * stride, kind)
                last = max(0, min(square.lanes, used - at) - 1)
                b.call(name, None, [far, b.const(I64, stride), b.gep(first, at, kind), here, b.const(I64, last)])
        if len(offsets) % square.lanes == 0 and total % square.lanes == 0:
            return
    with b.loop(start, depth, 1, "pack") as loop:
        far = at_k(loop.index)
        near = b.gep(panel, b.mul(loop.index, width) if places is None else table_entry(b, places, loop.index), kind)
        for at, valid in parts:
            here = b.gep(near, at, kind)
            if stride == 1:
                place = b.gep(far, at, kind)
                mask = lane_mask(lanes, valid)
                b.store(b.load(place, vector) if valid == lanes else b.masked_load(place, vector, mask), here)
                continue
            if valid < lanes:
                b.store(b.const(vector, 0), here)
            if start is not first:  # the few steps that squares leave: a loop is less to compile
                with b.loop(0, valid, 1, "lane") as lane:
                    value = b.load(b.gep(far, b.mul(b.add(lane.index, at), stride), kind), vector.scalar())
                    b.store(value, b.gep(here, lane.index, kind))
                continue
            for number in range(valid):
                value = b.load(b.gep(far, (at + number) * stride, kind), vector.scalar())
                b.store(value, b.gep(here, number, kind))


def pack_panels(
    b: Builder, vector: Type, source: Value, panel: Value, depth: Value, used: int, offsets: Sequence[int],
    table: Value | None, panels: Value, width: int, size: int,
) -> None:
    """`pack_panel` from contiguous lanes for several panels, `width` lanes apart in the source and `size` elements in
    memory: each step of k is read through all of them, which is the order of the memory."""
    kind, lanes = vector.kind, vector.lanes
    rows = -(-used // lanes) * lanes
    with b.loop(0, depth, 1, "pack") as loop:
        step = b.mul(loop.index, step_of(offsets)) if table is None else table_entry(b, table, loop.index)
        far = b.gep(source, step, kind)
        near = b.gep(panel, b.mul(loop.index, rows), kind)
        with b.loop(0, panels, 1, "panel", [far, near]) as inner:
            far, near = inner.carried
            for at in range(0, rows, lanes):
                place = b.gep(far, at, kind)
                mask = lane_mask(lanes, min(lanes, used - at))
                value = b.load(place, vector) if used - at >= lanes else b.masked_load(place, vector, mask)
                b.store(value, b.gep(near, at, kind))
            inner.yield_([b.gep(far, width, kind), b.gep(near, size, kind)])


def _in_runs(offsets: Sequence[int], lanes: int) -> bool:
    """Whether each aligned block of `lanes` offsets is consecutive."""
    return len(offsets) >= lanes and all(
        offsets[k] == offsets[k - k % lanes] + k % lanes for k in range(len(offsets) // lanes * lanes)
    )


def transposer(module: Module, vector: Type) -> str:
    """The function `(ptr source, i64 stride, ptr target, ptr rows, i64 last)` that transposes a square of as many rows
    and columns as a vector has lanes: target[rows[k] + i] = source[min(i, last) * stride + k].

    First the squares inside 128-bit parts, then whole parts: shuffles that x86 has as one instruction each, which is
    also what LLVM selects fastest (a plain butterfly costs twice the compile time).
    """
    lanes, kind = vector.lanes, vector.kind
    name = f"transpose.{vector.suffix}"
    if module.has_function(name):
        return name
    params = [("source", PTR), ("stride", I64), ("target", PTR), ("rows", PTR), ("last", I64)]
    b = module.function(name, params, linkage="internal", attributes="noinline")
    source, stride, target, places, last = b.params
    rows: list[Value] = []
    for i in range(lanes):
        row = b.select(b.icmp("slt", last, i), last, i, I64)
        rows.append(b.load(b.gep(source, b.mul(stride, row), kind), vector))
    part = max(1, min(lanes, 128 // vector.bits))
    groups = [_transpose_parts(b, rows[at : at + part], part) for at in range(0, lanes, part)]
    columns = [_transpose_whole(b, [group[c] for group in groups], part) for c in range(part)]
    rows = [columns[c][j] for j in range(lanes // part) for c in range(part)]
    for k, row in enumerate(rows):
        b.store(row, b.gep(target, table_entry(b, places, b.const(I64, k)), kind))
    b.ret()
    return name


def _transpose_parts(b: Builder, rows: list[Value], part: int) -> list[Value]:
    """Transpose the part x part squares that `part` rows hold side by side: each round interleaves row i with row
    i + part / 2, inside the 128-bit parts."""
    lanes = rows[0].type.lanes
    half = part // 2
    low = [at + offset + i // 2 for at in range(0, lanes, part) for i, offset in enumerate([0, lanes] * half)]
    high = [index + half for index in low]
    for _ in range(part.bit_length() - 1):
        pairs = [(rows[i], rows[i + half]) for i in range(half)]
        rows = [b.shuffle(one, other, picks) for one, other in pairs for picks in (low, high)]
    return rows


def _transpose_whole(b: Builder, rows: list[Value], part: int) -> list[Value]:
    """Transpose with whole parts as elements: each round takes the even, then the odd parts of pairs of rows."""
    lanes, count = rows[0].type.lanes, len(rows)
    even = [at + i for at in range(0, 2 * lanes, 2 * part) for i in range(part)]
    odd = [index + part for index in even]
    for _ in range(count.bit_length() - 1):
        pairs = [(rows[i], rows[i + 1]) for i in range(0, count, 2)]
        rows = [b.shuffle(one, other, picks) for picks in (even, odd) for one, other in pairs]
    return rows

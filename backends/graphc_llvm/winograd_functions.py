"""What the kernels of a module that use Winograd's algorithm share: one function for each transform and register tile.

Addresses come in as pointers and strides, so that a network of many such layers has each function once. A "plane" is
the distance between the same element of neighbouring points, in elements.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from graphc_llvm.emit import I32, I64, PTR, Builder, Module, Type, Value
from graphc_llvm.offsets import multiply_add
from graphc_llvm.winograd_transform import (
    every_second,
    interleaved,
    transform_input,
    transform_output,
    transform_weights,
)


@contextmanager
def each(b: Builder, count: Value | int, name: str) -> Iterator[Value]:
    """A loop from 0 to `count`, but none for one trip: what LLVM takes longest for is a nest of loops."""
    if isinstance(count, int) and count == 1:
        yield b.const(I64, 0)
        return
    with b.loop(0, count, 1, name) as loop:
        yield loop.index


def tile_function(module: Module, vector: Type, rows: int, pitch: int, vectors: int) -> str:
    """`(u, v, m, depth, v_pitch)`: M[i][j] = sum over c < depth of U[c][i] * V[c][j], for `rows` i and `vectors`
    vectors of j. A row of U has `pitch` elements, one of V and M `v_pitch`. The sums are loop-carried vectors, which
    keeps them in registers."""
    name = f"winograd.{vector.suffix}.{rows}of{pitch}x{vectors}"
    if module.has_function(name):
        return name
    kind, lanes = vector.kind, vector.lanes
    params = [("u", PTR), ("v", PTR), ("m", PTR), ("depth", I64), ("v_pitch", I64)]
    b = module.function(name, params, linkage="internal", attributes="noinline")
    u, v, m, depth, v_pitch = b.params
    zeros = [b.const(vector, 0)] * (rows * vectors)
    with b.loop(0, depth, 1, "c", [u, v, *zeros]) as loop:
        u_here, v_here, *sums = loop.carried
        columns = [b.load(b.gep(v_here, j * lanes, kind), vector) for j in range(vectors)]
        following: list[Value] = []
        for i in range(rows):
            scalar = b.splat(b.load(b.gep(u_here, i, kind), vector.scalar()), lanes)
            following += [multiply_add(b, scalar, one, sums[i * vectors + j]) for j, one in enumerate(columns)]
        loop.yield_([b.gep(u_here, pitch, kind), b.gep(v_here, v_pitch, kind), *following])
    for i in range(rows):
        for j in range(vectors):
            b.store(loop.results[2 + i * vectors + j], b.gep(m, j * lanes, kind))
        m = b.gep(m, v_pitch, kind)
    b.ret()
    return name


def input_function(module: Module, vector: Type, has_masks: bool) -> str:
    """`(row_0, row_1, row_2, row_3, column, width, target, plane)`: the transformed input of a vector of tiles, from
    four rows of which the tiles begin at `column`. With masks, only elements from 0 to `width` are read, the others
    are 0; without, all have to be there."""
    name = f"winograd.input.{vector.suffix}"
    if module.has_function(name):
        return name
    kind, lanes = vector.kind, vector.lanes
    params = [*((f"row_{i}", PTR) for i in range(4)), ("column", I64), ("width", I64), ("target", PTR), ("plane", I64)]
    b = module.function(name, params, linkage="internal", attributes="noinline")
    rows, (column, width, target, plane) = b.params[:4], b.params[4:]
    starts = (0, lanes, 2, 2 + lanes)  # the even ones of columns 0, 1, 2, 3 of all tiles, and so on
    masks = [_inside(b, vector, b.add(column, start), width) for start in starts] if has_masks else []
    elements: list[Value] = []
    for row in rows:
        here = b.gep(row, column, kind)
        places = [b.gep(here, start, kind) for start in starts]
        if has_masks:
            loads = [b.masked_load(place, vector, mask) for place, mask in zip(places, masks, strict=True)]
        else:
            loads = [b.load(place, vector) for place in places]
        for low, high in (loads[:2], loads[2:]):
            elements += [every_second(b, low, high, 0), every_second(b, low, high, 1)]
    _store_points(b, transform_input(b, elements), target, plane)
    b.ret()
    return name


def _inside(b: Builder, vector: Type, first: Value, width: Value) -> Value:
    """Which lanes of the vector at column `first` lie in a row of `width` elements."""
    index = I64 if vector.bits == 64 else I32  # compared in lanes as wide as those of the vector
    if index is I32:
        first, width = b.trunc(first, I32), b.trunc(width, I32)
    columns = b.add(b.splat(first, vector.lanes), b.iota(index.kind, vector.lanes))
    return b.icmp("ult", columns, b.splat(width, vector.lanes))


def _store_points(b: Builder, values: list[Value], target: Value, plane: Value) -> None:
    for value in values:
        b.store(value, target)
        target = b.gep(target, plane, value.type.kind)


def copy_function(module: Module, vector: Type) -> str:
    """`(source, target, count)`: copies elements."""
    name = f"winograd.copy.{vector.suffix}"
    if module.has_function(name):
        return name
    params = [("source", PTR), ("target", PTR), ("count", I64)]
    b = module.function(name, params, linkage="internal", attributes="noinline")
    source, target, count = b.params
    whole = b.and_(count, -vector.lanes)
    for start, stop, step, type_ in ((0, whole, vector.lanes, vector), (whole, count, 1, vector.scalar())):
        with b.loop(start, stop, step, "copy") as loop:
            value = b.load(b.gep(source, loop.index, vector.kind), type_)
            b.store(value, b.gep(target, loop.index, vector.kind))
    b.ret()
    return name


def weights_function(module: Module, vector: Type) -> str:
    """`(taps, target, plane)`: the transformed weights of a vector of output channels from taps[9][lanes]."""
    name = f"winograd.weights.{vector.suffix}"
    if module.has_function(name):
        return name
    params = [("taps", PTR), ("target", PTR), ("plane", I64)]
    b = module.function(name, params, linkage="internal", attributes="noinline")
    taps, target, plane = b.params
    values = [b.load(b.gep(taps, tap * vector.lanes, vector.kind), vector) for tap in range(9)]
    _store_points(b, transform_weights(b, values), target, plane)
    b.ret()
    return name


def output_function(module: Module, vector: Type) -> str:
    """`(m, plane, target, pitch)`: the two rows of outputs of a vector of tiles, two vectors each, `pitch` apart."""
    name = f"winograd.output.{vector.suffix}"
    if module.has_function(name):
        return name
    kind = vector.kind
    params = [("m", PTR), ("plane", I64), ("target", PTR), ("pitch", I64)]
    b = module.function(name, params, linkage="internal", attributes="noinline")
    m, plane, target, pitch = b.params
    products: list[Value] = []
    for _ in range(16):
        products.append(b.load(m, vector))
        m = b.gep(m, plane, kind)
    outputs = transform_output(b, products)
    for even, odd in (outputs[:2], outputs[2:]):
        for j, value in enumerate(interleaved(b, even, odd)):
            b.store(value, b.gep(target, j * vector.lanes, kind))
        target = b.gep(target, pitch, kind)
    b.ret()
    return name

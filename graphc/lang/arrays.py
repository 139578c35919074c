"""Shapes and indices: reshape, transpose, slices, join, pad, repeat, gather; arrays of numbers made on the spot."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from types import EllipsisType
from typing import Any

import numpy as np

from graphc.errors import ArgumentError, DTypeError, ShapeError
from graphc.ir import build
from graphc.ir import scalar as sc
from graphc.ir.affine import Affine, AffineMap, affine, axis_row, identity
from graphc.ir.dtypes import as_dtype, is_float, promote
from graphc.ir.extent import Extent, Polynomial, Shape, as_extent, format_shape, product
from graphc.ir.node import INSIDE, Generic, Node, generic, join, opaque, scalar_map, view
from graphc.lang.elementwise import is_weak
from graphc.lang.reduce import Axis, normalise_axes
from graphc.lang.source import named_op
from graphc.lang.tensor import ShapeLike, Tensor, TensorLike, as_tensor, parse_shape

# --- Shape ----------------------------------------------------------------------------------------------------------


@named_op
def reshape(x: TensorLike, shape: ShapeLike) -> Tensor:
    """The same elements, row-major, in another shape; one extent may be -1 and is then computed."""
    tensor = as_tensor(x)
    items: Sequence[Any] = (shape,) if isinstance(shape, (int, str)) else tuple(shape)
    unknown = [position for position, item in enumerate(items) if isinstance(item, int) and item == -1]
    if len(unknown) > 1:
        raise ShapeError(f"reshape: more than one -1 in {items}")
    known = parse_shape("reshape", [1 if position in unknown else item for position, item in enumerate(items)])
    total = product(tensor.shape)
    if unknown:
        rest = _exact_quotient(total, product(known))
        if rest is None:
            raise ShapeError(f"reshape: {format_shape(tensor.shape)} does not divide into {items}")
        known = tuple(rest if position == unknown[0] else extent for position, extent in enumerate(known))
    if product(known) != total:
        raise ShapeError(
            f"reshape: {format_shape(tensor.shape)} has {total} elements, {format_shape(known)} has {product(known)}"
        )
    return Tensor(view(tensor.node, known))


def _exact_quotient(total: Extent, divisor: Extent) -> Extent | None:
    """total / divisor where it comes out even; a symbolic divisor must be a single product."""
    if isinstance(divisor, int):
        if isinstance(total, int):
            return total // divisor if divisor and total % divisor == 0 else (0 if total == 0 == divisor else None)
        quotient = total // divisor if divisor else None
        return quotient if quotient is not None and quotient * divisor == total else None
    if total == divisor:
        return 1
    if not isinstance(total, Polynomial) or len(divisor.terms) != 1:
        return None
    (monomial, coefficient), *_ = divisor.terms
    powers = dict(monomial)
    terms = []
    for candidate, factor in total.terms:
        left = dict(candidate)
        for atom, power in powers.items():
            left[atom] = left.get(atom, 0) - power
        if factor % coefficient or any(power < 0 for power in left.values()):
            return None
        terms.append((tuple((a, p) for a, p in left.items() if p), factor // coefficient))
    result: Extent = 0
    for candidate, factor in terms:
        result = result + (Polynomial(((candidate, factor),)) if candidate else factor)
    return result


@named_op
def ravel(x: TensorLike) -> Tensor:
    """All elements in one axis."""
    return reshape(x, (-1,))


@named_op
def flatten(x: TensorLike, start: int = 1) -> Tensor:
    """The axes from `start` on in one: (N, C, H, W) becomes (N, C*H*W)."""
    tensor = as_tensor(x)
    return Tensor(view(tensor.node, (*tensor.shape[:start], product(tensor.shape[start:]))))


@named_op
def expand_dims(x: TensorLike, axis: int | Sequence[int]) -> Tensor:
    """New axes of extent 1 at these places of the result."""
    tensor = as_tensor(x)
    places = (axis,) if isinstance(axis, int) else tuple(axis)
    new = normalise_axes("expand_dims", places, tensor.ndim + len(places))
    old = iter(tensor.shape)
    shape = tuple(1 if a in new else next(old) for a in range(tensor.ndim + len(places)))
    return Tensor(view(tensor.node, shape))


@named_op
def squeeze(x: TensorLike, axis: Axis = None) -> Tensor:
    """Without axes of extent 1: all of them, or those named."""
    tensor = as_tensor(x)
    if axis is None:
        axes = tuple(a for a, extent in enumerate(tensor.shape) if extent == 1)
    else:
        axes = normalise_axes("squeeze", axis, tensor.ndim)
        for a in axes:
            if tensor.shape[a] != 1:
                raise ShapeError(f"squeeze: axis {a} has extent {tensor.shape[a]}, not 1")
    return Tensor(view(tensor.node, tuple(e for a, e in enumerate(tensor.shape) if a not in axes)))


def reindex(x: Node, shape: Shape, rows: Sequence[Affine], mode: str = INSIDE) -> Node:
    """out[d] = x[rows(d)]"""
    index_map = AffineMap(len(shape), tuple(rows))
    return scalar_map(shape, (x,), (index_map,), sc.Arg(0, x.dtype), (mode,))


@named_op
def transpose(x: TensorLike, axes: Sequence[int] | None = None) -> Tensor:
    """Axes in another order; reversed when none is given."""
    tensor = as_tensor(x)
    rank = tensor.ndim
    order = tuple(range(rank))[::-1] if axes is None else tuple(a % rank if -rank <= a < rank else a for a in axes)
    if sorted(order) != list(range(rank)):
        raise ShapeError(f"transpose: {tuple(axes or ())} is not an order of the {rank} axes")
    place = {axis: position for position, axis in enumerate(order)}
    shape = tuple(tensor.shape[axis] for axis in order)
    return Tensor(reindex(tensor.node, shape, [axis_row(place[axis]) for axis in range(rank)]))


permute_dims = transpose


@named_op
def swapaxes(x: TensorLike, axis1: int, axis2: int) -> Tensor:
    """Two axes exchanged."""
    tensor = as_tensor(x)
    a, b = (normalise_axes("swapaxes", one, tensor.ndim)[0] for one in (axis1, axis2))
    order = list(range(tensor.ndim))
    order[a], order[b] = order[b], order[a]
    return transpose(tensor, order)


@named_op
def moveaxis(x: TensorLike, source: int, destination: int) -> Tensor:
    """One axis moved to another place."""
    tensor = as_tensor(x)
    a, b = (normalise_axes("moveaxis", one, tensor.ndim)[0] for one in (source, destination))
    order = [axis for axis in range(tensor.ndim) if axis != a]
    order.insert(b, a)
    return transpose(tensor, order)


@named_op
def broadcast_to(x: TensorLike, shape: ShapeLike) -> Tensor:
    """x stretched to a shape by NumPy's rule."""
    tensor = as_tensor(x)
    target = parse_shape("broadcast_to", shape)
    if build.broadcast_shapes("broadcast_to", (tensor.shape, target)) != target:
        raise ShapeError(f"broadcast_to: {format_shape(tensor.shape)} does not stretch to {format_shape(target)}")
    return Tensor(reindex(tensor.node, target, build.broadcast_map(tensor.shape, target).rows))


@named_op
def flip(x: TensorLike, axis: Axis = None) -> Tensor:
    """Order reversed along axes."""
    tensor = as_tensor(x)
    axes = normalise_axes("flip", axis, tensor.ndim)
    rows = [affine({a: -1}, e - 1) if a in axes else axis_row(a) for a, e in enumerate(tensor.shape)]
    return Tensor(reindex(tensor.node, tensor.shape, rows))


# --- Indexing -------------------------------------------------------------------------------------------------------


@named_op
def getitem(x: Tensor, index: Any) -> Tensor:
    """Whole numbers, slices with any step but 0, None, ... and one integer tensor or array, as in NumPy."""
    items = list(index) if isinstance(index, tuple) else [index]
    consumed = len([item for item in items if item is not None and item is not Ellipsis])
    if consumed > x.ndim:
        raise ShapeError(f"index: {consumed} indices for a tensor of rank {x.ndim}, shape {format_shape(x.shape)}")
    if Ellipsis not in [item for item in items if isinstance(item, EllipsisType)]:
        items.append(Ellipsis)
    at = next(position for position, item in enumerate(items) if isinstance(item, EllipsisType))
    items[at : at + 1] = [slice(None)] * (x.ndim - consumed)
    arrays = [item for item in items if isinstance(item, (Tensor, np.ndarray, list))]
    if arrays:
        return _advanced(x, items)
    rows: list[Affine] = []
    shape: list[Extent] = []
    axis = 0
    for item in items:
        if item is None:
            shape.append(1)
            continue
        extent = x.shape[axis]
        if isinstance(item, slice):
            start, step, length = _slice(item, extent, axis)
            rows.append(affine({len(shape): step}, start))
            shape.append(length)
        elif hasattr(item, "__index__") and not isinstance(item, (bool, np.bool_)):
            rows.append(Affine((), _position(int(item.__index__()), extent, axis)))
        else:
            raise ArgumentError(f"index: {item!r} is not a whole number, a slice, None or ...")
        axis += 1
    return Tensor(reindex(x.node, tuple(shape), rows))


def _position(position: int, extent: Extent, axis: int) -> Extent:
    if isinstance(extent, int) and not -extent <= position < extent:
        raise ShapeError(f"index {position} is outside axis {axis} of extent {extent}")
    return position if position >= 0 else extent + position


def _slice(item: slice, extent: Extent, axis: int) -> tuple[Extent, int, Extent]:
    step = 1 if item.step is None else int(item.step)
    if step == 0:
        raise ArgumentError(f"index: the step of a slice of axis {axis} is 0")
    if isinstance(extent, int):
        first, last, step = slice(item.start, item.stop, step).indices(extent)
        return first, step, len(range(first, last, step))

    def bound(value: Any, default: Extent) -> Extent:
        if value is None:
            return default
        number = as_extent(value) if isinstance(value, (str, Polynomial)) else int(value)
        return extent + number if isinstance(number, int) and number < 0 else number

    if step < 0:
        start, stop = bound(item.start, extent - 1), bound(item.stop, -1)
        return start, step, (start - stop + (-step - 1)) // -step
    start, stop = bound(item.start, 0), bound(item.stop, extent)
    return start, step, (stop - start + (step - 1)) // step


def _advanced(x: Tensor, items: list[Any]) -> Tensor:
    """One integer array among full slices, None excluded: take along that axis."""
    places = [position for position, item in enumerate(items) if isinstance(item, (Tensor, np.ndarray, list))]
    if len(places) > 1 or any(item is None for item in items):
        raise ArgumentError("index: one integer array at a time; use where, take or index notation for more")
    axis = places[0]
    indices = as_tensor(items[axis], "index")
    if indices.dtype == "bool":
        raise ArgumentError("index: a mask makes a shape that depends on values; use gc.where")
    rest = tuple(slice(None) if position == axis else item for position, item in enumerate(items))
    dropped = sum(1 for item in items[:axis] if not isinstance(item, slice))
    return take(getitem(x, rest), indices, axis=axis - dropped)


@named_op
def take(x: TensorLike, indices: TensorLike, axis: int | None = None) -> Tensor:
    """Slices of x at integer indices along an axis (of the flat x when None); an index outside is an error at run time.

    The result has x's shape with the axis replaced by the indices' shape.
    """
    tensor, at = as_tensor(x, "take"), as_tensor(indices, "take")
    if is_float(at.dtype) or at.dtype == "bool":
        raise DTypeError(f"take: indices are integers, not {at.dtype}")
    if axis is None:
        tensor, axis = ravel(tensor), 0
    (axis,) = normalise_axes("take", axis, tensor.ndim)
    shape = (*tensor.shape[:axis], *at.shape, *tensor.shape[axis + 1 :])
    return Tensor(opaque("take", (tensor.node, at.node), shape, tensor.dtype, axis=axis))


@named_op
def cumsum(x: TensorLike, axis: int | None = None) -> Tensor:
    """Running sums along an axis (of the flat x when None); integers add up as int64."""
    tensor = as_tensor(x, "cumsum")
    if axis is None:
        tensor, axis = ravel(tensor), 0
    (axis,) = normalise_axes("cumsum", axis, tensor.ndim)
    node = tensor.node if is_float(tensor.dtype) else build.cast_node(tensor.node, "int64")
    return Tensor(opaque("cumsum", (node,), node.shape, node.dtype, axis=axis, reverse=0))


# --- Joining and padding --------------------------------------------------------------------------------------------


def _same_dtype(op: str, tensors: Sequence[TensorLike]) -> list[Node]:
    if isinstance(tensors, Tensor) or len(tensors) == 0:
        raise ArgumentError(f"{op}: a sequence of tensors is needed")
    nodes = [as_tensor(tensor, op).node for tensor in tensors]
    dtype = promote(*(node.dtype for node in nodes))
    return [build.cast_node(node, dtype) for node in nodes]


def _place(node: Node, shape: Shape, offsets: Sequence[Extent]) -> Generic:
    """A part that copies `node` into an array of `shape`, at these offsets."""
    rank = len(shape)
    out_map = AffineMap(rank, tuple(affine({a: 1}, offset) for a, offset in enumerate(offsets)))
    part = generic(node.shape, shape, out_map, (node,), (identity(rank),), (INSIDE,), sc.Arg(0, node.dtype), None)
    if isinstance(part, Generic) and part.shape == shape and part is not node:
        return part
    return Generic(shape, shape, identity(rank), (node,), (identity(rank),), (INSIDE,), sc.Arg(0, node.dtype), None)


@named_op
def concatenate(tensors: Sequence[TensorLike], axis: int = 0) -> Tensor:
    """Tensors one after another along an axis; the other extents must be equal."""
    nodes = _same_dtype("concatenate", tensors)
    rank = len(nodes[0].shape)
    (axis,) = normalise_axes("concatenate", axis, rank)
    total: Extent = 0
    for node in nodes:
        others = [(e, f) for a, (e, f) in enumerate(zip(node.shape, nodes[0].shape, strict=False)) if a != axis]
        if len(node.shape) != rank or any(e != f for e, f in others):
            shapes = ", ".join(format_shape(n.shape) for n in nodes)
            raise ShapeError(f"concatenate: the shapes {shapes} differ off axis {axis}")
        total = total + node.shape[axis]
    nodes = [node for node in nodes if node.shape[axis] != 0] or nodes[:1]
    if len(nodes) == 1:
        return Tensor(nodes[0])
    shape = tuple(total if a == axis else e for a, e in enumerate(nodes[0].shape))
    parts: list[Generic] = []
    start: Extent = 0
    for node in nodes:
        parts.append(_place(node, shape, [start if a == axis else 0 for a in range(rank)]))
        start = start + node.shape[axis]
    return Tensor(join(parts))


@named_op
def stack(tensors: Sequence[TensorLike], axis: int = 0) -> Tensor:
    """Tensors of one shape along a new axis."""
    nodes = _same_dtype("stack", tensors)
    if any(node.shape != nodes[0].shape for node in nodes):
        raise ShapeError(f"stack: the shapes {', '.join(format_shape(n.shape) for n in nodes)} differ")
    return concatenate([expand_dims(Tensor(node), axis) for node in nodes], axis)


@named_op
def split(x: TensorLike, sections: int | Sequence[int], axis: int = 0) -> list[Tensor]:
    """Equal parts (an int) or parts that begin at the given positions, as in NumPy."""
    tensor = as_tensor(x)
    (axis,) = normalise_axes("split", axis, tensor.ndim)
    extent = tensor.shape[axis]
    if isinstance(sections, int):
        size = _exact_quotient(extent, sections)
        if size is None:
            raise ShapeError(f"split: an axis of extent {extent} does not divide into {sections} equal parts")
        bounds: list[Extent] = [size * part for part in range(sections + 1)]
    else:
        bounds = [0, *sections, extent]
    out = []
    for start, stop in itertools.pairwise(bounds):
        rows = [affine({a: 1}, start) if a == axis else axis_row(a) for a in range(tensor.ndim)]
        shape = tuple(stop - start if a == axis else e for a, e in enumerate(tensor.shape))
        out.append(Tensor(reindex(tensor.node, shape, rows)))
    return out


@named_op
def pad(x: TensorLike, pad_width: Any, constant_values: float = 0) -> Tensor:
    """A border of one number: pad_width is an int, (before, after), or one such pair for each axis."""
    tensor = as_tensor(x)
    widths = np.broadcast_to(np.asarray(pad_width, dtype=np.int64), (tensor.ndim, 2))
    if (widths < 0).any():
        raise ShapeError(f"pad: negative widths in {pad_width}")
    shape = tuple(e + int(b) + int(a) for e, (b, a) in zip(tensor.shape, widths, strict=True))
    index_map = AffineMap(tensor.ndim, tuple(affine({a: 1}, -int(b)) for a, (b, _) in enumerate(widths)))
    value = sc.literal(constant_values, tensor.dtype)
    body: sc.Scalar = sc.Arg(0, tensor.dtype)
    if constant_values != 0 and not index_map.is_identity:
        body = sc.apply("select", sc.InBounds(index_map, tensor.shape), body, value)
    return Tensor(scalar_map(shape, (tensor.node,), (index_map,), body, ("zero",)))


@named_op
def repeat(x: TensorLike, repeats: int, axis: int) -> Tensor:
    """Each slice along an axis, `repeats` times in a row."""
    tensor = as_tensor(x)
    (axis,) = normalise_axes("repeat", axis, tensor.ndim)
    wide = expand_dims(tensor, axis + 1)
    shape = tuple(repeats if a == axis + 1 else e for a, e in enumerate(wide.shape))
    merged = tuple(e * repeats if a == axis else e for a, e in enumerate(tensor.shape))
    return reshape(broadcast_to(wide, shape), merged)


@named_op
def tile(x: TensorLike, reps: int | Sequence[int]) -> Tensor:
    """x repeated as a block along each axis."""
    tensor = as_tensor(x)
    counts = [reps] if isinstance(reps, int) else list(reps)
    counts = [1] * (tensor.ndim - len(counts)) + counts
    for axis, count in enumerate(counts):
        if count != 1:
            tensor = concatenate([tensor] * count, axis)
    return tensor


# --- Made on the spot -----------------------------------------------------------------------------------------------


def _made(shape: ShapeLike, dtype: Any, body: sc.Scalar, what: str) -> Tensor:
    return Tensor(scalar_map(parse_shape(what, shape), (), (), sc.cast(body, as_dtype(dtype, what))))


@named_op
def full(shape: ShapeLike, value: float, dtype: Any = "float32") -> Tensor:
    """An array of one number."""
    return _made(shape, dtype, sc.literal(value, as_dtype(dtype, "full")), "full")


@named_op
def zeros(shape: ShapeLike, dtype: Any = "float32") -> Tensor:
    """An array of zeros."""
    return full(shape, 0, dtype)


@named_op
def ones(shape: ShapeLike, dtype: Any = "float32") -> Tensor:
    """An array of ones."""
    return full(shape, 1, dtype)


@named_op
def zeros_like(x: TensorLike, dtype: Any = None) -> Tensor:
    """Zeros in x's shape (and dtype, unless one is given)."""
    tensor = as_tensor(x)
    return full(tensor.shape, 0, dtype or tensor.dtype)


@named_op
def ones_like(x: TensorLike, dtype: Any = None) -> Tensor:
    """Ones in x's shape (and dtype, unless one is given)."""
    tensor = as_tensor(x)
    return full(tensor.shape, 1, dtype or tensor.dtype)


@named_op
def full_like(x: TensorLike, value: float, dtype: Any = None) -> Tensor:
    """One number in x's shape (and dtype, unless one is given)."""
    tensor = as_tensor(x)
    return full(tensor.shape, value, dtype or tensor.dtype)


@named_op
def arange(stop: int | str | Extent, dtype: Any = "int64") -> Tensor:
    """0, 1, ... up to but without `stop`, which may be symbolic."""
    return _made(parse_shape("arange", [stop]), dtype, sc.Index(0), "arange")


@named_op
def eye(n: int | str | Extent, dtype: Any = "float32") -> Tensor:
    """The identity matrix."""
    (extent,) = parse_shape("eye", [n])
    return _made((extent, extent), dtype, sc.apply("eq", sc.Index(0), sc.Index(1)), "eye")


def _triangle(op: str, x: TensorLike, k: int, lower: bool) -> Tensor:
    tensor = as_tensor(x)
    if tensor.ndim < 2:
        raise ShapeError(f"{op}: at least two axes are needed, the shape is {format_shape(tensor.shape)}")
    row, column = sc.Index(tensor.ndim - 2), sc.Index(tensor.ndim - 1)
    diagonal = sc.apply("add", row, sc.literal(k, "int64"))
    keep = sc.apply("le", column, diagonal) if lower else sc.apply("le", diagonal, column)
    zero = sc.literal(0, tensor.dtype)
    body = sc.apply("select", keep, sc.Arg(0, tensor.dtype), zero)
    return Tensor(build.elementwise(op, (tensor.node,), body))


@named_op
def tril(x: TensorLike, k: int = 0) -> Tensor:
    """The last two axes with zeros above the k-th diagonal."""
    return _triangle("tril", x, k, lower=True)


@named_op
def triu(x: TensorLike, k: int = 0) -> Tensor:
    """The last two axes with zeros below the k-th diagonal."""
    return _triangle("triu", x, k, lower=False)


@named_op
def one_hot(labels: TensorLike, classes: int, dtype: Any = "float32") -> Tensor:
    """A new last axis of `classes`: 1 at the label, 0 elsewhere (everywhere, for a label outside)."""
    tensor = as_tensor(labels)
    if is_float(tensor.dtype) or is_weak(labels):
        raise DTypeError(f"one_hot: labels are an integer tensor, not {tensor.dtype}")
    rank = tensor.ndim
    label = sc.cast(sc.Arg(0, tensor.dtype), "int64")
    body = sc.cast(sc.apply("eq", label, sc.Index(rank)), as_dtype(dtype, "one_hot"))
    index_map = AffineMap(rank + 1, tuple(axis_row(axis) for axis in range(rank)))
    return Tensor(scalar_map((*tensor.shape, classes), (tensor.node,), (index_map,), body))


@named_op
def diagonal(x: TensorLike) -> Tensor:
    """The diagonal of the last two axes."""
    tensor = as_tensor(x)
    if tensor.ndim < 2 or tensor.shape[-1] != tensor.shape[-2]:
        raise ShapeError(f"diagonal: the last two extents must be equal, the shape is {format_shape(tensor.shape)}")
    rank = tensor.ndim - 1
    rows = [axis_row(axis) for axis in range(rank)] + [axis_row(rank - 1)]
    return Tensor(reindex(tensor.node, tensor.shape[:-1], rows))

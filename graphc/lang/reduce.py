"""Reductions over axes under NumPy's names and rules: `axis=None` means all, `keepdims=True` keeps them as 1."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import TypeAlias

from graphc.errors import ShapeError
from graphc.ir import build
from graphc.ir import scalar as sc
from graphc.ir.dtypes import is_float
from graphc.ir.extent import Shape, format_shape, product
from graphc.ir.node import Node, view
from graphc.lang.elementwise import divide, not_equal, sqrt, square, subtract
from graphc.lang.requirements import require_at_least
from graphc.lang.source import named_op
from graphc.lang.tensor import Tensor, TensorLike, as_tensor

Axis: TypeAlias = int | Sequence[int] | None


def normalise_axes(op: str, axis: Axis, rank: int) -> tuple[int, ...]:
    """Axes counted from the front, sorted; `ShapeError` for one that does not exist or occurs twice."""
    if axis is None:
        return tuple(range(rank))
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    out: list[int] = []
    for one in axes:
        if not -rank <= one < rank:
            raise ShapeError(f"{op}: axis {one} does not exist in a tensor of rank {rank}")
        out.append(one % rank)
    if len(set(out)) != len(out):
        raise ShapeError(f"{op}: an axis occurs twice in {axes}")
    return tuple(sorted(out))


def _kept(shape: Shape, axes: tuple[int, ...]) -> Shape:
    return tuple(1 if axis in axes else extent for axis, extent in enumerate(shape))


def _reduce(op: str, x: TensorLike, axis: Axis, keepdims: bool, reducer: str, widen: bool = False) -> Tensor:
    tensor = as_tensor(x, op)
    axes = normalise_axes(op, axis, tensor.ndim)
    has_identity = op in ("sum", "prod", "all", "any")
    if not has_identity and builtins.any(tensor.shape[a] == 0 for a in axes):
        raise ShapeError(f"{op}: an axis of extent 0 has no {reducer}: the shape is {format_shape(tensor.shape)}")
    body: sc.Scalar = sc.Arg(0, tensor.dtype)
    if widen and not is_float(tensor.dtype):
        body = sc.cast(body, "int64")
    elif tensor.dtype == "bool" and reducer in ("max", "min"):
        body = sc.cast(body, "int32")
    node: Node = build.reduce_axes(tensor.node, axes, reducer, body) if axes else _unreduced(tensor, reducer, body)
    for extent in (tensor.shape[axis] for axis in axes if not has_identity):
        require_at_least(node, extent, 1, f"{op}: an axis of extent 0 has no {reducer}")
    if keepdims:
        node = view(node, _kept(tensor.shape, axes))
    if tensor.dtype == "bool" and reducer in ("max", "min"):
        positive = sc.apply("lt", sc.literal(0, "int32"), sc.Arg(0, "int32"))  # of nothing: all is true, any is false
        node = build.elementwise(op, (node,), positive)
    return Tensor(node)


def _unreduced(tensor: Tensor, reducer: str, body: sc.Scalar) -> Node:
    if reducer.startswith("arg"):
        return build.fill(tensor.shape, 0, "int64")
    return build.elementwise(reducer, (tensor.node,), body)


@named_op
def sum(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Sum over axes; integers and bools add up as int64."""
    return _reduce("sum", x, axis, keepdims, "sum", widen=True)


@named_op
def prod(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Product over axes; its derivative in a factor is the product of the others, also where one is 0."""
    return _reduce("prod", x, axis, keepdims, "prod", widen=True)


@named_op
def max(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Greatest value over axes; NaN where there is one. The first of equal values gets the gradient."""
    return _reduce("max", x, axis, keepdims, "max")


@named_op
def min(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Least value over axes; NaN where there is one. The first of equal values gets the gradient."""
    return _reduce("min", x, axis, keepdims, "min")


@named_op
def argmax(x: TensorLike, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Position of the first greatest value (of the flat array when `axis` is None), int64; the first NaN wins."""
    return _reduce("argmax", x, axis, keepdims, "argmax")


@named_op
def argmin(x: TensorLike, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Position of the first least value (of the flat array when `axis` is None), int64; the first NaN wins."""
    return _reduce("argmin", x, axis, keepdims, "argmin")


@named_op
def all(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Whether all are true (not 0), over axes."""
    tensor = as_tensor(x)
    mask = tensor if tensor.dtype == "bool" else not_equal(tensor, 0)
    return _reduce("all", mask, axis, keepdims, "min")


@named_op
def any(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Whether any is true (not 0), over axes."""
    tensor = as_tensor(x)
    mask = tensor if tensor.dtype == "bool" else not_equal(tensor, 0)
    return _reduce("any", mask, axis, keepdims, "max")


@named_op
def mean(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Mean over axes; integers give float32; NaN over no elements."""
    tensor = as_tensor(x)
    axes = normalise_axes("mean", axis, tensor.ndim)
    total = sum(_as_float(tensor), axes, keepdims)
    return _divide_by_count(total, tensor.shape, axes)


def _as_float(tensor: Tensor) -> Tensor:
    return tensor if is_float(tensor.dtype) else Tensor(build.cast_node(tensor.node, "float32"))


def _divide_by_count(total: Tensor, shape: Shape, axes: Sequence[int], less: int = 0) -> Tensor:
    count = product(tuple(shape[axis] for axis in axes)) - less
    if isinstance(count, int):
        return divide(total, count)
    number = sc.cast(sc.size_of(count), total.dtype)
    body = sc.apply("div", sc.Arg(0, total.dtype), number)
    return Tensor(build.elementwise("mean", (total.node,), body))


@named_op
def var(x: TensorLike, axis: Axis = None, keepdims: bool = False, ddof: int = 0) -> Tensor:
    """Variance over axes: the mean of the squared distances from the mean (two passes, which does not cancel)."""
    tensor = _as_float(as_tensor(x))
    axes = normalise_axes("var", axis, tensor.ndim)
    centred = subtract(tensor, mean(tensor, axes, keepdims=True))
    total = sum(square(centred), axes, keepdims)
    return _divide_by_count(total, tensor.shape, axes, ddof)


@named_op
def std(x: TensorLike, axis: Axis = None, keepdims: bool = False, ddof: int = 0) -> Tensor:
    """Standard deviation over axes: the square root of `var`."""
    return sqrt(var(x, axis, keepdims, ddof))

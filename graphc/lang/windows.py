"""Convolution and pooling over 1 or 2 spatial axes: channels first (N, C, *space), kernels (O, C/groups, *kernel).

As everywhere in deep learning, "convolution" is the cross-correlation: the kernel is not flipped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from graphc.errors import ArgumentError, ShapeError
from graphc.ir import scalar as sc
from graphc.ir.affine import Affine, AffineMap, affine, axis_row
from graphc.ir.dtypes import is_float, promote
from graphc.ir.extent import Extent, Shape, format_shape
from graphc.ir.node import INSIDE, SKIP, ZERO, Node, generic, view
from graphc.lang.elementwise import add, divide
from graphc.lang.reduce import max as reduce_max
from graphc.lang.reduce import mean
from graphc.lang.requirements import require_at_least
from graphc.lang.source import named_op
from graphc.lang.tensor import Tensor, TensorLike, as_tensor

PerAxis: TypeAlias = int | Sequence[int]


def _per_axis(op: str, what: str, value: PerAxis, count: int, least: int) -> tuple[int, ...]:
    values = (value,) * count if isinstance(value, int) else tuple(value)
    if len(values) != count or any(not isinstance(v, int) or v < least for v in values):
        raise ArgumentError(f"{op}: {what} must be a whole number from {least} up, or {count} of them, not {value!r}")
    return values


Room: TypeAlias = tuple[Extent, str]  # what must not be negative, and what to say when it is


def _window(op: str, extent: Extent, kernel: Extent, stride: int, padding: int, dilation: int) -> tuple[Extent, Room]:
    """How many windows fit an axis, and what must hold for one to fit."""
    reach = (kernel - 1) * dilation + 1
    room = extent + 2 * padding - reach
    message = f"{op}: a window of {reach} does not fit an axis of {extent} padded by {padding}"
    if isinstance(room, int) and room < 0:
        raise ShapeError(message)
    return room // stride + 1, (room, message)


def _with_room(node: Node, rooms: Sequence[Room]) -> Node:
    """The node, refused at a call whose extents leave no room for a window."""
    for room, message in rooms:
        require_at_least(node, room, 0, message)
    return node


def _conv(
    op: str,
    x: TensorLike,
    weight: TensorLike,
    bias: TensorLike | None,
    stride: PerAxis,
    padding: PerAxis | str,
    dilation: PerAxis,
    groups: int,
    spatial: int,
) -> Tensor:
    image, kernel = as_tensor(x, op), as_tensor(weight, op)
    for what, tensor in (("the input", image), ("the weight", kernel)):
        if tensor.ndim != spatial + 2:
            raise ShapeError(f"{op}: {what} must have {spatial + 2} axes, its shape is {format_shape(tensor.shape)}")
    strides = _per_axis(op, "stride", stride, spatial, 1)
    dilations = _per_axis(op, "dilation", dilation, spatial, 1)
    if isinstance(padding, str):
        pads = _named_padding(op, padding, kernel.shape[2:], strides, dilations)
    else:
        pads = _per_axis(op, "padding", padding, spatial, 0)
    channels, out_channels = image.shape[1], kernel.shape[0]
    if not isinstance(groups, int) or groups < 1:
        raise ArgumentError(f"{op}: groups must be a whole number from 1 up, not {groups!r}")
    if kernel.shape[1] * groups != channels:
        raise ShapeError(
            f"{op}: the input {format_shape(image.shape)} has {channels} channels, the weight "
            f"{format_shape(kernel.shape)} takes {kernel.shape[1] * groups} "
            f"({kernel.shape[1]} in each of {groups} groups)"
        )
    if isinstance(out_channels, int) and out_channels % groups:
        raise ShapeError(f"{op}: {out_channels} output channels do not divide into {groups} groups")
    windows = [
        _window(op, e, k, s, p, d)
        for e, k, s, p, d in zip(image.shape[2:], kernel.shape[2:], strides, pads, dilations, strict=True)
    ]
    out = tuple(extent for extent, _ in windows)
    node = _grouped(image.node, kernel.node, out, strides, pads, dilations, groups)
    result = Tensor(_with_room(node, [room for _, room in windows]))
    if bias is not None:
        shift = as_tensor(bias, op)
        if shift.shape != (out_channels,):
            raise ShapeError(f"{op}: the bias must have shape ({out_channels},), not {format_shape(shift.shape)}")
        result = add(result, Tensor(view(shift.node, (out_channels, *(1,) * spatial))))
    return result


def _named_padding(
    op: str, name: str, kernel: Shape, strides: tuple[int, ...], dilations: tuple[int, ...]
) -> tuple[int, ...]:
    if name == "valid":
        return (0,) * len(kernel)
    if name != "same":
        raise ArgumentError(f'{op}: padding is a whole number, "same" or "valid", not {name!r}')
    if any(stride != 1 for stride in strides):
        raise ArgumentError(f'{op}: padding="same" needs stride 1')
    reaches = [(k - 1) * d if isinstance(k, int) else -1 for k, d in zip(kernel, dilations, strict=True)]
    if any(reach < 0 or reach % 2 for reach in reaches):
        raise ArgumentError(f'{op}: padding="same" needs kernels of odd extent')
    return tuple(reach // 2 for reach in reaches)


def _grouped(
    image: Node,
    kernel: Node,
    out: Shape,
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
    groups: int,
) -> Node:
    """Y[n,(g,)o,i..] = sum[c,p..] X[n,(g,)c,s*i+d*p-a..] * W[(g,)o,c,p..]; one group has no axis g."""
    spatial = len(out)
    batch, channels = image.shape[0], image.shape[1]
    out_channels = kernel.shape[0]
    if groups > 1:
        inner, outer = channels // groups, out_channels // groups
        image = view(image, (batch, groups, inner, *image.shape[2:]))
        kernel = view(kernel, (groups, outer, inner, *kernel.shape[2:]))
        lead: Shape = (batch, groups, outer)
        reduced: Shape = (inner, *kernel.shape[3:])
    else:
        lead = (batch, out_channels)
        reduced = (channels, *kernel.shape[2:])
    first_out = len(lead)
    c = first_out + spatial
    domain = (*lead, *out, *reduced)
    windows = [affine({first_out + a: strides[a], c + 1 + a: dilations[a]}, -pads[a]) for a in range(spatial)]
    group_axis = [axis_row(1)] if groups > 1 else []
    x_rows: list[Affine] = [axis_row(0), *group_axis, axis_row(c), *windows]
    w_rows = [*group_axis, axis_row(first_out - 1), axis_row(c), *(axis_row(c + 1 + a) for a in range(spatial))]
    rank = len(domain)
    dtype = promote(image.dtype, kernel.dtype)
    body = sc.apply("mul", sc.cast(sc.Arg(0, image.dtype), dtype), sc.cast(sc.Arg(1, kernel.dtype), dtype))
    out_map = AffineMap(rank, tuple(axis_row(axis) for axis in range(first_out + spatial)))
    maps = (AffineMap(rank, tuple(x_rows)), AffineMap(rank, tuple(w_rows)))
    mode = ZERO if any(pads) else _inside_or_zero(maps[0], domain, image.shape)
    node = generic(domain, (*lead, *out), out_map, (image, kernel), maps, (mode, INSIDE), body, "sum")
    return view(node, (batch, out_channels, *out))


def _inside_or_zero(index_map: AffineMap, domain: Shape, shape: Shape) -> str:
    """An unpadded window stays inside by construction, but a symbolic extent may hide the proof until it is known."""
    return INSIDE if index_map.stays_inside(domain, shape) else ZERO


@named_op
def conv1d(
    x: TensorLike,
    weight: TensorLike,
    bias: TensorLike | None = None,
    stride: PerAxis = 1,
    padding: PerAxis | str = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
) -> Tensor:
    """Convolution of (N, C, L) with (O, C/groups, K); see `conv2d`."""
    return _conv("conv1d", x, weight, bias, stride, padding, dilation, groups, 1)


@named_op
def conv2d(
    x: TensorLike,
    weight: TensorLike,
    bias: TensorLike | None = None,
    stride: PerAxis = 1,
    padding: PerAxis | str = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
) -> Tensor:
    """Convolution of (N, C, H, W) with (O, C/groups, P, Q): Y[n,o,i,j] = sum X[n,c,s*i+d*p-a,s*j+d*q-a] W[o,c,p,q].

    padding: zeros on each side, or "same" (stride 1, odd kernels) or "valid". Errors: `ShapeError`, `ArgumentError`.

    >>> import graphc as gc
    >>> gc.conv2d(gc.input("x", ("N", 3, 32, 32)), gc.input("w", (8, 3, 5, 5)), stride=2, padding=2)
    <Tensor float32(N, 8, 16, 16)>
    """
    return _conv("conv2d", x, weight, bias, stride, padding, dilation, groups, 2)


@named_op
def conv_transpose2d(
    x: TensorLike,
    weight: TensorLike,
    bias: TensorLike | None = None,
    stride: PerAxis = 1,
    padding: PerAxis = 0,
    output_padding: PerAxis = 0,
    dilation: PerAxis = 1,
) -> Tensor:
    """The transpose of `conv2d` as a linear map: (N, C, H, W) with (C, O, P, Q) gives (N, O, H', W'),
    H' = (H - 1) * stride - 2 * padding + dilation * (P - 1) + output_padding + 1."""
    op = "conv_transpose2d"
    image, kernel = as_tensor(x, op), as_tensor(weight, op)
    if image.ndim != 4 or kernel.ndim != 4 or image.shape[1] != kernel.shape[0]:
        raise ShapeError(
            f"{op}: an input (N, C, H, W) and a weight (C, O, P, Q) are needed, not "
            f"{format_shape(image.shape)} and {format_shape(kernel.shape)}"
        )
    strides = _per_axis(op, "stride", stride, 2, 1)
    pads = _per_axis(op, "padding", padding, 2, 0)
    extra = _per_axis(op, "output_padding", output_padding, 2, 0)
    dilations = _per_axis(op, "dilation", dilation, 2, 1)
    space = tuple(
        (e - 1) * s - 2 * p + (k - 1) * d + o + 1
        for e, k, s, p, o, d in zip(image.shape[2:], kernel.shape[2:], strides, pads, extra, dilations, strict=True)
    )
    domain = (image.shape[0], kernel.shape[1], image.shape[1], *image.shape[2:], *kernel.shape[2:])
    rows = [affine({3 + a: strides[a], 5 + a: dilations[a]}, -pads[a]) for a in range(2)]
    out_map = AffineMap(7, (axis_row(0), axis_row(1), *rows))
    x_map = AffineMap(7, tuple(axis_row(axis) for axis in (0, 2, 3, 4)))
    w_map = AffineMap(7, tuple(axis_row(axis) for axis in (2, 1, 5, 6)))
    dtype = promote(image.dtype, kernel.dtype)
    body = sc.apply("mul", sc.cast(sc.Arg(0, image.dtype), dtype), sc.cast(sc.Arg(1, kernel.dtype), dtype))
    shape = (image.shape[0], kernel.shape[1], *space)
    node = generic(domain, shape, out_map, (image.node, kernel.node), (x_map, w_map), (INSIDE, INSIDE), body, "sum")
    result = Tensor(node)
    if bias is not None:
        result = add(result, Tensor(view(as_tensor(bias, op).node, (kernel.shape[1], 1, 1))))
    return result


def _pool(
    op: str, x: TensorLike, kernel: PerAxis, stride: PerAxis | None, padding: PerAxis, spatial: int, reducer: str
) -> tuple[Tensor, Tensor]:
    """The reduced windows, and how many elements each window has inside the input."""
    image = as_tensor(x, op)
    if image.ndim != spatial + 2:
        raise ShapeError(f"{op}: the input must have {spatial + 2} axes, its shape is {format_shape(image.shape)}")
    kernels = _per_axis(op, "kernel_size", kernel, spatial, 1)
    strides = kernels if stride is None else _per_axis(op, "stride", stride, spatial, 1)
    pads = _per_axis(op, "padding", padding, spatial, 0)
    for k, p in zip(kernels, pads, strict=True):
        if 2 * p > k:
            raise ArgumentError(f"{op}: padding {p} is more than half of the window {k}")
    windows = [_window(op, e, k, s, p, 1) for e, k, s, p in zip(image.shape[2:], kernels, strides, pads, strict=True)]
    out = tuple(extent for extent, _ in windows)
    domain = (*image.shape[:2], *out, *kernels)
    rank = len(domain)
    rows = [affine({2 + a: strides[a], 2 + spatial + a: 1}, -pads[a]) for a in range(spatial)]
    index_map = AffineMap(rank, (axis_row(0), axis_row(1), *rows))
    out_map = AffineMap(rank, tuple(axis_row(axis) for axis in range(2 + spatial)))
    shape = (*image.shape[:2], *out)
    body = sc.Arg(0, image.dtype)
    node = generic(domain, shape, out_map, (image.node,), (index_map,), (SKIP,), body, reducer)
    _with_room(node, [room for _, room in windows])
    ones = sc.literal(1, image.dtype if is_float(image.dtype) else "float32")
    inside = sc.apply("select", sc.InBounds(index_map, image.shape), ones, sc.literal(0, ones.dtype))
    count = generic(domain, shape, out_map, (), (), (), inside, "sum")
    return Tensor(node), Tensor(count)


@named_op
def max_pool2d(x: TensorLike, kernel_size: PerAxis, stride: PerAxis | None = None, padding: PerAxis = 0) -> Tensor:
    """Greatest value of each window of (N, C, H, W); padding is never it. stride: kernel_size unless given."""
    return _pool("max_pool2d", x, kernel_size, stride, padding, 2, "max")[0]


@named_op
def max_pool1d(x: TensorLike, kernel_size: PerAxis, stride: PerAxis | None = None, padding: PerAxis = 0) -> Tensor:
    """Greatest value of each window of (N, C, L); see `max_pool2d`."""
    return _pool("max_pool1d", x, kernel_size, stride, padding, 1, "max")[0]


def _average(
    op: str, x: TensorLike, kernel: PerAxis, stride: PerAxis | None, padding: PerAxis, spatial: int, count_pad: bool
) -> Tensor:
    total, count = _pool(op, x, kernel, stride, padding, spatial, "sum")
    pads = _per_axis(op, "padding", padding, spatial, 0)
    if count_pad or not any(pads):
        size = 1
        for extent in _per_axis(op, "kernel_size", kernel, spatial, 1):
            size *= extent
        return divide(total, size)
    return divide(total, count)


@named_op
def avg_pool2d(
    x: TensorLike,
    kernel_size: PerAxis,
    stride: PerAxis | None = None,
    padding: PerAxis = 0,
    count_include_pad: bool = True,
) -> Tensor:
    """Mean of each window of (N, C, H, W); zeros of the padding count unless told otherwise (PyTorch's default)."""
    return _average("avg_pool2d", x, kernel_size, stride, padding, 2, count_include_pad)


@named_op
def avg_pool1d(
    x: TensorLike,
    kernel_size: PerAxis,
    stride: PerAxis | None = None,
    padding: PerAxis = 0,
    count_include_pad: bool = True,
) -> Tensor:
    """Mean of each window of (N, C, L); see `avg_pool2d`."""
    return _average("avg_pool1d", x, kernel_size, stride, padding, 1, count_include_pad)


@named_op
def global_avg_pool(x: TensorLike) -> Tensor:
    """Mean over all spatial axes: (N, C, ...) gives (N, C)."""
    tensor = as_tensor(x)
    return mean(tensor, tuple(range(2, tensor.ndim)))


@named_op
def global_max_pool(x: TensorLike) -> Tensor:
    """Greatest value over all spatial axes: (N, C, ...) gives (N, C)."""
    tensor = as_tensor(x)
    return reduce_max(tensor, tuple(range(2, tensor.ndim)))

"""Convolution over 1 or 2 spatial axes: channels first (N, C, *space), kernels (O, C/groups, *kernel).

As everywhere in deep learning, "convolution" is the cross-correlation: the kernel is not flipped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from graphc.errors import ArgumentError, ShapeError
from graphc.ir import scalar as sc
from graphc.ir.affine import Affine, AffineMap, affine, axis_row
from graphc.ir.dtypes import promote
from graphc.ir.extent import Extent, Shape, format_shape
from graphc.ir.node import INSIDE, ZERO, Node, generic, view
from graphc.lang.elementwise import add
from graphc.lang.requirements import require_at_least
from graphc.lang.source import named_op
from graphc.lang.tensor import Tensor, TensorLike, as_tensor

PerAxis: TypeAlias = int | Sequence[int]


def per_axis(op: str, what: str, value: PerAxis, count: int, least: int) -> tuple[int, ...]:
    """An option as one number for each axis. Errors: `ArgumentError` for another count, or one below `least`."""
    values = tuple(value) if isinstance(value, Sequence) else (value,) * count
    if len(values) != count or any(not isinstance(v, int) or isinstance(v, bool) or v < least for v in values):
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


def with_room(node: Node, rooms: Sequence[Room]) -> Node:
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
    strides = per_axis(op, "stride", stride, spatial, 1)
    dilations = per_axis(op, "dilation", dilation, spatial, 1)
    if isinstance(padding, str):
        pads = _named_padding(op, padding, kernel.shape[2:], strides, dilations)
    else:
        pads = per_axis(op, "padding", padding, spatial, 0)
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
    result = Tensor(with_room(node, [room for _, room in windows]))
    return _shifted(op, result, bias, out_channels, spatial)


def _shifted(op: str, result: Tensor, bias: TensorLike | None, channels: Extent, spatial: int) -> Tensor:
    """The result with one number of the bias added to each channel."""
    if bias is None:
        return result
    shift = as_tensor(bias, op)
    if shift.shape != (channels,):
        raise ShapeError(f"{op}: the bias must have shape ({channels},), not {format_shape(shift.shape)}")
    return add(result, Tensor(view(shift.node, (channels, *(1,) * spatial))))


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


def _conv_transpose(
    op: str,
    x: TensorLike,
    weight: TensorLike,
    bias: TensorLike | None,
    stride: PerAxis,
    padding: PerAxis,
    output_padding: PerAxis,
    dilation: PerAxis,
    groups: int,
    spatial: int,
) -> Tensor:
    """Y[n,(g,)o,s*i+d*p-a..] = sum[c] X[n,(g,)c,i..] * W[(g,)c,o,p..]; one group has no axis g."""
    image, kernel = as_tensor(x, op), as_tensor(weight, op)
    if image.ndim != spatial + 2 or kernel.ndim != spatial + 2 or image.shape[1] != kernel.shape[0]:
        axes = "(N, C, L) and a weight (C, O/groups, P)" if spatial == 1 else (
            "(N, C, H, W) and a weight (C, O/groups, P, Q)"
        )
        raise ShapeError(
            f"{op}: an input {axes} are needed, not {format_shape(image.shape)} and {format_shape(kernel.shape)}"
        )
    strides = per_axis(op, "stride", stride, spatial, 1)
    pads = per_axis(op, "padding", padding, spatial, 0)
    extra = per_axis(op, "output_padding", output_padding, spatial, 0)
    dilations = per_axis(op, "dilation", dilation, spatial, 1)
    for o, s, d in zip(extra, strides, dilations, strict=True):
        if o and o >= max(s, d):
            raise ArgumentError(f"{op}: output_padding {o} must be below the stride {s} or the dilation {d}")
    batch, channels, outer = image.shape[0], image.shape[1], kernel.shape[1]
    if not isinstance(groups, int) or groups < 1 or (isinstance(channels, int) and channels % groups):
        raise ArgumentError(f"{op}: groups must divide the {channels} channels, {groups!r} does not")
    space: list[Extent] = []
    rooms: list[Room] = []
    for e, k, s, p, o, d in zip(image.shape[2:], kernel.shape[2:], strides, pads, extra, dilations, strict=True):
        extent = (e - 1) * s - 2 * p + (k - 1) * d + o + 1
        message = f"{op}: an axis of {e} with the padding {p} leaves an extent of {extent}"
        if isinstance(extent, int) and extent < 1:
            raise ShapeError(message)
        space.append(extent)
        rooms.append((extent - 1, message))
    lead: Shape = (batch, outer)
    x_node, w_node = image.node, kernel.node
    if groups > 1:
        inner = channels // groups
        x_node = view(x_node, (batch, groups, inner, *image.shape[2:]))
        w_node = view(w_node, (groups, inner, outer, *kernel.shape[2:]))
        lead = (batch, groups, outer)
    else:
        inner = channels
    c = len(lead)
    domain = (*lead, inner, *image.shape[2:], *kernel.shape[2:])
    rank = len(domain)
    first, last = c + 1, c + 1 + spatial  # the axes of the image, and those of the kernel
    rows = [affine({first + a: strides[a], last + a: dilations[a]}, -pads[a]) for a in range(spatial)]
    group_axis = [axis_row(1)] if groups > 1 else []
    out_map = AffineMap(rank, (*(axis_row(axis) for axis in range(c)), *rows))
    places = [axis_row(first + a) for a in range(spatial)]
    taps = [axis_row(last + a) for a in range(spatial)]
    x_map = AffineMap(rank, (axis_row(0), *group_axis, axis_row(c), *places))
    w_map = AffineMap(rank, (*group_axis, axis_row(c), axis_row(c - 1), *taps))
    dtype = promote(image.dtype, kernel.dtype)
    body = sc.apply("mul", sc.cast(sc.Arg(0, image.dtype), dtype), sc.cast(sc.Arg(1, kernel.dtype), dtype))
    node = generic(domain, (*lead, *space), out_map, (x_node, w_node), (x_map, w_map), (INSIDE, INSIDE), body, "sum")
    out_channels = outer * groups
    result = Tensor(with_room(view(node, (batch, out_channels, *space)), rooms))
    return _shifted(op, result, bias, out_channels, spatial)


@named_op
def conv_transpose1d(
    x: TensorLike,
    weight: TensorLike,
    bias: TensorLike | None = None,
    stride: PerAxis = 1,
    padding: PerAxis = 0,
    output_padding: PerAxis = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
) -> Tensor:
    """The transpose of `conv1d` as a linear map: (N, C, L) with (C, O/groups, P); see `conv_transpose2d`."""
    return _conv_transpose(
        "conv_transpose1d", x, weight, bias, stride, padding, output_padding, dilation, groups, 1
    )


@named_op
def conv_transpose2d(
    x: TensorLike,
    weight: TensorLike,
    bias: TensorLike | None = None,
    stride: PerAxis = 1,
    padding: PerAxis = 0,
    output_padding: PerAxis = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
) -> Tensor:
    """The transpose of `conv2d` as a linear map: (N, C, H, W) with (C, O/groups, P, Q) gives (N, O, H', W'),
    H' = (H - 1) * stride - 2 * padding + dilation * (P - 1) + output_padding + 1.

    Errors: `ShapeError`; `ArgumentError` for groups that do not divide C, and for an output_padding that is neither
    below the stride nor below the dilation.

    >>> import graphc as gc
    >>> gc.conv_transpose2d(gc.input("x", ("N", 8, 7, 7)), gc.input("w", (8, 4, 4, 4)), stride=2, padding=1)
    <Tensor float32(N, 4, 14, 14)>
    """
    return _conv_transpose(
        "conv_transpose2d", x, weight, bias, stride, padding, output_padding, dilation, groups, 2
    )

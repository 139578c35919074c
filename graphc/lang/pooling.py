"""Pooling over 1 or 2 spatial axes: the greatest value or the mean of each window of (N, C, *space)."""

from __future__ import annotations

import math

from graphc.errors import ArgumentError, ShapeError
from graphc.ir import scalar as sc
from graphc.ir.affine import Affine, AffineMap, affine, axis_row
from graphc.ir.dtypes import is_float
from graphc.ir.extent import Extent, Shape, format_shape
from graphc.ir.node import SKIP, Node, generic
from graphc.lang.elementwise import divide
from graphc.lang.reduce import max as reduce_max
from graphc.lang.reduce import mean
from graphc.lang.source import named_op
from graphc.lang.tensor import Tensor, TensorLike, as_tensor
from graphc.lang.windows import PerAxis, Room, per_axis, with_room


class _Windows:
    """Where the windows of a pooling lie: window i of an axis reads the places stride*i + dilation*p - padding."""

    def __init__(
        self,
        op: str,
        x: TensorLike,
        kernel: PerAxis,
        stride: PerAxis | None,
        padding: PerAxis,
        dilation: PerAxis,
        ceil_mode: bool,
        spatial: int,
    ) -> None:
        self.op, self.image, self.spatial = op, as_tensor(x, op), spatial
        if self.image.ndim != spatial + 2:
            shape = format_shape(self.image.shape)
            raise ShapeError(f"{op}: the input must have {spatial + 2} axes, its shape is {shape}")
        self.kernels = per_axis(op, "kernel_size", kernel, spatial, 1)
        self.strides = self.kernels if stride is None else per_axis(op, "stride", stride, spatial, 1)
        self.pads = per_axis(op, "padding", padding, spatial, 0)
        self.dilations = per_axis(op, "dilation", dilation, spatial, 1)
        self.space: list[Extent] = []
        self.rooms: list[Room] = []
        for axis, extent in enumerate(self.image.shape[2:]):
            self.space.append(self._count(axis, extent, ceil_mode))

    def _count(self, axis: int, extent: Extent, ceil_mode: bool) -> Extent:
        """How many windows an axis has; with ceil_mode also one that ends outside, if it begins inside."""
        reach = (self.kernels[axis] - 1) * self.dilations[axis] + 1
        stride, pad = self.strides[axis], self.pads[axis]
        if 2 * pad > reach:
            raise ArgumentError(f"{self.op}: padding {pad} is more than half of the window {reach}")
        room = extent + 2 * pad - reach
        if ceil_mode:
            room = room + stride - 1
        message = f"{self.op}: a window of {reach} does not fit an axis of {extent} padded by {pad}"
        if isinstance(room, int) and room < 0:
            raise ShapeError(message)
        self.rooms.append((room, message))
        count = room // stride + 1
        if not ceil_mode:
            return count
        if stride + pad <= reach:  # the last window begins inside whatever the extent is
            return count
        if not isinstance(extent, int) or not isinstance(count, int):
            raise ShapeError(
                f"{self.op}: ceil_mode with a stride of {stride} and a padding of {pad}, together more than the "
                f"window {reach}, needs a known extent, not {extent}"
            )
        return count - 1 if (count - 1) * stride >= extent + pad else count

    def _map(self, offsets: tuple[int, ...]) -> AffineMap:
        rank = 2 + 2 * self.spatial
        rows: list[Affine] = []
        for a in range(self.spatial):
            row = affine({2 + a: self.strides[a], 2 + self.spatial + a: self.dilations[a]}, offsets[a])
            rows.append(row)
        return AffineMap(rank, (axis_row(0), axis_row(1), *rows))

    @property
    def _domain(self) -> Shape:
        return (*self.image.shape[:2], *self.space, *self.kernels)

    def _generic(self, operands: tuple[Node, ...], maps: tuple[AffineMap, ...], body: sc.Scalar, reducer: str) -> Node:
        out_map = AffineMap(len(self._domain), tuple(axis_row(axis) for axis in range(2 + self.spatial)))
        shape = (*self.image.shape[:2], *self.space)
        return generic(self._domain, shape, out_map, operands, maps, (SKIP,) * len(operands), body, reducer)

    def reduced(self, reducer: str) -> Tensor:
        """Each window reduced; places outside the input are left out."""
        index_map = self._map(tuple(-pad for pad in self.pads))
        node = self._generic((self.image.node,), (index_map,), sc.Arg(0, self.image.dtype), reducer)
        return Tensor(with_room(node, self.rooms))

    def counts(self, with_padding: bool) -> Tensor:
        """How many places of each window lie inside the input, or inside the padded input."""
        offsets = tuple(0 if with_padding else -pad for pad in self.pads)
        around = tuple(2 * pad if with_padding else 0 for pad in self.pads)
        space = tuple(extent + more for extent, more in zip(self.image.shape[2:], around, strict=True))
        ones = sc.literal(1, self.image.dtype if is_float(self.image.dtype) else "float32")
        inside = sc.InBounds(self._map(offsets), (*self.image.shape[:2], *space))
        return Tensor(self._generic((), (), sc.apply("select", inside, ones, sc.literal(0, ones.dtype)), "sum"))


@named_op
def max_pool2d(
    x: TensorLike,
    kernel_size: PerAxis,
    stride: PerAxis | None = None,
    padding: PerAxis = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """Greatest value of each window of (N, C, H, W): (N, C, H', W'), H' = (H + 2p - d(k-1) - 1) // s + 1.

    stride: kernel_size unless given. Padding is never the greatest value. ceil_mode: the quotient is rounded up, so
    that a last window may reach beyond the padding, if it begins inside the input or the padding before it.
    Errors: `ShapeError`, `ArgumentError` (a padding of more than half of the window).
    """
    return _Windows("max_pool2d", x, kernel_size, stride, padding, dilation, ceil_mode, 2).reduced("max")


@named_op
def max_pool1d(
    x: TensorLike,
    kernel_size: PerAxis,
    stride: PerAxis | None = None,
    padding: PerAxis = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """Greatest value of each window of (N, C, L); see `max_pool2d`."""
    return _Windows("max_pool1d", x, kernel_size, stride, padding, dilation, ceil_mode, 1).reduced("max")


def _average(windows: _Windows, ceil_mode: bool, count_include_pad: bool) -> Tensor:
    total = windows.reduced("sum")
    if not ceil_mode and (count_include_pad or not any(windows.pads)):
        return divide(total, math.prod(windows.kernels))
    return divide(total, windows.counts(count_include_pad))


@named_op
def avg_pool2d(
    x: TensorLike,
    kernel_size: PerAxis,
    stride: PerAxis | None = None,
    padding: PerAxis = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """Mean of each window of (N, C, H, W); zeros of the padding count unless told otherwise (PyTorch's default).

    ceil_mode: as in `max_pool2d`; what lies beyond the padding never counts.
    """
    windows = _Windows("avg_pool2d", x, kernel_size, stride, padding, 1, ceil_mode, 2)
    return _average(windows, ceil_mode, count_include_pad)


@named_op
def avg_pool1d(
    x: TensorLike,
    kernel_size: PerAxis,
    stride: PerAxis | None = None,
    padding: PerAxis = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """Mean of each window of (N, C, L); see `avg_pool2d`."""
    windows = _Windows("avg_pool1d", x, kernel_size, stride, padding, 1, ceil_mode, 1)
    return _average(windows, ceil_mode, count_include_pad)


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

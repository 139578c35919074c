"""Pooling layers with PyTorch's names and defaults."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from graphc.errors import ArgumentError, ShapeError
from graphc.lang import arrays, pooling, reduce
from graphc.lang.source import user_line
from graphc.lang.tensor import Tensor
from graphc.lang.windows import PerAxis, per_axis
from graphc.nn.layers import Layer, check_rank, float_tensor, options

_AXES = {1: "N, C, L", 2: "N, C, H, W"}
_DEFAULTS = {
    "stride": None,
    "padding": 0,
    "dilation": 1,
    "ceil_mode": False,
    "count_include_pad": True,
}


class _Pool(Layer):
    spatial: ClassVar[int]

    def _set_up(self, kernel_size: PerAxis, stride: PerAxis | None, padding: PerAxis, ceil_mode: bool) -> None:
        self._check("kernel_size", kernel_size, 1)
        if stride is not None:
            self._check("stride", stride, 1)
        self._check("padding", padding, 0)
        self.kernel_size, self.stride, self.padding, self.ceil_mode = kernel_size, stride, padding, bool(ceil_mode)

    def _check(self, what: str, value: PerAxis, least: int) -> None:
        try:
            per_axis(type(self).__name__, what, value, self.spatial, least)
        except ArgumentError as error:
            raise ArgumentError(error.message, user_line()) from None

    def _checked(self, x: Tensor) -> Tensor:
        x = float_tensor(type(self).__name__, x)
        check_rank(x, _AXES[self.spatial])
        return x

    def describe(self) -> str:
        known = {name: default for name, default in _DEFAULTS.items() if hasattr(self, name)}
        return f"{self.kernel_size!r}" + options(self, known)


class _MaxPool(_Pool):
    def __init__(
        self,
        kernel_size: PerAxis,
        stride: PerAxis | None = None,
        padding: PerAxis = 0,
        dilation: PerAxis = 1,
        ceil_mode: bool = False,
    ) -> None:
        self._set_up(kernel_size, stride, padding, ceil_mode)
        self._check("dilation", dilation, 1)
        self.dilation = dilation


class MaxPool1d(_MaxPool):
    """The greatest value of each window of (N, C, L); options as in `MaxPool2d`.

    >>> import graphc as gc
    >>> gc.nn.MaxPool1d(3, stride=2)(gc.input("x", ("N", 6, 29)))
    <Tensor float32(N, 6, 14)>
    """

    spatial = 1

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, L) to (N, C, L')."""
        x = self._checked(x)
        return pooling.max_pool1d(x, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)


class MaxPool2d(_MaxPool):
    """The greatest value of each window of (N, C, H, W); stride is kernel_size unless given; padding never wins.

    ceil_mode: a last window may reach beyond the end (`gc.max_pool2d` says when). Errors: `ShapeError`,
    `ArgumentError`.

    >>> import graphc as gc
    >>> gc.nn.MaxPool2d(2)(gc.input("x", ("N", 6, 28, 28)))
    <Tensor float32(N, 6, 14, 14)>
    """

    spatial = 2

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, H', W')."""
        x = self._checked(x)
        return pooling.max_pool2d(x, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)


class _AvgPool(_Pool):
    def __init__(
        self,
        kernel_size: PerAxis,
        stride: PerAxis | None = None,
        padding: PerAxis = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        self._set_up(kernel_size, stride, padding, ceil_mode)
        self.count_include_pad = bool(count_include_pad)


class AvgPool1d(_AvgPool):
    """The mean of each window of (N, C, L); options as in `AvgPool2d`.

    >>> import graphc as gc
    >>> gc.nn.AvgPool1d(2)(gc.input("x", ("N", 6, 28)))
    <Tensor float32(N, 6, 14)>
    """

    spatial = 1

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, L) to (N, C, L')."""
        x, count_pad = self._checked(x), self.count_include_pad
        return pooling.avg_pool1d(x, self.kernel_size, self.stride, self.padding, self.ceil_mode, count_pad)


class AvgPool2d(_AvgPool):
    """The mean of each window of (N, C, H, W); zeros of the padding count unless count_include_pad=False.

    >>> import graphc as gc
    >>> gc.nn.AvgPool2d(2)(gc.input("x", ("N", 6, 28, 28)))
    <Tensor float32(N, 6, 14, 14)>
    """

    spatial = 2

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, H', W')."""
        x, count_pad = self._checked(x), self.count_include_pad
        return pooling.avg_pool2d(x, self.kernel_size, self.stride, self.padding, self.ceil_mode, count_pad)


class AdaptiveAvgPool2d(Layer):
    """The means of output_size equal parts of each spatial axis: (N, C, H, W) gives (N, C, *output_size).

    output_size: a number or two; None leaves an axis as it is. An extent must be a multiple of its number of parts:
    PyTorch's parts of unequal size are not available. Errors: `ShapeError`, `ArgumentError`.

    >>> import graphc as gc
    >>> gc.nn.AdaptiveAvgPool2d(1)(gc.input("x", ("N", 512, 7, 7)))
    <Tensor float32(N, 512, 1, 1)>
    """

    def __init__(self, output_size: int | Sequence[int | None] | None) -> None:
        sizes = tuple(output_size) if isinstance(output_size, Sequence) else (output_size, output_size)
        good = (one is None or (isinstance(one, int) and not isinstance(one, bool) and one > 0) for one in sizes)
        if len(sizes) != 2 or not all(good):
            raise ArgumentError(
                f"AdaptiveAvgPool2d: output_size is a whole number from 1 up or None, or two, not {output_size!r}",
                user_line(),
            )
        self.output_size = sizes

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, *output_size)."""
        x = float_tensor("AdaptiveAvgPool2d", x)
        check_rank(x, _AXES[2])
        parts = []
        for extent, size in zip(x.shape[2:], self.output_size, strict=True):
            if size is None or size == extent:
                parts += [extent, 1]
            elif size == 1:
                parts += [1, extent]
            elif isinstance(extent, int) and extent % size == 0 and extent:
                parts += [size, extent // size]
            else:
                raise ShapeError(
                    f"an axis of {extent} does not divide into {size} equal parts; the input's shape is {x.shape}",
                    user_line(),
                )
        return reduce.mean(arrays.reshape(x, (*x.shape[:2], *parts)), axis=(3, 5))

    def describe(self) -> str:
        height, width = self.output_size
        return repr(height if height == width else self.output_size)


class _Global(Layer):
    def _checked(self, x: Tensor) -> Tensor:
        x = float_tensor(type(self).__name__, x)
        if x.ndim < 3:
            raise ShapeError(
                f"the input has {x.ndim} axes, at least 3 are expected (N, C, ...); its shape is {x.shape}", user_line()
            )
        return x


class GlobalAvgPool(_Global):
    """The mean over all spatial axes: (N, C, ...) gives (N, C).

    >>> import graphc as gc
    >>> gc.nn.GlobalAvgPool()(gc.input("x", ("N", 512, 7, 7)))
    <Tensor float32(N, 512)>
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, ...) to (N, C)."""
        return pooling.global_avg_pool(self._checked(x))


class GlobalMaxPool(_Global):
    """The greatest value over all spatial axes: (N, C, ...) gives (N, C)."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, ...) to (N, C)."""
        return pooling.global_max_pool(self._checked(x))

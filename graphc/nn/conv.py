"""Convolutions over 1 and 2 spatial axes, and their transposes, with PyTorch's names, defaults and first values."""

from __future__ import annotations

import math
from typing import ClassVar

from graphc.errors import ArgumentError
from graphc.lang import windows
from graphc.lang.source import user_line
from graphc.lang.tensor import Tensor, Variable
from graphc.lang.windows import PerAxis, per_axis
from graphc.nn.init import Seed, fan_in_uniform
from graphc.nn.layers import Layer, bounded, check_extent, check_rank, float_tensor, options, seeds, whole

_AXES = {1: "N, C, L", 2: "N, C, H, W"}
_DEFAULTS = {"stride": 1, "padding": 0, "output_padding": 0, "dilation": 1, "groups": 1, "bias": True}


class _Convolution(Layer):
    """What the convolutions share. weight: (out, in/groups, *kernel_size), or (in, out/groups, *kernel_size) for the
    transposes; bias: (out,)."""

    spatial: ClassVar[int]
    is_transposed: ClassVar[bool] = False
    weight: Variable
    bias: Variable | None

    def _set_up(
        self,
        channels: tuple[int, int],
        kernel_size: PerAxis,
        stride: PerAxis,
        padding: PerAxis | str,
        dilation: PerAxis,
        groups: int,
        bias: bool,
        seed: Seed,
        dtype: str,
    ) -> None:
        name = type(self).__name__
        self.in_channels = whole(name, "in_channels", channels[0])
        self.out_channels = whole(name, "out_channels", channels[1])
        self.groups = whole(name, "groups", groups)
        if self.in_channels % groups or self.out_channels % groups:
            raise ArgumentError(
                f"{name}: {self.in_channels} input and {self.out_channels} output channels do not both divide into "
                f"{groups} groups",
                user_line(),
            )
        self.kernel_size = self._per_axis("kernel_size", kernel_size, 1)
        self._per_axis("stride", stride, 1)
        self._per_axis("dilation", dilation, 1)
        if not isinstance(padding, str):
            self._per_axis("padding", padding, 0)
        elif self.is_transposed or padding not in ("same", "valid"):
            known = "a whole number" if self.is_transposed else 'a whole number, "same" or "valid"'
            raise ArgumentError(f"{name}: padding is {known}, not {padding!r}", user_line())
        self.stride, self.padding, self.dilation, self.has_bias = stride, padding, dilation, bool(bias)
        first, second = seeds(seed, 2)
        outer, inner = (channels[0], channels[1]) if self.is_transposed else (channels[1], channels[0])
        inner //= groups
        self.declare("weight", (outer, inner, *self.kernel_size), fan_in_uniform(first), dtype)
        if bias:
            self.declare("bias", (self.out_channels,), bounded(inner * math.prod(self.kernel_size), second), dtype)
        else:
            self.bias = None

    def _per_axis(self, what: str, value: PerAxis, least: int) -> tuple[int, ...]:
        try:
            return per_axis(type(self).__name__, what, value, self.spatial, least)
        except ArgumentError as error:
            raise ArgumentError(error.message, user_line()) from None

    def _checked(self, x: Tensor) -> Tensor:
        x = float_tensor(type(self).__name__, x)
        check_rank(x, _AXES[self.spatial])
        check_extent(x, 1, self.in_channels, "channels", "axis 1")
        return x

    def describe(self) -> str:
        kernel = self.kernel_size
        shown = kernel[0] if len(set(kernel)) == 1 else kernel
        known = {name: default for name, default in _DEFAULTS.items() if hasattr(self, name) and name != "bias"}
        bias = "" if self.has_bias else ", bias=False"
        return f"{self.in_channels}, {self.out_channels}, {shown}" + options(self, known) + bias


class Conv1d(_Convolution):
    """Convolution (the kernel is not flipped): (N, in, L) gives (N, out, L'),
    L' = (L + 2 padding - dilation (kernel - 1) - 1) // stride + 1.

    weight: (out, in/groups, kernel_size), bias: (out,), both uniform over +-1/sqrt(fan_in) at first, as in PyTorch.
    padding: zeros on each side, or "same" (stride 1, odd kernels) or "valid". Errors: `ShapeError`, `ArgumentError`.

    >>> import graphc as gc
    >>> gc.nn.Conv1d(1, 8, 3, padding="same")(gc.input("x", ("N", 1, 40)))
    <Tensor float32(N, 8, 40)>
    """

    spatial = 1

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: PerAxis,
        stride: PerAxis = 1,
        padding: PerAxis | str = 0,
        dilation: PerAxis = 1,
        groups: int = 1,
        bias: bool = True,
        seed: Seed = None,
        dtype: str = "float32",
    ) -> None:
        channels = (in_channels, out_channels)
        self._set_up(channels, kernel_size, stride, padding, dilation, groups, bias, seed, dtype)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, L) to (N, out, L')."""
        x = self._checked(x)
        return windows.conv1d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class Conv2d(_Convolution):
    """Convolution (the kernel is not flipped): (N, in, H, W) gives (N, out, H', W'),
    H' = (H + 2 padding - dilation (kernel - 1) - 1) // stride + 1.

    weight: (out, in/groups, *kernel_size), bias: (out,), both uniform over +-1/sqrt(fan_in) at first, as in PyTorch.
    padding: zeros on each side, a pair, or "same" or "valid". Errors: `ShapeError`, `ArgumentError`.

    >>> import graphc as gc
    >>> gc.nn.Conv2d(1, 6, 5, padding=2)(gc.input("x", ("N", 1, 28, 28)))
    <Tensor float32(N, 6, 28, 28)>
    """

    spatial = 2

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: PerAxis,
        stride: PerAxis = 1,
        padding: PerAxis | str = 0,
        dilation: PerAxis = 1,
        groups: int = 1,
        bias: bool = True,
        seed: Seed = None,
        dtype: str = "float32",
    ) -> None:
        channels = (in_channels, out_channels)
        self._set_up(channels, kernel_size, stride, padding, dilation, groups, bias, seed, dtype)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, H, W) to (N, out, H', W')."""
        x = self._checked(x)
        return windows.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class _Transposed(_Convolution):
    is_transposed = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: PerAxis,
        stride: PerAxis = 1,
        padding: PerAxis = 0,
        output_padding: PerAxis = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: PerAxis = 1,
        seed: Seed = None,
        dtype: str = "float32",
    ) -> None:
        channels = (in_channels, out_channels)
        self._set_up(channels, kernel_size, stride, padding, dilation, groups, bias, seed, dtype)
        self._per_axis("output_padding", output_padding, 0)
        self.output_padding = output_padding


class ConvTranspose1d(_Transposed):
    """The transpose of `Conv1d` as a linear map: (N, in, L) gives (N, out, L'),
    L' = (L - 1) stride - 2 padding + dilation (kernel - 1) + output_padding + 1.

    weight: (in, out/groups, kernel_size), bias: (out,), uniform over +-1/sqrt(out/groups * kernel_size) at first, as in
    PyTorch. Errors: `ShapeError`, `ArgumentError`.

    >>> import graphc as gc
    >>> gc.nn.ConvTranspose1d(8, 4, 4, stride=2, padding=1)(gc.input("x", ("N", 8, 10)))
    <Tensor float32(N, 4, 20)>
    """

    spatial = 1

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, L) to (N, out, L')."""
        x, stride, padding = self._checked(x), self.stride, self.padding
        assert not isinstance(padding, str)
        return windows.conv_transpose1d(
            x, self.weight, self.bias, stride, padding, self.output_padding, self.dilation, self.groups
        )


class ConvTranspose2d(_Transposed):
    """The transpose of `Conv2d` as a linear map: (N, in, H, W) gives (N, out, H', W'),
    H' = (H - 1) stride - 2 padding + dilation (kernel - 1) + output_padding + 1.

    weight: (in, out/groups, *kernel_size), bias: (out,), uniform over +-1/sqrt(fan) at first with fan = out/groups
    times the kernel's elements, as in PyTorch. Errors: `ShapeError`, `ArgumentError`.

    >>> import graphc as gc
    >>> gc.nn.ConvTranspose2d(8, 4, 4, stride=2, padding=1)(gc.input("x", ("N", 8, 7, 7)))
    <Tensor float32(N, 4, 14, 14)>
    """

    spatial = 2

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, H, W) to (N, out, H', W')."""
        x, stride, padding = self._checked(x), self.stride, self.padding
        assert not isinstance(padding, str)
        return windows.conv_transpose2d(
            x, self.weight, self.bias, stride, padding, self.output_padding, self.dilation, self.groups
        )

"""Layers with PyTorch's names, defaults and first values: Linear, Conv2d, pooling, Flatten, LayerNorm.

Each is a small composition of the language's functions. A layer that is called with a wrong extent says what it is,
what it expects and what came, with the user's line: `Linear(784, 128): the input has 10 features, 784 are expected`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphc.errors import ArgumentError, ShapeError
from graphc.lang import arrays, elementwise, reduce, windows
from graphc.lang.linear import contract
from graphc.lang.source import named_op, user_line
from graphc.lang.tensor import Tensor, Variable, as_tensor
from graphc.lang.windows import PerAxis
from graphc.nn.init import RandomInitialiser, Seed, fan_in_uniform, ones, uniform, zeros
from graphc.nn.module import Module


class Layer(Module):
    """Base of the layers here: an error about shapes begins with the layer as its text shows it."""

    def __call__(self, *inputs: Any, training: bool | None = None, **options: Any) -> Any:
        """`forward` on tensors; `ShapeError` names the layer and the user's line."""
        try:
            return super().__call__(*inputs, training=training, **options)
        except ShapeError as error:
            raise ShapeError(f"{self!r}: {error.message}", error.where or user_line()) from None

    def describe(self) -> str:
        """The arguments that the layer's text shows."""
        return ""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.describe()})"


def _whole(layer: str, what: str, value: Any, least: int = 1) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ArgumentError(f"{layer}: {what} must be a whole number from {least} up, not {value!r}", user_line())
    return value


def _seeds(seed: Seed, count: int) -> list[Seed]:
    """Seeds for the parameters of one layer: they differ, and all follow from the layer's."""
    if seed is None:
        return [None] * count
    numbers = tuple(seed) if isinstance(seed, Sequence) else (seed,)
    return [(*numbers, stream) for stream in range(count)]


def _bounded(fan_in: int, seed: Seed) -> RandomInitialiser:
    """PyTorch's first bias: uniform over +-1 / sqrt(fan_in) of the weight."""
    bound = fan_in**-0.5 if fan_in else 0.0
    return uniform(-bound, bound, seed)


@named_op
def matmul_transposed(x: Tensor, weight: Tensor) -> Tensor:
    """x @ weight.T as one line, y[..., o] = sum[k] x[..., k] * weight[o, k].

    Without a transpose between, the gradient in the weight is made in the weight's own layout.
    """
    rank = x.ndim
    domain = (*x.shape[:-1], weight.shape[0], weight.shape[1])
    lead = range(rank - 1)
    reads = ((*lead, rank), (rank - 1, rank))
    return Tensor(contract(domain, domain[:-1], range(rank), (x.node, weight.node), reads))


class Linear(Layer):
    """x @ weight.T + bias on the last axis: (..., in_features) gives (..., out_features).

    weight: (out_features, in_features), bias: (out_features,), both uniform over +-1/sqrt(in_features) at first, as
    in PyTorch. `seed` fixes both (`graphc.nn.init` says what None means). Errors: `ShapeError`, `ArgumentError`.

    >>> import graphc as gc
    >>> gc.nn.Linear(784, 128)(gc.input("x", ("N", 784)))
    <Tensor float32(N, 128)>
    """

    weight: Variable
    bias: Variable | None

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, seed: Seed = None, dtype: str = "float32"
    ) -> None:
        self.in_features = _whole("Linear", "in_features", in_features)
        self.out_features = _whole("Linear", "out_features", out_features)
        self.has_bias = bool(bias)
        first, second = _seeds(seed, 2)
        self.declare("weight", (out_features, in_features), fan_in_uniform(first, layout="oi"), dtype)
        if bias:
            self.declare("bias", (out_features,), _bounded(in_features, second), dtype)
        else:
            self.bias = None

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) to (..., out_features)."""
        x = as_tensor(x, "Linear")
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            came = "is a scalar" if x.ndim == 0 else f"has {x.shape[-1]} features"
            raise ShapeError(
                f"the input {came}, {self.in_features} are expected on its last axis; its shape is {x.shape}",
                user_line(),
            )
        y = matmul_transposed(x, self.weight)
        return y if self.bias is None else y + self.bias

    def describe(self) -> str:
        return f"{self.in_features}, {self.out_features}" + ("" if self.has_bias else ", bias=False")


class Conv2d(Layer):
    """Convolution (the kernel is not flipped): (N, in, H, W) gives (N, out, H', W'),
    H' = (H + 2 padding - dilation (kernel - 1) - 1) // stride + 1.

    weight: (out, in/groups, *kernel_size), bias: (out,), both uniform over +-1/sqrt(fan_in) at first, as in PyTorch.
    padding: zeros on each side, a pair, or "same" or "valid". Errors: `ShapeError`, `ArgumentError`.

    >>> import graphc as gc
    >>> gc.nn.Conv2d(1, 6, 5, padding=2)(gc.input("x", ("N", 1, 28, 28)))
    <Tensor float32(N, 6, 28, 28)>
    """

    weight: Variable
    bias: Variable | None

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
        self.in_channels = _whole("Conv2d", "in_channels", in_channels)
        self.out_channels = _whole("Conv2d", "out_channels", out_channels)
        self.groups = _whole("Conv2d", "groups", groups)
        if in_channels % groups or out_channels % groups:
            raise ArgumentError(
                f"Conv2d: {in_channels} input and {out_channels} output channels do not both divide into "
                f"{groups} groups",
                user_line(),
            )
        sizes = (kernel_size,) * 2 if isinstance(kernel_size, int) else tuple(kernel_size)
        if len(sizes) != 2:
            raise ArgumentError(f"Conv2d: kernel_size is a number or two of them, not {kernel_size!r}", user_line())
        self.kernel_size = tuple(_whole("Conv2d", "kernel_size", size) for size in sizes)
        self.stride, self.padding, self.dilation, self.has_bias = stride, padding, dilation, bool(bias)
        first, second = _seeds(seed, 2)
        inner = in_channels // groups
        self.declare("weight", (out_channels, inner, *self.kernel_size), fan_in_uniform(first), dtype)
        if bias:
            self.declare("bias", (out_channels,), _bounded(inner * sizes[0] * sizes[1], second), dtype)
        else:
            self.bias = None

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, H, W) to (N, out, H', W')."""
        x = as_tensor(x, "Conv2d")
        _check_image(x)
        if x.shape[1] != self.in_channels:
            raise ShapeError(
                f"the input has {x.shape[1]} channels, {self.in_channels} are expected on axis 1; "
                f"its shape is {x.shape}",
                user_line(),
            )
        return windows.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def describe(self) -> str:
        kernel = self.kernel_size
        parts = [str(self.in_channels), str(self.out_channels), str(kernel[0] if kernel[0] == kernel[1] else kernel)]
        for name, default in (("stride", 1), ("padding", 0), ("dilation", 1), ("groups", 1)):
            value = getattr(self, name)
            if value != default:
                parts.append(f"{name}={value!r}")
        return ", ".join(parts) + ("" if self.has_bias else ", bias=False")


def _check_image(x: Tensor) -> None:
    if x.ndim != 4:
        raise ShapeError(
            f"the input has {x.ndim} axes, 4 are expected (N, C, H, W); its shape is {x.shape}", user_line()
        )


class _Pool(Layer):
    def __init__(self, kernel_size: PerAxis, stride: PerAxis | None = None, padding: PerAxis = 0) -> None:
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding

    def describe(self) -> str:
        stride = "" if self.stride is None else f", stride={self.stride!r}"
        return f"{self.kernel_size!r}{stride}" + ("" if self.padding == 0 else f", padding={self.padding!r}")


class MaxPool2d(_Pool):
    """The greatest value of each window of (N, C, H, W); stride is kernel_size unless given; padding never wins.

    >>> import graphc as gc
    >>> gc.nn.MaxPool2d(2)(gc.input("x", ("N", 6, 28, 28)))
    <Tensor float32(N, 6, 14, 14)>
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, H', W')."""
        x = as_tensor(x, "MaxPool2d")
        _check_image(x)
        return windows.max_pool2d(x, self.kernel_size, self.stride, self.padding)


class AvgPool2d(_Pool):
    """The mean of each window of (N, C, H, W); zeros of the padding count unless count_include_pad=False.

    >>> import graphc as gc
    >>> gc.nn.AvgPool2d(2)(gc.input("x", ("N", 6, 28, 28)))
    <Tensor float32(N, 6, 14, 14)>
    """

    def __init__(
        self,
        kernel_size: PerAxis,
        stride: PerAxis | None = None,
        padding: PerAxis = 0,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__(kernel_size, stride, padding)
        self.count_include_pad = count_include_pad

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, H', W')."""
        x = as_tensor(x, "AvgPool2d")
        _check_image(x)
        return windows.avg_pool2d(x, self.kernel_size, self.stride, self.padding, self.count_include_pad)


class Flatten(Layer):
    """The axes from `start` on in one: (N, C, H, W) gives (N, C*H*W).

    >>> import graphc as gc
    >>> gc.nn.Flatten()(gc.input("x", ("N", 16, 5, 5)))
    <Tensor float32(N, 400)>
    """

    def __init__(self, start: int = 1) -> None:
        self.start = _whole("Flatten", "start", start, least=0)

    def forward(self, x: Tensor) -> Tensor:
        """(N, ...) to (N, product)."""
        x = as_tensor(x, "Flatten")
        if x.ndim < self.start:
            raise ShapeError(f"the input has {x.ndim} axes, at least {self.start} are expected", user_line())
        return arrays.flatten(x, self.start)

    def describe(self) -> str:
        return "" if self.start == 1 else str(self.start)


class LayerNorm(Layer):
    """(x - mean) / sqrt(var + eps) * weight + bias over the last axes, those of `normalized_shape`.

    weight (ones at first) and bias (zeros) have normalized_shape; var is the mean squared distance from the mean.
    Source: J. L. Ba et al., Layer normalization, arXiv:1607.06450. Errors: `ShapeError`, `ArgumentError`.

    >>> import graphc as gc
    >>> gc.nn.LayerNorm(768)(gc.input("x", (512, 768)))
    <Tensor float32(512, 768)>
    """

    weight: Variable | None
    bias: Variable | None

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        dtype: str = "float32",
    ) -> None:
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.normalized_shape = tuple(_whole("LayerNorm", "an extent", extent) for extent in shape)
        if not shape:
            raise ArgumentError("LayerNorm: normalized_shape needs at least one extent", user_line())
        if not eps >= 0:
            raise ArgumentError(f"LayerNorm: eps must be from 0 up, not {eps!r}", user_line())
        self.eps = eps
        for name, first, is_wanted in (("weight", ones(), True), ("bias", zeros(), bias)):
            if elementwise_affine and is_wanted:
                self.declare(name, shape, first, dtype)
            else:
                setattr(self, name, None)

    def forward(self, x: Tensor) -> Tensor:
        """The input's shape."""
        x = as_tensor(x, "LayerNorm")
        rank = len(self.normalized_shape)
        if x.ndim < rank or x.shape[-rank:] != self.normalized_shape:
            raise ShapeError(
                f"the input's last axes are {x.shape[-rank:]}, {self.normalized_shape} are expected; "
                f"its shape is {x.shape}",
                user_line(),
            )
        axes = tuple(range(-rank, 0))
        centred = x - reduce.mean(x, axes, keepdims=True)
        y = centred / elementwise.sqrt(reduce.var(x, axes, keepdims=True) + self.eps)
        if self.weight is not None:
            y = y * self.weight
        return y if self.bias is None else y + self.bias

    def describe(self) -> str:
        shape = self.normalized_shape
        return f"{shape[0] if len(shape) == 1 else shape}, eps={self.eps}"

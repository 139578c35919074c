"""Activation functions as layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphc.errors import ArgumentError, ShapeError
from graphc.lang import activations, arrays, elementwise
from graphc.lang.source import user_line
from graphc.lang.tensor import Tensor, Variable, as_tensor
from graphc.nn.init import constant
from graphc.nn.layers import Layer, number, whole


class Activation(Layer):
    """A function of one tensor as a layer; the classes below name the usual ones."""

    def __init__(self, function: Callable[..., Tensor], **options: Any) -> None:
        self.function, self.options = function, options

    def forward(self, x: Tensor) -> Tensor:
        """The function with the layer's options."""
        return self.function(as_tensor(x, type(self).__name__), **self.options)

    def describe(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self.options.items())


class ReLU(Activation):
    """max(x, 0)."""

    def __init__(self) -> None:
        super().__init__(activations.relu)


class LeakyReLU(Activation):
    """x where positive, negative_slope * x elsewhere."""

    def __init__(self, negative_slope: float = 0.01) -> None:
        super().__init__(activations.leaky_relu, negative_slope=negative_slope)


class PReLU(Layer):
    """x where positive, weight * x elsewhere, with a weight that is learnt: one, or one for each channel (axis 1).

    weight: (num_parameters,), 0.25 at first, as in PyTorch. Source: K. He et al., Delving deep into rectifiers,
    arXiv:1502.01852. Errors: `ShapeError`, `ArgumentError`.

    >>> import graphc as gc
    >>> gc.nn.PReLU(6)(gc.input("x", ("N", 6, 28, 28)))
    <Tensor float32(N, 6, 28, 28)>
    """

    weight: Variable

    def __init__(self, num_parameters: int = 1, init: float = 0.25, dtype: str = "float32") -> None:
        self.num_parameters = whole("PReLU", "num_parameters", num_parameters)
        self.init = init
        self.declare("weight", (num_parameters,), constant(init), dtype)

    def forward(self, x: Tensor) -> Tensor:
        """The input's shape."""
        x = as_tensor(x, "PReLU")
        weight: Tensor = self.weight
        if self.num_parameters != 1:
            channels = x.shape[1] if x.ndim > 1 else 1
            if channels != self.num_parameters:
                raise ShapeError(
                    f"the input has {channels} channels, {self.num_parameters} are expected on axis 1; "
                    f"its shape is {x.shape}",
                    user_line(),
                )
            weight = arrays.reshape(weight, (self.num_parameters, *(1,) * (x.ndim - 2)))
        elif x.ndim == 0:
            weight = arrays.reshape(weight, ())
        return activations.prelu(x, weight)

    def describe(self) -> str:
        return "" if self.num_parameters == 1 else str(self.num_parameters)


class ELU(Activation):
    """x where positive, alpha * (exp(x) - 1) elsewhere."""

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__(activations.elu, alpha=alpha)


class Tanh(Activation):
    """Hyperbolic tangent."""

    def __init__(self) -> None:
        super().__init__(elementwise.tanh)


class Sigmoid(Activation):
    """1 / (1 + exp(-x))."""

    def __init__(self) -> None:
        super().__init__(elementwise.sigmoid)


class Hardtanh(Activation):
    """x cut off at min_val and max_val. Errors: `ArgumentError` unless min_val is below max_val."""

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0) -> None:
        if not min_val < max_val:
            raise ArgumentError(
                f"Hardtanh: min_val must be below max_val, not {min_val!r} and {max_val!r}", user_line()
            )
        super().__init__(activations.hard_tanh, low=min_val, high=max_val)


class ReLU6(Activation):
    """x cut off at 0 and 6."""

    def __init__(self) -> None:
        super().__init__(activations.hard_tanh, low=0.0, high=6.0)

    def describe(self) -> str:
        return ""


class Hardsigmoid(Activation):
    """x / 6 + 1/2, cut off at 0 and 1."""

    def __init__(self) -> None:
        super().__init__(activations.hard_sigmoid)


class Hardswish(Activation):
    """x * Hardsigmoid(x). Source: A. Howard et al., Searching for MobileNetV3, arXiv:1905.02244."""

    def __init__(self) -> None:
        super().__init__(activations.hard_swish)


class Softplus(Activation):
    """log(1 + exp(beta * x)) / beta. Errors: `ArgumentError` unless beta is above 0.

    PyTorch's `threshold`, from which on x itself stands for it, is not needed: the function does not overflow.
    """

    def __init__(self, beta: float = 1.0) -> None:
        number("Softplus", "beta", beta)
        if beta == 0:
            raise ArgumentError(f"Softplus: beta must be above 0, not {beta!r}", user_line())
        super().__init__(_softplus, beta=beta)


def _softplus(x: Tensor, beta: float) -> Tensor:
    return elementwise.softplus(x) if beta == 1 else elementwise.softplus(beta * x) / beta


class SiLU(Activation):
    """x * sigmoid(x)."""

    def __init__(self) -> None:
        super().__init__(activations.silu)


class GELU(Activation):
    """x * Phi(x), or approximate="tanh"."""

    def __init__(self, approximate: str = "none") -> None:
        super().__init__(activations.gelu, approximate=approximate)


class Softmax(Activation):
    """exp(x) / sum(exp(x)) along an axis."""

    def __init__(self, axis: int = -1) -> None:
        super().__init__(activations.softmax, axis=axis)


class LogSoftmax(Activation):
    """log(softmax(x)) along an axis."""

    def __init__(self, axis: int = -1) -> None:
        super().__init__(activations.log_softmax, axis=axis)

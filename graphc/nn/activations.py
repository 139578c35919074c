"""Activation functions as layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphc.lang import activations, elementwise
from graphc.lang.tensor import Tensor, as_tensor
from graphc.nn.layers import Layer


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


class Softplus(Activation):
    """log(1 + exp(x))."""

    def __init__(self) -> None:
        super().__init__(elementwise.softplus)


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

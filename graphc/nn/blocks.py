"""Connections around layers: residual and dense."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphc.errors import ShapeError
from graphc.lang import activations, arrays
from graphc.lang.source import user_line
from graphc.lang.tensor import Tensor, as_tensor
from graphc.nn.init import Seed
from graphc.nn.layers import Layer, seeds, whole
from graphc.nn.linear import Linear
from graphc.nn.module import Sequential


class Residual(Sequential):
    """x + f(x), with f the given modules and functions one after another; f must keep the shape.

    Source: K. He et al., Deep residual learning for image recognition, arXiv:1512.03385. Errors: `ShapeError`.

    >>> import graphc as gc
    >>> block = gc.nn.Residual(gc.nn.Conv2d(8, 8, 3, padding=1), gc.nn.ReLU())
    >>> block(gc.input("x", ("N", 8, 32, 32)))
    <Tensor float32(N, 8, 32, 32)>
    """

    def forward(self, x: Tensor) -> Tensor:
        """The input's shape."""
        x = as_tensor(x, "Residual")
        y = super().forward(x)
        if y.shape != x.shape:
            raise ShapeError(f"Residual: the input has shape {x.shape}, the layers give {y.shape}", user_line())
        return x + y


class DenseConnection(Sequential):
    """x and f(x) one after the other along an axis, the channels' unless said; f as in `Residual`.

    Source: G. Huang et al., Densely connected convolutional networks, arXiv:1608.06993. Errors: `ShapeError`.

    >>> import graphc as gc
    >>> block = gc.nn.DenseConnection(gc.nn.Conv2d(8, 4, 3, padding=1), gc.nn.ReLU())
    >>> block(gc.input("x", ("N", 8, 32, 32)))
    <Tensor float32(N, 12, 32, 32)>
    """

    def __init__(self, *layers: Any, axis: int = 1) -> None:
        super().__init__(*layers)
        self.axis = axis

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, ...) to (N, C + what f gives, ...)."""
        x = as_tensor(x, "DenseConnection")
        return arrays.concatenate([x, super().forward(x)], axis=self.axis)


class ResidualBlock(Layer):
    """z + sigma(W2 sigma(W1 z + b1) + b2) on the last axis, the block of ResNet-S; sigma: ReLU unless given.

    `linear1` and `linear2` are `Linear(features, features)`. Errors: `ShapeError`, `ArgumentError`.

    >>> import graphc as gc
    >>> gc.nn.ResidualBlock(64)(gc.input("z", ("N", 64)))
    <Tensor float32(N, 64)>
    """

    def __init__(
        self,
        features: int,
        activation: Callable[[Tensor], Tensor] = activations.relu,
        seed: Seed = None,
        dtype: str = "float32",
    ) -> None:
        self.features = whole("ResidualBlock", "features", features)
        self.activation = activation
        first, second = seeds(seed, 2)
        self.linear1 = Linear(features, features, seed=first, dtype=dtype)
        self.linear2 = Linear(features, features, seed=second, dtype=dtype)

    def forward(self, z: Tensor) -> Tensor:
        """(..., features) to (..., features)."""
        return z + self.activation(self.linear2(self.activation(self.linear1(z))))

    def describe(self) -> str:
        return str(self.features)

"""Normalisation layers with PyTorch's names, defaults and first values.

Statistics are taken in two passes: var is the mean squared distance from the mean, which a large mean does not cancel.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphc.errors import ArgumentError, ShapeError
from graphc.lang import arrays, elementwise, reduce
from graphc.lang.source import user_line
from graphc.lang.tensor import Tensor, Variable
from graphc.nn.init import ones, zeros
from graphc.nn.layers import Layer, check_extent, float_tensor, number, options, whole


def _extents(layer: str, normalized_shape: int | Sequence[int]) -> tuple[int, ...]:
    shape = tuple(normalized_shape) if isinstance(normalized_shape, Sequence) else (normalized_shape,)
    if not shape:
        raise ArgumentError(f"{layer}: normalized_shape needs at least one extent", user_line())
    return tuple(whole(layer, "an extent", extent) for extent in shape)


class _Normalisation(Layer):
    """What the layers share: a weight, ones at first, and a bias, zeros; either is None where it is not wanted."""

    weight: Variable | None
    bias: Variable | None

    def _affine(self, shape: tuple[int, ...], has_weight: bool, has_bias: bool, dtype: str) -> None:
        for name, first, is_wanted in (("weight", ones(), has_weight), ("bias", zeros(), has_bias)):
            if is_wanted:
                self.declare(name, shape, first, dtype)
            else:
                setattr(self, name, None)

    def _scaled(self, normal: Tensor, trailing: int = 0) -> Tensor:
        """normal * weight + bias, both with `trailing` axes of extent 1 after their own."""
        if self.weight is not None:
            normal = normal * _along(self.weight, trailing)
        return normal if self.bias is None else normal + _along(self.bias, trailing)


def _along(values: Tensor, trailing: int) -> Tensor:
    return arrays.reshape(values, (*values.shape, *(1,) * trailing)) if trailing else values


class _LastAxes(_Normalisation):
    normalized_shape: tuple[int, ...]
    eps: float | None

    def _checked(self, x: Tensor) -> Tensor:
        x = float_tensor(type(self).__name__, x)
        rank = len(self.normalized_shape)
        if x.ndim < rank or x.shape[-rank:] != self.normalized_shape:
            raise ShapeError(
                f"the input's last axes are {x.shape[-rank:]}, {self.normalized_shape} are expected; "
                f"its shape is {x.shape}",
                user_line(),
            )
        return x

    def describe(self) -> str:
        shape = self.normalized_shape
        return f"{shape[0] if len(shape) == 1 else shape}, eps={self.eps}"


class LayerNorm(_LastAxes):
    """(x - mean) / sqrt(var + eps) * weight + bias over the last axes, those of `normalized_shape`.

    weight (ones at first) and bias (zeros) have normalized_shape; var is the mean squared distance from the mean.
    Source: J. L. Ba et al., Layer normalization, arXiv:1607.06450. Errors: `ShapeError`, `ArgumentError`.

    >>> import graphc as gc
    >>> gc.nn.LayerNorm(768)(gc.input("x", (512, 768)))
    <Tensor float32(512, 768)>
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        dtype: str = "float32",
    ) -> None:
        self.normalized_shape = _extents("LayerNorm", normalized_shape)
        self.eps: float = number("LayerNorm", "eps", eps)
        self._affine(self.normalized_shape, elementwise_affine, elementwise_affine and bias, dtype)

    def forward(self, x: Tensor) -> Tensor:
        """The input's shape."""
        x = self._checked(x)
        axes = tuple(range(-len(self.normalized_shape), 0))
        centred = x - reduce.mean(x, axes, keepdims=True)
        return self._scaled(centred / elementwise.sqrt(reduce.var(x, axes, keepdims=True) + self.eps))


class RMSNorm(_LastAxes):
    """x / sqrt(mean(x^2) + eps) * weight over the last axes, those of `normalized_shape`.

    weight (ones at first) has normalized_shape. eps: the input's machine epsilon unless given, as in PyTorch.
    Source: B. Zhang, R. Sennrich, Root mean square layer normalization, arXiv:1910.07467. Errors: as in `LayerNorm`.

    >>> import graphc as gc
    >>> gc.nn.RMSNorm(768)(gc.input("x", (512, 768)))
    <Tensor float32(512, 768)>
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        dtype: str = "float32",
    ) -> None:
        self.normalized_shape = _extents("RMSNorm", normalized_shape)
        self.eps = None if eps is None else number("RMSNorm", "eps", eps)
        self._affine(self.normalized_shape, elementwise_affine, False, dtype)

    def forward(self, x: Tensor) -> Tensor:
        """The input's shape."""
        x = self._checked(x)
        axes = tuple(range(-len(self.normalized_shape), 0))
        eps = float(np.finfo(x.dtype).eps) if self.eps is None else self.eps
        size = reduce.mean(elementwise.square(x), axes, keepdims=True)
        return self._scaled(x / elementwise.sqrt(size + eps))


class GroupNorm(_Normalisation):
    """(x - mean) / sqrt(var + eps) * weight + bias over each group of channels of each example (N, C, ...).

    weight (ones at first) and bias (zeros): (num_channels,). With one group for each channel it is instance norm.
    Source: Y. Wu, K. He, Group normalization, arXiv:1803.08494. Errors: `ShapeError`, `ArgumentError`.

    >>> import graphc as gc
    >>> gc.nn.GroupNorm(4, 64)(gc.input("x", ("N", 64, 7, 7)))
    <Tensor float32(N, 64, 7, 7)>
    """

    def __init__(
        self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True, dtype: str = "float32"
    ) -> None:
        self.num_groups = whole("GroupNorm", "num_groups", num_groups)
        self.num_channels = whole("GroupNorm", "num_channels", num_channels)
        if num_channels % num_groups:
            raise ArgumentError(
                f"GroupNorm: {num_channels} channels do not divide into {num_groups} groups", user_line()
            )
        self.eps = number("GroupNorm", "eps", eps)
        self.affine = bool(affine)
        self._affine((num_channels,), affine, affine, dtype)

    def forward(self, x: Tensor) -> Tensor:
        """The input's shape."""
        x = float_tensor("GroupNorm", x)
        if x.ndim < 2:
            raise ShapeError(f"the input has {x.ndim} axes, at least 2 are expected (N, C, ...)", user_line())
        check_extent(x, 1, self.num_channels, "channels", "axis 1")
        groups = arrays.reshape(
            x, (x.shape[0], self.num_groups, self.num_channels // self.num_groups, *x.shape[2:])
        )
        axes = tuple(range(2, groups.ndim))
        centred = groups - reduce.mean(groups, axes, keepdims=True)
        normal = centred / elementwise.sqrt(reduce.var(groups, axes, keepdims=True) + self.eps)
        return self._scaled(arrays.reshape(normal, x.shape), x.ndim - 2)

    def describe(self) -> str:
        known = {"eps": 1e-5, "affine": True}
        return f"{self.num_groups}, {self.num_channels}" + options(self, known)

"""Batch normalisation, with PyTorch's names, defaults and first values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from graphc.errors import ArgumentError, ShapeError
from graphc.ir.extent import format_shape, product
from graphc.lang import arrays, elementwise, reduce
from graphc.lang.moving import moving
from graphc.lang.requirements import require_at_least
from graphc.lang.source import user_line
from graphc.lang.tensor import Tensor, Variable, state
from graphc.nn.init import ones, zeros
from graphc.nn.layers import Layer, check_extent, float_tensor, number, options, whole

_STATES = {"running_mean": 0, "running_var": 1, "num_batches_tracked": 0}  # and their first values


class _BatchNorm(Layer):
    ranks: ClassVar[tuple[int, ...]]
    axes: ClassVar[str]
    weight: Variable | None
    bias: Variable | None
    running_mean: Variable | None
    running_var: Variable | None
    num_batches_tracked: Variable | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        dtype: str = "float32",
    ) -> None:
        name = type(self).__name__
        self.num_features = whole(name, "num_features", num_features)
        self.eps = number(name, "eps", eps)
        self.momentum = None if momentum is None else number(name, "momentum", momentum)
        self.affine, self.track_running_stats, self._dtype = bool(affine), bool(track_running_stats), dtype
        for label, first in (("weight", ones()), ("bias", zeros())):
            if affine:
                self.declare(label, (num_features,), first, dtype)
            else:
                setattr(self, label, None)
        for label in _STATES:
            if track_running_stats:
                self._members.setdefault(label)  # a member that is made when it is first asked for
            else:
                setattr(self, label, None)

    def __getattr__(self, name: str) -> Any:
        if name not in _STATES:
            return super().__getattr__(name)
        path = self._path()
        is_count = name == "num_batches_tracked"
        made = state(
            f"{path}.{name}" if path else name,
            () if is_count else (self.num_features,),
            init=_STATES[name],
            dtype="int64" if is_count else self._dtype,
        )
        setattr(self, name, made)
        return made

    def forward(self, x: Tensor, training: bool = False) -> Tensor:
        """The input's shape."""
        x = float_tensor(type(self).__name__, x)
        if x.ndim not in self.ranks:
            expected = " or ".join(map(str, self.ranks))
            raise ShapeError(
                f"the input has {x.ndim} axes, {expected} are expected ({self.axes}); its shape is {x.shape}",
                user_line(),
            )
        check_extent(x, 1, self.num_features, "channels", "axis 1")
        if training or self.running_mean is None or self.running_var is None:
            mean, var = self._of_batch(x, training)
        else:
            mean, var = (self._per_channel(one, x).astype(x.dtype) for one in (self.running_mean, self.running_var))
        scale = 1 / elementwise.sqrt(var + self.eps)
        if self.weight is not None:
            scale = scale * self._per_channel(self.weight, x)
        y = (x - mean) * scale
        return y if self.bias is None else y + self._per_channel(self.bias, x)

    def _per_channel(self, values: Tensor, x: Tensor) -> Tensor:
        return arrays.reshape(values, (1, self.num_features, *(1,) * (x.ndim - 2)))

    def _of_batch(self, x: Tensor, training: bool) -> tuple[Tensor, Tensor]:
        """Mean and variance over all axes but the channels', (1, C, 1, ...); in training they move the statistics."""
        axes = (0, *range(2, x.ndim))
        mean, var = (one(x, axes, keepdims=True) for one in (reduce.mean, reduce.var))
        count = product(tuple(x.shape[axis] for axis in axes))
        if not training:
            return mean, var
        message = f"training needs more than one value for each channel; the input's shape is {format_shape(x.shape)}"
        if isinstance(count, int) and count < 2:
            raise ArgumentError(message, user_line())  # what calls the layer says which it is
        require_at_least(var.node, count, 2, f"{self._label()}: {message}")
        kept = [one for name in _STATES if (one := getattr(self, name)) is not None]
        if not kept:
            return mean, var
        unbiased = reduce.var(x, axes, keepdims=True, ddof=1)
        batch = [arrays.reshape(one, (self.num_features,)).astype(self._dtype) for one in (mean, unbiased)]

        def moved(old: Sequence[Tensor]) -> list[Tensor]:
            batches = old[2] + 1
            share: Tensor | float = 1 / batches.astype(self._dtype) if self.momentum is None else self.momentum
            return [*((1 - share) * was + share * now for was, now in zip(old, batch, strict=False)), batches]

        return mean, moving(var, kept, moved)

    def describe(self) -> str:
        known = {"eps": 1e-5, "momentum": 0.1, "affine": True, "track_running_stats": True}
        return f"{self.num_features}" + options(self, known)


class BatchNorm1d(_BatchNorm):
    """(x - mean) / sqrt(var + eps) * weight + bias for each channel of (N, C) or (N, C, L); see `BatchNorm2d`.

    >>> import graphc as gc
    >>> gc.nn.BatchNorm1d(100)(gc.input("x", ("N", 100)))
    <Tensor float32(N, 100)>
    """

    ranks, axes = (2, 3), "N, C or N, C, L"


class BatchNorm2d(_BatchNorm):
    """(x - mean) / sqrt(var + eps) * weight + bias for each channel of (N, C, H, W).

    In training (`training=True` in a call of the model) mean and var are those of the batch, and a compiled function
    moves the states `running_mean` and `running_var` by the share `momentum` towards the batch's mean and its unbiased
    variance, and counts in `num_batches_tracked`. momentum=None weighs all batches alike. Otherwise mean and var are
    the states, which stay as they are; without them (track_running_stats=False) those of the batch.

    weight (ones at first) and bias (zeros): (C,). In a function with several training calls of one layer
    they move with each, in order. Source: S. Ioffe, C. Szegedy, Batch normalization, arXiv:1502.03167.
    Errors: `ShapeError`; `ArgumentError` for bad options, and for a training batch of one value for each channel.

    >>> import graphc as gc, numpy as np
    >>> norm, x = gc.nn.BatchNorm2d(1, momentum=0.5), gc.input("x", ("N", 1, 1, 1))
    >>> step = gc.compile([x], norm(x, training=True))
    >>> step(np.array([2.0, 4.0], dtype=np.float32).reshape(2, 1, 1, 1)).ravel()
    array([-0.999995,  0.999995], dtype=float32)
    >>> norm.running_mean.value, norm.running_var.value
    (array([1.5], dtype=float32), array([1.5], dtype=float32))
    """

    ranks, axes = (4,), "N, C, H, W"

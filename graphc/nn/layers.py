"""What layers share: the base `Layer`, whose errors name it, and checks of options and inputs.

Each layer is a small composition of the language's functions. One that is called with a wrong extent says what it is,
what it expects and what came, with the user's line: `Linear(784, 128): the input has 10 features, 784 are expected`.
Inside a model its place comes first: `features.3: Conv2d(64, 128, 3): ...`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphc.errors import ArgumentError, DTypeError, ShapeError
from graphc.lang.source import user_line
from graphc.lang.tensor import Tensor, TensorLike, as_tensor
from graphc.nn.init import RandomInitialiser, Seed, uniform
from graphc.nn.module import Module

_FLOATS = ("float32", "float64")


class Layer(Module):
    """Base of the layers here: an error in one begins with the layer as its text shows it."""

    def _label(self) -> str:
        """The place in the model and the layer's text."""
        place = super()._label()
        return f"{place}: {self!r}" if place else repr(self)

    def describe(self) -> str:
        """The arguments that the layer's text shows."""
        return ""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.describe()})"


def options(layer: object, defaults: dict[str, Any]) -> str:
    """The attributes that differ from their defaults, as a layer's text shows them: `, stride=2, bias=False`."""
    values = ((name, getattr(layer, name), default) for name, default in defaults.items())
    return "".join(f", {name}={value!r}" for name, value, default in values if value != default)


def whole(layer: str, what: str, value: Any, least: int = 1) -> int:
    """The value, if it is a whole number from `least` up. Errors: `ArgumentError`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ArgumentError(f"{layer}: {what} must be a whole number from {least} up, not {value!r}", user_line())
    return value


def number(layer: str, what: str, value: Any, least: float = 0.0, below: float = float("inf")) -> float:
    """The value, if it is a number in [least, below). Errors: `ArgumentError`."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not least <= value < below:
        span = f"from {least:g} up" if below == float("inf") else f"in [{least:g}, {below:g})"
        raise ArgumentError(f"{layer}: {what} must be a number {span}, not {value!r}", user_line())
    return float(value)


def seeds(seed: Seed, count: int) -> list[Seed]:
    """Seeds for the parameters of one layer: they differ, and all follow from the layer's."""
    if seed is None:
        return [None] * count
    numbers = tuple(seed) if isinstance(seed, Sequence) else (seed,)
    return [(*numbers, stream) for stream in range(count)]


def bounded(fan_in: int, seed: Seed) -> RandomInitialiser:
    """PyTorch's first bias: uniform over +-1 / sqrt(fan_in) of the weight."""
    bound = fan_in**-0.5 if fan_in else 0.0
    return uniform(-bound, bound, seed)


def float_tensor(layer: str, x: TensorLike) -> Tensor:
    """x as a tensor of floats. Errors: `DTypeError`."""
    tensor = as_tensor(x, layer)
    if tensor.dtype not in _FLOATS:
        raise DTypeError(f"the input must have a float dtype, not {tensor.dtype}", user_line())
    return tensor


def check_rank(x: Tensor, axes: str) -> None:
    """`ShapeError` unless x has as many axes as are named in `axes`, "N, C, H, W" say."""
    expected = axes.count(",") + 1
    if x.ndim != expected:
        raise ShapeError(
            f"the input has {x.ndim} axes, {expected} are expected ({axes}); its shape is {x.shape}", user_line()
        )


def check_extent(x: Tensor, axis: int, expected: int, what: str, where: str) -> None:
    """`ShapeError` unless x has this extent: "the input has 3 channels, 1 are expected on axis 1"."""
    if x.ndim == 0 or x.shape[axis] != expected:
        came = "is a scalar" if x.ndim == 0 else f"has {x.shape[axis]} {what}"
        raise ShapeError(f"the input {came}, {expected} are expected on {where}; its shape is {x.shape}", user_line())

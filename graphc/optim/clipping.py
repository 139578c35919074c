"""Clipping of gradients, as part of the graph: by their norm, which all of them share, and by value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphc.errors import ArgumentError, ArgumentTypeError, ShapeError
from graphc.lang.elementwise import clip, minimum, sqrt, square
from graphc.lang.reduce import sum as total_of
from graphc.lang.source import named_op, user_line
from graphc.lang.tensor import Tensor, as_tensor
from graphc.optim.options import above_zero

NORM_FLOOR = 1e-6  # added to the norm that is divided by, as in PyTorch's clip_grad_norm_: gradients of 0 stay 0


@named_op
def global_norm(gradients: Sequence[Tensor]) -> Tensor:
    """The root of the sum of the squares of all elements of all gradients: a scalar, in the first one's dtype.

    >>> import graphc as gc
    >>> float(gc.evaluate(gc.optim.global_norm([gc.constant([3.0, 0.0]), gc.constant(4.0)]), {}))
    5.0
    """
    given = _checked("global_norm", gradients)
    squares = [total_of(square(gradient)).astype(given[0].dtype) for gradient in given]
    total = squares[0]
    for one in squares[1:]:
        total = total + one
    return sqrt(total)


@named_op
def clip_by_norm(gradients: Sequence[Tensor], max_norm: float | Tensor) -> list[Tensor]:
    """The gradients times min(1, max_norm / (norm + 1e-6)), with the norm of all of them together.

    max_norm: a number above 0, or a float scalar tensor (a state can be set later). The shapes and dtypes stay. A NaN
    or an infinity in one gradient reaches all of them. PyTorch's formula (clip_grad_norm_).

    >>> import graphc as gc
    >>> [clipped] = gc.optim.clip_by_norm([gc.constant([30.0, 40.0])], max_norm=5)
    >>> gc.evaluate(clipped, {}).round(4)
    array([3., 4.], dtype=float32)
    """
    given = _checked("clip_by_norm", gradients)
    limit = _limit("clip_by_norm", "max_norm", max_norm)
    factor = minimum(limit / (global_norm(given) + NORM_FLOOR), 1.0)
    return [gradient * factor.astype(gradient.dtype) for gradient in given]


@named_op
def clip_by_value(gradients: Sequence[Tensor], max_value: float | Tensor) -> list[Tensor]:
    """Each element limited to [-max_value, max_value]; NaN stays. max_value: as max_norm of `clip_by_norm`.

    >>> import graphc as gc
    >>> [clipped] = gc.optim.clip_by_value([gc.constant([30.0, -0.5])], max_value=1)
    >>> gc.evaluate(clipped, {})
    array([ 1. , -0.5], dtype=float32)
    """
    given = _checked("clip_by_value", gradients)
    limit = _limit("clip_by_value", "max_value", max_value)
    return [clip(gradient, *_bounds(limit, gradient.dtype)) for gradient in given]


def _bounds(limit: float | Tensor, dtype: str) -> tuple[Any, Any]:
    high = limit.astype(dtype) if isinstance(limit, Tensor) else limit
    return -high, high


def _limit(owner: str, option: str, value: float | Tensor) -> float | Tensor:
    if not isinstance(value, Tensor):
        return above_zero(owner, option, value)
    if value.shape != () or not value.dtype.startswith("float"):
        raise ShapeError(
            f"{owner}: {option} must be a float scalar, not {value.dtype} of shape {value.shape}", user_line()
        )
    return value


def _checked(owner: str, gradients: Sequence[Tensor]) -> list[Tensor]:
    if isinstance(gradients, Tensor):
        raise ArgumentTypeError(f"{owner}: a list of gradients is needed, not one tensor", user_line())
    given = [as_tensor(gradient, owner) for gradient in gradients]
    if not given:
        raise ArgumentError(f"{owner}: no gradients", user_line())
    for gradient in given:
        if not gradient.dtype.startswith("float"):
            raise ArgumentTypeError(f"{owner}: gradients are floats, not {gradient.dtype}", user_line())
    return given

"""What the losses share: reductions, pairs of predictions and targets, class labels.

A mean over no elements does not exist: where the extents are known it is refused with `ArgumentError`. Predictions and
targets of different shapes are refused with `ShapeError` instead of being broadcast, which hides a forgotten axis; a
target may be a plain number.
"""

from __future__ import annotations

import math

from graphc.errors import ArgumentError, DTypeError, ShapeError
from graphc.ir.extent import format_shape, product
from graphc.ir.node import opaque
from graphc.lang.arrays import moveaxis, one_hot
from graphc.lang.elementwise import equal, logical_and, where
from graphc.lang.reduce import mean
from graphc.lang.reduce import sum as reduce_sum
from graphc.lang.requirements import require_at_least
from graphc.lang.tensor import Tensor, TensorLike, as_tensor

FLOATS = ("float32", "float64")


def reduced(
    op: str,
    loss: Tensor,
    reduction: str,
    allowed: tuple[str, ...] = ("mean", "sum", "none"),
    weights: Tensor | None = None,
) -> Tensor:
    """The losses as they are, their sum or their mean; with weights, the mean is the sum over that of the weights."""
    if reduction not in allowed:
        options = ", ".join(f'"{name}"' for name in allowed)
        raise ArgumentError(f"{op}: reduction is one of {options}, not {reduction!r}")
    if reduction == "none":
        return loss
    if reduction == "sum":
        return reduce_sum(loss)
    total = mean(loss) if weights is None else reduce_sum(loss) / reduce_sum(weights)
    shape = format_shape(loss.shape)
    message = f"{op}: the mean over an empty batch does not exist; the losses have shape {shape}"
    require_at_least(total.node, product(loss.shape), 1, message)
    return total


def pair(op: str, prediction: TensorLike, target: TensorLike) -> tuple[Tensor, Tensor]:
    """Two float tensors of one shape; a target without axes goes with any."""
    left, right = as_tensor(prediction, op), as_tensor(target, op)
    if left.dtype not in FLOATS:
        raise DTypeError(f"{op}: the prediction must have a float dtype, not {left.dtype}")
    if left.shape != right.shape and right.shape != ():
        raise ShapeError(f"{op}: the prediction has shape {left.shape}, the target {right.shape}")
    return left, right.astype(left.dtype)


def classes(op: str, scores: Tensor) -> tuple[int, int]:
    """(axis of the classes, their number): axis 1, or 0 for a single vector of scores."""
    if scores.dtype not in FLOATS:
        raise DTypeError(f"{op}: the scores must have a float dtype, not {scores.dtype}")
    if scores.ndim == 0:
        raise ShapeError(f"{op}: the scores need an axis of classes, they are a scalar")
    axis = min(1, scores.ndim - 1)
    count = scores.shape[axis]
    if not isinstance(count, int) or count == 0:
        raise ShapeError(f"{op}: the number of classes must be known and not 0, the scores have shape {scores.shape}")
    return axis, count


def labels_of(op: str, scores: Tensor, target: TensorLike, axis: int) -> Tensor:
    """The labels as a tensor in the scores' shape without the axis of classes; they are not checked."""
    labels = as_tensor(target, op)
    if labels.dtype not in ("int32", "int64"):
        raise DTypeError(f"{op}: class labels are int32 or int64, not {labels.dtype}")
    expected = scores.shape[:axis] + scores.shape[axis + 1 :]
    if labels.shape != expected:
        raise ShapeError(
            f"{op}: the scores have shape {scores.shape}, so the labels must have shape {expected}, not {labels.shape}"
        )
    return labels


def checked_labels(op: str, labels: Tensor, count: int, ignored: int | None = None) -> Tensor:
    """The labels, which must lie in 0 .. count-1 when they are computed: a compiled function refuses others before it
    changes anything. Those that are ignored are 0."""
    if ignored is not None:
        if not isinstance(ignored, int) or isinstance(ignored, bool):
            raise ArgumentError(f"{op}: ignore_index must be a whole number or None, not {ignored!r}")
        labels = where(equal(labels, ignored), 0, labels)
    return Tensor(opaque("checked", (labels.node,), labels.shape, labels.dtype, extent=count))


def is_label(labels: Tensor, axis: int, count: int) -> Tensor:
    """bool in the scores' shape: whether this class is the label."""
    hot = one_hot(labels, count, dtype="bool")
    return hot if axis == hot.ndim - 1 else moveaxis(hot, hot.ndim - 1, axis)


def picked(scores: Tensor, labels: Tensor, axis: int, count: int) -> Tensor:
    """The score of the label's class: a select, not a product, so that 0 * inf cannot arise."""
    return reduce_sum(where(is_label(labels, axis, count), scores, 0.0), axis)


def weighted(weight: Tensor, log_p: Tensor) -> Tensor:
    """weight * log_p, 0 where the weight is 0 and log_p is -inf."""
    return where(logical_and(weight == 0, log_p == -math.inf), 0.0, weight * log_p)

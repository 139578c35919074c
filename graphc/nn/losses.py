"""Losses as functions, with PyTorch's names and defaults. reduction: "mean" (the default), "sum" or "none".

Each returns a scalar, or with "none" one loss for each row or element. A mean over no elements does not exist: where
the extents are known it is refused with `ArgumentError`. Predictions and targets of different shapes are refused with
`ShapeError` instead of being broadcast, which hides a forgotten axis; a target may be a plain number.
"""

from __future__ import annotations

import math

from graphc.errors import ArgumentError, DTypeError, ShapeError
from graphc.ir.extent import format_shape, product
from graphc.lang.activations import relu
from graphc.lang.arrays import expand_dims, moveaxis, one_hot
from graphc.lang.calculus import stop_gradient
from graphc.lang.elementwise import (
    absolute,
    clip,
    exp,
    log,
    logical_and,
    softplus,
    square,
    where,
)
from graphc.lang.reduce import max as reduce_max
from graphc.lang.reduce import mean
from graphc.lang.reduce import sum as reduce_sum
from graphc.lang.requirements import require_at_least
from graphc.lang.source import named_op
from graphc.lang.tensor import Tensor, TensorLike, as_tensor

_FLOATS = ("float32", "float64")


def _reduced(op: str, loss: Tensor, reduction: str, allowed: tuple[str, ...] = ("mean", "sum", "none")) -> Tensor:
    if reduction not in allowed:
        options = ", ".join(f'"{name}"' for name in allowed)
        raise ArgumentError(f"{op}: reduction is one of {options}, not {reduction!r}")
    if reduction == "none":
        return loss
    if reduction == "sum":
        return reduce_sum(loss)
    total = mean(loss)
    shape = format_shape(loss.shape)
    message = f"{op}: the mean over an empty batch does not exist; the losses have shape {shape}"
    require_at_least(total.node, product(loss.shape), 1, message)
    return total


def _pair(op: str, prediction: TensorLike, target: TensorLike) -> tuple[Tensor, Tensor]:
    """Two float tensors of one shape; a target without axes goes with any."""
    left, right = as_tensor(prediction, op), as_tensor(target, op)
    if left.dtype not in _FLOATS:
        raise DTypeError(f"{op}: the prediction must have a float dtype, not {left.dtype}")
    if left.shape != right.shape and right.shape != ():
        raise ShapeError(f"{op}: the prediction has shape {left.shape}, the target {right.shape}")
    return left, right.astype(left.dtype)


def _classes(op: str, scores: Tensor) -> tuple[int, int]:
    """(axis of the classes, their number): axis 1, or 0 for a single vector of scores."""
    if scores.dtype not in _FLOATS:
        raise DTypeError(f"{op}: the scores must have a float dtype, not {scores.dtype}")
    if scores.ndim == 0:
        raise ShapeError(f"{op}: the scores need an axis of classes, they are a scalar")
    axis = min(1, scores.ndim - 1)
    count = scores.shape[axis]
    if not isinstance(count, int) or count == 0:
        raise ShapeError(f"{op}: the number of classes must be known and not 0, the scores have shape {scores.shape}")
    return axis, count


def _labels(op: str, scores: Tensor, target: TensorLike, axis: int) -> Tensor:
    labels = as_tensor(target, op)
    if labels.dtype not in ("int32", "int64"):
        raise DTypeError(f"{op}: class labels are int32 or int64, not {labels.dtype}")
    expected = scores.shape[:axis] + scores.shape[axis + 1 :]
    if labels.shape != expected:
        raise ShapeError(
            f"{op}: the scores have shape {scores.shape}, so the labels must have shape {expected}, not {labels.shape}"
        )
    return labels


def _is_label(labels: Tensor, axis: int, count: int) -> Tensor:
    """bool in the scores' shape: whether this class is the label."""
    hot = one_hot(labels, count, dtype="bool")
    return hot if axis == hot.ndim - 1 else moveaxis(hot, hot.ndim - 1, axis)


def _picked(scores: Tensor, labels: Tensor, axis: int, count: int) -> Tensor:
    """The score of the label's class: a select, not a product, so that 0 * inf cannot arise. A label outside
    0 .. count-1 gives NaN, never the loss of some class."""
    picked = reduce_sum(where(_is_label(labels, axis, count), scores, 0.0), axis)
    # The check depends on labels alone: it adds nothing to the gradient.
    return picked + where(logical_and(labels >= 0, labels < count), 0.0, math.nan).astype(scores.dtype)


@named_op
def cross_entropy(logits: TensorLike, target: TensorLike, reduction: str = "mean") -> Tensor:
    """-log(softmax(logits)[target]): log(sum(exp(z))) - z[target] with z = logits - max(logits).

    logits: (N, C), (N, C, ...) or (C,), of a float dtype. target: int labels in the shape without C, or probabilities
    in the logits' own shape, for which the loss is -sum(target * log(softmax(logits))). The gradient in the logits is
    (softmax(logits) - onehot(target)) / N. A label outside 0 .. C-1 makes the loss NaN.
    Errors: `ShapeError`, `DTypeError`, `ArgumentError` (an empty batch, an unknown reduction).

    >>> import graphc as gc
    >>> scores = gc.constant([[0.0, 0.0], [0.0, 1000.0]])
    >>> gc.evaluate(gc.nn.cross_entropy(scores, gc.constant([0, 1]), reduction="none"), {})
    array([0.6931472, 0.       ], dtype=float32)
    """
    op = "cross_entropy"
    scores, given = as_tensor(logits, op), as_tensor(target, op)
    axis, count = _classes(op, scores)
    if given.dtype in _FLOATS:
        if given.shape != scores.shape:
            raise ShapeError(
                f"{op}: probabilities must have the logits' shape {scores.shape}, not {given.shape}; "
                "class labels must be integers"
            )
        weights = given.astype(scores.dtype)
    else:
        labels = _labels(op, scores, given, axis)
    # The greatest logit cancels, so no gradient flows through it.
    z = scores - stop_gradient(reduce_max(scores, axis, keepdims=True))
    if given.dtype in _FLOATS:
        log_p = z - log(reduce_sum(exp(z), axis, keepdims=True))
        return _reduced(op, -reduce_sum(_weighted(weights, log_p), axis), reduction)
    return _reduced(op, log(reduce_sum(exp(z), axis)) - _picked(z, labels, axis, count), reduction)


def _weighted(weight: Tensor, log_p: Tensor) -> Tensor:
    """weight * log_p, 0 where the weight is 0 and log_p is -inf."""
    return where(logical_and(weight == 0, log_p == -math.inf), 0.0, weight * log_p)


@named_op
def nll_loss(log_probabilities: TensorLike, target: TensorLike, reduction: str = "mean") -> Tensor:
    """-log_probabilities[target]: cross-entropy after `log_softmax`. Shapes, labels and errors: `cross_entropy`."""
    op = "nll_loss"
    scores = as_tensor(log_probabilities, op)
    axis, count = _classes(op, scores)
    labels = _labels(op, scores, target, axis)
    return _reduced(op, -_picked(scores, labels, axis, count), reduction)


@named_op
def mse_loss(prediction: TensorLike, target: TensorLike, reduction: str = "mean") -> Tensor:
    """(prediction - target)^2. Errors: `ShapeError`, `DTypeError`, `ArgumentError`.

    >>> import graphc as gc
    >>> float(gc.evaluate(gc.nn.mse_loss(gc.constant([1.0, 2.0]), gc.constant([0.0, 4.0])), {}))
    2.5
    """
    left, right = _pair("mse_loss", prediction, target)
    return _reduced("mse_loss", square(left - right), reduction)


@named_op
def l1_loss(prediction: TensorLike, target: TensorLike, reduction: str = "mean") -> Tensor:
    """|prediction - target|, with derivative 0 where they are equal."""
    left, right = _pair("l1_loss", prediction, target)
    return _reduced("l1_loss", absolute(left - right), reduction)


@named_op
def binary_cross_entropy_with_logits(logits: TensorLike, target: TensorLike, reduction: str = "mean") -> Tensor:
    """-(t log(s) + (1-t) log(1-s)) with s = sigmoid(logits): softplus(logits) - t * logits, with gradient s - t.

    target: numbers in [0, 1] in the logits' shape.
    """
    op = "binary_cross_entropy_with_logits"
    x, t = _pair(op, logits, target)
    return _reduced(op, softplus(x) - t * x, reduction)


@named_op
def kl_div(
    log_probabilities: TensorLike, target: TensorLike, reduction: str = "mean", log_target: bool = False
) -> Tensor:
    """q (log(q) - log_probabilities) for probabilities q = target (their logarithms when log_target); 0 where q = 0.

    reduction: also "batchmean", the sum over the first extent: the Kullback-Leibler divergence for rows that are
    distributions. "mean" divides by the number of elements, as in PyTorch.
    """
    op = "kl_div"
    p, q = _pair(op, log_probabilities, target)
    if log_target:
        losses = _weighted(exp(q), q) - _weighted(exp(q), p)
    else:
        losses = _weighted(q, log(q)) - _weighted(q, p)
    if reduction == "batchmean":
        if p.ndim == 0:
            raise ArgumentError(f"{op}: batchmean needs an axis for the batch; the shape is {p.shape}")
        total = mean(reduce_sum(losses, tuple(range(1, p.ndim))))
        shape = format_shape(p.shape)
        require_at_least(total.node, p.shape[0], 1, f"{op}: batchmean over an empty batch; the shape is {shape}")
        return total
    return _reduced(op, losses, reduction, ("mean", "batchmean", "sum", "none"))


@named_op
def multi_margin_loss(
    scores: TensorLike,
    target: TensorLike,
    p: int = 1,
    margin: float = 1.0,
    reduction: str = "mean",
    divide_by_classes: bool = True,
) -> Tensor:
    """sum over j != target of max(0, margin - s[target] + s[j])^p, over the number of classes as in PyTorch.

    scores: (N, C) or (C,), target: int labels. divide_by_classes=False gives the plain multiclass hinge loss
    sum_{j != y} max(0, s_j - s_y + margin).

    >>> import graphc as gc
    >>> scores, label = gc.constant([3.2, 5.1, -1.7]), gc.constant(0)
    >>> round(float(gc.evaluate(gc.nn.multi_margin_loss(scores, label, divide_by_classes=False), {})), 4)
    2.9
    """
    op = "multi_margin_loss"
    s = as_tensor(scores, op)
    axis, count = _classes(op, s)
    if s.ndim > 2:
        raise ShapeError(f"{op}: the scores have shape {s.shape}; (N, C) or (C,) is expected")
    if p not in (1, 2):
        raise ArgumentError(f"{op}: p is 1 or 2, not {p!r}")
    labels = _labels(op, s, target, axis)
    excess = relu(s - expand_dims(_picked(s, labels, axis, count), axis) + margin)
    others = where(_is_label(labels, axis, count), 0.0, excess if p == 1 else square(excess))
    losses = reduce_sum(others, axis)
    return _reduced(op, losses / count if divide_by_classes else losses, reduction)


@named_op
def gaussian_nll_loss(
    prediction: TensorLike,
    target: TensorLike,
    var: TensorLike,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Tensor:
    """(log(v) + (prediction - target)^2 / v) / 2 with v = max(var, eps), and + log(2 pi) / 2 when `full`.

    var: a variance in the prediction's shape, or in that shape with last extent 1, or without the last axis, or one
    number. Where var is below eps no gradient flows into it. Errors: `ShapeError`, `ArgumentError` (eps not above 0).
    """
    op = "gaussian_nll_loss"
    left, right = _pair(op, prediction, target)
    if not eps > 0:
        raise ArgumentError(f"{op}: eps must be above 0, not {eps!r}")
    variance = as_tensor(var, op).astype(left.dtype)
    if variance.shape and variance.shape == left.shape[:-1]:
        variance = expand_dims(variance, -1)
    elif variance.shape not in (left.shape, (*left.shape[:-1], 1), ()):
        raise ShapeError(f"{op}: the prediction has shape {left.shape}, the variance {variance.shape}")
    v = clip(variance, eps)
    losses = 0.5 * (log(v) + square(left - right) / v)
    return _reduced(op, losses + 0.5 * math.log(2 * math.pi) if full else losses, reduction)

"""Losses for classes as functions, with PyTorch's names and defaults: class labels, or probabilities.

Scores are (N, C), (N, C, ...) or (C,), of a float dtype; labels int32 or int64, in the shape without C. A label outside
0 .. C-1 is never used as an index: it makes its loss NaN. reduction: "mean" (the default), "sum" or "none", which gives
one loss for each label. Errors: `ShapeError`, `DTypeError`, `ArgumentError` (an empty batch, an unknown option).
"""

from __future__ import annotations

from graphc.errors import ArgumentError, ShapeError
from graphc.lang.activations import relu
from graphc.lang.arrays import expand_dims, ones_like, reshape
from graphc.lang.calculus import stop_gradient
from graphc.lang.elementwise import clip, equal, exp, log, softplus, square, where
from graphc.lang.reduce import argmax
from graphc.lang.reduce import max as reduce_max
from graphc.lang.reduce import sum as reduce_sum
from graphc.lang.source import named_op
from graphc.lang.tensor import Tensor, TensorLike, as_tensor
from graphc.nn.loss_tools import (
    FLOATS,
    checked_labels,
    classes,
    is_label,
    labels_of,
    pair,
    picked,
    reduced,
    weighted,
)

LEAST_LOG = -100.0  # what a logarithm of a probability is cut off at, as in PyTorch: a wrong 0 costs 100, not infinity


@named_op
def cross_entropy(
    logits: TensorLike,
    target: TensorLike,
    reduction: str = "mean",
    weight: TensorLike | None = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """-log(softmax(logits)[target]): log(sum(exp(z))) - z[target] with z = logits - max(logits).

    target: int labels, or probabilities in the logits' own shape, for which the loss is
    -sum(target * log(softmax(logits))). The gradient in the logits is (softmax(logits) - onehot(target)) / N. A label
    outside 0 .. C-1 is an `ArgumentError` when it is met, before anything is changed.

    weight: (C,), a factor for the loss of each class; the mean over labels then divides by the sum of the labels'
    weights. ignore_index: a label whose loss is 0 and does not count in a mean (PyTorch's default is -100, here it is
    none). label_smoothing: the share of the target that is spread evenly over all classes.
    Errors: `ShapeError`, `DTypeError`, `ArgumentError`.

    >>> import graphc as gc
    >>> scores = gc.constant([[0.0, 0.0], [0.0, 1000.0]])
    >>> gc.evaluate(gc.nn.cross_entropy(scores, gc.constant([0, 1]), reduction="none"), {})
    array([0.6931472, 0.       ], dtype=float32)
    """
    op = "cross_entropy"
    scores, given = as_tensor(logits, op), as_tensor(target, op)
    axis, count = classes(op, scores)
    if not 0 <= label_smoothing <= 1:
        raise ArgumentError(f"{op}: label_smoothing must be from 0 to 1, not {label_smoothing!r}")
    factors = _class_weights(op, weight, scores, axis, count)
    is_shares = given.dtype in FLOATS
    if is_shares and given.shape != scores.shape:
        raise ShapeError(
            f"{op}: probabilities must have the logits' shape {scores.shape}, not {given.shape}; "
            "class labels must be integers"
        )
    if is_shares and ignore_index is not None:
        raise ArgumentError(f"{op}: ignore_index is for class labels; the target is of probabilities")
    labels = None
    if not is_shares:
        given = labels_of(op, scores, given, axis)
        labels = checked_labels(op, given, count, ignore_index)
    # The greatest logit cancels, so no gradient flows through it.
    z = scores - stop_gradient(reduce_max(scores, axis, keepdims=True))
    if labels is not None and factors is None and not label_smoothing:
        losses = log(reduce_sum(exp(z), axis)) - picked(z, labels, axis, count)
        return _of_labels(op, losses, given, None, ignore_index, reduction)
    log_p = z - log(reduce_sum(exp(z), axis, keepdims=True))
    if labels is None:
        shares = given.astype(scores.dtype)
        if label_smoothing:
            shares = (1 - label_smoothing) * shares + label_smoothing / count
        if factors is not None:
            shares = shares * factors
        return reduced(op, -reduce_sum(weighted(shares, log_p), axis), reduction)
    costs = -log_p if factors is None else -weighted(factors, log_p)
    losses = picked(costs, labels, axis, count)
    if label_smoothing:
        losses = (1 - label_smoothing) * losses + label_smoothing / count * reduce_sum(costs, axis)
    own = None if factors is None else picked(factors, labels, axis, count)
    return _of_labels(op, losses, given, own, ignore_index, reduction)


def _class_weights(op: str, weight: TensorLike | None, scores: Tensor, axis: int, count: int) -> Tensor | None:
    """The weights of the classes, to be broadcast against the scores."""
    if weight is None:
        return None
    factors = as_tensor(weight, op)
    if factors.shape != (count,):
        raise ShapeError(f"{op}: weight must have shape ({count},), one number for each class, not {factors.shape}")
    return reshape(factors.astype(scores.dtype), (count, *(1,) * (scores.ndim - axis - 1)))


def _of_labels(
    op: str, losses: Tensor, labels: Tensor, own: Tensor | None, ignore_index: int | None, reduction: str
) -> Tensor:
    """The losses reduced, without those of labels that are ignored; `own` are the weights of the labels."""
    if ignore_index is not None:
        is_ignored = equal(labels, ignore_index)
        losses = where(is_ignored, 0.0, losses)
        own = where(is_ignored, 0.0, own if own is not None else ones_like(losses))
    return reduced(op, losses, reduction, weights=own)


@named_op
def nll_loss(
    log_probabilities: TensorLike,
    target: TensorLike,
    reduction: str = "mean",
    weight: TensorLike | None = None,
    ignore_index: int | None = None,
) -> Tensor:
    """-log_probabilities[target]: cross-entropy after `log_softmax`. Options and errors: `cross_entropy`."""
    op = "nll_loss"
    scores = as_tensor(log_probabilities, op)
    axis, count = classes(op, scores)
    given = labels_of(op, scores, target, axis)
    labels = checked_labels(op, given, count, ignore_index)
    factors = _class_weights(op, weight, scores, axis, count)
    costs = -scores if factors is None else -weighted(factors, scores)
    own = None if factors is None else picked(factors, labels, axis, count)
    return _of_labels(op, picked(costs, labels, axis, count), given, own, ignore_index, reduction)


@named_op
def binary_cross_entropy_with_logits(
    logits: TensorLike, target: TensorLike, reduction: str = "mean", pos_weight: TensorLike | None = None
) -> Tensor:
    """-(t log(s) + (1-t) log(1-s)) with s = sigmoid(logits): softplus(logits) - t * logits, with gradient s - t.

    target: numbers in [0, 1] in the logits' shape. pos_weight: a factor for the first term, of a shape that stretches
    to the logits'.
    """
    op = "binary_cross_entropy_with_logits"
    x, t = pair(op, logits, target)
    if pos_weight is None:
        return reduced(op, softplus(x) - t * x, reduction)
    factor = as_tensor(pos_weight, op).astype(x.dtype)
    losses = (1 - t) * x + (1 + (factor - 1) * t) * softplus(-x)
    if losses.shape != x.shape:
        raise ShapeError(f"{op}: pos_weight of shape {factor.shape} does not stretch to the logits' {x.shape}")
    return reduced(op, losses, reduction)


@named_op
def binary_cross_entropy(probabilities: TensorLike, target: TensorLike, reduction: str = "mean") -> Tensor:
    """-(t log(p) + (1-t) log(1-p)), each logarithm cut off at -100 as in PyTorch; NaN for p outside [0, 1].

    target: numbers in [0, 1] in the probabilities' shape. Where the model ends in a sigmoid,
    `binary_cross_entropy_with_logits` of what goes into it is exact and has no cut.

    >>> import graphc as gc
    >>> loss = gc.nn.binary_cross_entropy(gc.constant([0.5, 0.0]), gc.constant([1.0, 1.0]), reduction="none")
    >>> gc.evaluate(loss, {})
    array([  0.6931472, 100.       ], dtype=float32)
    """
    op = "binary_cross_entropy"
    p, t = pair(op, probabilities, target)
    losses = -(t * clip(log(p), LEAST_LOG) + (1 - t) * clip(log(1 - p), LEAST_LOG))
    return reduced(op, losses, reduction)


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
    axis, count = classes(op, s)
    if s.ndim > 2:
        raise ShapeError(f"{op}: the scores have shape {s.shape}; (N, C) or (C,) is expected")
    if p not in (1, 2):
        raise ArgumentError(f"{op}: p is 1 or 2, not {p!r}")
    labels = checked_labels(op, labels_of(op, s, target, axis), count)
    excess = relu(s - expand_dims(picked(s, labels, axis, count), axis) + margin)
    others = where(is_label(labels, axis, count), 0.0, excess if p == 1 else square(excess))
    losses = reduce_sum(others, axis)
    return reduced(op, losses / count if divide_by_classes else losses, reduction)


@named_op
def multiclass_hinge_loss(
    scores: TensorLike, target: TensorLike, margin: float = 1.0, reduction: str = "mean"
) -> Tensor:
    """sum over j != target of max(0, s[j] - s[target] + margin): `multi_margin_loss`, not divided by the classes."""
    return multi_margin_loss(scores, target, 1, margin, reduction, divide_by_classes=False)


@named_op
def accuracy(scores: TensorLike, labels: TensorLike) -> Tensor:
    """The share of labels whose class has the greatest score (the first of equal ones), float32; without a gradient.

    A label outside 0 .. C-1 counts as missed. Errors: as for the losses.

    >>> import graphc as gc
    >>> scores = gc.constant([[0.1, 0.9], [0.8, 0.2], [0.7, 0.3]])
    >>> float(gc.evaluate(gc.nn.accuracy(scores, gc.constant([1, 0, 0])), {}))
    1.0
    """
    op = "accuracy"
    tensor = as_tensor(scores, op)
    axis, _ = classes(op, tensor)
    given = labels_of(op, tensor, labels, axis)
    hits = equal(argmax(tensor, axis), given).astype("float32")
    return reduced(op, hits, "mean")

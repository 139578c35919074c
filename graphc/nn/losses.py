"""Losses between numbers or distributions as functions, with PyTorch's names and defaults, and penalties.

reduction: "mean" (the default), "sum" or "none". Each loss is a scalar, or with "none" one for each element. Those for
class labels are in `graphc.nn.classification`. Errors: `ShapeError`, `DTypeError`, `ArgumentError` (an empty batch, an
unknown option).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from graphc.errors import ArgumentError, ArgumentTypeError, ShapeError
from graphc.ir.extent import format_shape
from graphc.lang.arrays import expand_dims
from graphc.lang.elementwise import absolute, clip, exp, log, square, where
from graphc.lang.reduce import mean
from graphc.lang.reduce import sum as reduce_sum
from graphc.lang.requirements import require_at_least
from graphc.lang.source import named_op
from graphc.lang.tensor import Tensor, TensorLike, as_tensor
from graphc.nn.loss_tools import pair, reduced, weighted


@named_op
def mse_loss(prediction: TensorLike, target: TensorLike, reduction: str = "mean") -> Tensor:
    """(prediction - target)^2. Errors: `ShapeError`, `DTypeError`, `ArgumentError`.

    >>> import graphc as gc
    >>> float(gc.evaluate(gc.nn.mse_loss(gc.constant([1.0, 2.0]), gc.constant([0.0, 4.0])), {}))
    2.5
    """
    left, right = pair("mse_loss", prediction, target)
    return reduced("mse_loss", square(left - right), reduction)


@named_op
def l1_loss(prediction: TensorLike, target: TensorLike, reduction: str = "mean") -> Tensor:
    """|prediction - target|, with derivative 0 where they are equal."""
    left, right = pair("l1_loss", prediction, target)
    return reduced("l1_loss", absolute(left - right), reduction)


@named_op
def squared_error(prediction: TensorLike, target: TensorLike, reduction: str = "sum") -> Tensor:
    """(prediction - target)^2 / 2, summed unless told otherwise: its gradient is the difference.

    >>> import graphc as gc
    >>> float(gc.evaluate(gc.nn.squared_error(gc.constant([1.0, 2.0]), gc.constant([0.0, 4.0])), {}))
    2.5
    """
    left, right = pair("squared_error", prediction, target)
    return reduced("squared_error", 0.5 * square(left - right), reduction)


@named_op
def huber_loss(
    prediction: TensorLike, target: TensorLike, reduction: str = "mean", delta: float = 1.0
) -> Tensor:
    """d^2 / 2 for |d| < delta, delta * (|d| - delta / 2) elsewhere, with d = prediction - target.

    Errors: also `ArgumentError` unless delta is above 0. Source: P. Huber, Robust estimation of a location parameter,
    1964.
    """
    if not delta > 0:
        raise ArgumentError(f"huber_loss: delta must be above 0, not {delta!r}")
    left, right = pair("huber_loss", prediction, target)
    return reduced("huber_loss", _bent(left - right, delta), reduction)


@named_op
def smooth_l1_loss(
    prediction: TensorLike, target: TensorLike, reduction: str = "mean", beta: float = 1.0
) -> Tensor:
    """d^2 / (2 beta) for |d| < beta, |d| - beta / 2 elsewhere: `huber_loss` over beta; `l1_loss` for beta = 0.

    Errors: also `ArgumentError` for a negative beta. Source: R. Girshick, Fast R-CNN, arXiv:1504.08083.
    """
    if not beta >= 0:
        raise ArgumentError(f"smooth_l1_loss: beta must be from 0 up, not {beta!r}")
    left, right = pair("smooth_l1_loss", prediction, target)
    losses = _bent(left - right, beta) / beta if beta else absolute(left - right)
    return reduced("smooth_l1_loss", losses, reduction)


def _bent(difference: Tensor, bound: float) -> Tensor:
    size = absolute(difference)
    return where(size < bound, 0.5 * square(difference), bound * (size - 0.5 * bound))


@named_op
def kl_div(
    log_probabilities: TensorLike, target: TensorLike, reduction: str = "mean", log_target: bool = False
) -> Tensor:
    """q (log(q) - log_probabilities) for probabilities q = target (their logarithms when log_target); 0 where q = 0.

    reduction: also "batchmean", the sum over the first extent: the Kullback-Leibler divergence for rows that are
    distributions. "mean" divides by the number of elements, as in PyTorch.
    """
    op = "kl_div"
    p, q = pair(op, log_probabilities, target)
    if log_target:
        losses = weighted(exp(q), q) - weighted(exp(q), p)
    else:
        losses = weighted(q, log(q)) - weighted(q, p)
    if reduction == "batchmean":
        if p.ndim == 0:
            raise ArgumentError(f"{op}: batchmean needs an axis for the batch; the shape is {p.shape}")
        total = mean(reduce_sum(losses, tuple(range(1, p.ndim))))
        shape = format_shape(p.shape)
        require_at_least(total.node, p.shape[0], 1, f"{op}: batchmean over an empty batch; the shape is {shape}")
        return total
    return reduced(op, losses, reduction, ("mean", "batchmean", "sum", "none"))


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
    left, right = pair(op, prediction, target)
    if not eps > 0:
        raise ArgumentError(f"{op}: eps must be above 0, not {eps!r}")
    variance = as_tensor(var, op).astype(left.dtype)
    if variance.shape and variance.shape == left.shape[:-1]:
        variance = expand_dims(variance, -1)
    elif variance.shape not in (left.shape, (*left.shape[:-1], 1), ()):
        raise ShapeError(f"{op}: the prediction has shape {left.shape}, the variance {variance.shape}")
    v = clip(variance, eps)
    losses = 0.5 * (log(v) + square(left - right) / v)
    return reduced(op, losses + 0.5 * math.log(2 * math.pi) if full else losses, reduction)


# --- Penalties ------------------------------------------------------------------------------------------------------


@named_op
def l1_penalty(parameters: Tensor | Iterable[Tensor], weight: float = 1.0) -> Tensor:
    """weight * the sum of |w| over all elements of all parameters; its derivative at w = 0 is 0.

    Errors: `ArgumentError` for a negative weight or no parameters, `ArgumentTypeError` for what is not a tensor.

    >>> import graphc as gc
    >>> w = gc.param("w", init=[3.0, -4.0])
    >>> float(gc.evaluate(gc.nn.l1_penalty([w], 0.5), {}))
    3.5
    """
    return _penalty("l1_penalty", parameters, weight, absolute)


@named_op
def l2_penalty(parameters: Tensor | Iterable[Tensor], weight: float = 1.0) -> Tensor:
    """weight * the sum of w^2 over all elements of all parameters, with gradient 2 * weight * w.

    Errors: as in `l1_penalty`.

    >>> import graphc as gc
    >>> w = gc.param("w", init=[3.0, -4.0])
    >>> float(gc.evaluate(gc.nn.l2_penalty([w], 0.5), {}))
    12.5
    """
    return _penalty("l2_penalty", parameters, weight, square)


def _penalty(
    op: str, parameters: Tensor | Iterable[Tensor], weight: float, size: Callable[[Tensor], Tensor]
) -> Tensor:
    if not weight >= 0:
        raise ArgumentError(f"{op}: the weight must be from 0 up, not {weight!r}")
    given = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    if not given:
        raise ArgumentError(f"{op}: no parameters to penalise")
    for one in given:
        if not isinstance(one, Tensor):
            raise ArgumentTypeError(f"{op}: {one!r} is not a parameter")
    total = reduce_sum(size(given[0]))
    for one in given[1:]:
        total = total + reduce_sum(size(one))
    return weight * total

"""Activation functions, softmax and its relatives, each a composition of named ops."""

from __future__ import annotations

import math
from collections.abc import Sequence

from graphc.errors import ArgumentError
from graphc.ir import scalar as sc
from graphc.lang.arrays import reshape
from graphc.lang.calculus import stop_gradient
from graphc.lang.elementwise import combine, divide, exp, log, maximum, subtract, where
from graphc.lang.reduce import Axis
from graphc.lang.reduce import max as reduce_max
from graphc.lang.reduce import sum as reduce_sum
from graphc.lang.source import named_op
from graphc.lang.tensor import Tensor, TensorLike, as_tensor

# From here x * Phi(x) is x, and 0 from -40 down, in float64 too; in its gradient infinity would meet 0.
GELU_FLAT = 40.0


def _piecewise(name: str, x: TensorLike, slope: float) -> Tensor:
    def body(a: sc.Scalar) -> sc.Scalar:
        zero = sc.literal(0, a.dtype)
        below = zero if slope == 0 else sc.apply("mul", sc.literal(slope, a.dtype), a)
        return sc.apply("select", sc.apply("le", a, zero), below, a)

    return combine(name, (x,), body)


@named_op
def relu(x: TensorLike) -> Tensor:
    """max(x, 0); its derivative at 0 is 0, and NaN stays NaN."""
    return _piecewise("relu", x, 0.0)


@named_op
def leaky_relu(x: TensorLike, negative_slope: float = 0.01) -> Tensor:
    """x where positive, negative_slope * x elsewhere."""
    return _piecewise("leaky_relu", x, negative_slope)


@named_op
def prelu(x: TensorLike, alpha: TensorLike) -> Tensor:
    """x where positive, alpha * x elsewhere, with a gradient into alpha."""
    tensor = as_tensor(x)
    return where(tensor > 0, tensor, as_tensor(alpha) * tensor)


@named_op
def elu(x: TensorLike, alpha: float = 1.0) -> Tensor:
    """x where positive, alpha * (exp(x) - 1) elsewhere."""

    def body(a: sc.Scalar) -> sc.Scalar:
        below = sc.apply("mul", sc.literal(alpha, a.dtype), sc.apply("expm1", a))
        return sc.apply("select", sc.apply("le", a, sc.literal(0, a.dtype)), below, a)

    return combine("elu", (x,), body, floating=True)


@named_op
def silu(x: TensorLike) -> Tensor:
    """x * sigmoid(x)."""
    return combine("silu", (x,), lambda a: sc.apply("mul", a, sc.apply("sigmoid", a)), floating=True)


@named_op
def gelu(x: TensorLike, approximate: str = "none") -> Tensor:
    """x * Phi(x), or with approximate="tanh" 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).

    Phi is the standard normal distribution function, `ndtr`: the tail and its gradient keep their digits, where
    0.5 x (1 + erf(x/sqrt(2))) has lost all of them below -5. Infinities give the limits, -0 and infinity.

    Source: D. Hendrycks, K. Gimpel, Gaussian Error Linear Units, arXiv:1606.08415.
    """
    if approximate not in ("none", "tanh"):
        raise ArgumentError(f'gelu: approximate is "none" or "tanh", not {approximate!r}')

    def body(a: sc.Scalar) -> sc.Scalar:
        def number(value: float) -> sc.Scalar:
            return sc.literal(value, a.dtype)

        if approximate == "none":
            flat = sc.apply("le", number(GELU_FLAT), sc.apply("abs", a))
            limit = sc.apply("select", sc.apply("lt", a, number(0)), number(-0.0), a)
            return sc.apply("select", flat, limit, sc.apply("mul", a, sc.apply("ndtr", a)))
        cube = sc.apply("mul", sc.apply("mul", a, a), a)
        sum_ = sc.apply("add", a, sc.apply("mul", number(0.044715), cube))
        inner = sc.apply("tanh", sc.apply("mul", number(math.sqrt(2 / math.pi)), sum_))
        return sc.apply("mul", sc.apply("mul", number(0.5), a), sc.apply("add", number(1), inner))

    return combine("gelu", (x,), body, floating=True)


@named_op
def hard_sigmoid(x: TensorLike) -> Tensor:
    """clip(x/6 + 1/2, 0, 1)."""
    return _hard("hard_sigmoid", x, 1 / 6, 0.5, 0.0, 1.0)


@named_op
def hard_swish(x: TensorLike) -> Tensor:
    """x * clip(x/6 + 1/2, 0, 1)."""
    tensor = as_tensor(x, "hard_swish")
    return tensor * hard_sigmoid(tensor)


@named_op
def hard_tanh(x: TensorLike, low: float = -1.0, high: float = 1.0) -> Tensor:
    """clip(x, low, high)."""
    return _hard("hard_tanh", x, 1.0, 0.0, low, high)


def _hard(name: str, x: TensorLike, slope: float, shift: float, low: float, high: float) -> Tensor:
    def body(a: sc.Scalar) -> sc.Scalar:
        line = a
        if slope != 1:
            line = sc.apply("mul", line, sc.literal(slope, a.dtype))
        if shift:
            line = sc.apply("add", line, sc.literal(shift, a.dtype))
        bottom, top = sc.literal(low, a.dtype), sc.literal(high, a.dtype)
        raised = sc.apply("select", sc.apply("lt", line, bottom), bottom, line)
        return sc.apply("select", sc.apply("lt", top, raised), top, raised)

    return combine(name, (x,), body, floating=True)


@named_op
def maxout(pieces: Sequence[TensorLike]) -> Tensor:
    """The greatest of several tensors of one shape, elementwise: max(w1 x + b1, w2 x + b2, ...)."""
    if not pieces:
        raise ArgumentError("maxout: at least one piece is needed")
    result = as_tensor(pieces[0])
    for piece in pieces[1:]:
        result = maximum(result, piece)
    return result


@named_op
def softmax(x: TensorLike, axis: int = -1) -> Tensor:
    """exp(x - max) / sum(exp(x - max)) along an axis."""
    tensor = as_tensor(x)
    e = exp(subtract(tensor, _greatest(tensor, axis)))
    return divide(e, reduce_sum(e, axis, keepdims=True))


@named_op
def log_softmax(x: TensorLike, axis: int = -1) -> Tensor:
    """z - log(sum(exp(z))) along an axis, with z = x - max."""
    tensor = as_tensor(x)
    z = subtract(tensor, _greatest(tensor, axis))
    return subtract(z, log(reduce_sum(exp(z), axis, keepdims=True)))


@named_op
def logsumexp(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """log(sum(exp(x))) over axes, without overflow: max + log(sum(exp(x - max)))."""
    tensor = as_tensor(x)
    shift = _finite(_greatest(tensor, axis))
    total = log(reduce_sum(exp(subtract(tensor, shift)), axis, keepdims=True)) + shift
    return total if keepdims else reshape(total, reduce_sum(tensor, axis).shape)


def _greatest(tensor: Tensor, axis: Axis) -> Tensor:
    """The greatest value along the axis, through which no gradient flows: what is subtracted cancels."""
    return stop_gradient(reduce_max(tensor, axis, keepdims=True))


def _finite(tensor: Tensor) -> Tensor:
    """0 in place of infinities, so that exp(-inf - -inf) does not arise."""

    def body(a: sc.Scalar) -> sc.Scalar:
        infinite = sc.apply("eq", sc.apply("abs", a), sc.literal(math.inf, a.dtype))
        return sc.apply("select", infinite, sc.literal(0, a.dtype), a)

    return combine("finite", (tensor,), body, floating=True)

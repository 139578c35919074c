"""The standard normal distribution function Phi, gelu, and exponentials of squares.

Phi(-t) = exp(-t^2/2) M(t) for t >= 0, where M falls slowly from 1/2 (Mills' ratio over sqrt(2 pi)): a polynomial in
v = 1/(t + a), times v. The exponential takes the rounding error of t^2 along, without which the tail would lose t^2/2
units in the last place; so do v and the products, as far as it costs little.
"""

from __future__ import annotations

import math
from typing import Final

from graphc_llvm.emit import Builder, Value
from graphc_llvm.vecmath_common import (
    INVERSE_LN2,
    LN2,
    clamp,
    coefficients,
    even_odd,
    fast_two_sum,
    horner,
    product_error,
    round_scaled,
    scale,
    two_product,
    two_sum,
)

# The a of v = 1/(t + a) and the centre of the polynomial (the rows ndtr_* of the fit).
SHIFT: Final = {"f32": 3.0, "f64": 4.0}
CENTRE: Final = {"f32": 29 / 128, "f64": 101 / 1024}
# From here Phi(-t) and t Phi(-t) round to 0.
TAIL_END: Final = {"f32": 15.0, "f64": 39.5}
# d log M / dt = -v (c0 + c1 v), within a sixth: enough to carry a rounding error of v through M.
SLOPE: Final = {"f32": (0.75, 4.9), "f64": (0.7, 9.9)}


def _exp_of_square(b: Builder, t: Value, factor: float) -> tuple[Value, Value, Value]:
    """(z, p, p_low): exp(factor t^2) = 2^n (p + p_low), z as `round_scaled` gives it."""
    kind = t.type.kind
    head, tail = LN2[kind]
    square, square_low = two_product(b, t, t)
    y, y_low = b.mul(square, factor), b.mul(square_low, factor)
    if abs(math.frexp(factor)[0]) != 0.5:  # a power of two has no rounding error
        y_low = b.sub(y_low, product_error(b, square, factor, y))
    z, n = round_scaled(b, y, INVERSE_LN2)
    r = b.add(b.fma(n, -head, y), b.fma(n, -tail, y_low))
    q = coefficients(f"exp_{kind}")
    polynomial = horner(b, q, r) if kind == "f32" else even_odd(b, q, r)
    p, p_low = fast_two_sum(b, 1.0, b.fma(b.mul(r, r), polynomial, r))
    return z, p, p_low


def _tail(b: Builder, x: Value) -> tuple[Value, Value, Value, Value]:
    """(t, z, high, low): Phi(-t) = 2^n (high + low) for t = |x|, held below TAIL_END."""
    kind = x.type.kind
    t = clamp(b, b.abs(x), None, TAIL_END[kind])
    z, p, p_low = _exp_of_square(b, t, -0.5)
    shifted, shifted_low = fast_two_sum(b, SHIFT[kind], t)  # exact although t may be the larger: both are positive
    v = b.div(1.0, shifted)
    v_error = b.fma(b.neg(v), shifted_low, product_error(b, v, shifted, 1.0))
    w = b.sub(v, CENTRE[kind])
    series = coefficients(f"ndtr_{kind}")
    rest = horner(b, series[1:], w) if kind == "f32" else even_odd(b, series[1:], w)
    step, step_low = two_product(b, w, rest)
    first = b.const(x.type, series[0])
    h, h_low = (fast_two_sum if kind == "f32" else two_sum)(b, first, step)  # float64's step may be the larger
    ratio, ratio_low = two_product(b, v, h)
    slope = b.fma(v, SLOPE[kind][1], SLOPE[kind][0])
    ratio_low = b.fma(ratio, b.mul(v_error, slope), b.fma(v, b.add(h_low, step_low), ratio_low))
    high, low = two_product(b, p, ratio)
    return t, z, high, b.add(low, b.fma(p, ratio_low, b.mul(p_low, ratio)))


def ndtr(b: Builder, x: Value) -> Value:
    """Phi(x), the standard normal distribution function."""
    _, z, high, low = _tail(b, x)
    below = scale(b, b.add(high, low), z)
    return b.select(b.fcmp("olt", x, 0.0), below, b.sub(1.0, below))


def gelu(b: Builder, x: Value) -> Value:
    """x Phi(x), rounded once more only: x times `ndtr` has no denormals to be accurate with in the tail.

    -0 at minus infinity, where the product is NaN.
    """
    t, z, high, low = _tail(b, x)
    product, product_low = two_product(b, t, high)
    below = scale(b, b.add(product, b.fma(t, low, product_low)), z)
    return b.select(b.fcmp("olt", x, 0.0), b.neg(below), b.sub(x, below))


def exp_of_square(b: Builder, x: Value, factor: float) -> Value:
    """exp(factor x^2), with the rounding error of the argument."""
    end = TAIL_END[x.type.kind] * math.sqrt(0.5 / abs(factor))  # the same as that of Phi where both are wanted
    z, p, p_low = _exp_of_square(b, clamp(b, b.abs(x), None, end), factor)
    return scale(b, b.add(p, p_low), z)

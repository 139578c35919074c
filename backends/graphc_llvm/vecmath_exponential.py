"""exp, expm1, sigmoid, softplus, tanh and erf as inlined polynomials.

All reduce x = n ln2 + r with |r| <= ln2/2 (Cody and Waite, Software Manual for the Elementary Functions,
1980, with ln2 in two parts whose first times n is exact, so that no FMA is needed), and scale by 2^n at the
end.
"""

from __future__ import annotations

from typing import Final

from graphc_llvm.emit import Builder, Value
from graphc_llvm.vecmath_common import (
    INVERSE_LN2,
    LN2,
    clamp,
    clamp_rarely,
    coefficients,
    even_odd,
    fast_two_sum,
    horner,
    power_of_two,
    product_error,
    round_scaled,
    scale,
    two_product,
    two_sum,
)
from graphc_llvm.vecmath_logarithm import log1p

# exp is 0 below the first and infinite above the second; both a little beyond the true limits.
EXP_RANGE: Final = {"f32": (-104.5, 89.5), "f64": (-746.0, 710.5)}
# expm1 is -1 below the first; the second keeps n within the exponents of finite numbers.
EXPM1_RANGE: Final = {"f32": (-18.0, 89.0), "f64": (-40.0, 710.0)}
# Below these expm1(x) rounds to x, and the intermediate products would underflow.
EXPM1_IDENTITY: Final = {"f32": 1e-30, "f64": 1e-290}
# tanh is 1 beyond.
TANH_ONE: Final = {"f32": 10.0, "f64": 19.2}
TANH_SWITCH: Final = 0.625
# erf: where the two polynomials meet, where erf becomes 1, and the centre of the second (ERF_TAIL_CENTRE of
# the fit).
ERF_SWITCH: Final = {"f32": 0.925, "f64": 1.0}
ERF_ONE: Final = {"f32": 4.0, "f64": 5.95}
ERF_CENTRE: Final = {"f32": 0.0, "f64": 2.5}
# From here softplus(x) rounds to x.
SOFTPLUS_IDENTITY: Final = 80.0
# softplus: the centre of its polynomial in exp(-|x|), near the end where that is the larger part of the result.
SOFTPLUS_CENTRE: Final = 49 / 64


def exp_reduce(b: Builder, x: Value) -> tuple[Value, Value]:
    """(z, r) with x = n ln2 + r, |r| <= ln2/2, z as `round_scaled` gives it."""
    head, tail = LN2[x.type.kind]
    z, n = round_scaled(b, x, INVERSE_LN2)
    return z, b.fma(n, -tail, b.fma(n, -head, x))


def exp_polynomial(b: Builder, r: Value) -> Value:
    """exp(r) for |r| <= ln2/2."""
    q = coefficients(f"exp_{r.type.kind}")
    if r.type.kind == "f32":
        return horner(b, (1.0, 1.0, *q), r)
    return b.add(b.fma(b.mul(r, r), even_odd(b, q, r), r), 1.0)


def exp(b: Builder, x: Value) -> Value:
    """e^x."""
    z, r = exp_reduce(b, clamp_rarely(b, x, *EXP_RANGE[x.type.kind]))
    return scale(b, exp_polynomial(b, r), z)


def exp_negative_magnitude(b: Builder, x: Value) -> tuple[Value, Value]:
    """exp(-|x|) as a rounded value and the low part that rounding took from it."""
    kind = x.type.kind
    z, r = exp_reduce(b, clamp(b, b.neg(b.abs(x)), EXP_RANGE[kind][0], None))
    q = coefficients(f"exp_{kind}")
    tail = b.fma(b.mul(r, r), horner(b, q, r) if kind == "f32" else even_odd(b, q, r), r)
    p, low = fast_two_sum(b, 1.0, tail)
    return scale(b, p, z), scale(b, low, z)


def expm1(b: Builder, x: Value) -> Value:
    """e^x - 1 without cancellation: 2 ((2^(n-1) - 1/2) + 2^(n-1) (r + r^2 q(r))), the sum compensated."""
    kind = x.type.kind
    z, r = exp_reduce(b, clamp(b, x, *EXPM1_RANGE[kind]))
    q = coefficients(f"expm1_{kind}")
    polynomial = horner(b, q, r) if kind == "f32" else even_odd(b, q, r)
    factor = power_of_two(b, z, 0.5)
    shifted = b.sub(factor, 0.5)
    lost = b.sub(b.sub(factor, shifted), 0.5)
    scaled = b.mul(factor, r)
    high, low = fast_two_sum(b, shifted, scaled)
    rest = b.fma(b.mul(factor, b.mul(r, r)), polynomial, b.add(low, lost))
    half = b.add(high, rest)
    return b.select(b.fcmp("olt", b.abs(x), EXPM1_IDENTITY[kind]), x, b.add(half, half))


def sigmoid(b: Builder, x: Value) -> Value:
    """1 / (1 + e^-x), from e = e^-|x|: e/(1+e) below zero, 1/(1+e) above, with the low parts of e and 1+e."""
    e, e_low = exp_negative_magnitude(b, x)
    total, lost = fast_two_sum(b, 1.0, e)
    lost = b.add(lost, e_low)
    inverse = b.div(1.0, total)
    correction = b.mul(inverse, b.fma(b.neg(inverse), lost, product_error(b, total, inverse, 1.0)))
    negative = b.fcmp("olt", x, 0.0)
    numerator, numerator_low = b.select(negative, e, 1.0), b.select(negative, e_low, 0.0)
    return b.fma(numerator, inverse, b.fma(numerator, correction, b.mul(numerator_low, inverse)))


def softplus(b: Builder, x: Value) -> Value:
    """log(1 + e^x) = max(x, 0) + log1p(e^-|x|)."""
    e, e_low = exp_negative_magnitude(b, x)
    positive = b.select_max(x, 0.0)
    if x.type.kind == "f64":
        return b.add(positive, log1p(b, e))
    total = b.add(positive, e)
    from_e, from_positive = b.sub(e, b.sub(total, positive)), b.sub(positive, b.sub(total, e))
    lost = b.select(b.fcmp("ogt", positive, e), from_e, from_positive)
    from_low = b.fma(b.mul(e, -0.5), e_low, e_low)  # e_low / (1 + e), near enough
    polynomial = horner(b, coefficients("softplus_f32"), b.sub(e, SOFTPLUS_CENTRE))
    computed = b.add(total, b.fma(b.mul(e, e), polynomial, b.add(lost, from_low)))
    return b.select(b.fcmp("ogt", x, SOFTPLUS_IDENTITY), x, computed)


def tanh(b: Builder, x: Value) -> Value:
    """The hyperbolic tangent.

    float32: x + x^3 T(x^2) below 0.625, else 1 - 2/(e^2|x| + 1). float64: E/(E + 2) with E = expm1(2|x|),
    its low part carried through the division.
    """
    kind = x.type.kind
    magnitude = clamp(b, b.abs(x), None, TANH_ONE[kind])
    z, r = exp_reduce(b, b.add(magnitude, magnitude))
    if kind == "f32":
        square = b.mul(x, x)
        small = b.fma(b.mul(x, square), horner(b, coefficients("tanh_f32"), square), x)
        denominator = b.add(b.mul(exp_polynomial(b, r), power_of_two(b, z)), 1.0)
        large = b.sub(1.0, b.div(b.const(x.type, 2.0), denominator))
        return b.copysign(b.select(b.fcmp("olt", b.abs(x), TANH_SWITCH), small, large), x)
    factor = power_of_two(b, z)
    remainder = b.mul(b.mul(r, r), even_odd(b, coefficients("expm1_f64"), r))
    high, low = fast_two_sum(b, b.sub(factor, 1.0), b.mul(factor, r))
    numerator, numerator_low = fast_two_sum(b, high, b.fma(factor, remainder, low))
    denominator, denominator_low = _sum_with_two(b, numerator, numerator_low)
    inverse = b.div(1.0, denominator)
    quotient = b.mul(numerator, inverse)
    product, product_low = two_product(b, quotient, denominator)
    residual = b.sub(b.sub(numerator, product), product_low)
    residual = b.add(residual, b.fma(b.neg(quotient), denominator_low, numerator_low))
    return b.copysign(b.fma(residual, inverse, quotient), x)


def _sum_with_two(b: Builder, high: Value, low: Value) -> tuple[Value, Value]:
    """2 + high + low as an unevaluated sum."""
    total, lost = two_sum(b, high, b.const(high.type, 2.0))
    return total, b.add(lost, low)


def erf(b: Builder, x: Value) -> Value:
    """The error function: x + x P(x^2) near zero, else 1 - exp(-g(|x|)) with a polynomial g = -log erfc."""
    kind = x.type.kind
    square = b.mul(x, x)
    small = b.fma(horner(b, coefficients(f"erf_small_{kind}"), square), x, x)
    magnitude = clamp(b, b.abs(x), None, ERF_ONE[kind])
    argument = b.sub(magnitude, ERF_CENTRE[kind]) if ERF_CENTRE[kind] else magnitude
    g = horner(b, coefficients(f"erf_tail_{kind}"), argument)
    z, r = exp_reduce(b, b.neg(g))
    complement = b.mul(exp_polynomial(b, r), power_of_two(b, z))
    large = b.copysign(b.sub(1.0, complement), x)
    return b.select(b.fcmp("ogt", b.abs(x), ERF_SWITCH[kind]), large, small)

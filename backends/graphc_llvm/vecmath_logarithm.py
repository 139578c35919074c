"""log, log1p and pow as inlined polynomials.

All write x = 2^k (1 + f) with 1 + f in [0.75, 1.5), by integer arithmetic on the bit pattern.
"""

from __future__ import annotations

from typing import Final

from graphc_llvm import vecmath_avx512 as avx512
from graphc_llvm.emit import Builder, Value
from graphc_llvm.emit_types import MANTISSA_BITS
from graphc_llvm.instructions import ROUNDING_MAGIC
from graphc_llvm.vecmath_common import (
    INFINITY,
    INVERSE_LN2,
    LN2,
    NAN,
    SMALLEST_NORMAL,
    as_bits,
    clamp,
    coefficients,
    even_odd,
    fast_two_sum,
    float_bits,
    from_bits,
    horner,
    is_single,
    is_zero,
    power_of_two,
    scale,
    two_product,
    widen,
)

# 2/3 as an unevaluated sum of two numbers: the third-order coefficient of 2 atanh(s).
TWO_THIRDS: Final = {
    "f32": (float.fromhex("0x1.555556p-1"), float.fromhex("-0x1.555556p-26")),
    "f64": (float.fromhex("0x1.5555555555555p-1"), float.fromhex("0x1.5555555555555p-55")),
}
# Denormals are multiplied by 2^this before their exponent is read.
DENORMAL_SHIFT: Final = {"f32": 23, "f64": 52}
# Below these log1p(x) rounds to x.
LOG1P_IDENTITY: Final = {"f32": 1e-9, "f64": 1e-20}
# float32 pow: 2^t is 0 below and infinite above, in float32.
POWER_RANGE_F32: Final = (-151.0, 129.0)
# pow without wider lanes: e^t is 0 below and infinite above.
POWER_RANGE: Final = {"f32": (-105.0, 90.0), "f64": (-760.0, 720.0)}
# Of the coefficients of the logarithm's tail, as many as float32 feels: each is 0.04 of the one before.
_SINGLE_TERMS: Final = 5


def _split_exponent(b: Builder, x: Value) -> tuple[Value, Value]:
    """(f, k) of a positive normal x = 2^k (1 + f), 1 + f in [0.75, 1.5); k is an integer."""
    kind = x.type.kind
    bits = as_bits(b, x)
    k = b.ashr(b.sub(bits, float_bits(kind, 0.75)), MANTISSA_BITS[kind])
    significand = from_bits(b, b.sub(bits, b.shl(k, MANTISSA_BITS[kind])), x.type)
    return b.sub(significand, 1.0), k


def _split_any(b: Builder, x: Value) -> tuple[Value, Value]:
    """The same for denormals too; k is a float."""
    if avx512.fills_registers(b, x.type):
        return avx512.split_exponent(b, x)
    kind = x.type.kind
    denormal = b.fcmp("olt", x, SMALLEST_NORMAL[kind])
    shift = DENORMAL_SHIFT[kind]
    f, k = _split_exponent(b, b.select(denormal, b.mul(x, 2.0**shift), x))
    return f, b.add(b.sitofp(k, x.type), b.select(denormal, -float(shift), 0.0, x.type))


def _log_sum(b: Builder, f: Value, k: Value, f_low: Value | None = None) -> Value:
    """k ln2 + log(1 + f + f_low), the sum compensated."""
    head, tail = LN2[f.type.kind]
    high, low = fast_two_sum(b, b.mul(k, head), f)
    if f.type.kind == "f32":
        polynomial = b.fma(f, horner(b, coefficients("log_f32"), f), -0.5)
        rest = b.mul(polynomial, b.mul(f, f))
        low = b.add(low if f_low is None else b.add(low, f_low), rest)
        return b.add(high, b.fma(k, tail, low))
    # log(1+f) = f - (h - s (h + R)), h = f^2/2, s = f/(2+f), R = s^2 R(s^2): as in FreeBSD's e_log.c
    s = b.div(f, b.add(f, 2.0))
    square = b.mul(s, s)
    remainder = b.mul(even_odd(b, coefficients("log_f64"), square), square)
    half = b.mul(b.mul(f, 0.5), f)
    small = b.mul(k, tail) if f_low is None else b.fma(k, tail, f_low)
    correction = b.sub(half, b.fma(s, b.add(half, remainder), small))
    return b.add(high, b.sub(low, correction))


def _log_special(b: Builder, x: Value, y: Value) -> Value:
    """y where x is positive and finite; infinity, -infinity at 0, NaN below, NaN for NaN."""
    if avx512.fills_registers(b, x.type):
        return avx512.logarithm_ends(b, x, y)
    y = b.select(b.fcmp("olt", x, INFINITY), y, x)
    y = b.select(b.fcmp("olt", x, 0.0), NAN, y)
    return b.select(is_zero(b, x), -INFINITY, y)


def log(b: Builder, x: Value) -> Value:
    """The natural logarithm."""
    f, k = _split_any(b, x)
    return _log_special(b, x, _log_sum(b, f, k))


def log1p(b: Builder, x: Value) -> Value:
    """log(1 + x): the logarithm of the rounded 1 + x, corrected by its rounding error."""
    kind = x.type.kind
    total = b.add(x, 1.0)
    part = b.sub(total, x)
    lost = b.add(b.sub(x, b.sub(total, part)), b.sub(1.0, part))
    if avx512.fills_registers(b, x.type):
        f, k = avx512.split_exponent(b, total)
        scaled = avx512.scalef(b, lost, b.neg(k))
    else:
        f, whole = _split_exponent(b, total)
        k = b.sitofp(whole, x.type)
        inverse = b.sub(float_bits(kind, 1.0), b.shl(whole, MANTISSA_BITS[kind]))  # 2^-k; 0 where it has no exponent
        scaled = b.mul(lost, from_bits(b, b.select(b.icmp("sgt", inverse, 0), inverse, 0), x.type))
    f_total = b.add(f, scaled)
    f_low = b.sub(scaled, b.sub(f_total, f))
    y = _log_special(b, total, _log_sum(b, f_total, k, f_low))
    return b.select(b.fcmp("olt", b.abs(x), LOG1P_IDENTITY[kind]), x, y)


def pow(b: Builder, x: Value, y: Value) -> Value:
    """x^y with C99's special cases (ISO C, F.10.4.4)."""
    magnitude = b.abs(x)
    wider = x.type.kind == "f32" and not is_single(b, x)
    value = _power_f32(b, magnitude, y) if wider else _power_pair(b, magnitude, y)
    value = b.select(b.fcmp("oeq", magnitude, 1.0), 1.0, value)
    integer = b.fcmp("oeq", b.rint(y), y)
    half = b.mul(y, 0.5)
    odd = b.and_(integer, b.fcmp("one", b.rint(half), half))
    value = b.select(b.and_(odd, b.icmp("slt", as_bits(b, x), 0)), b.neg(value), value)
    finite_negative = b.and_(b.fcmp("olt", x, 0.0), b.fcmp("ogt", x, -INFINITY))
    value = b.select(b.and_(finite_negative, b.not_(integer)), NAN, value)
    value = b.select(b.fcmp("uno", x, y), b.add(x, y), value)
    return b.select(b.or_(is_zero(b, y), b.fcmp("oeq", x, 1.0)), 1.0, value)


def _power_f32(b: Builder, x: Value, y: Value) -> Value:
    """x^y for x >= 0 through float64 lanes: 2^(y log2 x)."""
    wide = widen(b, x)
    f, k = _split_exponent(b, wide)
    logarithm = b.fma(f, horner(b, coefficients("log2_f32_wide"), f), b.sitofp(k, wide.type))
    logarithm = _infinite_ends(b, wide, logarithm)
    exponent = clamp(b, b.mul(widen(b, y), logarithm), *POWER_RANGE_F32)
    z = b.add(exponent, ROUNDING_MAGIC["f64"])
    r = b.sub(exponent, b.sub(z, ROUNDING_MAGIC["f64"]))
    return b.fptrunc(b.mul(horner(b, coefficients("exp2_f32_wide"), r), power_of_two(b, z)), x.type)


def _infinite_ends(b: Builder, x: Value, logarithm: Value) -> Value:
    """The logarithm with its values at 0 and infinity."""
    logarithm = b.select(is_zero(b, x), -INFINITY, logarithm)
    return b.select(b.fcmp("oeq", x, INFINITY), INFINITY, logarithm)


def _power_pair(b: Builder, x: Value, y: Value) -> Value:
    """x^y for x >= 0: exp of y times a logarithm in two numbers, of float64 with a relative error of about 2^-65."""
    kind = x.type.kind
    log_high, log_low = _log_pair(b, x)
    log_high = _infinite_ends(b, x, log_high)
    high, low = two_product(b, y, log_high)
    low = b.fma(y, log_low, low)
    in_range = b.fcmp("olt", b.abs(high), max(-POWER_RANGE[kind][0], POWER_RANGE[kind][1]))
    low = b.select(in_range, low, 0.0)  # elsewhere it may be NaN, and does not matter
    high = clamp(b, high, *POWER_RANGE[kind])
    head, tail = LN2[kind]
    z = b.fma(high, INVERSE_LN2, ROUNDING_MAGIC[kind])
    n = b.sub(z, ROUNDING_MAGIC[kind])
    first, product = b.fma(n, -head, high), b.mul(n, tail)
    second = b.sub(first, product)
    rest = b.add(b.sub(b.sub(first, second), product), low)
    r = b.add(second, rest)
    r_low = b.add(b.sub(second, r), rest)
    polynomial = b.fma(b.mul(r, r), even_odd(b, coefficients(f"exp_{kind}"), r), r_low)
    return scale(b, b.add(b.add(r, polynomial), 1.0), z)


def _log_pair(b: Builder, x: Value) -> tuple[Value, Value]:
    """log(x) for x > 0 as an unevaluated sum: k ln2 + 2s + 2/3 s^3 + s^5 T(s^2), s = f/(2+f) with its low
    part.
    """
    kind = x.type.kind
    f, k = _split_any(b, x)
    denominator, denominator_low = fast_two_sum(b, 2.0, f)
    s = b.div(f, denominator)
    product, product_low = two_product(b, s, denominator)
    residual = b.sub(b.sub(b.sub(f, product), product_low), b.mul(s, denominator_low))
    s_low = b.div(residual, denominator)
    square, square_low = two_product(b, s, s)
    square_low = b.fma(b.add(s, s), s_low, square_low)
    terms = coefficients("log_tail_f64")[: None if kind == "f64" else _SINGLE_TERMS]
    tail = b.mul(square, horner(b, terms, square))
    third, third_low = fast_two_sum(b, TWO_THIRDS[kind][0], tail)
    third_low = b.add(third_low, TWO_THIRDS[kind][1])
    cube, cube_low = two_product(b, s, square)
    cube_low = b.add(cube_low, b.fma(s, square_low, b.mul(s_low, square)))
    term, term_low = two_product(b, cube, third)
    term_low = b.add(term_low, b.fma(cube, third_low, b.mul(cube_low, third)))
    high, low = fast_two_sum(b, b.add(s, s), term)
    low = b.add(low, b.add(b.add(s_low, s_low), term_low))
    total, total_low = fast_two_sum(b, b.mul(k, LN2[kind][0]), high)
    total_low = b.add(total_low, b.fma(k, LN2[kind][1], low))
    return fast_two_sum(b, total, total_low)

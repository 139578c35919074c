"""Building blocks of the vector functions: polynomials, exact sums and products, bit patterns.

Everything works for f32 and f64, scalars and vectors alike, and only through the builder's methods.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from graphc_llvm.coefficients import POLYNOMIALS
from graphc_llvm.emit import F64, Builder, Operand, Type, Value
from graphc_llvm.emit_types import EXPONENT_BIAS, MANTISSA_BITS
from graphc_llvm.instructions import ROUNDING_MAGIC
from graphc_llvm.vecmath_avx512 import scalef, scales

SMALLEST_NORMAL: Final = {"f32": 2.0**-126, "f64": 2.0**-1022}
# Veltkamp's constant 2^s + 1 splits a significand of p bits in two halves (s = ceil(p/2)).
_SPLITTER: Final = {"f32": 2.0**12 + 1, "f64": 2.0**27 + 1}

# ln2 as a short head (15 bits, 40 bits: its products with exponents are exact) and the rest rounded.
LN2: Final = {
    "f32": (float.fromhex("0x1.62e4p-1"), float.fromhex("0x1.7f7d1cp-20")),
    "f64": (float.fromhex("0x1.62e42fefa4p-1"), float.fromhex("-0x1.8432a1b0e2634p-43")),
}
INVERSE_LN2: Final = float.fromhex("0x1.71547652b82fep+0")

INFINITY: Final = float("inf")
NAN: Final = float("nan")


def coefficients(name: str) -> tuple[float, ...]:
    """The coefficients of a fitted polynomial, lowest power first."""
    return POLYNOMIALS[name].coefficients


def horner(b: Builder, terms: Sequence[float], x: Value) -> Value:
    """The polynomial with these coefficients, lowest power first, by Horner's rule."""
    total: Operand = terms[-1]
    for term in reversed(terms[:-1]):
        total = b.fma(total, x, term)
    assert isinstance(total, Value)
    return total


def even_odd(b: Builder, terms: Sequence[float], x: Value) -> Value:
    """The same as two interleaved Horner chains in x^2: half the latency, one more rounding."""
    square = b.mul(x, x)
    return b.fma(horner(b, terms[1::2], square), x, horner(b, terms[0::2], square))


def fast_two_sum(b: Builder, large: Operand, small: Operand) -> tuple[Value, Value]:
    """large + small and its rounding error, exact when |large| >= |small| or large is 0 (Dekker 1971)."""
    total = b.add(large, small)
    return total, b.sub(small, b.sub(total, large))


def two_sum(b: Builder, x: Value, y: Value) -> tuple[Value, Value]:
    """x + y and its rounding error, for any x and y (Knuth, TAOCP 2, 4.2.2, theorem B)."""
    total = b.add(x, y)
    part = b.sub(total, x)
    return total, b.add(b.sub(x, b.sub(total, part)), b.sub(y, part))


def two_product(b: Builder, x: Operand, y: Operand) -> tuple[Value, Value]:
    """x * y and its rounding error; through FMA, or by Dekker's splitting where there is none."""
    product = b.mul(x, y)
    if b.module.fuses(product.type):
        return product, b.fma(x, y, b.neg(product))
    (x_high, x_low), (y_high, y_low) = _halves(b, x, product.type), _halves(b, y, product.type)
    error = b.sub(b.mul(x_high, y_high), product)
    error = b.add(b.add(error, b.mul(x_high, y_low)), b.mul(x_low, y_high))
    return product, b.add(error, b.mul(x_low, y_low))


def product_error(b: Builder, x: Operand, y: Operand, wanted: Operand) -> Value:
    """wanted - x * y, exactly where it is as small as a rounding error: what a quotient or root left over."""
    type_ = next(one.type for one in (x, y, wanted) if isinstance(one, Value))
    if b.module.fuses(type_):
        return b.fma(b.neg(x) if isinstance(x, Value) else -x, y, wanted)
    product, low = two_product(b, x, y)
    return b.sub(b.sub(wanted, product), low)


def _halves(b: Builder, x: Operand, type_: Type) -> tuple[Value, Value]:
    value = x if isinstance(x, Value) else b.const(type_, x)
    scaled = b.mul(value, _SPLITTER[type_.kind])
    high = b.sub(scaled, b.sub(scaled, value))
    return high, b.sub(value, high)


def clamp(b: Builder, x: Value, low: float | None, high: float | None) -> Value:
    """x held between the bounds; NaN stays."""
    if high is not None:
        x = b.select(b.fcmp("ogt", x, high), high, x)
    if low is not None:
        x = b.select(b.fcmp("olt", x, low), low, x)
    return x


def clamp_rarely(b: Builder, x: Value, low: float, high: float) -> Value:
    """The same, for low < 0 < high; where x is one float32 a processor predicts that there is nothing to hold, and
    does not wait for it."""
    if x.type.lanes or x.type.kind != "f32":
        return clamp(b, x, low, high)
    twice = b.shl(as_bits(b, x), 1)  # without the sign
    with b.if_(b.icmp("ugt", twice, 2 * float_bits("f32", min(-low, high))), otherwise=[x]) as rare:
        rare.yield_([clamp(b, x, low, high)])
    return rare.results[0]


def float_bits(kind: str, value: float) -> int:
    """The bit pattern of a constant, as a signed integer of the same width."""
    floating, integer = ("<f", "<i") if kind == "f32" else ("<d", "<q")
    return int(struct.unpack(integer, struct.pack(floating, value))[0])


def as_bits(b: Builder, x: Value) -> Value:
    """The bit pattern as an integer."""
    return b.bitcast(x, x.type.same_bits_integer())


def from_bits(b: Builder, bits: Value, type_: Type) -> Value:
    """The float of a bit pattern."""
    return b.bitcast(bits, type_)


def round_scaled(b: Builder, x: Value, factor: float) -> tuple[Value, Value]:
    """(z, n): n is the integer nearest to x * factor, as a float; the low bits of z's pattern hold it too."""
    magic = ROUNDING_MAGIC[x.type.kind]
    z = b.fma(x, factor, magic)
    return z, b.sub(z, magic)


def power_of_two(b: Builder, z: Value, one: float = 1.0) -> Value:
    """one * 2^n from the z of `round_scaled`; the result must be a normal number."""
    kind = z.type.kind
    shifted = b.shl(as_bits(b, z), MANTISSA_BITS[kind])
    return from_bits(b, b.add(shifted, float_bits(kind, one)), z.type)


def scale(b: Builder, p: Value, z: Value) -> Value:
    """p * 2^n from the z of `round_scaled`, rounded once, for results from below the denormals to infinity.

    Two multiplications by about 2^(n/2), of which only the second can round because p is near 1; AVX-512 has
    one instruction for it (VSCALEF), with the same result.
    """
    kind = p.type.kind
    if scales(b, p.type):
        return scalef(b, p, b.sub(z, ROUNDING_MAGIC[kind]))
    shift, bias = MANTISSA_BITS[kind], EXPONENT_BIAS[kind]
    n = b.sub(as_bits(b, z), float_bits(kind, ROUNDING_MAGIC[kind]))
    half = b.ashr(n, 1)
    factors = [from_bits(b, b.shl(b.add(part, bias), shift), p.type) for part in (half, b.sub(n, half))]
    return b.mul(b.mul(p, factors[0]), factors[1])


def flip_sign(b: Builder, x: Value, sign_bits: Value) -> Value:
    """x with its pattern xored by `sign_bits`, which holds nothing but sign bits."""
    return from_bits(b, b.xor(as_bits(b, x), sign_bits), x.type)


def is_single(b: Builder, x: Value) -> bool:
    """Whether x is float32, and float64 is nothing to resort to (see vecmath_single)."""
    return x.type.kind == "f32" and not b.module.has_doubles


def is_zero(b: Builder, x: Value) -> Value:
    """Whether x is +0 or -0."""
    return b.fcmp("oeq", x, 0.0)


def widen(b: Builder, x: Value) -> Value:
    """float32 lanes as float64 where there is a unit for them (float64 stays)."""
    return x if is_single(b, x) else b.fpext(x, F64.with_lanes(x.type.lanes))

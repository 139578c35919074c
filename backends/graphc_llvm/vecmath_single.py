"""float32 functions for processors that compute in float64 only by library calls, such as the Cortex-M4.

Where others go through float64 lanes, these carry what a rounding took along as a second float32. Errors are below
2.5 units in the last place (tests/backends/llvm/test_lesser_targets.py).
"""

from __future__ import annotations

from typing import Final

from graphc_llvm.emit import F32, I32, I64, Builder, Value
from graphc_llvm.vecmath_common import as_bits, fast_two_sum, two_product

# pi/2 as two float32 numbers.
HALF_PI: Final = (float.fromhex("0x1.921fb6p+0"), float.fromhex("-0x1.777a5cp-25"))
# pi/4 in 21 bits, so that its multiples up to 4 are exact, and the rest.
QUARTER_PI: Final = (float.fromhex("0x1.921fbp-1"), float.fromhex("0x1.5110b4p-23"))
# atan2 scales larger arguments down, so that their sum cannot overflow.
ATAN2_LARGE: Final = 2.0**120

# Bits of 2/pi that one product takes: 94 below the quadrant's two, of which 30 may be zeros (a float32 comes no nearer
# than 2^-30 to a multiple of pi/2) and 24 are lost to the significand.
_WINDOW_LIMBS: Final = 3
_EXPONENTS: Final = (127 + 20, 254)
"""Biased exponents from 2^20 to the largest number's. Other lanes come along, and get numbers without meaning."""
_FRACTION_PARTS: Final = ((40, 24), (16, 24), (0, 16))
"""(lowest bit, bits) of the parts of a 64-bit fraction that are float32 numbers exactly."""


def reduce_large_angle(b: Builder, x: Value, limbs: list[int], zero_limbs: int) -> tuple[Value, Value, Value]:
    """(n, r, r_low) of one float32 |x| >= 2^20 with x = n pi/2 + r + r_low; n is an i32 that is right modulo 4.

    Payne and Hanek's method, as for float64 (vecmath_large_angle): |x| = m 2^e with an integer m < 2^24; with W the
    96 bits of 2/pi behind those that m 2^e turns into multiples of 4, x 2/pi = m W 2^-94 modulo 4. `limbs`: 2/pi in
    32-bit limbs after `zero_limbs` of zeros.
    """
    bits = b.and_(as_bits(b, x), 2**31 - 1)
    mantissa = b.zext(b.or_(b.and_(bits, 2**23 - 1), 2**23), I64)
    skipped = 32 * zero_limbs - 2 - (127 + 23)
    exponent = b.lshr(bits, 23)
    exponent = b.select(b.icmp("slt", exponent, _EXPONENTS[0]), _EXPONENTS[0], exponent)
    exponent = b.select(b.icmp("sgt", exponent, _EXPONENTS[1]), _EXPONENTS[1], exponent)
    first_bit = b.add(exponent, skipped)
    last = (_EXPONENTS[1] + skipped) // 32 + _WINDOW_LIMBS
    table = b.module.global_array("vecmath_two_over_pi_single", [_signed(limb) for limb in limbs[: last + 1]], "i32")
    start, shift = b.gep(table, b.zext(b.lshr(first_bit, 5), I64), "i32"), b.zext(b.and_(first_bit, 31), I64)
    found = [b.zext(b.load(b.gep(start, k, "i32"), I32), I64) for k in range(_WINDOW_LIMBS + 1)]
    window = [
        b.lshr(b.shl(b.or_(b.shl(found[k], 32), found[k + 1]), shift), 32) for k in range(_WINDOW_LIMBS)
    ]
    low = b.mul(mantissa, window[2])
    middle = b.add(b.mul(mantissa, window[1]), b.lshr(low, 32))
    high = b.add(b.mul(mantissa, window[0]), b.lshr(middle, 32))
    top, rest = b.trunc(high, I32), b.or_(b.shl(middle, 32), b.and_(low, 2**32 - 1))
    fraction = b.or_(b.shl(b.zext(top, I64), 34), b.lshr(rest, 30))  # of a quadrant, signed: in [-1/2, 1/2)
    quadrant = b.add(b.lshr(top, 30), b.trunc(b.lshr(fraction, 63), I32))
    parts: list[Value] = []
    for lowest, count in _FRACTION_PARTS:
        part = b.ashr(fraction, lowest)
        part = part if lowest + count == 64 else b.and_(part, 2**count - 1)
        parts.append(b.mul(b.sitofp(b.trunc(part, I32), F32), 2.0 ** (lowest - 64)))
    first, second = fast_two_sum(b, parts[0], parts[1])
    first, second = fast_two_sum(b, first, b.add(second, parts[2]))
    r, r_low = two_product(b, first, HALF_PI[0])
    r_low = b.add(r_low, b.fma(first, HALF_PI[1], b.mul(second, HALF_PI[0])))
    r, r_low = fast_two_sum(b, r, r_low)
    negative = b.icmp("slt", as_bits(b, x), 0)
    return (
        b.select(negative, b.neg(quadrant), quadrant),
        b.select(negative, b.neg(r), r),
        b.select(negative, b.neg(r_low), r_low),
    )


def _signed(limb: int) -> int:
    return limb - 2**32 if limb >= 2**31 else limb

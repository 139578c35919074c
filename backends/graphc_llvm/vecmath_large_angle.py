"""Angles beyond 2^20, reduced with as many bits of 2/pi as they need.

Payne and Hanek, "Radian reduction for trigonometric functions", SIGNUM 1983.
"""

from __future__ import annotations

from typing import Final

from graphc_llvm.emit import F64, I64, PTR, Builder, Value
from graphc_llvm.vecmath_common import as_bits, fast_two_sum, two_product, two_sum

# pi/2 as a double-double.
_HALF_PI: Final = (float.fromhex("0x1.921fb54442d18p+0"), float.fromhex("0x1.1a62633145c07p-54"))
# 2/pi in 32-bit limbs, most significant first, after two limbs of zeros: 1,280 bits, enough for the largest
# double.
LEADING_ZERO_LIMBS: Final = 2
_WINDOW_LIMBS: Final = 6
_TWO_OVER_PI_HEX: Final = (
    "a2f9836e4e441529fc2757d1f534ddc0db6295993c439041fe5163abdebbc561b7246e3a424dd2e006492eea09d1921c"
    "fe1deb1cb129a73ee88235f52ebb4484e99c7026b45f7e413991d639835339f49c845f8bbdf9283b1ff897ffde05980f"
    "ef2f118b5a0a6d1f6d367ecf27cb09b74f463f669e5fea2d7527bac7ebe5f17b3d0739f78a5292ea6bfb5fb11f8d5d08"
    "56033046fc7b6babf0cfbc209af4361d"
)


def two_over_pi_limbs() -> list[int]:
    """2/pi, the first limbs of which are zeros."""
    words = [int(_TWO_OVER_PI_HEX[i:i + 8], 16) for i in range(0, len(_TWO_OVER_PI_HEX) - 7, 8)]
    return [0] * LEADING_ZERO_LIMBS + words


def large_angle_helper(b: Builder) -> str:
    """Define, once a module, `void helper(ptr angles, ptr r, ptr r_low, i64 count)` and return its name.

    Each float64 angle is replaced by its quadrant (i64, modulo 4); r and r_low [count] receive the rest.
    Angles below 2^20, infinities and NaN give numbers without meaning.
    """
    name = "vecmath_reduce_large_angle"
    if not b.module.has_function(name):
        helper = b.module.function(
            name, [("angles", PTR), ("r", PTR), ("r_low", PTR), ("count", I64)], linkage="internal",
            noalias=["angles", "r", "r_low"], attributes="noinline cold", rare=True,
        )
        angles, r, r_low, count = helper.params
        with helper.loop(0, count) as loop:
            place = helper.gep(angles, loop.index, "f64")
            quadrant, high, low = _reduce(helper, helper.load(place, F64))
            helper.store(quadrant, place)
            helper.store(high, helper.gep(r, loop.index, "f64"))
            helper.store(low, helper.gep(r_low, loop.index, "f64"))
        helper.ret()
    return name


def _reduce(b: Builder, x: Value) -> tuple[Value, Value, Value]:
    """(n mod 4, r, r_low) of one float64 |x| >= 2^20.

    |x| = m 2^e with an integer m < 2^53. Of the bits of 2/pi, those that m 2^e turns into multiples of 4 are
    skipped; the next 192 are W, so that x 2/pi = m W 2^-190 modulo 4 with an absolute error below 2^-137. A
    double comes no nearer than about 2^-61 to a multiple of pi/2, which leaves r more than 70 right bits.
    """
    limb_mask = 0xFFFFFFFF
    bits = b.and_(as_bits(b, x), 2**63 - 1)
    exponent = b.sub(b.lshr(bits, 52), 1023 + 52)
    mantissa = b.or_(b.and_(bits, 2**52 - 1), 2**52)
    first_bit = b.add(exponent, 32 * LEADING_ZERO_LIMBS - 2)
    first_bit = b.select(b.icmp("slt", first_bit, 0), 0, first_bit)
    last = 32 * (len(two_over_pi_limbs()) - _WINDOW_LIMBS - 1)
    first_bit = b.select(b.icmp("sgt", first_bit, last), last, first_bit)
    table = b.module.global_array("vecmath_two_over_pi", two_over_pi_limbs(), "i64")
    start, shift = b.gep(table, b.lshr(first_bit, 5), "i64"), b.and_(first_bit, 31)
    limbs = [b.load(b.gep(start, k, "i64"), I64) for k in range(_WINDOW_LIMBS + 1)]
    window = [
        b.and_(b.or_(b.shl(limbs[k], shift), b.lshr(limbs[k + 1], b.sub(32, shift))), limb_mask)
        for k in range(_WINDOW_LIMBS)
    ]
    # product[k], most significant first, in 32-bit limbs: m times the window modulo 2^192
    halves = (b.and_(mantissa, limb_mask), b.lshr(mantissa, 32))
    product: list[Value] = []
    carry: Value = b.const(I64, 0)
    for k in reversed(range(_WINDOW_LIMBS)):
        low = b.mul(window[k], halves[0])
        total = b.add(carry, b.and_(low, limb_mask))
        carry = b.lshr(low, 32)
        if k + 1 < _WINDOW_LIMBS:
            high = b.mul(window[k + 1], halves[1])
            total = b.add(total, b.and_(high, limb_mask))
            carry = b.add(carry, b.lshr(high, 32))
        product.insert(0, b.and_(total, limb_mask))
        carry = b.add(carry, b.lshr(total, 32))
    # drop the two bits of the quadrant; what is left is a signed fraction of a quadrant in [-1/2, 1/2)
    fraction = [
        b.and_(b.or_(b.shl(product[k], 2), b.lshr(product[k + 1], 30)), limb_mask)
        for k in range(_WINDOW_LIMBS - 1)
    ]
    quadrant = b.add(b.lshr(product[0], 30), b.lshr(fraction[0], 31))
    signed_head = b.ashr(b.shl(fraction[0], 32), 32)
    pieces = [
        b.mul(b.sitofp(limb, F64), 2.0 ** (-32 * (k + 1))) for k, limb in enumerate([signed_head, *fraction[1:]])
    ]
    high, low = two_sum(b, pieces[0], pieces[1])
    low, lowest = two_sum(b, low, pieces[2])
    high, low = two_sum(b, high, low)
    low = b.add(low, b.add(lowest, b.add(pieces[3], pieces[4])))
    high, low = fast_two_sum(b, high, low)
    r, r_low = two_product(b, high, _HALF_PI[0])
    r_low = b.add(r_low, b.fma(high, _HALF_PI[1], b.mul(low, _HALF_PI[0])))
    r, r_low = fast_two_sum(b, r, r_low)
    negative = b.icmp("slt", as_bits(b, x), 0)
    return (
        b.select(negative, b.neg(quadrant), quadrant),
        b.select(negative, b.neg(r), r),
        b.select(negative, b.neg(r_low), r_low),
    )

"""sin, cos, tan and atan2 as inlined polynomials.

The angle is x = n pi/2 + r with |r| <= pi/4.  Up to 2^20 that is done in line (Cody and Waite's reduction; float32
in float64 lanes, but for sine and cosine where there is FMA); where some lane is larger, a helper function of the
module does it for all lanes with as many bits of 2/pi as the angle needs (Payne and Hanek, "Radian reduction for
trigonometric functions", SIGNUM 1983).  Each lane keeps the result of the method that its own magnitude asks for,
so no result depends on its neighbours.
"""

from __future__ import annotations

from typing import Final

from graphc_llvm import vecmath_single as single
from graphc_llvm.emit import F32, F64, I1, I64, PTR, Builder, Type, Value
from graphc_llvm.vecmath_common import (
    INFINITY,
    as_bits,
    coefficients,
    fast_two_sum,
    flip_sign,
    horner,
    is_single,
    is_zero,
    product_error,
    round_scaled,
    two_product,
    two_sum,
    widen,
)

TWO_OVER_PI: Final = float.fromhex("0x1.45f306dc9c883p-1")
# pi/2 in parts of 33 bits (their products with n < 2^20 are exact) and a rounded rest: FreeBSD's
# e_rem_pio2.c.
HALF_PI_HEAD: Final = float.fromhex("0x1.921fb544p+0")
HALF_PI_REST: Final = float.fromhex("0x1.0b4611a626331p-34")  # pi/2 - head, 53 bits
HALF_PI_MIDDLE: Final = float.fromhex("0x1.0b4611a6p-34")  # the rest in 33 bits
HALF_PI_TAIL: Final = float.fromhex("0x1.3198a2e037073p-69")  # pi/2 - head - middle
# pi/2 as a double-double.
HALF_PI: Final = (float.fromhex("0x1.921fb54442d18p+0"), float.fromhex("0x1.1a62633145c07p-54"))
# pi/2 as three float32 numbers: for FMA, which keeps the products with n exact.
HALF_PI_F32: Final = (
    float.fromhex("0x1.921fb6p+0"), float.fromhex("-0x1.777a5cp-25"), float.fromhex("-0x1.ee59dap-50"),
)
# pi/4 in 33 bits, so that its multiples up to 4 are exact, and the rest.
QUARTER_PI: Final = (float.fromhex("0x1.921fb54400000p-1"), float.fromhex("0x1.0b4611a626331p-35"))
# The largest angle of the in-line reduction.
LARGE_ANGLE: Final = 2.0**20
# tan(pi/8): beyond it atan turns by pi/4.
TANGENT_OCTANT: Final = float.fromhex("0x1.a827999fcef32p-2")
# atan2 scales larger arguments down, so that their sum cannot overflow.
ATAN2_LARGE: Final = 2.0**1000

# 2/pi in 32-bit limbs, most significant first, after two limbs of zeros: 1,280 bits, enough for the largest
# double.
_LEADING_ZERO_LIMBS: Final = 2
_WINDOW_LIMBS: Final = 6
_TWO_OVER_PI_HEX: Final = (
    "a2f9836e4e441529fc2757d1f534ddc0db6295993c439041fe5163abdebbc561b7246e3a424dd2e006492eea09d1921c"
    "fe1deb1cb129a73ee88235f52ebb4484e99c7026b45f7e413991d639835339f49c845f8bbdf9283b1ff897ffde05980f"
    "ef2f118b5a0a6d1f6d367ecf27cb09b74f463f669e5fea2d7527bac7ebe5f17b3d0739f78a5292ea6bfb5fb11f8d5d08"
    "56033046fc7b6babf0cfbc209af4361d"
)


def _two_over_pi_limbs() -> list[int]:
    words = [int(_TWO_OVER_PI_HEX[i:i + 8], 16) for i in range(0, len(_TWO_OVER_PI_HEX) - 7, 8)]
    return [0] * _LEADING_ZERO_LIMBS + words


def sin(b: Builder, x: Value) -> Value:
    """The sine; NaN at infinity."""
    if x.type.kind == "f32" and b.module.has_fma:
        return b.select(is_zero(b, x), x, _narrow(b, x, cosine=False))
    return _wide_sine(b, x)


def _wide_sine(b: Builder, x: Value) -> Value:
    quadrant, sine, cosine, *_ = _sine_cosine(b, x)
    value = b.select(b.trunc(quadrant, I1.with_lanes(x.type.lanes)), cosine, sine)
    return b.select(is_zero(b, x), x, _finish(b, value, quadrant, x.type))


def cos(b: Builder, x: Value) -> Value:
    """The cosine; NaN at infinity."""
    if x.type.kind == "f32" and b.module.has_fma:
        return _narrow(b, x, cosine=True)
    return _wide_cosine(b, x)


def _wide_cosine(b: Builder, x: Value) -> Value:
    quadrant, sine, cosine, *_ = _sine_cosine(b, x)
    value = b.select(b.trunc(quadrant, I1.with_lanes(x.type.lanes)), sine, cosine)
    return _finish(b, value, b.add(quadrant, 1), x.type)


def tan(b: Builder, x: Value) -> Value:
    """The tangent, as a quotient of the two, for float64 with what their rounding lost; NaN at infinity."""
    if is_single(b, x):
        return b.div(sin(b, x), cos(b, x))
    quadrant, sine, cosine, *low = _sine_cosine(b, x)
    odd = b.trunc(quadrant, I1.with_lanes(x.type.lanes))
    over, under = b.select(odd, b.neg(cosine), sine), b.select(odd, sine, cosine)
    if not low:
        value = b.div(over, under)
    else:
        over_low, under_low = b.select(odd, b.neg(low[1]), low[0]), b.select(odd, low[0], low[1])
        inverse = b.div(1.0, under)
        quotient = b.mul(over, inverse)
        lost = b.add(product_error(b, quotient, under, over), b.fma(b.neg(quotient), under_low, over_low))
        value = b.fma(lost, inverse, quotient)
    return b.select(is_zero(b, x), x, b.fptrunc(value, x.type))


def _narrow(b: Builder, x: Value, cosine: bool) -> Value:
    """Sine or cosine of float32 in float32 lanes, two to three times as fast as in float64.

    Lanes beyond 2^20 are done by a helper function, one for each of the two in a module, by way of float64.
    """
    quadrant, sine, other, large = b.once("narrow sine and cosine", x, lambda: _narrow_both(b, x))
    value = _narrow_value(b, quadrant, sine, other, cosine)
    with b.if_(b.any_(large), otherwise=[value]) as branch:
        lanes = max(1, x.type.lanes)
        buffer = b.alloca("f32", lanes)
        b.store(x, buffer)
        b.call(_wide_helper(b, cosine), None, [buffer, b.const(I64, lanes)])
        branch.yield_([b.select(large, b.load(buffer, x.type), value)])
    return branch.results[0]


def _narrow_value(b: Builder, quadrant: Value, sine: Value, other: Value, cosine: bool) -> Value:
    odd = b.trunc(quadrant, I1.with_lanes(sine.type.lanes))
    value = b.select(odd, sine, other) if cosine else b.select(odd, other, sine)
    turned = b.add(quadrant, 1) if cosine else quadrant
    return flip_sign(b, value, b.and_(b.shl(turned, 30), -(2**31)))


def _narrow_both(b: Builder, x: Value) -> tuple[Value, Value, Value, Value]:
    """(n, sin r, cos r, whether the angle is finite and beyond 2^20) for x = n pi/2 + r.

    n is an i32 that is right modulo 4. The sine takes the rounding error of r along; the cosine hardly feels it.
    """
    z, n = round_scaled(b, x, TWO_OVER_PI)
    first = b.fma(n, -HALF_PI_F32[0], x)
    second, second_low = two_product(b, n, HALF_PI_F32[1])
    r, r_low = fast_two_sum(b, first, b.neg(second))  # exact: `first` is a multiple of 2^-24 (or n is 0)
    r_low = b.fma(n, -HALF_PI_F32[2], b.sub(r_low, second_low))
    sine, cosine = _narrow_octant(b, r, r_low)
    return as_bits(b, z), sine, cosine, _is_large(b, x)


def _narrow_octant(b: Builder, r: Value, r_low: Value) -> tuple[Value, Value]:
    square = b.mul(r, r)
    sine = b.add(r, b.fma(b.mul(square, r), horner(b, coefficients("sin_f32"), square), r_low))
    return sine, horner(b, (1.0, -0.5, *coefficients("cos_f32")), square)


def _is_large(b: Builder, x: Value) -> Value:
    magnitude = b.abs(x)
    return b.and_(b.fcmp("ogt", magnitude, LARGE_ANGLE), b.fcmp("olt", magnitude, INFINITY))


def _wide_helper(b: Builder, cosine: bool) -> str:
    """Define, once a module, `void helper(ptr angles, i64 count)`, which replaces float32 angles by the function."""
    name = "vecmath_cos_large_f32" if cosine else "vecmath_sin_large_f32"
    if not b.module.has_function(name):
        helper = b.module.function(
            name, [("angles", PTR), ("count", I64)], linkage="internal", attributes="noinline cold",
        )
        angles, count = helper.params
        with helper.loop(0, count) as loop:
            place = helper.gep(angles, loop.index, "f32")
            x = helper.load(place, F32)
            if is_single(b, x):
                quadrant, *parts = single.reduce_large_angle(helper, x, _two_over_pi_limbs(), _LEADING_ZERO_LIMBS)
                value = _narrow_value(helper, quadrant, *_narrow_octant(helper, *parts), cosine)
            else:
                value = _wide_cosine(helper, x) if cosine else _wide_sine(helper, x)
            helper.store(value, place)
        helper.ret()
    return name


def _finish(b: Builder, value: Value, quadrant: Value, type_: Type) -> Value:
    """Negate in quadrants 2 and 3, and return to the argument's type."""
    sign = b.and_(b.shl(quadrant, 62), -(2**63))
    return b.fptrunc(flip_sign(b, value, sign), type_)


def _sine_cosine(b: Builder, x: Value) -> tuple[Value, ...]:
    """(n, sin r, cos r) in float64 for x = n pi/2 + r; n is an i64 that is right modulo 4.

    For float64 also what the roundings of the sine and the cosine took from them.
    """
    return b.once("sine and cosine", x, lambda: _make_sine_cosine(b, x))


def _make_sine_cosine(b: Builder, x: Value) -> tuple[Value, ...]:
    quadrant, r, r_low = _reduce(b, x)
    square = b.mul(r, r)
    cube = b.mul(square, r)
    if x.type.kind == "f32":
        sine = b.fma(cube, horner(b, coefficients("sin_f32_wide"), square), r)
        return quadrant, sine, horner(b, (1.0, -0.5, *coefficients("cos_f32_wide")), square)
    cosine_head = b.fma(square, -0.5, 1.0)
    sine_rest = b.fma(cube, horner(b, coefficients("sin_f64"), square), b.mul(r_low, cosine_head))
    lost = b.fma(b.neg(r), r_low, b.fma(square, -0.5, b.sub(1.0, cosine_head)))
    cosine_rest = b.fma(b.mul(square, square), horner(b, coefficients("cos_f64"), square), lost)
    sine, sine_low = fast_two_sum(b, r, sine_rest)
    cosine, cosine_low = fast_two_sum(b, cosine_head, cosine_rest)
    return quadrant, sine, cosine, sine_low, cosine_low


def _reduce(b: Builder, x: Value) -> tuple[Value, Value, Value]:
    """(n, r, r_low) with x = n pi/2 + r + r_low; float32 gives a zero r_low."""
    wide = widen(b, x)
    z, n = round_scaled(b, wide, TWO_OVER_PI)
    if x.type.kind == "f32":
        r = b.fma(n, -HALF_PI_REST, b.fma(n, -HALF_PI_HEAD, wide))
        r_low = b.const(wide.type, 0.0)
    else:
        first = b.fma(n, -HALF_PI_HEAD, wide)
        second, lost = two_sum(b, first, b.mul(n, -HALF_PI_MIDDLE))
        r, r_low = fast_two_sum(b, second, b.fma(n, -HALF_PI_TAIL, lost))
    quadrant = as_bits(b, z)
    large = _is_large(b, wide)
    with b.if_(b.any_(large), otherwise=[quadrant, r, r_low]) as branch:
        lanes = max(1, x.type.lanes)
        buffers = [b.alloca("f64", lanes) for _ in range(3)]
        b.store(wide, buffers[0])
        b.call(_large_angle_helper(b), None, [*buffers, b.const(I64, lanes)])
        branch.yield_([
            b.select(large, b.load(buffers[0], quadrant.type), quadrant),
            b.select(large, b.load(buffers[1], wide.type), r),
            b.select(large, b.load(buffers[2], wide.type), r_low),
        ])
    new_quadrant, new_r, new_low = branch.results
    return new_quadrant, new_r, new_low


def _large_angle_helper(b: Builder) -> str:
    """Define, once a module, `void helper(ptr angles, ptr r, ptr r_low, i64 count)` and return its name.

    Each float64 angle is replaced by its quadrant (i64, modulo 4); r and r_low [count] receive the rest.
    Angles below 2^20, infinities and NaN give numbers without meaning.
    """
    name = "vecmath_reduce_large_angle"
    if not b.module.has_function(name):
        helper = b.module.function(
            name, [("angles", PTR), ("r", PTR), ("r_low", PTR), ("count", I64)], linkage="internal",
            noalias=["angles", "r", "r_low"], attributes="noinline cold",
        )
        angles, r, r_low, count = helper.params
        with helper.loop(0, count) as loop:
            place = helper.gep(angles, loop.index, "f64")
            quadrant, high, low = _reduce_large_angle(helper, helper.load(place, F64))
            helper.store(quadrant, place)
            helper.store(high, helper.gep(r, loop.index, "f64"))
            helper.store(low, helper.gep(r_low, loop.index, "f64"))
        helper.ret()
    return name


def _reduce_large_angle(b: Builder, x: Value) -> tuple[Value, Value, Value]:
    """(n mod 4, r, r_low) of one float64 |x| >= 2^20.

    |x| = m 2^e with an integer m < 2^53. Of the bits of 2/pi, those that m 2^e turns into multiples of 4 are
    skipped; the next 192 are W, so that x 2/pi = m W 2^-190 modulo 4 with an absolute error below 2^-137. A
    double comes no nearer than about 2^-61 to a multiple of pi/2, which leaves r more than 70 right bits.
    """
    limb_mask = 0xFFFFFFFF
    bits = b.and_(as_bits(b, x), 2**63 - 1)
    exponent = b.sub(b.lshr(bits, 52), 1023 + 52)
    mantissa = b.or_(b.and_(bits, 2**52 - 1), 2**52)
    first_bit = b.add(exponent, 32 * _LEADING_ZERO_LIMBS - 2)
    first_bit = b.select(b.icmp("slt", first_bit, 0), 0, first_bit)
    last = 32 * (len(_two_over_pi_limbs()) - _WINDOW_LIMBS - 1)
    first_bit = b.select(b.icmp("sgt", first_bit, last), last, first_bit)
    table = b.module.global_array("vecmath_two_over_pi", _two_over_pi_limbs(), "i64")
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
    r, r_low = two_product(b, high, HALF_PI[0])
    r_low = b.add(r_low, b.fma(high, HALF_PI[1], b.mul(low, HALF_PI[0])))
    r, r_low = fast_two_sum(b, r, r_low)
    negative = b.icmp("slt", as_bits(b, x), 0)
    return (
        b.select(negative, b.neg(quadrant), quadrant),
        b.select(negative, b.neg(r), r),
        b.select(negative, b.neg(r_low), r_low),
    )


def atan2(b: Builder, y: Value, x: Value) -> Value:
    """The angle of the point (x, y) in [-pi, pi], with C99's special cases (ISO C, F.10.1.4).

    t = min/max of the magnitudes, turned by pi/4 where it is above tan(pi/8); then one of k pi/4 +- atan(t).
    float32 is computed in float64, where that has a unit.
    """
    wide_y, wide_x = b.abs(widen(b, y)), b.abs(widen(b, x))
    steep = b.fcmp("ogt", wide_y, wide_x)
    numerator, denominator = b.select(steep, wide_x, wide_y), b.select(steep, wide_y, wide_x)
    diagonal = b.fcmp("oeq", numerator, INFINITY)
    numerator = b.select(diagonal, 1.0, numerator)
    denominator = b.select(b.or_(diagonal, is_zero(b, denominator)), 1.0, denominator)
    if wide_x.type is x.type:
        large = single.ATAN2_LARGE if is_single(b, x) else ATAN2_LARGE
        factor = b.select(b.fcmp("ogt", denominator, large), 0.25, 1.0, x.type)
        numerator, denominator = b.mul(numerator, factor), b.mul(denominator, factor)
    turned = b.fcmp("ogt", numerator, b.mul(denominator, TANGENT_OCTANT))
    over = b.select(turned, b.sub(numerator, denominator), numerator)
    under = b.select(turned, b.add(numerator, denominator), denominator)
    t = b.div(over, under)
    square = b.mul(t, t)
    name = "atan_f32_wide" if x.type.kind == "f32" else "atan_f64"
    rest = b.mul(b.mul(t, square), horner(b, coefficients(name), square))
    eighths = b.select(turned, 1.0, 0.0, t.type)
    negative = b.icmp("slt", as_bits(b, x), 0)
    eighths = b.select(steep, b.sub(2.0, eighths), eighths)
    eighths = b.select(negative, b.sub(4.0, eighths), eighths)
    backwards = b.xor(steep, negative)
    t, rest = b.select(backwards, b.neg(t), t), b.select(backwards, b.neg(rest), rest)
    head, tail = single.QUARTER_PI if is_single(b, x) else QUARTER_PI
    angle = b.add(b.mul(eighths, head), b.add(t, b.fma(eighths, tail, rest)))
    angle = b.copysign(b.fptrunc(angle, x.type), y)
    return b.select(b.fcmp("uno", x, y), b.add(x, y), angle)

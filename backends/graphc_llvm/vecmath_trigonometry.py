"""sin, cos, tan and atan2 as inlined polynomials.

The angle is x = n pi/2 + r with |r| <= pi/4.  Up to 2^20 that is done in line (Cody and Waite's reduction; float32
in float64 lanes, but for sine and cosine where there is FMA); where some lane is larger, a helper function of the
module does it for all lanes with as many bits of 2/pi as the angle needs (vecmath_large_angle).  Each lane keeps the
result of the method that its own magnitude asks for, so no result depends on its neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from graphc_llvm import vecmath_single as single
from graphc_llvm.emit import F32, I1, I64, PTR, Builder, Type, Value
from graphc_llvm.vecmath_common import (
    INFINITY,
    as_bits,
    coefficients,
    fast_two_sum,
    flip_sign,
    float_bits,
    horner,
    is_single,
    is_zero,
    product_error,
    round_scaled,
    two_sum,
    widen,
)
from graphc_llvm.vecmath_large_angle import LEADING_ZERO_LIMBS, large_angle_helper, two_over_pi_limbs

TWO_OVER_PI: Final = float.fromhex("0x1.45f306dc9c883p-1")
# pi/2 in parts of 33 bits (their products with n < 2^20 are exact) and a rounded rest: FreeBSD's
# e_rem_pio2.c.
HALF_PI_HEAD: Final = float.fromhex("0x1.921fb544p+0")
HALF_PI_REST: Final = float.fromhex("0x1.0b4611a626331p-34")  # pi/2 - head, 53 bits
HALF_PI_MIDDLE: Final = float.fromhex("0x1.0b4611a6p-34")  # the rest in 33 bits
HALF_PI_TAIL: Final = float.fromhex("0x1.3198a2e037073p-69")  # pi/2 - head - middle
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

def sin(b: Builder, x: Value) -> Value:
    """The sine; NaN at infinity."""
    if x.type.kind == "f32" and b.module.has_fma:
        return _narrow(b, x, [False])[0]
    return _wide_sine(b, x)


def _wide_sine(b: Builder, x: Value) -> Value:
    quadrant, sine, cosine, *_ = _sine_cosine(b, x)
    value = b.select(b.trunc(quadrant, I1.with_lanes(x.type.lanes)), cosine, sine)
    return b.select(is_zero(b, x), x, _finish(b, value, quadrant, x.type))


def cos(b: Builder, x: Value) -> Value:
    """The cosine; NaN at infinity."""
    if x.type.kind == "f32" and b.module.has_fma:
        return _narrow(b, x, [True])[0]
    return _wide_cosine(b, x)


def _wide_cosine(b: Builder, x: Value) -> Value:
    quadrant, sine, cosine, *_ = _sine_cosine(b, x)
    value = b.select(b.trunc(quadrant, I1.with_lanes(x.type.lanes)), sine, cosine)
    return _finish(b, value, b.add(quadrant, 1), x.type)


def sine_and_cosine(b: Builder, x: Value) -> tuple[Value, Value]:
    """Both of one angle: the same bits as one after the other, and less work."""
    if x.type.kind == "f32" and b.module.has_fma:
        sine, cosine = _narrow(b, x, [False, True])
        return sine, cosine
    return _wide_sine(b, x), _wide_cosine(b, x)


def tan(b: Builder, x: Value) -> Value:
    """The tangent, as a quotient of the two, for float64 with what their rounding lost; NaN at infinity."""
    if is_single(b, x):
        return b.div(*sine_and_cosine(b, x))
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


def _narrow(b: Builder, x: Value, cosines: Sequence[bool]) -> list[Value]:
    """Sines (False) and cosines (True) of float32 in float32 lanes, two to three times as fast as in float64.

    Lanes beyond 2^20 are done by a helper function, one for each of the two in a module, by way of float64.
    """
    quadrant, sine, other = b.once("narrow sine and cosine", x, lambda: _narrow_both(b, x))
    values = [_narrow_value(b, quadrant, sine, other, cosine) for cosine in cosines]
    if not x.type.lanes:
        return _narrow_scalars(b, x, cosines, values)
    # By way of float64 the helper makes NaN of infinity itself.
    large = _is_large(b, x) if is_single(b, x) else b.fcmp("ogt", b.abs(x), LARGE_ANGLE)
    with b.if_(b.any_(large), otherwise=values) as branch:
        branch.yield_([
            b.select(large, _by_helper(b, x, cosine), value) for cosine, value in zip(cosines, values, strict=True)
        ])
    return _with_zeros(b, x, cosines, branch.results)


def _narrow_scalars(b: Builder, x: Value, cosines: Sequence[bool], values: list[Value]) -> list[Value]:
    """The same for one angle. A processor waits for each result in turn, so whatever is rare is behind one branch,
    which it predicts: zeros and angles beyond 2^20. Integers are tested, as the floating-point unit has enough to do.
    """
    limit = float_bits("f32", LARGE_ANGLE)
    twice = b.shl(as_bits(b, x), 1)  # without the sign
    with b.if_(b.icmp("uge", b.sub(twice, 2), 2 * limit), otherwise=values) as rare:
        large = b.and_(b.icmp("ugt", twice, 2 * limit), b.icmp("ult", twice, 2 * float_bits("f32", INFINITY)))
        with b.if_(large, otherwise=values) as branch:
            branch.yield_([_by_helper(b, x, cosine) for cosine in cosines])
        rare.yield_(_with_zeros(b, x, cosines, branch.results))
    return rare.results


def _with_zeros(b: Builder, x: Value, cosines: Sequence[bool], values: Sequence[Value]) -> list[Value]:
    """The values, with the sine of a zero, which has its sign."""
    return [
        value if cosine else b.select(is_zero(b, x), x, value)
        for cosine, value in zip(cosines, values, strict=True)
    ]


def _by_helper(b: Builder, x: Value, cosine: bool) -> Value:
    lanes = max(1, x.type.lanes)
    buffer = b.alloca("f32", lanes, align=4 * lanes)
    b.store(x, buffer)
    b.call(_wide_helper(b, cosine), None, [buffer, b.const(I64, lanes)])
    return b.load(buffer, x.type)


def _narrow_value(b: Builder, quadrant: Value, sine: Value, other: Value, cosine: bool) -> Value:
    odd = b.trunc(quadrant, I1.with_lanes(sine.type.lanes))
    value = b.select(odd, sine, other) if cosine else b.select(odd, other, sine)
    turned = b.shl(quadrant, 30)
    return flip_sign(b, value, b.and_(b.add(turned, 2**30) if cosine else turned, -(2**31)))


def _narrow_both(b: Builder, x: Value) -> tuple[Value, Value, Value]:
    """(n, sin r, cos r) for x = n pi/2 + r, unless the angle is beyond 2^20.

    n is an i32 that is right modulo 4. The sine takes the rounding error of r along; the cosine hardly feels it.
    """
    z, n = round_scaled(b, x, TWO_OVER_PI)
    first = b.fma(n, -HALF_PI_F32[0], x)
    r = b.sub(first, b.mul(n, HALF_PI_F32[1]))
    # r - first is exact: `first` is a multiple of 2^-24 (or n is 0). So this is all that r has lost, rounded once.
    lost = b.fma(n, HALF_PI_F32[1], b.sub(r, first))
    r_low = b.neg(b.fma(n, HALF_PI_F32[2], lost))
    sine, cosine = _narrow_octant(b, r, r_low)
    return as_bits(b, z), sine, cosine


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
            name, [("angles", PTR), ("count", I64)], linkage="internal", attributes="noinline cold", rare=True,
        )
        angles, count = helper.params
        with helper.loop(0, count) as loop:
            place = helper.gep(angles, loop.index, "f32")
            x = helper.load(place, F32)
            if is_single(b, x):
                quadrant, *parts = single.reduce_large_angle(helper, x, two_over_pi_limbs(), LEADING_ZERO_LIMBS)
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
        b.call(large_angle_helper(b), None, [*buffers, b.const(I64, lanes)])
        branch.yield_([
            b.select(large, b.load(buffers[0], quadrant.type), quadrant),
            b.select(large, b.load(buffers[1], wide.type), r),
            b.select(large, b.load(buffers[2], wide.type), r_low),
        ])
    new_quadrant, new_r, new_low = branch.results
    return new_quadrant, new_r, new_low


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

"""i64 on processors of 32 bits: division, and conversion to floats and back; i32 on those that divide no integers.

LLVM would call functions of the compiler's run-time library there (`__aeabi_ldivmod`, `__aeabi_l2f`, ...), which an
object that stands alone does not have. Everything works lane by lane, and gives the bits that other processors give.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphc_llvm.emit_types import EXPONENT_BIAS, F64, I32, I64, MANTISSA_BITS, Type, Value

if TYPE_CHECKING:
    from graphc_llvm.instructions import Instructions

DIVIDE = "graphc_divide"


def divide(b: Instructions, x: Value, y: Value) -> tuple[Value, Value]:
    """Quotient, truncated towards zero, and remainder, with the sign of x, of signed i64 or i32."""
    lanes = x.type.lanes
    if x.type.kind == I32.kind:
        # By float64. Its quotient is off by less than x / y / 2^52, and a quotient that is not whole differs from the
        # next whole number by 1 / y at least, which is more: x is below 2^32.
        quotient = b.fptosi(b.div(*(b.sitofp(one, F64.with_lanes(lanes)) for one in (x, y))), x.type)
        return quotient, b.sub(x, b.mul(quotient, y))
    name = _divide_function(b)
    magnitudes = [b.select(b.icmp("slt", one, 0), b.neg(one), one) for one in (x, y)]
    if not lanes:
        quotient = b.call(name, I64, magnitudes)
    else:
        quotient = b.const(x.type, 0)
        for lane in range(lanes):
            quotient = b.insert(quotient, b.call(name, I64, [b.extract(one, lane) for one in magnitudes]), lane)
    quotient = b.select(b.icmp("slt", b.xor(x, y), 0), b.neg(quotient), quotient)
    return quotient, b.sub(x, b.mul(quotient, y))


def _divide_function(b: Instructions) -> str:
    """Define, once a module, `i64 divide(i64, i64)` of unsigned numbers: shift and subtract, a bit at a time."""
    if not b.module.has_function(DIVIDE):
        helper = b.module.function(DIVIDE, [("x", I64), ("y", I64)], I64, linkage="internal", attributes="noinline")
        x, y = helper.params
        shift = helper.sub(_leading_zeros(helper, y), _leading_zeros(helper, x))
        steps = helper.select(helper.icmp("ult", x, y), 0, helper.add(shift, 1))
        first = helper.shl(y, helper.and_(shift, 63))
        with helper.loop(0, steps, 1, "bit", [helper.const(I64, 0), x, first]) as loop:
            quotient, rest, part = loop.carried
            fits = helper.icmp("uge", rest, part)
            loop.yield_([
                helper.or_(helper.shl(quotient, 1), helper.zext(fits, I64)),
                helper.select(fits, helper.sub(rest, part), rest),
                helper.lshr(part, 1),
            ])
        helper.ret(loop.results[0])
    return DIVIDE


def _leading_zeros(b: Instructions, x: Value) -> Value:
    name = f"llvm.ctlz.{x.type.suffix}"
    b.module.declare(name, x.type.text, [x.type.text, "i1"])
    return b.emit(f"call {x.type.text} @{name}({x.type.text} {x.text}, i1 false)", x.type)


def to_float(b: Instructions, x: Value, type_: Type) -> Value:
    """A signed i64 as a float, rounded once, to nearest."""
    half = I32.with_lanes(x.type.lanes)
    if type_.kind == F64.kind:
        high, low = b.sitofp(b.trunc(b.ashr(x, 32), half), type_), b.uitofp(b.trunc(x, half), type_)
        return b.add(b.mul(high, 2.0**32), low)  # both are exact
    # The upper 32 of the bits from the first one on, the last of them set if any below was: that rounds alike.
    magnitude = b.select(b.icmp("slt", x, 0), b.neg(x), x)
    zeros = _leading_zeros(b, magnitude)
    shifted = b.shl(magnitude, b.and_(zeros, 63))
    sticky = b.zext(b.icmp("ne", b.trunc(shifted, half), 0), half)
    significand = b.uitofp(b.or_(b.trunc(b.lshr(shifted, 32), half), sticky), type_)
    exponent = b.sub(EXPONENT_BIAS[type_.kind] + 32, b.trunc(zeros, half))
    value = b.mul(significand, b.bitcast(b.shl(exponent, MANTISSA_BITS[type_.kind]), type_))
    return b.select(b.icmp("slt", x, 0), b.neg(value), value)


def from_float(b: Instructions, x: Value, type_: Type) -> Value:
    """A float as a signed i64, towards zero, saturating; NaN gives 0."""
    kind, bits_type = x.type.kind, x.type.same_bits_integer()
    stored = MANTISSA_BITS[kind]
    bits = b.bitcast(x, bits_type)
    significand = b.or_(b.and_(bits, 2**stored - 1), 2**stored)
    exponent = b.and_(b.lshr(bits, stored), 2 * EXPONENT_BIAS[kind] + 1)
    if bits_type is not type_:
        significand, exponent = b.zext(significand, type_), b.zext(exponent, type_)
    shift = b.sub(exponent, EXPONENT_BIAS[kind] + stored)
    right = b.sub(0, shift)
    down = b.select(b.icmp("ult", right, 64), b.lshr(significand, b.and_(right, 63)), 0)
    magnitude = b.select(b.icmp("sgt", shift, 0), b.shl(significand, b.and_(shift, 63)), down)
    negative = b.icmp("slt", bits, 0)
    value = b.select(negative, b.neg(magnitude), magnitude)
    saturated = b.select(negative, -(2**63), 2**63 - 1, type_)
    value = b.select(b.icmp("sge", exponent, EXPONENT_BIAS[kind] + 63), saturated, value)
    return b.select(b.fcmp("uno", x, x), 0, value)

"""Instructions that AVX-512 has for the pieces of floats (Intel SDM, volume 2: VSCALEF, VGETEXP, VGETMANT, VFIXUPIMM,
VRSQRT14), on vectors that fill whole 512-bit registers, and VSCALEF on scalars.

All but VRSQRT14 give the bits that the portable code gives, so that lanes do not depend on how many they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from graphc_llvm.emit import Builder, Type, Value

REGISTER_BITS: Final = 512
SCALAR_BITS: Final = 128  # of the register whose lowest lane an instruction for scalars takes
CURRENT_ROUNDING: Final = "i32 4"
# VGETMANT's immediate: a significand in [3/4, 3/2), its sign the argument's.
_THREE_QUARTERS: Final = "i32 3"
# VFIXUPIMM's table for a logarithm, four bits for each kind of argument from the lowest on: quiet and signalling NaN
# keep the result, 0 gives -infinity, 1 keeps, -infinity gives NaN, infinity itself, negative NaN, positive keeps.
_LOGARITHM_ENDS: Final = 0x03530400


def fills_registers(b: Builder, type_: Type) -> bool:
    """Whether values of this type are whole 512-bit registers, on a target that has them."""
    registers, rest = divmod(type_.lanes * type_.bits, REGISTER_BITS)
    return b.module.has_avx512 and rest == 0 and registers > 0 and registers & (registers - 1) == 0


def _in_registers(b: Builder, emit: Callable[..., Value], *operands: Value) -> Value:
    """`emit` over each 512-bit piece of the operands."""
    type_ = operands[0].type
    half = type_.lanes // 2
    if type_.lanes * type_.bits == REGISTER_BITS:
        return emit(*operands)
    poison = Value("poison", type_)
    halves = [
        _in_registers(b, emit, *(b.shuffle(operand, poison, range(start, start + half)) for operand in operands))
        for start in (0, half)
    ]
    return b.shuffle(halves[0], halves[1], range(type_.lanes))


def _call(b: Builder, stem: str, type_: Type, signature: str, operands: str) -> Value:
    word, letter = type_.text, "s" if type_.kind == "f32" else "d"
    name = f"llvm.x86.avx512.{stem}.p{letter}.512"
    b.module.declare(name, word, [part.strip() for part in signature.split(";")])
    return b.emit(f"call {word} @{name}({operands})", type_)


def _mask(type_: Type) -> str:
    return f"i{type_.lanes}"


def scales(b: Builder, type_: Type) -> bool:
    """Whether `scalef` takes values of this type."""
    return fills_registers(b, type_) or (b.module.has_avx512 and not type_.lanes)


def scalef(b: Builder, p: Value, n: Value) -> Value:
    """p * 2^n for a whole n, rounded once."""
    if not p.type.lanes:
        return _scalef_scalar(b, p, n)

    def emit(p: Value, n: Value) -> Value:
        word, mask = p.type.text, _mask(p.type)
        return _call(b, "mask.scalef", p.type, f"{word}; {word}; {word}; {mask}; i32",
                     f"{word} {p.text}, {word} {n.text}, {word} zeroinitializer, {mask} -1, {CURRENT_ROUNDING}")

    return _in_registers(b, emit, p, n)


def _scalef_scalar(b: Builder, p: Value, n: Value) -> Value:
    register = p.type.with_lanes(SCALAR_BITS // p.type.bits)
    first, second = (b.insert(Value("poison", register), value, 0) for value in (p, n))
    word, letter = register.text, "s" if p.type.kind == "f32" else "d"
    name = f"llvm.x86.avx512.mask.scalef.s{letter}"
    b.module.declare(name, word, [word, word, word, "i8", "i32"])
    operands = f"{word} {first.text}, {word} {second.text}, {word} zeroinitializer, i8 -1, {CURRENT_ROUNDING}"
    return b.extract(b.emit(f"call {word} @{name}({operands})", register), 0)


def split_exponent(b: Builder, x: Value) -> tuple[Value, Value]:
    """(f, k) of x = 2^k (1 + f), 1 + f in [3/4, 3/2), for finite x > 0; k is a float."""

    def exponent(x: Value) -> Value:
        word, mask = x.type.text, _mask(x.type)
        return _call(b, "mask.getexp", x.type, f"{word}; {word}; {mask}; i32",
                     f"{word} {x.text}, {word} zeroinitializer, {mask} -1, {CURRENT_ROUNDING}")

    def significand(x: Value) -> Value:
        word, mask = x.type.text, _mask(x.type)
        return _call(b, "mask.getmant", x.type, f"{word}; i32; {word}; {mask}; i32",
                     f"{word} {x.text}, {_THREE_QUARTERS}, {word} zeroinitializer, {mask} -1, {CURRENT_ROUNDING}")

    m = _in_registers(b, significand, x)
    k = b.sub(_in_registers(b, exponent, x), _in_registers(b, exponent, m))
    return b.sub(m, 1.0), k


def logarithm_ends(b: Builder, x: Value, y: Value) -> Value:
    """y where x is positive and finite; infinity at infinity, -infinity at 0, NaN below; y where x is NaN."""

    def emit(x: Value, y: Value) -> Value:
        type_ = x.type
        word, mask, table_type = type_.text, _mask(type_), type_.same_bits_integer()
        table = b.const(table_type, _LOGARITHM_ENDS)
        return _call(b, "mask.fixupimm", type_, f"{word}; {word}; {table_type.text}; i32; {mask}; i32",
                     f"{word} {y.text}, {word} {x.text}, {table_type.text} {table.text}, i32 0, {mask} -1, "
                     f"{CURRENT_ROUNDING}")

    return _in_registers(b, emit, x, y)


def rsqrt14(b: Builder, x: Value) -> Value:
    """1 / sqrt(x) with a relative error below 2^-14; a scalar or a short vector is computed in a whole register."""

    def emit(x: Value) -> Value:
        word, mask = x.type.text, _mask(x.type)
        return _call(b, "rsqrt14", x.type, f"{word}; {word}; {mask}",
                     f"{word} {x.text}, {word} zeroinitializer, {mask} -1")

    if fills_registers(b, x.type):
        return _in_registers(b, emit, x)
    lanes = REGISTER_BITS // x.type.bits
    if not x.type.lanes:
        return b.extract(emit(b.splat(x, lanes)), 0)
    padding = Value("poison", x.type)
    whole = b.shuffle(x, padding, [lane % x.type.lanes for lane in range(lanes)])
    return b.shuffle(emit(whole), Value("poison", whole.type), range(x.type.lanes))

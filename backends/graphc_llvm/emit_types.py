"""Types, values and constants of the textual LLVM IR.

A `Type` is a scalar kind or a vector of it and knows its IR spelling; a `Value` is a piece of text that
denotes an operand, together with its type. Constants are spelled exactly: floats as the hexadecimal bits of
a double, which is how LLVM spells both `float` and `double` (Language Reference, "Simple Constants").
"""

from __future__ import annotations

import struct
from functools import cache, lru_cache
from typing import Final

import numpy as np

_SPELLING: Final = {
    "f32": "float", "f64": "double", "i64": "i64", "i32": "i32", "i16": "i16", "i8": "i8", "i1": "i1", "ptr": "ptr",
}
_BITS: Final = {"f32": 32, "f64": 64, "i64": 64, "i32": 32, "i16": 16, "i8": 8, "i1": 1, "ptr": 64}
# IEEE 754: bits of the stored significand, and the exponent's bias.
MANTISSA_BITS: Final = {"f32": 23, "f64": 52}
EXPONENT_BIAS: Final = {"f32": 127, "f64": 1023}
BYTES: Final = {"f32": 4, "f64": 8, "i64": 8, "i32": 4, "i16": 2, "i8": 1, "i1": 1}


class Type:
    """A scalar (`lanes` = 0) or a vector `<lanes x kind>`; immutable and interned, so that `is` compares
    types.

    `text` is the IR spelling, `suffix` the overload suffix of an intrinsic's name (`v16f32`), `bits` the
    width of one lane (64 is assumed for pointers, which matters to no emitted text).
    """

    __slots__ = ("bits", "is_float", "kind", "lanes", "scalar_text", "suffix", "text")

    kind: str
    lanes: int
    text: str
    scalar_text: str
    suffix: str
    bits: int
    is_float: bool

    def __new__(cls, kind: str, lanes: int = 0) -> Type:
        return _interned(kind, lanes)

    def with_lanes(self, lanes: int) -> Type:
        """The same kind with another number of lanes."""
        return _interned(self.kind, lanes)

    def mask(self) -> Type:
        """`i1` with the same lanes: what a comparison of two such values gives."""
        return _interned("i1", self.lanes)

    def scalar(self) -> Type:
        """The type of one lane."""
        return _interned(self.kind, 0)

    def same_bits_integer(self) -> Type:
        """The integer type of the same lane width (f32 -> i32, f64 -> i64)."""
        return _interned(f"i{self.bits}", self.lanes)

    def __repr__(self) -> str:
        return f"Type({self.kind!r}, {self.lanes})"

    def __reduce__(self) -> tuple[type[Type], tuple[str, int]]:
        return (Type, (self.kind, self.lanes))


@cache
def _interned(kind: str, lanes: int) -> Type:
    if kind not in _SPELLING:
        raise ValueError(f"unknown LLVM kind {kind!r}; known: {', '.join(_SPELLING)}")
    if lanes < 0:
        raise ValueError(f"a type cannot have {lanes} lanes")
    made = object.__new__(Type)
    scalar = _SPELLING[kind]
    made.kind, made.lanes, made.scalar_text = kind, lanes, scalar
    made.text = f"<{lanes} x {scalar}>" if lanes else scalar
    name = "p0" if kind == "ptr" else kind
    made.suffix = f"v{lanes}{name}" if lanes else name
    made.bits = _BITS[kind]
    made.is_float = kind in ("f32", "f64")
    return made


F32: Final = Type("f32")
F64: Final = Type("f64")
I64: Final = Type("i64")
I32: Final = Type("i32")
I16: Final = Type("i16")
I8: Final = Type("i8")
I1: Final = Type("i1")
PTR: Final = Type("ptr")


class Value:
    """An operand: its text (`%v7`, `@table`, or a constant) and its type."""

    __slots__ = ("text", "type")

    def __init__(self, text: str, type_: Type) -> None:
        self.text = text
        self.type = type_

    def __repr__(self) -> str:
        return f"{self.type.text} {self.text}"


Operand = Value | float | int

_pack_double = struct.Struct("<d").pack
_unpack_bits = struct.Struct("<Q").unpack


def literal(type_: Type, value: float | int) -> str:
    """The scalar constant's exact spelling; a float32 is rounded once, to nearest.

    Raises ValueError for a pointer type or a fractional value of an integer type.
    """
    if type_.is_float:
        if type_.kind == "f32":
            value = float(np.float32(value))
        return f"0x{_unpack_bits(_pack_double(value))[0]:016X}"
    if type_.kind == "ptr" or value != int(value):
        raise ValueError(f"{value!r} is not a constant of type {type_.text}")
    if type_.kind == "i1":
        return "true" if value else "false"
    return str(int(value))


def constant_text(type_: Type, value: float | int) -> str:
    """The constant's spelling, splat over the lanes of a vector type."""
    if value:
        return _nonzero_text(type_, value)
    return _splat_text(type_, value)  # apart, because 0.0 and -0.0 are equal keys


@lru_cache(maxsize=4096)
def _nonzero_text(type_: Type, value: float | int) -> str:
    return _splat_text(type_, value)


def _splat_text(type_: Type, value: float | int) -> str:
    text = literal(type_, value)
    return f"splat ({type_.scalar_text} {text})" if type_.lanes else text

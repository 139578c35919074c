"""The instructions of the IR builder: arithmetic, comparisons, casts and lanes.

Every method appends one or a few lines and returns the result as a `Value`. Operands are Values or Python
numbers; a number takes the type of the operand beside it and is splat over its lanes. No floating-point flag
is ever set, so no operation is reassociated or contracted: what is written is what runs, on every target and
at every lane count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from graphc_llvm import wide_integers
from graphc_llvm.emit_types import I1, I32, I64, Operand, Type, Value, constant_text
from graphc_llvm.primitives import Primitives

# Adding and subtracting 1.5 * 2^(p-1) rounds |x| < 2^(p-2) to an integer, ties to even (p: bits of the
# significand).
ROUNDING_MAGIC: Final = {"f32": 1.5 * 2.0**23, "f64": 1.5 * 2.0**52}
# From this magnitude on every float is an integer.
_ALL_INTEGERS: Final = {"f32": 2.0**23, "f64": 2.0**52}


class Instructions(Primitives):
    """The instruction methods of `emit.Builder`, beside those for memory and calls."""

    # ---- arithmetic ----------------------------------------------------------------------------------------

    def _binary(self, float_name: str, integer_name: str, a: Operand, b: Operand) -> Value:
        type_ = _type_of(a, b)
        opcode = float_name if type_.is_float else integer_name
        return self.emit(f"{opcode} {type_.text} {self.operand(a, type_)}, {self.operand(b, type_)}", type_)

    def add(self, a: Operand, b: Operand) -> Value:
        """a + b; integers wrap."""
        return self._binary("fadd", "add", a, b)

    def divide_index(self, a: Value, b: int) -> tuple[Value, Value]:
        """Quotient and remainder of an i64 that is not negative by a positive constant.

        Without 64-bit division the i64 is one of a loop's, below 2^31.
        """
        if self.module.division_bits < I64.bits:
            half = self.trunc(a, I32)
            found = (self.emit(f"{opcode} i32 {half.text}, {b}", I32) for opcode in ("udiv", "urem"))
            quotient, rest = (self.zext(one, I64) for one in found)
            return quotient, rest
        return self.emit(f"udiv i64 {a.text}, {b}", a.type), self.emit(f"urem i64 {a.text}, {b}", a.type)

    def sub(self, a: Operand, b: Operand) -> Value:
        """a - b; integers wrap."""
        return self._binary("fsub", "sub", a, b)

    def mul(self, a: Operand, b: Operand) -> Value:
        """a * b; integers wrap."""
        return self._binary("fmul", "mul", a, b)

    def div(self, a: Operand, b: Operand) -> Value:
        """a / b; signed integers truncate towards zero (a zero divisor is undefined, as in C)."""
        if self._divides_not(type_ := _type_of(a, b)):
            return wide_integers.divide(self, self._as_value(a, type_), self._as_value(b, type_))[0]
        return self._binary("fdiv", "sdiv", a, b)

    def rem(self, a: Operand, b: Operand) -> Value:
        """Remainder with the sign of a (C's %), for signed integers only: frem would call the C library."""
        if _type_of(a, b).is_float:
            raise ValueError("a floating-point remainder has no inline form; write it with trunc and fma")
        if self._divides_not(type_ := _type_of(a, b)):
            return wide_integers.divide(self, self._as_value(a, type_), self._as_value(b, type_))[1]
        return self._binary("", "srem", a, b)

    def fma(self, a: Operand, b: Operand, c: Operand) -> Value:
        """a * b + c, rounded once where the target has FMA, twice (multiply, then add) where it has not."""
        type_ = _type_of(a, b, c)
        if not self.module.fuses(type_):
            return self.add(self.mul(self._as_value(a, type_), b), c)
        word, operand = type_.text, self.operand
        text = f"({word} {operand(a, type_)}, {word} {operand(b, type_)}, {word} {operand(c, type_)})"
        return self.emit(self.module.intrinsic("fma", type_, 3) + text, type_)

    def neg(self, a: Value) -> Value:
        """-a; flips the sign of zeros and NaNs too."""
        if a.type.is_float:
            return self.emit(f"fneg {a.type.text} {a.text}", a.type)
        return self.sub(0, a)

    def abs(self, a: Value) -> Value:
        """|a| of a float."""
        return self.intrinsic("fabs", a.type, (a,))

    def sqrt(self, a: Value) -> Value:
        """The correctly rounded square root; NaN below zero."""
        return self.intrinsic("sqrt", a.type, (a,))

    def copysign(self, magnitude: Value, sign: Operand) -> Value:
        """The magnitude of one with the sign bit of the other."""
        return self.intrinsic("copysign", magnitude.type, (magnitude, sign))

    def rint(self, a: Value) -> Value:
        """The nearest integer, ties to even."""
        if self.module.rounds(a.type):
            return self.intrinsic("rint", a.type, (a,))
        magic, magnitude = ROUNDING_MAGIC[a.type.kind] / 1.5, self.abs(a)
        rounded = self.copysign(self.sub(self.add(magnitude, magic), magic), a)
        return self.select(self.fcmp("olt", magnitude, _ALL_INTEGERS[a.type.kind]), rounded, a)

    def floor(self, a: Value) -> Value:
        """The largest integer not above a."""
        return self._directed("floor", a, "ogt", -1.0)

    def ceil(self, a: Value) -> Value:
        """The smallest integer not below a."""
        return self._directed("ceil", a, "olt", 1.0)

    def _directed(self, stem: str, a: Value, wrong: str, correction: float) -> Value:
        if self.module.rounds(a.type):
            return self.intrinsic(stem, a.type, (a,))
        nearest = self.rint(a)
        corrected = self.copysign(self.add(nearest, correction), a)
        return self.select(self.fcmp(wrong, nearest, a), corrected, nearest)

    def trunc(self, a: Value, type_: Type | None = None) -> Value:
        """A float rounded towards zero; with `type_`, an integer cut to its low bits."""
        if type_ is not None:
            return self._cast("trunc", a, type_)
        if self.module.rounds(a.type):
            return self.intrinsic("trunc", a.type, (a,))
        return self.copysign(self.floor(self.abs(a)), a)

    def select_min(self, a: Operand, b: Operand) -> Value:
        """a < b ? a : b, so b where either is NaN: one instruction on x86."""
        return self.select(self.fcmp("olt", a, b), a, b)

    def select_max(self, a: Operand, b: Operand) -> Value:
        """a > b ? a : b, so b where either is NaN: one instruction on x86."""
        return self.select(self.fcmp("ogt", a, b), a, b)

    def minimum(self, a: Value, b: Value) -> Value:
        """The smaller, NaN where either is NaN (NumPy's minimum)."""
        return self.select(self.fcmp("uno", a, a), a, self.select_min(a, b))

    def maximum(self, a: Value, b: Value) -> Value:
        """The larger, NaN where either is NaN (NumPy's maximum)."""
        return self.select(self.fcmp("uno", a, a), a, self.select_max(a, b))

    # ---- comparisons, bits ---------------------------------------------------------------------------------

    def fcmp(self, predicate: str, a: Operand, b: Operand) -> Value:
        """Compare floats: oeq, ogt, oge, olt, ole, one (false on NaN), ueq, une, uno, ... (true on NaN)."""
        type_ = _type_of(a, b)
        text = f"fcmp {predicate} {type_.text} {self.operand(a, type_)}, {self.operand(b, type_)}"
        return self.emit(text, type_.mask())

    def icmp(self, predicate: str, a: Operand, b: Operand) -> Value:
        """Compare integers or pointers: eq, ne, slt, sle, sgt, sge, ult, ..."""
        type_ = _type_of(a, b)
        text = f"icmp {predicate} {type_.text} {self.operand(a, type_)}, {self.operand(b, type_)}"
        return self.emit(text, type_.mask())

    def select(self, mask: Value, a: Operand, b: Operand, type_: Type | None = None) -> Value:
        """mask ? a : b, lane by lane; `type_` is needed only when both are numbers."""
        type_ = type_ or _type_of(a, b)
        text = f"select {mask.type.text} {mask.text}, {type_.text} {self.operand(a, type_)}, "
        return self.emit(text + f"{type_.text} {self.operand(b, type_)}", type_)

    def and_(self, a: Operand, b: Operand) -> Value:
        """Bitwise and."""
        return self._binary("and", "and", a, b)

    def or_(self, a: Operand, b: Operand) -> Value:
        """Bitwise or."""
        return self._binary("or", "or", a, b)

    def xor(self, a: Operand, b: Operand) -> Value:
        """Bitwise exclusive or."""
        return self._binary("xor", "xor", a, b)

    def not_(self, a: Value) -> Value:
        """Bitwise complement."""
        return self.xor(a, 1 if a.type.kind == "i1" else -1)

    def shl(self, a: Operand, count: Operand) -> Value:
        """Shift left; the count must be below the width."""
        return self._binary("shl", "shl", a, count)

    def lshr(self, a: Operand, count: Operand) -> Value:
        """Shift right, zeros coming in."""
        return self._binary("lshr", "lshr", a, count)

    def ashr(self, a: Operand, count: Operand) -> Value:
        """Shift right, the sign coming in."""
        return self._binary("ashr", "ashr", a, count)

    # ---- casts ---------------------------------------------------------------------------------------------

    def _cast(self, opcode: str, a: Value, type_: Type) -> Value:
        if a.type is type_:
            return a
        if type_.lanes != a.type.lanes:
            raise ValueError(f"{opcode} of {a.type.text} to {type_.text} changes the number of lanes")
        return self.emit(f"{opcode} {a.type.text} {a.text} to {type_.text}", type_)

    def sitofp(self, a: Value, type_: Type) -> Value:
        """Signed integer to float, rounded to nearest."""
        if self._is_too_wide(a.type):
            return wide_integers.to_float(self, a, type_)
        return self._cast("sitofp", a, type_)

    def uitofp(self, a: Value, type_: Type) -> Value:
        """Unsigned integer to float; an i1 gives 0.0 or 1.0."""
        return self._cast("uitofp", a, type_)

    def fptosi(self, a: Value, type_: Type) -> Value:
        """Float to signed integer towards zero, saturating; NaN gives 0.  Never poison."""
        if self._is_too_wide(type_):
            return wide_integers.from_float(self, a, type_)
        name = f"llvm.fptosi.sat.{type_.suffix}.{a.type.suffix}"
        self.module.declare(name, type_.text, [a.type.text])
        return self.emit(f"call {type_.text} @{name}({a.type.text} {a.text})", type_)

    def sext(self, a: Value, type_: Type) -> Value:
        """Widen a signed integer."""
        return self._cast("sext", a, type_)

    def zext(self, a: Value, type_: Type) -> Value:
        """Widen an unsigned integer or mask."""
        return self._cast("zext", a, type_)

    def fpext(self, a: Value, type_: Type) -> Value:
        """f32 to f64, exactly."""
        return self._cast("fpext", a, type_)

    def fptrunc(self, a: Value, type_: Type) -> Value:
        """f64 to f32, rounded to nearest."""
        return self._cast("fptrunc", a, type_)

    def bitcast(self, a: Value, type_: Type) -> Value:
        """The same bits as another type."""
        return a if a.type is type_ else self.emit(f"bitcast {a.type.text} {a.text} to {type_.text}", type_)

    # ---- lanes ---------------------------------------------------------------------------------------------

    def splat(self, a: Value, lanes: int) -> Value:
        """A scalar repeated over `lanes` lanes (0: the scalar itself)."""
        if not lanes:
            return a
        vector = a.type.with_lanes(lanes)
        first = self.insert(Value("poison", vector), a, 0)
        return self.shuffle(first, Value("poison", vector), [0] * lanes)

    def extract(self, vector: Value, lane: int | Value) -> Value:
        """One lane as a scalar."""
        index = self.operand(lane, I64)
        text = f"extractelement {vector.type.text} {vector.text}, i64 {index}"
        return self.emit(text, vector.type.scalar())

    def insert(self, vector: Value, scalar: Value, lane: int | Value) -> Value:
        """The vector with one lane replaced."""
        index, type_ = self.operand(lane, I64), vector.type
        text = f"insertelement {type_.text} {vector.text}, {scalar.type.text} {scalar.text}, i64 {index}"
        return self.emit(text, type_)

    def shuffle(self, a: Value, b: Value, indices: Sequence[int]) -> Value:
        """Lanes of a and b side by side, picked by index."""
        listed = ", ".join(f"i32 {index}" for index in indices)
        picks = f"<{len(indices)} x i32> <{listed}>"
        text = f"shufflevector {a.type.text} {a.text}, {b.type.text} {b.text}, {picks}"
        return self.emit(text, a.type.with_lanes(len(indices)))

    def iota(self, kind: str, lanes: int) -> Value:
        """0, 1, 2, ... along the lanes (0 for a scalar)."""
        type_ = Type(kind, lanes)
        if not lanes:
            return self.const(type_, 0)
        texts = (f"{type_.scalar_text} {constant_text(type_.scalar(), lane)}" for lane in range(lanes))
        return Value(f"<{', '.join(texts)}>", type_)

    def reduce(self, vector: Value, combine: Callable[[Value, Value], Value]) -> Value:
        """Fold the lanes to one scalar in a fixed tree: upper half onto lower half, until one lane is left.

        The number of lanes must be a power of two (ValueError otherwise); a scalar is returned as it is.
        """
        lanes = vector.type.lanes
        if lanes & (lanes - 1):
            raise ValueError(f"cannot fold {lanes} lanes in halves")
        while lanes > 1:
            half = lanes // 2
            poison = Value("poison", vector.type)
            low, high = range(half), range(half, lanes)
            vector = combine(self.shuffle(vector, poison, low), self.shuffle(vector, poison, high))
            lanes = half
        return self.extract(vector, 0) if vector.type.lanes else vector

    def reduce_add(self, vector: Value) -> Value:
        """The sum of the lanes, in the tree order of `reduce`."""
        return self.reduce(vector, self.add)

    def any_(self, mask: Value) -> Value:
        """Whether some lane of a mask is set, as a scalar i1."""
        if not mask.type.lanes:
            return mask
        bits = f"i{mask.type.lanes}"
        packed = self.emit(f"bitcast {mask.type.text} {mask.text} to {bits}", I1)
        return self.emit(f"icmp ne {bits} {packed.text}, 0", I1)

    def _is_too_wide(self, type_: Type) -> bool:
        """Whether the target neither divides such integers nor converts them to floats."""
        return not type_.is_float and type_.bits > self.module.division_bits

    def _divides_not(self, type_: Type) -> bool:
        """Whether the target has no instruction that divides such integers."""
        return self._is_too_wide(type_) or not (type_.is_float or self.module.has_division)

    def _as_value(self, a: Operand, type_: Type) -> Value:
        return a if isinstance(a, Value) else self.const(type_, a)


def _type_of(*operands: Operand) -> Type:
    for operand in operands:
        if isinstance(operand, Value):
            return operand.type
    raise ValueError("at least one operand must be a Value, to give the type")

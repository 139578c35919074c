"""The instructions of the IR builder: arithmetic, comparisons, casts, lanes and memory.

Every method appends one or a few lines and returns the result as a `Value`. Operands are Values or Python
numbers; a number takes the type of the operand beside it and is splat over its lanes. No floating-point flag
is ever set, so no operation is reassociated or contracted: what is written is what runs, on every target and
at every lane count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from graphc_llvm.emit_types import BYTES, I1, I64, PTR, Operand, Type, Value, constant_text

if TYPE_CHECKING:
    from graphc_llvm.emit import Module

# Adding and subtracting 1.5 * 2^(p-1) rounds |x| < 2^(p-2) to an integer, ties to even (p: bits of the
# significand).
ROUNDING_MAGIC: Final = {"f32": 1.5 * 2.0**23, "f64": 1.5 * 2.0**52}
# From this magnitude on every float is an integer.
_ALL_INTEGERS: Final = {"f32": 2.0**23, "f64": 2.0**52}


class Instructions:
    """The instruction methods of `emit.Builder`; `lines` is the text so far."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self.lines: list[str] = []
        self.counter = 0

    # ---- the primitives ------------------------------------------------------------------------------------

    def emit(self, text: str, type_: Type) -> Value:
        """Append `%vN = text` and return %vN."""
        self.counter += 1
        name = f"%v{self.counter}"
        self.lines.append(f"  {name} = {text}")
        return Value(name, type_)

    def operand(self, value: Operand, type_: Type) -> str:
        """The text of an operand of the given type; ValueError when a Value has another type."""
        if isinstance(value, Value):
            if value.type is not type_:
                raise ValueError(f"operand {value!r} where {type_.text} is needed")
            return value.text
        return constant_text(type_, value)

    def const(self, type_: Type, value: float | int) -> Value:
        """A constant, splat over the lanes; floats are spelled exactly."""
        return Value(constant_text(type_, value), type_)

    def call(self, name: str, ret: Type | None, args: Sequence[Value]) -> Value:
        """Call a function of this module or an external one, which is declared; without `ret` the Value is
        void.
        """
        if not self.module.has_function(name):
            self.module.declare(name, ret.text if ret else "void", [arg.type.text for arg in args])
        listed = ", ".join(f"{arg.type.text} {arg.text}" for arg in args)
        if ret is None:
            self.lines.append(f"  call void @{name}({listed})")
            return Value("void", I1)
        return self.emit(f"call {ret.text} @{name}({listed})", ret)

    def intrinsic(self, stem: str, type_: Type, args: Sequence[Operand]) -> Value:
        """`llvm.stem` overloaded on `type_`, whose arguments and result all have that type."""
        listed = ", ".join([f"{type_.text} {self.operand(arg, type_)}" for arg in args])
        return self.emit(f"{self.module.intrinsic(stem, type_, len(args))}({listed})", type_)

    # ---- arithmetic ----------------------------------------------------------------------------------------

    def _binary(self, float_name: str, integer_name: str, a: Operand, b: Operand) -> Value:
        type_ = _type_of(a, b)
        opcode = float_name if type_.is_float else integer_name
        return self.emit(f"{opcode} {type_.text} {self.operand(a, type_)}, {self.operand(b, type_)}", type_)

    def add(self, a: Operand, b: Operand) -> Value:
        """a + b; integers wrap."""
        return self._binary("fadd", "add", a, b)

    def divide_index(self, a: Value, b: int) -> tuple[Value, Value]:
        """Quotient and remainder of an i64 that is not negative by a positive constant."""
        return self.emit(f"udiv i64 {a.text}, {b}", a.type), self.emit(f"urem i64 {a.text}, {b}", a.type)

    def sub(self, a: Operand, b: Operand) -> Value:
        """a - b; integers wrap."""
        return self._binary("fsub", "sub", a, b)

    def mul(self, a: Operand, b: Operand) -> Value:
        """a * b; integers wrap."""
        return self._binary("fmul", "mul", a, b)

    def div(self, a: Operand, b: Operand) -> Value:
        """a / b; signed integers truncate towards zero (a zero divisor is undefined, as in C)."""
        return self._binary("fdiv", "sdiv", a, b)

    def rem(self, a: Operand, b: Operand) -> Value:
        """Remainder with the sign of a (C's %), for signed integers only: frem would call the C library."""
        if _type_of(a, b).is_float:
            raise ValueError("a floating-point remainder has no inline form; write it with trunc and fma")
        return self._binary("", "srem", a, b)

    def fma(self, a: Operand, b: Operand, c: Operand) -> Value:
        """a * b + c, rounded once where the target has FMA, twice (multiply, then add) where it has not."""
        type_ = _type_of(a, b, c)
        if not self.module.has_fma:
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
        if self.module.has_rounding:
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
        if self.module.has_rounding:
            return self.intrinsic(stem, a.type, (a,))
        nearest = self.rint(a)
        corrected = self.copysign(self.add(nearest, correction), a)
        return self.select(self.fcmp(wrong, nearest, a), corrected, nearest)

    def trunc(self, a: Value, type_: Type | None = None) -> Value:
        """A float rounded towards zero; with `type_`, an integer cut to its low bits."""
        if type_ is not None:
            return self._cast("trunc", a, type_)
        if self.module.has_rounding:
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
        return self._cast("sitofp", a, type_)

    def uitofp(self, a: Value, type_: Type) -> Value:
        """Unsigned integer to float; an i1 gives 0.0 or 1.0."""
        return self._cast("uitofp", a, type_)

    def fptosi(self, a: Value, type_: Type) -> Value:
        """Float to signed integer towards zero, saturating; NaN gives 0.  Never poison."""
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

    # ---- memory --------------------------------------------------------------------------------------------

    def gep(self, pointer: Value, index: Operand, kind: str) -> Value:
        """The address of element `index`; a vector of i64 indices gives a vector of addresses."""
        index_type = index.type if isinstance(index, Value) else I64
        where = f"{index_type.text} {self.operand(index, index_type)}"
        text = f"getelementptr {Type(kind).text}, {pointer.type.text} {pointer.text}, {where}"
        return self.emit(text, PTR.with_lanes(index_type.lanes or pointer.type.lanes))

    def load(self, pointer: Value, type_: Type, align: int | None = None) -> Value:
        """Load a scalar or a vector of consecutive elements; aligned to one element unless said."""
        return self.emit(f"load {type_.text}, ptr {pointer.text}, align {align or BYTES[type_.kind]}", type_)

    def store(self, value: Value, pointer: Value, align: int | None = None) -> None:
        """Store a scalar or a vector to consecutive elements; aligned to one element unless said."""
        type_ = value.type
        self.lines.append(
            f"  store {type_.text} {value.text}, ptr {pointer.text}, align {align or BYTES[type_.kind]}"
        )

    def prefetch(self, pointer: Value) -> None:
        """Ask for the cache line at an address, which need not exist, in the second-level cache."""
        self.module.declare("llvm.prefetch.p0", "void", ["ptr", "i32", "i32", "i32"])
        self.lines.append(f"  call void @llvm.prefetch.p0(ptr {pointer.text}, i32 0, i32 2, i32 1)")

    def masked_load(self, pointer: Value, type_: Type, mask: Value, passthru: Operand = 0) -> Value:
        """Load the lanes whose mask is set, touching no other memory; the others come from passthru."""
        name = f"llvm.masked.load.{type_.suffix}.p0"
        self.module.declare(name, type_.text, ["ptr", "i32", mask.type.text, type_.text])
        align = f"i32 {BYTES[type_.kind]}"
        text = f"call {type_.text} @{name}(ptr {pointer.text}, {align}, {mask.type.text} {mask.text}, "
        return self.emit(text + f"{type_.text} {self.operand(passthru, type_)})", type_)

    def masked_store(self, value: Value, pointer: Value, mask: Value) -> None:
        """Store the lanes whose mask is set, touching no other memory."""
        type_ = value.type
        name = f"llvm.masked.store.{type_.suffix}.p0"
        self.module.declare(name, "void", [type_.text, "ptr", "i32", mask.type.text])
        where = f"ptr {pointer.text}, i32 {BYTES[type_.kind]}, {mask.type.text} {mask.text}"
        self.lines.append(f"  call void @{name}({type_.text} {value.text}, {where})")

    def gather(self, pointers: Value, type_: Type, mask: Value | None = None, passthru: Operand = 0) -> Value:
        """Load each lane from its own address; unset lanes of the mask come from passthru.

        With a scalar pointer and no mask it is a load.
        """
        if not type_.lanes and mask is None:
            return self.load(pointers, type_)
        mask = mask or self.const(type_.mask(), 1)
        name = f"llvm.masked.gather.{type_.suffix}.{pointers.type.suffix}"
        self.module.declare(name, type_.text, [pointers.type.text, "i32", mask.type.text, type_.text])
        align = f"i32 {BYTES[type_.kind]}"
        text = f"call {type_.text} @{name}({pointers.type.text} {pointers.text}, {align}, "
        text += f"{mask.type.text} {mask.text}, {type_.text} {self.operand(passthru, type_)})"
        return self.emit(text, type_)

    def _as_value(self, a: Operand, type_: Type) -> Value:
        return a if isinstance(a, Value) else self.const(type_, a)


def _type_of(*operands: Operand) -> Type:
    for operand in operands:
        if isinstance(operand, Value):
            return operand.type
    raise ValueError("at least one operand must be a Value, to give the type")

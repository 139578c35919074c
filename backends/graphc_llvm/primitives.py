"""The primitives of the IR builder: the text of an instruction, operands, calls, memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from graphc_llvm.emit_types import BYTES, I1, I64, PTR, Operand, Type, Value, constant_text

if TYPE_CHECKING:
    from graphc_llvm.emit import Module


class Primitives:
    """What `instructions` is written in; `lines` is the text so far."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self.lines: list[str] = []
        self.counter = 0

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
        word = f"call {self.module.convention(name)}"
        if ret is None:
            self.lines.append(f"  {word}void @{name}({listed})")
            return Value("void", I1)
        return self.emit(f"{word}{ret.text} @{name}({listed})", ret)

    def intrinsic(self, stem: str, type_: Type, args: Sequence[Operand]) -> Value:
        """`llvm.stem` overloaded on `type_`, whose arguments and result all have that type."""
        listed = ", ".join([f"{type_.text} {self.operand(arg, type_)}" for arg in args])
        return self.emit(f"{self.module.intrinsic(stem, type_, len(args))}({listed})", type_)

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

"""A program as text from which its code follows: two programs with one text have the same code.

`str(program)` is for people: it leaves out the types of literals, which operand of an op a read is, what a constant
holds. This text leaves out only what no code follows from: the program's name, and where in the user's files a stage
came from. Each object is a row `Class(fields)`, written once; `#n` means the object of row n. Rows are made from the
classes' fields, so that a field which is added later is not forgotten.
"""

from __future__ import annotations

import dataclasses
import hashlib
import struct
from collections.abc import Iterator, Mapping
from functools import cache
from types import NoneType
from typing import Any, Final

import numpy as np

from graphc.ir.node import Generic, Node, Opaque
from graphc.ir.scalar import postorder
from graphc.phased import PhasedProgram
from graphc.program import Program, Stage

_NOT_IN_THE_CODE: Final[Mapping[type, frozenset[str]]] = {
    Program: frozenset({"name"}),
    PhasedProgram: frozenset({"name", "sizes", "origin"}),
    Stage: frozenset({"where", "scope", "op"}),
    Opaque: frozenset({"step"}),  # a loop's is the program in its kernel
}
_PLAIN: Final = frozenset({int, bool, str, NoneType})  # whose repr says all


def program_text(program: Program | PhasedProgram) -> str:
    """The text; of a constant it holds the SHA-256 of its bytes."""
    return _Rows().text_of(program)


class _Rows:
    def __init__(self) -> None:
        self.rows: list[str] = []
        self.numbers: dict[Any, int] = {}  # the objects compare by identity, and the program keeps them alive

    def text_of(self, program: Program | PhasedProgram) -> str:
        for stage in _stages(program):
            if isinstance(stage.node, Generic):
                for scalar in postorder(stage.node.body):  # arguments first: a deep body needs no deep recursion
                    self._number(scalar)
        self._number(program)
        return "\n".join(self.rows)

    def _number(self, item: Any) -> int:
        known = self.numbers.get(item)
        if known is None:
            fields = ", ".join(self._text(self._field(item, name)) for name in _fields(item.__class__))
            known = self.numbers[item] = len(self.rows)
            self.rows.append(f"{type(item).__name__}({fields})")
        return known

    def _field(self, item: Any, name: str) -> Any:
        if name == "operands" and isinstance(item, Generic | Opaque):  # their own code is another kernel's
            operands: tuple[Node, ...] = item.operands
            return tuple((operand.dtype, operand.shape) for operand in operands)
        return getattr(item, name)

    def _text(self, value: Any) -> str:
        kind = type(value)
        if kind in _PLAIN or (kind is tuple and _PLAIN.issuperset(map(type, value))):
            return repr(value)
        if kind is tuple:
            return f"({', '.join(map(self._text, value))},)"
        if kind is float:
            return f"float {struct.pack('>d', value).hex()}"  # exact: -0.0, and which NaN it is
        if isinstance(value, np.ndarray):
            digest = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
            return f"array {value.dtype.str} {value.shape} {digest}"
        if isinstance(value, Mapping):
            return self._text(tuple(sorted(value.items())))
        if isinstance(value, np.generic):
            return self._text(value.item())
        return f"#{self._number(value)}"


def _stages(program: Program | PhasedProgram) -> Iterator[Stage]:
    if isinstance(program, Program):
        yield from program.all_stages()
        return
    for phase in program.all_phases():
        for _, part in phase.programs:
            yield from part.all_stages()


@cache
def _fields(kind: type) -> tuple[str, ...]:
    """The names of the fields that an object of this dataclass is made with, but for those that do not matter."""
    left_out = _NOT_IN_THE_CODE.get(kind, frozenset())
    return tuple(field.name for field in dataclasses.fields(kind) if field.init and field.name not in left_out)

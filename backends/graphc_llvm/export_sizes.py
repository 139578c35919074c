"""The sizes that a caller of an exported program passes with each call: their checks, and what they are for."""

from __future__ import annotations

from collections.abc import Sequence

from graphc.program import ALIGNMENT
from graphc_llvm.emit import I64, Builder, Type, Value
from graphc_llvm.export_interface import Field, Interface

NOWHERE = 2**63 - ALIGNMENT
"""An address that is none: not null, aligned, and behind all others. An array without rows may be anywhere."""


def size_params(interface: Interface) -> list[tuple[str, Type]]:
    """The parameters of functions that take the sizes."""
    return [(f"size{number}", I64) for number in range(len(interface.dimensions))]


class Sizes:
    """The sizes that a function got, by the place of their dimensions."""

    def __init__(self, b: Builder, interface: Interface, given: Sequence[Value]) -> None:
        self._b, self._interface, self._given = b, interface, given

    def are_wrong(self) -> Value:
        """Whether one is outside its limits."""
        b = self._b
        found: Value | None = None
        for size, dimension in zip(self._given, self._interface.dimensions, strict=True):
            outside = b.icmp("ugt", b.sub(size, dimension.least), dimension.most - dimension.least)
            found = outside if found is None else b.or_(found, outside)
        assert found is not None, "there are dimensions"
        return found

    def nbytes(self, field: Field) -> Value | int:
        """The bytes of a tensor."""
        one = field.buffer.nbytes
        return one if field.rows is None else self._b.mul(self._given[field.rows], one)

    def address(self, field: Field, address: Value) -> Value:
        """What is checked of a tensor's address: nothing of one without rows."""
        b = self._b
        if field.rows is None or self._interface.dimensions[field.rows].least:
            return address
        return b.select(b.icmp("eq", self._given[field.rows], 0), b.const(I64, NOWHERE), address)

    def workspace_bytes(self) -> Value | int:
        """What a call needs."""
        b = self._b
        fixed = self._interface.fixed_bytes
        if not self._given:
            return fixed
        total = b.const(I64, fixed)
        for place, nbytes in self._interface.growing:
            rows = b.add(b.mul(self._given[place], nbytes), ALIGNMENT - 1)
            rounded = b.and_(rows, -ALIGNMENT)
            total = b.add(rounded, total)
        return total

    def cells(self) -> dict[str, Value]:
        """Memory that holds the sizes, by the program's buffers."""
        b = self._b
        found: dict[str, Value] = {}
        for size, dimension in zip(self._given, self._interface.dimensions, strict=True):
            found[dimension.cell] = b.alloca("i64", 1, align=8)
            b.store(size, found[dimension.cell])
        return found

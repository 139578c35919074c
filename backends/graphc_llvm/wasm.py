"""A WebAssembly module from one object file, without a linker.

The object that LLVM writes for wasm32 is a module already: it lacks a memory, a stack and exports, and says in custom
sections where addresses of data stand in its code (WebAssembly tool conventions, "Linking.md"). Functions and types
have their final numbers because nothing is imported. What is left is to give the data its place, which is behind the
stack: then a stack that overflows traps, and no datum lies at address 0, which is C's null pointer.

    0          stack, growing down from STACK_BYTES
    STACK_BYTES   data
    __heap_base   the caller's: memory that it allocates, up to the end of `memory`, which it may grow
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

STACK_BYTES: Final = 64 * 1024
"""As much as wasm-ld reserves; a multiple of the data's alignment."""

PAGE_BYTES: Final = 64 * 1024
HEAP_ALIGNMENT: Final = 64
_MOST_BYTES: Final = 1 << 31

_MAGIC: Final = b"\0asm\x01\0\0\0"
# Sections (WebAssembly Core Specification 2.0, 5.5.2): their numbers, and the order in which a module has them.
_CUSTOM, _TYPE, _IMPORT, _FUNCTION, _TABLE, _MEMORY, _GLOBAL, _EXPORT = range(8)
_ELEMENT, _CODE, _DATA, _DATA_COUNT = 9, 10, 11, 12
_ORDER: Final = (_TYPE, _FUNCTION, _MEMORY, _GLOBAL, _EXPORT, _DATA_COUNT, _CODE, _DATA)
_OF_FUNCTION, _OF_TABLE, _OF_MEMORY, _OF_GLOBAL = range(4)  # kinds of imports and exports
_I32, _I32_CONST, _END = 0x7F, 0x41, 0x0B
_LIMITS_HAVE_MAXIMUM: Final = 1

# Linking.md: the subsection with the symbols, their kinds and flags, and the relocations.
_SYMBOL_TABLE: Final = 8
_IS_FUNCTION, _IS_DATA, _IS_SECTION = 0, 1, 3
_UNDEFINED, _EXPLICIT_NAME = 0x10, 0x40
_FUNCTION_INDEX, _TYPE_INDEX, _GLOBAL_INDEX = 0, 6, 7  # final as they are
_ADDRESS_LEB, _ADDRESS_SLEB = 3, 4
_PADDED: Final = 5  # bytes of a number that a linker may change


def link(object_bytes: bytes, exports: Sequence[str]) -> bytes:
    """The module of an object, which exports these functions, `memory` and the global `__heap_base`.

    Raises ValueError for bytes that are no such object, and for one that needs functions of others, or a table.
    """
    if object_bytes[: len(_MAGIC)] != _MAGIC:
        raise ValueError("this is no WebAssembly object file")
    try:
        return _linked(object_bytes, exports)
    except (IndexError, KeyError, UnicodeDecodeError):
        raise ValueError("the WebAssembly object file is damaged") from None


def _linked(object_bytes: bytes, exports: Sequence[str]) -> bytes:
    sections, custom = _sections(object_bytes)
    has_stack = _check_imports(sections.pop(_IMPORT, b"\0"))
    if _ELEMENT in sections or _TABLE in sections:
        raise ValueError("the object takes addresses of functions, which needs a table")
    data, end = _move_data(sections.get(_DATA, b"\0"))
    if _DATA in sections:
        sections[_DATA] = data
    for name, content in custom:
        if name.startswith("reloc."):
            _relocate(sections, object_bytes, content)
    heap = -(-end // HEAP_ALIGNMENT) * HEAP_ALIGNMENT
    sections[_MEMORY] = b"\x01\x00" + _unsigned(-(-heap // PAGE_BYTES))
    variables = [_global(STACK_BYTES, is_mutable=True)] if has_stack else []
    variables.append(_global(heap, is_mutable=False))
    sections[_GLOBAL] = _vector(variables)
    functions = dict(_function_symbols(dict(custom).get("linking", b"")))
    missing = [name for name in exports if name not in functions]
    if missing:
        raise ValueError(f"the object defines no function {', '.join(missing)}")
    entries = [_export("memory", _OF_MEMORY, 0), _export("__heap_base", _OF_GLOBAL, len(variables) - 1)]
    entries += [_export(name, _OF_FUNCTION, functions[name]) for name in exports]
    sections[_EXPORT] = _vector(entries)
    return _MAGIC + b"".join(
        bytes([number]) + _unsigned(len(sections[number])) + bytes(sections[number])
        for number in _ORDER if number in sections
    )


@dataclass
class _Reader:
    """Reads a section from `at` on."""

    content: bytes
    at: int = 0

    def byte(self) -> int:
        self.at += 1
        return self.content[self.at - 1]

    def unsigned(self) -> int:
        """An unsigned LEB128 number."""
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def signed(self) -> int:
        """A signed LEB128 number."""
        start = self.at
        value = self.unsigned()
        bits = 7 * (self.at - start)
        return value - (1 << bits) if value >> (bits - 1) else value

    def bytes(self) -> bytes:
        """A length, and as many bytes."""
        length = self.unsigned()
        if self.at + length > len(self.content):
            raise IndexError
        self.at += length
        return self.content[self.at - length : self.at]

    def name(self) -> str:
        return self.bytes().decode()

    def skip_limits(self) -> None:
        has_maximum = self.unsigned() & _LIMITS_HAVE_MAXIMUM
        self.unsigned()
        if has_maximum:
            self.unsigned()


def _unsigned(value: int, width: int = 1) -> bytes:
    """LEB128, in at least `width` bytes."""
    made = bytearray()
    while value or len(made) < width:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    made[-1] &= 0x7F
    return bytes(made)


def _signed(value: int, width: int = 1) -> bytes:
    """Signed LEB128 of a number that is not negative: its last byte's sign bit stays clear."""
    return _unsigned(value, max(width, value.bit_length() // 7 + 1))


def _vector(entries: Sequence[bytes]) -> bytes:
    return _unsigned(len(entries)) + b"".join(entries)


def _global(value: int, is_mutable: bool) -> bytes:
    return bytes([_I32, is_mutable, _I32_CONST]) + _signed(value) + bytes([_END])


def _export(name: str, kind: int, index: int) -> bytes:
    return _unsigned(len(name.encode())) + name.encode() + bytes([kind]) + _unsigned(index)


def _sections(content: bytes) -> tuple[dict[int, bytes | bytearray], list[tuple[str, bytes]]]:
    """Sections by number, and the custom ones by name."""
    known: dict[int, bytes | bytearray] = {}
    custom: list[tuple[str, bytes]] = []
    reader = _Reader(content, len(_MAGIC))
    while reader.at < len(content):
        number = reader.byte()
        section = reader.bytes()
        if number != _CUSTOM:
            known[number] = section
            continue
        inner = _Reader(section)
        custom.append((inner.name(), section[inner.at :]))
    return known, custom


def _check_imports(section: bytes | bytearray) -> bool:
    """Whether the object uses the stack. What else it may import is a memory."""
    reader = _Reader(bytes(section))
    has_stack = False
    for _ in range(reader.unsigned()):
        reader.name()
        name, kind = reader.name(), reader.byte()
        if kind == _OF_MEMORY:
            reader.skip_limits()
        elif kind == _OF_GLOBAL and name == "__stack_pointer":
            reader.at += 2  # its type, and that it is mutable
            has_stack = True
        elif kind == _OF_TABLE:
            reader.byte()
            reader.skip_limits()
        else:
            raise ValueError(f"the object needs {name!r}, which nothing defines")
    return has_stack


def _move_data(section: bytes | bytearray) -> tuple[bytes, int]:
    """The segments behind the stack, and where they end."""
    reader = _Reader(bytes(section))
    segments: list[bytes] = []
    end = STACK_BYTES
    for _ in range(reader.unsigned()):
        if reader.byte() != 0 or reader.byte() != _I32_CONST:
            raise ValueError("the object has data without a constant address")
        start = STACK_BYTES + reader.signed()
        reader.byte()
        content = reader.bytes()
        end = max(end, start + len(content))
        _check_address(start, end)
        place = bytes([0, _I32_CONST]) + _signed(start, _PADDED) + bytes([_END])
        segments.append(place + _unsigned(len(content)) + content)
    return _vector(segments), end


def _check_address(start: int, end: int) -> None:
    if start < STACK_BYTES or end > _MOST_BYTES:
        raise ValueError("the object has data outside the memory")


def _relocate(sections: dict[int, bytes | bytearray], object_bytes: bytes, entries: bytes) -> None:
    """Add what the data was moved by to the addresses in one section: they count from 0 in the object."""
    reader = _Reader(entries)
    target = reader.unsigned()
    number = _numbers(object_bytes)[target]
    if number not in (_CODE, _DATA):
        return  # a custom section's
    changed = bytearray(sections[number])
    for _ in range(reader.unsigned()):
        kind, at = reader.byte(), reader.unsigned()
        reader.unsigned()  # the symbol
        if kind in (_FUNCTION_INDEX, _TYPE_INDEX, _GLOBAL_INDEX):
            continue
        if kind not in (_ADDRESS_LEB, _ADDRESS_SLEB):
            raise ValueError(f"the object has a relocation of kind {kind}, which needs a linker")
        reader.signed()  # the addend, which is in the number already
        field = _Reader(bytes(changed[at : at + _PADDED]))
        moved = STACK_BYTES + (field.signed() if kind == _ADDRESS_SLEB else field.unsigned())
        _check_address(moved, moved)
        changed[at : at + _PADDED] = _signed(moved, _PADDED)
    sections[number] = changed


def _numbers(object_bytes: bytes) -> list[int]:
    """The number of each section in order of the file, custom ones included: relocations count them so."""
    reader, found = _Reader(object_bytes, len(_MAGIC)), []
    while reader.at < len(object_bytes):
        found.append(reader.byte())
        reader.bytes()
    return found


def _function_symbols(linking: bytes) -> Iterator[tuple[str, int]]:
    """(name, index) of the functions that the object defines."""
    reader = _Reader(linking)
    reader.unsigned()  # the version
    while reader.at < len(linking):
        kind, content = reader.byte(), reader.bytes()
        if kind != _SYMBOL_TABLE:
            continue
        table = _Reader(content)
        for _ in range(table.unsigned()):
            symbol, flags = table.byte(), table.unsigned()
            if symbol == _IS_DATA:
                table.bytes()
                if not flags & _UNDEFINED:
                    for _ in range(3):  # segment, offset, size
                        table.unsigned()
                continue
            index = table.unsigned()
            if symbol == _IS_SECTION or (flags & _UNDEFINED and not flags & _EXPLICIT_NAME):
                continue
            name = table.name()
            if symbol == _IS_FUNCTION and not flags & _UNDEFINED:
                yield name, index

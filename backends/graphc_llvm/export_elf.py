"""ELF object files: how much of one is code and how much is data, and data that is put in after it was compiled.

Numbers stand where the System V ABI (chapter 4) has them for files of 32 and of 64 bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

_ALLOCATED, _EXECUTABLE = 2, 4  # sh_flags
_SYMBOLS: Final = 2  # sh_type of a table of symbols


@dataclass(frozen=True)
class _Layout:
    """Where the fields of one class of files are. `word`: bytes of an address."""

    word: int
    sections_at: int  # e_shoff
    count_at: int  # e_shnum
    header: int  # bytes of a section's header
    flags_at: int
    offset_at: int
    size_at: int
    link_at: int
    symbol: int  # bytes of a symbol
    value_at: int
    symbol_section_at: int


_LAYOUTS: Final = {
    1: _Layout(4, 0x20, 0x30, 40, 0x08, 0x10, 0x14, 0x18, 16, 4, 14),
    2: _Layout(8, 0x28, 0x3C, 64, 0x08, 0x18, 0x20, 0x28, 24, 8, 6),
}


class _Elf:
    """The sections of a file, each as the place of its header."""

    def __init__(self, content: bytes | bytearray, layout: _Layout) -> None:
        self.content, self.layout = content, layout
        start = self.number(layout.sections_at, layout.word)
        self.sections = range(start, start + layout.header * self.number(layout.count_at, 2), layout.header)

    def number(self, at: int, size: int) -> int:
        return int.from_bytes(self.content[at : at + size], "little")

    def word(self, at: int) -> int:
        return self.number(at, self.layout.word)

    def symbols(self) -> Iterator[tuple[str, int]]:
        """Names, and where in the file that is of which they are the names; of those that are defined in a section."""
        for name, section, value in self.entries():
            if 0 < section < len(self.sections):
                yield name, self.word(self.sections[section] + self.layout.offset_at) + value

    def entries(self) -> Iterator[tuple[str, int, int]]:
        """Name, section and value of every symbol; of section 0 are those that are defined elsewhere."""
        layout = self.layout
        for table in self.sections:
            if self.number(table + 4, 4) != _SYMBOLS:
                continue
            names = self.word(self.sections[self.number(table + layout.link_at, 4)] + layout.offset_at)
            start = self.word(table + layout.offset_at)
            for symbol in range(start, start + self.word(table + layout.size_at), layout.symbol):
                at = names + self.number(symbol, 4)
                name = bytes(self.content[at : self.content.index(0, at)]).decode()
                yield name, self.number(symbol + layout.symbol_section_at, 2), self.word(symbol + layout.value_at)


def _opened(content: bytes | bytearray) -> _Elf | None:
    layout = _LAYOUTS.get(content[4]) if content[:4] == b"\x7fELF" else None
    return None if layout is None or content[5] != 1 else _Elf(content, layout)


def code_and_data(content: bytes) -> tuple[int, int] | None:
    """Bytes of code and of read-only and other data that end up in memory; None: this is no little-endian ELF file."""
    elf = _opened(content)
    if elf is None:
        return None
    code = data = 0
    for section in elf.sections:
        flags, size = elf.word(section + elf.layout.flags_at), elf.word(section + elf.layout.size_at)
        if flags & _EXECUTABLE:
            code += size
        elif flags & _ALLOCATED:
            data += size
    return code, data


def undefined_symbols(content: bytes) -> list[str]:
    """What the file needs from others; nothing for one that is no little-endian ELF file."""
    elf = _opened(content)
    return [] if elf is None else [name for name, section, _ in elf.entries() if name and section == 0]


def with_data(content: bytes, data: Mapping[str, bytes]) -> bytes:
    """The object file with these bytes at these symbols, which have room for them. ValueError: it has no such symbol,
    or there is something else than room."""
    made = bytearray(content)
    elf = _opened(made)
    places = {} if elf is None else dict(elf.symbols())
    for symbol, value in data.items():
        place = places.get(symbol)
        if place is None or made.count(0, place, place + len(value)) != len(value):
            raise ValueError(f"the object file has no room for {symbol}")
        made[place : place + len(value)] = value
    return bytes(made)

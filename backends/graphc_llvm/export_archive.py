"""A static library without `ar`: an archive with the index of symbols that linkers look into first.

The index is the first member, named "/": the number of symbols, for each where its member begins, then their names,
each closed by a zero byte; the numbers have four bytes, the first one the highest (System V ABI, chapter 7).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from graphc_llvm.archive import MAGIC, pack

_HEADER: Final = 60  # bytes before a member
_LONGEST: Final = 13  # letters of a member's name before its ".o"


def static_library(prefix: str, object_bytes: bytes, symbols: Sequence[str]) -> bytes:
    """The archive of one object that defines these symbols."""
    names = b"".join(symbol.encode() + b"\0" for symbol in symbols)
    size = 4 + 4 * len(symbols) + len(names)
    member_at = len(MAGIC) + _HEADER + size + size % 2
    index = struct.pack(f">{1 + len(symbols)}I", len(symbols), *[member_at] * len(symbols)) + names
    return pack({"": index, f"{prefix[:_LONGEST]}.o": object_bytes})

"""Memory that native code works in: arenas, and the arrays of results."""

from __future__ import annotations

import sys
from math import prod
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from graphc.program import ALIGNMENT, ITEM_SIZES

KEPT_FROM: Final = 4096  # bytes: what is smaller comes from the allocator's own store
KEPT_BYTES: Final = 64 << 20  # of results that a function may hold back
KEPT_SIZES: Final = 64  # for any sizes of rows there are any sizes of results: from so many on all are forgotten
UNSHARED: Final = 2  # references to memory that only `raw` names: that, and getrefcount's own


def aligned_bytes(size: int) -> NDArray[np.uint8]:
    """`size` bytes whose address is a multiple of the alignment."""
    return _aligned_part(np.empty(size + ALIGNMENT, dtype=np.uint8), size)


def _aligned_part(raw: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    skip = -raw.ctypes.data % ALIGNMENT
    return raw[skip : skip + size]  # NumPy makes `raw` the base of this and of every view of it


class ResultMemory:
    """Memory for results: that of earlier results which nobody holds any more, as far as there is.

    The system hands out fresh memory page by page, at the first touch of each: that takes longer than many a kernel.
    At most KEPT_BYTES are kept. A page or more starts at a cache line, so that vectors stored to it do not straddle
    two. Threads may call it at the same time: each piece that one looks at is out of the others' reach.
    """

    def __init__(self) -> None:
        self._kept: dict[int, list[NDArray[np.uint8]]] = {}
        self._bytes = 0

    def empty(self, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """An array of unspecified content, which no other array shares memory with."""
        size = ITEM_SIZES[dtype] * prod(shape)
        if size < KEPT_FROM:
            return np.empty(shape, dtype=dtype)
        return self._memory(size).view(dtype).reshape(shape)

    def _memory(self, size: int) -> NDArray[np.uint8]:
        if len(self._kept) >= KEPT_SIZES and size not in self._kept:
            self._kept, self._bytes = {}, 0
        kept = self._kept.setdefault(size, [])
        for _ in range(len(kept)):
            try:
                raw = kept.pop(0)
            except IndexError:  # another thread looks at it
                break
            part = _aligned_part(raw, size) if sys.getrefcount(raw) == UNSHARED else None
            kept.append(raw)
            if part is not None:
                return part
        raw = np.empty(size + ALIGNMENT, dtype=np.uint8)
        part = _aligned_part(raw, size)
        if self._bytes + size <= KEPT_BYTES:
            self._bytes += size
            kept.append(raw)
        return part

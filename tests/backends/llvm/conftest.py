"""What several tests of the llvm backend share."""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest


@pytest.fixture
def fenced() -> Iterator[Any]:
    """Arrays whose memory starts, or ends, at a page that cannot be touched."""
    if not sys.platform.startswith("linux"):
        pytest.skip("protects pages with mprotect")
    libc = ctypes.CDLL(None, use_errno=True)
    maps: list[tuple[mmap.mmap, np.ndarray]] = []

    def make(values: np.ndarray, at_end: bool) -> np.ndarray:
        page = mmap.PAGESIZE
        inner = -(-max(values.nbytes, 1) // page) * page
        memory = mmap.mmap(-1, inner + 2 * page)
        raw = np.frombuffer(memory, dtype=np.uint8)
        maps.append((memory, raw))
        for start in (0, page + inner):
            assert libc.mprotect(ctypes.c_void_p(raw.ctypes.data + start), ctypes.c_size_t(page), 0) == 0
        start = page + inner - values.nbytes if at_end else page
        array = raw[start : start + values.nbytes].view(values.dtype).reshape(values.shape)
        array[...] = values
        return array

    yield make
    for _, raw in maps:  # the mappings live until their arrays do not; their pages are ordinary again
        assert libc.mprotect(ctypes.c_void_p(raw.ctypes.data), ctypes.c_size_t(raw.nbytes), 3) == 0

"""Where temporaries live: offsets in one arena, from the first kernel that writes a buffer to the last reader."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from graphc.program import ALIGNMENT, Buffer, Kernel


def lifetimes(
    buffers: Iterable[Buffer], kernels: Sequence[Kernel], kept: Sequence[str]
) -> dict[str, tuple[int, int]]:
    """The numbers of the first and the last kernel that touch each buffer that owns memory; `kept` are read after the
    last kernel, which counts as one more."""
    by_name = {buffer.name: buffer for buffer in buffers}
    lives: dict[str, tuple[int, int]] = {}

    def touch(name: str, when: int) -> None:
        buffer = by_name[name]
        while buffer.alias is not None:
            buffer = by_name[buffer.alias]
        first, last = lives.get(buffer.name, (when, when))
        lives[buffer.name] = (min(first, when), max(last, when))

    for when, kernel in enumerate(kernels):
        for stage in kernel.stages:
            for name in (*stage.reads, stage.write):
                touch(name, when)
    for name in kept:
        touch(name, len(kernels))
    return lives


def footprint(buffer: Buffer) -> int:
    """What a buffer takes of an arena: at least a byte, and whole units of ALIGNMENT."""
    return -(-max(buffer.nbytes, 1) // ALIGNMENT) * ALIGNMENT


def place(buffers: Sequence[Buffer], kernels: Sequence[Kernel], kept: Sequence[str]) -> tuple[tuple[Buffer, ...], int]:
    """The buffers with offsets for the temporaries, and the arena's size. `kept` are read after the last kernel.

    Largest first, each at the lowest offset where no buffer that lives at the same time is in the way.
    """
    lives = lifetimes(buffers, kernels, kept)
    order = [buffer for buffer in buffers if buffer.kind == "temporary" and buffer.alias is None]
    order.sort(key=lambda buffer: -buffer.nbytes)
    placed = np.empty((4, len(order)), dtype=np.int64)  # offset, end, first, last
    offsets: dict[str, int] = {}
    for number, buffer in enumerate(order):
        first, last = lives.get(buffer.name, (0, 0))
        size = footprint(buffer)
        others = placed[:, :number]
        others = others[:, (others[3] >= first) & (others[2] <= last)]
        offset = _lowest_gap(others[0], others[1], size)
        placed[:, number] = offset, offset + size, first, last
        offsets[buffer.name] = offset
    total = int(placed[1].max()) if order else 0
    done = tuple(replace(buffer, offset=offsets.get(buffer.name)) for buffer in buffers)
    return done, total


def _lowest_gap(starts: NDArray[np.int64], ends: NDArray[np.int64], size: int) -> int:
    """The lowest place for so many bytes between, or behind, the ranges [start, end)."""
    if not len(starts):
        return 0
    order = np.argsort(starts, kind="stable")
    below = np.maximum.accumulate(ends[order])  # of a range and all that start before it
    free_from = np.concatenate(([0], below))
    fits = np.flatnonzero(free_from[:-1] + size <= starts[order])
    return int(free_from[fits[0]] if len(fits) else free_from[-1])

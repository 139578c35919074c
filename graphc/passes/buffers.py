"""Where temporaries live: offsets in one arena, from the first kernel that writes a buffer to the last reader."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

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
    placed: list[tuple[int, int, int, int]] = []  # offset, end, first, last
    offsets: dict[str, int] = {}
    total = 0
    for buffer in order:
        first, last = lives.get(buffer.name, (0, 0))
        size = footprint(buffer)
        offset = 0
        for start, end, other_first, other_last in sorted(placed):
            if other_last < first or last < other_first:
                continue
            if offset + size <= start:
                break
            offset = max(offset, end)
        placed.append((offset, offset + size, first, last))
        offsets[buffer.name] = offset
        total = max(total, offset + size)
    done = tuple(replace(buffer, offset=offsets.get(buffer.name)) for buffer in buffers)
    return done, total

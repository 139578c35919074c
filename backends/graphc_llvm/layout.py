"""How the code of a program is called: apart from `lower`, because a program from the disk cache is not lowered."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """What a call passes: the buffers behind the pointer table, in order, and the arena's size.

    `times_at`: where in the arena a timed program leaves its times (None: it is not timed), a `struct timespec` before
    the first kernel, after each, and after the updates.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    constants: tuple[str, ...]
    arena_bytes: int
    times_at: int | None = None

"""How the code of a program is called: apart from `lower`, because a program from the disk cache is not lowered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from graphc.program import ALIGNMENT


@dataclass(frozen=True)
class Layout:
    """What a call passes: the buffers behind the pointer table, in order, and the arena's size.

    `times_at`: where in the arena a timed program leaves its times (None: it is not timed), a `struct timespec` before
    the first kernel, after each, and after the updates. `growing`: of a phased program (dimension, bytes) of each part
    of the arena that has so many bytes a row, in whole cache lines, behind `arena_bytes`.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    constants: tuple[str, ...]
    arena_bytes: int
    times_at: int | None = None
    growing: tuple[tuple[str, int], ...] = ()

    def arena_for(self, sizes: Mapping[str, int]) -> int:
        """The arena's bytes for these sizes of dimensions."""
        return self.arena_bytes + sum(
            -(-sizes[dimension] * nbytes // ALIGNMENT) * ALIGNMENT for dimension, nbytes in self.growing
        )

"""The memory of a program over time: which temporaries are alive in each kernel, and where in the arena they lie."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path

from graphc.errors import ArgumentError
from graphc.lang.source import user_line
from graphc.passes.buffers import footprint, lifetimes
from graphc.program import Program

UPDATES = "updates"  # what follows the last kernel: the copies into params and states


@dataclass(frozen=True)
class Block:
    """A temporary: `size` bytes (in whole cache lines) at `offset` of the arena, from step `first` to step `last`."""

    name: str
    offset: int
    size: int
    first: int
    last: int


@dataclass(frozen=True)
class Memory:
    """The plan of a program's arena. `steps` are the kernels in order, and the updates where a temporary is alive in
    them.

    Printed it is a table; `save` draws it, and a notebook shows the drawing. The arrays that a kernel hands on within
    itself are not in it, nor is what a backend takes beyond the plan.
    """

    name: str
    steps: tuple[str, ...]
    blocks: tuple[Block, ...]
    arena_bytes: int

    @cached_property
    def live_bytes(self) -> tuple[int, ...]:
        """The bytes that are alive in each step."""
        change = [0] * (len(self.steps) + 1)
        for block in self.blocks:
            change[block.first] += block.size
            change[block.last + 1] -= block.size
        return tuple(accumulate(change[:-1]))

    @property
    def peak_bytes(self) -> int:
        """The most bytes that are alive in one step: no arena can be smaller."""
        return max(self.live_bytes, default=0)

    @property
    def peak_step(self) -> int | None:
        """The first step in which `peak_bytes` are alive; None when there are no temporaries."""
        return self.live_bytes.index(self.peak_bytes) if self.blocks else None

    def __str__(self) -> str:
        """A line for each step: what is alive, what begins to be (+) and what is not needed after it (-)."""
        head = f"{self.name}: arena {self.arena_bytes:,} bytes"
        if self.peak_step is not None:
            head += f", peak {self.peak_bytes:,} bytes in step {self.peak_step}, {self.steps[self.peak_step]}"
        number, width = len(str(len(self.steps))), max(map(len, ("step", *self.steps)))
        lines = [head, "", f"{'step':{number + 1 + width}}  {'live bytes':>14}"]
        for step, kernel in enumerate(self.steps):
            begun = ", ".join(f"{b.name} {b.size:,}" for b in self.blocks if b.first == step)
            ended = ", ".join(b.name for b in self.blocks if b.last == step)
            line = f"{step:{number}} {kernel:{width}}  {self.live_bytes[step]:14,}"
            line += f"  + {begun}" if begun else ""
            line += f"  - {ended}" if ended else ""
            lines.append(line + ("  <- peak" if step == self.peak_step else ""))
        return "\n".join(lines)

    def svg(self) -> str:
        """A drawing: time from left to right, the arena from bottom to top, a rectangle for each temporary."""
        from graphc.render.program.memory import svg_of_memory  # drawing is above the compiler, loaded when asked for

        return svg_of_memory(self)

    _repr_svg_ = svg

    def save(self, path: str | os.PathLike[str]) -> str:
        """Write the drawing to a file whose name ends in .svg; returns its path. Errors: `ArgumentError`, `OSError`."""
        target = Path(path)
        if target.suffix.lower() != ".svg":
            raise ArgumentError(f"memory: the drawing is SVG; {os.fspath(path)!r} does not end in .svg", user_line())
        target.write_text(self.svg(), encoding="utf-8", newline="\n")
        return str(target)


def memory_of(program: Program) -> Memory:
    """The memory of a program's temporaries."""
    kept = [*program.outputs, *(source for source, _ in program.updates)]
    lives = lifetimes(program.buffers, program.kernels, kept)
    blocks = [
        Block(buffer.name, buffer.offset, footprint(buffer), *lives.get(buffer.name, (0, 0)))
        for buffer in program.buffers
        if buffer.offset is not None
    ]
    blocks.sort(key=lambda block: (block.first, block.offset))
    steps = [kernel.name for kernel in program.kernels]
    if any(block.last == len(steps) for block in blocks):
        steps.append(UPDATES)
    return Memory(program.name, tuple(steps), tuple(blocks), program.arena_bytes)


def bytes_of(program: Program, kind: str) -> int:
    """The bytes of all arrays of one kind of buffers."""
    return sum(buffer.nbytes for buffer in program.buffers if buffer.kind == kind and buffer.alias is None)

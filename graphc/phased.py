"""PhasedProgram: a program over dimensions whose sizes only a call tells, in blocks of rows.

    PhasedProgram  ::= buffers, phases, the whole for some sizes, inputs, outputs, targets
    Phase          ::= a dimension, one Program for each length of a block of its rows, the longest first
                     | one Program that knows no rows

The rows of a dimension N are the slices of the arrays whose first extent is a multiple of N. A phase goes over them in
blocks: as many of the longest as fit, then of the next, down to blocks of one row. Each block is a program like any
other, on the slices of that block, so that nothing in its code depends on N. What sums over N adds up in `sums`, block
by block, from the reducer's identity; the phases after it read the total. Phases run in order, and only the last one
updates params and states, so that a call that fails leaves them as they were.

Where there are sums, a call whose rows are one block is a program of its own, of all phases at once (`whole`): what is
summed is then used where it is made, which for few rows takes half as long as to add it up in memory first.

Two inputs of a phase's program may be numbers that no caller gives (int64, of shape ()): the size of a dimension, and
the first row of the block.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from graphc.program import Buffer, Program, Stage

FIRST_ROW = ""
"""Stands among what a phase reads for the number of the block's first row."""


@dataclass(frozen=True, eq=False)
class Phase:
    """One pass over the rows of a dimension, or (dimension None) one program, the block of length 0.

    reads: for each input of the programs the buffer of the whole, or `FIRST_ROW`. writes: for each output the buffer.
    sums: the buffers that each block adds to, which are the targets of the programs' updates, with their reducers.
    constants: for each program the buffers of its constants, in its order. again: for each program how many rows must
    be left over to take the last ones in one more block as long, which computes some of them again; 0: never.
    """

    dimension: str | None
    programs: tuple[tuple[int, Program], ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    sums: tuple[tuple[str, str], ...]
    constants: tuple[tuple[str, ...], ...]
    again: tuple[int, ...]

    def blocks(self, size: int) -> Iterator[tuple[Program, int, int]]:
        """(program, first row, rows) of each block that `size` rows are made of, in order."""
        first = 0
        for (length, program), again in zip(self.programs, self.again, strict=True):
            while not length or first + length <= size:
                yield program, first, length
                if not length:
                    return
                first += length
            if again and length <= size and size - first >= again:
                yield program, size - length, length
                return

    def __str__(self) -> str:
        lines = [f"sum {name} ({reducer})" for name, reducer in self.sums]
        for length, program in self.programs:
            lines.append(f"{length} rows of {self.dimension} at a time:" if self.dimension else "once:")
            given = ", ".join(name or "first row" for name in self.reads)
            lines.append(f"  {', '.join((*self.writes, *(name for name, _ in self.sums)))} <- ({given})")
            lines.append("  " + str(program).replace("\n", "\n  "))
        return "\n".join(lines)


@dataclass(frozen=True, eq=False)
class PhasedProgram:
    """What a backend compiles for dimensions that stay open.

    buffers: those of inputs, params, states, outputs, temporaries and constants, for the sizes in `sizes`. rows: of
    each that has rows, its dimension; its first extent is a multiple of that. dimensions: (name, buffer, least size) of
    each dimension; its buffer is a constant, its size, whose value no code knows. inputs, outputs: as in `Program`.
    targets: the params and states that are updated. whole: the programs for some sizes of the one dimension. origin:
    the program from which `at` made this one.
    """

    name: str
    buffers: tuple[Buffer, ...]
    phases: tuple[Phase, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    targets: tuple[str, ...]
    whole: Phase | None
    rows: Mapping[str, str]
    dimensions: tuple[tuple[str, str, int], ...]
    sizes: Mapping[str, int]
    origin: PhasedProgram | None = None
    by_name: dict[str, Buffer] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_name", {buffer.name: buffer for buffer in self.buffers})

    @property
    def open(self) -> PhasedProgram:
        """The program for any sizes, with buffers for one row each."""
        return self.origin or self

    def at(self, sizes: Mapping[str, int]) -> PhasedProgram:
        """The same with the buffers for these sizes."""
        buffers = []
        numbers = {name: np.array(sizes[dimension], np.int64) for dimension, name, _ in self.dimensions}
        for buffer in self.open.buffers:
            if buffer.name in self.rows:
                first, *others = buffer.shape
                buffer = replace(buffer, shape=(first * sizes[self.rows[buffer.name]], *others))
            elif buffer.name in numbers:
                buffer = replace(buffer, value=numbers[buffer.name])
            buffers.append(buffer)
        return replace(self, buffers=tuple(buffers), sizes=dict(sizes), origin=self.open)

    @property
    def updates(self) -> tuple[tuple[str, str], ...]:
        """As in `Program`: each target with where its new value comes from, which is itself."""
        return tuple((target, target) for target in self.targets)

    @property
    def digest(self) -> str:
        """A hash of the text, the constants' values included: equal programs have equal digests."""
        hasher = hashlib.sha256(str(self).encode())
        for phase in self.all_phases():
            for _, program in phase.programs:
                hasher.update(program.digest.encode())
        return hasher.hexdigest()

    def calls(self) -> Iterator[tuple[Phase, Program, int, int]]:
        """(phase, program, first row, rows) of each program that is called for `sizes`, in order."""
        if self.whole is not None:
            size = self.sizes[str(self.whole.dimension)]
            for length, program in self.whole.programs:
                if length == size:
                    yield self.whole, program, 0, size
                    return
        for phase in self.phases:
            for program, first, rows in phase.blocks(self.sizes[phase.dimension] if phase.dimension else 0):
                yield phase, program, first, rows

    def all_phases(self) -> tuple[Phase, ...]:
        """The phases, and the whole."""
        return self.phases if self.whole is None else (*self.phases, self.whole)

    def root(self, name: str) -> Buffer:
        """The buffer that owns the memory of `name`: itself, here."""
        return self.by_name[name]

    def all_stages(self) -> Iterator[Stage]:
        """All stages of one program of each phase, the longest block's."""
        for phase in self.phases:
            yield from phase.programs[0][1].all_stages()

    def __str__(self) -> str:
        lines = [f"program {self.name}({', '.join(self.inputs)}) for any {', '.join(self.sizes)}"]
        for buffer in self.open.buffers:
            shape = ", ".join(map(str, buffer.shape))
            if buffer.name in self.rows:
                shape = f"{shape} for each {self.rows[buffer.name]}"
            lines.append(f"  {buffer.kind} {buffer.name}: {buffer.dtype}({shape})")
        lines.extend("  " + str(phase).replace("\n", "\n  ") for phase in self.phases)
        if self.whole is not None:
            lines.append("  or, where there is one block, all at once:")
            lines.append("  " + str(self.whole).replace("\n", "\n  "))
        lines.append(f"  return {', '.join(self.outputs)}")
        return "\n".join(lines)

"""Phased programs on any backend: each block's program is compiled by itself, and called from here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphc.backend import Backend, Executable, Options, PhasedBackend
from graphc.ir.dtypes import identity_of
from graphc.phased import FIRST_ROW, Phase, PhasedProgram
from graphc.program import Program

Array = NDArray[Any]


def compile_phased(backend: Backend, program: PhasedProgram, options: Options) -> Callable[[PhasedProgram], Executable]:
    """What gives the executable for known sizes (`PhasedProgram.at`); only this call compiles."""
    if isinstance(backend, PhasedBackend):
        return backend.compile_phased(program, options)
    compiled = {
        part: backend.compile(part, options) for phase in program.all_phases() for _, part in phase.programs
    }
    return lambda sized: _Blocks(sized, compiled)


def executable_of(backend: Backend, program: Program | PhasedProgram, options: Options) -> Executable:
    """The program, compiled by a backend."""
    if isinstance(program, PhasedProgram):
        return compile_phased(backend, program.open, options)(program)
    return backend.compile(program, options)


class _Blocks:
    """See `graphc.backend.Executable`."""

    def __init__(self, program: PhasedProgram, compiled: dict[Program, Executable]) -> None:
        self.program, self._compiled = program, compiled

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        program = self.program
        memory = dict(zip(program.inputs, arrays, strict=True))
        for buffer in program.buffers:
            if buffer.value is not None:
                memory[buffer.name] = buffer.value
            elif buffer.name not in memory:
                memory[buffer.name] = np.empty(buffer.shape, buffer.dtype)
        for phase in program.phases:  # also one without blocks, for no rows
            for name, reducer in phase.sums:
                memory[name][...] = identity_of(reducer, memory[name].dtype.name)
        for phase, part, first, rows in program.calls():
            self._run(phase, part, memory, first, rows)
        return [memory[name] for name in program.outputs]

    def _run(self, phase: Phase, part: Program, memory: dict[str, Array], first: int, rows: int) -> None:
        def slice_of(name: str, like: str) -> Array:
            if name == FIRST_ROW:
                return np.array(first, np.int64)
            if name not in self.program.rows or self.program.rows[name] != phase.dimension:
                return memory[name]
            count = part.by_name[like].shape[0] // rows
            return memory[name][first * count : (first + rows) * count]

        given = [slice_of(name, like) for name, like in zip(phase.reads, part.inputs, strict=True)]
        results = self._compiled[part].run(given)
        for name, like, result in zip(phase.writes, part.outputs, results, strict=True):
            slice_of(name, like)[...] = result

    def source(self, kind: str) -> str:
        """The texts of all blocks' programs, one after another."""
        return "\n".join(executable.source(kind) for executable in self._compiled.values())

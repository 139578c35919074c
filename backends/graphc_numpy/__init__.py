"""The numpy backend: a Program as one readable Python function that needs NumPy alone.

    code        expressions aligned with loop axes, and lines
    task        a Generic prepared: cropped to the points that are visited, scatter form of a skipping sum
    access      reads as views; padding; index arrays where there is no view
    scalars     bodies as ufunc lines
    contract    sums of products as matmul, tensordot, einsum
    values      maps, reductions, windows
    scatter     slices added to slices
    opaque      take, scatter_add, cumsum, checked
    scan        loops, whose steps are functions of their own
    store       where a value goes
    layout      products computed transposed where all readers want them so
    reuse       results in the memory of dead arrays, updates in place
    emit        the module's text; names, literals, helpers: its identifiers, numbers and printed functions
"""

from __future__ import annotations

import linecache
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphc.backend import Options
from graphc.errors import BackendError
from graphc.program import Program
from graphc_numpy.emit import emit

Array = NDArray[Any]


class NumpyExecutable:
    """A program as a Python function; `text` is its module."""

    def __init__(self, program: Program, timed: bool = False) -> None:
        name, self.text = emit(program, timed)
        file = f"<graphc {name} {program.digest[:12]}{' timed' if timed else ''}>"
        namespace: dict[str, Any] = {}
        exec(compile(self.text, file, "exec"), namespace)
        # Tracebacks show the generated lines.
        linecache.cache[file] = (len(self.text), None, self.text.splitlines(keepends=True), file)
        self.function: Callable[..., Any] = namespace[name]
        self._is_single = len(program.outputs) == 1

    def run(self, arrays: Sequence[Array]) -> tuple[Array, ...]:
        """Compute the outputs, new arrays; params and states are updated in place after everything that can fail."""
        result = self.function(*arrays)
        if self._is_single:
            return (np.asarray(result),)
        return tuple(np.asarray(value) for value in result)

    def source(self, kind: str) -> str:
        """The generated module, for the kind "numpy"."""
        if kind != "numpy":
            raise BackendError(f"the numpy backend has no source {kind!r}; it has: numpy")
        return self.text


class TimedProgram:
    """See `graphc.backend.TimedExecutable`. The lines of a kernel are timed together, wherever they stand."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self._executable = NumpyExecutable(program, timed=True)

    def run(self, arrays: Sequence[Array]) -> list[float]:
        """Run once, for the times alone."""
        seconds = [0.0] * (len(self.program.kernels) + 1)
        last = time.perf_counter()

        def clock(kernel: int) -> None:
            nonlocal last
            seconds[kernel] += time.perf_counter() - last
            last = time.perf_counter()

        self._executable.function(clock, *arrays)
        return seconds

    def machine(self, dtypes: Sequence[str]) -> None:
        """NumPy does not tell which instructions and how many threads it uses."""


class NumpyBackend:
    """Compiles programs to NumPy code. It has no options: NumPy's own threads and kernels do the work."""

    name = "numpy"

    def compile(self, program: Program, options: Options) -> NumpyExecutable:
        """Write the program's Python function and load it."""
        return NumpyExecutable(program)

    def timed(self, program: Program, options: Options) -> TimedProgram:
        """The same function with clocks between its lines."""
        return TimedProgram(program)


backend = NumpyBackend()

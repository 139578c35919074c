"""A program with clocks between its kernels: see `graphc.backend.TimedExecutable`."""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphc.backend import Machine, Options
from graphc.errors import BackendError
from graphc.program import Program
from graphc_llvm.executable import runnable_target
from graphc_llvm.jit import compile_object, load
from graphc_llvm.lower import TIME_BYTES, lower, split_epilogues
from graphc_llvm.memory import aligned_bytes
from graphc_llvm.pool import default_threads, pool_library
from graphc_llvm.roofline import machine

_ENTRY = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)


class TimedProgram:
    """The code that a call runs, but for a reading of the system's monotonic clock after each kernel (some 20 ns). It
    is compiled anew, and not kept in the disk cache. One thread at a time may run it."""

    def __init__(self, program: Program, options: Options) -> None:
        if not hasattr(time, "CLOCK_MONOTONIC") or sys.platform == "win32" or sys.maxsize < 1 << 32:
            raise BackendError("kernels are timed by clock_gettime, which this system lacks, or has in 32 bits alone")
        self._target = runnable_target(options.cpu)
        self._threads = options.threads or default_threads()
        module, layout = lower(program, self._target, threads=self._threads, winograd=options.winograd, timed=True)
        assert layout.times_at is not None
        self.program, kernels = split_epilogues(program)
        pool = [pool_library(self._target)] if self._threads > 1 else []
        self._library = load(compile_object(module.text(), self._target), libraries=pool)
        self._entry = _ENTRY(self._library.address("entry"))
        self._arena = aligned_bytes(layout.arena_bytes)
        end = layout.times_at + TIME_BYTES * (len(kernels) + 2)
        self._times = self._arena[layout.times_at : end].view(np.int64).reshape(-1, 2)
        outputs = [aligned_bytes(program.by_name[name].nbytes) for name in layout.outputs]
        constants = [np.ascontiguousarray(program.by_name[name].value) for name in layout.constants]
        self._own: list[NDArray[Any]] = [*outputs, *constants]

    def run(self, arrays: Sequence[NDArray[Any]]) -> list[float]:
        """Run once; the results stay here, and are written again by the next run."""
        addresses = [array.ctypes.data for array in (*arrays, *self._own)]
        table = (ctypes.c_void_p * len(addresses))(*addresses)
        if self._entry(ctypes.addressof(table), self._arena.ctypes.data):
            raise IndexError("an index is outside its axis")
        nanoseconds = np.diff(self._times[:, 0] * 10**9 + self._times[:, 1])
        return [float(one) for one in nanoseconds * 1e-9]

    def machine(self, dtypes: Sequence[str]) -> Machine:
        """The roofs for the instructions and threads of this program, measured when they are first asked for."""
        return machine(self._target, self._threads, dtypes)

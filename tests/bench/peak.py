"""The measured peak: the llvm backend's loop of multiply-adds (`graphc_llvm.roofline`), on threads of our own.

Unlike there, each thread is bound to a processor, all start together, and what they reached is added: the figure is for
comparison with others, too, who do not run on the backend's threads.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from graphc_llvm import jit
from graphc_llvm.emit import I64, PTR, Module, Type
from graphc_llvm.roofline import FACTOR, TERM, accumulators, emit_multiply_adds
from graphc_llvm.target import Target, host_target
from tests.bench.environment import Load, available

SECONDS: Final = 0.005
_C_TYPES: Final = {"f32": ctypes.c_float, "f64": ctypes.c_double}


def loop_text(target: Target, kind: str) -> str:
    """The IR of `void fma_loop(i64 count, T factor, T term, T *sums)`; sums gets one vector."""
    module = Module(target)
    scalar = Type(kind)
    b = module.function("fma_loop", [("count", I64), ("factor", scalar), ("term", scalar), ("sums", PTR)])
    count, factor, term, sums = b.params
    b.store(emit_multiply_adds(b, target, count, factor, term), sums)
    b.ret()
    return module.text()


class Peak:
    """The loop for one kind of number (`f32`, `f64`), ready to run on any number of threads at once."""

    def __init__(self, kind: str = "f32") -> None:
        target = host_target()
        self.kind, self.accumulators, self.lanes = kind, accumulators(target), target.lanes(kind)
        number = _C_TYPES[kind]
        self._library = jit.load(jit.compile_object(loop_text(target, kind), target), process_symbols=False)
        entry = ctypes.CFUNCTYPE(None, ctypes.c_int64, number, number, ctypes.c_void_p)  # releases the GIL
        self._latest: dict[int, float] = {}
        self._best: dict[int, float] = {}
        self._entry = entry(self._library.address("fma_loop"))
        self._count = 1000
        while (seconds := self._seconds(self._count)) < SECONDS / 2:
            self._count = max(2 * self._count, int(self._count * min(SECONDS / max(seconds, 1e-9), 100)))

    def run(self, count: int) -> NDArray[np.floating]:
        """The lanes of the accumulators' sum after so many rounds."""
        sums = np.empty(self.lanes, dtype="float32" if self.kind == "f32" else "float64")
        self._entry(count, FACTOR, TERM, sums.ctypes.data)
        return sums

    def gflops(self, threads: int = 1) -> float:
        """One sample: the rates of all threads, which run at the same time, each on a processor of its own, added."""
        barrier, times = threading.Barrier(threads), [0.0] * threads

        def work(number: int) -> None:
            if hasattr(os, "sched_setaffinity"):
                os.sched_setaffinity(0, {processors[number % len(processors)]})  # of this thread alone
            barrier.wait()
            self.run(self._count)  # until worker threads of whoever was sampled before spin no more
            barrier.wait()
            times[number] = self._seconds(self._count)

        processors = available()
        workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        rate = sum(2 * self._count * self.accumulators * self.lanes / seconds / 1e9 for seconds in times)
        self._latest[threads] = rate
        self._best[threads] = max(rate, self._best.get(threads, 0.0))
        return rate

    def watch(self, threads: int) -> Callable[[], float]:
        """Watch others from now on; what is returned tells how many processors they took, for a round that ends with a
        sample of so many threads. Other virtual machines are seen only by what that sample lacks to the best one.
        """
        load = Load()
        return lambda: max(load.others(), threads * (1 - self._latest[threads] / self._best[threads]))

    def _seconds(self, count: int) -> float:
        start = time.perf_counter()
        self.run(count)
        return time.perf_counter() - start

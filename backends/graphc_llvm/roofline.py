"""What this machine can do at most: multiply-adds in registers, and a stream through memory.

    acc[i] = acc[i] * factor + term,  i < accumulators,  over and over          operations a second
    y[j] = y[j] * factor + x[j],      j < elements                              bytes a second

The accumulators do not depend on each other; there are more of them than multiply-adds in flight (a latency of 4
cycles times 2 units is 8), so the units never wait. The stream reads two arrays and writes one of them: no cache line
is written that was not read before, so it moves 12 bytes an element on every processor, whereas many fetch any other
line that is written from memory first, which a count of bytes does not see. Both are the roofs of S. Williams,
A. Waterman and D. Patterson, "Roofline: An Insightful Visual Performance Model for Multicore Architectures",
Communications of the ACM 52(4), 2009.

Both run as compiled programs do, on the threads of `graphc_llvm.pool`, in tasks that the threads share; the best of
several samples counts, because others who use the machine can only make them slower. Every value is known beforehand
(from start i the n-th is 2 + (i - 2) / 2^n for factor 1/2 and term 1), so a test can tell that the loops ran.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from graphc.backend import Machine
from graphc_llvm.emit import F32, I64, PTR, Builder, Module, Type, Value
from graphc_llvm.jit import compile_object, load
from graphc_llvm.memory import aligned_bytes
from graphc_llvm.parallel import parallel_for
from graphc_llvm.pool import pool_library
from graphc_llvm.target import Target

FACTOR: Final = 0.5
TERM: Final = 1.0

SECONDS: Final = 0.003
"""Of a sample: some hundred times what waking the threads takes."""

SAMPLING: Final = 0.05
"""Seconds in which samples are taken."""

TASKS_PER_THREAD: Final = 4
"""More than one, so that a thread which loses its processor for a while holds up less than all."""

DEFAULT_CACHE: Final = 32 << 20
"""Bytes of the last level of cache where the system does not tell: that of common desktop processors."""

CACHES: Final = 4
"""Each array of the stream is so many times as large as the last level of cache, by the rule of J. McCalpin's STREAM.
With 32 MiB of it, arrays of that size itself gave nearly twice the figure, because much of them was found there."""

MOST_BYTES: Final = 256 << 20
"""Of the two arrays together, which are all but new memory: more would take too long, or not be there."""

_NUMBERS: Final = {"float32": "f32", "float64": "f64"}
_LINE: Final = 64  # bytes: each task's numbers have a cache line
_UNROLLED: Final = 4  # vectors in one turn of the stream's loop


def machine(target: Target, threads: int, dtypes: Sequence[str]) -> Machine:
    """The roofs for code of this target on so many threads; each is measured once in a process, which takes some 70 ms
    for each float type and 250 ms for the memory."""
    rates = {dtype: multiply_adds_per_second(target, dtype, threads) for dtype in dtypes}
    bandwidth, size = bytes_per_second(target, threads)
    stream = f"y = y*a + x over {size >> 20} MiB"
    how = f"multiply-adds in registers; {stream}" if rates else stream
    return Machine(threads, rates, bandwidth, last_level_bytes(), how)


# ---- operations ----------------------------------------------------------------------------------------------------


def accumulators(target: Target) -> int:
    """24 where there are 32 vector registers, 12 where there are 16: two more hold the factor and the term."""
    return 24 if target.vector_registers >= 32 else 12


def emit_multiply_adds(b: Builder, target: Target, count: Value, factor: Value, term: Value) -> Value:
    """The loop, `count` times; the sum of the accumulators, which start at 0, 1, 2, ..., as one vector."""
    lanes = target.lanes(factor.type.kind)
    factors, terms = b.splat(factor, lanes), b.splat(term, lanes)
    starts = [b.const(factors.type, number) for number in range(accumulators(target))]
    with b.loop(0, count, carried=starts) as loop:
        loop.yield_([b.fma(value, factors, terms) for value in loop.carried])
    total, *others = loop.results
    for value in others:
        total = b.add(total, value)
    return total


class MultiplyAdds:
    """The loop for one float type, on so many threads."""

    def __init__(self, target: Target, dtype: str, threads: int) -> None:
        self.tasks = TASKS_PER_THREAD * threads
        kind = _NUMBERS[dtype]
        self.operations = 2 * accumulators(target) * target.lanes(kind) * self.tasks  # of all tasks, for a count of 1
        self._memory = aligned_bytes(_LINE * (1 + self.tasks))
        self.numbers: NDArray[Any] = self._memory.view(dtype).reshape(1 + self.tasks, -1)
        """A row with the factor and the term, then one for each task, with the accumulators' sum behind a call."""
        self.numbers[0, :2] = FACTOR, TERM
        module = Module(target, threads)
        b = module.function("multiply_adds", [("count", I64), ("numbers", PTR)])

        def task(b: Builder, number: Value, slot: Value, live: list[Value]) -> None:
            count, numbers = live
            scalar = Type(kind)
            factor, term = b.load(numbers, scalar), b.load(b.gep(numbers, 1, kind), scalar)
            total = emit_multiply_adds(b, target, count, factor, term)
            b.store(total, b.gep(numbers, b.mul(b.add(number, 1), _LINE), "i8"))

        parallel_for(b, "multiply_adds_task", self.tasks, b.params, task)
        b.ret()
        self._library = _loaded(module, target)
        self._entry = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_void_p)(self._library.address("multiply_adds"))

    def run(self, count: int) -> None:
        """So many turns of the loop in each task."""
        self._entry(count, self.numbers.ctypes.data)


@cache
def multiply_adds_per_second(target: Target, dtype: str, threads: int) -> float:
    """The best of several samples, in operations: two for each multiply-add."""
    loop = MultiplyAdds(target, dtype, threads)
    count = 1000
    while (seconds := _seconds(loop.run, count)) < SECONDS / 2:
        count = max(2 * count, int(count * min(SECONDS / max(seconds, 1e-9), 100)))
    return loop.operations * count / _least_seconds(loop.run, count)


# ---- memory --------------------------------------------------------------------------------------------------------


class Stream:
    """y = y * 0.5 + x over float32 arrays of at least so many bytes in all, on so many threads."""

    def __init__(self, target: Target, size: int, threads: int) -> None:
        tasks, turn = TASKS_PER_THREAD * threads, _UNROLLED * target.lanes("f32")
        self.chunk = -(-size // (2 * 4 * tasks * turn)) * turn  # elements of a task: whole turns
        self.elements = tasks * self.chunk
        self.x, self.y = (aligned_bytes(4 * self.elements).view(np.float32) for _ in range(2))
        self.x[:], self.y[:] = 1.0, 0.0  # by this thread, which makes a user's arrays as well
        module = Module(target, threads)
        b = module.function("stream", [("x", PTR), ("y", PTR)])

        def task(b: Builder, number: Value, slot: Value, live: list[Value]) -> None:
            lanes = target.lanes("f32")
            vector, factors = F32.with_lanes(lanes), b.const(F32.with_lanes(lanes), FACTOR)
            first = b.mul(number, self.chunk)
            with b.loop(first, b.add(first, self.chunk), turn, name="turn") as loop:
                for step in range(_UNROLLED):
                    x, y = (b.gep(pointer, b.add(loop.index, step * lanes), "f32") for pointer in live)
                    b.store(b.fma(b.load(y, vector), factors, b.load(x, vector)), y)

        parallel_for(b, "stream_task", tasks, b.params, task)
        b.ret()
        self._library = _loaded(module, target)
        self._entry = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(self._library.address("stream"))

    def run(self) -> None:
        """Once over the arrays."""
        self._entry(self.x.ctypes.data, self.y.ctypes.data)


@cache
def bytes_per_second(target: Target, threads: int) -> tuple[float, int]:
    """The best of several samples, and the size of the arrays together."""
    stream = Stream(target, min(2 * CACHES * last_level_bytes(), MOST_BYTES), threads)
    stream.run()
    moved = stream.x.nbytes + 2 * stream.y.nbytes
    return moved / _least_seconds(stream.run), stream.x.nbytes + stream.y.nbytes


def last_level_bytes(processors: Path = Path("/sys/devices/system/cpu")) -> int:
    """The caches of the highest level that the processors of this process have, together, from Linux's sysfs."""
    numbers = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ()
    found: dict[tuple[int, str], int] = {}
    for number in numbers:
        for folder in (processors / f"cpu{number}" / "cache").glob("index*"):
            try:
                level = int((folder / "level").read_text())
                shared = (folder / "shared_cpu_list").read_text().strip()
                text = (folder / "size").read_text().strip()
                found[level, shared] = int(text.rstrip("KM")) << {"K": 10, "M": 20}.get(text[-1:], 0)
            except (OSError, ValueError):
                continue
    highest = max((level for level, _ in found), default=0)
    return sum(size for (level, _), size in found.items() if level == highest) or DEFAULT_CACHE


# ---- both ----------------------------------------------------------------------------------------------------------


def _loaded(module: Module, target: Target) -> Any:
    pool = [pool_library(target)] if module.threads > 1 else []
    return load(compile_object(module.text(), target), libraries=pool)


def _least_seconds(call: Callable[..., object], *arguments: object) -> float:
    least, end = _seconds(call, *arguments), time.perf_counter() + SAMPLING
    while time.perf_counter() < end:
        least = min(least, _seconds(call, *arguments))
    return least


def _seconds(call: Callable[..., object], *arguments: object) -> float:
    start = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - start

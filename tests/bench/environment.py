"""The process that measures: graphc and its peers get the same threads on the same processors.

Libraries read how many threads they may use when they are loaded, so the process sets its environment, takes as many
processors as there are threads, and starts itself again. OpenMP (PyTorch), OpenBLAS (NumPy) and Numba obey their
variables; XLA (JAX) sizes its pool by PJRT_NPROC, which is also the number of processors that it sees, and with one
thread its Eigen loops are told not to look for more. Where processors cannot be chosen (macOS) the variables must do.
Other processes cannot be kept away; `Load` tells how much they ran.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from pathlib import Path
from typing import Final

_VARIABLES: Final = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
    "PJRT_NPROC",
    "GRAPHC_THREADS",
)
DISTURBING: Final = 0.3
"""Processors that others take, from which on a measurement is disturbed; the system tells it in steps of 10 ms."""
_STARTED: Final = "GRAPHC_BENCH_STARTED_WITH"


def available() -> list[int]:
    """The processors that this process may use, one of each core before the second of any."""
    if not hasattr(os, "sched_getaffinity"):
        return list(range(os.cpu_count() or 1))
    order: list[tuple[int, int]] = []
    seen: dict[str, int] = {}
    for processor in sorted(os.sched_getaffinity(0)):
        try:
            path = Path(f"/sys/devices/system/cpu/cpu{processor}/topology/thread_siblings_list")
            core = path.read_text(encoding="ascii").strip()
        except OSError:
            core = str(processor)
        seen[core] = seen.get(core, 0) + 1
        order.append((seen[core], processor))
    return [processor for _, processor in sorted(order)]


def start_again(threads: int) -> None:
    """Replace this process by one that is set up for so many threads; return where it is that one already."""
    if os.environ.get(_STARTED) == str(threads):
        return
    variables = dict(os.environ)
    variables.update({name: str(threads) for name in _VARIABLES})
    variables[_STARTED] = str(threads)
    variables["JAX_PLATFORMS"] = "cpu"
    # Idle workers spin for 5 ms (OpenMP) and 25 ms (OpenBLAS) by default, into the samples of others; half a
    # millisecond is longer than any pause between two calls of the same library, so this costs them nothing.
    variables["GOMP_SPINCOUNT"] = "30000"
    variables["OPENBLAS_THREAD_TIMEOUT"] = "20"  # 2^20 cycles
    if threads == 1:
        flags = variables.get("XLA_FLAGS", "")
        variables["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, available()[:threads])
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, "-m", "tests.bench", *sys.argv[1:]], variables)


def threads_given() -> int:
    """The threads that `start_again` was told, in this process or in the one that started it; else all there are."""
    return int(os.environ.get(_STARTED, 0)) or len(available())


class Load:
    """Watches, from its making on, how busy other processes keep the processors that this one may use."""

    def __init__(self) -> None:
        self._start = self._now()

    def others(self) -> float:
        """The processors that others kept busy since, on average; 0 where the system does not tell (not Linux)."""
        wall, busy, own = (now - then for now, then in zip(self._now(), self._start, strict=True))
        return max(busy - own, 0.0) / wall if busy and wall else 0.0

    def _now(self) -> tuple[float, float, float]:
        """Seconds: of the clock, of all processes (user, nice, system, irq, softirq, steal), of this process and of
        those that it started and that have ended."""
        return time.perf_counter(), _busy_seconds(), sum(os.times()[:4])


def disturbance(others: float) -> str:
    """A remark when others took so many processors that a line is not to be trusted."""
    return f"(others took {others:.1f} processors)" if others >= DISTURBING else ""


def _busy_seconds() -> float:
    names = {f"cpu{processor}" for processor in available()}
    try:
        lines = Path("/proc/stat").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    rows = [line.split() for line in lines if line.startswith("cpu")]
    ticks = sum(int(row[field]) for row in rows if row[0] in names for field in (1, 2, 3, 6, 7, 8))
    return ticks / os.sysconf("SC_CLK_TCK")


def processor_name() -> str:
    """The processor, as the system calls it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()

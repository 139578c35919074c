"""Samples taken in turns: A, B, A, B, ..., so that a slow moment of a shared machine falls on everyone."""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Final

Sampler = Callable[[], float]
"""Takes one sample: seconds, or another figure whose median means something."""

LEAST: Final = 0.005
"""Seconds of work in a sample, at least; a call that takes longer is a sample alone."""

def sampler(call: Callable[[], object], least: float = LEAST) -> Sampler:
    """Samples of the seconds that one call takes.

    As much work as is timed goes before it untimed: until then worker threads of whoever was sampled before may spin,
    and the system may not have spread the threads over the processors. A sleep would undo just that.
    """
    call()
    start = time.perf_counter()
    call()
    once = time.perf_counter() - start
    if once < least:  # the second call may still have been a slow one
        start = time.perf_counter()
        call()
        once = min(once, time.perf_counter() - start)
    repeat = max(1, math.ceil(least / max(once, 1e-7)))

    def sample() -> float:
        was_enabled = gc.isenabled()
        gc.disable()
        try:
            for _ in range(repeat):
                call()
            start = time.perf_counter()
            for _ in range(repeat):
                call()
            return (time.perf_counter() - start) / repeat
        finally:
            if was_enabled:
                gc.enable()

    return sample


def alternate(samplers: Mapping[str, Sampler], rounds: int) -> dict[str, float]:
    """The median of each sampler over so many rounds, in each of which everyone is sampled once."""
    taken: dict[str, list[float]] = {name: [] for name in samplers}
    for _ in range(rounds):
        for name, sample in samplers.items():
            taken[name].append(sample())
    return {name: statistics.median(samples) for name, samples in taken.items()}


def median(call: Callable[[], object], rounds: int = 5, repeat: int = 1) -> float:
    """Median over the rounds of the seconds of one call, each the mean of `repeat` calls; nothing is warmed up."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(repeat):
            call()
        times.append((time.perf_counter() - start) / repeat)
    return statistics.median(times)

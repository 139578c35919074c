"""Samples taken in turns: A, B, A, B, ..., so that a slow moment of a shared machine falls on everyone."""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from tests.bench.environment import DISTURBING, Load

Sampler = Callable[[], float]
"""Takes one sample: seconds, or another figure whose median means something."""

LEAST: Final = 0.005
"""Seconds of work in a sample, at least; a call that takes longer is a sample alone."""

PAUSE: Final = 0.2
"""Seconds until the next round after one that was disturbed."""

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


@dataclass(frozen=True)
class Taken:
    """The samples of each sampler, and how many processors others took meanwhile, on average."""

    samples: dict[str, list[float]]
    others: float = 0.0

    @property
    def medians(self) -> dict[str, float]:
        """The median of each sampler."""
        return {name: statistics.median(samples) for name, samples in self.samples.items()}


def alternate(
    samplers: Mapping[str, Sampler], rounds: int, watch: Callable[[], Callable[[], float]] = lambda: Load().others
) -> Taken:
    """Samples of so many rounds, in each of which everyone is sampled once.

    A round that others disturbed is taken again, up to twice as many more; when there are still not three
    quiet ones, or as many as were asked for, all count. `watch` begins to watch others, and gives what tells how busy
    they were.
    """
    quiet: list[tuple[float, dict[str, float]]] = []
    disturbed: list[tuple[float, dict[str, float]]] = []
    while len(quiet) < rounds and len(quiet) + len(disturbed) < 3 * rounds:
        others = watch()
        figures = {name: sample() for name, sample in samplers.items()}
        busy = others()
        if busy < DISTURBING:
            quiet.append((busy, figures))
        else:
            disturbed.append((busy, figures))
            time.sleep(PAUSE)
    counted = quiet if len(quiet) >= min(rounds, 3) else quiet + disturbed
    samples = {name: [figures[name] for _, figures in counted] for name in samplers}
    return Taken(samples, statistics.fmean(busy for busy, _ in counted))


def median(call: Callable[[], object], rounds: int = 5, repeat: int = 1) -> float:
    """Median over the rounds of the seconds of one call, each the mean of `repeat` calls; nothing is warmed up."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(repeat):
            call()
        times.append((time.perf_counter() - start) / repeat)
    return statistics.median(times)

"""The table of kernels with one thread and with several, in turns, graphc alone."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from tests.bench.clock import Sampler, alternate, sampler
from tests.bench.environment import disturbance
from tests.bench.kernels import Line, compiled
from tests.bench.measure import Setting
from tests.bench.peak import Peak
from tests.bench.reference import disagreement


@dataclass(frozen=True)
class Scaling:
    """GFLOP/s of one thread and of `threads`; both 0 where a result was wrong and nothing was timed."""

    name: str
    threads: int
    one: float
    several: float
    error: str = ""
    others: float = 0.0  # processors that others took meanwhile

    @property
    def speed_up(self) -> float:
        """How many times faster the threads are together."""
        return self.several / self.one if self.one else 0.0

    def text(self) -> str:
        """The line as it is printed."""
        text = f"{self.name:32}{self.one:8.1f}{self.several:10.1f}{self.speed_up:10.2f}  {disturbance(self.others)}"
        return f"{text.rstrip()}\n  ERROR {self.error}" if self.error else text.rstrip()

    def record(self) -> dict[str, Any]:
        """The line for a JSON file."""
        return {
            "name": self.name, "one_thread": self.one, "threads": self.threads, "several": self.several,
            "speed_up": self.speed_up, "error": self.error, "others": self.others,
        }


def header(threads: int) -> str:
    """The names of the columns."""
    return f"{'GFLOP/s, graphc':32}{'1 thread':>8}{f'{threads} threads':>10}{'speed-up':>10}"


def scaling_of_peak(peak: Peak, setting: Setting) -> Scaling:
    """What the machine itself gives: the loop of multiply-adds."""
    samplers = {"one": partial(peak.gflops, 1), "several": partial(peak.gflops, setting.threads)}
    taken = alternate(samplers, setting.rounds, partial(peak.watch, setting.threads))
    rates = taken.medians
    return Scaling(f"the {peak.kind} peak", setting.threads, rates["one"], rates["several"], "", taken.others)


def scaling(line: Line, setting: Setting, peak: Peak) -> Scaling:
    """One line. The results must be right, and the same for any number of threads."""
    operands = line.operands()
    one, several = compiled(line, 1), compiled(line, setting.threads)
    alone, together = one(*operands), several(*operands)
    if wrong := disagreement(line, operands, together):
        return Scaling(line.name, setting.threads, 0.0, 0.0, wrong)
    same = np.array_equal(alone, together)
    error = "" if same else f"1 and {setting.threads} threads give different results"
    samplers: dict[str, Sampler] = {
        "one": sampler(lambda: one(*operands), setting.least),
        "several": sampler(lambda: several(*operands), setting.least),
        "peak": partial(peak.gflops, setting.threads),  # the last: see Peak.watch
    }
    taken = alternate(samplers, setting.rounds, partial(peak.watch, setting.threads))
    rates = {name: line.problem.flops / seconds / 1e9 for name, seconds in taken.medians.items()}
    return Scaling(line.name, setting.threads, rates["one"], rates["several"], error, taken.others)


def summary(results: Sequence[Scaling]) -> str:
    """Median and minimum of the speed-ups."""
    found = [result for result in results if result.one]
    if not found:
        return "nothing was measured"
    least = min(found, key=lambda result: result.speed_up)
    middle = statistics.median(result.speed_up for result in found)
    return f"speed-up: median {middle:.2f}, minimum {least.speed_up:.2f} ({least.name})"

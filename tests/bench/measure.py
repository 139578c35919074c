"""One line of the table of kernels: check everyone's result, time them in turns, compare."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.bench.clock import LEAST, Sampler, alternate, sampler
from tests.bench.kernels import Line, compiled, unexpected_kernels
from tests.bench.peak import Peak
from tests.bench.peers import Call, Peer
from tests.bench.reference import disagreement

HEADER = f"{'GFLOP/s':32}{'graphc':>8}  {'best peer':>14}{'ratio':>7}{'of peak':>9}{'goal':>6}"


@dataclass(frozen=True)
class Setting:
    """How everything is measured: rounds of samples, seconds in one, threads of everyone."""

    threads: int
    rounds: int = 9
    least: float = LEAST


@dataclass
class Result:
    """GFLOP/s of graphc and of its peers, and the machine's peak at that time."""

    line: Line
    peak: float = 0.0
    rates: dict[str, float] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    @property
    def graphc(self) -> float | None:
        """None where graphc was wrong."""
        return self.rates.get("graphc")

    @property
    def best_peer(self) -> str | None:
        """The fastest peer's name."""
        others = [name for name in self.rates if name != "graphc"]
        return max(others, key=self.rates.__getitem__, default=None)

    @property
    def ratio(self) -> float | None:
        """graphc's rate over the fastest peer's."""
        if self.graphc is None or self.best_peer is None:
            return None
        return self.graphc / self.rates[self.best_peer]

    @property
    def share(self) -> float | None:
        """graphc's rate over the peak."""
        return self.graphc / self.peak if self.graphc is not None else None

    def text(self) -> str:
        """The line as it is printed, an error on a line of its own below."""
        graphc = f"{self.graphc:8.1f}" if self.graphc is not None else f"{'wrong':>8}"
        peer = f"{self.rates[self.best_peer]:8.1f} {self.best_peer:<5}" if self.best_peer else f"{'-':>8}{'':6}"
        ratio = f"{self.ratio:7.2f}" if self.ratio is not None else f"{'-':>7}"
        share = f"{self.share:9.0%}" if self.share is not None else f"{'-':>9}"
        verdict = "reached" if (self.share or 0.0) >= self.line.goal_share else ""
        text = f"{self.line.name:32}{graphc}  {peer}{ratio}{share}{self.line.goal_share:6.0%} {verdict}".rstrip()
        return "\n".join([text, *(f"  ERROR {error}" for error in self.errors)])

    def record(self) -> dict[str, Any]:
        """The line for a JSON file."""
        return {
            "name": self.line.name,
            "gflops": self.rates,
            "peak_gflops": self.peak,
            "share": self.share,
            "goal_share": self.line.goal_share,
            "ratio": self.ratio,
            "errors": self.errors,
        }


def measure(line: Line, peers: Sequence[Peer], setting: Setting, peak: Peak) -> Result:
    """Everyone who computes the line rightly is timed; who does not is an error of the result."""
    operands = line.operands()
    calls: dict[str, Call] = {}
    errors: list[str] = []
    function = compiled(line, setting.threads)
    if wrong := unexpected_kernels(function):
        errors.append(f"graphc: {wrong}")
    candidates: dict[str, Call | None] = {"graphc": lambda: function(*operands)}
    for peer in peers:
        try:
            candidates[peer.name] = peer.prepare(line, operands)
        except Exception as error:  # a peer's fault is no reason to stop
            errors.append(f"{peer.name}: {type(error).__name__}: {error}")
    for name, call in candidates.items():
        if call is None:
            continue
        if wrong := _fault(line, operands, call):
            errors.append(f"{name}: {wrong}")
        else:
            calls[name] = call
    samplers: dict[str, Sampler] = {name: sampler(call, setting.least) for name, call in calls.items()}
    medians = alternate({**samplers, "peak": lambda: peak.gflops(setting.threads)}, setting.rounds)
    rates = {name: line.problem.flops / medians[name] / 1e9 for name in calls}
    return Result(line, medians["peak"], rates, errors)


def _fault(line: Line, operands: tuple[Any, Any], call: Call) -> str:
    try:
        return disagreement(line, operands, np.asarray(call()))
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def summary(results: Sequence[Result]) -> str:
    """How many goals and peers are reached."""
    ratios = [result.ratio for result in results if result.ratio is not None]
    reached = sum((result.share or 0.0) >= result.line.goal_share for result in results)
    text = f"{reached} of {len(results)} goals reached"
    if ratios:
        ahead = sum(ratio >= 1 for ratio in ratios)
        text += f"; ahead of the best peer in {ahead} of {len(ratios)}, median ratio {statistics.median(ratios):.2f}"
    return text

"""One line of the table of kernels: check everyone's result, time them in turns, compare."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from tests.bench.clock import LEAST, Sampler, alternate, sampler
from tests.bench.environment import DISTURBING, disturbance
from tests.bench.kernels import Array, Line, compiled
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
    others: float = 0.0  # processors that others took meanwhile

    @property
    def graphc(self) -> float | None:
        """None where graphc was wrong, or could not."""
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

    @property
    def reached(self) -> bool:
        """Whether the goal is; a disturbed line, whose peak may be too low, reaches none."""
        return (self.share or 0.0) >= self.line.goal_share and self.others < DISTURBING

    def text(self) -> str:
        """The line as it is printed, an error on a line of its own below."""
        graphc = f"{self.graphc:8.1f}" if self.graphc is not None else f"{'-':>8}"
        peer = f"{self.rates[self.best_peer]:8.1f} {self.best_peer:<5}" if self.best_peer else f"{'-':>8}{'':6}"
        ratio = f"{self.ratio:7.2f}" if self.ratio is not None else f"{'-':>7}"
        share = f"{self.share:9.0%}" if self.share is not None else f"{'-':>9}"
        remarks = f"{'reached' if self.reached else ''} {disturbance(self.others)}"
        text = f"{self.line.name:32}{graphc}  {peer}{ratio}{share}{self.line.goal_share:6.0%} {remarks}"
        return "\n".join([text.rstrip(), *(f"  ERROR {error}" for error in self.errors)])

    def record(self) -> dict[str, Any]:
        """The line for a JSON file."""
        return {
            "name": self.line.name,
            "gflops": self.rates,
            "peak_gflops": self.peak,
            "share": self.share,
            "goal_share": self.line.goal_share,
            "reached": self.reached,
            "ratio": self.ratio,
            "errors": self.errors,
            "others": self.others,
        }


def measure(line: Line, peers: Sequence[Peer], setting: Setting, peak: Peak) -> Result:
    """Everyone who computes the line rightly is timed; who does not is an error of the result."""
    operands = line.operands()
    calls: dict[str, Call] = {}
    errors: list[str] = []
    makers: dict[str, Callable[[], Call | None]] = {"graphc": partial(_graphc, line, operands, setting.threads)}
    makers.update({peer.name: partial(peer.prepare, line, operands) for peer in peers})
    for name, make in makers.items():
        try:
            call = make()
            if call is None:
                continue
            wrong = disagreement(line, operands, np.asarray(call()))
        except Exception as error:  # one that fails is no reason to stop
            wrong = f"{type(error).__name__}: {error}"
        if wrong:
            errors.append(f"{name}: {wrong}")
        else:
            assert call is not None
            calls[name] = call
    samplers: dict[str, Sampler] = {name: sampler(call, setting.least) for name, call in calls.items()}
    samplers["peak"] = partial(peak.gflops, setting.threads)  # the last: see Peak.watch
    taken = alternate(samplers, setting.rounds, partial(peak.watch, setting.threads))
    medians = taken.medians
    rates = {name: line.problem.flops / medians[name] / 1e9 for name in calls}
    # What the processor can do is its best sample: others can only lessen it, and a share must not gain by that.
    return Result(line, max(taken.samples["peak"]), rates, errors, taken.others)


def _graphc(line: Line, operands: tuple[Array, Array], threads: int) -> Call:
    function = compiled(line, threads)
    return lambda: function(*operands)


def summary(results: Sequence[Result]) -> str:
    """How many goals and peers are reached."""
    ratios = [result.ratio for result in results if result.ratio is not None]
    reached = sum(result.reached for result in results)
    text = f"{reached} of {len(results)} goals reached"
    if ratios:
        ahead = sum(ratio >= 1 for ratio in ratios)
        text += f"; ahead of the best peer in {ahead} of {len(ratios)}, median ratio {statistics.median(ratios):.2f}"
    return text

"""A line of the tables of programs and of compiling: graphc's time, its peers', and the goal."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.bench.environment import DISTURBING, disturbance

HEADER = f"{'time':38}{'graphc':>10}  {'best peer':>24}{'ratio':>8}{'goal':>10}"


@dataclass(frozen=True)
class Goal:
    """What is asked of graphc where the fastest peer, the one named, took `peer_seconds`: elsewhere the same ratio to
    the fastest peer. Without a peer it is asked of every machine."""

    seconds: float
    peer: str = ""
    peer_seconds: float = 0.0

    @property
    def ratio(self) -> float | None:
        """The peer's time over graphc's; None without a peer."""
        return self.peer_seconds / self.seconds if self.peer else None

    def text(self) -> str:
        """As it is printed."""
        return f"{self.ratio:.2f}" if self.ratio is not None else duration(self.seconds)


@dataclass
class Times:
    """Median seconds of graphc and of its peers. `aside`: peers that are told and not compared."""

    name: str
    goal: Goal | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    others: float = 0.0  # processors that others took meanwhile
    aside: tuple[str, ...] = ()

    @property
    def graphc(self) -> float | None:
        """None where graphc was wrong, or could not."""
        return self.seconds.get("graphc")

    @property
    def best_peer(self) -> str | None:
        """The fastest peer's name."""
        peers = [name for name in self.seconds if name != "graphc" and name not in self.aside]
        return min(peers, key=self.seconds.__getitem__, default=None)

    @property
    def ratio(self) -> float | None:
        """The fastest peer's time over graphc's."""
        if self.graphc is None or self.best_peer is None:
            return None
        return self.seconds[self.best_peer] / self.graphc

    @property
    def reached(self) -> bool:
        """Whether the goal is. A disturbed line reaches none, nor does one without the peer that the goal is from."""
        if self.goal is None or self.graphc is None or self.others >= DISTURBING:
            return False
        if self.goal.ratio is None:
            return self.graphc <= self.goal.seconds
        return self.goal.peer in self.seconds and self.ratio is not None and self.ratio >= self.goal.ratio

    def text(self) -> str:
        """The line as it is printed, the slower peers in brackets, an error on a line of its own below."""
        best = self.best_peer
        graphc = duration(self.graphc) if self.graphc is not None else "-"
        peer = f"{duration(self.seconds[best])} {best:<13}" if best else f"-{'':14}"
        ratio = f"{self.ratio:.2f}" if self.ratio is not None else "-"
        goal = self.goal.text() if self.goal is not None else ""
        remarks = [self._verdict(), disturbance(self.others)]
        slower = sorted(self.seconds.keys() - {"graphc", best}, key=self.seconds.__getitem__)
        if slower:
            remarks.append(f"({', '.join(f'{name} {duration(self.seconds[name])}' for name in slower)})")
        line = f"{self.name:38}{graphc:>10}  {peer:>24}{ratio:>8}{goal:>10} {' '.join(filter(None, remarks))}"
        return "\n".join([line.rstrip(), *(f"  ERROR {error}" for error in self.errors)])

    def _verdict(self) -> str:
        if self.reached:
            return "reached"
        if self.goal is not None and self.goal.peer and self.graphc is not None and self.goal.peer not in self.seconds:
            return f"(asked against {self.goal.peer})"
        return ""

    def record(self) -> dict[str, Any]:
        """The line for a JSON file."""
        goal = self.goal
        return {
            "name": self.name,
            "seconds": self.seconds,
            "best_peer": self.best_peer,
            "ratio": self.ratio,
            "goal_ratio": goal.ratio if goal is not None else None,
            "goal_seconds": goal.seconds if goal is not None and not goal.peer else None,
            "reached": self.reached,
            "errors": self.errors,
            "others": self.others,
        }


@dataclass
class Factor:
    """A line that is a quotient of two of graphc's times, and what it may be at most."""

    name: str
    most: float
    graphc: float | None = None
    errors: list[str] = field(default_factory=list)
    others: float = 0.0

    @property
    def reached(self) -> bool:
        """Whether it is small enough; a disturbed line is not."""
        return self.graphc is not None and self.graphc <= self.most and self.others < DISTURBING

    def text(self) -> str:
        """The line as it is printed."""
        value = f"{self.graphc:.2f}" if self.graphc is not None else "-"
        remarks = f"{'reached' if self.reached else ''} {disturbance(self.others)}"
        line = f"{self.name:38}{value:>10}  {'':24}{'':8}{'<= ' + format(self.most, 'g'):>10} {remarks}"
        return "\n".join([line.rstrip(), *(f"  ERROR {error}" for error in self.errors)])

    def record(self) -> dict[str, Any]:
        """The line for a JSON file."""
        return {
            "name": self.name,
            "factor": self.graphc,
            "goal_most": self.most,
            "reached": self.reached,
            "errors": self.errors,
            "others": self.others,
        }


def duration(seconds: float) -> str:
    """With a unit that suits it."""
    for least, factor, unit in ((1.0, 1.0, "s"), (1e-3, 1e3, "ms")):
        if seconds >= least:
            return f"{seconds * factor:.{2 if unit == 's' else 1}f} {unit}"
    return f"{seconds * 1e6:.{1 if seconds >= 1e-5 else 2}f} us"


def summary(results: Sequence[Times | Factor]) -> str:
    """How many goals and peers are reached."""
    asked = [result for result in results if isinstance(result, Factor) or result.goal is not None]
    ratios = [result.ratio for result in results if isinstance(result, Times) and result.ratio is not None]
    text = f"{sum(result.reached for result in asked)} of {len(asked)} goals reached"
    if ratios:
        ahead = sum(ratio >= 1 for ratio in ratios)
        text += f"; ahead of the best peer in {ahead} of {len(ratios)}, median ratio {statistics.median(ratios):.2f}"
    return text

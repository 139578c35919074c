"""The table of compiling: how long graphc itself takes, and its peers before their first result.

What is timed once in a process is timed in new ones, in turns: imports, and first results with nothing cached.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

import graphc as gc
from graphc.ir.graph import Graph
from graphc.passes.fold import fold_constants
from graphc.passes.markers import drop_markers
from graphc.passes.pipeline import run_passes
from graphc.passes.simplify import simplify, stabilise
from tests.bench.clock import Sampler, Taken, alternate, median, sampler
from tests.bench.measure import Setting
from tests.bench.programs.in_graphc import loss_of, model_of
from tests.bench.programs.problems import CNN, LENET, Network, Training
from tests.bench.times import Factor, Goal, Times

Result = Times | Factor

LONG: Final = 5.0
"""Seconds of a process, from which on one sample must do."""

NOTHING_CACHED: Final = {"GRAPHC_CACHE": "0", "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}


class Row(Protocol):
    """One measurement and the lines that it gives, by name. `measure` gets the names of the peers that are there."""

    @property
    def names(self) -> tuple[str, ...]: ...

    @property
    def peers(self) -> tuple[str, ...]: ...

    def measure(self, peers: Collection[str], setting: Setting) -> list[Result]: ...


# ---- in this process: parts of the compiler ----------------------------------------------------------------


def chain(nodes: int) -> tuple[gc.Tensor, gc.Tensor]:
    """A chain of so many nodes: (input, loss)."""
    x = gc.input("x", (4,))
    y = x
    for number in range((nodes - 1) // 2):
        y = gc.tanh(y) if number % 2 else gc.sin(y)
        y = y * x
    return x, gc.sum(y)


def front_end(nodes: int) -> None:
    """Build, differentiate and simplify."""
    x, loss = chain(nodes)
    gradient = gc.grad(loss, x)
    graph = Graph((loss.node, gradient.node))
    for step in (stabilise, drop_markers, simplify, fold_constants):
        graph = step(graph)


def all_passes(nodes: int) -> Callable[[], object]:
    """The whole pipeline on a chain and its gradient."""
    x, loss = chain(nodes)
    graph = Graph((loss.node, gc.grad(loss, x).node))
    return lambda: run_passes(graph)


@dataclass(frozen=True)
class Part:
    """Median time of what `prepare` returns."""

    name: str
    prepare: Callable[[], Callable[[], object]]
    peers: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """See `Row`."""
        return (self.name,)

    def measure(self, peers: Collection[str], setting: Setting) -> list[Result]:
        """See `Row`."""
        return [Times(self.name, seconds={"graphc": median(self.prepare(), min(setting.rounds, 5))})]


# ---- in new processes --------------------------------------------------------------------------------------


def child(arguments: list[str], variables: Mapping[str, str]) -> Sampler:
    """Samples that a new process of this Python prints as its last line."""

    def sample() -> float:
        command = [sys.executable, *arguments]
        done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
            raise RuntimeError(said[-1][:300])
        return float(done.stdout.split()[-1])

    return sample


def import_of(module: str) -> list[str]:
    """Arguments for `child`: the seconds of an import."""
    return ["-c", f"import time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"]


@dataclass(frozen=True)
class Processes:
    """Medians over new processes; `arguments` gives a library's. The first process of each counts for nothing: it fills
    caches of files, and shows who fails."""

    name: str
    goal: Goal
    peers: tuple[str, ...]
    arguments: Callable[[str], list[str]]
    aside: tuple[str, ...] = ()
    cached: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """See `Row`."""
        return (self.name,)

    def measure(self, peers: Collection[str], setting: Setting) -> list[Result]:
        """See `Row`."""
        names = ["graphc", *(name for name in self.peers if name in peers)]
        result = Times(self.name, self.goal, aside=self.aside)
        with self._variables() as variables:
            samplers = {name: child(self.arguments(name), variables) for name in names}
            taken, result.errors = processes(samplers, setting)
        result.seconds, result.others = taken.medians, taken.others
        return [result]

    @contextmanager
    def _variables(self) -> Iterator[dict[str, str]]:
        if not self.cached:
            yield NOTHING_CACHED
            return
        with tempfile.TemporaryDirectory() as folder:
            yield {"GRAPHC_CACHE": "1", "GRAPHC_CACHE_DIR": folder}


@dataclass(frozen=True)
class Growth:
    """graphc's time for the second problem, and what it is as a multiple of that for the first."""

    name: str
    goal: Goal
    factor: str
    most: float
    first: str
    second: str
    peers: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """See `Row`."""
        return (self.name, self.factor)

    def measure(self, peers: Collection[str], setting: Setting) -> list[Result]:
        """See `Row`."""
        samplers = {name: child(first_of(name)("graphc"), NOTHING_CACHED) for name in (self.first, self.second)}
        taken, errors = processes(samplers, setting)
        time = Times(self.name, self.goal, errors=errors, others=taken.others)
        growth = Factor(self.factor, self.most, others=taken.others)
        if not errors:
            first, second = (taken.medians[name] for name in (self.first, self.second))
            time.seconds, growth.graphc = {"graphc": second}, second / first
        return [time, growth]


def processes(samplers: Mapping[str, Sampler], setting: Setting) -> tuple[Taken, list[str]]:
    """(samples of those that do not fail, one line for each that does)"""
    good: dict[str, Sampler] = {}
    errors: list[str] = []
    start = time.perf_counter()
    for name, sample in samplers.items():
        try:
            sample()
            good[name] = sample
        except Exception as error:  # one that fails is no reason to stop
            errors.append(f"{name}: {error}")
    rounds = 1 if time.perf_counter() - start > LONG * len(samplers) else max(1, setting.rounds // 3)
    return (alternate(good, rounds) if good else Taken({})), errors


def first_of(problem: str) -> Callable[[str], list[str]]:
    """A library's arguments for `child`: the seconds to its first result."""
    return lambda library: ["-m", "tests.bench.first", library, problem]


# ---- the gradient's cost -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Backward:
    """What the gradient of every parameter adds to the loss, as a multiple of the loss alone; without Winograd, whose
    kernels serve forward and backward unequally."""

    name: str
    most: float
    network: Network
    batch: int = 64
    peers: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """See `Row`."""
        return (self.name,)

    def measure(self, peers: Collection[str], setting: Setting) -> list[Result]:
        """See `Row`."""
        problem = Training(self.network, self.batch, rate=0.0)
        model, data = model_of(self.network), problem.batches()[0]
        inputs, loss = loss_of(model, problem)
        compiled = partial(gc.compile, threads=setting.threads, winograd=False)
        forward, both = compiled(inputs, [loss]), compiled(inputs, [loss, *gc.grad(loss, model.parameters())])
        taken = alternate({
            "forward": sampler(lambda: forward(*data), setting.least),
            "both": sampler(lambda: both(*data), setting.least),
        }, setting.rounds)
        seconds = taken.medians
        return [Factor(self.name, self.most, seconds["both"] / seconds["forward"] - 1, others=taken.others)]


# ---- the table ---------------------------------------------------------------------------------------------

COMPILING: Final[tuple[Row, ...]] = (
    Processes("import graphc", Goal(0.15, "jax", 0.46), ("jax", "torch"), import_of),
    Processes(
        "first call of seed_scalar", Goal(0.040, "sympy", 0.107), ("sympy", "casadi", "jax", "torch.compile"),
        first_of("seed_scalar"), aside=("casadi",),  # it interprets: there is nothing to compile
    ),
    Processes(
        "first step of lenet_b64", Goal(0.400, "jax", 1.356), ("jax", "torch.compile"), first_of("lenet_b64")
    ),
    Processes("first step of lenet_b64, cached", Goal(0.050), (), first_of("lenet_b64"), cached=True),
    Processes(
        "first inference of vgg19_b1", Goal(1.5, "jax", 5.733), ("jax", "torch.compile"),
        first_of("vgg19_b1 inference"),
    ),
    Growth(
        "first step of 1000-layer mlp", Goal(3.0), "1000-layer mlp over 100-layer", 12,
        "100-layer mlp", "1000-layer mlp",
    ),
    Backward("backward over forward, lenet_b64", 2.2, LENET),
    Backward("backward over forward, cnn_b64", 2.2, CNN),
    Part("1k nodes: build, differentiate, simplify", lambda: partial(front_end, 1_000)),
    Part("10k nodes: build, differentiate, simplify", lambda: partial(front_end, 10_000)),
    Part("10k nodes: all passes", lambda: all_passes(10_000)),
)

"""`make bench`: prints what has a goal in time, medians of several runs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np

import graphc as gc
from graphc.ir.graph import Graph
from graphc.passes.fold import fold_constants
from graphc.passes.markers import drop_markers
from graphc.passes.pipeline import run_passes
from graphc.passes.simplify import simplify, stabilise

RUNS = 5


def median(run: Callable[[], object], repeat: int = 1) -> float:
    """Median over RUNS of the seconds of one call, each the mean of `repeat` calls."""
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        for _ in range(repeat):
            run()
        times.append((time.perf_counter() - start) / repeat)
    return statistics.median(times)


def chain(nodes: int) -> tuple[gc.Tensor, gc.Tensor]:
    """A chain of so many nodes: (input, loss)."""
    x = gc.input("x", (4,))
    y = x
    for number in range((nodes - 1) // 2):
        y = gc.tanh(y) if number % 2 else gc.sin(y)
        y = y * x
    return x, gc.sum(y)


def compile_time(nodes: int) -> str:
    """Build, differentiate and simplify."""

    def run() -> None:
        x, loss = chain(nodes)
        gradient = gc.grad(loss, x)
        graph = Graph((loss.node, gradient.node))
        for step in (stabilise, drop_markers, simplify, fold_constants):
            graph = step(graph)

    return f"{nodes} nodes: build, differentiate, simplify: {median(run):.2f} s"


def all_passes(nodes: int) -> str:
    """The whole pipeline."""
    x, loss = chain(nodes)
    graph = Graph((loss.node, gc.grad(loss, x).node))
    return f"{nodes} nodes: all passes: {median(lambda: run_passes(graph)):.2f} s"


def mlp_step(backend: str) -> str:
    """One SGD step of 784-128-128-10 at batch 64."""
    x, t = gc.input("x", (64, 784)), gc.input("t", (64,), dtype="int64")
    layers = [gc.nn.Linear(784, 128, seed=0), gc.nn.ReLU(), gc.nn.Linear(128, 128, seed=1), gc.nn.ReLU()]
    model = gc.nn.Sequential(*layers, gc.nn.Linear(128, 10, seed=2))
    loss = gc.nn.cross_entropy(model(x), t)
    updates = gc.optim.SGD(lr=0.1).updates(loss, model.parameters())
    start = time.perf_counter()
    step = gc.compile([x, t], loss, updates, backend=backend)
    compiled = time.perf_counter() - start
    rng = np.random.default_rng(0)
    arrays = rng.normal(size=(64, 784)).astype("float32"), rng.integers(0, 10, 64)
    step(*arrays)
    return f"mlp_b64, {backend}: {median(lambda: step(*arrays), 100) * 1e6:.0f} us a step, compiled in {compiled:.2f} s"


def main() -> None:
    """Print every line."""
    for line in (compile_time(1_000), compile_time(10_000), all_passes(10_000), mlp_step("llvm"), mlp_step("numpy")):
        print(line, flush=True)


if __name__ == "__main__":
    main()

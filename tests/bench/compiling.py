"""How long graphc itself takes: building, differentiating, simplifying, all passes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

import graphc as gc
from graphc.ir.graph import Graph
from graphc.passes.fold import fold_constants
from graphc.passes.markers import drop_markers
from graphc.passes.pipeline import run_passes
from graphc.passes.simplify import simplify, stabilise
from tests.bench.clock import median


def chain(nodes: int) -> tuple[gc.Tensor, gc.Tensor]:
    """A chain of so many nodes: (input, loss)."""
    x = gc.input("x", (4,))
    y = x
    for number in range((nodes - 1) // 2):
        y = gc.tanh(y) if number % 2 else gc.sin(y)
        y = y * x
    return x, gc.sum(y)


def front_end(nodes: int, rounds: int) -> dict[str, float]:
    """Build, differentiate and simplify."""

    def run() -> None:
        x, loss = chain(nodes)
        gradient = gc.grad(loss, x)
        graph = Graph((loss.node, gradient.node))
        for step in (stabilise, drop_markers, simplify, fold_constants):
            graph = step(graph)

    return {"median": median(run, rounds)}


def all_passes(nodes: int, rounds: int) -> dict[str, float]:
    """The whole pipeline."""
    x, loss = chain(nodes)
    graph = Graph((loss.node, gc.grad(loss, x).node))
    return {"median": median(lambda: run_passes(graph), rounds)}


# name: figures in seconds by what they are, given the number of rounds
COMPILING: Final[dict[str, Callable[[int], dict[str, float]]]] = {
    "compile 1k nodes: build, differentiate, simplify": partial(front_end, 1_000),
    "compile 10k nodes: build, differentiate, simplify": partial(front_end, 10_000),
    "compile 10k nodes: all passes": partial(all_passes, 10_000),
}

"""The passes in order. Each is a function from graph to graph; the verifier can run after each."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence

from graphc.config import config
from graphc.ir.graph import Graph
from graphc.ir.verify import verify
from graphc.passes.chain import order_chains
from graphc.passes.disjoint import join_parts
from graphc.passes.fold import fold_constants
from graphc.passes.fuse import fuse
from graphc.passes.gather import gather
from graphc.passes.markers import drop_markers
from graphc.passes.masks import mask_by_result
from graphc.passes.reciprocal import multiply_by_reciprocals
from graphc.passes.simplify import simplify, stabilise
from graphc.passes.steps import run_in_steps
from graphc.passes.waits import trim_waits

Pass = Callable[[Graph], Graph]

ONCE: tuple[Pass, ...] = (stabilise, drop_markers)
"""Those that are for the graph as it was written: what is stable already is marked, and the marks go."""

PIPELINE: tuple[Pass, ...] = (
    *ONCE,
    simplify,
    fold_constants,
    order_chains,
    join_parts,
    gather,
    simplify,
    multiply_by_reciprocals,
    mask_by_result,
    fuse,
    trim_waits,
)


def run_passes(graph: Graph, check: bool | None = None, passes: Sequence[Pass] | None = None) -> Graph:
    """These passes (all unless they are given), and all of them over the steps of loops. With `check` (or GRAPHC_DEBUG
    from 1 on) the graph is verified after each, and what happened is printed to standard error: a line a pass at 1, the
    whole graph at 2."""
    if check is None:
        check = config.debug > 0
    if check:
        verify(graph)
    for step in PIPELINE if passes is None else passes:
        start = time.perf_counter()
        graph = step(graph)
        if config.debug:
            milliseconds = (time.perf_counter() - start) * 1e3
            print(f"graphc: {step.__name__}: {len(graph.nodes)} nodes, {milliseconds:.2f} ms", file=sys.stderr)
        if config.debug > 1:
            print(graph, file=sys.stderr)
        if check:
            verify(graph, step.__name__)
    return run_in_steps(graph, lambda step: run_passes(step, check))

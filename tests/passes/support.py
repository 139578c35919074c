"""What the tests of passes share: a pass keeps the meaning of a graph."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from graphc.ir.graph import Graph
from graphc.ir.interp import interpret
from graphc.ir.verify import verify


def values_for(graph: Graph, seed: int = 0) -> dict:
    """A value for each leaf: normal floats, small integers, bools."""
    rng = np.random.default_rng(seed)
    values = {}
    for leaf in graph.inputs:
        array = rng.normal(size=leaf.shape)
        if leaf.dtype == "bool":
            array = array > 0
        elif leaf.dtype.startswith("int"):
            array = rng.integers(0, 3, leaf.shape)
        values[leaf] = np.asarray(array).astype(leaf.dtype)
    return values


def keeps_meaning(step: Callable[[Graph], Graph], *tensors, values=None, rtol=1e-10) -> Graph:
    """step(graph), which verifies and computes what the graph of the tensors does."""
    graph = Graph(tuple(tensor.node for tensor in tensors))
    verify(graph)
    new = step(graph)
    verify(new, getattr(step, "__name__", "step"))
    given = values or values_for(graph)
    for found, expected in zip(interpret(new, given), interpret(graph, given), strict=True):
        assert found.dtype == expected.dtype and found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol)
    return new

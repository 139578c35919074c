"""The same graph in float64."""

from __future__ import annotations

import numpy as np

import graphc as gc
from graphc.ir.graph import Graph
from graphc.ir.interp import interpret
from graphc.ir.retype import widen


def test_widened_graph_computes_the_same_in_float64() -> None:
    x = gc.input("x", (3, 4))
    t = gc.input("t", (3,), dtype="int64")
    values = [
        gc.nn.cross_entropy(x, t),
        gc.softmax(x),
        gc.max(x, axis=1),
        gc.where(x > 0, x, 0.1 * x),
        gc.take(x, t, axis=0),
        gc.concatenate([x, 2 * x]),
        gc.reshape(x, (4, 3)) @ gc.constant(np.ones((3, 2), dtype=np.float32)),
        gc.argmax(x, axis=0),
        t.astype("float32") / 3,
    ]
    graph = Graph(tuple(value.node for value in values))
    wide, leaves = widen(graph)
    assert all(node.dtype != "float32" for node in wide.nodes)
    given = {x.node: np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32), t.node: np.array([0, 2, 1])}
    narrow_values = interpret(graph, given)
    wide_values = interpret(wide, {leaves[leaf]: value.astype(leaves[leaf].dtype) for leaf, value in given.items()})
    for one, other in zip(narrow_values, wide_values, strict=True):
        assert other.dtype == (np.float64 if one.dtype == np.float32 else one.dtype)
        np.testing.assert_allclose(one, other, rtol=2e-6)


def test_what_has_no_float32_stays() -> None:
    x = gc.input("x", (2,), dtype="float64")
    y = gc.exp(x)
    wide, leaves = widen(Graph((y.node,)))
    assert wide.outputs == (y.node,) and leaves == {x.node: x.node}

"""Strided scatters as one sum over the residues: when, and that the value is the same."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc.ir.graph import Graph
from graphc.ir.interp import interpret
from graphc.ir.node import Generic, Join, View
from graphc.passes.gather import gather
from graphc.passes.residues import gather_residues


def data_gradient(window: int, stride: int, padding: int, dilation: int) -> tuple[gc.Tensor, list[gc.Tensor]]:
    x, w = gc.input("x", (2, 3, 23, 26)), gc.input("w", (4, 3, window, window))
    y = gc.conv2d(x, w, stride=stride, padding=padding, dilation=dilation)
    dy = gc.input("dy", y.shape)
    return gc.vjp(y, x, dy), [w, dy]


@pytest.mark.parametrize(
    ("window", "stride", "dilation", "is_whole"),
    [(11, 4, 1, True), (4, 2, 1, True), (4, 4, 1, True), (6, 3, 1, True), (3, 2, 1, False), (1, 2, 1, False),
     (3, 1, 2, False), (3, 1, 1, False), (4, 2, 2, False)],
)
def test_it_is_used_where_few_taps_are_added(window: int, stride: int, dilation: int, is_whole: bool) -> None:
    gradient, _ = data_gradient(window, stride, 1, dilation)
    graph = gather(Graph((gradient.node,)))
    assert any(isinstance(node, View) for node in graph.nodes) is is_whole
    assert any(isinstance(node, Join) for node in graph.nodes) is (stride > 1 and not is_whole)


@pytest.mark.parametrize("padding", [0, 1, 2, 3])
@pytest.mark.parametrize(("window", "stride"), [(4, 2), (5, 5), (6, 3), (11, 4)])
def test_the_value_is_that_of_the_scatter(window: int, stride: int, padding: int) -> None:
    gradient, inputs = data_gradient(window, stride, padding, 1)
    random = np.random.default_rng(0)
    values = {leaf.node: random.standard_normal(leaf.shape).astype("float32") for leaf in inputs}
    before = Graph((gradient.node,))
    scatters = [node for node in before.nodes if isinstance(node, Generic) and gather_residues(node) is not None]
    assert len(scatters) == 1
    want, got = interpret(before, values)[0], interpret(gather(before), values)[0]
    assert np.allclose(got, want, rtol=1e-5, atol=1e-5)

"""Fusion: what is computed where it is read, and what is stored."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc.ir import scalar as sc
from graphc.ir.classify import Contraction, classify
from graphc.ir.graph import Graph
from graphc.ir.node import Generic
from graphc.ir.origin import origins_of
from graphc.passes.fuse import LARGEST_BODY, fuse
from graphc.passes.pipeline import run_passes
from tests.passes.support import keeps_meaning

X, Y = gc.input("x", (3, 4), "float64"), gc.input("y", (4,), "float64")


def generics(graph):
    return [node for node in graph.nodes if isinstance(node, Generic)]


def test_a_chain_of_maps_is_one():
    graph = keeps_meaning(fuse, gc.tanh(gc.exp(X) * Y + 1) ** 2)
    assert len(generics(graph)) == 1


def test_a_map_goes_into_a_reduction():
    graph = keeps_meaning(fuse, gc.sum(gc.exp(X) * Y, axis=0))
    (node,) = generics(graph)
    assert node.reducer == "sum"


def test_a_dear_map_with_two_readers_is_stored():
    e = gc.exp(X)
    graph = keeps_meaning(fuse, gc.sum(e), gc.max(e))
    assert len(generics(graph)) == 3


def test_a_cheap_map_with_two_readers_is_computed_twice():
    shifted = X + 1
    graph = keeps_meaning(fuse, gc.exp(shifted), gc.sin(shifted))
    assert len(generics(graph)) == 2


def test_an_output_is_stored():
    e = gc.exp(X)
    graph = keeps_meaning(fuse, e, gc.sin(e))
    assert e.node in graph.outputs and len(generics(graph)) == 2


def test_a_contraction_reads_what_is_stored():
    graph = keeps_meaning(fuse, gc.exp(X) @ gc.sin(Y))
    assert sum(isinstance(classify(node), Contraction) for node in generics(graph)) == 1
    assert len(generics(graph)) == 3


def test_what_is_read_many_times_is_not_computed_many_times():
    row = gc.exp(Y)
    graph = keeps_meaning(fuse, X * row)
    assert len(generics(graph)) == 2, "exp is computed 4 times, not 12"


def test_bodies_stay_small():
    y = X
    for step in range(200):
        y = gc.sin(y) + step
    for node in generics(keeps_meaning(fuse, y)):
        assert len(sc.postorder(node.body)) <= LARGEST_BODY


@pytest.mark.parametrize("inner", [gc.exp, lambda x: 1 / x, gc.log, lambda x: x + 1], ids=["exp", "1/x", "log", "x+1"])
@pytest.mark.parametrize("padding", [1, 2])
def test_a_padded_border_is_zero_and_not_what_the_map_gives_there(inner, padding):
    x = gc.input("x", (1, 2, 4, 4), "float64")
    value = np.random.default_rng(0).uniform(0.5, 2, (1, 2, 4, 4))
    y = gc.avg_pool2d(inner(x), 4, 2, padding)
    padded, spread = gc.pad(inner(x), padding), gc.conv2d(inner(x), gc.ones((1, 2, 1, 1), "float64"), padding=padding)
    outputs = [y, padded, spread, gc.grad(gc.sum(y**2) + gc.sum(padded**3) + gc.sum(gc.sin(spread)), x)]
    keeps_meaning(run_passes, *outputs, values={x.node: value})
    for output in gc.evaluate(outputs, {x: value}):
        assert np.isfinite(output).all()
    assert not gc.evaluate(padded, {x: value})[:, :, :padding].any()


def test_max_pooling_of_a_map_skips_its_border():
    x = gc.input("x", (1, 1, 5, 5), "float64")
    value = -np.random.default_rng(0).uniform(1, 2, (1, 1, 5, 5))
    keeps_meaning(run_passes, gc.max_pool2d(x * 2, 3, 2, 1), gc.max_pool2d(gc.sin(x), 3, 2, 1), values={x.node: value})


def test_fused_nodes_keep_the_lines_of_all_they_hold():
    e = gc.exp(X)
    y = gc.sum(e * Y)
    graph = run_passes(Graph((y.node,)))
    ops = {origin.op for node in generics(graph) for origin in origins_of(node)}
    assert {"exp", "multiply", "sum"} <= ops


def test_softmax_and_layer_norm_compute_what_they_did():
    keeps_meaning(run_passes, gc.softmax(X), gc.log_softmax(X), (X - gc.mean(X, 1, True)) / gc.std(X, 1, True))

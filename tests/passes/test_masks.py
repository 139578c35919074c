"""The sign of x is read from y = relu(x) where y is stored: then x is no array."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc.backend import available
from graphc.ir.graph import Graph
from graphc.ir.node import Generic
from graphc.passes import pipeline
from graphc.passes.masks import mask_by_result
from tests.passes.support import keeps_meaning

X = gc.input("x", (6, 5))
W = [gc.param(f"w{k}", (5, 5), init=np.random.default_rng(k).normal(size=(5, 5)).astype("float32")) for k in range(2)]
AWKWARD = [0.0, -0.0, np.nan, np.inf, -np.inf, 1e-45, -1e-45, -1e-30, 3.0, -2.0]


def gradients(activation, x=X):
    loss = gc.sum(gc.tanh(activation(x @ W[0]) @ W[1]) ** 2)
    return [loss, *gc.grad(loss, [x, *W])]


def until_here(graph):
    """The graph as the pass finds it."""
    for one in pipeline.PIPELINE[: pipeline.PIPELINE.index(mask_by_result)]:
        graph = one(graph)
    return graph


def readers_of_the_first_product(graph):
    return len(graph.readers()[next(node for node in graph.nodes if isinstance(node, Generic))])


@pytest.mark.parametrize(
    "activation",
    [gc.relu, gc.leaky_relu, lambda h: gc.leaky_relu(h, 0.5)],
    ids=["relu", "leaky_relu", "slope"],
)
def test_the_gradient_reads_the_result(activation):
    tensors = gradients(activation)
    assert readers_of_the_first_product(keeps_meaning(until_here, *tensors)) == 2
    after = keeps_meaning(lambda graph: mask_by_result(until_here(graph)), *tensors)
    assert readers_of_the_first_product(after) == 1


@pytest.mark.parametrize("activation", [gc.relu, gc.leaky_relu], ids=["relu", "leaky_relu"])
@pytest.mark.parametrize("backend", available())
def test_results_are_the_same_to_the_last_bit(activation, backend, monkeypatch):
    """Also at zeros, NaN, infinities and denormal numbers."""
    x = np.resize(np.array(AWKWARD, "float32"), (6, 5))
    with_pass = gc.compile([X], gradients(activation), backend=backend)
    monkeypatch.setattr(pipeline, "PIPELINE", tuple(one for one in pipeline.PIPELINE if one is not mask_by_result))
    without = gc.compile([X], gradients(activation), backend=backend)
    assert str(with_pass.program) != str(without.program)
    for array in (x, np.random.default_rng(0).normal(size=(6, 5)).astype("float32")):
        for one, other in zip(with_pass(array), without(array), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("op", ["le", "lt"])
def test_the_sign_of_every_number_is_that_of_its_result(op):
    numbers = np.array(AWKWARD)
    for result in (np.where(numbers <= 0, 0, numbers), np.where(numbers <= 0, numbers * 0.01, numbers)):
        same = (result <= 0) == (numbers <= 0) if op == "le" else (result > 0) == (numbers > 0)
        assert same.all()


def mlp(layers):
    x, t = gc.input("x", (32, 16)), gc.input("t", (32,), "int64")
    stack = [part for k in range(layers) for part in (gc.nn.Linear(16, 16, seed=k), gc.nn.ReLU())]
    model = gc.nn.Sequential(*stack, gc.nn.Linear(16, 10, seed=99))
    loss = gc.nn.cross_entropy(model(x), t)
    return gc.compile([x, t], [loss], gc.optim.SGD(0.1).updates(loss, model.parameters()), backend="numpy")


def test_no_layer_of_a_training_step_stores_what_its_activation_reads(monkeypatch):
    def stored(function):
        big = [buffer for buffer in function.program.buffers if buffer.shape == (32, 16) and buffer.kind == "temporary"]
        return [buffer.name for buffer in big if buffer.name.startswith("add")], function.stats.arena_bytes

    names, arena = stored(mlp(4))
    assert names == []
    monkeypatch.setattr(pipeline, "PIPELINE", tuple(one for one in pipeline.PIPELINE if one is not mask_by_result))
    names, without = stored(mlp(4))
    assert len(names) == 4
    assert arena < 0.75 * without


def unchanged(*tensors):
    graph = until_here(Graph(tuple(tensor.node for tensor in tensors)))
    assert mask_by_result(graph) is graph


def test_what_stays_as_it_is():
    h = X @ W[0]
    unchanged(*gradients(gc.tanh))
    unchanged(*gradients(gc.elu))  # its gradient reads more than the sign
    unchanged(*gradients(lambda h: gc.relu(h) + h))  # x is read otherwise
    unchanged(*gradients(lambda h: gc.leaky_relu(h, -0.1)))  # another sign
    unchanged(gc.sum(gc.relu(h) @ W[1]), gc.sum(h**3))
    unchanged(*gradients(gc.relu), h)  # x is an output, and stored
    unchanged(gc.grad(gc.sum(gc.relu(h)), X))  # nothing stores y: it is computed where it is read
    loss = gc.mean(gc.relu(X) @ W[0])
    unchanged(loss, gc.grad(loss, X))  # x is an input


def test_a_pooled_result_is_not_stored_for_its_sign(monkeypatch):
    x, w = gc.input("x", (2, 1, 8, 8)), gc.param("w", (3, 1, 3, 3), init=0.3)
    loss = gc.mean(gc.max_pool2d(gc.relu(gc.conv2d(x, w)), 2) ** 2)
    with_pass = gc.compile([x], gc.grad(loss, w), backend="numpy")
    monkeypatch.setattr(pipeline, "PIPELINE", tuple(one for one in pipeline.PIPELINE if one is not mask_by_result))
    assert str(gc.compile([x], gc.grad(loss, w), backend="numpy").program) == str(with_pass.program)


def test_a_mask_that_is_computed_before_the_result():
    """The order of nodes follows from what reads what, also where the mask came first."""
    h = X @ W[0]
    mask = gc.where(h <= 0, 0.0, X)
    keeps_meaning(mask_by_result, gc.sum(mask), gc.relu(h) @ W[1])

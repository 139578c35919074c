"""Whole models through gc.compile(..., backend="numpy"), against the interpreter on the graph before all passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc.ir.graph import Graph, specialise
from graphc.ir.interp import interpret
from graphc.ir.node import Node
from graphc.lang.tensor import variables
from tests.backends.numpy.support import run_text

Array = np.ndarray[Any, Any]
Case = tuple[Any, list[Any], list[Array]]  # the loss, the inputs, their values


def numbers(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def mlp(batch: int) -> Case:
    x, t = gc.input("x", ("N", 12)), gc.input("t", ("N",), dtype="int64")
    model = gc.nn.Sequential(gc.nn.Linear(12, 9), gc.nn.ReLU(), gc.nn.Linear(9, 4))
    return gc.nn.cross_entropy(model(x), t), [x, t], [numbers(batch, 12), np.arange(batch) % 4]


def lenet(batch: int) -> Case:
    x, t = gc.input("x", ("N", 1, 8, 8)), gc.input("t", ("N",), dtype="int64")
    model = gc.nn.Sequential(
        gc.nn.Conv2d(1, 3, 5, padding=2), gc.nn.ReLU(), gc.nn.MaxPool2d(2), gc.nn.Conv2d(3, 4, 3, stride=1),
        gc.nn.ReLU(), gc.nn.MaxPool2d(2), gc.nn.Flatten(), gc.nn.Linear(4, 5),
    )  # fmt: skip
    return gc.nn.cross_entropy(model(x), t), [x, t], [numbers(batch, 1, 8, 8), np.arange(batch) % 5]


def strided_convolutions(batch: int) -> Case:
    x = gc.input("x", (batch, 4, 9, 9))
    w1, w2 = gc.param("w1", (6, 2, 3, 3), numbers(6, 2, 3, 3)), gc.param("w2", (3, 6, 2, 3), numbers(3, 6, 2, 3))
    y = gc.tanh(gc.conv2d(x, w1, stride=2, padding=1, groups=2))
    y = gc.conv2d(y, w2, padding=(0, 2), dilation=(1, 2))
    return (y * y).mean() + gc.max_pool2d(y, 3, stride=2, padding=1).sum(), [x], [numbers(batch, 4, 9, 9)]


def normalised(batch: int) -> Case:
    x = gc.input("x", ("N", 7))
    model = gc.nn.Sequential(gc.nn.Linear(7, 8), gc.nn.LayerNorm(8), gc.nn.Linear(8, 3))
    return gc.nn.mse_loss(gc.softmax(model(x), axis=-1), gc.sigmoid(x[:, :3])), [x], [numbers(batch, 7)]


def attention(batch: int) -> Case:
    x = gc.input("x", (batch, 5, 8))
    w = [gc.param(name, (8, 8), numbers(8, 8, seed=k) * np.float32(0.3)) for k, name in enumerate("qkv")]
    q, k, v = (gc.permute_dims(gc.reshape(x @ one, (batch, 5, 2, 4)), (0, 2, 1, 3)) for one in w)
    y = gc.softmax(q @ gc.swapaxes(k, -1, -2) * 0.5, axis=-1) @ v
    return (y * y).sum(), [x], [numbers(batch, 5, 8)]


def embedding(batch: int) -> Case:
    t = gc.input("t", (batch, 3), dtype="int64")
    table = gc.param("table", (6, 4), numbers(6, 4))
    y = gc.cumsum(gc.take(table, t, axis=0), axis=1)
    return gc.logsumexp(y, axis=-1).sum(), [t], [np.arange(batch * 3).reshape(batch, 3) % 6]


CASES: list[Callable[[int], Case]] = [mlp, lenet, strided_convolutions, normalised, attention, embedding]


def reference(step: gc.Function, values: dict[Node, Array], sizes: dict[str, int]) -> Sequence[Array]:
    leaves: dict[Node, Node] = {}
    graph = specialise(step.graph, sizes, leaves) if sizes else step.graph
    return interpret(Graph(graph.outputs), {leaves.get(node, node): value for node, value in values.items()})


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("make", CASES, ids=lambda case: case.__name__)
def test_a_training_step(make: Callable[[int], Case], batch: int) -> None:
    loss, inputs, arrays = make(batch)
    params = [variables[leaf] for leaf in Graph((loss.node,)).inputs if leaf.kind == "param"]
    updates = gc.optim.Adam(lr=0.01).updates(loss, params)
    step = gc.compile(inputs, [loss], updates=updates, backend="numpy", name="train")
    for round_ in range(2):
        before = [variable.value for variable in step._forms.variables]
        values = {tensor.node: array for tensor, array in zip(inputs, arrays, strict=True)}
        values.update({variable.node: value for variable, value in zip(step._forms.variables, before, strict=True)})
        expected = reference(step, values, {"N": batch} if step._forms.dimensions else {})
        copies = [array.copy() for array in (*arrays, *before)]
        (found,) = step(*arrays)
        np.testing.assert_allclose(found, expected[0], rtol=2e-5, atol=1e-6, err_msg=f"round {round_}")
        for target, wanted in zip(step._forms.targets, expected[1:], strict=True):
            # Adam divides by the square root of a gradient's square: near 0 rounding decides the sign of a step
            message = f"{target.name}\n{step.source('numpy')}"
            np.testing.assert_allclose(target.value, wanted, rtol=1e-3, atol=2e-3, err_msg=message)
        (alone,) = run_text(step.source("numpy"), "train", copies)
        np.testing.assert_array_equal(alone, found)
        for variable, copy in zip(step._forms.variables, copies[len(arrays) :], strict=True):
            np.testing.assert_array_equal(variable.value, copy)


@pytest.mark.parametrize("make", CASES, ids=lambda case: case.__name__)
def test_gradients(make: Callable[[int], Case]) -> None:
    loss, inputs, arrays = make(2)
    params = [variables[leaf] for leaf in Graph((loss.node,)).inputs if leaf.kind == "param"]
    run = gc.compile(inputs, gc.grad(loss, params), backend="numpy")
    values = {tensor.node: array for tensor, array in zip(inputs, arrays, strict=True)}
    values.update({variable.node: variable.value for variable in run._forms.variables})
    expected = reference(run, values, {"N": 2} if run._forms.dimensions else {})
    for found, wanted in zip(run(*arrays), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4 * max(1.0, float(np.abs(wanted).max())))


def test_an_index_out_of_range_changes_nothing() -> None:
    loss, inputs, arrays = embedding(2)
    params = [variables[leaf] for leaf in Graph((loss.node,)).inputs if leaf.kind == "param"]
    step = gc.compile(inputs, [loss], updates=gc.optim.SGD(lr=0.1).updates(loss, params), backend="numpy")
    before = params[0].value
    with pytest.raises(gc.GraphcError, match="index 6 is outside an axis of 6"):
        step(arrays[0] + 1)
    np.testing.assert_array_equal(params[0].value, before)

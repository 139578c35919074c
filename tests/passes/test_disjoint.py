"""Sums of padded parts become Joins, where the parts are disjoint and cover the array."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc.backend import available
from graphc.ir.node import Join
from graphc.passes.disjoint import join_parts
from graphc.passes.markers import drop_markers
from graphc.passes.simplify import simplify
from tests.passes.support import keeps_meaning

X = gc.input("x", (4, 12), "float64")
Y = gc.input("y", (4, 12), "float64")


def joined(loss, *more, wrt=X):
    """The joins of a gradient, after the passes that come before."""
    graph = keeps_meaning(lambda g: join_parts(simplify(drop_markers(g))), gc.grad(loss, wrt), *more, rtol=1e-14)
    return [node for node in graph.nodes if isinstance(node, Join)]


def test_the_gradient_of_a_split():
    a, b, c = gc.split(X, 3, axis=1)
    (join,) = joined(gc.sum(gc.sin(a) * gc.exp(b) + gc.tanh(c)))
    assert len(join.parts) == 3 and join.shape == (4, 12)


def test_the_gradient_of_slices_of_other_sizes_and_of_whole_rows():
    assert len(joined(gc.sum(gc.sin(X[:, :5])) + gc.sum(X[:, 5:] ** 2))[0].parts) == 2
    assert len(joined(gc.sum(gc.stack([gc.sin(X[row]) * X[row] for row in range(4)])))[0].parts) == 4


def test_boxes_that_meet_in_two_axes():
    corners = X[:2, :6], X[:2, 6:], X[2:, :6], X[2:, 6:]
    (join,) = joined(sum(gc.sum(gc.sin(n * corner)) for n, corner in enumerate(corners, 1)))
    assert len(join.parts) == 4


def test_one_array_besides_is_added_to_the_whole():
    a, b = gc.split(X, 2, axis=1)
    assert len(joined(gc.sum(gc.sin(a) * b) + gc.sum(gc.exp(X) * Y))) == 1


def test_a_part_that_others_read_stays():
    a, b = gc.split(X, 2, axis=1)
    gradient = gc.grad(gc.sum(gc.sin(a)), X)  # 0 but for a half
    total = gradient + gc.grad(gc.sum(gc.exp(b)), X)
    keeps_meaning(lambda g: join_parts(simplify(g)), total, gradient * 2, rtol=1e-14)
    graph = keeps_meaning(lambda g: join_parts(simplify(g)), total, gradient, rtol=1e-14)
    assert not [node for node in graph.nodes if isinstance(node, Join)]


@pytest.mark.parametrize(
    "loss",
    [
        lambda: gc.sum(gc.sin(X[:, :5])) + gc.sum(X[:, 6:] ** 2),
        lambda: gc.sum(gc.sin(X[:, :7])) + gc.sum(X[:, 6:] ** 2),
        lambda: gc.sum(gc.sin(X[:, ::2])) + gc.sum(X[:, 1::2] ** 2),
        lambda: gc.sum(gc.sin(X[:, :6])) + gc.sum(X[:, 6:] ** 2) + gc.sum(X**3) + gc.sum(gc.exp(X) * Y),
    ],
    ids=["a gap", "an overlap", "strides", "two arrays besides"],
)
def test_what_does_not_fit_stays(loss):
    assert not [join for join in joined(loss()) if len(join.parts) == 2]


@pytest.mark.parametrize("backend", available())
def test_the_gates_of_a_cell_are_computed_once_each(backend):
    x, w = gc.input("x", (3, 8)), gc.param("w", (8, 16), init=gc.init.normal(seed=0))
    i, f, g, o = gc.split(x @ w, 4, axis=1)
    loss = gc.sum(gc.sigmoid(o) * gc.tanh(gc.sigmoid(f) + gc.sigmoid(i) * gc.tanh(g)))
    step = gc.compile([x], gc.grad(loss, w), backend=backend)
    parts = [stage for stage in step.program.stages() if stage.node.shape == (3, 16) and stage.node.domain == (3, 4)]
    assert len(parts) == 4
    at = np.random.default_rng(0).normal(size=(3, 8)).astype("float32")

    def value(weights):
        i, f, g, o = np.split(at.astype("float64") @ weights, 4, axis=1)
        i, f, o = (1 / (1 + np.exp(-one)) for one in (i, f, o))
        return (o * np.tanh(f + i * np.tanh(g))).sum()

    np.testing.assert_allclose(step(at), gc.finite_difference(value, w.value), rtol=2e-5, atol=2e-6)

"""Algebra on graphs: each kind of thing that is read through, and what may not be."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc.ir import scalar as sc
from graphc.ir.graph import Graph
from graphc.ir.node import Const, Generic, Input, View
from graphc.passes.markers import drop_markers
from graphc.passes.simplify import simplify
from graphc.rules.simplify import simplify_outputs
from tests.passes.support import keeps_meaning

X = gc.input("x", (3, 4), "float64")
V = gc.input("v", (4,), "float64")


def computed(graph):
    return [node for node in graph.nodes if not isinstance(node, (Input, Const, View))]


@pytest.mark.parametrize(
    ("tensor", "count"),
    [
        (gc.exp(X.T), 1),
        (gc.exp(X[::-1, 1:]), 1),
        (gc.exp(gc.broadcast_to(V, (3, 4)) + X), 2),
        (X.T @ X[:, ::-1], 1),
        (gc.sum(X[:, None, :], 2), 1),
        (X + gc.ones((3, 4), "float64"), 1),
        (X * gc.arange(4).astype("float64"), 1),
        (X + gc.constant(np.array([2.0])), 1),
        (X.T.T, 0),
        (X[::-1][::-1], 0),
        (X[:, None].reshape(3, 4), 0),
    ],
    ids=[
        "transpose", "slice", "stretch", "matmul", "unit axis", "fill", "arange", "constant", "twice", "flips", "view",
    ],
)  # fmt: skip
def test_what_is_read_through(tensor, count):
    graph = keeps_meaning(simplify, tensor)
    assert len(computed(graph)) == count, str(graph)


def test_a_padded_array_is_not_read_through_at_its_border():
    x = gc.input("x", (1, 1, 4), "float64")
    for inner in (gc.exp(x), x[..., ::-1], gc.pad(x, 1)[:1, :1], gc.ones(x.shape, "float64")):
        keeps_meaning(simplify, gc.conv1d(inner, gc.ones((1, 1, 3), "float64"), padding=1))


def test_a_sum_over_an_identity_matrix_is_a_read():
    graph = keeps_meaning(simplify, gc.eye(3, "float64") @ X)
    keeps_meaning(lambda g: Graph(tuple(simplify_outputs(g.outputs))), gc.eye(3, "float64") @ X)
    assert len(graph.nodes) <= 3


def test_the_jacobian_of_an_elementwise_op_is_diagonal():
    jacobian = gc.jacobian(gc.sin(V), V)
    assert all(node.reducer is None for node in Graph((jacobian.node,)).nodes if isinstance(node, Generic))
    value = np.arange(4.0)
    np.testing.assert_allclose(gc.evaluate(jacobian, {V: value}), np.diag(np.cos(value)))


def test_a_sum_over_an_unused_axis_is_a_product():
    graph = keeps_meaning(simplify, gc.sum(gc.broadcast_to(V, (3, 4)), 0))
    assert [node.reducer for node in computed(graph)] == [None]


def test_a_sum_over_a_unit_axis_goes():
    x = gc.input("x", (3, 1, 4), "float64")
    for reduce in (gc.sum, gc.max, gc.prod):
        (node,) = computed(keeps_meaning(simplify, gc.exp(reduce(x, 1))))[-1:]
        assert node.reducer is None


def test_an_argmax_over_a_unit_axis_is_zero():
    keeps_meaning(simplify, gc.argmax(gc.input("x", (3, 1), "float64"), 1))


def test_a_copy_that_adds_a_unit_axis_is_a_view():
    (node,) = simplify(Graph((X.T[:, None, :].reshape(4, 1, 3).T.node,))).outputs
    graph = keeps_meaning(simplify, gc.broadcast_to(V[None], (1, 4)) * 1)
    assert isinstance(graph.outputs[0], View) and graph.outputs[0].operand is V.node
    assert node.shape == (3, 1, 4)


def test_nan_and_infinity_are_not_assumed_absent():
    value = np.array([np.nan, np.inf, 0.0, -0.0])
    graph = keeps_meaning(simplify, V * 0, V - V, V / V, 0 * gc.exp(V), values={V.node: value})
    assert len(computed(graph)) >= 4


def test_markers_are_gone():
    custom = gc.custom_vjp(lambda x: gc.exp(x), lambda g, y, x: [g])
    graph = keeps_meaning(drop_markers, gc.stop_gradient(X) * 2, custom(X))
    assert all(getattr(node, "op", None) not in ("stop_gradient", "custom_vjp") for node in graph.nodes)
    assert graph.outputs[1] is gc.exp(X).node


def test_simplifying_twice_changes_nothing():
    loss = gc.sum(gc.softmax(X @ X.T) ** 2)
    once = simplify(Graph((loss.node, gc.grad(loss, X).node)))
    twice = simplify(once)
    assert twice.outputs == simplify(twice).outputs
    assert all(not (isinstance(n, Generic) and isinstance(n.body, sc.Literal) and n.operands) for n in twice.nodes)

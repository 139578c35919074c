"""Ops written as one: the table's equations say what the graph computes, and only then are they used."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc.ir.graph import Graph
from graphc.render.equations.derive import equations_of
from graphc.render.equations.known import TABLE, calls_of
from graphc.render.equations.text import text_of
from graphc.render.gradients import gradients_of

LABELS = np.array([2, 0, 1])


def text(loss: gc.Tensor) -> str:
    gradients = gradients_of([loss.node])
    return text_of(equations_of(gradients.graph, gradients))


@pytest.mark.parametrize("name", TABLE)
def test_the_functions_of_each_row_are_those_of_the_graph(name: str) -> None:
    """Evaluated by the compiled graph, and by differences of the row's own function."""
    rng = np.random.default_rng(1)
    x = gc.input("x", (3, 4), dtype="float64")
    t = gc.input("t", (3,), dtype="int64")
    row = TABLE[name]
    is_loss = row.operands == "fi"
    value = gc.nn.cross_entropy(x, t) if is_loss else getattr(gc, name)(x, axis=1)
    given, upstream = rng.standard_normal((3, 4)), rng.standard_normal(() if is_loss else (3, 4))
    arrays = [given, LABELS] if is_loss else [given]
    (gradient,) = gc.grad(gc.sum(value * upstream), [x])
    feed = {x: given, t: LABELS} if is_loss else {x: given}
    np.testing.assert_allclose(row.value(arrays), gc.evaluate(value, feed), rtol=1e-12)
    np.testing.assert_allclose(row.slope(arrays, upstream), gc.evaluate(gradient, feed), rtol=1e-9, atol=1e-12)
    for at in np.ndindex(3, 4):
        step = np.zeros((3, 4))
        step[at] = 1e-6
        ends = [float(np.sum(row.value([given + sign * step, *arrays[1:]]) * upstream)) for sign in (1, -1)]
        assert abs((ends[0] - ends[1]) / 2e-6 - row.slope(arrays, upstream)[at]) < 1e-8


def test_cross_entropy_is_one_equation() -> None:
    x, t = gc.input("x", ("N", 4)), gc.input("t", ("N",), dtype="int64")
    z = (2 * x).named("z")
    found = text(gc.nn.cross_entropy(z, t).named("L"))
    assert "L = cross_entropy(z, t)" in found and "delta_z = 1 / N * (softmax(z) - onehot(t))" in found


def test_softmax_is_one_equation() -> None:
    x, y = gc.input("x", ("N", 4)), gc.input("y", ("N", 4))
    s = gc.softmax(x, axis=1).named("s")
    found = text(gc.sum(s * y).named("L"))
    assert "s = softmax(x)" in found and "dL/dx = (delta_s - sum(delta_s * s, axis=1)[:, None]) * s" in found


@pytest.mark.parametrize("options", [{"reduction": "sum"}, {"label_smoothing": 0.1}])
def test_a_call_whose_options_the_table_does_not_have_is_written_out(options: dict[str, object]) -> None:
    x, t = gc.input("x", ("N", 4)), gc.input("t", ("N",), dtype="int64")
    found = text(gc.nn.cross_entropy(x, t, **options))
    assert "cross_entropy(" not in found and "exp(" in found


def test_softmax_along_another_axis_is_written_out() -> None:
    x = gc.input("x", (3, 4))
    assert "softmax(" not in text(gc.sum(gc.softmax(x, axis=0) ** 2))


def test_what_others_read_besides_is_written_out() -> None:
    x, t = gc.input("x", ("N", 4)), gc.input("t", ("N",), dtype="int64")
    z = (2 * x).named("z")
    assert "cross_entropy(" not in text(gc.nn.cross_entropy(z, t) + gc.sum(z))


def test_large_calls_are_not_tried() -> None:
    x = gc.input("x", (200, 1000))
    assert list(calls_of(Graph((gc.softmax(x, axis=1).node,)))) == []

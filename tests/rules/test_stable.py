"""Stability rewrites: each row by the failure that it prevents."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest

import graphc as gc
from graphc.ir.graph import Graph
from graphc.ir.interp import interpret
from graphc.ir.node import Generic, Opaque
from graphc.passes.pipeline import run_passes
from graphc.rules.stable import RULES, SUM_RULES

mpmath.mp.dps = 60
M = mpmath


def value(tensor, leaf, at, stable=True):
    """A tensor's value in float32 as it is written, or after all passes."""
    graph = Graph((tensor.node,))
    if stable:
        graph = run_passes(graph, check=True)
    return interpret(graph, {leaf.node: np.asarray(at, dtype=np.float32)})[0]


# row: (as a user writes it, the same in mpmath, points where the naive form fails, points where it does not)
CASES = {
    "log of exp": (lambda x: gc.log(gc.exp(x)), lambda x: x, [200, -200], [0.5]),
    "log1p": (lambda x: gc.log(1 + x), lambda x: M.log(1 + x), [1e-9, -1e-10], [2, 0.5]),
    "softplus": (lambda x: gc.log(1 + gc.exp(x)), lambda x: M.log(1 + M.exp(x)), [1000, 100, -30], [1, -2]),
    "expm1": (lambda x: gc.exp(x) - 1, lambda x: M.expm1(x), [1e-9, -1e-10], [1, -2]),
    "expm1 added": (lambda x: gc.exp(x) + -1, lambda x: M.expm1(x), [1e-9, -1e-10], [1, -2]),
    "sigmoid": (lambda x: 1 / (1 + gc.exp(-x)), lambda x: 1 / (1 + M.exp(-x)), [], [1, -2, -80, 100]),
    "sigmoid of negated": (lambda x: 1 / (1 + gc.exp(x)), lambda x: 1 / (1 + M.exp(x)), [], [1, -2, 80, -100]),
    "sigmoid as quotient": (
        lambda x: gc.exp(x) / (1 + gc.exp(x)), lambda x: M.exp(x) / (1 + M.exp(x)), [100, 500], [1, -2]
    ),
    "log of sigmoid": (lambda x: gc.log(gc.sigmoid(x)), lambda x: -M.log(1 + M.exp(-x)), [-200, -110, 20], [1, -2]),
    "complement of sigmoid": (lambda x: 1 - gc.sigmoid(x), lambda x: 1 / (1 + M.exp(x)), [20, 30], [1, -2]),
    "log of quotient of exp": (
        lambda x: gc.log(gc.exp(x) / (3 + x * x)), lambda x: x - M.log(3 + x * x), [-200, 100], [1, -2]
    ),
    "root of square": (lambda x: gc.sqrt(x * x), lambda x: abs(x), [1e30, -1e-30], [2, -0.5]),
    "x by root of square plus number": (
        lambda x: x / gc.sqrt(x * x + 1e-5), lambda x: x / M.sqrt(x * x + 1e-5), [1e30, -1e25], [2, -0.5, 0, 1e-4]
    ),
}  # fmt: skip


def relative_error(found, exact):
    return abs(float((M.mpf(float(found)) - exact) / exact)) if exact else abs(float(found))


def test_every_row_has_a_case():
    assert {rule.name for rule in RULES} == set(CASES)
    assert {reason.name for reason in SUM_RULES} == {"log-sum-exp", "variance"}


@pytest.mark.parametrize("name", CASES)
def test_row(name):
    build, exact, failing, fine = CASES[name]
    x = gc.input("x", ())
    y = build(x)
    for at in failing:
        want = exact(M.mpf(float(np.float32(at))))
        naive = value(y, x, at, stable=False)
        assert not math.isfinite(naive) or relative_error(naive, want) > 1e-3, f"nothing fails at {at}"
        assert relative_error(value(y, x, at), want) < 1e-6, at
    for at in fine:
        want = exact(M.mpf(float(np.float32(at))))
        assert relative_error(value(y, x, at), want) < 1e-6, at


# The derivative as graphc gives it, at points where the derivative of the naive form is nan, inf or 0.
SLOPES = {
    "log of exp": (lambda x: gc.log(gc.exp(x)), lambda x: 1, [200, -200]),
    "softplus": (lambda x: gc.log(1 + gc.exp(x)), lambda x: 1 / (1 + M.exp(-x)), [1000, 100, -80, 0]),
    "sigmoid": (lambda x: 1 / (1 + gc.exp(-x)), lambda x: M.exp(-x) / (1 + M.exp(-x)) ** 2, [-50, -80, 2]),
    "sigmoid as quotient": (
        lambda x: gc.exp(x) / (1 + gc.exp(x)), lambda x: M.exp(-x) / (1 + M.exp(-x)) ** 2, [-50, -80, 2]
    ),
    "log of sigmoid": (lambda x: gc.log(gc.sigmoid(x)), lambda x: 1 / (1 + M.exp(x)), [-200, -110, 2, 20]),
    "log of quotient of exp": (
        lambda x: gc.log(gc.exp(x) / (3 + x * x)), lambda x: 1 - 2 * x / (3 + x * x), [-200, 99]
    ),
    "root of square": (lambda x: gc.sqrt(x * x), lambda x: M.sign(x), [1e30, -1e-30, 0]),
}  # fmt: skip


@pytest.mark.parametrize("name", SLOPES)
def test_derivative(name):
    build, exact, points = SLOPES[name]
    x = gc.input("x", ())
    slope = gc.grad(build(x), x)
    for at in points:
        assert relative_error(value(slope, x, at), exact(M.mpf(float(np.float32(at))))) < 1e-5, at


def test_the_derivative_of_softplus_at_a_thousand_is_one():
    x = gc.input("x", ())
    assert value(gc.grad(gc.log(1 + gc.exp(x)), x), x, 1000) == 1
    assert value(gc.grad(gc.log(1 + gc.exp(x)), x), x, -1000) == 0


@pytest.mark.parametrize("form", ["logits", "probabilities"])
def test_binary_cross_entropy_is_finite_with_a_finite_gradient(form):
    x = gc.input("x", (4,))
    p = gc.sigmoid(x) if form == "logits" else 1 / (1 + gc.exp(-x))
    loss = -gc.sum(gc.log(p) + gc.log(1 - p))
    at = [-200.0, 200.0, 0.0, 15.0]
    exact = sum(np.logaddexp(0, v) + np.logaddexp(0, -v) for v in at)
    assert value(loss, x, at) == pytest.approx(exact, rel=1e-6)
    np.testing.assert_allclose(value(gc.grad(loss, x), x, at), np.tanh(np.array(at) / 2), rtol=1e-5, atol=1e-7)


LOGITS = np.array([[1000.0, 999.0, -1000.0], [-200.0, -201.0, -202.0]], np.float32)


def exact_log_softmax(z):
    z = z.astype(np.float64)
    return z - z.max(1, keepdims=True) - np.log(np.exp(z - z.max(1, keepdims=True)).sum(1, keepdims=True))


def test_log_sum_exp():
    x = gc.input("x", (2, 3))
    y = gc.log(gc.sum(gc.exp(x), axis=1))
    naive = value(y, x, LOGITS, stable=False)
    assert not np.isfinite(naive).any()
    exact = LOGITS[:, 0] - exact_log_softmax(LOGITS)[:, 0]
    np.testing.assert_allclose(value(y, x, LOGITS), exact, rtol=1e-6)
    np.testing.assert_allclose(
        value(gc.grad(gc.sum(y), x), x, LOGITS), np.exp(exact_log_softmax(LOGITS)), rtol=1e-5, atol=1e-7
    )


@pytest.mark.parametrize("scale", [-3.0, 0.5])
def test_log_sum_exp_of_what_is_computed(scale):
    x = gc.input("x", (2, 3))
    y = gc.log(gc.sum(gc.exp(scale * x + 1), axis=1))
    z = (scale * LOGITS + 1).astype(np.float64)
    exact = z.max(1) + np.log(np.exp(z - z.max(1, keepdims=True)).sum(1))
    np.testing.assert_allclose(value(y, x, LOGITS), exact, rtol=1e-6)


def test_log_sum_exp_of_infinities():
    x = gc.input("x", (3, 2))
    y = gc.log(gc.sum(gc.exp(x), axis=1))
    inf = np.inf
    got = value(y, x, [[-inf, -inf], [inf, 1], [-inf, 2]])
    np.testing.assert_array_equal(got, [-inf, inf, 2])
    assert np.isnan(value(y, x, [[np.nan, 1], [1, 1], [1, 1]])[0])


def test_a_sum_that_is_shifted_already_is_not_shifted_again():
    x = gc.input("x", (2, 3))
    graph = run_passes(Graph((gc.log_softmax(x).node, gc.logsumexp(x, axis=1).node)))
    assert sum(1 for node in graph.nodes if isinstance(node, Generic) and node.reducer == "max") == 1


def test_log_of_a_softmax_spelt_out():
    x = gc.input("x", (2, 3))
    e = gc.exp(x)
    y = gc.log(e / gc.sum(e, axis=1, keepdims=True))
    assert not np.isfinite(value(y, x, LOGITS, stable=False)).any()
    np.testing.assert_allclose(value(y, x, LOGITS), exact_log_softmax(LOGITS), atol=1000 * 1e-7)
    loss = -gc.sum(y[:, 0])
    expected = np.exp(exact_log_softmax(LOGITS)) - [1, 0, 0]
    np.testing.assert_allclose(value(gc.grad(loss, x), x, LOGITS), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("keepdims", [False, True])
def test_variance(keepdims):
    x = gc.input("x", (2, 400))
    y = gc.mean(x * x, axis=1, keepdims=keepdims) - gc.mean(x, axis=1, keepdims=keepdims) ** 2
    data = (np.random.default_rng(0).normal(size=(2, 400)) + 1e4).astype(np.float32)
    exact = data.astype(np.float64).var(1, keepdims=keepdims)
    naive = value(y, x, data, stable=False)
    assert (abs(naive - exact) > 0.1 * exact).any()
    np.testing.assert_allclose(value(y, x, data), exact, rtol=1e-5)


def test_a_difference_of_unrelated_means_is_left_alone():
    x, other = gc.input("x", (4,), "float64"), gc.input("other", (4,), "float64")
    y = gc.mean(x * x) - gc.mean(other) ** 2
    values = {x.node: np.arange(4.0), other.node: np.ones(4)}
    assert interpret(run_passes(Graph((y.node,))), values)[0] == 3.5 - 1


def test_rows_match_over_several_lines_of_the_user():
    x = gc.input("x", ())
    e = gc.exp(-x)
    below = 1 + e
    s = 1 / below
    ops = {part.op for node in run_passes(Graph((s.node,))).nodes if isinstance(node, Generic) for part in [node.body]}
    assert ops == {"sigmoid"}


def test_what_the_user_asked_the_gradient_of_is_kept():
    x = gc.input("x", ())
    e = gc.exp(x)
    slope = gc.grad(gc.log(1 + e), e)
    assert value(slope, x, 1.0) == pytest.approx(1 / (1 + math.e), rel=1e-6)


def test_no_marker_is_left_for_a_backend():
    x = gc.input("x", (2, 3))
    graph = run_passes(Graph((gc.log(gc.sum(gc.exp(x), axis=1)).node,)))
    assert not any(isinstance(node, Opaque) for node in graph.nodes)

"""Adjoints of scalar bodies against central differences."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from graphc.ir import scalar as sc
from graphc.rules.derivative import adjoints
from tests.rules.scalars import central_difference, evaluate

X, Y = sc.Arg(0, "float64"), sc.Arg(1, "float64")


def number(value):
    return sc.literal(value, "float64")


ONE = number(1)


def bounded(body):
    """A body of values between 1 and 2, smooth: 1 + sigmoid."""
    return sc.apply("add", ONE, sc.apply("sigmoid", body))


def smooth_bodies() -> st.SearchStrategy[sc.Scalar]:
    leaves = st.one_of(st.sampled_from([X, Y]), st.sampled_from([-1.5, 0.5, 2.0]).map(number))

    def grow(inner):
        unary = st.sampled_from(["sin", "cos", "tanh", "sigmoid", "softplus", "erf", "neg"])
        positive = st.sampled_from(["log", "log1p", "sqrt", "rsqrt", "exp", "expm1"])
        binary = st.sampled_from(["add", "sub", "mul"])
        quotient = st.sampled_from(["div", "atan2"])
        return st.one_of(
            st.builds(lambda op, a: sc.apply(op, a), unary, inner),
            st.builds(lambda op, a: sc.apply(op, bounded(a)), positive, inner),
            st.builds(lambda op, a, b: sc.apply(op, a, b), binary, inner, inner),
            st.builds(lambda op, a, b: sc.apply(op, a, bounded(b)), quotient, inner, inner),
            st.builds(lambda a, b: sc.apply("pow", bounded(a), sc.apply("tanh", b)), inner, inner),
        )

    return st.recursive(leaves, grow, max_leaves=8)


@given(smooth_bodies())
def test_adjoints_agree_with_central_differences(body):
    random = np.random.default_rng(3)
    values = [random.uniform(-1.5, 1.5, 5), random.uniform(-1.5, 1.5, 5)]
    found = adjoints(body, ONE, {0, 1})
    for position in (0, 1):
        expected = central_difference(body, values, position, 1e-4)
        got = evaluate(found[position], *values) if position in found else np.zeros(5)
        scale = 1 + np.abs(expected).max() + np.abs(evaluate(body, *values)).max()
        np.testing.assert_allclose(np.broadcast_to(got, 5), expected, atol=1e-7 * scale)


def test_only_wanted_operands_are_answered():
    body = sc.apply("mul", X, Y)
    assert adjoints(body, ONE, {1}) == {1: X}
    assert adjoints(body, ONE, {}) == {}


def test_seed_multiplies():
    seed = sc.Arg(2, "float64")
    assert adjoints(sc.apply("mul", X, Y), seed, {0}) == {0: sc.apply("mul", seed, Y)}


def test_shared_terms_add_up():
    e = sc.apply("exp", X)
    (slope,) = adjoints(sc.apply("mul", e, e), ONE, {0}).values()
    x = np.array([0.0, 1.0])
    np.testing.assert_allclose(evaluate(slope, x), 2 * np.exp(2 * x), rtol=1e-12)


def positive(x):
    return sc.apply("lt", number(0), x)


@pytest.mark.parametrize("op", ["log", "sqrt", "rsqrt"])
def test_a_masked_branch_gives_zero_and_not_nan(op):
    body = sc.apply("select", positive(X), sc.apply(op, X), number(0))
    slope = adjoints(body, ONE, {0})[0]
    got = evaluate(slope, np.array([-1.0, 0.0, 2.0]))
    assert got[0] == got[1] == 0
    assert np.isfinite(got[2]) and got[2] != 0


def test_a_masked_quotient_of_two_operands():
    body = sc.apply("select", positive(Y), sc.apply("div", X, Y), X)
    slopes = adjoints(body, ONE, {0, 1})
    x, y = np.array([0.0, 3.0]), np.array([0.0, 2.0])
    np.testing.assert_array_equal(evaluate(slopes[0], x, y), [1.0, 0.5])
    np.testing.assert_array_equal(evaluate(slopes[1], x, y), [0.0, -0.75])


def test_masks_nest():
    inner = sc.apply("select", sc.apply("lt", X, number(2)), sc.apply("log", X), number(7))
    body = sc.apply("select", positive(X), inner, number(0))
    got = evaluate(adjoints(body, ONE, {0})[0], np.array([-1.0, 0.0, 1.0, 3.0]))
    np.testing.assert_array_equal(got, [0, 0, 1, 0])


def test_a_value_inside_and_outside_a_mask():
    log = sc.apply("log", X)
    body = sc.apply("add", sc.apply("select", positive(Y), log, number(0)), log)
    got = evaluate(adjoints(body, ONE, {0})[0], np.array([2.0, 2.0]), np.array([-1.0, 1.0]))
    np.testing.assert_array_equal(got, [0.5, 1.0])


def test_relu_at_zero_is_flat():
    body = sc.apply("select", positive(X), X, number(0))
    np.testing.assert_array_equal(evaluate(adjoints(body, ONE, {0})[0], np.array([-1.0, 0.0, 1.0])), [0, 0, 1])


@pytest.mark.parametrize("op", ["eq", "lt", "le"])
def test_comparisons_are_flat(op):
    body = sc.cast(sc.apply(op, X, Y), "float64")
    assert adjoints(body, ONE, {0, 1}) == {}


def test_casts_between_floats_carry_the_adjoint():
    x = sc.Arg(0, "float32")
    slope = adjoints(sc.apply("sin", sc.cast(x, "float64")), ONE, {0})[0]
    assert slope.dtype == "float32"
    got = evaluate(slope, np.array([0.5], "float32"))
    np.testing.assert_allclose(got, np.cos(np.float32(0.5)), rtol=1e-6)


def test_casts_to_integers_are_flat():
    body = sc.cast(sc.cast(X, "int64"), "float64")
    assert adjoints(body, ONE, {0}) == {}

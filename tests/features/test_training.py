"""Section E, where the tests of optimisers and of training do not show a row on every backend: trainings whose end is
known in closed form."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc.backend import available

RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(12, 4)), RNG.normal(size=12)
D = "float64"


@pytest.fixture(params=available())
def backend(request):
    return request.param


def least_squares(w, rows=A, targets=B):
    return gc.nn.squared_error(gc.constant(rows) @ w, gc.constant(targets))


@pytest.mark.feature("E.gradient_descent")
def test_gradient_descent_follows_its_closed_form(backend):
    """w_k - w* = (1 - rate H)^k (w_0 - w*) for a quadratic loss with Hessian H."""
    start, rate = RNG.normal(size=4), 0.02
    w = gc.param("w", (4,), init=start, dtype=D)
    loss = least_squares(w)
    step = gc.compile([], loss, gc.optim.SGD(rate, dtype=D).updates(loss, [w]), backend=backend)
    best, shrink = np.linalg.lstsq(A, B)[0], np.eye(4) - rate * A.T @ A
    for k in range(1, 31):
        step()
        np.testing.assert_allclose(w.value, best + np.linalg.matrix_power(shrink, k) @ (start - best), rtol=1e-10)


@pytest.mark.feature("E.sgd", "E.minibatches")
def test_each_step_sees_its_own_rows_alone(backend):
    w = gc.param("w", (4,), init=np.zeros(4), dtype=D)
    x, t = gc.input("x", ("N", 4), D), gc.input("t", ("N",), D)
    loss = gc.nn.squared_error(x @ w, t)
    step = gc.compile([x, t], loss, gc.optim.SGD(0.05, dtype=D).updates(loss, [w]), backend=backend)
    expected = np.zeros(4)
    for epoch in range(3):
        for rows, targets in gc.data.batches(A, B, 5, seed=1, epoch=epoch):
            step(rows, targets)
            expected = expected - 0.05 * rows.T @ (rows @ expected - targets)
            np.testing.assert_allclose(w.value, expected, rtol=1e-12)


@pytest.mark.feature("E.minibatches")
def test_an_epoch_draws_each_row_once_and_in_another_order(backend):
    """Each row is a unit vector and the loss is x.w: the weights count how often each row came, and, where the rate
    halves from step to step, when it came."""

    def after(epochs, schedule):
        model = gc.nn.Linear(7, 1, bias=False)
        model.weight.value = np.zeros((1, 7))
        optimiser = gc.optim.SGD(1.0, schedule=schedule)
        given = {"optimiser": optimiser, "epochs": epochs, "batch_size": 3, "seed": 4, "backend": backend}
        gc.fit(model, gc.sum, np.eye(7, dtype="float32"), **given)
        return -model.weight.value[0]

    assert (after(1, None) == 1).all() and (after(4, None) == 4).all()
    first, both = (after(epochs, gc.optim.ExponentialLR(0.5)) for epochs in (1, 2))
    assert sorted(first) == [0.25, 0.5, 0.5, 0.5, 1, 1, 1]
    assert sorted(both - first) == [2**-5, *[2**-4] * 3, *[2**-3] * 3]
    assert not np.array_equal(first, 8 * (both - first)), "shuffled anew"


@pytest.mark.feature("E.l1")
def test_an_l1_penalty_ends_at_the_soft_threshold(backend):
    """argmin |w - a|^2 / 2 + lambda |w| is sign(a) max(|a| - lambda, 0); near 0 a step leaps over the bend."""
    a, weight, rate = np.array([1.5, -0.9, 0.2, -0.1, 0.0]), 0.3, 1e-3
    w = gc.param("w", (5,), init=np.ones(5), dtype=D)
    loss = gc.nn.squared_error(w, gc.constant(a)) + gc.nn.l1_penalty([w], weight)
    step = gc.compile([], loss, gc.optim.SGD(rate, dtype=D).updates(loss, [w]), backend=backend)
    for _ in range(12_000):
        step()
    np.testing.assert_allclose(w.value, np.sign(a) * np.maximum(np.abs(a) - weight, 0), atol=rate * (weight + 0.2))


@pytest.mark.feature("E.weight_decay", "B.l2_penalty")
def test_weight_decay_and_an_l2_penalty_end_at_ridge_regression(backend):
    decay, best = 0.7, np.linalg.solve(A.T @ A + 0.7 * np.eye(4), A.T @ B)
    for penalty, option in ((0.0, decay), (decay / 2, 0.0)):
        w = gc.param("w", (4,), init=np.zeros(4), dtype=D)
        loss = least_squares(w) + gc.nn.l2_penalty([w], penalty)
        updates = gc.optim.SGD(0.03, weight_decay=option, dtype=D).updates(loss, [w])
        step = gc.compile([], loss, updates, backend=backend)
        for _ in range(600):
            step()
        np.testing.assert_allclose(w.value, best, rtol=1e-9)


@pytest.mark.parametrize(
    "option, moved",
    [
        pytest.param("clip_norm", [0.6, 0.8, 0], marks=pytest.mark.feature("E.clip_norm")),
        pytest.param("clip_value", [1.0, 1.0, 0], marks=pytest.mark.feature("E.clip_value")),
    ],
)
def test_a_steep_slope_moves_no_further_than_its_limit(option, moved, backend):
    w = gc.param("w", (3,), init=np.zeros(3), dtype=D)
    loss = gc.sum(gc.constant(np.array([-30.0, -40.0, 0.0])) * w)
    updates = gc.optim.SGD(1.0, dtype=D, **{option: 1.0}).updates(loss, [w])
    gc.compile([], loss, updates, backend=backend)()
    np.testing.assert_allclose(w.value, moved, rtol=1e-6)

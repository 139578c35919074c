"""Optimisers against PyTorch's formulas written in NumPy, step by step; their states; their errors."""

from __future__ import annotations

import math

import numpy as np
import pytest

import graphc as gc
from graphc.errors import ArgumentError, ArgumentTypeError, GradientError, ShapeError
from graphc.ir.graph import Graph
from graphc.ir.verify import verify
from tests.features.rows import shows

RNG = np.random.default_rng(0)
A = RNG.normal(size=(5, 3))
START = RNG.normal(size=3)


# --- The formulas of PyTorch's documentation, in float64 --------------------------------------------------------------


def sgd(lr=1e-3, momentum=0.0, nesterov=False, weight_decay=0.0, dampening=0.0):
    buffer = None

    def step(p, g):
        nonlocal buffer
        g = g + weight_decay * p
        if momentum:
            buffer = g if buffer is None else momentum * buffer + (1 - dampening) * g
            g = g + momentum * buffer if nesterov else buffer
        return p - lr * g

    return step


def adam(lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, decoupled=False):
    t, m, v = 0, 0.0, 0.0

    def step(p, g):
        nonlocal t, m, v
        t += 1
        if decoupled:
            p = p - lr * weight_decay * p
        else:
            g = g + weight_decay * p
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g * g
        return p - lr * (m / (1 - betas[0] ** t)) / (np.sqrt(v / (1 - betas[1] ** t)) + eps)

    return step


def adamw(weight_decay=1e-2, **options):
    return adam(weight_decay=weight_decay, decoupled=True, **options)


def rmsprop(lr=1e-2, alpha=0.99, eps=1e-8, weight_decay=0.0, momentum=0.0, centered=False):
    v, a, buffer = 0.0, 0.0, 0.0

    def step(p, g):
        nonlocal v, a, buffer
        g = g + weight_decay * p
        v = alpha * v + (1 - alpha) * g * g
        a = alpha * a + (1 - alpha) * g
        buffer = momentum * buffer + g / (np.sqrt(v - a * a if centered else v) + eps)
        return p - lr * buffer

    return step


CASES = [
    (gc.optim.SGD, sgd, {"lr": 0.05}),
    (gc.optim.SGD, sgd, {"lr": 0.05, "weight_decay": 0.1}),
    (gc.optim.SGD, sgd, {"lr": 0.05, "momentum": 0.9}),
    (gc.optim.SGD, sgd, {"lr": 0.05, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1}),
    (gc.optim.SGD, sgd, {"lr": 0.05, "momentum": 0.9, "nesterov": True}),
    (gc.optim.Adam, adam, {}),
    (gc.optim.Adam, adam, {"lr": 0.1, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.1}),
    (gc.optim.Adam, adam, {"lr": 0.1, "betas": (0.0, 0.9)}),
    (gc.optim.AdamW, adamw, {"lr": 0.1}),
    (gc.optim.AdamW, adamw, {"lr": 0.1, "weight_decay": 0.0}),
    (gc.optim.RMSprop, rmsprop, {}),
    (gc.optim.RMSprop, rmsprop, {"lr": 0.1, "alpha": 0.9, "weight_decay": 0.1, "momentum": 0.8, "centered": True}),
]
ROWS = {gc.optim.SGD: "E.sgd", gc.optim.Adam: "E.adam", gc.optim.AdamW: "E.adamw", gc.optim.RMSprop: "E.rmsprop"}
ROWS_OF_OPTIONS = {"momentum": "E.momentum", "nesterov": "E.nesterov", "weight_decay": "E.weight_decay"}
PARAMETERS = [
    shows(
        (make, reference, options),
        [ROWS[make], *(ROWS_OF_OPTIONS[name] for name in options if name in ROWS_OF_OPTIONS)],
        id=f"{make.__name__}-{'-'.join(options)}",
    )
    for make, reference, options in CASES
]


def problem(dtype):
    w = gc.param("w", (3,), init=START, dtype=dtype)
    residual = gc.sum(gc.constant(A.astype(dtype)) * w, axis=1) - 1.0
    return w, gc.sum(gc.square(residual))


def slope(w):
    return 2 * A.T @ (A @ w - 1)


def apply(updates):
    """One step: all new values from the old ones, then all written."""
    for variable, value in zip(updates, gc.evaluate(list(updates.values()), {}), strict=True):
        variable.value = value


@pytest.mark.parametrize("case", PARAMETERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_steps_follow_the_formulas(case, dtype):
    make, reference, options = case
    w, loss = problem(dtype)
    updates = make(dtype=dtype, **options).updates(loss, [w])
    verify(Graph(tuple(new.node for new in updates.values())))
    step, expected = reference(**options), START
    for _ in range(8):
        expected = step(expected, slope(expected))
        apply(updates)
        np.testing.assert_allclose(w.value, expected, rtol=1e-12 if dtype == "float64" else 2e-5)


def test_adam_in_float32_agrees_over_fifty_steps():
    w, loss = problem("float32")
    updates = gc.optim.Adam(lr=0.01).updates(loss, [w])
    step, expected = adam(lr=0.01), START
    for _ in range(50):
        expected = step(expected, slope(expected))
        apply(updates)
    np.testing.assert_allclose(w.value, expected, rtol=1e-5, atol=1e-6)


def test_bias_correction_keeps_its_digits_in_float32():
    """1 - 0.999^1 in float32 is wrong in the fifth digit; the first step must be lr to float32's precision."""
    w = gc.param("w", (), init=0.0)
    apply(gc.optim.Adam(lr=1.0, betas=(0.9, 0.99999), eps=0).updates(3.0 * w, [w]))
    assert w.value == pytest.approx(-1.0, abs=3e-7)


def test_states_names_dtypes_and_order():
    W, b = gc.param("W", (2, 3), init=0), gc.param("b", (3,), init=0, dtype="float64")
    loss = gc.sum(W) + gc.sum(b)
    updates = gc.optim.Adam().updates(loss.astype("float64"), [W, b])
    names = ["W", "b", "exp_avg/W", "exp_avg_sq/W", "exp_avg/b", "exp_avg_sq/b", "step"]
    assert [v.name for v in updates] == names
    assert [v.dtype for v in updates] == ["float32", "float64"] + ["float32"] * 2 + ["float64"] * 2 + ["float32"]
    assert all(new.dtype == old.dtype and new.shape == old.shape for old, new in updates.items())
    assert [v.name for v in gc.optim.SGD(0.1, momentum=0.9).updates(loss, [W])] == ["W", "momentum/W"]
    assert [v.name for v in gc.optim.SGD(0.1).updates(loss, [W])] == ["W"]


def test_states_of_parameters_of_one_name_are_told_apart():
    one, two = gc.param("w", (), init=0), gc.param("w", (), init=0)
    updates = gc.optim.SGD(0.1, momentum=0.9).updates(one * two, [one, two])
    assert [v.name for v in updates] == ["w", "w", "momentum/w", "momentum/w_2"]


def test_the_learning_rate_can_be_set():
    w = gc.param("w", (), init=1.0)
    optimiser = gc.optim.SGD(lr=0.5)
    updates = optimiser.updates(2.0 * w, [w])
    assert float(gc.evaluate(updates[w], {})) == 0.0
    optimiser.lr.value = 0.25
    assert float(gc.evaluate(updates[w], {})) == 0.5
    assert optimiser.lr not in updates


def test_updates_read_the_values_before_the_step():
    a, b = gc.param("a", (), init=1.0), gc.param("b", (), init=2.0)
    apply(gc.optim.SGD(lr=1.0).updates(a * b, [a, b]))
    assert (float(a.value), float(b.value)) == (-1.0, 1.0)


def test_a_second_call_goes_on_with_the_same_states():
    w = gc.param("w", (), init=1.0)
    optimiser = gc.optim.Adam()
    first, second = optimiser.updates(w * w, [w]), optimiser.updates(3 * w, [w])
    assert all(one is two for one, two in zip(first, second, strict=True))
    with pytest.raises(ArgumentError, match="Adam: this optimiser has other parameters already"):
        optimiser.updates(w, [gc.param("v", (), init=0)])


def test_updates_from_changed_gradients():
    w = gc.param("w", (2,), init=0.0)
    gradient = gc.clip(gc.grad(gc.sum(gc.constant([5.0, -0.5]) * w), w), -1, 1)
    updates = gc.optim.SGD(lr=1.0).updates_from([gradient], [w])
    np.testing.assert_allclose(gc.evaluate(updates[w], {}), [-1, 0.5])


def test_a_parameter_that_the_loss_does_not_reach_stays():
    w, v = gc.param("w", (), init=1.0), gc.param("v", (2,), init=3.0)
    apply(gc.optim.Adam().updates(w * w, [w, v]))
    assert np.array_equal(v.value, [3, 3])


# --- Errors ---------------------------------------------------------------------------------------------------------

BAD_OPTIONS = [
    (lambda: gc.optim.SGD(lr=-0.1), r"SGD: lr must be from 0 up, not -0.1"),
    (lambda: gc.optim.SGD(lr=math.nan), "SGD: lr must be from 0 up, not nan"),
    (lambda: gc.optim.SGD(lr=math.inf), "SGD: lr must be from 0 up, not inf"),
    (lambda: gc.optim.SGD(lr=0.1, momentum=-1), "SGD: momentum must be from 0 up, not -1"),
    (lambda: gc.optim.SGD(lr=0.1, weight_decay=-1), "SGD: weight_decay must be"),
    (lambda: gc.optim.SGD(lr=0.1, dampening=2), r"SGD: dampening must be in \[0, 1\], not 2"),
    (lambda: gc.optim.SGD(lr=0.1, nesterov=True), "nesterov needs a momentum above 0"),
    (lambda: gc.optim.SGD(lr=0.1, momentum=0.9, dampening=0.1, nesterov=True), "and no dampening"),
    (lambda: gc.optim.Adam(betas=(0.9, 1.0)), r"Adam: betas\[1\] must be in \[0, 1\), not 1.0"),
    (lambda: gc.optim.Adam(betas=(-0.1, 0.9)), r"Adam: betas\[0\] must be in \[0, 1\), not -0.1"),
    (lambda: gc.optim.Adam(betas=0.9), "Adam: betas are two numbers"),
    (lambda: gc.optim.AdamW(eps=-1e-8), "AdamW: eps must be from 0 up, not -1e-08"),
    (lambda: gc.optim.RMSprop(alpha=1.5), r"RMSprop: alpha must be in \[0, 1\), not 1.5"),
]


@pytest.mark.parametrize("make, message", BAD_OPTIONS, ids=[message for _, message in BAD_OPTIONS])
def test_bad_option(make, message):
    with pytest.raises(ArgumentError, match=message + r".*\(.*test_optim\.py:\d+\)$"):
        make()


def test_an_option_that_is_no_number():
    with pytest.raises(ArgumentTypeError, match=r"Adam: lr must be a number from 0 up, not '0.1'"):
        gc.optim.Adam(lr="0.1")


def test_bad_parameters():
    w, x = gc.param("w", (2,), init=0), gc.input("x", (2,))
    loss, optimiser = gc.sum(w * x), gc.optim.SGD(lr=0.1)
    with pytest.raises(ArgumentError, match="no parameters"):
        optimiser.updates(loss, [])
    with pytest.raises(ArgumentTypeError, match=r"<Tensor 'x' .*> is not a parameter"):
        optimiser.updates(loss, [x])
    with pytest.raises(ArgumentTypeError, match="a list of parameters is needed"):
        optimiser.updates(loss, w)
    with pytest.raises(ArgumentError, match="w is listed twice"):
        optimiser.updates(loss, [w, w])
    with pytest.raises(GradientError, match=r"must be a scalar.*test_optim\.py:\d+"):
        optimiser.updates(w * x, [w])
    with pytest.raises(ArgumentError, match="1 parameters, but 2 gradients"):
        optimiser.updates_from([x, x], [w])
    with pytest.raises(ShapeError, match=r"the gradient of w has shape \(\), the parameter \(2,\)"):
        optimiser.updates_from([loss], [w])
    assert optimiser.updates(loss, [w])  # none of the refusals above has bound the optimiser

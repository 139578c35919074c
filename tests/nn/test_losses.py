"""Losses against NumPy written by hand, gradients against central differences and formulas, extreme values, errors."""

from __future__ import annotations

import math

import numpy as np
import pytest

import graphc as gc
from graphc.errors import ArgumentError, DTypeError, ShapeError
from tests.features.rows import shows

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(6, 4))
LABELS = np.array([0, 3, 1, 2, 2, 0])
REAL = RNG.normal(size=(6, 4))
SHARES = RNG.dirichlet(np.ones(4), size=6)


def log_softmax(x, axis=1):
    z = x - x.max(axis, keepdims=True)
    return z - np.log(np.exp(z).sum(axis, keepdims=True))


def value_and_gradient(function, prediction, *targets, dtype="float64", **options):
    x = gc.input("x", prediction.shape, dtype=dtype)
    leaves = [gc.input(f"t{n}", t.shape, dtype=t.dtype.name) for n, t in enumerate(targets)]
    loss = function(x, *leaves, **options)
    scalar = loss if loss.shape == () else gc.sum(loss)
    values = {x: prediction, **dict(zip(leaves, targets, strict=True))}
    result, gradient = gc.evaluate([loss, gc.grad(scalar, x)], values)
    return result, gradient, lambda p: float(gc.evaluate(scalar, {**values, x: p}))


def margins(p=1, margin=1.0):
    correct = LOGITS[np.arange(6), LABELS][:, None]
    excess = np.maximum(0, margin - correct + LOGITS) ** p
    excess[np.arange(6), LABELS] = 0
    return excess.sum(1)


VARIANCE = RNG.uniform(0.5, 2, size=(6, 4))
P = log_softmax(LOGITS)
S = 1 / (1 + np.exp(-LOGITS))
CASES = {  # the losses before reduction
    "cross_entropy": (gc.nn.cross_entropy, (LOGITS, LABELS), {}, -P[np.arange(6), LABELS]),
    "cross_entropy, int32": (gc.nn.cross_entropy, (LOGITS, LABELS.astype("int32")), {}, -P[np.arange(6), LABELS]),
    "cross_entropy, probabilities": (gc.nn.cross_entropy, (LOGITS, SHARES), {}, -(SHARES * P).sum(1)),
    "nll_loss": (gc.nn.nll_loss, (LOGITS, LABELS), {}, -LOGITS[np.arange(6), LABELS]),
    "mse_loss": (gc.nn.mse_loss, (LOGITS, REAL), {}, (LOGITS - REAL) ** 2),
    "l1_loss": (gc.nn.l1_loss, (LOGITS, REAL), {}, np.abs(LOGITS - REAL)),
    "bce": (
        gc.nn.binary_cross_entropy_with_logits, (LOGITS, SHARES), {},
        -(SHARES * np.log(S) + (1 - SHARES) * np.log(1 - S)),
    ),
    "kl_div": (gc.nn.kl_div, (P, SHARES), {}, SHARES * (np.log(SHARES) - P)),
    "kl_div, log target": (gc.nn.kl_div, (P, np.log(SHARES)), {"log_target": True}, SHARES * (np.log(SHARES) - P)),
    "multi_margin": (gc.nn.multi_margin_loss, (LOGITS, LABELS), {}, margins() / 4),
    "multi_margin, squared": (gc.nn.multi_margin_loss, (LOGITS, LABELS), {"p": 2, "margin": 0.5}, margins(2, 0.5) / 4),
    "hinge": (gc.nn.multi_margin_loss, (LOGITS, LABELS), {"divide_by_classes": False}, margins()),
    "gaussian_nll": (
        gc.nn.gaussian_nll_loss, (LOGITS, REAL, VARIANCE), {},
        0.5 * (np.log(VARIANCE) + (LOGITS - REAL) ** 2 / VARIANCE),
    ),
    "gaussian_nll, full": (
        gc.nn.gaussian_nll_loss, (LOGITS, REAL, VARIANCE[:, 0]), {"full": True},
        0.5 * (np.log(2 * np.pi * VARIANCE[:, :1]) + (LOGITS - REAL) ** 2 / VARIANCE[:, :1]),
    ),
}


ROWS = {  # of the features table, for what comes before a comma
    "cross_entropy": ["B.cross_entropy"],
    "mse_loss": ["B.squared_error"],
    "bce": ["B.bce_logits"],
    "kl_div": ["B.kl_div"],
    "multi_margin": ["B.hinge"],
    "hinge": ["B.hinge"],
    "gaussian_nll": ["B.gaussian_nll"],
}


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("case", [shows(case, ROWS.get(case.split(",")[0], [])) for case in CASES])
def test_value_and_gradient(case, reduction):
    function, arrays, options, losses = CASES[case]
    expected = {"none": losses, "mean": losses.mean(), "sum": losses.sum()}[reduction]
    value, gradient, at = value_and_gradient(function, *arrays, reduction=reduction, **options)
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    direction = RNG.normal(size=gradient.shape)
    slope = (at(arrays[0] + 1e-6 * direction) - at(arrays[0] - 1e-6 * direction)) / 2e-6
    assert (gradient * direction).sum() == pytest.approx(slope, rel=1e-6, abs=1e-7)


def test_mean_is_the_default():
    for function, arrays, options, losses in CASES.values():
        np.testing.assert_allclose(value_and_gradient(function, *arrays, **options)[0], losses.mean(), rtol=1e-12)


def test_kl_div_batchmean():
    losses = (SHARES * (np.log(SHARES) - P)).sum() / 6
    assert value_and_gradient(gc.nn.kl_div, P, SHARES, reduction="batchmean")[0] == pytest.approx(losses, rel=1e-12)


def test_cross_entropy_of_one_row_and_of_pixels():
    assert value_and_gradient(gc.nn.cross_entropy, LOGITS[1], LABELS[1])[0] == pytest.approx(-P[1, 3], rel=1e-12)
    pixels, labels = RNG.normal(size=(2, 3, 4, 5)), RNG.integers(0, 3, size=(2, 4, 5))
    expected = -np.take_along_axis(log_softmax(pixels), labels[:, None], 1)[:, 0]
    value, gradient, _ = value_and_gradient(gc.nn.cross_entropy, pixels, labels, reduction="none")
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    np.testing.assert_allclose(gradient.sum(1), 0, atol=1e-12)


@pytest.mark.feature("B.cross_entropy")
def test_gradient_of_cross_entropy_is_p_minus_onehot():
    _, gradient, _ = value_and_gradient(gc.nn.cross_entropy, LOGITS, LABELS)
    np.testing.assert_allclose(gradient, (np.exp(P) - np.eye(4)[LABELS]) / 6, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cross_entropy_of_extreme_logits(dtype):
    top = 3e38 if dtype == "float32" else 1e308
    logits = np.array([[1e4, 0.0, -1e4], [1e4, 1e4, 0.0], [-math.inf, 0.0, 0.0], [0.0, top, 0.0]], dtype=dtype)
    labels = np.array([0, 1, 1, 1])
    value, gradient, _ = value_and_gradient(gc.nn.cross_entropy, logits, labels, dtype=dtype, reduction="none")
    np.testing.assert_allclose(value, [0, math.log(2), math.log(2), 0], rtol=1e-6)
    expected = [[0, 0, 0], [0.5, -0.5, 0], [0, -0.5, 0.5], [0, 0, 0]]
    np.testing.assert_allclose(gradient, expected, rtol=1e-6)


def test_cross_entropy_of_an_impossible_class_is_infinite_not_nan():
    value, _, _ = value_and_gradient(gc.nn.cross_entropy, np.array([[-math.inf, 0.0]]), np.array([0]))
    assert value == math.inf
    shares = np.array([[0.0, 1.0]])
    value, gradient, _ = value_and_gradient(gc.nn.cross_entropy, np.array([[-math.inf, 0.0]]), shares)
    assert value == 0 and np.array_equal(gradient, [[0, 0]])


def test_cross_entropy_keeps_small_losses_in_float32():
    logits = np.array([[5000.0, 4990.0]], dtype="float32")
    value, _, _ = value_and_gradient(gc.nn.cross_entropy, logits, np.array([0]), dtype="float32")
    assert value == pytest.approx(math.log1p(math.exp(-10)), rel=2e-3)


@pytest.mark.parametrize("label", [-1, 4])
@pytest.mark.parametrize("function", [gc.nn.cross_entropy, gc.nn.nll_loss, gc.nn.multi_margin_loss])
def test_a_label_outside_is_refused(function, label):
    labels = LABELS.copy()
    labels[2] = label
    words = rf"{function.__name__} at .*test_losses.py:\d+: label {label} is outside the 4 classes, 0 to 3"
    with pytest.raises(ArgumentError, match=words):
        value_and_gradient(function, LOGITS, labels, reduction="none")


def test_gradient_in_probabilities_that_are_zero():
    t = gc.input("t", (1, 2), dtype="float64")
    loss = gc.nn.cross_entropy(gc.constant(np.array([[0.0, 1.0]])), t)
    gradient = gc.evaluate(gc.grad(loss, t), {t: np.array([[0.0, 1.0]])})
    np.testing.assert_allclose(gradient, -log_softmax(np.array([[0.0, 1.0]])), rtol=1e-12)


@pytest.mark.feature("B.bce_logits")
def test_binary_cross_entropy_of_large_logits():
    x = np.array([1000.0, -1000.0, 1000.0, 0.0], dtype="float32")
    t = np.array([1.0, 0.0, 0.0, 0.5], dtype="float32")
    value, gradient, _ = value_and_gradient(
        gc.nn.binary_cross_entropy_with_logits, x, t, dtype="float32", reduction="none"
    )
    np.testing.assert_allclose(value, [0, 0, 1000, math.log(2)], rtol=1e-6)
    np.testing.assert_allclose(gradient, [0, 0, 1, 0])


def test_kl_div_of_a_zero_probability():
    p, q = np.array([-math.inf, 0.0]), np.array([0.0, 1.0])
    assert np.array_equal(value_and_gradient(gc.nn.kl_div, p, q, reduction="none")[0], [0, 0])


def test_a_plain_number_as_target():
    assert value_and_gradient(lambda x: gc.nn.mse_loss(x, 1.0), LOGITS)[0] == pytest.approx(((LOGITS - 1) ** 2).mean())


def test_gaussian_nll_bounds_the_variance():
    value, _, _ = value_and_gradient(gc.nn.gaussian_nll_loss, np.zeros(1), np.zeros(1), np.zeros(1))
    assert value == pytest.approx(0.5 * math.log(1e-6), rel=1e-9)


# --- Errors ---------------------------------------------------------------------------------------------------------


def x_(*shape):
    return gc.input("x", shape)


def t_(*shape):
    return gc.input("t", shape, dtype="int64")


WRONG = [
    (lambda: gc.nn.cross_entropy(x_(0, 4), t_(0)), ArgumentError, "cross_entropy: the mean over an empty batch"),
    (lambda: gc.nn.mse_loss(x_(0), x_(0)), ArgumentError, "mse_loss: the mean over an empty batch"),
    (lambda: gc.nn.kl_div(x_(0, 3), x_(0, 3), "batchmean"), ArgumentError, "batchmean over an empty batch"),
    (lambda: gc.nn.cross_entropy(x_(5, 4), t_(4)), ShapeError, r"labels must have shape \(5,\), not \(4,\)"),
    (lambda: gc.nn.cross_entropy(x_("N", 4), t_("N", 1)), ShapeError, r"labels must have shape \(N,\), not \(N, 1\)"),
    (lambda: gc.nn.cross_entropy(x_(5, 4), x_(5)), ShapeError, "class labels must be integers"),
    (lambda: gc.nn.cross_entropy(x_(5, "C"), t_(5)), ShapeError, "the number of classes must be known"),
    (lambda: gc.nn.cross_entropy(x_(), t_()), ShapeError, "they are a scalar"),
    (lambda: gc.nn.cross_entropy(t_(5, 4), t_(5)), DTypeError, "must have a float dtype, not int64"),
    (lambda: gc.nn.nll_loss(x_(5, 4), x_(5)), DTypeError, "nll_loss: class labels are int32 or int64, not float32"),
    (lambda: gc.nn.mse_loss(x_("N"), x_("N", 1)), ShapeError, r"prediction has shape \(N,\), the target \(N, 1\)"),
    (lambda: gc.nn.mse_loss(x_(3), x_(3), "avg"), ArgumentError, """one of "mean", "sum", "none", not 'avg'"""),
    (lambda: gc.nn.multi_margin_loss(x_(3, 2), t_(3), p=3), ArgumentError, "p is 1 or 2, not 3"),
    (lambda: gc.nn.multi_margin_loss(x_(3, 2, 4), t_(3, 4)), ShapeError, r"\(N, C\) or \(C,\)"),
    (lambda: gc.nn.gaussian_nll_loss(x_(3), x_(3), x_(2)), ShapeError, "the variance"),
    (lambda: gc.nn.gaussian_nll_loss(x_(3), x_(3), x_(3), eps=0), ArgumentError, "eps must be above 0"),
]


@pytest.mark.parametrize("build, error, message", WRONG, ids=[message for _, _, message in WRONG])
def test_errors_name_the_line(build, error, message):
    with pytest.raises(error, match=message + r".*\(.*test_losses\.py:\d+\)$"):
        build()


def test_a_sum_over_an_empty_batch_is_zero():
    x, t = x_(0, 4), t_(0)
    value = gc.evaluate(gc.nn.cross_entropy(x, t, "sum"), {x: np.zeros((0, 4)), t: np.zeros(0, "int64")})
    assert value == 0

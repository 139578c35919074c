"""Losses: labels that are outside or ignored on every backend, penalties, accuracy, losses as modules, errors."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc.backend import available
from graphc.errors import ArgumentError, ArgumentTypeError, DTypeError, ShapeError

RNG = np.random.default_rng(0)
SCORES = RNG.normal(size=(6, 4))
LABELS = np.array([0, 3, 1, 2, 2, 0])
WEIGHT = np.array([0.5, 2.0, 1.5, 1.25])
Z, T = gc.input("z", (6, 4), dtype="float64"), gc.input("t", (6,), dtype="int64")


@pytest.fixture(params=available())
def backend(request):
    return request.param


OPTIONS = {
    "cross_entropy": [{}, {"weight": WEIGHT}, {"label_smoothing": 0.2}, {"weight": WEIGHT, "ignore_index": 1}],
    "nll_loss": [{}, {"weight": WEIGHT}, {"ignore_index": 1}],
    "multi_margin_loss": [{}, {"p": 2}],
    "multiclass_hinge_loss": [{}],
}


@pytest.mark.parametrize("name, options", [(name, one) for name, many in OPTIONS.items() for one in many])
def test_a_label_outside_is_refused_and_changes_nothing(name, options, backend):
    losses = getattr(gc.nn, name)(Z, T, reduction="none", **options)
    count = gc.state("count", (), init=0.0)
    compiled = gc.compile([Z, T], [losses, gc.grad(gc.sum(losses), Z)], updates={count: count + 1}, backend=backend)
    for bad in (-1, 4, 2**40, -(2**40)):
        with pytest.raises(ArgumentError, match=rf"test_loss_options.py:\d+: label {bad} is outside the 4 classes"):
            compiled(SCORES, np.where(np.arange(6) == 3, bad, LABELS))
        assert count.value == 0
    compiled(SCORES, LABELS)
    assert count.value == 1


def test_ignored_labels_may_be_outside(backend):
    labels = np.where(LABELS == 2, -100, LABELS)
    kept = labels >= 0
    loss = gc.nn.cross_entropy(Z, T, ignore_index=-100)
    found, gradient = gc.compile([Z, T], [loss, gc.grad(loss, Z)], backend=backend)(SCORES, labels)
    assert found == pytest.approx(float(gc.evaluate(gc.nn.cross_entropy(SCORES[kept], LABELS[kept]), {})), rel=1e-12)
    assert not gradient[~kept].any() and gradient[kept].all()


@pytest.mark.feature("B.hinge")
def test_hinge_is_the_sum_over_wrong_classes():
    expected = []
    for s, y in zip(SCORES, LABELS, strict=True):
        expected.append(sum(max(0, s[j] - s[y] + 0.5) for j in range(4) if j != y))
    found = gc.evaluate(gc.nn.multiclass_hinge_loss(Z, T, margin=0.5, reduction="none"), {Z: SCORES, T: LABELS})
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.feature("B.squared_error")
def test_squared_error_has_the_difference_as_gradient():
    u = gc.input("u", (6, 4), dtype="float64")
    other = RNG.normal(size=(6, 4))
    loss = gc.nn.squared_error(Z, u)
    value, gradient = gc.evaluate([loss, gc.grad(loss, Z)], {Z: SCORES, u: other})
    assert value == pytest.approx(((SCORES - other) ** 2).sum() / 2, rel=1e-12)
    np.testing.assert_allclose(gradient, SCORES - other, rtol=1e-12)


@pytest.mark.feature("B.bce_probabilities")
def test_binary_cross_entropy_is_cut_off_at_100(backend):
    p, t = np.array([0.0, 1.0, 0.0, 1.0, 1e-20]), np.array([1.0, 0.0, 0.0, 1.0, 1.0])
    x = gc.input("x", (5,), dtype="float64")
    losses = gc.nn.binary_cross_entropy(x, t, reduction="none")
    found, gradient = gc.compile([x], [losses, gc.grad(gc.sum(losses), x)], backend=backend)(p)
    np.testing.assert_allclose(found, [100, 100, 0, 0, -np.log(1e-20)], rtol=1e-12)
    assert np.isfinite(gradient).all() and gradient[4] == pytest.approx(-1e20)
    assert np.isnan(gc.compile([x], losses, backend=backend)(np.full(5, 1.5))).all()


@pytest.mark.feature("B.l1_penalty", "B.l2_penalty")
def test_penalties():
    parameters = [gc.param("a", init=np.array([[1.0, -2.0], [0.0, 3.0]])), gc.param("b", init=np.array([-1.5]))]
    one, two = gc.nn.l1_penalty(parameters, 0.1), gc.nn.l2_penalty(parameters, 0.1)
    assert float(gc.evaluate(one)) == pytest.approx(0.1 * 7.5)
    assert float(gc.evaluate(two)) == pytest.approx(0.1 * (14 + 2.25))
    for penalty, slope in ((one, np.sign), (two, lambda w: 2 * w)):
        for gradient, p in zip(gc.evaluate(gc.grad(penalty, parameters)), parameters, strict=True):
            np.testing.assert_allclose(gradient, 0.1 * slope(p.value), rtol=1e-6)
    assert float(gc.evaluate(gc.nn.l1_penalty(parameters[1]))) == 1.5
    model = gc.nn.Linear(3, 2)
    assert gc.nn.l2_penalty(model.parameters(), 1e-3).shape == ()
    with pytest.raises(ArgumentError, match=r"l2_penalty: the weight must be from 0 up, not -0\.1 .*test_loss_options"):
        gc.nn.l2_penalty(parameters, -0.1)
    with pytest.raises(ArgumentError, match="l1_penalty: no parameters"):
        gc.nn.l1_penalty([])
    with pytest.raises(ArgumentTypeError, match=r"l1_penalty: 'a' is not a parameter"):
        gc.nn.l1_penalty(["a"])


def test_accuracy(backend):
    labels = SCORES.argmax(1)
    labels[0] = (labels[0] + 1) % 4
    labels[5] = 9  # outside: missed
    share = gc.compile([Z, T], gc.nn.accuracy(Z, T), backend=backend)(SCORES, labels)
    assert share.dtype == np.float32 and share == pytest.approx(4 / 6)
    pixels, truth = RNG.normal(size=(2, 3, 5)), RNG.integers(0, 3, (2, 5))
    found = gc.evaluate(gc.nn.accuracy(gc.constant(pixels), gc.constant(truth)))
    assert found == pytest.approx((pixels.argmax(1) == truth).mean())
    with pytest.raises(ShapeError, match=r"accuracy: the scores have shape .* so the labels must have shape"):
        gc.nn.accuracy(Z, gc.input("t", (5,), dtype="int64"))


def test_losses_as_modules_are_the_functions():
    u = gc.input("u", (6, 4), dtype="float64")
    values = {Z: SCORES, u: RNG.uniform(0.1, 0.9, (6, 4)), T: LABELS}
    pairs = [
        (gc.nn.CrossEntropyLoss(label_smoothing=0.1, weight=WEIGHT), gc.nn.cross_entropy, T),
        (gc.nn.NLLLoss(ignore_index=2), gc.nn.nll_loss, T),
        (gc.nn.MultiMarginLoss(margin=0.3), gc.nn.multi_margin_loss, T),
        (gc.nn.BCEWithLogitsLoss(reduction="sum"), gc.nn.binary_cross_entropy_with_logits, u),
        (gc.nn.MSELoss(), gc.nn.mse_loss, u),
        (gc.nn.L1Loss(), gc.nn.l1_loss, u),
        (gc.nn.HuberLoss(delta=0.4), gc.nn.huber_loss, u),
        (gc.nn.SmoothL1Loss(beta=0.4), gc.nn.smooth_l1_loss, u),
        (gc.nn.KLDivLoss(reduction="batchmean"), gc.nn.kl_div, u),
    ]
    for module, function, target in pairs:
        one, other = gc.evaluate([module(Z, target), function(Z, target, **module.options)], values)
        assert one == other and module.parameters() == []
    variance = np.full((6, 4), 0.5)
    one, other = gc.nn.GaussianNLLLoss(full=True)(Z, u, variance), gc.nn.gaussian_nll_loss(Z, u, variance, full=True)
    assert gc.evaluate(one, values) == gc.evaluate(other, values)
    assert gc.nn.BCELoss()(gc.sigmoid(Z), u).shape == ()


def test_wrong_options():
    cases = {
        r"cross_entropy: label_smoothing must be from 0 to 1, not 1\.5": {"label_smoothing": 1.5},
        r"cross_entropy: ignore_index must be a whole number or None, not 1\.0": {"ignore_index": 1.0},
        "cross_entropy: reduction is one of .* not 'max'": {"reduction": "max"},
    }
    for message, options in cases.items():
        with pytest.raises(ArgumentError, match=message + r".*test_loss_options\.py:\d+"):
            gc.nn.cross_entropy(Z, T, **options)
    with pytest.raises(ShapeError, match=r"nll_loss: weight must have shape \(4,\), one number for each class"):
        gc.nn.nll_loss(Z, T, weight=[1.0, 2.0, 3.0])
    with pytest.raises(ArgumentError, match="ignore_index is for class labels"):
        gc.nn.cross_entropy(Z, Z, ignore_index=0)
    with pytest.raises(ShapeError, match=r"pos_weight of shape .* does not stretch"):
        gc.nn.binary_cross_entropy_with_logits(Z, Z, pos_weight=np.ones((2, 6, 4)))
    with pytest.raises(ArgumentError, match="huber_loss: delta must be above 0, not 0"):
        gc.nn.huber_loss(Z, Z, delta=0)
    with pytest.raises(ArgumentError, match="smooth_l1_loss: beta must be from 0 up, not -1"):
        gc.nn.smooth_l1_loss(Z, Z, beta=-1)
    with pytest.raises(DTypeError, match="class labels are int32 or int64, not float64"):
        gc.nn.accuracy(Z, gc.input("t", (6,), dtype="float64"))


def test_an_empty_batch_has_no_mean(backend):
    z, t = gc.input("z", ("N", 4)), gc.input("t", ("N",), dtype="int64")
    for loss in (gc.nn.cross_entropy(z, t, weight=WEIGHT, ignore_index=0), gc.nn.accuracy(z, t)):
        step = gc.compile([z, t], loss, backend=backend)
        with pytest.raises(ArgumentError, match="the mean over an empty batch does not exist"):
            step(np.zeros((0, 4), dtype="float32"), np.zeros(0, dtype="int64"))

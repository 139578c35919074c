"""Clipping as functions and as options, groups of parameters, and the names of options."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc.errors import ArgumentError, ArgumentTypeError, ShapeError
from graphc.optim.base import Common

RNG = np.random.default_rng(1)
GRADIENTS = [RNG.normal(size=(3, 4)), RNG.normal(size=5), np.array(2.5)]


def tensors(dtype="float64"):
    return [gc.constant(g.astype(dtype)) for g in GRADIENTS]


@pytest.mark.feature("E.clip_norm")
def test_the_norm_is_that_of_all_elements_together():
    flat = np.concatenate([g.reshape(-1) for g in GRADIENTS])
    assert float(gc.evaluate(gc.optim.global_norm(tensors()), {})) == pytest.approx(np.linalg.norm(flat), rel=1e-14)
    for limit in (0.5, 1e3):
        clipped = gc.evaluate(gc.optim.clip_by_norm(tensors(), limit), {})
        factor = min(1.0, limit / (np.linalg.norm(flat) + 1e-6))
        for got, was in zip(clipped, GRADIENTS, strict=True):
            np.testing.assert_allclose(got, factor * was, rtol=1e-14)


@pytest.mark.feature("E.clip_value")
def test_each_value_is_limited_and_nan_stays():
    [clipped] = gc.optim.clip_by_value([gc.constant([-3.0, 0.25, np.nan, np.inf])], 0.5)
    np.testing.assert_array_equal(gc.evaluate(clipped, {}), [-0.5, 0.25, np.nan, 0.5])


def test_gradients_of_zero_stay_and_a_nan_reaches_all():
    zero, other = gc.optim.clip_by_norm([gc.constant([0.0, 0.0]), gc.constant(0.0)], 1.0)
    assert np.array_equal(gc.evaluate(zero, {}), [0, 0]) and gc.evaluate(other, {}) == 0
    clipped = gc.optim.clip_by_norm([gc.constant(np.nan), gc.constant([1.0])], 1.0)
    assert all(np.isnan(value).all() for value in gc.evaluate(clipped, {}))


def test_a_limit_that_can_be_set_and_dtypes_that_stay():
    limit = gc.state("limit", (), init=1.0)
    gradients = [gc.constant(np.array([3.0])), gc.constant(np.float32(4.0))]
    for function in (gc.optim.clip_by_norm, gc.optim.clip_by_value):
        clipped = function(gradients, limit)
        assert [g.dtype for g in clipped] == ["float64", "float32"]
        limit.value = 2.0
        expected = (1.2, 1.6) if function is gc.optim.clip_by_norm else (2.0, 2.0)
        assert [float(v.item()) for v in gc.evaluate(clipped, {})] == pytest.approx(expected, rel=1e-6)


def test_both_options_keep_the_norm():
    w = gc.param("w", (4,), init=0.0)
    loss = gc.sum(gc.constant([9.0, 0.1, -9.0, 0.2]) * w)
    updates = gc.optim.SGD(1.0, clip_value=1.0, clip_norm=0.5).updates(loss, [w])
    moved = -gc.evaluate(updates[w], {})
    limited = np.array([1.0, 0.1, -1.0, 0.2])
    np.testing.assert_allclose(moved, 0.5 * limited / np.linalg.norm(limited), rtol=1e-5)


def test_groups_of_parameters_are_several_optimisers():
    """Two groups, one loss, one compiled step: as each optimiser by itself, and with states of their own."""

    def build():
        a, b = gc.param("a", (2,), init=[1.0, 2.0]), gc.param("b", (), init=3.0)
        return a, b, gc.sum(gc.square(a)) * b

    a, b, loss = build()
    fast, slow = gc.optim.Adam(lr=0.1, schedule=gc.optim.StepLR(2)), gc.optim.SGD(lr=0.01, momentum=0.9)
    both = {**fast.updates(loss, [a]), **slow.updates(loss, [b])}
    assert [v.name for v in both] == ["a", "exp_avg/a", "exp_avg_sq/a", "step", "b", "momentum/b"]
    step = gc.compile([], loss, both)
    c, d, other = build()
    steps = [
        gc.compile([], other, one.updates(other, [p]))
        for one, p in ((gc.optim.Adam(lr=0.1, schedule=gc.optim.StepLR(2)), c), (gc.optim.SGD(0.01, momentum=0.9), d))
    ]
    for _ in range(5):
        step()
        before = c.value
        steps[0]()
        after, c.value = c.value, before
        steps[1]()  # it must see the values before the step
        c.value = after
    np.testing.assert_allclose(a.value, c.value, rtol=1e-6)
    np.testing.assert_allclose(b.value, d.value, rtol=1e-6)


def test_one_norm_over_groups():
    a, b = gc.param("a", (), init=0.0), gc.param("b", (), init=0.0)
    da, db = gc.optim.clip_by_norm(gc.grad(3 * a + 4 * b, [a, b]), 1.0)
    both = {**gc.optim.SGD(1.0).updates_from([da], [a]), **gc.optim.SGD(10.0).updates_from([db], [b])}
    assert [float(v) for v in gc.evaluate([both[a], both[b]], {})] == pytest.approx([-0.6, -8.0], rel=1e-6)


def test_states_are_listed_saved_and_checked():
    w = gc.param("w", (2,), init=0.0)
    optimiser = gc.optim.Adam(lr=0.5)
    updates = optimiser.updates(gc.sum(3 * w), [w])
    gc.compile([], [], updates)()
    found = optimiser.state_dict()
    assert list(found) == ["lr", "exp_avg/w", "exp_avg_sq/w", "step"]
    assert found["lr"] == 0.5 and found["step"] == 1 and np.allclose(found["exp_avg/w"], 0.3)
    with pytest.raises(ArgumentError, match=r"Adam\.load_state_dict: nothing .*:\n  missing: step\n  strict="):
        optimiser.load_state_dict({k: v for k, v in found.items() if k != "step"})


# --- Names of options and their values ------------------------------------------------------------------------------

OPTIMISERS = ["SGD", "Adam", "AdamW", "NAdam", "RMSprop", "Adagrad", "Adadelta"]


@pytest.mark.parametrize("name", OPTIMISERS)
def test_an_unknown_option_is_answered_with_those_that_exist(name):
    with pytest.raises(ArgumentTypeError) as caught:
        getattr(gc.optim, name)(lr=0.1, weight_deacy=0.1)
    text = str(caught.value)
    start = f"{name}: there is no option 'weight_deacy' (did you mean weight_decay?); the options are lr, "
    assert text.startswith(start)
    assert text.split(" (")[-1].startswith(__file__)
    for option in ("weight_decay", *Common.__annotations__):
        assert option in text
    with pytest.raises(ArgumentTypeError, match=f"{name}: 20 options were given, there are"):
        getattr(gc.optim, name)(*[0.1] * 20)


BAD = [
    (lambda: gc.optim.SGD(clip_norm=0), "SGD: clip_norm must be above 0, not 0"),
    (lambda: gc.optim.NAdam(clip_value=-1), "NAdam: clip_value must be above 0, not -1"),
    (lambda: gc.optim.Adagrad(lr_decay=-1), "Adagrad: lr_decay must be from 0 up, not -1"),
    (lambda: gc.optim.Adadelta(rho=1.5), r"Adadelta: rho must be in \[0, 1\], not 1.5"),
    (lambda: gc.optim.NAdam(betas=(0.9,)), r"NAdam: betas are two numbers in \[0, 1\), not \(0.9,\)"),
    (lambda: gc.optim.SGD(dtype="int32"), "SGD: dtype must be"),
    (lambda: gc.optim.SGD(lr=True), "SGD: lr must be a number from 0 up, not True"),
    (lambda: gc.optim.clip_by_norm([], 1.0), "clip_by_norm: no gradients"),
    (lambda: gc.optim.clip_by_norm(gc.constant(1.0), 1.0), "clip_by_norm: a list of gradients is needed"),
    (lambda: gc.optim.clip_by_value([gc.constant(1)], 1.0), "clip_by_value: gradients are floats, not int64"),
    (lambda: gc.optim.clip_by_value([gc.constant(1.0)], -1), "clip_by_value: max_value must be above 0, not -1"),
]


@pytest.mark.parametrize("make, message", BAD, ids=[message for _, message in BAD])
def test_bad_value(make, message):
    with pytest.raises(ArgumentError, match=message + r".*\(.*test_clipping\.py:\d+\)$"):
        make()


def test_a_limit_that_is_no_scalar():
    with pytest.raises(ShapeError, match=r"clip_by_norm: max_norm must be a float scalar, not float32 of shape \(2,\)"):
        gc.optim.clip_by_norm([gc.constant(1.0)], gc.constant([1.0, 2.0]))

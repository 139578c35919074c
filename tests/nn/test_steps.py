"""The models of the measured workloads, compiled and stepped: the backends learn the same, and they learn."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc.backend import available
from tests.nn.test_models import MODELS, OPTIMISERS

BATCH, STEPS = 8, 4
RATES = {"mlp": 0.05, "lenet": 0.02, "cnn": 1e-3}


def data(image):
    rng = np.random.default_rng(0)
    return rng.normal(size=(BATCH, *image)).astype("float32"), rng.integers(0, 10, BATCH)


@pytest.mark.feature("E.sgd")
@pytest.mark.parametrize("name", MODELS)
def test_backends_learn_alike(name):
    model, image = MODELS[name][0]()
    x, t = gc.input("x", ("N", *image)), gc.input("t", ("N",), dtype="int64")
    loss = gc.nn.cross_entropy(model(x), t)
    updates = OPTIMISERS[name](RATES[name]).updates(loss, model.parameters())
    start = {variable: variable.value for variable in updates}
    losses, ends = {}, {}
    for backend in available():
        for variable, value in start.items():
            variable.value = value
        step = gc.compile([x, t], loss, updates, backend=backend)
        losses[backend] = [float(step(*data(image))) for _ in range(STEPS)]
        ends[backend] = [parameter.value for parameter in model.parameters()]
    assert losses["llvm"][-1] < losses["llvm"][0]
    np.testing.assert_allclose(losses["llvm"], losses["numpy"], rtol=2e-4)
    for one, other in zip(ends["llvm"], ends["numpy"], strict=True):
        np.testing.assert_allclose(one, other, atol=2e-3 if name == "cnn" else 2e-5)  # Adam divides by small numbers


def test_predict_shares_what_step_learns():
    model, image = MODELS["mlp"][0]()
    x, t = gc.input("x", ("N", *image)), gc.input("t", ("N",), dtype="int64")
    logits = model(x)
    loss = gc.nn.cross_entropy(logits, t)
    step = gc.compile([x, t], [loss], gc.optim.SGD(0.05).updates(loss, model.parameters()))
    predict = gc.compile([x], logits)
    images, labels = data(image)
    before = predict(images)
    for _ in range(20):
        step(images, labels)
    assert (predict(images).argmax(axis=1) == labels).all()
    assert not np.allclose(before, predict(images))


def test_layer_norm_and_mean_squared_error_step():
    x, t = gc.input("x", (16, 12)), gc.input("t", (16, 3))
    model = gc.nn.Sequential(gc.nn.LayerNorm(12), gc.nn.Linear(12, 3, seed=0))
    loss = gc.nn.mse_loss(model(x), t)
    step = gc.compile([x, t], loss, gc.optim.Adam(0.05).updates(loss, model.parameters()))
    rng = np.random.default_rng(0)
    images = rng.normal(size=(16, 12)).astype("float32")
    targets = images[:, :3] * 0.5 + 0.1
    losses = [float(step(images, targets)) for _ in range(200)]
    assert losses[-1] < 0.05 * losses[0]


def test_a_failed_call_changes_nothing():
    """An index outside its table is met in the middle of a step: params and states are as before."""
    table = gc.param("table", (5, 3), init=np.arange(15.0).reshape(5, 3))
    i = gc.input("i", (4,), dtype="int64")
    loss = gc.sum(gc.square(gc.take(table, i, axis=0)))
    for backend in available():
        step = gc.compile([i], loss, gc.optim.SGD(0.1, momentum=0.9).updates(loss, [table]), backend=backend)
        before = table.value
        with pytest.raises(gc.errors.ArgumentError, match=r"index 7 is outside an axis of 5"):
            step(np.array([0, 1, 7, 2]))
        np.testing.assert_array_equal(table.value, before)
        step(np.array([0, 1, 4, 2]))
        assert not np.array_equal(table.value, before)

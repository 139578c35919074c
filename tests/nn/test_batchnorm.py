"""Batch normalisation: which functions move the statistics, and by which batch."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc.backend import available
from graphc.errors import ArgumentError, ShapeError

RNG = np.random.default_rng(0)
D = "float64"
IMAGES = 3 + 2 * RNG.normal(size=(6, 2, 4, 3))
AXES = (0, 2, 3)


def moved(old_mean, old_var, images, momentum=0.1):
    mean, var = images.mean(AXES), images.var(AXES, ddof=1)
    return (1 - momentum) * old_mean + momentum * mean, (1 - momentum) * old_var + momentum * var


def assert_statistics(layer, expected, batches):
    np.testing.assert_allclose(layer.running_mean.value, expected[0], rtol=1e-12)
    np.testing.assert_allclose(layer.running_var.value, expected[1], rtol=1e-12)
    assert layer.num_batches_tracked.value == batches


@pytest.fixture(params=available())
def backend(request):
    return request.param


@pytest.mark.feature("C.batch_norm")
def test_training_moves_and_inference_does_not(backend):
    layer, x = gc.nn.BatchNorm2d(2, dtype=D), gc.input("x", ("N", 2, 4, 3), dtype=D)
    step = gc.compile([x], layer(x, training=True), backend=backend)
    predict = gc.compile([x], layer(x), backend=backend)
    untrained = predict(IMAGES)
    np.testing.assert_allclose(untrained, IMAGES / np.sqrt(1 + 1e-5), rtol=1e-12)
    spread = np.sqrt(IMAGES.var(AXES, keepdims=True) + 1e-5)
    np.testing.assert_allclose(step(IMAGES), (IMAGES - IMAGES.mean(AXES, keepdims=True)) / spread, rtol=1e-10)
    once = moved(0, 1, IMAGES)
    assert_statistics(layer, once, 1)
    mean, var = (one[:, None, None] for one in once)
    for _ in range(2):
        np.testing.assert_allclose(predict(IMAGES[:1]), (IMAGES[:1] - mean) / np.sqrt(var + 1e-5), rtol=1e-10)
    assert_statistics(layer, once, 1)
    step(IMAGES[:3])
    assert_statistics(layer, moved(*once, IMAGES[:3]), 2)


def test_each_loss_moves_the_statistics_by_its_own_batch(backend):
    """A model that is called for several inputs: a function knows the batch of its own inputs alone."""
    layer = gc.nn.BatchNorm2d(2, dtype=D)
    x, other = (gc.input(name, ("N", 2, 4, 3), dtype=D) for name in "xy")
    first = gc.sum(layer(x, training=True))
    layer(other, training=True)
    gc.compile([x], first, backend=backend)(IMAGES)
    assert_statistics(layer, moved(0, 1, IMAGES), 1)


def test_a_step_that_returns_nothing_moves_the_statistics(backend):
    model = gc.nn.Sequential(gc.nn.BatchNorm2d(2, dtype=D), gc.nn.Sigmoid(), gc.nn.BatchNorm2d(2, dtype=D))
    x = gc.input("x", (6, 2, 4, 3), dtype=D)
    loss = gc.mean(gc.log(model(x, training=True) ** 2 + 1))
    updates = gc.optim.SGD(0.1, dtype=D).updates(loss, model.parameters())
    gc.compile([x], [], updates, backend=backend)(IMAGES)
    assert_statistics(model[0], moved(0, 1, IMAGES), 1)
    between = 1 / (1 + np.exp(-(IMAGES - IMAGES.mean(AXES, keepdims=True)) / np.sqrt(IMAGES.var(AXES, keepdims=True))))
    np.testing.assert_allclose(model[2].running_mean.value, 0.1 * between.mean(AXES), rtol=1e-4)


def test_both_modes_in_one_function_read_the_statistics_from_before(backend):
    nn, x = gc.nn, gc.input("x", ("N", 1, 6, 6), dtype=D)
    convolution, last = nn.Conv2d(1, 3, 3, seed=0, dtype=D), nn.Linear(48, 2, seed=1, dtype=D)
    model = nn.Sequential(convolution, nn.BatchNorm2d(3, dtype=D), nn.ReLU(), nn.Flatten(), last)
    both = gc.compile([x], [model(x, training=True), model(x)], backend=backend)
    array = RNG.normal(size=(8, 1, 6, 6))
    for batches in range(1, 4):
        expected = gc.evaluate(model(x), {x: array})
        np.testing.assert_allclose(both(array)[1], expected, rtol=1e-12)
        assert model[1].num_batches_tracked.value == batches


@pytest.mark.feature("C.batch_norm")
def test_gradients_treat_the_batch_statistics_as_functions_of_the_input():
    layer, x = gc.nn.BatchNorm2d(2, dtype=D), gc.input("x", IMAGES.shape, dtype=D)
    loss = gc.sum(layer(x, training=True) * RNG.normal(size=IMAGES.shape))
    gradient = gc.evaluate(gc.grad(loss, x), {x: IMAGES})
    np.testing.assert_allclose(gradient.sum(AXES), 0, atol=1e-12)  # a shift of a channel changes nothing
    np.testing.assert_allclose((gradient * (IMAGES - IMAGES.mean(AXES, keepdims=True))).sum(AXES), 0, atol=1e-4)


def test_a_large_mean_does_not_cancel():
    x = gc.input("x", (8, 1))
    array = (1e5 + np.arange(8)[:, None]).astype("float32")
    expected = (array - array.astype(D).mean()) / np.sqrt(array.astype(D).var() + 1e-5)
    y = gc.nn.BatchNorm1d(1)(x, training=True)
    np.testing.assert_allclose(gc.evaluate(y, {x: array}), expected, rtol=1e-5)


def test_statistics_are_states_with_the_models_names():
    model = gc.nn.Sequential(gc.nn.Linear(4, 3), gc.nn.BatchNorm1d(3))
    assert [name for name, _ in model.named_parameters()] == ["0.weight", "0.bias", "1.weight", "1.bias"]
    layer = model[1]
    states = layer.running_mean, layer.running_var, layer.num_batches_tracked
    assert [one.name for one in states] == ["1.running_mean", "1.running_var", "1.num_batches_tracked"]
    assert [one.dtype for one in states] == ["float32", "float32", "int64"]
    assert layer.running_mean.value.tolist() == [0, 0, 0] and layer.running_var.value.tolist() == [1, 1, 1]


def test_statistics_can_be_set(backend):
    layer, x = gc.nn.BatchNorm1d(1, eps=0.0, dtype=D), gc.input("x", (2, 1), dtype=D)
    predict = gc.compile([x], layer(x), backend=backend)
    layer.running_mean.value, layer.running_var.value = [1.0], [4.0]
    assert predict(np.array([[3.0], [1.0]])).ravel().tolist() == [1.0, 0.0]


def test_a_checkpoint_moves_the_statistics_once():
    layer, x = gc.nn.BatchNorm2d(2, dtype=D), gc.input("x", IMAGES.shape, dtype=D)
    loss = gc.mean(gc.checkpoint(lambda v: gc.tanh(layer(v, training=True)), x) ** 2)
    gc.compile([x], [loss, gc.grad(loss, layer.weight)])(IMAGES)
    assert_statistics(layer, moved(0, 1, IMAGES), 1)


def test_wrong_use():
    model = gc.nn.Sequential(gc.nn.ReLU(), gc.nn.BatchNorm2d(2))
    with pytest.raises(ShapeError, match=r"^1: BatchNorm2d\(2\): the input has 3 axes, 4 are expected \(N, C, H, W\)"):
        model(gc.input("x", (1, 2, 3)))
    with pytest.raises(ShapeError, match=r"^1: BatchNorm2d\(2\): the input has 3 channels, 2 are expected on axis 1"):
        model(gc.input("x", ("N", 3, 4, 4)))
    with pytest.raises(ShapeError, match=r"BatchNorm1d\(2\): the input has 4 axes, 2 or 3 are expected"):
        gc.nn.BatchNorm1d(2)(gc.input("x", (1, 2, 3, 3)))
    with pytest.raises(gc.errors.DTypeError, match=r"BatchNorm1d\(2\): the input must have a float dtype, not int64"):
        gc.nn.BatchNorm1d(2)(gc.input("x", (5, 2), dtype="int64"))
    with pytest.raises(ArgumentError, match="BatchNorm2d: momentum must be a number from 0 up, not -1"):
        gc.nn.BatchNorm2d(2, momentum=-1)
    with pytest.raises(ArgumentError, match="training needs more than one value for each channel"):
        gc.nn.BatchNorm1d(2)(gc.input("x", (1, 2)), training=True)
    x = gc.input("x", ("N", 2, "H", 1))
    step = gc.compile([x], model(x, training=True))
    before = model[1].running_var.value
    for shape in ((1, 2, 1, 1), (0, 2, 3, 1)):
        with pytest.raises(ArgumentError, match=r"1: BatchNorm2d\(2\): training needs more .*test_batchnorm\.py:\d+"):
            step(np.zeros(shape, dtype="float32"))
    assert np.array_equal(model[1].running_var.value, before)


def test_several_training_calls_in_one_function_move_the_statistics_one_after_another(backend):
    layer = gc.nn.BatchNorm2d(2, dtype=D)
    x, y = (gc.input(name, ("N", 2, 4, 3), dtype=D) for name in "xy")
    outputs = [layer(x, training=True), layer(y, training=True), layer(x)]
    gc.compile([x, y], outputs, backend=backend)(IMAGES, 2 * IMAGES)
    assert_statistics(layer, moved(*moved(0, 1, IMAGES), 2 * IMAGES), 2)

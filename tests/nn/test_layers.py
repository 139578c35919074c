"""Layers against NumPy written by hand, their gradients against central differences, their errors."""

from __future__ import annotations

import math

import numpy as np
import pytest

import graphc as gc
from graphc.errors import ArgumentError, ShapeError
from tests.features.rows import shows

RNG = np.random.default_rng(0)
IMAGE = RNG.normal(size=(2, 4, 6, 5))


def conv_by_hand(x, w, b, stride, padding, dilation, groups):
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    out_channels, inner, kh, kw = w.shape
    height = (x.shape[2] - dilation * (kh - 1) - 1) // stride + 1
    width = (x.shape[3] - dilation * (kw - 1) - 1) // stride + 1
    y = np.zeros((len(x), out_channels, height, width))
    for o in range(out_channels):
        first = o // (out_channels // groups) * inner
        for i in range(height):
            for j in range(width):
                rows = slice(i * stride, i * stride + dilation * (kh - 1) + 1, dilation)
                columns = slice(j * stride, j * stride + dilation * (kw - 1) + 1, dilation)
                y[:, o, i, j] = (x[:, first : first + inner, rows, columns] * w[o]).sum((1, 2, 3)) + b[o]
    return y


def pool_by_hand(x, kernel, stride, reduce):
    height, width = ((e - kernel) // stride + 1 for e in x.shape[2:])
    y = np.empty((*x.shape[:2], height, width))
    for i in range(height):
        for j in range(width):
            y[:, :, i, j] = reduce(x[:, :, i * stride : i * stride + kernel, j * stride : j * stride + kernel])
    return y


def layer_norm_by_hand(x, axes):
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-5)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def check(layer, x, expected, has_gradient=True):
    """The value, and the gradient of a random weighting in the input and in each parameter."""
    leaf = gc.input("x", x.shape, dtype="float64")
    y = layer(leaf)
    assert y.shape == expected.shape
    np.testing.assert_allclose(gc.evaluate(y, {leaf: x}), expected, rtol=1e-12, atol=1e-12)
    if not has_gradient:
        return
    weights = np.random.default_rng(1).normal(size=expected.shape)
    loss = gc.sum(y * gc.constant(weights))
    leaves = [leaf, *layer.parameters()]
    bases = [x, *(p.value for p in layer.parameters())]
    gradients = gc.evaluate(gc.grad(loss, leaves), {leaf: x})
    for one, base, gradient in zip(leaves, bases, gradients, strict=True):
        direction = np.random.default_rng(2).normal(size=one.shape)
        ends = []
        for step in (1e-6, -1e-6):
            if one is leaf:
                ends.append(float(gc.evaluate(loss, {leaf: base + step * direction})))
                continue
            one.value = base + step * direction
            ends.append(float(gc.evaluate(loss, {leaf: x})))
            one.value = base
        assert (gradient * direction).sum() == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-6, abs=1e-6)


@pytest.mark.feature("C.linear")
@pytest.mark.parametrize("shape", [(3,), (5, 3), (2, 4, 3)])
@pytest.mark.parametrize("bias", [True, False])
def test_linear(shape, bias):
    layer = gc.nn.Linear(3, 4, bias=bias, seed=0, dtype="float64")
    x = RNG.normal(size=shape)
    check(layer, x, x @ layer.weight.value.T + (layer.bias.value if bias else 0))


@pytest.mark.feature("C.conv2d")
@pytest.mark.parametrize(
    "stride, padding, dilation, groups", [(1, 0, 1, 1), (2, 1, 1, 1), (1, 2, 2, 2), (3, 1, 1, 4)]
)
def test_conv2d(stride, padding, dilation, groups):
    layer = gc.nn.Conv2d(4, 8, 3, stride, padding, dilation, groups, seed=0, dtype="float64")
    hand = conv_by_hand(IMAGE, layer.weight.value, layer.bias.value, stride, padding, dilation, groups)
    check(layer, IMAGE, hand)


@pytest.mark.feature("C.conv2d")
def test_conv2d_of_an_oblong_kernel_without_bias():
    layer = gc.nn.Conv2d(4, 2, (2, 3), bias=False, seed=0, dtype="float64")
    check(layer, IMAGE, conv_by_hand(IMAGE, layer.weight.value, np.zeros(2), 1, 0, 1, 1))


@pytest.mark.feature("C.max_pool", "C.avg_pool")
@pytest.mark.parametrize("kernel, stride", [(2, None), (3, 2)])
def test_pools(kernel, stride):
    step = stride or kernel
    check(gc.nn.MaxPool2d(kernel, stride), IMAGE, pool_by_hand(IMAGE, kernel, step, lambda w: w.max((2, 3))))
    check(gc.nn.AvgPool2d(kernel, stride), IMAGE, pool_by_hand(IMAGE, kernel, step, lambda w: w.mean((2, 3))))


@pytest.mark.feature("C.avg_pool")
def test_average_pool_that_leaves_the_padding_out():
    x = np.ones((1, 1, 4, 4))
    check(gc.nn.AvgPool2d(2, padding=1, count_include_pad=False), x, np.ones((1, 1, 3, 3)))
    inside = np.array([1, 2, 1]) / 2
    check(gc.nn.AvgPool2d(2, padding=1), x, (inside[:, None] * inside)[None, None])


def test_flatten():
    check(gc.nn.Flatten(), IMAGE, IMAGE.reshape(2, -1))
    check(gc.nn.Flatten(2), IMAGE, IMAGE.reshape(2, 4, -1))


@pytest.mark.feature("C.layer_norm")
@pytest.mark.parametrize("shape", [(5,), (6, 5)])
def test_layer_norm(shape):
    layer = gc.nn.LayerNorm(shape if len(shape) > 1 else shape[0], dtype="float64")
    layer.weight.value = RNG.normal(size=shape)
    layer.bias.value = RNG.normal(size=shape)
    normal = layer_norm_by_hand(IMAGE, tuple(range(-len(shape), 0)))
    check(layer, IMAGE, normal * layer.weight.value + layer.bias.value)


def test_layer_norm_without_parameters():
    layer = gc.nn.LayerNorm(5, elementwise_affine=False)
    assert layer.parameters() == []
    check(layer, IMAGE, layer_norm_by_hand(IMAGE, (-1,)))
    assert [name for name, _ in gc.nn.LayerNorm(5, bias=False).named_parameters()] == ["weight"]


def test_layer_norm_begins_with_ones_and_zeros_and_survives_a_large_mean():
    layer = gc.nn.LayerNorm(4)
    assert np.array_equal(layer.weight.value, np.ones(4)) and np.array_equal(layer.bias.value, np.zeros(4))
    x = np.array([[1e4, 1e4 + 1, 1e4 + 2, 1e4 + 3]], dtype="float32")
    leaf = gc.input("x", (1, 4))
    np.testing.assert_allclose(
        gc.evaluate(layer(leaf), {leaf: x}), layer_norm_by_hand(x.astype("float64"), (-1,)), rtol=1e-5
    )


phi = np.vectorize(lambda v: 0.5 * (1 + math.erf(v / math.sqrt(2))))
FUNCTIONS = {  # by the rows of the features table; SiLU is in none
    "B.relu": (gc.nn.ReLU(), lambda x: np.maximum(x, 0)),
    "B.leaky_relu": (gc.nn.LeakyReLU(0.1), lambda x: np.where(x > 0, x, 0.1 * x)),
    "B.elu": (gc.nn.ELU(), lambda x: np.where(x > 0, x, np.expm1(x))),
    "B.tanh": (gc.nn.Tanh(), np.tanh),
    "B.sigmoid": (gc.nn.Sigmoid(), lambda x: 1 / (1 + np.exp(-x))),
    "B.softplus": (gc.nn.Softplus(), lambda x: np.log1p(np.exp(x))),
    "": (gc.nn.SiLU(), lambda x: x / (1 + np.exp(-x))),
    "B.gelu": (gc.nn.GELU(), lambda x: x * phi(x)),
    "B.softmax": (gc.nn.Softmax(), softmax),
    "B.log_softmax": (gc.nn.LogSoftmax(), lambda x: np.log(softmax(x))),
}


@pytest.mark.parametrize(
    "case", [shows(case, [row] if row else [], id=repr(case[0])) for row, case in FUNCTIONS.items()]
)
def test_activations(case):
    layer, function = case
    x = RNG.normal(size=(3, 7))
    check(layer, x, function(x))


def test_softmax_along_another_axis():
    x = RNG.normal(size=(3, 7))
    check(gc.nn.Softmax(axis=0), x, softmax(x.T).T)


# --- First values ---------------------------------------------------------------------------------------------------


def test_first_values_of_linear_and_conv2d_are_pytorchs():
    linear, conv = gc.nn.Linear(100, 50, seed=3), gc.nn.Conv2d(8, 16, 5, groups=2, seed=3)
    for layer, fan_in in ((linear, 100), (conv, 4 * 25)):
        for variable in layer.parameters():
            bound = 1 / math.sqrt(fan_in)
            assert 0.8 * bound < np.abs(variable.value).max() <= bound
        assert layer.weight.value.std() == pytest.approx(1 / math.sqrt(3 * fan_in), rel=0.03)
    assert linear.weight.shape == (50, 100) and conv.weight.shape == (16, 4, 5, 5)


def test_a_seed_fixes_weight_and_bias_and_they_differ():
    one, two = gc.nn.Linear(4, 4, seed=5), gc.nn.Linear(4, 4, seed=5)
    assert np.array_equal(one.weight.value, two.weight.value) and np.array_equal(one.bias.value, two.bias.value)
    assert not np.array_equal(one.weight.value[0], one.bias.value)


# --- Errors ---------------------------------------------------------------------------------------------------------

WRONG = [
    (gc.nn.Linear(784, 128), ("N", 10), r"Linear\(784, 128\): the input has 10 features, 784 are expected"),
    (gc.nn.Linear(784, 128), ("N", "D"), r"Linear\(784, 128\): the input has D features"),
    (gc.nn.Linear(784, 128), (), r"Linear\(784, 128\): the input is a scalar"),
    (gc.nn.Conv2d(1, 6, 5), ("N", 3, 28, 28), r"Conv2d\(1, 6, 5\): the input has 3 channels, 1 are expected"),
    (gc.nn.Conv2d(1, 6, 5), (1, 28, 28), r"Conv2d\(1, 6, 5\): the input has 3 axes, 4 are expected"),
    (gc.nn.Conv2d(1, 6, 5), (2, 1, 4, 28), r"Conv2d\(1, 6, 5\): conv2d: a window of 5 does not fit"),
    (gc.nn.MaxPool2d(2), (2, 4), r"MaxPool2d\(2\): the input has 2 axes"),
    (gc.nn.AvgPool2d(3, stride=2), (1, 1, 2, 9), r"AvgPool2d\(3, stride=2\): avg_pool2d: a window of 3 does not fit"),
    (gc.nn.LayerNorm(768), (5, 7), r"LayerNorm\(768, eps=1e-05\): the input's last axes are \(7,\), \(768,\) are"),
    (gc.nn.Flatten(2), (5,), r"Flatten\(2\): the input has 1 axes, at least 2"),
    (gc.nn.Softmax(axis=3), (5,), r"Softmax\(axis=3\): .*axis 3 does not exist"),
]


@pytest.mark.parametrize("layer, shape, message", WRONG, ids=[f"{layer!r}-{shape}" for layer, shape, _ in WRONG])
def test_wrong_extent_names_layer_and_line(layer, shape, message):
    model = gc.nn.Sequential(layer)
    with pytest.raises(ShapeError, match=message + r".*\(.*test_layers\.py:\d+\)$"):
        model(gc.input("x", shape))


def test_bad_options():
    with pytest.raises(ArgumentError, match="Linear: in_features must be a whole number from 1 up, not 0"):
        gc.nn.Linear(0, 3)
    with pytest.raises(ArgumentError, match="Conv2d: 3 input and 4 output channels do not both divide into 2 groups"):
        gc.nn.Conv2d(3, 4, 3, groups=2)
    with pytest.raises(ArgumentError, match="kernel_size must be a whole number from 1 up, or 2 of them, not -1"):
        gc.nn.Conv2d(3, 4, -1)
    with pytest.raises(ArgumentError, match="kernel_size must be a whole number from 1 up, or 2 of them, not "):
        gc.nn.Conv2d(3, 4, (1, 2, 3))
    with pytest.raises(ArgumentError, match="LayerNorm: eps must be a number from 0 up"):
        gc.nn.LayerNorm(3, eps=-1)

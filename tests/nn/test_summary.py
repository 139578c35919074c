"""Summaries: shapes, parameters, multiply-adds and receptive fields, against counts and gradients made another way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import graphc as gc
from graphc.errors import ArgumentTypeError, ShapeError
from graphc.ir.extent import dimension
from graphc.ir.fields import Fields


@pytest.mark.feature("C.shapes", "C.parameters", "C.operations")
def test_two_three_one_as_text():
    model = gc.nn.Sequential(gc.nn.Linear(2, 3), gc.nn.ReLU(), gc.nn.Linear(3, 1))
    found = model.summary(("N", 2))
    assert found.parameters == 13
    assert str(found).splitlines() == [
        "layer          output  parameters  multiply-adds  operations  field",
        "-------------------------------------------------------------------",
        "0      Linear  (N, 3)           9            6*N        15*N      2",
        "1      ReLU    (N, 3)           0              0         3*N      2",
        "2      Linear  (N, 1)           4            3*N         7*N      2",
        "-------------------------------------------------------------------",
        "total                          13            9*N        25*N",
        "parameters: 52 bytes",
    ]
    assert found.rows[0].multiply_adds == 6 * dimension("N") and found.rows[0].output == ((dimension("N"), 3),)


@pytest.mark.feature("C.huge")
def test_twenty_two_billion_weights_are_counted_and_not_made():
    layer = gc.nn.Linear(150_528, 150_528)
    found = layer.summary((1, 150_528))
    assert found.parameters == 150_528**2 + 150_528 and found.multiply_adds == 150_528**2
    assert found.rows[0].receptive_field == (1, 150_528)
    assert not layer.weight.is_made and not layer.bias.is_made


def test_a_summary_changes_no_first_value():
    def model():
        return gc.nn.Sequential(gc.nn.Linear(4, 4, seed=1), gc.nn.BatchNorm1d(4), gc.nn.Linear(4, 2, seed=2))

    plain, summed = model(), model()
    summed.summary((2, 4))
    assert all(np.array_equal(summed.state_dict()[name], value) for name, value in plain.state_dict().items())


@pytest.mark.feature("C.receptive_field")
def test_two_layers_of_size_three_see_five():
    model = gc.nn.Sequential(gc.nn.Conv1d(1, 1, 3), gc.nn.Conv1d(1, 1, 3))
    assert [row.receptive_field[2] for row in model.summary((1, 1, 20)).rows] == [3, 5]
    assert str(model.summary((1, 1, 20))).splitlines()[3].endswith("  5")


def field_of(layers):
    """Of (kernel size, stride) in a row: each adds (size - 1) times the strides before it (A. Araujo et al., Computing
    receptive fields of convolutional neural networks, Distill 2019, equation 2)."""
    field = jump = 1
    for size, stride in layers:
        field += (size - 1) * jump
        jump *= stride
    return field


class Block(gc.nn.Module):
    def __init__(self, inner, outer, stride):
        self.conv1 = gc.nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
        self.bn1 = gc.nn.BatchNorm2d(outer)
        self.conv2 = gc.nn.Conv2d(outer, outer, 3, 1, 1, bias=False)
        self.bn2 = gc.nn.BatchNorm2d(outer)
        self.down = None
        if stride != 1:
            self.down = gc.nn.Sequential(gc.nn.Conv2d(inner, outer, 1, stride, bias=False), gc.nn.BatchNorm2d(outer))

    def forward(self, x):
        y = self.bn2(self.conv2(gc.relu(self.bn1(self.conv1(x)))))
        return gc.relu(y + (x if self.down is None else self.down(x)))


class ResNet18(gc.nn.Module):
    def __init__(self):
        widths = [(64, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1), (256, 512, 2)]
        self.stem = gc.nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.norm = gc.nn.BatchNorm2d(64)
        self.blocks = [Block(*width) for width in (*widths, (512, 512, 1))]
        self.fc = gc.nn.Linear(512, 1000)

    def forward(self, x):
        x = gc.max_pool2d(gc.relu(self.norm(self.stem(x))), 3, 2, 1)
        for block in self.blocks:
            x = block(x)
        return self.fc(gc.mean(x, axis=(2, 3)))


@pytest.mark.feature("C.parameters", "C.receptive_field", "C.operations")
def test_resnet_18():
    """11,689,512 parameters and 1.814e9 multiply-adds are what PyTorch's page of the model says."""
    model = ResNet18()
    found = model.summary((1, 3, 224, 224))
    assert found.parameters == 11_689_512 and found.multiply_adds == 1_814_073_344
    rows = {row.name: row for row in found.rows}
    deepest = field_of([(7, 2), (3, 2), *[(3, 1)] * 4, *[(3, 2), (3, 1), (3, 1), (3, 1)] * 3])
    assert rows["stem"].receptive_field[2:] == (7, 7) and rows["blocks.7"].receptive_field[2:] == (deepest, deepest)
    assert rows["blocks.2.down.0"].receptive_field[2:] == (43, 43) and deepest == 435
    assert rows["fc"].receptive_field == (1, 3, 224, 224)
    # Pooling and the mean are the model's own work: 112 * 112 * 64 ReLUs, 9 comparisons for each of 56 * 56 * 64
    # maxima, 7 * 7 * 512 additions and 512 divisions.
    assert rows[""].operations == 112 * 112 * 64 + 9 * 56 * 56 * 64 + 7 * 7 * 512 + 512
    assert not model.stem.weight.is_made


def test_vgg_19():
    layers, channels, size, expected = [], 3, 224, 0
    for count, width in ((2, 64), (2, 128), (4, 256), (4, 512), (4, 512)):
        for _ in range(count):
            layers += [gc.nn.Conv2d(channels, width, 3, padding=1), gc.nn.ReLU()]
            expected += size * size * width * channels * 9
            channels = width
        layers.append(gc.nn.MaxPool2d(2))
        size //= 2
    layers.append(gc.nn.Flatten())
    for inner, outer in ((25_088, 4096), (4096, 4096), (4096, 1000)):
        layers.append(gc.nn.Linear(inner, outer))
        expected += inner * outer
    model = gc.nn.Sequential(*layers)
    found = model.summary((1, 3, 224, 224))
    assert found.parameters == 143_667_240 and found.multiply_adds == expected
    stack = [step for count in (2, 2, 4, 4, 4) for step in (*[(3, 1)] * count, (2, 2))]
    assert found.rows[35].receptive_field[2:] == (field_of(stack[:-1]),) * 2 == (252, 252)  # before the last pooling
    assert found.rows[36].receptive_field[2:] == found.rows[37].receptive_field[2:] == (field_of(stack),) * 2
    assert not any(parameter.is_made for parameter in model.parameters())


def test_layers_of_ones_own_and_what_is_shared():
    class Own(gc.nn.Module):
        def __init__(self):
            self.w = gc.param("w", (4, 4), init=1.0)
            self.twice = gc.nn.Linear(4, 4)
            self.unused = gc.nn.Linear(4, 9)

        def forward(self, x):
            y = gc.sum(gc.expand_dims(x, 1) * self.w, axis=2)  # a matrix product in other words
            return self.twice(self.twice(y)) + y

    found = Own().summary((5, 4))
    assert [(row.name, row.parameters, row.multiply_adds) for row in found.rows] == [
        ("twice", 20, 80),
        ("twice", 0, 80),
        ("", 16, 80),
        ("unused", 45, 0),
    ]
    assert found.parameters == 81 and found.multiply_adds == 240
    assert found.operations == sum(2 * 80 + 20 for _ in range(2)) + 2 * 80 + 20
    assert "not called" in str(found)


def test_what_counts_as_a_multiply_add():
    """A sum of one product each counts, a sum of squares does not, nor does a mean of scaled values."""
    assert gc.nn.Linear(1, 3).summary((5, 1)).multiply_adds == 15
    assert gc.nn.LayerNorm(8).summary((5, 8)).multiply_adds == 0
    assert gc.nn.Sequential(lambda x: gc.sum(2 * x)).summary((5, 8)).multiply_adds == 0
    assert gc.nn.AvgPool2d(2).summary((1, 1, 4, 4)).multiply_adds == 0


def test_a_layer_that_is_called_again_on_the_same_input_computes_nothing_new():
    class Same(gc.nn.Module):
        def __init__(self):
            self.layer = gc.nn.Linear(4, 4)

        def forward(self, x):
            return self.layer(x) + self.layer(x)

    assert [row.multiply_adds for row in Same().summary((1, 4)).rows] == [16, 0, 0]


def test_layers_inside_a_loop_count_once_for_each_step():
    class Recurrent(gc.nn.Module):
        def __init__(self):
            self.cell, self.out = gc.nn.RNNCell(8, 16), gc.nn.Linear(16, 2)

        def forward(self, x):
            def step(h, x_t):
                h = self.cell(x_t, h)
                return h, h * 2

            last, ys = gc.scan(step, gc.zeros((x.shape[1], 16)), x)
            return self.out(last), ys

    for length in (20, "T"):
        found = Recurrent().summary((length, 4, 8))
        steps = found.rows[0].output and (20 if length == 20 else dimension("T"))
        rows = {row.name: row for row in found.rows}
        assert rows["cell"].multiply_adds == steps * 4 * (8 * 16 + 16 * 16) and rows["out"].multiply_adds == 4 * 16 * 2
        assert rows[""].operations == steps * 4 * 16  # the doubling
        assert found.multiply_adds == rows["cell"].multiply_adds + rows["out"].multiply_adds


def test_what_no_output_needs_is_not_counted():
    class Unused(gc.nn.Module):
        def __init__(self):
            self.a, self.b = gc.nn.Linear(4, 4), gc.nn.Linear(4, 4)

        def forward(self, x):
            self.a(x)
            return self.b(x)

    assert [row.multiply_adds for row in Unused().summary((1, 4)).rows] == [0, 16]


def test_tensors_several_inputs_and_float64():
    class Two(gc.nn.Module):
        def __init__(self):
            self.a = gc.nn.Linear(3, 2, dtype="float64")

        def forward(self, x, y):
            return self.a(x), gc.take(self.a.weight, y, axis=0)

    found = Two().summary((7, 3), gc.input("y", (5,), dtype="int64"))
    assert found.rows[0].output == ((7, 2),) and found.rows[-1].output == ((7, 2), (5, 3))
    assert found.parameter_bytes == 64


def test_training_and_errors():
    model = gc.nn.Sequential(gc.nn.Linear(4, 4), gc.nn.Dropout(0.5))
    assert model.summary((2, 4)).rows[1].operations == 0 < model.summary((2, 4), training=True).rows[1].operations
    with pytest.raises(ShapeError, match=r"has 5 features, 4 are expected.*test_summary\.py:\d+"):
        model.summary((2, 5))
    with pytest.raises(ArgumentTypeError, match=r"summary: input 0 is 784; a shape .*test_summary\.py:\d+"):
        model.summary(784)
    with pytest.raises(ArgumentTypeError, match="summary: the shape of an input is needed"):
        model.summary()


# --- Receptive fields against gradients -------------------------------------------------------------------------------


def spans(y, x, length):
    """The widest span of inputs with a gradient over twelve outputs in the middle: weights above 0 cancel nothing."""
    middle = y.shape[2] // 2
    positions = range(middle - 6, middle + 6)
    gradients = gc.evaluate([gc.grad(gc.sum(y[:, :, p]), x) for p in positions], {x: np.ones((1, 1, length))})
    found = []
    for gradient in gradients:
        reached = np.flatnonzero(gradient[0, 0])
        found.append(reached[-1] - reached[0] + 1)
    return max(found)


def weight(name, shape):
    return gc.param(name, shape, init=1.0, dtype="float64")


LAYER = st.one_of(
    st.tuples(st.just("conv"), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(0, 3)),
    st.tuples(st.just("pool"), st.integers(2, 3), st.integers(1, 3)),
    st.tuples(st.just("residual"), st.integers(0, 2), st.integers(1, 3)),
    st.tuples(st.just("branches"), st.integers(0, 2), st.integers(0, 2)),
    st.tuples(st.just("up"), st.integers(1, 4), st.integers(1, 3)),
)


def applied(x, layer):
    channels = x.shape[1]
    match layer:
        case ("conv", size, stride, dilation, padding):
            return gc.conv1d(x, weight("w", (2, channels, size)), stride=stride, dilation=dilation, padding=padding)
        case ("pool", size, stride):
            return gc.avg_pool1d(x, size, stride)
        case ("residual", half, dilation):
            w = weight("w", (channels, channels, 2 * half + 1))
            return x + gc.conv1d(x, w, padding=half * dilation, dilation=dilation)
        case ("branches", a, b):
            parts = [gc.conv1d(x, weight("w", (1, channels, 2 * n + 1)), padding=n) for n in (a, b)]
            return gc.concatenate(parts, axis=1)
        case ("up", size, stride):
            # Not smaller than the stride: some outputs would depend on nothing.
            return gc.conv_transpose1d(x, weight("w", (channels, 2, size + stride - 1)), stride=stride)


@pytest.mark.feature("C.receptive_field")
@settings(max_examples=30)
@given(st.lists(LAYER, min_size=1, max_size=4))
def test_fields_of_stacks_are_those_of_their_gradients(layers):
    length = 400
    x = y = gc.input("x", (1, 1, length), dtype="float64")
    for layer in layers:
        y = applied(y, layer)
    ups = sum(layer[0] == "up" and layer[2] > 1 for layer in layers)
    downs = sum(layer[0] in ("conv", "pool") and layer[2] > 1 for layer in layers)
    [batch, channel, found] = Fields(x.node).sizes(y.node)
    assume(y.shape[2] > 12 + length // 10 and found < length // 4)  # the middle must be far from the edges
    expected = spans(y, x, length)
    assert (batch, channel) == (1, 1)
    assert found >= expected  # never too small
    if not ups or (ups == 1 and not downs):  # where phases meet phases, the widest of each need not occur at one place
        assert found == expected


@pytest.mark.parametrize(
    "make, expected",
    [
        (lambda x: gc.mean(x, axis=(2, 3), keepdims=True), (1, 1, 12, 10)),
        (lambda x: x - gc.mean(x, axis=1, keepdims=True), (1, 3, 1, 1)),
        (lambda x: gc.flatten(x), (1, 1, 1, 1)),
        (lambda x: gc.flatten(gc.max_pool2d(x, 2)), (1, 1, 2, 2)),
        (lambda x: gc.flatten(x) + gc.flatten(gc.avg_pool2d(x, 3, 1, 1)), (1, 1, 3, 3)),
        (lambda x: gc.relu(gc.flatten(x)) + gc.flatten(x[:, :, ::-1] + x), (1, 1, 12, 1)),
        (lambda x: gc.flatten(x) + gc.flatten(gc.transpose(x, (0, 1, 3, 2))), (1, 3, 12, 10)),  # places unlike: all
        (lambda x: gc.flatten(x) + gc.flip(gc.flatten(x), axis=1), (1, 3, 12, 10)),
        (lambda x: gc.flatten(gc.max_pool2d(x, 2)) @ gc.ones((90, 4)), (1, 3, 12, 10)),
        (lambda x: gc.flatten(gc.max_pool2d(x, 4)) @ gc.ones((18, 4)), (1, 3, 12, 8)),  # the last columns are not read
        (lambda x: gc.reshape(x, (2, 3, 120))[:, :, 3:5], (1, 1, 1, 1)),
        (lambda x: gc.flip(x, axis=3)[:, :, 1:, ::2], (1, 1, 1, 1)),
        (lambda x: gc.transpose(x, (0, 3, 2, 1)), (1, 1, 1, 1)),
        (lambda x: gc.cumsum(x, axis=2), (1, 1, 12, 1)),
        (lambda x: gc.pad(x, ((0, 0), (0, 0), (2, 1), (0, 0)))[:, :, 1:], (1, 1, 1, 1)),
        (lambda x: x[:, :, 1:] - x[:, :, :-1], (1, 1, 2, 1)),
        (lambda x: gc.einsum("nchw,nchv->nwv", x, x), (1, 3, 12, 10)),
        (lambda x: gc.softmax(x, axis=1), (1, 3, 1, 1)),
        (lambda x: gc.stop_gradient(x[:, 1]), (1, 1, 1, 1)),
    ],
)
def test_fields_of_single_steps(make, expected):
    x = gc.input("x", (2, 3, 12, 10))
    assert Fields(x.node).sizes(make(x).node) == expected


def test_fields_of_symbolic_axes():
    x = gc.input("x", ("N", "T", 4))
    n, t = x.shape[:2]
    fields = Fields(x.node)
    assert fields.sizes((x @ gc.ones((4, 2))).node) == (1, 1, 4)
    assert fields.sizes(gc.softmax(x, axis=1).node) == (1, t, 1)
    assert fields.sizes((x - gc.mean(x, axis=0)).node) == (n, 1, 1)
    assert fields.sizes(gc.ones((3,)).node) is None

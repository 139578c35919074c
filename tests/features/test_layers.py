"""Section C, where the tests of graphc.nn do not show a row on every backend: convolutions against SciPy, shapes
against arrays, ResNet-S against its formula."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import signal, special

import graphc as gc
from graphc.backend import available

RNG = np.random.default_rng(0)
D = "float64"


@pytest.fixture(params=available())
def backend(request):
    return request.param


def by_scipy(x, w, stride=1, padding=0, dilation=1, groups=1):
    """Convolution of (N, C, ...) with (O, C/groups, ...): sums over channels of SciPy's correlations."""
    spatial = x.ndim - 2
    around = 0 if padding == "valid" else padding
    x = np.pad(x, [(0, 0)] * 2 + [(around, around)] * spatial)
    spread = np.zeros((*w.shape[:2], *(dilation * (extent - 1) + 1 for extent in w.shape[2:])))
    spread[(..., *[slice(None, None, dilation)] * spatial)] = w
    inner, per_group = w.shape[1], len(w) // groups
    rows = []
    for image in x:
        for o, kernel in enumerate(spread):
            first = o // per_group * inner
            maps = [signal.correlate(image[first + c], kernel[c], "valid", "direct") for c in range(inner)]
            rows.append(sum(maps)[(slice(None, None, stride),) * spatial])
    return np.array(rows).reshape(len(x), len(w), *rows[0].shape)


CONVOLUTIONS = {
    "valid": {"padding": "valid"},
    "padded": {"padding": 2},
    "strided": {"stride": 2, "padding": 1},
    "dilated": {"dilation": 2, "padding": 1},
    "in groups": {"groups": 2},
    "all": {"stride": 3, "padding": 2, "dilation": 2, "groups": 4},
}
SPACES = {1: (11,), 2: (8, 9)}


@pytest.mark.parametrize("options", [pytest.param(options, id=name) for name, options in CONVOLUTIONS.items()])
@pytest.mark.parametrize(
    "spatial", [pytest.param(n, marks=pytest.mark.feature(f"C.conv{n}d")) for n in SPACES], ids="{}d".format
)
def test_convolutions_are_scipys(spatial, options, backend):
    """The value; and, as it is linear in x and in w, its gradients g by <conv(other), v> = <other, g>."""
    layer = (gc.nn.Conv1d, gc.nn.Conv2d)[spatial - 1](4, 8, 3, bias=False, seed=0, dtype=D, **options)
    x = gc.input("x", (2, 4, *SPACES[spatial]), D)
    y = layer(x)
    v = gc.input("v", y.shape, D)
    run = gc.compile([x, v], [y, *gc.vjp(y, [x, layer.weight], v)], backend=backend)
    at, upstream = RNG.normal(size=x.shape), RNG.normal(size=y.shape)
    found, to_x, to_w = run(at, upstream)
    weight = layer.weight.value
    np.testing.assert_allclose(found, by_scipy(at, weight, **options), rtol=1e-11, atol=1e-12)
    other, other_weight = RNG.normal(size=x.shape), RNG.normal(size=weight.shape)
    assert (to_x * other).sum() == pytest.approx((by_scipy(other, weight, **options) * upstream).sum(), rel=1e-10)
    assert (to_w * other_weight).sum() == pytest.approx(
        (by_scipy(at, other_weight, **options) * upstream).sum(), rel=1e-10
    )


@pytest.mark.feature("C.shapes", "C.parameters")
def test_shapes_and_counts_of_a_stack_are_those_of_its_arrays(backend):
    nn = gc.nn
    layers = [
        nn.Conv2d(3, 6, (3, 5), stride=2, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True),
        nn.Conv2d(6, 4, 3, dilation=2, groups=2, bias=False), nn.AvgPool2d(2), nn.ConvTranspose2d(4, 2, 3, stride=2),
        nn.Flatten(), nn.Linear(18, 7), nn.LayerNorm(7), nn.Maxout(7, 2, pieces=3),
    ]  # fmt: skip
    rows = nn.Sequential(*layers).summary((2, 3, 29, 31)).rows
    x = y = gc.input("x", (2, 3, 29, 31))
    outputs = []
    for layer in layers:
        y = layer(y)
        outputs.append(y)
    arrays = gc.compile([x], outputs, backend=backend)(np.ones(x.shape, np.float32))
    assert [row.output for row in rows] == [(array.shape,) for array in arrays]
    assert [row.parameters for row in rows] == [sum(p.value.size for p in layer.parameters()) for layer in layers]


@pytest.mark.feature("C.resnet_s")
def test_resnet_s_is_its_formula(backend):
    """Blocks z + sigma(W2 sigma(W1 z + b1) + b2) between an affine map in and one out, and its gradients."""
    blocks = [gc.nn.ResidualBlock(5, gc.sigmoid, seed=n, dtype=D) for n in range(3)]
    model = gc.nn.Sequential(gc.nn.Linear(3, 5, seed=8, dtype=D), *blocks, gc.nn.Linear(5, 1, seed=9, dtype=D))

    def by_hand(x, values):
        first, bias, *inner, last, last_bias = values
        z = x @ first.T + bias
        for k in range(0, len(inner), 4):
            w1, b1, w2, b2 = inner[k : k + 4]
            z = z + special.expit(special.expit(z @ w1.T + b1) @ w2.T + b2)
        return z @ last.T + last_bias

    x = gc.input("x", (4, 3), D)
    y, at = model(x), RNG.normal(size=(4, 3))
    parameters = model.parameters()
    found, *gradients = gc.compile([x], [y, *gc.grad(gc.sum(y * y), parameters)], backend=backend)(at)
    values = [p.value for p in parameters]
    np.testing.assert_allclose(found, by_hand(at, values), rtol=1e-12)
    for place, gradient in enumerate(gradients):
        direction, ends = RNG.normal(size=gradient.shape), []
        for step in (1e-5, -1e-5):
            moved = [v + step * direction if n == place else v for n, v in enumerate(values)]
            ends.append((by_hand(at, moved) ** 2).sum())
        assert (gradient * direction).sum() == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-7, abs=1e-8)

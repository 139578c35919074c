"""Random graphs: interpreter and backends agree on values, first and second derivatives; derivatives agree with
central differences."""

from __future__ import annotations

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

import graphc as gc
from graphc.ir.graph import Graph
from tests.conformance.agreement import KINK_DISTANCE, agree, derivatives_match, kink_distance

SIZES = st.sampled_from([0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33])
SMALL = st.sampled_from([1, 2, 3, 5, 7, 8, 9])

SMOOTH = {
    "tanh": gc.tanh,
    "sin": gc.sin,
    "sigmoid": gc.sigmoid,
    "softplus": gc.softplus,
    "bell": lambda x: gc.exp(-x * x),
    "inverse": lambda x: 1 / (x * x + 1),
    "root": lambda x: gc.sqrt(x * x + 0.5),
    "log1p": lambda x: gc.log(1 + x * x),
    "cube": lambda x: 0.1 * x**3,
    "gelu": gc.gelu,
    "arctan": gc.arctan,
}
KINKED = {
    "relu": gc.relu,
    "leaky": lambda x: gc.leaky_relu(x, 0.1),
    "abs": gc.absolute,
    "clip": lambda x: gc.clip(x, -0.7, 0.9),
    "elu": gc.elu,
}


@st.composite
def models(draw, dtype, sizes=SIZES, longest=5):
    """(inputs with values, a tensor computed from them)"""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = draw(st.lists(sizes, min_size=1, max_size=3))
    while np.prod(shape) > 2000:
        shape.pop()
    values = {}

    def leaf(of):
        tensor = gc.input(f"x{len(values)}", tuple(of), dtype=dtype)
        values[tensor] = rng.normal(size=of).astype(dtype)
        return tensor

    x = leaf(shape)
    for _ in range(draw(st.integers(1, longest))):
        x = draw(st.sampled_from([unary, binary, reduction, product, reshaping, indexing, joining, rows]))(
            draw, x, leaf
        )
    return values, x


def unary(draw, x, leaf):
    name = draw(st.sampled_from(sorted(SMOOTH | KINKED)))
    return (SMOOTH | KINKED)[name](x)


def binary(draw, x, leaf):
    shape = [draw(st.sampled_from([1, extent])) if extent else extent for extent in x.shape]
    y = leaf(shape[draw(st.integers(0, len(shape))) :])
    return draw(
        st.sampled_from(
            [lambda: x + y, lambda: y - x, lambda: x * y, lambda: x / (y * y + 1), lambda: gc.maximum(x, y)]
        )
    )()


def reduction(draw, x, leaf):
    axes = [axis for axis, extent in enumerate(x.shape) if extent]
    if not axes:
        return gc.tanh(x)
    axis = draw(st.sampled_from(axes))
    op = draw(st.sampled_from([gc.sum, gc.mean, gc.max, gc.min, gc.var]))
    return op(x, axis=axis, keepdims=True) * 0.5 + x if draw(st.booleans()) else op(x, axis=axis)


def product(draw, x, leaf):
    if not x.ndim:
        return x * 2
    columns = draw(st.sampled_from([1, 3, 7, 16, 17]))
    return x @ leaf([x.shape[-1], columns]) * 0.3


def reshaping(draw, x, leaf):
    return draw(st.sampled_from([gc.transpose, gc.ravel, gc.flip, lambda t: gc.expand_dims(t, 0)]))(x)


def indexing(draw, x, leaf):
    if not x.ndim or x.shape[0] < 2:
        return x * 1.5
    return draw(st.sampled_from([lambda: x[1:], lambda: x[::2], lambda: x[::-1], lambda: x[:-1], lambda: x[1::3]]))()


def joining(draw, x, leaf):
    if not x.ndim:
        return gc.stack([x, x * x])
    return draw(
        st.sampled_from(
            [lambda: gc.concatenate([x, gc.tanh(x)], axis=-1), lambda: gc.pad(x, 1), lambda: gc.cumsum(x, 0)]
        )
    )()


def rows(draw, x, leaf):
    if not x.ndim or not x.shape[-1]:
        return x
    return draw(st.sampled_from([gc.softmax, gc.log_softmax, lambda t: gc.logsumexp(t, -1)]))(x)


def scalar_loss(x):
    return gc.sum(gc.sin(x) * x)


def second_order(loss, leaf):
    return gc.grad(gc.sum(gc.square(gc.grad(loss, leaf))), leaf)


@given(st.data(), st.sampled_from(["float32", "float64"]))
def test_backends_agree(data, dtype):
    values, x = data.draw(models(dtype))
    loss = scalar_loss(x)
    first = next(iter(values))
    outputs = [x, loss, *gc.grad(loss, list(values))]
    if dtype == "float64":
        outputs.append(second_order(loss, first))
    agree(outputs, values)


@given(st.data())
def test_derivatives_agree_with_differences(data):
    values, x = data.draw(models("float64", SMALL, 4))
    loss = scalar_loss(x)
    at = {tensor.node: value for tensor, value in values.items()}
    assume(kink_distance(Graph((loss.node,)), at) > KINK_DISTANCE)
    derivatives_match(loss, next(iter(values)), values, np.random.default_rng(0))


BORDER = {"exp": gc.exp, "reciprocal": lambda x: 1 / x, "log": gc.log, "none": lambda x: x}


@given(
    st.sampled_from(["float32", "float64"]),
    st.sampled_from(sorted(BORDER)),
    st.sampled_from(["conv", "max_pool", "avg_pool", "avg_pool_inside", "pad", "transposed"]),
    st.tuples(st.integers(1, 3), st.integers(0, 2), st.integers(1, 2), st.integers(1, 3)),
    st.sampled_from([(5, 6), (7, 8), (9, 17), (16, 5)]),
    st.integers(0, 2**32 - 1),
)
def test_windows_agree_at_padded_borders(dtype, before, kind, window, space, seed):
    """exp, 1/x and log next to zeros of the padding: what is fused into the window must not touch them."""
    stride, padding, dilation, kernel = window
    rng = np.random.default_rng(seed)
    x = gc.input("x", (2, 3, *space), dtype=dtype)
    w = gc.input("w", (4, 3, kernel, kernel), dtype=dtype)
    values = {x: rng.uniform(0.5, 2, size=x.shape).astype(dtype)}
    y = BORDER[before](x)
    padding = min(padding, kernel // 2)
    if kind == "conv":
        values[w] = rng.normal(size=w.shape).astype(dtype)
        z = gc.conv2d(y, w, stride=stride, padding=padding, dilation=dilation)
    elif kind == "transposed":
        kernels = gc.transpose(w, (1, 0, 2, 3))
        values[w] = rng.normal(size=w.shape).astype(dtype)
        z = gc.conv_transpose2d(y, kernels, stride=stride, padding=padding, dilation=dilation)
    elif kind == "max_pool":
        z = gc.max_pool2d(y, kernel, stride=stride, padding=padding)
    elif kind == "pad":
        z = gc.pad(y, padding) * 2
    else:
        z = gc.avg_pool2d(y, kernel, stride=stride, padding=padding, count_include_pad=kind == "avg_pool")
    loss = gc.sum(gc.tanh(z) * z)
    outputs = [z, loss, *gc.grad(loss, list(values))]
    if dtype == "float64":
        outputs.append(second_order(loss, x))
    agree(outputs, values)

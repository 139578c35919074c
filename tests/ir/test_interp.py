"""The interpreter, the oracle of every backend, against NumPy, SciPy and explicit loops."""

from __future__ import annotations

import itertools

import mpmath
import numpy as np
import pytest
import scipy.signal

import graphc as gc
from graphc.ir import scalar as sc
from graphc.ir.affine import AffineMap, affine, axis_row, identity
from graphc.ir.graph import Graph
from graphc.ir.interp import interpret
from graphc.ir.node import INSIDE, SKIP, ZERO, Generic, generic, leaf
from graphc.ir.verify import verify

RNG = np.random.default_rng(0)
A0 = sc.Arg(0, "float64")


def value(tensor, **arrays):
    """The value of a tensor; inputs by name."""
    graph = Graph((tensor.node,))
    verify(graph)
    (result,) = interpret(graph, {node: arrays[node.name] for node in graph.inputs})
    assert result.dtype == tensor.dtype and result.shape == tensor.shape
    return result


def inputs(dtype="float64", **arrays):
    return [gc.input(name, array.shape, dtype) for name, array in arrays.items()]


@pytest.mark.parametrize(
    ("left", "right"),
    [((3, 4), (4, 5)), ((4,), (4, 5)), ((3, 4), (4,)), ((4,), (4,)), ((2, 1, 3, 4), (5, 4, 2)), ((3, 0), (0, 2))],
)
def test_matmul(left, right):
    arrays = {"a": RNG.normal(size=left), "b": RNG.normal(size=right)}
    a, b = inputs(**arrays)
    np.testing.assert_allclose(value(a @ b, **arrays), arrays["a"] @ arrays["b"], rtol=1e-13)


def test_float32_sums_are_the_rounded_float64_ones():
    array = (RNG.normal(size=10_000) * 1e3).astype(np.float32)
    (x,) = inputs("float32", x=array)
    assert value(gc.sum(x), x=array) == np.float32(array.astype(np.float64).sum())


def test_the_normal_distribution_keeps_its_digits_in_the_tail():
    array = np.array([-37.5, -20.1, -5.3, -1.7, -0.9, 0.3, 8.0])
    (x,) = inputs(x=array)
    with mpmath.workprec(120):
        exact = [float(mpmath.erfc(-mpmath.mpf(v) / mpmath.sqrt(2)) / 2) for v in array]
    np.testing.assert_allclose(value(gc.ndtr(x), x=array), exact, rtol=5e-16)
    ends = np.array([-np.inf, np.inf, np.nan])
    np.testing.assert_array_equal(value(gc.ndtr(gc.input("x", 3, "float64")), x=ends), [0, 1, np.nan])


def loop_conv(x, w, stride, padding, dilation, groups=1):
    """The definition of FEATURES C, point by point."""
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    n, _, h, v = x.shape
    o, c, p, q = w.shape
    rows, columns = ((e - (k - 1) * dilation - 1) // stride + 1 for e, k in ((h, p), (v, q)))
    y = np.zeros((n, o, rows, columns))
    for i, j in itertools.product(range(rows), range(columns)):
        window = x[:, :, stride * i : stride * i + (p - 1) * dilation + 1 : dilation]
        window = window[..., stride * j : stride * j + (q - 1) * dilation + 1 : dilation]
        for g in range(groups):
            mine, outs = slice(g * c, (g + 1) * c), slice(g * (o // groups), (g + 1) * (o // groups))
            y[:, outs, i, j] = np.einsum("ncpq,ocpq->no", window[:, mine], w[outs])
    return y


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize("dilation", [1, 2])
def test_conv2d(stride, padding, dilation):
    arrays = {"x": RNG.normal(size=(2, 3, 7, 8)), "w": RNG.normal(size=(4, 3, 3, 2))}
    x, w = inputs(**arrays)
    got = value(gc.conv2d(x, w, stride=stride, padding=padding, dilation=dilation), **arrays)
    np.testing.assert_allclose(got, loop_conv(arrays["x"], arrays["w"], stride, padding, dilation), rtol=1e-12)


def test_conv2d_in_groups():
    arrays = {"x": RNG.normal(size=(1, 4, 5, 5)), "w": RNG.normal(size=(6, 2, 3, 3))}
    x, w = inputs(**arrays)
    got = value(gc.conv2d(x, w, groups=2, padding=1), **arrays)
    np.testing.assert_allclose(got, loop_conv(arrays["x"], arrays["w"], 1, 1, 1, groups=2), rtol=1e-12)


def test_conv2d_is_scipys_correlation():
    arrays = {"x": RNG.normal(size=(1, 1, 9, 9)), "w": RNG.normal(size=(1, 1, 3, 3))}
    x, w = inputs(**arrays)
    expected = scipy.signal.correlate2d(arrays["x"][0, 0], arrays["w"][0, 0], mode="valid")
    np.testing.assert_allclose(value(gc.conv2d(x, w), **arrays)[0, 0], expected, rtol=1e-12)


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(2, 2, 0), (3, 2, 1), (3, 1, 1), (2, 3, 1)])
def test_pooling_with_padding(kernel, stride, padding):
    array = RNG.normal(size=(2, 3, 7, 7)) - 5  # below 0, so that padding would win if it were 0
    (x,) = inputs(x=array)
    pads = ((0, 0), (0, 0), (padding, padding), (padding, padding))
    high, zeros = np.pad(array, pads, constant_values=-np.inf), np.pad(array, pads)
    windows = np.lib.stride_tricks.sliding_window_view(high, (kernel, kernel), (2, 3))[:, :, ::stride, ::stride]
    got = value(gc.max_pool2d(x, kernel, stride, padding), x=array)
    np.testing.assert_array_equal(got, windows.max((-1, -2)))
    windows = np.lib.stride_tricks.sliding_window_view(zeros, (kernel, kernel), (2, 3))[:, :, ::stride, ::stride]
    got = value(gc.avg_pool2d(x, kernel, stride, padding), x=array)
    np.testing.assert_allclose(got, windows.mean((-1, -2)), rtol=1e-12)


TIES = np.array([[1.0, 3, 3, 2], [np.nan, 9, np.nan, 1], [-np.inf] * 4, [np.inf, 0, np.inf, np.nan], [0.0, -0.0, 0, 0]])


@pytest.mark.parametrize("name", ["argmax", "argmin", "max", "min"])
@pytest.mark.parametrize("axis", [0, 1, None])
def test_extremes_with_ties_and_nan(name, axis):
    (x,) = inputs(x=TIES)
    np.testing.assert_array_equal(value(getattr(gc, name)(x, axis), x=TIES), getattr(np, name)(TIES, axis))


@pytest.mark.parametrize("dtype", ["int32", "int64", "float32"])
def test_argmax_of_other_dtypes(dtype):
    array = np.array([[3, 7, 7], [-1, -5, -1]]).astype(dtype)
    (x,) = inputs(dtype, x=array)
    for name in ("argmax", "argmin", "max", "min", "sum", "prod"):
        np.testing.assert_array_equal(value(getattr(gc, name)(x, 1), x=array), getattr(np, name)(array, 1))


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_empty_extents(shape):
    array = np.zeros(shape)
    (x,) = inputs(x=array)
    np.testing.assert_array_equal(value(gc.exp(x) + 1, x=array), np.exp(array) + 1)
    for axis in (0, 1, None):
        np.testing.assert_array_equal(value(gc.sum(x, axis), x=array), array.sum(axis))
        np.testing.assert_array_equal(value(gc.prod(x, axis), x=array), array.prod(axis))
        np.testing.assert_array_equal(value(gc.all(x, axis), x=array), array.all(axis))
        np.testing.assert_array_equal(value(gc.any(x, axis), x=array), array.any(axis))
        if all(array.shape[a] for a in ((0, 1) if axis is None else (axis,))):
            np.testing.assert_array_equal(value(gc.max(x, axis), x=array), array.max(axis))
    np.testing.assert_array_equal(value(x.T @ x, x=array), array.T @ array)
    np.testing.assert_array_equal(value(gc.concatenate([x, x]), x=array), np.concatenate([array, array]))


def shifted(mode, reducer, start=-1):
    """out[i] of 3 elements from x[i + start] of 3."""
    x = leaf("x", (3,), "float64", "input")
    index_map = AffineMap(1, (affine({0: 1}, start),))
    node = generic((3,), (3,), identity(1), (x,), (index_map,), (mode,), sc.apply("exp", A0), reducer)
    return interpret(Graph((node,)), {x: np.array([1.0, 2, 3])})[0]


def test_a_read_outside_is_zero_or_skipped():
    np.testing.assert_allclose(shifted(ZERO, None), [1, np.e, np.e**2])
    np.testing.assert_allclose(shifted(SKIP, None), [0, np.e, np.e**2])


@pytest.mark.parametrize(
    ("reducer", "expected"),
    [("sum", 0), ("prod", 1), ("max", -np.inf), ("min", np.inf), ("argmax", -1), ("argmin", -1)],
)
@pytest.mark.parametrize("dtype", ["float64", "int32"])
def test_what_no_point_writes_holds_the_identity(reducer, expected, dtype):
    x = leaf("x", (2, 4), dtype, "input")
    outside = AffineMap(2, (axis_row(0), affine({1: 1}, 9)))
    node = Generic((2, 4), (2,), AffineMap(2, (axis_row(0),)), (x,), (outside,), (SKIP,), sc.Arg(0, dtype), reducer)
    (got,) = interpret(Graph((node,)), {x: np.ones((2, 4), dtype)})
    if dtype == "int32" and reducer in ("max", "min"):
        expected = np.iinfo(np.int32).min if reducer == "max" else np.iinfo(np.int32).max
    assert got.tolist() == [expected] * 2


def test_a_point_that_writes_outside_is_not_visited():
    x = leaf("x", (4,), "float64", "input")
    out_map = AffineMap(1, (affine({0: 1}, -2),))
    node = Generic((4,), (3,), out_map, (x,), (identity(1),), (INSIDE,), A0, None)
    assert interpret(Graph((node,)), {x: np.array([1.0, 2, 3, 4])})[0].tolist() == [3, 4, 0]


def test_masks_are_selects():
    x, mask = leaf("x", (2,), "float64", "input"), leaf("mask", (2,), "bool", "input")
    body = sc.apply("select", sc.Arg(1, "bool"), A0, sc.literal(0, "float64"))
    node = generic((2,), (2,), identity(1), (x, mask), (identity(1),) * 2, (INSIDE,) * 2, body, None)
    assert interpret(Graph((node,)), {x: np.array([np.nan, 1]), mask: np.array([False, True])})[0].tolist() == [0, 1]


def test_integers_wrap_and_divide_as_stated():
    array = np.array([2**31 - 1, -7, 7, 5], dtype=np.int32)
    (x,) = inputs("int32", x=array)
    assert value(x + 1, x=array).tolist() == [-(2**31), -6, 8, 6]
    assert value(x // 2, x=array).tolist() == [2**30 - 1, -4, 3, 2]
    assert value(x % 4, x=array).tolist() == [3, 1, 3, 1]
    assert value(x // (x * 0), x=array).tolist() == [0] * 4
    assert value(gc.constant([2.7, -2.7]).astype("int64")).tolist() == [2, -2]


def test_indices_outside_are_an_error():
    array, at = np.arange(3.0), np.array([3])
    x, k = gc.input("x", (3,), "float64"), gc.input("k", (1,), "int64")
    with pytest.raises(IndexError, match="take: index 3 is outside an axis of 3"):
        value(gc.take(x, k), x=array, k=at)


def test_take_scatter_and_cumsum():
    arrays = {"x": RNG.normal(size=(3, 4)), "k": np.array([[2, 0], [2, 1]])}
    x, k = gc.input("x", (3, 4), "float64"), gc.input("k", (2, 2), "int64")
    taken = gc.take(x, k, axis=0)
    np.testing.assert_array_equal(value(taken, **arrays), np.take(arrays["x"], arrays["k"], axis=0))
    counts = np.zeros((3, 4))
    np.add.at(counts, arrays["k"], 1)
    np.testing.assert_array_equal(value(gc.grad(gc.sum(taken), x), **arrays), counts)
    for axis in (0, 1, None):
        np.testing.assert_allclose(value(gc.cumsum(x, axis), x=arrays["x"]), np.cumsum(arrays["x"], axis))

"""trace_nan names the node, the line, the numbers and the reason; what is repaired or meant is not blamed."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import graphc as gc
from graphc.errors import ArgumentError
from graphc.train import NanTrace

X = np.array([[1.0, 2.0, 3.0], [0.0, -1.0, 200.0]], np.float32)


def leaf():
    return gc.input("x", ("N", 3))


def line_of(function, text):
    lines, first = inspect.getsourcelines(function)
    return first + next(number for number, line in enumerate(lines) if text in line)


CASES = {
    # name: (expression of x, op, index, calculation, a part of the hint)
    "log of 0": (lambda x: gc.log(gc.maximum(x, 0)), "log", (1, 0), "log(0.0) = -inf", "logarithm of 0"),
    "log of a negative": (lambda x: gc.log(x + 0.5), "log", (1, 1), "log(-0.5) = nan", "negative number"),
    "log1p": (lambda x: gc.log1p(x), "log1p", (1, 1), "log1p(-1.0) = -inf", "above -1"),
    "division": (lambda x: 1 / x, "divide", (1, 0), "1.0 / 0.0 = inf", "division by 0"),
    "0 by 0": (lambda x: (x - x) / x, "divide", (1, 0), "0.0 / 0.0 = nan", "division by 0"),
    "exp": (lambda x: gc.sum(gc.exp(x)), "exp", (1, 2), "exp(200.0) = inf", "88.7 in float32"),
    "exp in float64": (lambda x: gc.exp(x.astype("float64") * 4), "exp", (1, 2), "exp(800.0) = inf", "709.8"),
    "root": (lambda x: gc.sqrt(x), "sqrt", (1, 1), "sqrt(-1.0) = nan", "negative"),
    "power": (lambda x: x**-1.5, "power", (1, 1), "-1.0 ** -1.5 = nan", "not whole"),
    "product": (lambda x: x * 1e38, "multiply", (1, 2), "200.0 * 1e+38 = inf", "greatest float32, 3.4e+38"),
    "gradient of a root": (
        lambda x: gc.grad(gc.sum(gc.sqrt(gc.abs(x))), x),
        "the gradient of sqrt",
        (1, 0),
        "0.5 / 0.0 = inf",
        "division by 0",
    ),
    "deep inside": (
        lambda x: gc.mean(gc.tanh(gc.relu(gc.log(x - 300)) + x)),
        "log",
        (0, 0),
        "log(-299.0) = nan",
        "negative number",
    ),
    "infinity minus infinity": (
        lambda x: gc.softmax(gc.where(x > 500, x, -gc.inf), axis=1),
        "subtract",
        (0, 0),
        "-inf - -inf = nan",
        "infinity minus infinity",
    ),
    "written": (lambda x: gc.where(x > 9, gc.nan, x), "where", (1, 2), "a NaN that is written in the op itself", ""),
}


@pytest.mark.feature("F.nan")
@pytest.mark.parametrize("name", CASES)
def test_the_first_culprit(name):
    expression, op, index, calculation, hint = CASES[name]
    x = leaf()
    trace = gc.trace_nan(expression(x), {x: X})
    assert isinstance(trace, NanTrace)
    assert (trace.op, trace.index, trace.calculation) == (op, index, calculation)
    assert hint in trace.hint and trace.where is not None and "test_nan.py" in trace.where
    assert not np.isfinite(trace.value)


@pytest.mark.feature("F.nan")
def test_the_line_and_the_scope():
    x = leaf()
    with gc.scope("encoder"), gc.scope("layer2"):
        y = gc.relu(x) - 0.5
        z = gc.log(y)  # this line
    trace = gc.trace_nan([gc.sum(y), gc.sum(z * 2)], {x: X})
    assert trace.scope == "encoder/layer2"
    assert trace.where == f"{__file__}:{line_of(test_the_line_and_the_scope, '# this line')}"
    assert trace.operands == (("y", "-0.5"),)
    text = str(trace)
    assert text.startswith(f"the first NaN comes from log in encoder/layer2 ({trace.where}) at [1, 0]: log(-0.5) = nan")


@pytest.mark.parametrize(
    "expression",
    [
        lambda x: gc.log(gc.sum(gc.exp(x), axis=1)),  # compiled in a stable form
        lambda x: gc.softmax(gc.where(x > 0, x, -gc.inf), axis=1),  # a mask
        lambda x: gc.where(x > 0, gc.log(gc.maximum(x, 1)), 0.0),
        lambda x: gc.nn.cross_entropy(x, gc.constant([0, 1])),
    ],
)
def test_what_is_finite_is_not_blamed(expression):
    x = gc.input("x", (2, 3))
    assert gc.trace_nan(expression(x), {x: X}) is None


def test_a_nan_that_is_chosen_away_is_not_blamed():
    x = leaf()
    assert gc.trace_nan(gc.where(x > 0, gc.sqrt(x), 0.0), {x: X}) is None
    broken = gc.sum(gc.where(x > 0, gc.sqrt(x), 0.0)) + gc.sum(gc.log(x))
    assert gc.trace_nan(broken, {x: X}).op == "log", "sqrt's NaN does not reach the result"


def test_leaves_that_are_not_finite():
    x = leaf()
    w = gc.param("w", (3, 2), init=np.ones((3, 2), np.float32))
    y = gc.sum(x @ w)
    given = X.copy()
    given[1, 1] = np.nan
    trace = gc.trace_nan(y, {x: given})
    assert (trace.op, trace.index) == ("the input 'x'", (1, 1))
    value = w.value
    value[2, 0] = np.inf
    w.value = value
    trace = gc.trace_nan(y, {x: X})
    assert (trace.op, trace.index) == ("the param 'w'", (2, 0))


def test_sums_and_contractions():
    x = leaf()
    w = gc.param("w", (3, 2), init=np.full((3, 2), 3e38, np.float32))
    trace = gc.trace_nan(2 * (x @ w), {x: X})
    assert trace.op == "matmul" and "= inf" in trace.calculation
    assert dict(trace.operands) == {"x": "3 numbers from 1.0 to 3.0", "w": "3 numbers from 3e+38 to 3e+38"}
    large = gc.input("large", (4,))
    trace = gc.trace_nan(gc.sum(large), {large: np.full(4, 2e38, np.float32)})
    assert trace.calculation == "the sum of 4 numbers, 4 numbers from 2e+38 to 2e+38, is inf"


def test_infinities_that_are_handed_on_are_not_blamed_in_an_op_of_several_steps():
    x = gc.input("x", ("N",))
    mask = gc.where(x > 0, x, -gc.inf)
    difference = gc.define("y[i] = m[i]*2 - m[i]*3", m="N")
    trace = gc.trace_nan(difference(mask), {x: [1.0, -1.0]})
    assert (trace.index, trace.calculation) == ((1,), "-inf - -inf = nan")


def test_joined_parts():
    x = leaf()
    joined = gc.concatenate([gc.abs(x), gc.log(x)], axis=1)
    assert gc.trace_nan(gc.sum(joined), {x: X}).op == "log"
    strided = gc.define("y[i] = sum[k] x[2*i+k] * w[k]", x="L", w="K", i="(L-K)//2+1")
    a, b = gc.input("a", (8,)), gc.input("b", (3,))
    gradient = gc.grad(gc.sum(strided(a, gc.sqrt(b))), a)
    assert gc.trace_nan(gradient, {a: [1.0] * 8, b: [-1.0, 4.0, 9.0]}).op == "sqrt"
    assert gc.trace_nan(gradient, {a: [1.0] * 8, b: [1.0, 4.0, 9.0]}) is None


def test_a_convolutional_net_is_traced_in_time():
    model = gc.nn.Sequential(
        gc.nn.Conv2d(3, 16, 3, padding=1, seed=0), gc.nn.ReLU(), gc.nn.MaxPool2d(2), gc.nn.Conv2d(16, 16, 3, seed=1)
    )
    x = gc.input("x", ("N", 3, 32, 32))
    loss = gc.mean(gc.log(gc.min(model(x), axis=(2, 3)) - 100))
    gradients = gc.grad(loss, model.parameters())
    trace = gc.trace_nan([loss, *gradients], {x: np.ones((8, 3, 32, 32), np.float32)})
    assert trace.op == "log" and "negative" in trace.hint


def test_loops():
    x = gc.input("x", ("T",))

    def step(total, one):
        following = gc.log(total + one)
        return following, following

    for unroll in (False, True):
        inputs = gc.input("x", (3,)) if unroll else x
        last = gc.scan(step, 1.0, inputs, unroll=unroll)[0]
        trace = gc.trace_nan(last, {inputs: [1.0, -0.5, 1.0]})
        assert trace.op == ("log" if unroll else "scan")
        assert ("logarithm" if unroll else "unroll=True") in trace.hint
        assert gc.trace_nan(last, {inputs: [1.0, 1.0, 1.0]}) is None


def test_an_index_out_of_range_is_told_with_its_line():
    x, words = leaf(), gc.input("words", (2,), dtype="int64")
    with pytest.raises(ArgumentError, match=r"index 9 is outside an axis of 3 .*test_nan\.py:\d+"):
        gc.trace_nan(gc.take(x, words, axis=1), {x: X, words: [0, 9]})


def test_wrong_use():
    x, y = leaf(), gc.input("y", (3,))
    with pytest.raises(ArgumentError, match="no value is given for the input 'y'"):
        gc.trace_nan(x + y, {x: X})
    with pytest.raises(ArgumentError, match="input 'y' has shape"):
        gc.trace_nan(x + y, {x: X, y: [0.0] * 4})
    w = gc.param("w", (3,))
    with pytest.raises(ArgumentError, match=r"set w\.value instead"):
        gc.trace_nan(x + w, {x: X, w: np.zeros(3)})

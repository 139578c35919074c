"""What a user is told: the op, the shapes or dtypes, and the user's own file and line."""

from __future__ import annotations

import inspect
import warnings

import numpy as np
import pytest

import graphc as gc
from graphc.backend import available
from graphc.errors import (
    ArgumentError,
    ArgumentTypeError,
    BackendError,
    CompileError,
    DTypeError,
    GradientError,
    GraphcError,
    IndexNotationError,
    ShapeError,
)

FILE = __file__


def refused(function, kind, *words):
    """Calling `function`, a lambda of one line, raises `kind`; its message has all words and the lambda's line."""
    with pytest.raises(kind) as caught:
        function()
    error = caught.value
    assert type(error) is kind
    assert error.where is not None, f"no line in: {error}"
    lines, first = inspect.getsourcelines(function)
    file, _, line = error.where.rpartition(":")
    assert file == FILE and first <= int(line) < first + len(lines), (error.where, first)
    assert str(error).endswith(f"({error.where})")
    for word in words:
        assert word in error.message, f"{word!r} is missing in: {error.message}"


X = gc.input("x", ("N", 3))
Y = gc.input("y", (4,))
T = gc.input("labels", ("N",), dtype="int64")
W = gc.param("W", (3, 2), init=0)


# --- Building: a test an error class --------------------------------------------------------------------------------

SHAPE_CASES = {
    "matmul": (lambda: X @ W.T, ["matmul", "(N, 3)", "(2, 3)", "3 and 2"]),
    "broadcast": (lambda: X + Y, ["add", "(N, 3)", "(4,)"]),
    "numpy protocol": (lambda: np.multiply(X, Y), ["multiply", "(N, 3)", "(4,)"]),
    "reshape": (lambda: gc.reshape(W, (4,)), ["reshape", "(3, 2)", "6", "(4,)"]),
    "reshape method": (lambda: W.reshape(4), ["reshape", "(3, 2)", "(4,)"]),
    "concatenate": (lambda: gc.concatenate([W, W.T]), ["concatenate", "(3, 2)", "(2, 3)"]),
    "stack": (lambda: gc.stack([W, W.T]), ["stack", "(3, 2)", "(2, 3)"]),
    "axis": (lambda: gc.sum(W, axis=5), ["sum", "axis 5", "rank 2"]),
    "empty maximum": (lambda: gc.max(gc.zeros((0, 2)), axis=0), ["max", "(0, 2)"]),
    "index": (lambda: W[5], ["index 5", "axis 0", "3"]),
    "too many indices": (lambda: W[0, 0, 0], ["3 indices", "rank 2", "(3, 2)"]),
    "conv2d rank": (lambda: gc.conv2d(X, W), ["conv2d", "4 axes", "(N, 3)"]),
    "conv2d channels": (lambda: gc.conv2d(gc.zeros((1, 2, 5, 5)), gc.zeros((4, 3, 3, 3))), ["conv2d", "2 channels"]),
    "conv2d window": (lambda: gc.conv2d(gc.zeros((1, 1, 2, 2)), gc.zeros((1, 1, 3, 3))), ["conv2d", "window of 3"]),
    "einsum": (lambda: gc.einsum("ij,jk", W, W), ["einsum", "'j'", "2", "3"]),
    "split": (lambda: gc.split(W, 2), ["split", "3", "2 equal parts"]),
    "vjp": (lambda: gc.vjp(X, X, W), ["vjp", "(3, 2)", "(N, 3)"]),
    "jvp": (lambda: gc.jvp(X, X, W), ["jvp", "(3, 2)", "(N, 3)", "x"]),
    "negative extent": (lambda: gc.input("q", (-1,)), ["input 'q'", "-1"]),
    "unreadable extent": (lambda: gc.input("q", ("N M",)), ["input 'q'", "N M"]),
    "fractional extent": (lambda: gc.arange(0.5), ["arange", "0.5"]),
    "init": (lambda: gc.param("p", (2,), init=np.ones(3)), ["param 'p'", "(3,)", "(2,)"]),
    "no shape": (lambda: gc.param("p"), ["param 'p'", "shape"]),
    "next value": (lambda: gc.state("s", (2,)).set_next(W), ["s", "(3, 2)", "(2,)"]),
    "update": (lambda: gc.compile([X], X, updates={W: X}), ["compile", "'W'", "(3, 2)", "(N, 3)"]),
    "length": (lambda: len(X), ["(N, 3)", "length"]),
}


@pytest.mark.parametrize("name", SHAPE_CASES)
def test_shape_error(name):
    refused(SHAPE_CASES[name][0], ShapeError, *SHAPE_CASES[name][1])


DTYPE_CASES = {
    "take": (lambda: gc.take(W, W), ["take", "float32"]),
    "one_hot": (lambda: gc.one_hot(W, 3), ["one_hot", "float32"]),
    "input": (lambda: gc.input("q", (3,), "complex64"), ["input 'q'", "complex64", "float32, float64"]),
    "hidden dtype": (lambda: gc.input("q", (3,), "uint32"), ["input 'q'", "uint32"]),
    "text": (lambda: gc.exp("a"), ["exp", "str"]),
    "none": (lambda: X + None, ["add", "NoneType"]),
    "bools": (lambda: (X > 0) - (X > 1), ["subtract", "bool", "astype"]),
    "update": (lambda: gc.compile([], W, updates={W: W.astype("int64")}), ["compile", "'W'", "float32", "int64"]),
}


@pytest.mark.parametrize("name", DTYPE_CASES)
def test_dtype_error(name):
    refused(DTYPE_CASES[name][0], DTypeError, *DTYPE_CASES[name][1])


TOO_FEW = gc.custom_vjp(lambda a: a, lambda g, y, a: [])
MISSHAPEN = gc.custom_vjp(lambda a: a, lambda g, y, a: [gc.sum(g)])
GRADIENT_CASES = {
    "not a scalar": (lambda: gc.grad(X, W), ["grad", "scalar", "(N, 3)", "jacobian"]),
    "integer leaf": (lambda: gc.grad(gc.sum(X), T), ["grad", "labels", "int64"]),
    "integer leaf of many": (lambda: gc.grad(gc.sum(X), [X, T]), ["grad", "labels", "int64"]),
    "integer loss": (lambda: gc.grad(gc.sum(T), X), ["grad", "int64"]),
    "integer output": (lambda: gc.jacobian(T, X), ["jacobian", "int64"]),
    "vjp of an integer": (lambda: gc.vjp(X, T, X), ["vjp", "labels", "int64"]),
    "hessian": (lambda: gc.hessian(X, X), ["(N, 3)"]),
    "custom rule, count": (lambda: gc.grad(gc.sum(TOO_FEW(X)), X), ["custom_vjp", "0 gradients", "1 arguments"]),
    "custom rule, shape": (lambda: gc.grad(gc.sum(MISSHAPEN(X)), X), ["custom_vjp", "()", "(N, 3)"]),
}


@pytest.mark.parametrize("name", GRADIENT_CASES)
def test_gradient_error(name):
    refused(GRADIENT_CASES[name][0], GradientError, *GRADIENT_CASES[name][1])


ARGUMENT_CASES = {
    "a number for a tensor": (lambda: gc.grad(3, X), ["grad", "int"]),
    "tangents": (lambda: gc.jvp(X, [X], []), ["jvp", "1 tensors", "0 tangents"]),
    "gelu": (lambda: gc.gelu(W, "x"), ["gelu", "'x'"]),
    "groups": (lambda: gc.conv2d(gc.zeros((1, 2, 5, 5)), gc.zeros((4, 2, 3, 3)), groups=0), ["conv2d", "groups"]),
    "stride": (lambda: gc.max_pool2d(gc.zeros((1, 2, 5, 5)), 2, 0), ["max_pool2d", "stride", "0"]),
    "mask as index": (lambda: X[X > 0], ["index", "mask", "where"]),
    "slice step": (lambda: W[::0], ["index", "step"]),
    "not an input": (lambda: gc.compile([W], W), ["compile", "W", "gc.input"]),
    "not a tensor": (lambda: gc.compile([3], X), ["compile", "3"]),
    "inputs not in a list": (lambda: gc.compile(X, X), ["compile", "inputs", "list"]),
    "outputs not in a list": (lambda: gc.compile([X], 3), ["compile", "outputs", "3"]),
    "not an output": (lambda: gc.compile([X], [3]), ["compile", "int"]),
    "duplicate input": (lambda: gc.compile([X, X], X), ["compile", "'x'", "twice"]),
    "negative threads": (lambda: gc.compile([X], X, threads=-1), ["compile", "threads", "-1"]),
    "no threads": (lambda: gc.compile([X], X, threads=0), ["compile", "threads", "0"]),
    "threads as text": (lambda: gc.compile([X], X, threads="2"), ["compile", "threads", "'2'"]),
    "update of an input": (lambda: gc.compile([X], X, updates={X: X}), ["compile", "x", "states"]),
    "value of a param": (lambda: gc.evaluate(W, {W: 1}), ["evaluate", "W"]),
    "shape of a value": (lambda: setattr(W, "value", np.ones(7)), ["W", "(7,)", "(3, 2)"]),
}


@pytest.mark.parametrize("name", ARGUMENT_CASES)
def test_argument_error(name):
    refused(ARGUMENT_CASES[name][0], ArgumentError, *ARGUMENT_CASES[name][1])


COMPILE_CASES = {
    "missing input": (lambda: gc.compile([], X), ["compile", "'x'"]),
    "missing value": (lambda: gc.evaluate(X), ["'x'"]),
    "dimension of no input": (lambda: gc.compile([], gc.zeros(("M",))), ["compile", "M"]),
    "dimension that a call cannot tell": (lambda: gc.compile([gc.input("z", ("2*M",))], W), ["compile", "M"]),
}


@pytest.mark.parametrize("name", COMPILE_CASES)
def test_compile_error(name):
    refused(COMPILE_CASES[name][0], CompileError, *COMPILE_CASES[name][1])


NOTATION_CASES = {
    "unbalanced": (lambda: gc.define("y[i] = x[i"), ["y[i] = x[i", "^"]),
    "unknown name": (lambda: gc.define("y[i] = q * x[i]", x="N"), ["'q'", "y[i] = q * x[i]", "^"]),
}


@pytest.mark.parametrize("name", NOTATION_CASES)
def test_index_notation_error(name):
    refused(NOTATION_CASES[name][0], IndexNotationError, *NOTATION_CASES[name][1])


def test_backend_error_lists_what_is_installed():
    refused(lambda: gc.compile([X], X, backend="nope"), BackendError, "'nope'", *available())


def test_backend_error_of_a_source():
    function = gc.compile([Y], Y * 2, backend="numpy")
    refused(lambda: function.source("nope"), BackendError, "'nope'", "numpy")
    refused(lambda: function.export("x"), BackendError, "'numpy'", "export")


PLAIN_CASES = {
    "truth": (lambda: bool(X == X), ["truth value", "gc.where"]),
    "float": (lambda: float(X), ["no value", "gc.evaluate"]),
    "int": (lambda: int(X), ["no value", "gc.evaluate"]),
    "array": (lambda: np.asarray(X), ["not an array", "gc.evaluate"]),
    "numpy function": (lambda: np.linalg.inv(W), ["inv"]),
    "ufunc method": (lambda: np.add.reduce(W), ["numpy.add.reduce"]),
    "ufunc option": (lambda: np.exp(W, where=True), ["numpy.exp", "where"]),
}


@pytest.mark.parametrize("name", PLAIN_CASES)
def test_what_a_symbolic_tensor_cannot_do(name):
    refused(PLAIN_CASES[name][0], GraphcError, *PLAIN_CASES[name][1])


def test_the_line_is_that_of_the_expression_not_of_a_helper_in_graphc():
    def helper(a):
        return gc.softmax(a, axis=7)

    refused(helper.__get__(X), ShapeError, "axis 7")


@pytest.mark.parametrize("kind", [ShapeError, IndexNotationError, GradientError, ArgumentError])
def test_value_errors_can_be_caught_as_such(kind):
    assert issubclass(kind, ValueError) and issubclass(kind, GraphcError)


@pytest.mark.parametrize("kind", [DTypeError, ArgumentTypeError])
def test_type_errors_can_be_caught_as_such(kind):
    assert issubclass(kind, TypeError) and issubclass(kind, GraphcError)


# --- Calling a compiled function ------------------------------------------------------------------------------------

IMAGE = np.arange(6, dtype=np.float32).reshape(2, 3)
LABELS = np.array([1, 0])


@pytest.fixture(params=available())
def function(request):
    return gc.compile([X, T], [X * 2, gc.sum(T)], backend=request.param, name="model")


CALL_CASES = {
    "too few": (lambda f: f(IMAGE), ArgumentError, ["model", "2 arguments", "x, labels", "1 came"]),
    "too many": (lambda f: f(IMAGE, LABELS, 1), ArgumentError, ["model", "3 came"]),
    "float for int": (lambda f: f(IMAGE, LABELS + 0.5), ArgumentTypeError, ["'labels'", "int64", "float64"]),
    "whole floats for int": (lambda f: f(IMAGE, LABELS * 1.0), ArgumentTypeError, ["'labels'", "int64", "float64"]),
    "complex": (lambda f: f(IMAGE * 1j, LABELS), ArgumentTypeError, ["'x'", "float32", "complex64"]),
    "text": (lambda f: f("abc", LABELS), ArgumentTypeError, ["'x'", "float32"]),
    "none": (lambda f: f(None, LABELS), ArgumentTypeError, ["'x'", "float32", "object"]),
    "objects": (lambda f: f(IMAGE.astype(object), LABELS), ArgumentTypeError, ["'x'", "float32", "object"]),
    "ragged": (lambda f: f([[1, 2, 3], [4, 5]], LABELS), ArgumentTypeError, ["'x'", "float32"]),
    "symbolic": (lambda f: f(X, LABELS), ArgumentTypeError, ["'x'", "symbolic"]),
    "rank": (lambda f: f(IMAGE[0], LABELS), ArgumentError, ["'x'", "rank 2", "(N, 3)", "(3,)"]),
    "extent": (lambda f: f(IMAGE[:, :2], LABELS), ArgumentError, ["'x'", "(N, 3)", "(2, 2)"]),
    "batches differ": (lambda f: f(IMAGE, LABELS[:1]), ArgumentError, ["N is 2 in 'x'", "1 in 'labels'"]),
    "too great": (
        lambda f: f(IMAGE, np.array([2**63, 0], dtype=np.uint64)),
        ArgumentError,
        ["'labels'", "int64", "9223372036854775808"],
    ),
}


@pytest.mark.parametrize("name", CALL_CASES)
def test_a_call_that_does_not_fit(function, name):
    call, kind, words = CALL_CASES[name]
    with pytest.raises(kind) as caught:
        call(function)
    assert type(caught.value) is kind
    lines, first = inspect.getsourcelines(call)
    file, _, line = caught.value.where.rpartition(":")
    assert file == FILE and first <= int(line) < first + len(lines)
    for word in ("model", *words):
        assert word in caught.value.message, caught.value.message


def test_int32_that_does_not_fit():
    i = gc.input("i", (2,), "int32")
    function = gc.compile([i], i + 1)
    assert function([2**31 - 2, -(2**31)]).tolist() == [2**31 - 1, 1 - 2**31]
    refused(lambda: function([2**31, 2]), ArgumentError, "'i'", "int32", "2147483648")


GOOD_ARGUMENTS = {
    "lists": (IMAGE.tolist(), LABELS.tolist()),
    "Fortran order": (np.asfortranarray(IMAGE), LABELS),
    "reversed": (IMAGE[::-1][::-1], LABELS[::-1][::-1]),
    "strided": (np.repeat(IMAGE, 2, axis=1)[:, ::2], np.repeat(LABELS, 3)[::3]),
    "transposed": (IMAGE.T.copy().T, LABELS),
    "read-only": (np.frombuffer(IMAGE.tobytes(), np.float32).reshape(2, 3), LABELS),
    "big-endian": (IMAGE.astype(">f4"), LABELS.astype(">i8")),
    "unaligned": (np.frombuffer(b"\0" + IMAGE.tobytes(), np.uint8)[1:].view(np.float32).reshape(2, 3), LABELS),
    "integers for floats": (IMAGE.astype(np.int16), LABELS),
    "bools for integers": (IMAGE, LABELS.astype(bool)),
    "narrow integers": (IMAGE, LABELS.astype(np.int8)),
    "unsigned integers that fit": (IMAGE, LABELS.astype(np.uint64)),
    "half precision": (IMAGE.astype(np.float16), LABELS),
    "a subclass": (IMAGE.view(np.matrix), LABELS),
}


@pytest.mark.parametrize("name", GOOD_ARGUMENTS)
def test_a_call_that_fits(function, name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        doubled, total = function(*GOOD_ARGUMENTS[name])
    np.testing.assert_array_equal(doubled, IMAGE * 2)
    assert total == 1 and doubled.dtype == np.float32 and type(doubled) is np.ndarray


def test_arguments_are_not_written(function):
    image, labels = IMAGE.copy(), LABELS.copy()
    doubled, _ = function(image, labels)
    doubled[:] = -1
    np.testing.assert_array_equal(image, IMAGE)
    np.testing.assert_array_equal(labels, LABELS)


def test_results_of_two_calls_do_not_share_memory(function):
    first, _ = function(IMAGE, LABELS)
    function(-IMAGE, LABELS)
    np.testing.assert_array_equal(first, IMAGE * 2)


def test_float64_warns_once_at_the_users_line(function):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            doubled, _ = function(IMAGE.astype(np.float64), LABELS)
    assert doubled.dtype == np.float32
    (warning,) = caught
    assert "model: input 'x' is float32" in str(warning.message) and "float64" in str(warning.message)
    assert warning.filename == FILE


def test_a_list_of_python_floats_does_not_warn(function):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        function([[0.5, 1.5, 2.5]], [1])


def test_an_empty_batch(function):
    doubled, total = function(np.zeros((0, 3), np.float32), [])
    assert doubled.shape == (0, 3) and total == 0


def test_a_maximum_over_an_empty_batch_is_refused():
    line = inspect.currentframe().f_lineno + 1
    function = gc.compile([X], gc.max(X, axis=0))
    assert function(IMAGE).tolist() == [3, 4, 5]
    with pytest.raises(ArgumentError, match="max: an axis of extent 0") as caught:
        function(IMAGE[:0])
    assert caught.value.where == f"{FILE}:{line}"


@pytest.mark.parametrize("backend", available())
def test_all_and_any_of_nothing(backend):
    function = gc.compile([X], [gc.all(X > 0, axis=0), gc.any(X > 0, axis=0)], backend=backend)
    every, some = function(IMAGE[:0])
    assert every.tolist() == [True] * 3 and some.tolist() == [False] * 3


def test_a_shape_that_turns_out_negative():
    line = inspect.currentframe().f_lineno + 1
    function = gc.compile([T], gc.zeros(("N-2",)) + gc.sum(T))
    with pytest.raises(ShapeError) as caught:
        function([1])
    assert caught.value.where == f"{FILE}:{line}" and "'N': 1" in caught.value.message


@pytest.mark.parametrize("backend", available())
def test_an_index_outside_leaves_every_param_as_it_was(backend):
    table = gc.param("table", (4, 2), init=1.0)
    taken = gc.sum(gc.take(table, T, axis=0))
    step = gc.compile([T], [taken], updates={table: table - gc.grad(taken, table)}, backend=backend, name="step")
    refused(lambda: step([1, 4]), ArgumentError, "step", "take", "index 4", "axis of 4")
    refused(lambda: step([-1, 0]), ArgumentError, "step", "take", "index -1")
    np.testing.assert_array_equal(table.value, np.ones((4, 2)))
    step([1, 1])
    assert table.value.tolist() == [[1, 1], [-1, -1], [1, 1], [1, 1]]


def test_specialised_for_an_unknown_dimension(function):
    refused(lambda: function.specialised(Q=3), ArgumentError, "model", "Q")


@pytest.mark.parametrize("backend", available())
def test_window_that_does_not_fit_a_size_met_at_a_call(backend):
    x, w = gc.input("x", ("N", 1, "H", "H")), gc.input("w", (2, 1, 3, 3))
    convolve = gc.compile([x, w], gc.conv2d(x, w), backend=backend)
    kernel = np.ones((2, 1, 3, 3), "float32")
    assert convolve(np.ones((1, 1, 4, 4), "float32"), kernel).shape == (1, 2, 2, 2)
    with pytest.raises(ArgumentError, match="conv2d: a window of 3 does not fit an axis of H padded by 0"):
        convolve(np.ones((1, 1, 2, 2), "float32"), kernel)

"""Loops in the graph: against the same steps written one after another, and against NumPy's own loops."""

from __future__ import annotations

import ctypes
import subprocess

import numpy as np
import pytest

import graphc as gc
from graphc.backend import available
from graphc.errors import ArgumentError, ArgumentTypeError, DTypeError, GradientError, ShapeError
from graphc.ir.graph import Graph, topological
from graphc.ir.interp import interpret
from graphc.ir.origin import origins_of
from graphc.ir.verify import verify
from graphc.passes.pipeline import run_passes
from tests.conftest import requires_tool

T, B, D, H = 4, 2, 3, 5


@pytest.fixture(params=available())
def backend(request):
    return request.param


def values_of(leaves, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=leaf.shape).astype(leaf.dtype) for leaf in leaves]


def interpreted(leaves, outputs, values):
    graph = Graph(tuple(output.node for output in outputs))
    verify(graph)
    return interpret(graph, {leaf.node: value for leaf, value in zip(leaves, values, strict=True)})


def rnn(**options):
    """A recurrent net: leaves, the last state, all outputs."""
    leaves = [
        gc.input("x", (T, B, D), "float64"),
        gc.input("h", (B, H), "float64"),
        gc.input("U", (D, H), "float64"),
        gc.input("W", (H, H), "float64"),
    ]
    x, h, U, W = leaves

    def step(h, x):
        h = gc.tanh(x @ U + h @ W)
        return h, h * h

    return leaves, *gc.scan(step, h, x, **options)


def same(found, expected, rtol=1e-12):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=rtol, atol=rtol)


DERIVATIVES = {
    "value": lambda leaves, last, y: [last, y],
    "gradient": lambda leaves, last, y: gc.grad(gc.sum(gc.sin(last)) + gc.sum(y * y), leaves),
    "gradient of y alone": lambda leaves, last, y: gc.grad(gc.sum(gc.exp(y)), leaves),
    "gradient of the last alone": lambda leaves, last, y: gc.grad(gc.sum(last * last), leaves),
    "second gradient": lambda leaves, last, y: gc.grad(
        gc.sum(gc.grad(gc.sum(y) + gc.sum(last), leaves[3]) ** 2), leaves
    ),
    "tangent": lambda leaves, last, y: [
        gc.jvp(out, leaves, [gc.ones_like(leaf) for leaf in leaves]) for out in (last, y)
    ],
    "tangent of a slice": lambda leaves, last, y: [gc.jvp(y, leaves[0], gc.ones_like(leaves[0]))],
    "hessian times vector": lambda leaves, last, y: gc.hvp(
        gc.sum(y) + gc.sum(last), [leaves[3]], [gc.ones_like(leaves[3])]
    ),
    "jacobian": lambda leaves, last, y: [gc.jacobian(gc.sum(y, axis=(0, 1)), leaves[1]), gc.jacobian(last, leaves[0])],
}


@pytest.mark.feature("C.recurrent")
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("what", DERIVATIVES)
def test_the_loop_is_its_steps_one_after_another(what, reverse, backend):
    leaves, *loop = rnn(reverse=reverse)
    unrolled_leaves, *unrolled = rnn(reverse=reverse, unroll=True)
    values = values_of(leaves)
    outputs = DERIVATIVES[what](leaves, *loop)
    expected = interpreted(unrolled_leaves, DERIVATIVES[what](unrolled_leaves, *unrolled), values)
    same(interpreted(leaves, outputs, values), expected, 1e-11)
    same(gc.compile(leaves, outputs, backend=backend)(*values), expected, 1e-11)


def test_against_numpy(backend):
    leaves, last, y = rnn()
    x, h, U, W = values = values_of(leaves)
    outputs = []
    for t in range(T):
        h = np.tanh(x[t] @ U + h @ W)
        outputs.append(h * h)
    found = gc.compile(leaves, [last, y], backend=backend)(*values)
    same(found, [h, np.stack(outputs)])


def test_gradient_against_differences(backend):
    leaves, last, y = rnn()
    loss = gc.sum(gc.sin(last)) + gc.sum(y * y)
    values = values_of(leaves)
    gradients = gc.compile(leaves, gc.grad(loss, leaves), backend=backend)(*values)
    value = gc.compile(leaves, loss, backend=backend)
    for place in range(len(leaves)):
        expected = gc.finite_difference(
            lambda array, place=place: value(*values[:place], array, *values[place + 1 :]), values[place]
        )
        np.testing.assert_allclose(gradients[place], expected, rtol=1e-6, atol=1e-8)


def test_the_step_is_called_once_and_the_program_does_not_grow():
    calls = []

    def program(length):
        x = gc.input("x", (length, 3))
        last, _ = gc.scan(lambda h, x: (calls.append(1), (gc.sin(h) + x, None))[1], gc.zeros((3,)), x)
        return gc.compile([x], gc.grad(gc.sum(last), x), backend="numpy").program

    short, long = program(3), program(3000)
    assert len(calls) == 2
    assert len(list(short.all_stages())) == len(list(long.all_stages()))


def test_one_loop_serves_the_value_and_the_gradient():
    leaves, last, y = rnn()
    loss = gc.sum(last) + gc.sum(y)
    step = gc.compile(leaves, [loss, last, y, *gc.grad(loss, leaves)], backend="numpy")
    assert [kernel.kind for kernel in step.program.kernels].count("scan") == 2


def test_gradients_of_weights_are_one_product_over_all_steps():
    leaves, last, y = rnn()
    step = gc.compile(leaves, gc.grad(gc.sum(y) + gc.sum(last), leaves[2:]), backend="numpy")
    outside = [kernel for kernel in step.program.kernels if kernel.kind == "contraction"]
    assert len(outside) == 2
    assert all(T in kernel.stages[0].node.domain for kernel in outside)


def test_symbolic_length(backend):
    x = gc.input("x", ("T", 2), "float64")
    decay = gc.param("decay", (), init=0.5, dtype="float64")
    last, sums = gc.scan(lambda s, x: (decay * s + x, decay * s + x), gc.zeros((2,), "float64"), x)
    function = gc.compile([x], [last, sums, gc.grad(gc.sum(sums * sums), decay)], backend=backend)
    for length in (1, 2, 7, 0, 3):
        at = np.random.default_rng(length).normal(size=(length, 2))
        total, expected = np.zeros(2), np.zeros((length, 2))
        for t in range(length):
            total = expected[t] = 0.5 * total + at[t]
        found = function(at)
        same(found[:2], [total, expected])
        if length == 0:
            assert found[2] == 0


def test_loops_of_no_steps_after_one_another(backend):
    """The second begins where the first ended, which is where that began."""
    x = gc.input("x", ("T", 2))
    first, y = gc.scan(lambda s, v: (s + v, s), gc.ones((2,)), x)
    second, _ = gc.scan(lambda s, v: (2 * s + v, None), first, y)
    function = gc.compile([x], second, backend=backend)
    np.testing.assert_array_equal(function(np.ones((0, 2), np.float32)), [1, 1])
    assert not function.program.kernels or all(kernel.kind != "scan" for kernel in function.program.kernels)
    np.testing.assert_array_equal(function(np.ones((1, 2), np.float32)), [5, 5])


def test_several_carries_of_several_dtypes_in_structures(backend):
    x = gc.input("x", (5,), "float64")
    t = gc.input("t", (5,), "int64")

    def step(carry, slices):
        count, (a, b) = carry["count"], carry["pair"]
        carry = {"count": count + slices["t"], "pair": (b, a + slices["x"])}  # a and b change places
        return carry, {"sum": a * b, "is_even": gc.equal(gc.remainder(count, 2), 0)}

    init = {"count": gc.constant(0), "pair": (gc.constant(1.0, "float64"), gc.constant(2.0, "float64"))}
    last, y = gc.scan(step, init, {"t": t, "x": x})
    outputs = [last["count"], *last["pair"], y["sum"], y["is_even"]]
    values = [np.arange(5.0), np.arange(5)]
    found = gc.compile([x, t], [*outputs, gc.grad(gc.sum(y["sum"]), x)], backend=backend)(*values)

    def by_hand(x):
        count, a, b, sums, even = 0, 1.0, 2.0, [], []
        for value, step_count in zip(x, values[1], strict=True):
            sums.append(a * b)
            even.append(count % 2 == 0)
            count, a, b = count + step_count, b, a + value
        return count, a, b, np.array(sums), np.array(even)

    same(found[:5], by_hand(values[0]))
    np.testing.assert_allclose(found[5], gc.finite_difference(lambda x: by_hand(x)[3].sum(), values[0]), rtol=1e-7)


def test_a_length_without_arrays(backend):
    last, powers = gc.scan(lambda p, x: (2 * p, p), gc.constant(1, "int64"), length=6)
    same(gc.compile([], [last, powers], backend=backend)(), [64, 2 ** np.arange(6)])


def test_a_loop_in_a_loop(backend):
    x = gc.input("x", (3, 4), "float64")

    def outer(total, row):
        inner, _ = gc.scan(lambda s, v: (gc.sin(s) + v * total, None), total, row)
        return inner, inner * total

    last, y = gc.scan(outer, gc.constant(0.5, "float64"), x)
    loss = gc.sum(y) + last
    unrolled_last, unrolled_y = gc.scan(outer, gc.constant(0.5, "float64"), x, unroll=True)
    unrolled = gc.sum(unrolled_y) + unrolled_last
    at = values_of([x])
    outputs = [loss, gc.grad(loss, x), gc.hvp(loss, x, gc.ones_like(x))]
    expected = [unrolled, gc.grad(unrolled, x), gc.hvp(unrolled, x, gc.ones_like(x))]
    same(gc.compile([x], outputs, backend=backend)(*at), interpreted([x], expected, at), 1e-11)


@pytest.mark.parametrize("outside", [False, True])
def test_checkpoints_inside_and_around(outside, backend):
    x, W = gc.input("x", (6, 3), "float64"), gc.input("W", (3, 3), "float64")

    def body(h, x):
        return gc.tanh(gc.sin(h @ W) + x)

    def loop(x):
        if outside:
            return gc.scan(lambda h, x: (body(h, x), None), gc.zeros((3,), "float64"), x)[0]
        return gc.scan(lambda h, x: (gc.checkpoint(body, h, x), None), gc.zeros((3,), "float64"), x)[0]

    last = gc.checkpoint(loop, x) if outside else loop(x)
    plain = gc.scan(lambda h, x: (body(h, x), None), gc.zeros((3,), "float64"), x, unroll=True)[0]
    at = values_of([x, W])
    found = gc.compile([x, W], gc.grad(gc.sum(last * last), [x, W]), backend=backend)
    same(found(*at), interpreted([x, W], gc.grad(gc.sum(plain * plain), [x, W]), at), 1e-11)


def test_a_checkpoint_keeps_less():
    x, W = gc.input("x", (64, 8, 16)), gc.input("W", (16, 16))

    def body(h, x):
        for _ in range(6):
            h = gc.sin(h @ W) + x
        return h

    def arena(step):
        last, _ = gc.scan(step, gc.zeros((8, 16)), x)
        return gc.compile([x, W], gc.grad(gc.sum(last), x), backend="numpy").stats.arena_bytes

    assert 2 * arena(lambda h, x: (gc.checkpoint(body, h, x), None)) < arena(lambda h, x: (body(h, x), None))


def test_a_checkpoint_around_loops_keeps_less():
    x, W = gc.input("x", (64, 8, 16)), gc.input("W", (16, 16))

    def layer(x):
        return gc.scan(lambda h, x: ((h := gc.sin(h @ W) + x), gc.sin(h) * h), gc.zeros((8, 16)), x)[1]

    def arena(wrap):
        y = x
        for _ in range(6):
            y = wrap(layer, y)
        return gc.compile([x, W], gc.grad(gc.sum(y), W), backend="numpy").stats.arena_bytes

    assert arena(gc.checkpoint) < 0.6 * arena(lambda layer, y: layer(y))


def test_many_ops_inside(backend):
    """Convolution, softmax, a table, a running sum, an array of constants and another rule of differentiation."""
    rng = np.random.default_rng(0)
    x, w = gc.input("x", (3, 2, 6), "float64"), gc.input("w", (2, 2, 3), "float64")
    table = gc.constant(rng.normal(size=(6,)))
    at = gc.input("at", (3, 6), "int64")
    halved = gc.custom_vjp(lambda v: v * v, lambda g, out, v: [g * v])

    def step(h, slices):
        x, at = slices
        y = gc.conv1d(gc.reshape(h + x, (1, 2, 6)), w, padding=1)[0]
        y = gc.softmax(y, axis=-1) + gc.take(table, at) + gc.cumsum(gc.stop_gradient(h), axis=1)
        return halved(y), gc.max(y, axis=1)

    def outputs(**options):
        last, y = gc.scan(step, gc.zeros((2, 6), "float64"), (x, at), **options)
        return [last, y, *gc.grad(gc.sum(last) + gc.sum(y), [x, w])]

    values = [*values_of([x, w]), rng.integers(0, 6, (3, 6))]
    expected = interpreted([x, w, at], outputs(unroll=True), values)
    same(gc.compile([x, w, at], outputs(), backend=backend)(*values), expected, 1e-10)


def test_stability_inside(backend):
    """log(1 + exp(x)) and its gradient, where exp overflows."""
    x = gc.input("x", (2, 3))
    _, y = gc.scan(lambda s, x: (s, gc.log(1 + gc.exp(x))), 0.0, x)
    at = np.array([[100.0, -100.0, 0.0], [500.0, 1.0, -1.0]], np.float32)
    found = gc.compile([x], [y, gc.grad(gc.sum(y), x)], backend=backend)(at)
    wide = at.astype(np.float64)
    same(found, [np.logaddexp(0, wide), 1 / (1 + np.exp(-wide))], 1e-6)


def test_an_index_outside_in_a_step_changes_nothing(backend):
    x, at = gc.input("x", (3, 4)), gc.input("at", (3,), "int64")
    w = gc.param("w", (4,), init=1.0)
    _, y = gc.scan(lambda s, v: (s, gc.take(v[0] * w, v[1])), 0.0, (x, at))
    step = gc.compile([x, at], [gc.sum(y)], updates={w: w + 1}, backend=backend)
    step(np.ones((3, 4), np.float32), np.array([0, 3, 1]))
    with pytest.raises((IndexError, gc.GraphcError), match="7"):
        step(np.ones((3, 4), np.float32), np.array([0, 7, 1]))
    np.testing.assert_array_equal(w.value, 2)


def test_bits_do_not_depend_on_the_number_of_threads():
    x, h, W = gc.input("x", (5, 64, 96)), gc.input("h", (64, 128)), gc.input("W", (128, 128))
    U = gc.input("U", (96, 128))
    last, y = gc.scan(lambda h, x: (gc.tanh(x @ U + h @ W), gc.softmax(h)), h, x)
    outputs = [last, y, *gc.grad(gc.sum(last) + gc.sum(y * y), [x, h, W, U])]
    values = [0.1 * value for value in values_of([x, h, W, U])]
    results = [
        gc.compile([x, h, W, U], outputs, backend="llvm", threads=threads)(*map(np.float32, values))
        for threads in (1, 2, 3)
    ]
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(one, two)


def test_trains(backend):
    """A recurrent net learns to add up its inputs."""
    x, target = gc.input("x", ("T", 16, 1)), gc.input("target", (16, 1))
    W = gc.param("W", (1, 1), init=0.3)
    last, _ = gc.scan(lambda h, x: (h @ W + x, None), gc.zeros((16, 1)), x)
    loss = gc.mean(gc.square(last - target))
    step = gc.compile([x, target], [loss], updates=gc.optim.Adam(lr=0.05).updates(loss, [W]), backend=backend)
    rng = np.random.default_rng(0)
    for _ in range(60):
        at = rng.normal(size=(6, 16, 1)).astype(np.float32)
        step(at, at.sum(0))
    assert abs(float(W.value[0, 0]) - 1) < 0.02


def test_the_graph_in_a_step_is_verified_after_each_pass():
    leaves, last, y = rnn()
    run_passes(Graph((gc.grad(gc.sum(y) + gc.sum(last), leaves[3]).node,)), check=True)


def test_text_shows_the_step():
    leaves, last, _ = rnn()
    function = gc.compile(leaves, last, backend="numpy", name="run")
    text = function.source("numpy")
    assert "def scan_step(h, x_t, W, U):" in text and "for t in range(4):" in text
    assert "4 steps forwards" in function.source("program")
    assert "step(h, x_t, W, U)" in function.source("graph")


# --- Wrong use ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda x: gc.scan(lambda h, v: (h + v, h), 0.0, x), ShapeError, "shape (3,), but it began with ()"),
        (lambda x: gc.scan(lambda h, v: ((h, h), h), 0.0, x), ArgumentError, "began as tensor"),
        (lambda x: gc.scan(lambda h, v: h, 0.0, x), ArgumentTypeError, "must give a pair"),
        (lambda x: gc.scan(lambda h, v: (gc.astype(h, "float64"), h), 0.0, x), DTypeError, "as float64"),
        (lambda x: gc.scan(lambda h, v: (h, v), 0.0, gc.constant(1.0)), ShapeError, "scalar"),
        (lambda x: gc.scan(lambda h, v: (h, v), 0.0, (x, gc.zeros((5,)))), ArgumentError, "4, 5"),
        (lambda x: gc.scan(lambda h, v: (h, v), 0.0, x, length=3), ArgumentError, "4, 3"),
        (lambda x: gc.scan(lambda h, v: (h, v), 0.0), ArgumentError, "length="),
        (lambda x: gc.scan(lambda h, v: (h, v), 0.0, length=-1), ShapeError, "-1"),
        (lambda x: gc.scan(lambda h, v: (h, v), 0.0, length="T", unroll=True), ArgumentError, "T"),
    ],
    ids=["shape", "structure", "no pair", "dtype", "scalar", "extents", "length", "no length", "negative", "unroll"],
)
def test_errors_name_what_is_wrong_and_where(call, error, words):
    x = gc.input("x", (4, 3))
    with pytest.raises(error) as caught:
        call(x)
    assert words in str(caught.value) and "test_scan.py" in str(caught.value)


def test_what_a_step_made_cannot_be_used_outside():
    kept = []
    gc.scan(lambda h, v: (kept.append(h * v), (h, v))[1], 0.0, gc.input("x", (4,)))
    with pytest.raises(gc.GraphcError, match="carry"):
        gc.compile([], kept[0])


def test_an_op_without_gradient_inside_is_refused():
    x = gc.input("x", (4,))
    t = gc.input("t", (4,), "int64")
    with pytest.raises(GradientError):
        gc.grad(gc.scan(lambda h, v: (h + gc.astype(v, "float32"), None), 0.0, t)[0], t)
    assert gc.grad(gc.scan(lambda h, v: (h + v, None), 0.0, x)[0], x).shape == (4,)


# --- In other programs ----------------------------------------------------------------------------------------------


def test_an_exported_loop_gives_the_same_bits_and_refuses_a_bad_index(tmp_path):
    gcc = requires_tool("gcc")
    x, at = gc.input("x", (6, 4, 8)), gc.input("at", (6,), "int64")
    W = gc.param("W", (8, 8), init=gc.init.normal(0.3, 0))

    def step(h, slices):
        v, place = slices
        h = gc.tanh(h @ W + v * gc.take(W[0], place))
        return h, h

    last, y = gc.scan(step, gc.zeros((4, 8)), (x, at))
    function = gc.compile([x, at], [y, gc.grad(gc.sum(last), W)], threads=1, name="rnn")
    function.export(str(tmp_path / "rnn"), weights="embed")
    symbols = subprocess.run(["nm", "-u", "rnn.o"], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert symbols.stdout == ""
    subprocess.run([gcc, "-shared", "rnn.o", "-o", "rnn.so"], cwd=tmp_path, check=True)
    library = ctypes.CDLL(str(tmp_path / "rnn.so"))
    library.rnn_workspace_bytes.restype = ctypes.c_int64
    size = library.rnn_workspace_bytes()
    space = np.zeros(size + 64, dtype=np.uint8)
    start = space.ctypes.data + -space.ctypes.data % 64
    array, places = np.random.default_rng(0).normal(size=(6, 4, 8)).astype("float32"), np.arange(6)
    results = [np.empty((6, 4, 8), "float32"), np.empty((8, 8), "float32")]

    def run():
        inputs = (ctypes.c_void_p * 2)(array.ctypes.data, places.ctypes.data)
        outputs = (ctypes.c_void_p * 2)(*(one.ctypes.data for one in results))
        return library.rnn_run(inputs, None, outputs, ctypes.c_void_p(start), ctypes.c_size_t(size))

    assert run() == 0
    for got, want in zip(results, function(array, places), strict=True):
        np.testing.assert_array_equal(got, want)
    places[3] = 8
    assert run() != 0


def test_nodes_of_a_step_belong_to_the_part_of_the_model_that_made_them():
    cell = gc.nn.Sequential(gc.nn.Linear(3, 3), gc.nn.Tanh())
    x = gc.input("x", (4, 3))
    last, _ = gc.scan(lambda h, v: (cell(h + v), None), gc.zeros((3,)), x)
    scopes = {origin.scope for node in topological([last.node.step.value]) for origin in origins_of(node)}
    assert {"0", "1"} <= scopes and not any("scan" in scope for scope in scopes)
    (origin,) = origins_of(last.node)
    assert origin.op == "scan" and origin.file.endswith("test_scan.py")

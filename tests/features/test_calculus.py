"""Calculus on graphs, with the numbers of the lecture notes (FEATURES A1 to A11)."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
import sympy as sp

import graphc as gc
from graphc.backend import available
from graphc.ir import scalar as sc
from graphc.ir.graph import Graph, topological
from graphc.ir.interp import interpret
from graphc.ir.node import Const, Generic
from graphc.lang.finite import complex_step, finite_difference
from graphc.lang.sympy_bridge import from_sympy, to_sympy
from graphc.passes.pipeline import run_passes

TRANSCENDENTAL = set("exp expm1 log log1p sin cos tan tanh sigmoid softplus erf ndtr pow".split())


@pytest.fixture(params=available())
def backend(request):
    return request.param


def scalar(name):
    return gc.input(name, (), "float64")


def run(backend, inputs, outputs, values):
    """The outputs as floats or arrays, in float64."""
    arrays = [np.asarray(value, dtype=np.float64) for value in values]
    return gc.compile(inputs, list(outputs), backend=backend)(*arrays)


def transcendental_calls(function):
    """The transcendental ops in the bodies of a compiled function's program, counted once in each body."""
    return sorted(
        part.op
        for stage in function.program.stages()
        for part in sc.postorder(stage.node.body)
        if isinstance(part, sc.Apply) and part.op in TRANSCENDENTAL
    )


def final(*expressions):
    """The nodes after all passes: equal terms are one object."""
    return run_passes(Graph(tuple(expression.node for expression in expressions)), check=True).outputs


def zero(expression):
    return sp.simplify(expression) == 0


def of_sympy(tensor):
    """A scalar in SymPy, its float numbers as exact ones."""
    return sp.nsimplify(to_sympy(tensor))


# --- A1: the gate graph ---------------------------------------------------------------------------------------------


def test_a1_gate_graph(backend):
    x, y, z = scalar("x"), scalar("y"), scalar("z")
    q = x + y
    f = q * z
    got = run(backend, [x, y, z], [q, f, *gc.grad(f, [x, y, z, q])], [-2, 5, -4])
    assert [float(value) for value in got] == [3, -12, -4, -4, 3, -4]


# --- A2: the sigmoid neuron -----------------------------------------------------------------------------------------


def neuron():
    leaves = [scalar(name) for name in ("w0", "x0", "w1", "x1", "w2")]
    w0, x0, w1, x1, w2 = leaves
    dot = w0 * x0 + w1 * x1
    return leaves, dot, dot + w2


NEURON_POINT = (2, -1, -3, -2, -3)


def test_a2_sigmoid_neuron_of_gates(backend):
    leaves, dot, total = neuron()
    e = gc.exp(-total)
    f = 1 / (1 + e)
    values = run(backend, leaves, [dot, total, e, 1 + e, f], NEURON_POINT)
    assert [round(float(value), 2) for value in values] == [4, 1, 0.37, 1.37, 0.73]
    gradients = run(backend, leaves, gc.grad(f, leaves), NEURON_POINT)
    assert [round(float(value), 1) for value in gradients] == [-0.2, 0.4, -0.4, -0.6, 0.2]


def test_a2_sigmoid_as_one_node(backend):
    leaves, _, total = neuron()
    f = gc.sigmoid(total)
    function = gc.compile(leaves, [f, *gc.grad(f, [*leaves, total])], backend=backend)
    s, *gradients, local = function(*(np.float64(value) for value in NEURON_POINT))
    assert local == pytest.approx((1 - s) * s, rel=1e-14)
    assert [round(float(value), 1) for value in gradients] == [-0.2, 0.4, -0.4, -0.6, 0.2]
    assert transcendental_calls(function) == ["sigmoid"], "the gradient reuses s"


def test_a2_gates_and_the_one_node_become_the_same_graph():
    leaves, _, total = neuron()
    gates, node = 1 / (1 + gc.exp(-total)), gc.sigmoid(total)
    outputs = final(gates, node)
    assert outputs[0] is outputs[1]
    for one, other in zip(final(*gc.grad(gates, leaves)), final(*gc.grad(node, leaves)), strict=True):
        assert one is other


# --- A3: gate patterns ----------------------------------------------------------------------------------------------


def test_a3_add_distributes(backend):
    x, y, g = scalar("x"), scalar("y"), scalar("g")
    assert [float(v) for v in run(backend, [x, y, g], gc.vjp(x + y, [x, y], g), [3, 5, 7])] == [7, 7]


def test_a3_mul_swaps(backend):
    x, y, g = scalar("x"), scalar("y"), scalar("g")
    assert [float(v) for v in run(backend, [x, y, g], gc.vjp(x * y, [x, y], g), [3, 5, 7])] == [35, 21]


def test_a3_copy_adds_up(backend):
    x, g, h = scalar("x"), scalar("g"), scalar("h")
    one, two = 2 * x, 5 * x
    assert [float(v) for v in run(backend, [x, g, h], [gc.grad(one * g + two * h, x)], [3, 10, 100])] == [520]


def test_a3_a_stretched_operand_adds_up(backend):
    b, g = gc.input("b", (2,), "float64"), gc.input("g", (3, 2), "float64")
    upstream = np.arange(6.0).reshape(3, 2)
    (got,) = run(backend, [b, g], [gc.vjp(gc.broadcast_to(b, (3, 2)), b, g)], [[1, 2], upstream])
    np.testing.assert_array_equal(got, upstream.sum(0))


@pytest.mark.parametrize(("x_value", "y_value", "expected"), [(4, 3, [7, 0]), (3, 4, [0, 7]), (3, 3, [3.5, 3.5])])
def test_a3_max_routes(backend, x_value, y_value, expected):
    x, y, g = scalar("x"), scalar("y"), scalar("g")
    got = run(backend, [x, y, g], gc.vjp(gc.maximum(x, y), [x, y], g), [x_value, y_value, 7])
    assert [float(v) for v in got] == expected


def test_a3_max_over_an_axis_routes_to_the_first(backend):
    x = gc.input("x", (4,), "float64")
    assert run(backend, [x], [gc.grad(gc.max(x), x)], [[1, 5, 5, 2]])[0].tolist() == [0, 1, 0, 0]


# --- A4, A5: the composed scalar function ---------------------------------------------------------------------------


class Composed:
    """f = b3 + w3 cos(b2 + w2 exp(b1 + w1 sin(b0 + w0 x))), l = (f - y)^2."""

    def __init__(self):
        self.x, self.y = scalar("x"), scalar("y")
        self.b = [scalar(f"b{k}") for k in range(4)]
        self.w = [scalar(f"w{k}") for k in range(4)]
        h = [self.x]
        f = []
        for k, op in enumerate((gc.sin, gc.exp, gc.cos)):
            f.append(self.b[k] + self.w[k] * h[k])
            h.append(op(f[k]))
        f.append(self.b[3] + self.w[3] * h[3])
        self.f, self.h = f, h
        self.loss = (f[3] - self.y) ** 2
        self.parameters = [*self.b, *self.w]
        self.inputs = [self.x, self.y, *self.parameters]


POINT = (2.3, 2.0, 1.0, 2.0, 3.0, 0.4, 0.1, -0.7, 0.6, -1.3)  # x, y, b0..b3, w0..w3


def composed_by_hand(x, y, b, w):
    h0 = x
    f0 = b[0] + w[0] * h0
    h1 = np.sin(f0)
    f1 = b[1] + w[1] * h1
    h2 = np.exp(f1)
    f2 = b[2] + w[2] * h2
    h3 = np.cos(f2)
    f3 = b[3] + w[3] * h3
    df3 = 2 * (f3 - y)
    dh3 = w[3] * df3
    df2 = -np.sin(f2) * dh3
    dh2 = w[2] * df2
    df1 = h2 * dh2
    dh1 = w[1] * df1
    df0 = np.cos(f0) * dh1
    forward = [f0, h1, f1, h2, f2, h3, f3, (f3 - y) ** 2]
    first = [df3, dh3, df2, dh2, df1, dh1, df0]
    second = [df0, df1, df2, df3, h0 * df0, h1 * df1, h2 * df2, h3 * df3]
    return forward, first, second


def test_a4_all_eight_derivatives(backend):
    model = Composed()
    forward, _, expected = composed_by_hand(POINT[0], POINT[1], POINT[2:6], POINT[6:])
    got = run(backend, model.inputs, [model.loss, *gc.grad(model.loss, model.parameters)], POINT)
    np.testing.assert_allclose(got, [forward[-1], *expected], rtol=1e-12)


def test_a4_forward_and_backward_make_five_calls(backend):
    model = Composed()
    function = gc.compile(model.inputs, [model.loss, *gc.grad(model.loss, model.parameters)], backend=backend)
    assert transcendental_calls(function) == ["cos", "cos", "exp", "sin", "sin"]


def test_a4_the_numpy_text_makes_five_calls():
    model = Composed()
    outputs = [model.loss, *gc.grad(model.loss, model.parameters)]
    text = gc.compile(model.inputs, outputs, backend="numpy").source("numpy")
    calls = re.findall(r"np\.(sin|cos|exp|tan|tanh|log|log1p|expm1|power)\(", text)
    assert sorted(calls) == ["cos", "cos", "exp", "sin", "sin"], text


def test_a5_the_three_passes(backend):
    model = Composed()
    f, h = model.f, model.h
    order = [f[3], h[3], f[2], h[2], f[1], h[1], f[0]]
    outputs = [f[0], h[1], f[1], h[2], f[2], h[3], f[3], model.loss]
    outputs += [*gc.grad(model.loss, order), *gc.grad(model.loss, model.parameters)]
    forward, first, second = composed_by_hand(POINT[0], POINT[1], POINT[2:6], POINT[6:])
    got = run(backend, model.inputs, outputs, POINT)
    np.testing.assert_allclose(got, [*forward, *first, *second], rtol=1e-12)


def test_a5_the_second_backward_pass_is_products_of_the_first():
    model = Composed()
    to_f = gc.grad(model.loss, model.f)
    to_b, to_w = gc.grad(model.loss, model.b), gc.grad(model.loss, model.w)
    products = [h * g for h, g in zip(model.h, to_f, strict=True)]
    nodes = final(*to_f, *to_b, *products, *to_w)
    assert nodes[:4] == nodes[4:8], "dl/db_k is dl/df_k"
    assert nodes[8:12] == nodes[12:], "dl/dw_k is h_k dl/df_k"


# --- A6, A7: chain rules against SymPy ------------------------------------------------------------------------------

T = sp.Symbol("t")


def derivative_matches(build, expected, names="t"):
    """The derivative of build(leaves) in the first leaf is `expected` in SymPy, and so at points."""
    leaves = [scalar(name) for name in names]
    got = gc.grad(build(*leaves), leaves[0])
    assert zero(of_sympy(got) - expected)
    symbols = [sp.Symbol(name) for name in names]
    for point in np.random.default_rng(0).uniform(0.2, 1.5, (4, len(names))):
        want = float(expected.subs(dict(zip(symbols, point, strict=True))))
        found = interpret(Graph((got.node,)), {x.node: v for x, v in zip(leaves, point, strict=True)})[0]
        assert float(found) == pytest.approx(want, rel=1e-10)


def test_a6_chain_rule_in_t():
    x1, x2 = T * sp.cos(T), T * sp.sin(T)
    expected = sp.exp(x1 * x2**2) * (x2**2 * (sp.cos(T) - T * sp.sin(T)) + 2 * x1 * x2 * (sp.sin(T) + T * sp.cos(T)))
    derivative_matches(lambda t: gc.exp((t * gc.cos(t)) * (t * gc.sin(t)) ** 2), expected)


def test_a6_on_backends(backend):
    t = scalar("t")
    x1, x2 = t * gc.cos(t), t * gc.sin(t)
    slope = gc.grad(gc.exp(x1 * x2**2), t)
    for value in (0.3, 1.1, 2.0):
        c, s = np.cos(value), np.sin(value)
        a, b = value * c, value * s
        want = np.exp(a * b**2) * (b**2 * (c - value * s) + 2 * a * b * (s + value * c))
        assert float(run(backend, [t], [slope], [value])[0]) == pytest.approx(want, rel=1e-12)


def test_a7_power_of_a_line():
    x = sp.Symbol("x")
    derivative_matches(lambda x: (2 * x + 1) ** 4, 8 * (2 * x + 1) ** 3, "x")


def test_a7_along_a_circle():
    derivative_matches(lambda t: gc.sin(t) ** 2 + 2 * gc.cos(t), 2 * sp.sin(T) * (sp.cos(T) - 1))


def test_a7_two_paths():
    s, t = sp.symbols("s t")
    f = lambda s, t, lib: (s * t) ** 2 * lib.sin(s + t) + lib.exp(s * t)  # noqa: E731  # one formula, two libraries
    derivative_matches(lambda a, b: f(a, b, gc), sp.diff(f(s, t, sp), s), "st")


def test_a7_polynomial_in_two_variables(backend):
    x1, x2 = scalar("x1"), scalar("x2")
    f = x1**2 * x2 + x1 * x2**3
    d1, d2 = gc.grad(f, [x1, x2])
    assert [float(v) for v in run(backend, [x1, x2], [d1, d2], [2, 3])] == [2 * 2 * 3 + 27, 4 + 3 * 2 * 9]
    a, b = sp.symbols("x1 x2")
    assert zero(of_sympy(d1) - (2 * a * b + b**3)) and zero(of_sympy(d2) - (a**2 + 3 * a * b**2))


def test_a7_from_sympy_and_back():
    x, y = sp.symbols("x y")
    expr = sp.exp(-(x**2)) * sp.sin(x * y)
    tensors = {name: scalar(name) for name in "xy"}
    got = gc.grad(from_sympy(expr, tensors), tensors["x"])
    assert zero(of_sympy(got) - sp.diff(expr, x))


def test_a7_the_jacobian_of_a_linear_map_is_its_matrix(backend):
    A, x = gc.input("A", (3, 4), "float64"), gc.input("x", (4,), "float64")
    jacobian = gc.jacobian(A @ x, x)
    assert jacobian.node is A.node
    value = np.random.default_rng(1).normal(size=(3, 4))
    np.testing.assert_array_equal(run(backend, [A, x], [jacobian], [value, np.ones(4)])[0], value)


def second_order_pieces():
    x = gc.input("x", (3,), "float64")
    v = gc.input("v", (3,), "float64")
    f = gc.sum(gc.sin(x)) * gc.prod(x) + gc.exp(x[0] * x[2])
    return x, v, f


def test_a7_gradient_hessian_and_products_agree(backend):
    x, v, f = second_order_pieces()
    H = gc.hessian(f, x)
    outputs = [gc.grad(f, x), gc.jacobian(f, x), gc.jvp(f, x, v), H, gc.hvp(f, x, v)]
    point, direction = np.array([0.4, -1.2, 0.9]), np.array([1.0, 0.5, -2.0])
    gradient, row, slope, hessian, product = run(backend, [x, v], outputs, [point, direction])
    np.testing.assert_allclose(row, gradient, rtol=1e-12)
    np.testing.assert_allclose(slope, gradient @ direction, rtol=1e-12)
    np.testing.assert_allclose(hessian, hessian.T, rtol=1e-12)
    np.testing.assert_allclose(product, hessian @ direction, rtol=1e-12)

    def by_numpy(p):
        return np.sum(np.sin(p)) * np.prod(p) + np.exp(p[0] * p[2])

    np.testing.assert_allclose(gradient, complex_step(by_numpy, point), rtol=1e-12)
    second = finite_difference(lambda p: complex_step(by_numpy, p), point)
    np.testing.assert_allclose(hessian, second, rtol=1e-7, atol=1e-8)


def test_a7_hessian_in_sympy():
    x = gc.input("x", (2,), "float64")
    f = x[0] ** 2 * x[1] + x[0] * x[1] ** 3
    symbols = sp.symbols("x0 x1")
    found = sp.Matrix(np.array(to_sympy(gc.hessian(f, x))).reshape(2, 2).tolist())
    names = sorted(found.free_symbols, key=str)
    found = sp.nsimplify(found.subs(dict(zip(names, symbols, strict=True))))
    assert sp.simplify(found - sp.hessian(symbols[0] ** 2 * symbols[1] + symbols[0] * symbols[1] ** 3, symbols)) == (
        sp.zeros(2, 2)
    )


def test_a7_vjp_and_jvp_are_the_rows_and_columns_of_the_jacobian(backend):
    x = gc.input("x", (3,), "float64")
    u, v = gc.input("u", (2,), "float64"), gc.input("v", (3,), "float64")
    y = gc.stack([gc.sum(x * x), gc.sin(x[0]) * x[1] / x[2]])
    values = [[0.4, -1.2, 0.9], [2.0, -3.0], [1.0, 0.5, -2.0]]
    outputs = [gc.jacobian(y, x), gc.vjp(y, x, u), gc.jvp(y, x, v)]
    jacobian, left, right = run(backend, [x, u, v], outputs, values)
    assert jacobian.shape == (2, 3)
    np.testing.assert_allclose(left, np.array(values[1]) @ jacobian, rtol=1e-12)
    np.testing.assert_allclose(right, jacobian @ np.array(values[2]), rtol=1e-12)
    np.testing.assert_allclose(
        jacobian,
        complex_step(lambda p: np.array([np.sum(p * p), np.sin(p[0]) * p[1] / p[2]]), values[0]),
        rtol=1e-12,
    )


# --- A8: backward functions -----------------------------------------------------------------------------------------


def test_a8_linear_layer():
    W, z = gc.input("W", (3, 4)), gc.input("z", (4,))
    b, v = gc.input("b", (3,)), gc.input("v", (3,))
    to_z, to_W, to_b = gc.vjp(W @ z + b, [z, W, b], v)
    assert to_b.node is v.node
    nodes = final(to_W, gc.outer(v, z))
    assert nodes[0] is nodes[1]
    for got, want in ((to_z, W.T @ v), (to_W, gc.outer(v, z))):
        assert sp.simplify(sp.Array(to_sympy(got)) - sp.Array(to_sympy(want))) == sp.Array(np.zeros(got.shape, int))


def test_a8_linear_layer_on_backends(backend):
    W, z = gc.input("W", (3, 4), "float64"), gc.input("z", (4,), "float64")
    b, v = gc.input("b", (3,), "float64"), gc.input("v", (3,), "float64")
    rng = np.random.default_rng(2)
    values = [rng.normal(size=tensor.shape) for tensor in (W, z, b, v)]
    got = run(backend, [W, z, b, v], gc.vjp(W @ z + b, [z, W, b], v), values)
    np.testing.assert_allclose(got[0], values[0].T @ values[3], rtol=1e-12)
    np.testing.assert_allclose(got[1], np.outer(values[3], values[1]), rtol=1e-12)
    np.testing.assert_array_equal(got[2], values[3])


def test_a8_activation(backend):
    z, v = gc.input("z", (5,), "float64"), gc.input("v", (5,), "float64")
    point, upstream = np.linspace(-2, 2, 5), np.arange(1.0, 6.0)
    s = 1 / (1 + np.exp(-point))
    cases = {
        gc.sigmoid: s * (1 - s),
        gc.tanh: 1 - np.tanh(point) ** 2,
        gc.relu: np.where(point > 0, 1.0, 0.0),
        gc.sin: np.cos(point),
    }
    for op, slope in cases.items():
        (got,) = run(backend, [z, v], [gc.vjp(op(z), z, v)], [point, upstream])
        np.testing.assert_allclose(got, slope * upstream, rtol=1e-12, atol=1e-15)


def test_a8_losses(backend):
    z, t = gc.input("z", (4,), "float64"), gc.input("t", (4,), "float64")
    point, target = np.array([0.3, -1.0, 2.0, 0.1]), np.array([0.0, 0.0, 1.0, 0.0])
    p = np.exp(point) / np.exp(point).sum()
    s = 1 / (1 + np.exp(-point))
    half_square = 0.5 * gc.sum((z - t) ** 2)
    cross_entropy = -gc.sum(t * gc.log_softmax(z))
    spelt_out = -gc.sum(t * gc.log(gc.exp(z) / gc.sum(gc.exp(z))))
    binary = -gc.sum(t * gc.log(gc.sigmoid(z)) + (1 - t) * gc.log(1 - gc.sigmoid(z)))
    cases = [(half_square, point - target), (cross_entropy, p - target), (spelt_out, p - target)]
    for loss, want in [*cases, (binary, s - target)]:
        (got,) = run(backend, [z, t], [gc.grad(loss, z)], [point, target])
        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-14)


# --- A9: numerical gradients ----------------------------------------------------------------------------------------


def test_a9_the_example_of_the_notes():
    loss = {0.34: 1.6688, 0.341: 1.6697}
    got = finite_difference(lambda w: loss[round(float(w), 3)], 0.34, step=0.001, scheme="forward")
    assert float(got) == pytest.approx(0.9, abs=1e-9)


def test_a9_finite_differences_check_a_derived_gradient(backend):
    x, _, f = second_order_pieces()
    value = gc.compile([x], f, backend=backend)
    point = np.array([0.4, -1.2, 0.9])
    (gradient,) = run(backend, [x], [gc.grad(f, x)], [point])
    found = finite_difference(value, point)
    assert found.shape == point.shape
    np.testing.assert_allclose(found, gradient, rtol=1e-8, atol=1e-9)


def test_a9_shapes_are_those_of_a_jacobian():
    matrix = np.arange(6.0).reshape(2, 3)
    assert finite_difference(lambda p: matrix @ p, np.ones(3)).shape == (2, 3)
    assert complex_step(lambda p: matrix @ p, np.ones((3, 2))).shape == (2, 2, 3, 2)
    np.testing.assert_allclose(complex_step(lambda p: matrix @ p, np.ones(3)), matrix, rtol=1e-15)
    assert finite_difference(np.sum, np.zeros((0, 2))).shape == complex_step(np.sum, np.zeros((0, 2))).shape == (0, 2)


def test_a9_the_complex_step_is_exact_where_differences_are_not():
    truth = np.exp(1.5) * (np.sin(1.5) + np.cos(1.5))
    f = lambda x: np.exp(x) * np.sin(x)  # noqa: E731
    assert abs(complex_step(f, 1.5) - truth) <= 4e-16 * abs(truth)
    assert 1e-13 < abs(finite_difference(f, 1.5) - truth) / abs(truth) < 1e-8


def test_a9_wrong_arguments():
    with pytest.raises(gc.GraphcError, match=r"scheme .*'backward'.*test_calculus.py"):
        finite_difference(np.sum, 1.0, scheme="backward")
    with pytest.raises(gc.GraphcError, match="step must be positive"):
        finite_difference(np.sum, 1.0, step=0.0)


def test_a9_the_gradient_is_orthogonal_to_level_lines(backend):
    x, t = gc.input("x", (2,), "float64"), scalar("t")
    gradient = gc.grad(x[0] ** 2 + 4 * x[1] ** 2, x)
    line = gc.stack([2 * gc.cos(t), gc.sin(t)])  # where the function is 4
    tangent = gc.jacobian(line, t)
    for angle in (0.2, 1.0, 2.5, 4.0):
        point, along = run(backend, [t], [line, tangent], [angle])
        (up,) = run(backend, [x], [gradient], [point])
        assert abs(up @ along) < 1e-12 and np.linalg.norm(up) > 1


# --- A10: linear collapse -------------------------------------------------------------------------------------------


def multiplications(nodes):
    """Scalar multiplications of the matrix products in a graph."""
    return sum(int(np.prod(node.domain)) for node in topological(nodes) if isinstance(node, Generic) and node.reducer)


@pytest.mark.parametrize("x_shape", [(30,), (30, 1), (30, 500)])
@pytest.mark.parametrize("sizes", [(20, 30, 10), (2, 30, 100)], ids=["narrow", "bottleneck"])
def test_a10_both_bracketings_become_one(x_shape, sizes):
    hidden, inner, out = sizes
    W1, W2, x = gc.input("W1", (hidden, inner)), gc.input("W2", (out, hidden)), gc.input("x", x_shape)
    one, other = final((W2 @ W1) @ x, W2 @ (W1 @ x))
    assert one is other
    n = x_shape[1] if len(x_shape) == 2 else 1
    ahead, behind = out * hidden * inner + out * inner * n, hidden * inner * n + out * hidden * n
    assert multiplications([one]) == min(ahead, behind)


def test_a10_row_vectors_too():
    W1, W2, x = gc.input("W1", (30, 20)), gc.input("W2", (20, 10)), gc.input("x", (30,))
    one, other = final(x @ (W1 @ W2), (x @ W1) @ W2)
    assert one is other and multiplications([one]) == 30 * 20 + 20 * 10


def test_a10_program_of_the_collapse(backend):
    W1, W2, x = gc.input("W1", (20, 30)), gc.input("W2", (10, 20)), gc.input("x", (30, 4))
    function = gc.compile([W1, W2, x], (W2 @ W1) @ x, backend=backend)
    assert [stage.node.domain for stage in function.program.stages()] == [(20, 4, 30), (10, 4, 20)]


def brackets(matrices):
    """Every order in which to multiply a chain."""
    if len(matrices) == 1:
        yield matrices[0]
    for cut in range(1, len(matrices)):
        for left, right in itertools.product(brackets(matrices[:cut]), brackets(matrices[cut:])):
            yield left @ right


@pytest.mark.parametrize("seed", range(4))
def test_a10_chains_reach_the_cheapest_of_all_orders(seed):
    rng = np.random.default_rng(seed)
    count = 3 + seed
    extents = rng.permutation(np.arange(2, 2 + count + 1) * 3)
    leaves = [gc.input(f"m{k}", (int(extents[k]), int(extents[k + 1])), "float64") for k in range(count)]
    options = list(brackets(leaves))
    cheapest = min(multiplications([option.node]) for option in options)
    values = {leaf.node: rng.normal(size=leaf.shape) for leaf in leaves}
    expected = np.linalg.multi_dot(list(values.values()))
    for option in options if count < 6 else options[:: len(options) // 9]:
        (node,) = final(option)
        assert multiplications([node]) == cheapest
        np.testing.assert_allclose(interpret(Graph((node,)), values)[0], expected, rtol=1e-9, atol=1e-7)


def test_a10_a_product_that_is_used_twice_is_not_torn_apart():
    W1, W2, x = gc.input("W1", (20, 30)), gc.input("W2", (10, 20)), gc.input("x", (30, 1))
    product = W2 @ W1
    nodes = final(product @ x, product)
    assert nodes[1] in topological(nodes[:1])


def test_a10_constants_are_folded(backend):
    W1, W2 = gc.constant(np.arange(6.0).reshape(2, 3)), gc.constant(np.arange(8.0).reshape(4, 2))
    x = gc.input("x", (3,), "float64")
    function = gc.compile([x], (W2 @ W1 + gc.sin(W1[0, 0])) @ x, backend=backend)
    assert len(list(function.program.stages())) == 1 and transcendental_calls(function) == []
    values = [1.0, -2.0, 3.0]
    got = function(np.array(values))
    np.testing.assert_allclose(got, np.arange(8.0).reshape(4, 2) @ np.arange(6.0).reshape(2, 3) @ values)


def test_a10_an_expression_of_constants_is_a_constant():
    (node,) = final(gc.exp(gc.constant([1.0, 2.0])) * 2)
    assert isinstance(node, Const)


# --- A11: both conventions ------------------------------------------------------------------------------------------


def test_a11_rows_and_columns_agree(backend):
    rng = np.random.default_rng(4)
    batch, W, b = rng.normal(size=(5, 3)), rng.normal(size=(3, 2)), rng.normal(size=2)
    rows, columns = gc.input("rows", (5, 3), "float64"), gc.input("columns", (3, 5), "float64")
    weight, bias = gc.input("weight", (3, 2), "float64"), gc.input("bias", (2,), "float64")
    weight_c, bias_c = gc.input("weight_c", (2, 3), "float64"), gc.input("bias_c", (2, 1), "float64")
    by_rows = gc.tanh(rows @ weight + bias)
    by_columns = gc.tanh(weight_c @ columns + bias_c)
    loss, loss_c = gc.sum(by_rows**2), gc.sum(by_columns**2)
    one = run(backend, [rows, weight, bias], [by_rows, *gc.grad(loss, [weight, bias])], [batch, W, b])
    other = run(
        backend,
        [columns, weight_c, bias_c],
        [by_columns, *gc.grad(loss_c, [weight_c, bias_c])],
        [batch.T, W.T, b[:, None]],
    )
    np.testing.assert_allclose(one[0], other[0].T, rtol=1e-12)
    np.testing.assert_allclose(one[1], other[1].T, rtol=1e-12)
    np.testing.assert_allclose(one[2], other[2][:, 0], rtol=1e-12)
    expected = np.tanh(batch @ W + b)
    np.testing.assert_allclose(one[1], batch.T @ (2 * expected * (1 - expected**2)), rtol=1e-12)

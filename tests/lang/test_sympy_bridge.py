"""From SymPy and back: values, derivatives, round trips, elementwise formulas of arrays."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import sympy as sp

from graphc.errors import ArgumentError
from graphc.ir.graph import Graph, topological
from graphc.ir.interp import interpret
from graphc.ir.node import Generic, const
from graphc.lang import elementwise as ew
from graphc.lang import reduce
from graphc.lang.define import define
from graphc.lang.sympy_bridge import from_sympy, to_sympy
from graphc.lang.tensor import Tensor, input
from graphc.rules.grad import backward

x, y = sp.symbols("x y")
POINTS = [(0.7, 1.3), (0.4, -0.6), (0.9, 0.2)]
EXPRESSIONS = [
    x + y,
    x - 2 * y,
    -x * y,
    x / y,
    sp.Rational(1, 3) * x + y / 7,
    x**2 + y**3,
    x**-2 * y,
    sp.sqrt(x) / (1 + y**2),
    1 / sp.sqrt(x),
    x ** sp.Rational(3, 2),
    x**y,
    2**x,
    sp.exp(-(x**2)) * sp.sin(y),
    sp.log(x) * sp.cos(y),
    sp.tan(x) + sp.tanh(y),
    sp.sinh(x) * sp.cosh(y),
    sp.asin(x) + sp.acos(x) * y,
    sp.atan(y) + sp.atan2(y, x),
    sp.erf(x * y),
    1 / (1 + sp.exp(-x)),
    sp.Abs(y) * sp.sign(y) * x,
    sp.Max(x, y, 0.5) + sp.Min(x, y),
    sp.floor(3 * x) + sp.ceiling(y),
    sp.Piecewise((x**2, x > y), (sp.sin(y), x > 0.5), (0, True)),
    sp.Piecewise((x, (x > 0) & (y > 0)), (y, True)),
    sp.Piecewise((1, sp.Or(x > 5, sp.Not(y <= 0))), (x, True)),
    sp.pi * x + sp.E * y,
    x * sp.exp(1) + sp.log(3),
]


def value(tensor, feed):
    return interpret(Graph((tensor.node,)), {leaf.node: np.asarray(v) for leaf, v in feed.items()})[0]


def inputs():
    return input("x", (), "float64"), input("y", (), "float64")


@pytest.mark.parametrize("expr", EXPRESSIONS, ids=str)
def test_value_and_derivative(expr):
    a, b = inputs()
    f = from_sympy(expr, {x: a, "y": b})
    slopes = backward([f.node], [const(1.0, "float64")], [a.node, b.node])
    for at in POINTS:
        feed = dict(zip((a, b), at, strict=True))
        numbers = dict(zip((x, y), at, strict=True))
        np.testing.assert_allclose(value(f, feed), float(expr.subs(numbers)), rtol=1e-12, atol=1e-12)
        for leaf, symbol in ((a, x), (b, y)):
            got = value(Tensor(slopes[leaf.node]), feed) if leaf.node in slopes else 0.0
            h = sp.Rational(1, 10**8)
            up, down = (expr.subs({**numbers, symbol: numbers[symbol] + s * h}).evalf(30) for s in (1, -1))
            np.testing.assert_allclose(got, float((up - down) / (2 * h)), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("expr", [e for e in EXPRESSIONS if not e.has(sp.Piecewise, sp.Max, sp.floor, sp.Abs)], ids=str)
def test_derivative_is_sympys(expr):
    a, b = inputs()
    f = from_sympy(expr, {x: a, y: b})
    slopes = backward([f.node], [const(1.0, "float64")], [a.node, b.node])
    for leaf, symbol in ((a, x), (b, y)):
        expected = sp.lambdify((x, y), sp.diff(expr, symbol), ["scipy", "numpy"])
        for at in POINTS:
            if expr == x**y and at[0] <= 0:
                continue
            got = value(Tensor(slopes[leaf.node]), dict(zip((a, b), at, strict=True))) if leaf.node in slopes else 0.0
            np.testing.assert_allclose(got, expected(*at), rtol=1e-10, atol=1e-12)


EXACT = [e for e in EXPRESSIONS if not e.has(sp.pi, sp.E, sp.asin, sp.acos, sp.sinh, sp.atan, sp.atan2, sp.log(3))]


@pytest.mark.parametrize("expr", EXACT, ids=str)
def test_round_trip(expr):
    assert sp.simplify(sp.nsimplify(to_sympy(from_sympy(expr)) - expr)) == 0


def test_round_trip_of_composed_functions():
    expr = sp.sinh(x) + sp.asin(x) + sp.atan(x)
    back = to_sympy(from_sympy(expr))
    assert abs(float((back - expr).subs(x, 0.3))) < 1e-6


def test_symbols_become_float32_inputs():
    f = from_sympy(x * sp.exp(y))
    assert f.dtype == "float32" and f.shape == ()
    assert sorted(leaf.name for leaf in Graph((f.node,)).inputs) == ["x", "y"]


def test_inputs_may_be_arrays_that_broadcast():
    a, b = input("a", (3, 1)), input("b", (4,))
    assert from_sympy(x * y + 1, {x: a, y: b}).shape == (3, 4)


def test_equal_subexpressions_are_one_node():
    e = sp.tanh(sp.sin(x))
    f = from_sympy(e + e**2 + sp.cos(e))
    ops = [node.body.op for node in topological((f.node,)) if isinstance(node, Generic)]
    assert ops.count("tanh") == ops.count("sin") == 1


def test_no_condition_holds():
    a, _ = inputs()
    f = from_sympy(sp.Piecewise((x, x > 0)), {x: a})
    assert np.isnan(value(f, {a: -1.0})) and value(f, {a: 2.0}) == 2


def test_numbers_alone():
    assert value(from_sympy(sp.pi), {}) == np.float32(np.pi)
    assert value(from_sympy(sp.Integer(3)), {}) == 3


def test_matrices_are_stacked():
    a, b = input("x", (), "float64"), input("y", (3,), "float64")
    m = from_sympy(sp.Matrix([[x, y], [1, x * y]]), {x: a, y: b})
    assert m.shape == (2, 2, 3)
    got = value(m, {a: 2.0, b: [1.0, 2.0, 3.0]})
    np.testing.assert_allclose(got, [[[2, 2, 2], [1, 2, 3]], [[1, 1, 1], [2, 4, 6]]])
    assert to_sympy(from_sympy(sp.Matrix([[x, y], [1, x * y]]))) == sp.Matrix([[x, y], [1, x * y]])


@pytest.mark.parametrize(
    "expr, problem",
    [
        (sp.gamma(x), "gamma has no counterpart"),
        (sp.exp(sp.besselj(0, x)), "besselj has no counterpart"),
        (sp.Integral(x, x), "Integral"),
        (sp.I * x, "not a real number"),
    ],
)
def test_what_has_no_counterpart(expr, problem):
    with pytest.raises(ArgumentError, match=problem) as error:
        from_sympy(expr)
    assert error.value.where.startswith(__file__)


@pytest.mark.feature("C.symbols")
def test_convolution_of_symbols():
    conv = define("y[i,j] = sum[p,q] x[i+p,j+q] * w[p,q]", x="H W", w="P Q", i="H-P+1", j="W-Q+1")
    got = to_sympy(conv(input("x", (3, 3)), input("w", (2, 2))))
    assert got.shape == (2, 2)
    assert str(got[0, 1]) == "w00*x01 + w01*x02 + w10*x11 + w11*x12"
    xs, ws = (sp.Matrix(n, n, lambda i, j, s=s: sp.Symbol(f"{s}{i}{j}")) for s, n in (("x", 3), ("w", 2)))
    for i in range(2):
        for j in range(2):
            assert got[i, j] == sum(xs[i + p, j + q] * ws[p, q] for p in range(2) for q in range(2))


def test_padding_and_reductions():
    pad = define("y[i] = sum[k] x[i+k-1]", x="N", i="N", k=3, outside="zero")
    assert str(to_sympy(pad(input("x", (3,))))) == "[x0 + x1, x0 + x1 + x2, x1 + x2]"
    v = input("v", (2,))
    v0, v1 = sp.symbols("v0 v1")
    assert to_sympy(reduce.max(v)) == sp.Max(v0, v1)
    assert to_sympy(reduce.prod(v)) == v0 * v1
    assert to_sympy(reduce.argmax(v)).subs({v0: 1, v1: 2}) == 1
    assert str(to_sympy(input("big", (11,)))[10]) == "big_10"


def test_gradients_have_formulas():
    a = input("a", ())
    f = ew.sigmoid(a)
    (slope,) = backward([f.node], [const(1.0, "float32")], [a.node]).values()
    s = 1 / (1 + sp.exp(-sp.Symbol("a")))
    assert sp.simplify(to_sympy(Tensor(slope)) - s * (1 - s)) == 0


def test_large_and_symbolic_arrays_are_refused():
    with pytest.raises(ArgumentError, match="too many"):
        to_sympy(ew.exp(input("x", (200, 200))))
    with pytest.raises(ArgumentError, match="must be known"):
        to_sympy(ew.exp(input("x", ("N",))))


def test_sympy_is_not_imported_with_the_bridge():
    code = "import sys; import graphc.lang.sympy_bridge; assert 'sympy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)

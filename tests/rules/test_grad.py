"""Derivatives of graphs against finite differences, at first and second order; what has none."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc.errors import GradientError
from graphc.ir.graph import Graph
from graphc.ir.interp import interpret
from graphc.ir.node import Generic, leaf, opaque
from graphc.ir.verify import verify
from graphc.lang.finite import finite_difference

RNG = np.random.default_rng(0)


def evaluate(tensor, values):
    graph = Graph((tensor.node,))
    verify(graph)
    return interpret(graph, {x.node: np.asarray(v) for x, v in values.items()})[0]


def check(loss, values, rtol=1e-6):
    """First derivatives against differences of the loss, second ones against differences of the first."""
    floats = [x for x in values if x.dtype == "float64"]
    for x in floats:
        gradient = gc.grad(loss, x)
        assert gradient.shape == x.shape and gradient.dtype == x.dtype
        found = evaluate(gradient, values)
        expected = finite_difference(lambda at, x=x: evaluate(loss, values | {x: at}), values[x])
        np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol)
        direction = RNG.normal(size=x.shape)
        slope = evaluate(gc.jvp(loss, x, direction), values)
        np.testing.assert_allclose(slope, np.sum(found * direction), rtol=1e-9, atol=1e-9)
        second = gc.grad(gc.sum(gradient * direction), x)
        expected = finite_difference(
            lambda at, x=x, g=gradient, d=direction: np.sum(evaluate(g, values | {x: at}) * d), values[x]
        )
        np.testing.assert_allclose(evaluate(second, values), expected, rtol=rtol, atol=rtol)
        product = evaluate(gc.hvp(loss, x, direction), values)
        np.testing.assert_allclose(product, expected, rtol=rtol, atol=rtol)


def tensor(name, *shape):
    return gc.input(name, shape, "float64")


X, Y = tensor("x", 3, 4), tensor("y", 4)
IMAGE, KERNEL = tensor("image", 1, 2, 6, 6), tensor("kernel", 3, 2, 3, 3)
K = gc.input("k", (5,), dtype="int64")
VALUES = {
    X: RNG.normal(size=(3, 4)),
    Y: RNG.uniform(0.5, 2, size=4),
    IMAGE: RNG.permutation(72).reshape(1, 2, 6, 6) / 20.0,
    KERNEL: RNG.normal(size=(3, 2, 3, 3)),
    K: np.array([2, 0, 2, 1, 2]),
}
LOSSES = {
    "matmul": (lambda: gc.sum(gc.tanh(X @ Y) ** 2), (X, Y)),
    "broadcast": (lambda: gc.sum(gc.exp(X * Y) / (1 + Y)), (X, Y)),
    "softmax": (lambda: gc.sum(gc.softmax(X) ** 3), (X,)),
    "log_softmax": (lambda: gc.sum(gc.log_softmax(X, axis=0)[1]), (X,)),
    "max": (lambda: gc.sum(gc.max(X, axis=1) ** 3), (X,)),
    "min of a product": (lambda: gc.sum(gc.min(X * Y, axis=0) ** 2), (X, Y)),
    "prod": (lambda: gc.sum(gc.prod(X, axis=1) ** 2), (X,)),
    "prod of two": (lambda: gc.prod(X[0] * Y), (X, Y)),
    "variance": (lambda: gc.sum(gc.var(X, axis=1) * gc.std(X, axis=1)), (X,)),
    "power": (lambda: gc.sum(Y ** X[0]), (X, Y)),
    "where": (lambda: gc.sum(gc.where(X > 0, X**3, gc.sin(X) * Y)), (X, Y)),
    "clip": (lambda: gc.sum(gc.clip(X, -0.5, 0.5) ** 3), (X,)),
    "maximum": (lambda: gc.sum(gc.maximum(X, 0.1 * Y) ** 2), (X, Y)),
    "slices": (lambda: gc.sum(X[::-1, 1:3] ** 3) + gc.prod(X[0, ::2]), (X,)),
    "concatenate": (lambda: gc.sum(gc.concatenate([X, X * X, X[1:]]) ** 2), (X,)),
    "pad": (lambda: gc.sum(gc.exp(gc.pad(X, 1))), (X,)),
    "take": (lambda: gc.sum(gc.take(Y, K[:2]) ** 3) + gc.sum(gc.take(X, K, axis=0) ** 2), (X, Y, K)),
    "cumsum": (lambda: gc.sum(gc.cumsum(X, axis=1) ** 3), (X,)),
    "reshape": (lambda: gc.sum((X.reshape(4, 3) @ X) ** 2), (X,)),
    "conv2d": (lambda: gc.sum(gc.tanh(gc.conv2d(IMAGE, KERNEL, stride=2, padding=1))), (IMAGE, KERNEL)),
    "max pool": (lambda: gc.sum(gc.max_pool2d(IMAGE, 3, 2, 1) ** 3), (IMAGE,)),
    "max pool of a convolution": (
        lambda: gc.sum(gc.max_pool2d(gc.conv2d(IMAGE, KERNEL), 2) ** 2), (IMAGE, KERNEL)
    ),
    "average pool": (lambda: gc.sum(gc.avg_pool2d(IMAGE, 3, 2, 1) ** 3), (IMAGE,)),
    "einsum": (lambda: gc.sum(gc.einsum("ij,kj,j->ik", X, X, Y) ** 2), (X, Y)),
    "defined": (lambda: gc.sum(gc.define("o[i] = sum[j] sin(x[i+j]) * x[j]", x="4", i="2", j="3")(Y)), (Y,)),
    "logsumexp": (lambda: gc.logsumexp(X * 3), (X,)),
    "gelu": (lambda: gc.sum(gc.gelu(X) * gc.gelu(X, "tanh")), (X,)),
}  # fmt: skip


@pytest.mark.parametrize("name", LOSSES)
def test_first_and_second_order(name):
    build, leaves = LOSSES[name]
    check(build(), {leaf: VALUES[leaf] for leaf in leaves}, rtol=2e-6)


@pytest.mark.feature("B.prod")
@pytest.mark.parametrize("zeros", [1, 2, 4])
def test_prod_with_zeros(zeros):
    value = np.array([2.0, 3.0, 5.0, 7.0])
    value[:zeros] = 0
    x = tensor("x", 4)
    loss = gc.prod(x)
    expected = [np.prod(np.delete(value, j)) for j in range(4)]
    np.testing.assert_array_equal(evaluate(gc.grad(loss, x), {x: value}), expected)
    hessian = evaluate(gc.hessian(loss, x), {x: value})
    for i, j in np.ndindex(4, 4):
        assert hessian[i, j] == (0 if i == j else np.prod(np.delete(value, [i, j])))


@pytest.mark.feature("B.max")
def test_of_equal_values_max_chooses_the_first_and_maximum_halves():
    x = tensor("x", 3)
    at = {x: np.array([2.0, 5.0, 5.0])}
    assert evaluate(gc.grad(gc.max(x), x), at).tolist() == [0, 1, 0]
    assert evaluate(gc.grad(gc.sum(gc.maximum(x, 5.0)), x), at).tolist() == [0, 0.5, 0.5]


@pytest.mark.parametrize(
    ("build", "at", "expected"),
    [
        (gc.relu, 0.0, 0),
        (gc.absolute, 0.0, 0),
        (lambda x: gc.clip(x, 0, 1), 0.0, 1),
        (lambda x: gc.clip(x, 0, 1), 1.0, 1),
        (lambda x: gc.sqrt(x * x), 0.0, 0),
        (lambda x: gc.where(x > 0, gc.log(x), 0.0), 0.0, 0),
        (lambda x: gc.where(x != 0, gc.sin(x) / x, 1.0), 0.0, 0),
        (gc.floor, 0.5, 0),
        (gc.sign, 2.0, 0),
    ],
)
def test_conventions_at_kinks(build, at, expected):
    x = gc.input("x", (), "float64")
    assert evaluate(gc.grad(build(x), x), {x: at}) == expected


def test_an_unconnected_leaf_has_gradient_zeros():
    other = tensor("other", 2, 5)
    for got in (gc.grad(gc.sum(X), other), gc.grad(gc.sum(gc.floor(X)), X), gc.vjp(X, other, X)):
        assert not evaluate(got, {x: VALUES[x] for x in (X,)} | {other: np.ones((2, 5))}).any()
    assert gc.grad(gc.sum(X), other).shape == (2, 5)
    assert gc.jacobian(Y, other).shape == (4, 2, 5) and not evaluate(gc.jacobian(Y, other), {}).any()
    assert evaluate(gc.jvp(gc.sum(X), other, np.ones((2, 5))), {}) == 0


def test_comparisons_and_integers_stop_the_gradient():
    loss = gc.sum((X > 0).astype("float64") + gc.argmax(X, 1).astype("float64")[:, None])
    assert not evaluate(gc.grad(loss, X), {X: VALUES[X]}).any()


def test_integer_leaf():
    with pytest.raises(GradientError, match="grad: k has dtype int64"):
        gc.grad(gc.sum(X), K)


def test_an_op_without_a_gradient_is_an_error_where_it_matters():
    x = leaf("x", (3,), "float64", "input")
    sorted_ = gc.Tensor(opaque("sort", (x,), (3,), "float64"))
    with pytest.raises(GradientError, match="grad: sort has no gradient"):
        gc.grad(gc.sum(sorted_), gc.Tensor(x))
    assert not evaluate(gc.grad(gc.sum(Y) + gc.sum(gc.stop_gradient(sorted_) * 0), X), {}).any()


def test_stop_gradient():
    loss = gc.sum(gc.stop_gradient(gc.sin(Y)) * Y)
    value = VALUES[Y]
    np.testing.assert_allclose(evaluate(gc.grad(loss, Y), {Y: value}), np.sin(value))
    np.testing.assert_allclose(evaluate(gc.jvp(loss, Y, np.ones(4)), {Y: value}), np.sin(value).sum())


def test_custom_vjp():
    seen = []

    def rule(g, y, x, scale):
        seen.append((g.shape, y.shape))
        return [gc.clip(g, -1, 1) * y, None]

    op = gc.custom_vjp(lambda x, scale: x * scale, rule)
    scale = tensor("scale")
    loss = gc.sum(5 * op(Y, scale))
    at = {Y: VALUES[Y], scale: 3.0}
    to_y, to_scale = gc.grad(loss, [Y, scale])
    np.testing.assert_allclose(evaluate(loss, at), 15 * VALUES[Y].sum())
    np.testing.assert_allclose(evaluate(to_y, at), 3 * VALUES[Y])
    assert evaluate(to_scale, at) == 0 and seen == [((4,), (4,))]


def test_custom_vjp_is_differentiated_again():
    op = gc.custom_vjp(gc.exp, lambda g, y, x: [g * x * x])
    x = gc.input("x", (), "float64")
    assert evaluate(gc.grad(gc.grad(op(x), x), x), {x: 3.0}) == 6


def test_a_leaf_used_twice_and_a_repeated_leaf():
    y = gc.sum(Y * Y)
    first, second = gc.grad(y, [Y, Y])
    assert first.node is second.node
    np.testing.assert_allclose(evaluate(first, {Y: VALUES[Y]}), 2 * VALUES[Y])
    assert evaluate(gc.grad(y, y), {Y: VALUES[Y]}) == 1


def test_gradient_with_respect_to_an_intermediate_tensor():
    hidden = gc.tanh(X @ Y)
    loss = gc.sum(hidden**2)
    at = {X: VALUES[X], Y: VALUES[Y]}
    np.testing.assert_allclose(evaluate(gc.grad(loss, hidden), at), 2 * np.tanh(VALUES[X] @ VALUES[Y]))


def test_float32_stays_float32():
    x = gc.input("x", (3,))
    for node in Graph((gc.grad(gc.sum(gc.softmax(x) * gc.log(x + 2) ** 1.5), x).node,)).nodes:
        assert node.dtype in ("float32", "int64", "bool")


def test_mixed_dtypes():
    x, y = gc.input("x", (3,)), gc.input("y", (3,), "float64")
    to_x, to_y = gc.grad(gc.sum(x * y), [x, y])
    assert (to_x.dtype, to_y.dtype) == ("float32", "float64")
    got = evaluate(to_x, {x: np.ones(3, np.float32), y: np.arange(3.0)})
    assert got.tolist() == [0, 1, 2]


def test_the_reverse_of_a_sum_reads_the_output_map():
    """x̄[k,i] gets ȳ[i]: output map and input map change places, and the body is the partial."""
    x = tensor("x", 3, 4)
    upstream = tensor("upstream", 4)
    node = gc.vjp(gc.sum(x**2, axis=0), x, upstream).node
    assert isinstance(node, Generic) and node.shape == (3, 4)
    np.testing.assert_allclose(
        evaluate(gc.Tensor(node), {x: VALUES[X], upstream: VALUES[Y]}), 2 * VALUES[X] * VALUES[Y]
    )


@pytest.mark.parametrize("shape", [(0, 4), (3, 0)])
def test_empty_extents(shape):
    x = tensor("x", *shape)
    gradient = gc.grad(gc.sum(gc.softmax(x) ** 2) if shape[1] else gc.sum(x), x)
    assert evaluate(gradient, {x: np.zeros(shape)}).shape == shape

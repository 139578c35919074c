"""Every named op: interpreter and backends agree on values and on first and second derivatives, at sizes around the
vector width."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from tests.conformance.agreement import agree
from tests.features.rows import of_name

WIDTHS = (1, 7, 8, 9, 15, 16, 17, 31, 32, 33)


def normal(*shape):
    return lambda rng, dtype: rng.normal(size=shape).astype(dtype)


def positive(*shape):
    return lambda rng, dtype: rng.uniform(0.3, 3, size=shape).astype(dtype)


def unit(*shape):
    return lambda rng, dtype: rng.uniform(-0.9, 0.9, size=shape).astype(dtype)


def integers(low, high, *shape):
    return lambda rng, dtype: rng.integers(low, high, size=shape)


def bools(*shape):
    return lambda rng, dtype: rng.integers(0, 2, size=shape).astype(bool)


PLAIN = (
    "absolute arctan ceil cos cosh cumsum elu erf exp exp2 expm1 floor gelu hard_sigmoid hard_swish hard_tanh isnan "
    "leaky_relu log_softmax logical_not ndtr negative ravel relu rint sigmoid sign silu sin sinh softmax softplus "
    "square tan tanh flip stop_gradient zeros_like ones_like squeeze logsumexp"
)
UNARY = {name: (getattr(gc, name), [normal]) for name in PLAIN.split()}
UNARY |= {name: (getattr(gc, name), [positive]) for name in "log log1p log2 log10 rsqrt sqrt reciprocal prod".split()}
UNARY |= {name: (getattr(gc, name), [unit]) for name in "arcsin arccos".split()}
UNARY |= {name: (getattr(gc, name), [normal]) for name in "all any argmax argmin max mean min std sum var".split()}
UNARY |= {
    "gelu by tanh": (lambda x: gc.gelu(x, "tanh"), [normal]),
    "clip": (lambda x: gc.clip(x, -0.5, 0.8), [normal]),
    "full_like": (lambda x: x * gc.full_like(x, 2.5), [normal]),
    "astype": (lambda x: gc.astype(gc.astype(x * 3, "int32"), "float64"), [normal]),
}
BINARY = {
    name: (getattr(gc, name), [normal, normal])
    for name in (
        "add subtract multiply maximum minimum equal not_equal less less_equal greater greater_equal arctan2 prelu "
        "logical_and logical_or logical_xor outer"
    ).split()
}
BINARY |= {
    "divide": (gc.divide, [normal, positive]),
    "power": (gc.power, [positive, normal]),
    "floor_divide": (gc.floor_divide, [normal, positive]),
    "remainder": (gc.remainder, [normal, positive]),
}

SHAPED = {
    "where": (lambda c, x, y: gc.where(c, x, y), [bools(5, 7), normal(5, 7), normal(7)]),
    "matmul": (gc.matmul, [normal(2, 5, 7), normal(7, 9)]),
    "matmul of a vector": (gc.matmul, [normal(5, 17), normal(17)]),
    "dot": (gc.dot, [normal(17), normal(17)]),
    "tensordot": (gc.tensordot, [normal(3, 4, 5), normal(4, 5, 6)]),
    "einsum": (lambda x, y: gc.einsum("bij,bkj->bik", x, y), [normal(3, 4, 5), normal(3, 2, 5)]),
    "einsum diagonal": (lambda x: gc.einsum("ii->i", x), [normal(9, 9)]),
    "transpose": (lambda x: gc.transpose(x, (1, 2, 0)), [normal(3, 4, 5)]),
    "permute_dims": (gc.permute_dims, [normal(3, 17)]),
    "swapaxes": (lambda x: gc.swapaxes(x, 0, 2), [normal(3, 4, 5)]),
    "moveaxis": (lambda x: gc.moveaxis(x, 0, 2), [normal(3, 4, 5)]),
    "reshape": (lambda x: gc.reshape(x, (5, -1)), [normal(3, 4, 5)]),
    "flatten": (gc.flatten, [normal(3, 4, 5)]),
    "expand_dims": (lambda x: gc.expand_dims(x, (0, 2)), [normal(3, 4)]),
    "broadcast_to": (lambda x: gc.broadcast_to(x, (2, 3, 7)), [normal(3, 1)]),
    "concatenate": (lambda x, y: gc.concatenate([x, y, x], axis=1), [normal(3, 7), normal(3, 9)]),
    "stack": (lambda x, y: gc.stack([x, y], axis=1), [normal(3, 7), normal(3, 7)]),
    "split": (lambda x: gc.split(x, 3, axis=1)[1], [normal(4, 9)]),
    "pad": (lambda x: gc.pad(x, ((1, 2), (0, 3)), 1.5), [normal(4, 7)]),
    "repeat": (lambda x: gc.repeat(x, 3, axis=1), [normal(2, 5)]),
    "tile": (lambda x: gc.tile(x, (2, 3)), [normal(2, 5)]),
    "take": (lambda x, i: gc.take(x, i, axis=1), [normal(3, 7, 2), integers(0, 7, 5)]),
    "scan": (lambda x: gc.scan(lambda h, v: (gc.sin(h) * v, h + v), gc.zeros_like(x[0]), x)[1], [normal(3, 4)]),
    "scan backwards": (
        lambda x: gc.scan(lambda h, v: (gc.sin(h) * v + 1, None), gc.ones_like(x[0]), x, reverse=True)[0],
        [normal(3, 4)],
    ),
    "cumsum along rows": (lambda x: gc.cumsum(x, axis=1), [normal(3, 7, 2)]),
    "tril": (gc.tril, [normal(5, 7)]),
    "triu": (lambda x: gc.triu(x, 1), [normal(5, 7)]),
    "diagonal": (gc.diagonal, [normal(2, 7, 7)]),
    "one_hot": (lambda i, x: gc.one_hot(i, 7) * x, [integers(0, 7, 5), normal(5, 7)]),
    "maxout": (lambda x, y, z: gc.maxout([x, y, z]), [normal(5, 7)] * 3),
    "made on the spot": (
        lambda x: x @ gc.eye(7) + gc.arange(7) + gc.zeros((5, 7)) + gc.ones(7) + gc.full((5, 1), 2.0),
        [normal(5, 7)],
    ),
    "conv1d": (lambda x, w: gc.conv1d(x, w, stride=2, padding=1), [normal(2, 3, 17), normal(4, 3, 3)]),
    "conv2d": (lambda x, w: gc.conv2d(x, w, padding=1), [normal(2, 3, 9, 8), normal(4, 3, 3, 3)]),
    "conv2d with groups": (lambda x, w: gc.conv2d(x, w, groups=2), [normal(2, 4, 7, 7), normal(6, 2, 3, 2)]),
    "conv2d by depth": (lambda x, w: gc.conv2d(x, w, padding=1, groups=3), [normal(2, 3, 7, 9), normal(3, 1, 3, 3)]),
    "conv2d with bias": (
        lambda x, w, b: gc.conv2d(x, w, b, stride=2, dilation=2, padding=2),
        [normal(1, 2, 9, 9), normal(3, 2, 3, 3), normal(3)],
    ),
    "conv_transpose2d": (
        lambda x, w: gc.conv_transpose2d(x, w, stride=2, padding=1, output_padding=1),
        [normal(2, 3, 5, 4), normal(3, 4, 3, 3)],
    ),
    "conv_transpose1d": (
        lambda x, w, b: gc.conv_transpose1d(x, w, b, stride=3, padding=2, dilation=2, groups=2),
        [normal(2, 4, 7), normal(4, 3, 3), normal(6)],
    ),
    "max_pool1d": (lambda x: gc.max_pool1d(x, 3, stride=2, padding=1), [normal(2, 3, 17)]),
    "max_pool2d": (lambda x: gc.max_pool2d(x, 2), [normal(2, 3, 8, 9)]),
    "max_pool2d with a last window outside": (
        lambda x: gc.max_pool2d(x, 3, stride=2, dilation=(1, 2), ceil_mode=True), [normal(2, 3, 8, 9)],
    ),
    "avg_pool2d with a last window outside": (
        lambda x: gc.avg_pool2d(x, (3, 2), 2, 1, ceil_mode=True, count_include_pad=False), [normal(2, 3, 8, 8)],
    ),
    "avg_pool1d": (lambda x: gc.avg_pool1d(x, 2), [normal(2, 3, 17)]),
    "avg_pool2d": (lambda x: gc.avg_pool2d(x, 3, stride=2, padding=1), [normal(2, 3, 8, 9)]),
    "global_avg_pool": (gc.global_avg_pool, [normal(2, 3, 5, 4)]),
    "global_max_pool": (gc.global_max_pool, [normal(2, 3, 5, 4)]),
    "reductions over axes": (
        lambda x: gc.sum(x, (0, 2)) + gc.max(x, (0, 2)) * gc.mean(x, 1, keepdims=True)[0, 0, 0] + gc.prod(x, (0, 2)),
        [normal(3, 7, 4)],
    ),
    "argmax over axes": (lambda x: gc.argmax(x, axis=1) + gc.argmin(x, axis=1), [normal(3, 17, 4)]),
}
NOT_COMPUTED = {
    "from_sympy",
    "to_sympy",
    "constant",
    "input",
    "param",
    "state",
    "scope",
    "finite_difference",
    "complex_step",
}
DERIVATIVES = {"grad", "vjp", "jvp", "jacobian", "hessian", "hvp", "custom_vjp"}  # tests/features and tests/rules
BY_OTHER_NAME = {"abs", "eye", "arange", "zeros", "ones", "full"}


def check(build, makers, dtype, seed=0):
    rng = np.random.default_rng(seed)
    arrays = [make(rng, dtype) for make in makers]
    inputs = [gc.input(f"x{n}", array.shape, dtype=array.dtype) for n, array in enumerate(arrays)]
    values = dict(zip(inputs, arrays, strict=True))
    y = build(*inputs)
    outputs = [y]
    floats = [x for x in inputs if x.dtype == dtype]
    if y.dtype == dtype and floats:
        loss = gc.sum(gc.sin(y) * y)
        first = gc.grad(loss, floats)
        outputs += [loss, *first]
        if dtype == "float64":
            outputs.append(gc.grad(gc.sum(gc.square(first[0])), floats[0]))
    agree(outputs, values)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", [of_name(name) for name in sorted(UNARY)])
def test_unary(name, dtype):
    build, makers = UNARY[name]
    for width in WIDTHS if dtype == "float32" else (7, 17):
        check(build, [make(width) for make in makers], dtype, width)
    check(build, [make(3, 5) for make in makers], dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", [of_name(name) for name in sorted(BINARY)])
def test_binary(name, dtype):
    build, makers = BINARY[name]
    for width in (1, 8, 17, 33) if dtype == "float32" else (9,):
        check(build, [make(width) for make in makers], dtype, width)
    if name != "outer":
        check(build, [makers[0](3, 1, 7), makers[1](5, 1)], dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", [of_name(name) for name in sorted(SHAPED)])
def test_shaped(name, dtype):
    check(*SHAPED[name], dtype)


@pytest.mark.parametrize("op", ["floor_divide", "remainder", "power", "maximum", "add", "multiply", "less"])
@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_integers(op, dtype):
    x, y = gc.input("x", (33,), dtype=dtype), gc.input("y", (33,), dtype=dtype)
    rng = np.random.default_rng(0)
    low = 0 if op == "power" else -9
    values = {x: rng.integers(-9, 9, 33).astype(dtype), y: rng.integers(low, 9, 33).astype(dtype)}
    agree(
        [getattr(gc, op)(x, y), gc.abs(x) if hasattr(gc, "abs") else gc.absolute(x), gc.sign(y), x.max(), y.sum()],
        values,
    )


def test_special_values_pass_through():
    x = gc.input("x", (8,))
    specials = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-42, 3e38, -1.0], dtype="float32")
    ops = [gc.relu, gc.exp, gc.log, gc.tanh, gc.sqrt, gc.absolute, gc.sign, gc.sigmoid, lambda t: gc.maximum(t, 0.5)]
    agree([op(x) for op in ops] + [gc.max(x), gc.argmax(x), gc.sum(x)], {x: specials})


def test_empty_extents_follow_numpy():
    x = gc.input("x", (0, 3))
    function = gc.compile([x], [gc.sum(x), gc.mean(x, axis=1), gc.prod(x, axis=0), x @ gc.ones((3, 2)), gc.exp(x)])
    total, mean, product, matrix, same = function(np.zeros((0, 3), dtype="float32"))
    assert (
        total == 0 and mean.shape == (0,) and (product == 1).all() and matrix.shape == (0, 2) and same.shape == (0, 3)
    )


def test_every_public_op_is_here():
    """A new op enters the table above, or says why not."""
    named = {name for name in gc.__all__ if getattr(getattr(gc, name), "__wrapped__", None) is not None}
    tested = {name.split()[0] for name in (*UNARY, *BINARY, *SHAPED)} | BY_OTHER_NAME
    assert named - tested - NOT_COMPUTED - DERIVATIVES == set()

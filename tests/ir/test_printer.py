"""Graphs as text: goldens, names, and how scalars are bracketed."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc.ir import scalar as sc
from graphc.ir.affine import AffineMap, axis_row
from graphc.ir.graph import Graph
from graphc.ir.printer import format_scalar, node_names


def text(*tensors):
    return str(Graph(tuple(tensor.node for tensor in tensors))) + "\n"


def test_golden_dense(golden):
    x = gc.input("x", ("N", 4))
    W, b = gc.param("W", (4, 3), init=0), gc.param("b", (3,), init=0)
    hidden = gc.relu(x @ W + b)
    loss = gc.mean(gc.softmax(hidden) ** 2)
    dW, db = gc.grad(loss, [W, b])
    golden("ir/dense.txt", text(hidden, loss, dW, db))


def test_golden_convolution(golden):
    x, w = gc.input("x", (2, 3, 8, 8)), gc.input("w", (4, 3, 3, 3))
    y = gc.conv2d(x, w, stride=2, padding=1)
    pooled = gc.max_pool2d(y, 2)
    golden("ir/convolution.txt", text(pooled, *gc.grad(gc.sum(pooled), [x, w])))


def test_golden_array_functions(golden):
    x, k = gc.input("x", (3, 4)), gc.input("k", (2,), dtype="int64")
    outputs = [
        x[::-1, 1:3],
        gc.concatenate([x, x * 2], axis=1),
        gc.pad(x, 1),
        gc.take(x, k, axis=1),
        gc.cumsum(x, axis=0),
        gc.one_hot(k, 3),
        gc.argmax(x, axis=1),
        gc.where(x > 0, x, -x),
        x.reshape(2, 6).astype("int64"),
        gc.constant([1.0, 2.5]) + gc.eye(2),
        gc.constant(np.arange(8.0)),
        gc.prod(x),
        gc.zeros(("M",)) + gc.arange("M"),
    ]
    golden("ir/arrays.txt", text(*outputs))


def test_printing_twice_gives_the_same_text():
    x = gc.input("x", (3,))
    assert text(gc.sin(x) + gc.cos(x)) == text(gc.cos(x) + gc.sin(x))


def test_names_are_the_users_and_unique():
    x, other = gc.input("x", (3,)), gc.input("x", (3,))
    total = x + other
    named = (total * 2).named("twice")
    graph = Graph((gc.exp(named).node,))
    assert list(node_names(graph).values())[:3] == ["x", "x_2", "total"]
    assert "twice" in node_names(graph).values()


X, Y, Z = (sc.Arg(j, "float32") for j in range(3))
P, Q = sc.Arg(3, "bool"), sc.Arg(4, "bool")


def number(value, dtype="float32"):
    return sc.literal(value, dtype)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (sc.apply("mul", sc.apply("add", X, Y), Z), "z * (x + y)"),
        (sc.apply("sub", X, sc.apply("sub", Y, Z)), "x - (y - z)"),
        (sc.apply("sub", sc.apply("sub", X, Y), Z), "x - y - z"),
        (sc.apply("div", X, sc.apply("mul", Y, Z)), "x / (y * z)"),
        (sc.apply("pow", sc.apply("pow", X, Y), Z), "(x ** y) ** z"),
        (sc.apply("pow", X, sc.apply("neg", Y)), "x ** neg(y)"),
        (sc.apply("select", sc.apply("lt", X, Y), X, number(0)), "select(x < y, x, 0.0)"),
        (sc.apply("and", P, sc.apply("or", P, Q)), "p & (p | q)"),
        (sc.apply("add", X, number(0.1)), "x + 0.1"),
        (sc.apply("mul", X, number(-2)), "x * (-2.0)"),
        (sc.cast(sc.Index(1), "float32"), "float32(j)"),
        (sc.InBounds(AffineMap(2, (axis_row(1),)), (4,)), "inside(j; (4,))"),
    ],
)
def test_scalars(body, expected):
    assert format_scalar(body, ["x", "y", "z", "p", "q"]) == expected


def test_a_long_term_used_twice_is_named():
    shared = sc.apply("exp", sc.apply("mul", X, Y))
    body = sc.apply("div", shared, sc.apply("add", shared, number(1)))
    assert format_scalar(body, ["x", "y"]) == "t0 / (t0 + 1.0) with t0 = exp(x * y)"


def test_a_float32_prints_in_few_digits_that_identify_it():
    value = number(0.1)
    assert format_scalar(value, []) == "0.1" and np.float32("0.1") == value.value

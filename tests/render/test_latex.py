"""Equations in LaTeX: names, indices, numbering, balance."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import graphc as gc
from graphc.ir.graph import Graph
from graphc.render import graph_of, latex_of_graph
from graphc.render.latex_scalar import escape, name_parts
from graphc.render.text import text_of_graph


def layer() -> tuple[gc.Tensor, list[gc.Variable]]:
    x = gc.input("x", ("N", 4))
    W1 = gc.param("W1", (4, 3), init=0.1)
    b1 = gc.param("b1", (3,))
    h = gc.tanh(x @ W1 + b1)
    return gc.sum(h * h).named("loss"), [W1, b1]


def with_gradients(loss: gc.Tensor, wrt: list[gc.Variable]) -> Graph:
    return Graph((loss.node, *(gradient.node for gradient in gc.grad(loss, wrt))), (loss.name or "",))


def test_layer(golden: Callable[[str, str], None]) -> None:
    graph = with_gradients(*layer())
    text = latex_of_graph(graph)
    assert r"\sum_{k=0}^{3} x_{ik} \, W^{(1)}_{kj}" in text
    assert r"\overline{W^{(1)}}_{ij} &= \sum_{k=0}^{N - 1}" in text
    golden("render/layer.tex", text + "\n")
    golden("render/layer.txt", text_of_graph(graph) + "\n")


@pytest.mark.feature("A5")
def test_there_is_one_numbered_equation_for_each_node() -> None:
    loss, _ = layer()
    graph = graph_of(loss)
    rows = latex_of_graph(graph).splitlines()[1:-1]
    assert [row.split("}")[0] for row in rows] == [rf"\text{{({n})" for n in range(1, len(graph.nodes) + 1)]
    assert all(row.endswith(r" \\") for row in rows[:-1]) and not rows[-1].endswith("\\")


def test_equations_of_a_training_step_name_its_gradients() -> None:
    loss, parameters = layer()
    x = next(leaf for leaf in graph_of(loss).inputs if leaf.kind == "input")
    step = gc.compile([gc.Tensor(x)], [loss], updates=gc.optim.SGD(lr=0.1).updates(loss, parameters))
    text = step.source("latex", N=2)
    assert r"\overline{W^{(1)}}" in text and r"\overline{b^{(1)}}" in text


def test_every_body_is_balanced() -> None:
    x, y = gc.input("x", (5,)), gc.input("y", (5,))
    t = gc.input("t", (5,), dtype="int64")
    values = [
        gc.where(x < y, x / y, -x),
        gc.maximum(gc.floor(x), abs(y)) ** 3,
        gc.sqrt(x) + gc.rsqrt(y) * gc.softplus(-x),
        gc.erf(x) - (x - y) - 1e-8,
        (t // 2 + t % 3).astype("float32"),
        gc.pad(x, 1),
        gc.max(x),
        gc.argmax(x),
        gc.prod(x),
        gc.cumsum(x, axis=0),
        gc.take(x, t, axis=0),
        gc.concatenate([x, y]),
        gc.logical_not(x > 0).astype("int64"),
        gc.constant(np.arange(6.0)),
        gc.constant(np.inf) * x,
    ]
    for value in values:
        text = latex_of_graph(graph_of([value]))
        assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
        assert text.count(r"\left") == text.count(r"\right")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("x", ("x", "")),
        ("W1", ("W", "1")),
        ("w_12", ("w", "12")),
        ("alpha", (r"\alpha", "")),
        ("sigma2", (r"\sigma", "2")),
        ("loss", (r"\mathrm{loss}", "")),
        ("a_b", ("a", "b")),
        ("0.weight", (r"\mathrm{0.weight}", "")),
        ("exp_avg/x", (r"\mathrm{exp\_avg/x}", "")),
    ],
)
def test_names(name: str, expected: tuple[str, str]) -> None:
    assert name_parts(name) == expected


@pytest.mark.parametrize("name", ["\\input{x}", "a}b{", "$", "#1", "100%", "a&b", "x^y", "~", "\n", "日本"])
def test_hostile_names_are_escaped(name: str) -> None:
    text = escape(name)
    for letter in "$#%&_":
        assert text.count(letter) == text.count("\\" + letter)
    assert "\\input" not in text.replace("\\backslash input", "") and "\n" not in text and "~" not in text
    shown = latex_of_graph(graph_of(gc.exp(gc.input(name))))
    assert len(shown.splitlines()) == 4


def test_two_values_never_have_one_name() -> None:
    x = gc.input("x")
    for _ in range(3):
        x = gc.sin(x).named("h")
    heads = [row.split("&&")[1].split("&")[0].strip() for row in latex_of_graph(graph_of(x)).splitlines()[1:-1]]
    assert len(set(heads)) == len(heads)


def test_display_hooks() -> None:
    x = gc.input("x")
    latex = gc.sin(x)._repr_latex_()
    assert latex is not None and latex.startswith("$$") and r"\sin\left(x\right)" in latex

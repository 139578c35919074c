"""LaTeX: names, brackets, escaping, balance; an equation's parts stand in tests/render/test_equations.py."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc.ir.graph import Graph
from graphc.render import graph_of, latex_of_graph
from graphc.render.equations.latex_scalar import brackets, escape, name_parts
from tests.render.equation_models import HOSTILE_NAMES


def rows_of(tensor: gc.Tensor) -> list[str]:
    return latex_of_graph(graph_of(tensor)).splitlines()[1:-1]


def test_index_notation_has_an_equation_for_each_node() -> None:
    x, W1, b1 = gc.input("x", ("N", 4)), gc.param("W1", (4, 3), init=0.1), gc.param("b1", (3,))
    h = gc.tanh(x @ W1 + b1)
    loss = gc.sum(h * h).named("loss")
    graph = Graph((loss.node, *(gradient.node for gradient in gc.grad(loss, [W1, b1]))), ("loss",))
    text = latex_of_graph(graph, index=True)
    assert r"V^{(1)}_{ij} &= \sum_{k=0}^{3} x_{ik} \, W^{(1)}_{kj}" in text
    assert r"\frac{\partial \mathrm{loss}}{\partial W^{(1)}_{ij}} &= \sum_{k=0}^{N - 1} x_{ki} \, " in text
    numbers = [row for row in text.splitlines() if row.startswith(r"\text{(")]
    assert len(numbers) >= len(graph.nodes) - 3  # without the three leaves


def test_rows_end_where_they_should() -> None:
    x = gc.input("x")
    h = gc.sin(x).named("h")
    rows = rows_of(gc.cos(h).named("y"))
    assert all(row.endswith(r" \\") for row in rows[:-1]) and not rows[-1].endswith("\\")


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
        for index in (False, True):
            text = latex_of_graph(graph_of([value]), index=index)
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


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_hostile_names_are_escaped(name: str) -> None:
    text = escape(name)
    for letter in "$#%&_":
        assert text.count(letter) == text.count("\\" + letter)
    assert "\\input" not in text.replace("\\backslash input", "") and "\n" not in text and "~" not in text
    assert text.isascii() or name == "\u00e9t\u00e9", "pdflatex has no other letters"
    assert len(rows_of(gc.exp(gc.input(name)).named("y"))) == 4


def test_greek_letters_are_commands() -> None:
    assert escape("\u03b1") == r"\alpha " and escape("\u0394") == r"\Delta "


@pytest.mark.parametrize(("text", "expected"), [("x", "(x)"), (r"\frac{1}{x}", r"\left(\frac{1}{x}\right)")])
def test_brackets_grow_only_around_what_is_tall(text: str, expected: str) -> None:
    assert brackets(text) == expected


def test_two_values_never_have_one_name() -> None:
    x = gc.input("x")
    for _ in range(3):
        x = gc.sin(x).named("h")
    heads = [row.split("&&")[1].split("&")[0].strip() for row in rows_of(x) if "&&" in row and "textbf" not in row]
    assert heads == ["x", "h", "h^{(2)}", "h^{(3)}"]


def test_display_hooks() -> None:
    x = gc.input("x")
    latex = gc.sin(x)._repr_latex_()
    assert latex is not None and latex.startswith("$$\n\\begin{aligned}") and r"\sin(x)" in latex

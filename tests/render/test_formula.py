"""Terms: what their factories tidy, and how a reader's form of a condition is written."""

from __future__ import annotations

import pytest

from graphc.ir.node import leaf
from graphc.render.equations import formula as fm
from graphc.render.equations.formula import Term
from graphc.render.equations.latex_terms import LatexTerms
from graphc.render.equations.text_terms import TextTerms

X, Y = (fm.value(leaf(name, (), "float32", "input")) for name in "xy")
A, B = (fm.value(leaf(name, (2, 3), "float32", "input")) for name in "AB")
C = fm.value(leaf("C", (2, 3, 4), "float32", "input"))
G = fm.delta(leaf("g", (), "float32", "input"))
ONE, TWO, ZERO = fm.number(1), fm.number(2), fm.number(0)


def text(term: Term) -> str:
    return TextTerms(lambda node: node.name, lambda node: node.name)(term)  # type: ignore[union-attr]  # leaves here have names


def times(*factors: Term) -> Term:
    return fm.elementwise("mul", factors)


def over(above: Term, below: Term) -> Term:
    return fm.elementwise("div", (above, below))


def plus(*parts: Term) -> Term:
    return fm.elementwise("add", parts)


@pytest.mark.parametrize(
    ("term", "expected"),
    [
        (times(X, ONE), "x"),
        (times(X, ZERO), "0"),
        (times(ZERO, G), "0"),
        (times(G, TWO, X), "2 * x * g"),
        (times(G, fm.negative(X)), "-x * g"),
        (times(X, X, X), "x^3"),
        (times(TWO, over(ONE, Y)), "2 / y"),
        (times(X, over(Y, plus(X, ONE))), "x * y / (x + 1)"),
        (over(fm.number(3), TWO), "1.5"),
        (over(times(G, X), Y), "x / y * g"),
        (over(over(X, Y), TWO), "x / (2 * y)"),
        (over(ZERO, X), "0"),
        (plus(X, ZERO), "x"),
        (plus(X, X), "2 * x"),
        (plus(fm.negative(X), Y), "y - x"),
        (plus(X, fm.negative(plus(X, Y))), "x - (x + y)"),
        (fm.elementwise("pow", (plus(X, Y), TWO)), "(x + y)^2"),
        (times(fm.spread(X, (2, 3)), A), "x * A"),
        (fm.reduce("sum", (0,), fm.negative(A), (3,)), "-sum(A, axis=0)"),
        (fm.transpose(fm.transpose(A)), "A"),
        (fm.permute(fm.permute(C, (1, 2, 0)), (2, 0, 1)), "C"),
        (fm.permute(fm.permute(C, (1, 2, 0)), (1, 2, 0)), "transpose(C, (2, 0, 1))"),
        (fm.permute(C, (0, 2, 1)), "C^T"),
    ],
)
def test_tidied(term: Term, expected: str) -> None:
    assert text(term) == expected


def condition(op: str) -> Term:
    return fm.elementwise("compare", (A, ZERO), op)


@pytest.mark.parametrize(
    ("term", "expected", "latex"),
    [
        ((condition("le"), ZERO, B), "B * relu'(A)", r"B \odot \operatorname{relu}'(A)"),
        ((condition("lt"), ZERO, B), "[A >= 0] * B", r"[A \ge 0] \odot B"),
        ((condition("lt"), B, ZERO), "[A < 0] * B", r"[A < 0] \odot B"),
    ],
)
def test_a_value_under_a_condition_is_a_product(term: tuple[Term, ...], expected: str, latex: str) -> None:
    chosen = fm.elementwise("select", term)
    written = LatexTerms(lambda node: node.name, lambda node: node.name)(chosen)  # type: ignore[union-attr]  # as above
    factors = {*text(chosen).split(" * ")}
    assert factors == {*expected.split(" * ")} and {*written.split(r" \odot ")} == {*latex.split(r" \odot ")}


def test_arrays_are_multiplied_element_by_element_and_matrices_are_not() -> None:
    latex = LatexTerms(lambda node: node.name, lambda node: node.name)  # type: ignore[union-attr]  # as above
    assert latex(times(A, B)) == r"A \odot B"
    assert latex(fm.matmul(fm.transpose(A), times(A, B), (3, 3))) == r"A^{\top} \, (A \odot B)"
    assert latex(times(A, fm.matmul(A, B, (2, 3)))) == r"A \odot (A \, B)"
    assert latex(times(X, Y)) == r"x \, y"

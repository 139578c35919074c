"""Symbolic extents against Python's integers."""

from __future__ import annotations

import operator

import hypothesis.strategies as st
import pytest
from hypothesis import assume, given

from graphc.ir.extent import (
    Polynomial,
    as_extent,
    dimension,
    dimension_names,
    evaluate,
    format_shape,
    ints,
    parse_extent,
    product,
)

SIZES = {"N": 7, "M": 3, "K": 0}
N, M = dimension("N"), dimension("M")
OPERATORS = {"+": operator.add, "-": operator.sub, "*": operator.mul}


def texts() -> st.SearchStrategy[str]:
    """Extents as text that both Python and graphc read."""
    leaves = st.one_of(st.sampled_from(sorted(SIZES)), st.integers(0, 9).map(str))

    def grow(inner):
        binary = st.builds(lambda op, a, b: f"({a} {op} {b})", st.sampled_from(sorted(OPERATORS)), inner, inner)
        quotient = st.builds(lambda a, d: f"({a} // {d})", inner, st.integers(1, 5))
        return st.one_of(binary, quotient, st.builds(lambda a: f"(-{a})", inner))

    return st.recursive(leaves, grow, max_leaves=8)


@given(texts(), st.dictionaries(st.sampled_from(sorted(SIZES)), st.integers(0, 50), min_size=3))
def test_arithmetic_agrees_with_python(text, sizes):
    assert evaluate(parse_extent(text), sizes) == eval(text, {}, dict(sizes))


@given(texts())
def test_what_is_printed_reads_back_as_the_same_object(text):
    extent = parse_extent(text)
    if isinstance(extent, Polynomial):
        assume("**" not in str(extent))  # powers print as Python writes them, and are not read
        assert parse_extent(str(extent)) is extent


@given(texts(), texts())
def test_equal_polynomials_are_one_object(left, right):
    a, b = parse_extent(left), parse_extent(right)
    assert (a + b) is (b + a) or (a + b) == (b + a)
    assert (a * b) is (b * a) or (a * b) == (b * a)
    assert (a + b) - b == a


@given(texts(), st.integers(0, 9))
def test_partial_evaluation(text, size):
    part = evaluate(parse_extent(text), {"N": size})
    assert "N" not in dimension_names(part)
    assert evaluate(part, SIZES) == eval(text, {}, SIZES | {"N": size})


def test_ints_and_extents_mix_on_either_side():
    assert str(3 + N) == str(N + 3) == "N + 3"
    assert str(3 - N) == "-N + 3" and 2 * N is N * 2 and N - N == 0 and N * 0 == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [("(2*N + 4)//2", "N + 2"), ("(N + 5)//3", "((N + 2)//3) + 1"), ("(4*N + 3)//2", "2*N + 1"), ("N//N", "1")],
)
def test_floor_division(text, expected):
    assert str(parse_extent(text)) == expected


def test_quotients_that_do_not_come_out_even_are_equal_to_themselves_alone():
    assert (N + 1) // 2 is (N + 1) // 2
    assert (N + 1) // 2 != N // 2
    assert (N + 3) // 2 is (N + 1) // 2 + 1


@pytest.mark.parametrize("text", ["N M", "N +", "N / 2", "N ** 2", "f(N)", "1.5", "N // M", "N // 0", "N // -2", "'N'"])
def test_what_is_no_extent(text):
    with pytest.raises(ValueError):
        parse_extent(text)


@pytest.mark.parametrize("value", [-1, 1.0, True, None, [3]])
def test_what_is_no_size(value):
    with pytest.raises(ValueError):
        as_extent(value)


def test_names_shapes_and_products():
    assert dimension_names((N * M + 1) // 2) == {"N", "M"}
    assert product((N, 2, M)) is 2 * N * M and product(()) == 1
    assert format_shape(()) == "()" and format_shape((3,)) == "(3,)" and format_shape((N, 784)) == "(N, 784)"
    assert ints((2, 3)) == (2, 3)
    with pytest.raises(ValueError, match="N"):
        ints((2, N))
    with pytest.raises(ValueError):
        dimension("not a name")


def test_the_digest_does_not_depend_on_the_process():
    assert (2 * N + 1).digest == 3004467674

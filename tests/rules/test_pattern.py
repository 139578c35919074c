"""Patterns: what they match, and what they build."""

from __future__ import annotations

import pytest

from graphc.ir import scalar as sc
from graphc.rules.pattern import Call, Number, Rule, Variable, build, by_root, matches, parse

X, Y, Z = (sc.Arg(j, "float32") for j in range(3))
ONE, TWO = sc.literal(1, "float32"), sc.literal(2, "float32")


def one(text, node):
    return next(iter(matches(parse(text), node)), None)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("x", Variable("x")),
        ("-1", Number(-1)),
        ("0.5", Number(0.5)),
        ("-x", Call("neg", (Variable("x"),))),
        ("~p", Call("not", (Variable("p"),))),
        ("x ** 2", Call("pow", (Variable("x"), Number(2)))),
        ("x < y", Call("lt", (Variable("x"), Variable("y")))),
        ("x != y", Call("ne", (Variable("x"), Variable("y")))),
        ("p & q", Call("and", (Variable("p"), Variable("q")))),
        ("select(p, x, 0)", Call("select", (Variable("p"), Variable("x"), Number(0)))),
    ],
)
def test_parse(text, expected):
    assert parse(text) == expected


@pytest.mark.parametrize("text", ["x[0]", "x if y else z", "'text'", "x.y"])
def test_what_is_no_pattern(text):
    with pytest.raises(ValueError, match="not a pattern"):
        parse(text)


def test_a_name_matches_anything_and_the_same_thing_again():
    body = sc.apply("add", sc.apply("exp", X), Y)
    assert one("x", body) == {"x": body}
    assert one("x * x", sc.apply("mul", Y, Y)) == {"x": Y}
    assert one("x * x", sc.apply("mul", X, Y)) is None


@pytest.mark.parametrize("node", [sc.apply("add", X, ONE), sc.apply("add", ONE, X)])
@pytest.mark.parametrize("text", ["x + 1", "1 + x"])
def test_commutative_ops_match_in_either_order(text, node):
    assert one(text, node) == {"x": X}


def test_both_orders_are_tried():
    body = sc.apply("mul", X, sc.apply("neg", Y))
    found = list(matches(parse("a * b"), body))
    assert {(m["a"], m["b"]) for m in found} == {(X, body.args[1]), (body.args[1], X)}
    assert one("(-a) * b", body) == {"a": Y, "b": X}


def test_an_order_that_fails_inside_is_left_for_the_other():
    body = sc.apply("add", sc.apply("mul", X, Y), sc.apply("mul", Y, Z))
    found = one("x*y + x*z", body)
    assert found is not None and found["x"] is Y


def test_ordered_ops_match_in_one_order():
    assert one("1 - x", sc.apply("sub", ONE, X)) == {"x": X}
    assert one("1 - x", sc.apply("sub", X, ONE)) is None


def test_c_matches_numbers_alone():
    assert one("c * x", sc.apply("mul", X, TWO)) == {"c": TWO, "x": X}
    assert one("c * x", sc.apply("mul", X, Y)) is None


def test_numbers_match_as_they_are_rounded():
    tenth = sc.literal(0.1, "float32")
    assert one("x * 0.1", sc.apply("mul", X, tenth)) == {"x": X}
    assert one("x * 1", sc.apply("mul", X, TWO)) is None
    assert one("x + 1", sc.apply("add", sc.Arg(0, "int64"), sc.literal(1, "int64"))) is not None
    assert one("1", sc.TRUE) is None


def test_built_numbers_take_the_dtype_of_what_they_meet():
    x = sc.Arg(0, "float64")
    assert build(parse("x + 1"), {"x": x}, "float32") is sc.apply("add", x, sc.literal(1, "float64"))
    assert build(parse("0.5"), {}, "float32") is sc.literal(0.5, "float32")
    p = sc.Arg(1, "bool")
    assert build(parse("select(p, x, 0)"), {"p": p, "x": x}, "float32").dtype == "float64"
    assert build(parse("select(x < 0, 1, 0)"), {"x": x}, "float32").dtype == "float32"


def test_rule_with_a_condition():
    rule = Rule("halve", "x * 2", "x + x", "why", lambda bound: bound["x"] is X)
    assert rule.apply(sc.apply("mul", X, TWO)) is sc.apply("add", X, X)
    assert rule.apply(sc.apply("mul", Y, TWO)) is None
    assert rule.apply(sc.apply("add", X, TWO)) is None


def test_rules_by_root():
    rules = (Rule("a", "x + 0", "x", "w"), Rule("b", "x * 1", "x", "w"), Rule("c", "0 + -x", "-x", "w"))
    assert {root: [r.name for r in rows] for root, rows in by_root(rules).items()} == {"add": ["a", "c"], "mul": ["b"]}

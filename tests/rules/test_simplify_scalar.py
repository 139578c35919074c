"""Algebra on scalar bodies: every row keeps the value; the sweep is idempotent."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from graphc.ir import scalar as sc
from graphc.rules.pattern import Call, Pattern, Rule, Variable, build, matches, parse
from graphc.rules.simplify_scalar import RULES, simplify_scalar
from tests.rules.scalars import evaluate

SPECIAL = [0.0, 1.0, -1.0, np.inf, -np.inf, np.nan]


def variables(pattern: Pattern, kind: str = "number") -> dict[str, str]:
    """The variables of a pattern with the kind of value that each takes."""
    match pattern:
        case Variable(name):
            return {name: kind}
        case Call(op, args):
            kinds = [kind] * len(args)
            if op in ("not", "and", "or"):
                kinds = ["bool"] * len(args)
            elif op == "select":
                kinds[0] = "bool"
            found: dict[str, str] = {}
            for arg, one in zip(args, kinds, strict=True):
                found |= variables(arg, one)
            return found
    return {}


def ops(pattern: Pattern) -> set[str]:
    return {pattern.op}.union(*(ops(arg) for arg in pattern.args)) if isinstance(pattern, Call) else set()


def accepts(rule: Rule, dtype: str) -> bool:
    used = ops(parse(rule.before)) | ops(parse(rule.after))
    return dtype.startswith("float") or not any(sc.OPS[op].accepts == "float" for op in used)


DTYPES = ["float32", "float64", "int32", "int64"]
ROWS = [pytest.param(r, d, id=f"{r.name}-{d}") for r in RULES for d in DTYPES if accepts(r, d)]


@pytest.mark.parametrize(("rule", "dtype"), ROWS)
def test_row_keeps_the_value(rule, dtype):
    random = np.random.default_rng(7)
    kinds = variables(parse(rule.before))
    for literal in (3, -2, 5):
        bound: dict[str, sc.Scalar] = {}
        values: list[np.ndarray] = []
        for name, kind in kinds.items():
            if name.startswith("c"):
                bound[name] = sc.literal(literal + len(bound), dtype)
                continue
            if kind == "bool":
                values.append(random.random(40) < 0.5)
            elif dtype.startswith("float"):
                values.append(np.concatenate([random.normal(size=34) * 3, random.permutation(SPECIAL)]).astype(dtype))
            else:
                values.append(random.integers(-9, 9, size=40).astype(dtype))
            bound[name] = sc.Arg(len(values) - 1, values[-1].dtype.name)
        if rule.condition is not None and not rule.condition(bound):
            assert not dtype.startswith("float")  # a row may be for floats alone
            return
        before = build(parse(rule.before), bound, dtype)
        after = rule.apply(before)
        assert after is not None, f"the row does not match its own left side {before}"
        assert after is not before
        assert after.dtype == before.dtype
        np.testing.assert_allclose(
            np.broadcast_to(evaluate(after, *values), 40),
            np.broadcast_to(evaluate(before, *values), 40),
            rtol=8 * np.finfo(dtype).eps if dtype.startswith("float") else 0,
        )


def test_rows_have_names_and_reasons():
    assert len({rule.name for rule in RULES}) == len(RULES)
    assert all(rule.why and list(matches(parse(rule.before), build_any(rule))) for rule in RULES)


def build_any(rule: Rule) -> sc.Scalar:
    kinds = variables(parse(rule.before))
    bound = {
        name: sc.literal(3, "float64") if name.startswith("c") else sc.Arg(j, "bool" if kind == "bool" else "float64")
        for j, (name, kind) in enumerate(kinds.items())
    }
    return build(parse(rule.before), bound, "float64")


# Values and divisors are powers of two, so that sums, products and quotients are exact and must stay so.
NUMBERS = [-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 4.0]
X, Y = sc.Arg(0, "float64"), sc.Arg(1, "float64")


def literals(values):
    return st.sampled_from(values).map(lambda value: sc.literal(value, "float64"))


def bodies() -> st.SearchStrategy[sc.Scalar]:
    leaves = st.one_of(st.sampled_from([X, Y]), literals(NUMBERS))
    divisors = st.one_of(st.sampled_from([X, Y]), literals([-2.0, 1.0, -1.0, 0.5]))
    conditions = st.builds(lambda a, b: sc.apply("lt", a, b), st.sampled_from([X, Y]), literals(NUMBERS))
    conditions = st.one_of(conditions, conditions.map(lambda c: sc.apply("not", c)))

    def grow(inner):
        binary = st.sampled_from(["add", "sub", "mul", "maximum", "minimum"])
        return st.one_of(
            st.builds(lambda op, a, b: sc.apply(op, a, b), binary, inner, inner),
            st.builds(lambda op, a: sc.apply(op, a), st.sampled_from(["neg", "abs"]), inner),
            st.builds(lambda a, b: sc.apply("div", a, b), inner, divisors),
            st.builds(lambda b: sc.apply("div", sc.literal(1, "float64"), b), divisors),
            st.builds(lambda a, e: sc.apply("pow", a, e), st.sampled_from([X, Y]), literals([0, 1, 2, 3, -1, -2])),
            st.builds(lambda c, a, b: sc.apply("select", c, a, b), conditions, inner, inner),
        )

    return st.recursive(leaves, grow, max_leaves=12)


@given(bodies())
def test_simplified_body_keeps_its_value_and_stays(body):
    points = np.array([-2.0, -1.0, -0.5, 0.5, 1.0, 2.0, 4.0])
    x, y = (grid.reshape(-1) for grid in np.meshgrid(points, points))
    simple = simplify_scalar(body)
    np.testing.assert_array_equal(
        np.broadcast_to(evaluate(simple, x, y), x.shape), np.broadcast_to(evaluate(body, x, y), x.shape)
    )
    assert simplify_scalar(simple) is simple


@pytest.mark.parametrize(
    "source, inner, target, is_removed",
    [
        ("float32", "float64", "float32", True),
        ("int32", "int64", "int32", True),
        ("bool", "int64", "float32", True),
        ("float64", "float32", "float64", False),
        ("float32", "int32", "float32", False),
        ("int64", "float32", "int64", False),
    ],
)
def test_cast_of_a_cast(source, inner, target, is_removed):
    x = sc.Arg(0, source)
    body = sc.cast(sc.cast(x, inner), target)
    assert simplify_scalar(body) is (sc.cast(x, target) if is_removed else body)


def test_nan_is_not_assumed_absent():
    zero = sc.literal(0, "float64")
    body = sc.apply("mul", X, zero)
    assert simplify_scalar(body) is body
    body = sc.apply("sub", X, X)
    assert simplify_scalar(body) is body


def test_and_with_a_constant():
    p = sc.Arg(0, "bool")
    assert simplify_scalar(sc.apply("and", p, sc.TRUE)) is p
    assert simplify_scalar(sc.apply("and", p, sc.FALSE)) is sc.FALSE

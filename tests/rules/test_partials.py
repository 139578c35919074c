"""The table of partial derivatives: generated as checked in, and right at every row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from graphc.ir import scalar as sc
from graphc.ir.dtypes import is_float
from graphc.rules import partials
from graphc.rules.derivative import partial
from graphc.rules.generate_partials import BEGIN, END, block
from graphc.rules.partials import CONVENTIONS, PARTIALS, TABLE
from graphc.rules.pattern import build, parse
from tests.rules.scalars import central_difference, evaluate

# Points away from kinks and jumps, inside every op's domain: x and y are never equal, x/y is never whole.
X = np.array([0.3, 0.7, 1.2, 1.9])
Y = np.array([0.8, 1.5, 0.5, 2.3])
ROWS = [(op, position) for op, forms in TABLE.items() for position in range(len(forms))]


def slope_of(op: str, position: int, *values: float) -> float:
    node = sc.apply(op, *(sc.Arg(j, "float64") for j in range(sc.OPS[op].arity)))
    slope = partial(node, position)
    if slope is None:
        return 0.0
    return float(evaluate(slope, *(np.array([v]) for v in values[: sc.OPS[op].arity]))[0])


def test_the_generated_block_is_the_one_checked_in():
    text = Path(partials.__file__).read_text(encoding="utf-8")
    assert text.split(f"{BEGIN}\n")[1].split(END)[0] == block(), "run python -m graphc.rules.generate_partials --write"


def test_every_op_of_floats_has_a_row():
    without = {"eq", "ne", "lt", "le", "isnan", "select", "cast", "and", "or", "xor", "shl", "shr", "not"}
    assert set(sc.OPS) - without == set(TABLE)
    assert not set(PARTIALS) & set(CONVENTIONS)


@pytest.mark.parametrize("op, position", ROWS)
@pytest.mark.parametrize("sign", [1, -1])
def test_row_agrees_with_central_differences(op, position, sign):
    x = X if sign > 0 or op in ("log", "log1p", "sqrt", "rsqrt", "pow") else -X
    values = [x, Y][: sc.OPS[op].arity]
    args = [sc.Arg(j, "float64") for j in range(len(values))]
    body = sc.apply(op, *args)
    bound = {**dict(zip(("x", "y"), args, strict=False)), "out": body}
    row = evaluate(build(parse(TABLE[op][position]), bound, "float64"), *values)
    expected = central_difference(body, values, position)
    np.testing.assert_allclose(np.broadcast_to(row, X.shape), expected, rtol=1e-8, atol=1e-9)
    slope = partial(body, position)
    simplified = evaluate(slope, *values) if slope is not None else np.zeros(1)
    np.testing.assert_allclose(np.broadcast_to(simplified, X.shape), expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("op, position", ROWS)
def test_row_keeps_float32(op, position):
    args = [sc.Arg(j, "float32") for j in range(sc.OPS[op].arity)]
    slope = partial(sc.apply(op, *args), position)
    assert slope is None or all(node.dtype == "float32" for node in sc.postorder(slope) if is_float(node.dtype))


@pytest.mark.parametrize(
    "op, position, values, expected",
    [
        ("maximum", 0, (2.0, 2.0), 0.5),
        ("maximum", 1, (2.0, 2.0), 0.5),
        ("maximum", 0, (3.0, 2.0), 1.0),
        ("maximum", 1, (3.0, 2.0), 0.0),
        ("minimum", 0, (2.0, 2.0), 0.5),
        ("minimum", 1, (2.0, 2.0), 0.5),
        ("minimum", 0, (3.0, 2.0), 0.0),
        ("abs", 0, (0.0,), 0.0),
        ("sign", 0, (0.0,), 0.0),
        ("floor", 0, (2.0,), 0.0),
        ("ceil", 0, (2.0,), 0.0),
        ("rint", 0, (2.5,), 0.0),
        ("floordiv", 0, (4.0, 2.0), 0.0),
        ("floordiv", 1, (4.0, 2.0), 0.0),
        ("mod", 0, (4.0, 2.0), 1.0),
        ("mod", 1, (4.0, 2.0), -2.0),
        ("pow", 0, (0.0, 0.0), 0.0),
        ("pow", 1, (0.0, 2.0), 0.0),
        ("pow", 0, (0.0, 1.0), 1.0),
        ("pow", 0, (0.0, 2.0), 0.0),
        ("pow", 0, (-2.0, 3.0), 12.0),
    ],
)
def test_convention_at_a_kink(op, position, values, expected):
    assert slope_of(op, position, *values) == expected


@pytest.mark.parametrize("x", [-800.0, 800.0])
@pytest.mark.parametrize("op, low, high", [("sigmoid", 0, 0), ("tanh", 0, 0), ("softplus", 0, 1)])
def test_saturated_slopes_are_finite(op, low, high, x):
    assert slope_of(op, 0, x) == (low if x < 0 else high)

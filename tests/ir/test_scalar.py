"""Scalar bodies: interning, canonical order, folding of constants, substitution."""

from __future__ import annotations

import gc
import math
import threading

import numpy as np
import pytest

from graphc.ir import scalar as sc
from graphc.ir.affine import AffineMap, affine, axis_row
from graphc.ir.extent import dimension

X, Y, Z = (sc.Arg(j, "float32") for j in range(3))
I = sc.Arg(3, "int64")


def number(value, dtype="float32"):
    return sc.literal(value, dtype)


def test_equal_content_is_one_object():
    assert sc.Arg(0, "float32") is X and sc.Arg(0, "float64") is not X
    assert sc.apply("exp", sc.apply("mul", X, Y)) is sc.apply("exp", sc.apply("mul", X, Y))
    assert sc.Index(1) is sc.Index(1) and sc.Index(1) is not sc.Index(2)
    assert sc.InBounds(AffineMap(1, (axis_row(0),)), (3,)) is sc.InBounds(AffineMap(1, (axis_row(0),)), (3,))


def test_zeros_nans_and_dtypes_are_told_apart():
    assert number(0.0) is not number(-0.0) and math.copysign(1, number(-0.0).value) == -1
    assert number(1, "int64") is not number(1, "int32")
    assert number(1, "float32") is not number(1, "bool") and number(True, "bool") is sc.TRUE
    assert number(math.nan) is number(math.nan)


def test_threads_intern_to_one_object():
    made, start = [], threading.Barrier(8)

    def build():
        start.wait()
        body = X
        for step in range(200):
            body = sc.apply("add", sc.apply("sin", body), number(step + 0.125))
        made.append(body)

    threads = [threading.Thread(target=build) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 8 and all(body is made[0] for body in made)


@pytest.mark.parametrize("op", [name for name, row in sc.OPS.items() if row.commutative])
def test_commutative_arguments_have_one_order(op):
    dtype = "int64" if sc.OPS[op].accepts == "integer" else "float32"
    a, b = sc.Arg(0, dtype), sc.Arg(1, dtype)
    deep = sc.apply("add", sc.apply("mul", a, b), b)
    for one, other in [(a, b), (a, number(2, dtype)), (deep, a), (deep, number(2, dtype))]:
        assert sc.apply(op, one, other) is sc.apply(op, other, one)
    assert sc.apply(op, b, a).args == (a, b)
    assert sc.apply(op, number(2, dtype), a).args == (a, number(2, dtype)), "numbers come last"


@pytest.mark.parametrize("op", ["sub", "div", "pow", "lt", "atan2"])
def test_other_arguments_keep_theirs(op):
    assert sc.apply(op, X, Y) is not sc.apply(op, Y, X)


def test_dtypes_of_results():
    assert sc.apply("lt", X, Y).dtype == "bool" and sc.apply("add", I, I).dtype == "int64"
    assert sc.apply("select", sc.apply("lt", X, Y), X, Y).dtype == "float32"
    assert sc.cast(X, "float32") is X and sc.cast(X, "float64").dtype == "float64"


@pytest.mark.parametrize(
    ("op", "values", "dtype", "expected"),
    [
        ("add", (1, 2), "float32", 3.0),
        ("div", (1, 0), "float32", math.inf),
        ("sqrt", (-1,), "float32", math.nan),
        ("mul", (0.1, 0.1), "float32", float(np.float32(0.1) * np.float32(0.1))),
        ("floordiv", (-7, 2), "int64", -4),
        ("mod", (-7, 2), "int64", 1),
        ("add", (2**31 - 1, 1), "int32", -(2**31)),
        ("lt", (1, 2), "float32", True),
        ("xor", (6, 3), "uint32", 5),
        ("sub", (0, 1), "uint32", 2**32 - 1),
    ],
)
def test_constants_fold_in_their_dtype(op, values, dtype, expected):
    with np.errstate(all="ignore"):
        folded = sc.apply(op, *(number(value, dtype) for value in values))
    assert isinstance(folded, sc.Literal)
    assert folded.value == expected or (math.isnan(expected) and math.isnan(folded.value))


@pytest.mark.parametrize("op", ["floordiv", "mod"])
def test_division_by_zero_of_integers_is_left_to_run_time(op):
    assert isinstance(sc.apply(op, number(1, "int64"), number(0, "int64")), sc.Apply)


def test_select_of_a_known_condition():
    assert sc.apply("select", sc.TRUE, X, Y) is X and sc.apply("select", sc.FALSE, X, Y) is Y
    assert sc.apply("select", sc.apply("lt", X, Y), Z, Z) is Z


@pytest.mark.parametrize(
    ("value", "source", "target", "expected"),
    [
        (2.7, "float32", "int64", 2),
        (-2.7, "float32", "int32", -2),
        (3, "int64", "bool", True),
        (0.1, "float64", "float32", 0.1),
    ],
)
def test_cast_of_a_number(value, source, target, expected):
    got = sc.cast(number(value, source), target)
    assert isinstance(got, sc.Literal) and got.value == (np.float32(expected) if target == "float32" else expected)


def test_cast_of_infinity_to_an_integer_is_left_to_run_time():
    assert isinstance(sc.cast(number(math.inf), "int64"), sc.Apply)


def test_a_deep_body_needs_no_stack():
    body = X
    for step in range(10_000):
        body = sc.apply("add", sc.apply("sin", body), Y if step % 2 else Z)
    assert len(sc.postorder(body)) == 20_003
    moved = sc.substitute(body, {X: Y})
    assert sc.args_of(body) == {0, 1, 2} and sc.args_of(moved) == {1, 2}
    assert sc.renumber_args(body, [0, 1, 2]) is body
    del body, moved
    gc.collect()


def test_shared_terms_are_visited_once():
    body = X
    for _ in range(64):
        body = sc.apply("add", sc.apply("sin", body), body)
    assert len(sc.postorder(body)) == 129


def test_substitute_reuses_what_it_does_not_touch():
    kept = sc.apply("exp", Y)
    body = sc.apply("sub", sc.apply("sin", X), kept)
    new = sc.substitute(body, {X: Z})
    assert new.args[1] is kept and sc.substitute(body, {Z: X}) is body
    assert sc.substitute(sc.apply("add", number(1), X), {X: number(2)}) is number(3), "what becomes constant folds"


def test_move_axes_rewrites_indices_and_bounds():
    inside = sc.InBounds(AffineMap(1, (affine({0: 1}, 1),)), (4,))
    body = sc.apply("select", inside, sc.Index(0), number(0, "int64"))
    moved = sc.move_axes(body, [affine({0: 2, 1: 1}, 3)], 2)
    assert sc.axes_of(moved) == {0, 1}
    assert moved.args[0] is sc.InBounds(AffineMap(2, (affine({0: 2, 1: 1}, 4),)), (4,))


def test_sizes_become_numbers():
    n = dimension("N")
    body = sc.apply("add", sc.cast(sc.size_of(n + 1), "float32"), X)
    assert sc.specialise(body, {"N": 4}) is sc.apply("add", X, number(5))
    assert sc.size_of(3) is number(3, "int64")

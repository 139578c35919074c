"""Bodies: every scalar op, casts, literals, masks, and the helper functions."""

from __future__ import annotations

import math
import warnings
from typing import Any

import mpmath
import numpy as np
import pytest

from graphc.ir import scalar as sc
from graphc.ir.affine import AffineMap, affine
from graphc.ir.node import Node
from graphc_numpy.helpers import HELPERS
from tests.backends.numpy.support import array, check, compiled, make

SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 3.5, 88.0, -88.0, 1e-30, 20.0, -20.0, np.inf, -np.inf, np.nan]


def values_of(dtype: str) -> np.ndarray[Any, Any]:
    if dtype.startswith("float"):
        return np.array(SPECIAL, dtype=dtype)
    if dtype == "bool":
        return np.array([False, True])
    limits = np.iinfo(dtype)
    return np.array([0, 1, 2, 3, 7, 31, limits.max, limits.min, limits.max - 5], dtype=dtype)


def dtypes_of(row: sc.ScalarOp) -> tuple[str, ...]:
    floats, integers = ("float32", "float64"), ("int32", "int64", "uint32")
    return {
        "float": floats, "number": floats + integers, "bool": ("bool",), "integer": (*integers, "bool"),
        "any": (*floats, *integers, "bool"),
    }[row.accepts]  # fmt: skip


CASES = [
    (op, dtype)
    for op, row in sc.OPS.items()
    for dtype in dtypes_of(row)
    if op not in ("select", "cast") and not (dtype == "bool" and op in ("shl", "shr"))
]


@pytest.mark.parametrize(("op", "dtype"), CASES)
def test_ops(op: str, dtype: str) -> None:
    values = values_of(dtype)
    if op in ("pow", "shl", "shr") and not dtype.startswith("float"):
        values = values[(values >= 0) & (values < 32)]
    n, arity = len(values), sc.OPS[op].arity
    x, y = array("x", n, dtype=dtype), array("y", n, dtype=dtype)
    given: dict[Node, np.ndarray[Any, Any]] = {x: values, y: values[::-1].copy()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if arity == 1:
            check(make((n,), (n,), "i", [(x, "i")], sc.apply(op, sc.Arg(0, dtype))), values=given, scale=0.01)
            zero = array("z", dtype=dtype)
            node = make((), (), "", [(zero, "")], sc.apply(op, sc.Arg(0, dtype)))
            check(node, values={zero: values[1]}, scale=0.01)
            return
        a, b = sc.Arg(0, dtype), sc.Arg(1, dtype)
        check(make((n, n), (n, n), "i, j", [(x, "i"), (y, "j")], sc.apply(op, a, b)), values=given, scale=0.01)
        for number in values[:6] if dtype != "bool" else values:
            if op == "pow" and not dtype.startswith("float") and number < 0:
                continue
            one = sc.literal(number, dtype)
            check(make((n,), (n,), "i", [(x, "i")], sc.apply(op, a, one)), values=given, scale=0.01)
            check(make((n,), (n,), "i", [(x, "i")], sc.apply(op, one, a)), values=given, scale=0.01)


@pytest.mark.parametrize("source", ["float32", "float64", "int32", "int64", "uint32", "bool"])
@pytest.mark.parametrize("target", ["float32", "float64", "int32", "int64", "uint32", "bool"])
def test_casts(source: str, target: str) -> None:
    values = values_of(source)
    if source.startswith("float") and target != "bool" and not target.startswith("float"):
        values = np.array([0.0, 1.9, 2.5, 100.0], dtype=source)
    x = array("x", len(values), dtype=source)
    arg = sc.cast(sc.Arg(0, source), target)
    n = len(values)
    check(make((n,), (n,), "i", [(x, "i")], arg), make((2, n), (2, n), "i, j", [(x, "j")], arg), values={x: values})


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64", "uint32", "bool"])
def test_select(dtype: str) -> None:
    values = values_of(dtype)
    n = len(values)
    x, c = array("x", n, dtype=dtype), array("c", n, dtype="bool")
    test, arg = sc.Arg(1, "bool"), sc.Arg(0, dtype)
    one, two = sc.literal(1, dtype), sc.literal(0, dtype)
    for then, other in [(arg, one), (one, arg), (one, two), (two, arg)]:
        body = sc.apply("select", test, then, other)
        check(make((n,), (n,), "i", [(x, "i"), (c, "i")], body), values={x: values})
        check(make((n, n), (n, n), "i, j", [(x, "i"), (c, "j")], body), values={x: values})


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64"])
def test_masks_of_large_arrays(dtype: str) -> None:
    """Masking by bits: what is masked is 0, were it NaN or infinite; what is kept is unchanged, a NaN too."""
    values = np.resize(values_of(dtype), (40, 40))
    x, y = array("x", 40, 40, dtype=dtype), array("y", 40, 40, dtype=dtype)
    test, zero = sc.apply("lt", sc.Arg(1, dtype), sc.literal(1, dtype)), sc.literal(0, dtype)
    given: dict[Node, np.ndarray[Any, Any]] = {x: values, y: np.resize(values_of(dtype)[::-1], (40, 40))}
    for read in ("i, j", "j, i", "39 - i, j", "0, j"):
        for branches in ((zero, sc.Arg(0, dtype)), (sc.Arg(0, dtype), zero)):
            body = sc.apply("select", test, *branches)
            node = make((40, 40), (40, 40), "i, j", [(x, "i, j"), (y, read)], body)
            turned = make((40, 40), (40, 40), "i, j", [(x, "j, i"), (y, read)], body)
            text = check(node, turned, values=given, scale=0)
            assert "zero_" in text or read != "i, j"
    if dtype.startswith("float"):  # -0.0 is another number: its sign is kept
        body = sc.apply("select", test, sc.literal(-0.0, dtype), sc.Arg(0, dtype))
        over = sc.apply("div", sc.literal(1, dtype), body)
        check(make((40, 40), (40, 40), "i, j", [(x, "i, j"), (y, "i, j")], over), values=given, scale=0)


@pytest.mark.parametrize("op", ["lt", "le"])
def test_clamps_keep_nan(op: str) -> None:
    """select(x <= 0, 0, x) is np.maximum(x, 0); the three relatives of it that treat NaN otherwise are not."""
    x = array("x", len(SPECIAL))
    arg, zero = sc.Arg(0, "float64"), sc.literal(0, "float64")
    shown: list[str] = []
    for test in (sc.apply(op, arg, zero), sc.apply(op, zero, arg)):
        for branches in ((zero, arg), (arg, zero)):
            node = make((15,), (15,), "i", [(x, "i")], sc.apply("select", test, *branches))
            shown.append(check(node, values={x: np.array(SPECIAL)}, scale=0))
    assert "np.maximum(x, 0)" in shown[0] and "np.minimum(x, 0)" in shown[2]
    assert all("np.where" in text for text in (shown[1], shown[3]))


def test_loop_indices_and_bounds() -> None:
    x = array("x", 7, 9)
    i, j = sc.Index(0), sc.Index(1)
    place = sc.apply("add", sc.apply("mul", i, sc.literal(9, "int64")), j)
    check(make((7, 9), (7, 9), "i, j", [], place), make((7, 9), (9,), "j", [], place, "sum"))
    check(make((9, 11), (7, 9), "i - 1, j - 1", [], place), make((9, 11), (9, 7), "j - 1, i - 1", [], place))
    value = sc.Arg(0, "float64")
    for rows, shape in [
        ((affine({0: 1}, -1), affine({1: 1}, 1)), (5, 9)), ((affine({0: 1, 1: 1}, -3),), (6,)),
        ((affine({0: -1, 1: 2}),), (8,)), ((affine({0: 1}, 20),), (8,)), ((affine({0: 1}),), (7,)),
        ((affine({}, 3),), (2,)),
    ]:  # fmt: skip
        mask = sc.InBounds(AffineMap(2, rows), shape)
        body = sc.apply("select", mask, value, sc.literal(-1, "float64"))
        check(make((7, 9), (7, 9), "i, j", [(x, "i, j")], body), make((7, 9), (7,), "i", [(x, "i, j")], body, "max"))
        check(make((7, 9), (9, 7), "j, i", [(x, "i, j")], body), make((7, 9), (7, 9), "i, j", [], mask))


def test_one_hot_reads_as_a_comparison() -> None:
    t = array("t", 8, dtype="int64")
    hit = sc.apply("eq", sc.Arg(0, "int64"), sc.Index(1))
    text = check(make((8, 5), (8, 5), "i, j", [(t, "i")], hit))
    assert "t[:, None] == np.arange(5)" in text


def test_random_bits() -> None:
    """A hash of the loop index in uint32, as dropout uses it."""
    bits = sc.cast(sc.Index(0), "uint32")
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        bits = sc.apply("xor", bits, sc.apply("shr", bits, sc.literal(shift, "uint32")))
        bits = sc.apply("mul", bits, sc.literal(factor, "uint32"))
    uniform = sc.apply("mul", sc.cast(bits, "float32"), sc.literal(2.0**-32, "float32"))
    check(make((1000,), (1000,), "i", [], bits), make((1000,), (1000,), "i", [], uniform))


def test_shared_terms_are_computed_once() -> None:
    x = array("x", 8)
    power = sc.apply("exp", sc.Arg(0, "float64"))
    body = sc.apply("div", power, sc.apply("add", power, sc.literal(1, "float64")))
    assert check(make((8,), (8,), "i", [(x, "i")], body)).count("np.exp") == 1


def test_literals() -> None:
    for dtype in ("float32", "float64"):
        for number in (0.1, -0.0, 1e30, 1e-8, math.pi, 3.0, math.inf, -math.inf, math.nan, 2.0**24 + 2):
            x = array("x", 3, dtype=dtype)
            arg, one = sc.Arg(0, dtype), sc.literal(number, dtype)
            bodies = [sc.apply("add", arg, one), sc.apply("pow", one, arg), one, sc.apply("maximum", arg, one)]
            text = check(*(make((3,), (3,), "i", [(x, "i")], body) for body in bodies), scale=0)
            assert "float64" not in text or dtype == "float64"


def printed(name: str) -> dict[str, Any]:
    """The names that a printed function and those that it calls define."""
    namespace: dict[str, Any] = {"np": np}
    for part in ("erf_near_zero", "scaled_erfc", name):
        exec(HELPERS[part], namespace)
    return namespace


def test_erf_is_accurate() -> None:
    namespace = printed("erf")
    x = np.concatenate([np.linspace(-7, 7, 20001), np.logspace(-300, 1, 2000), [0.46875, 4.0, -4.0]])
    exact = np.array([math.erf(value) for value in x])
    np.testing.assert_allclose(namespace["erf"](x), exact, rtol=1e-15, atol=0)
    assert namespace["erf"](np.float32(0.5)).dtype == np.float32
    with np.errstate(all="ignore"):
        edges = namespace["erf"](np.array([np.inf, -np.inf, np.nan, 0.0, -0.0, 1e308]))
    np.testing.assert_array_equal(edges, [1, -1, np.nan, 0.0, -0.0, 1])
    assert np.signbit(edges[4])


def test_ndtr_is_accurate_in_the_tail() -> None:
    ndtr = printed("ndtr")["ndtr"]
    x = np.concatenate([np.linspace(-37.5, 9, 2001), [-0.663, -0.6629, 0.663, -5.66, -1e-300, 0.0]])
    with mpmath.workprec(120):
        exact = np.array([float(mpmath.erfc(-mpmath.mpf(value) / mpmath.sqrt(2)) / 2) for value in x])
    np.testing.assert_allclose(ndtr(x), exact, rtol=2e-15, atol=0)
    assert ndtr(np.float32(0.5)).dtype == np.float32
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(ndtr(np.array([np.inf, -np.inf, np.nan, 1e308, -1e308])), [1, 0, np.nan, 1, 0])


def test_no_warnings_reach_the_user() -> None:
    x = array("x", 6, dtype="float32")
    arg = sc.Arg(0, "float32")
    ops = ("log", "sigmoid", "softplus", "rsqrt", "exp")
    nodes = [make((6,), (6,), "i", [(x, "i")], sc.apply(op, arg)) for op in ops]
    _, executable = compiled(nodes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        results = executable.run([np.array([-1e4, 1e4, 0, np.inf, -np.inf, np.nan], dtype=np.float32)])
    np.testing.assert_array_equal(results[1], np.array([0, 1, 0.5, 1, 0, np.nan], dtype=np.float32))
    np.testing.assert_allclose(results[2], [0, 1e4, math.log(2), np.inf, 0, np.nan], rtol=1e-6)

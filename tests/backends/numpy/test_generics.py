"""Each form of Generic against the interpreter: reads, writes, reducers, modes, contractions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from graphc.ir import scalar as sc
from graphc.ir.node import Node, join, opaque, view
from tests.backends.numpy.support import array, check, index_map, make

DTYPES = ("float32", "float64", "int64", "int32")


# --- Reads ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "domain", "read"),
    [
        ((7, 9), (9, 7), "j, i"),  # a transpose
        ((7,), (7, 9), "i"),  # broadcast along the last axis
        ((9,), (7, 9), "j"),
        ((7, 9), (7,), "i, 3"),
        ((7, 9), (9,), "2, i"),
        ((7, 9), (3,), "1, 2*i + 3"),
        ((7, 9), (4, 9), "2*i, 8 - j"),  # negative steps
        ((7, 9), (3, 8), "6 - 2*i, 8 - j"),
        ((7,), (7, 2, 3), "i"),
        ((2, 3, 4), (4, 2, 3), "j, k, i"),
        ((2, 3, 4), (4, 5, 2, 3), "k, l, i"),  # transposed, with an axis between
        ((1, 1), (5,), "0, 0"),
        ((8,), (8, 1), "i"),
        ((9,), (3, 3), "3*i + j"),  # a reshape
        ((9,), (7, 3), "i + j"),  # a window
        ((9,), (4, 3), "2*i + j"),
        ((9,), (3, 3), "i + 2*j"),
        ((9,), (3, 3), "8 - 2*i - 2*j"),
        ((7, 7), (7,), "i, i"),  # a diagonal
        ((7, 7), (7, 2), "i, 6 - i"),
        ((5, 9), (5, 4, 3), "i, 2*j + k"),
        ((5, 9), (4, 5, 3), "j, 2*i + k"),
        ((5, 9), (4, 3, 5, 2), "k, 2*i + j"),
    ],
)
def test_reads_inside(shape: tuple[int, ...], domain: tuple[int, ...], read: str) -> None:
    out = ", ".join("ijklmn"[: len(domain)])
    for dtype in DTYPES:
        x = array("x", *shape, dtype=dtype)
        twice = sc.apply("add", sc.Arg(0, dtype), sc.Arg(0, dtype))
        check(make(domain, domain, out, [(x, read)]), make(domain, domain, out, [(x, read)], twice))


@pytest.mark.parametrize("mode", ["zero", "skip"])
@pytest.mark.parametrize(
    ("shape", "domain", "read"),
    [
        ((7,), (9,), "i - 1"),
        ((7,), (9,), "1 - i"),
        ((7,), (3,), "2*i + 5"),
        ((7,), (9, 2), "i - 9"),  # nothing is inside
        ((7,), (9, 3), "i + j - 1"),
        ((7,), (4, 3), "2*i + 2*j - 3"),
        ((0,), (3, 2), "i + j"),
        ((0, 4), (3, 4), "i, j"),
        ((7,), (9,), "1000*i - 2000"),  # far outside: gathered by index
        ((7,), (3, 9), "1000*i + j - 1000"),
        ((7,), (3, 9), "1000*i + j + 500"),
        ((6, 6), (8, 8, 3), "i + k - 2, 7 - j"),
        ((6, 6), (8,), "i, i - 1"),
    ],
)
def test_reads_outside(shape: tuple[int, ...], domain: tuple[int, ...], read: str, mode: str) -> None:
    out = ", ".join("ijklmn"[: len(domain)])
    for dtype in ("float64", "int64"):
        x = array("x", *shape, dtype=dtype)
        one_more = sc.apply("add", sc.Arg(0, dtype), sc.literal(1, dtype))
        check(make(domain, domain, out, [(x, read, mode)], one_more))
        check(make(domain, domain[:1], "i", [(x, read, mode)], one_more, "sum"))
        check(make(domain, domain[:1], "i", [(x, read, mode)], "copy", "max"))
        if len(domain) > 1:
            check(make(domain, domain[1:], ", ".join("jklm"[: len(domain) - 1]), [(x, read, mode)], one_more, "min"))


def test_a_read_that_skips_and_is_not_used() -> None:
    x = array("x", 7)
    node = make((9,), (9,), "i", [(x, "i - 1", "skip")], sc.literal(3, "float64"))
    check(node)


# --- Writes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("domain", "shape", "out"),
    [
        ((7, 9), (9, 7), "j, i"),
        ((7,), (7, 1), "i, 0"),
        ((7,), (1, 7, 1), "0, i, 0"),
        ((7,), (3, 7), "1, i"),  # the rest holds 0
        ((4,), (9,), "2*i"),
        ((4,), (9,), "8 - 2*i"),
        ((7,), (5,), "i - 1"),  # outside on both sides
        ((7,), (5,), "4 - i"),
        ((7,), (7, 7), "i, i"),
        ((3, 3), (9,), "3*i + j"),
        ((3, 3), (7,), "3*i + j - 1"),  # several axes, outside
        ((7,), (7,), "i + 10"),
    ],
)
def test_writes(domain: tuple[int, ...], shape: tuple[int, ...], out: str) -> None:
    axes = "ijklmn"[: len(domain)]
    x = array("x", *domain)
    for body in ("copy", sc.apply("exp", sc.Arg(0, "float64")), sc.literal(2, "float64")):
        check(make(domain, shape, out, [(x, ", ".join(axes))] if not isinstance(body, sc.Literal) else [], body))
    longer = ", ".join("ijkl"[: len(domain) + 1])
    check(make((*domain, 4), shape, out, [(array("y", *domain, 4), longer)], "copy", "sum"))


@pytest.mark.parametrize(
    ("domain", "shape", "out", "read"),
    [
        ((8, 3), (10,), "i + j", "i, j"),  # a transposed convolution
        ((8, 3), (17,), "2*i + j", "i, j"),
        ((8, 3), (8,), "i + j - 1", "i, j"),  # with padding
        ((8, 3), (12,), "i + 2*j - 1", "i, j"),
        ((8, 3), (12,), "8 - i - j", "i, j"),
        ((2, 5, 3, 3), (2, 7, 3), "i, j + k, l", "i, j, l, k"),
        ((2, 5, 3, 3), (3, 7, 2), "l, j + k, i", "i, j, l, k"),
        ((5, 5, 3, 3), (5, 6), "i + k - 1, j + l", "i, j, k, l"),
        ((7, 7), (7,), "i", "i, j"),
        ((7, 4), (7, 10), "i, i + j", "i, j"),  # one axis in two rows
        ((9, 9), (1,), "0", "i, j"),
        ((90, 80), (169,), "i + j", "i, j"),
        ((9, 9), (5,), "i + j", "i, j"),
        ((3, 4), (5000,), "1000*i + 300*j", "i, j"),
    ],
)
def test_scatter(domain: tuple[int, ...], shape: tuple[int, ...], out: str, read: str) -> None:
    sizes = tuple(domain["ijkl".index(letter)] for letter in read.split(", "))
    for dtype in ("float64", "float32", "int64"):
        x = array("x", *sizes, dtype=dtype)
        check(make(domain, shape, out, [(x, read)], "copy", "sum"))
        constant = sc.apply("mul", sc.Arg(0, dtype), sc.literal(2, dtype))
        check(make(domain, shape, out, [(x, read)], constant, "sum"))
        check(make(domain, shape, out, [(array("v", domain[0], dtype=dtype), "i")], "copy", "sum"))
        check(make(domain, shape, out, [], sc.literal(1, dtype), "sum"))


def test_scatter_too_long_for_a_loop() -> None:
    text = check(make((70, 70, 71), (9, 9), "i + j - 66, j + k - 66", [(array("y", 70, 71), "i, k")], "copy", "sum"))
    assert "for " in text
    assert "np.add.at" in check(make((9, 9), (9,), "900*i + 800*j - 5000", [(array("z", 9), "j")], "copy", "sum"))


def test_join() -> None:
    x, y = array("x", 4), array("y", 3)
    even = make((4,), (7,), "2*i", [(x, "i")])
    odd = make((3,), (7,), "2*i + 1", [(y, "i")], sc.apply("exp", sc.Arg(0, "float64")))
    text = check(join([even, odd]))
    assert "[::2] =" in text and "[1::2] =" in text
    a, b = array("a", 2, 3), array("b", 2, 4)
    rows = [make((2, 3), (2, 7), "i, j", [(a, "i, j")]), make((2, 4), (2, 7), "i, j + 3", [(b, "i, j")])]
    check(join(rows))
    check(join([even, make((3, 5), (7,), "2*i + 1", [(array("z", 5, 3), "j, i")], "copy", "sum")]))
    sums = [make((3, 5), (8,), f"i + {start}", [(array("z", 5, 3), "j, i")], "copy", "sum") for start in (0, 3)]
    last = make((2,), (8,), "i + 6", [], sc.literal(5, "float64"))
    check(join([*sums, last]))


def test_a_part_of_a_join_that_skips_points() -> None:
    """Where nothing is read the part holds 0, though no slice is written there."""
    x, w = array("x", 3), array("w", 3, 2)
    even = make((4,), (7,), "2*i", [(x, "i", "skip")], sc.apply("exp", sc.Arg(0, "float64")))
    odd = make((3, 2), (7,), "2*i + 1", [(x, "i - 1", "skip"), (w, "i, j")], "mul", "sum")
    text = check(join([even, odd]))
    assert "np.empty" not in text
    nothing = make((4,), (7,), "2*i", [(x, "i + 5", "skip")])
    assert "np.empty" not in check(join([nothing, odd]))


# --- Reducers -------------------------------------------------------------------------------------------------------

REDUCERS = ("sum", "prod", "max", "min", "argmax", "argmin")


@pytest.mark.parametrize(
    ("dtype", "reducer"), [*itertools.product(DTYPES, REDUCERS), ("bool", "sum"), ("bool", "prod")]
)
def test_reducers(reducer: str, dtype: str) -> None:
    x, v = array("x", 4, 3, 5, dtype=dtype), array("v", 5, dtype=dtype)
    domain, read = (4, 3, 5), "i, j, k"
    for shape, out in [
        ((), ""), ((4,), "i"), ((3,), "j"), ((5,), "k"), ((4, 5), "i, k"), ((5, 4), "k, i"), ((3, 4), "j, i"),
        ((4, 3, 5), "i, j, k"), ((5, 3, 4), "k, j, i"), ((1, 4, 1), "0, i, 0"), ((2, 4), "1, i"), ((3,), "j - 1"),
    ]:  # fmt: skip
        if reducer != "sum" and ("0" in out or "1" in out):
            continue  # the others need an output map that selects axes
        check(make(domain, shape, out, [(x, read)], "copy", reducer))
        check(make(domain, shape, out, [(v, "k")], "copy", reducer))  # the value does not depend on some axes
    transposed = make((5, 4, 3), (4,), "j", [(x, "j, k, i")], "copy", reducer)
    check(transposed)
    check(make((5, 4, 3), (5, 4), "i, j", [(x, "j, k, i")], "copy", reducer))


@pytest.mark.parametrize("reducer", REDUCERS)
@pytest.mark.parametrize("dtype", ["float64", "float32", "int64"])
def test_reducers_where_points_are_skipped(reducer: str, dtype: str) -> None:
    x = array("x", 8, dtype=dtype)
    y = array("y", 6, 6, dtype=dtype)
    absolute = sc.apply("abs", sc.Arg(0, dtype))
    for body in ("copy", absolute):
        for start in ("- 1", "- 7", "- 20", "+ 7", "+ 0"):
            check(make((9, 3), (9,), "i", [(x, f"i + 2*j {start}", "skip")], body, reducer))
            check(make((9, 3), (3,), "j", [(x, f"i + 2*j {start}", "skip")], body, reducer))
        check(make((9,), (), "", [(x, "i - 3", "skip")], body, reducer))
        check(make((7, 7, 3, 3), (7, 7), "i, j", [(y, "i + k - 1, j + l - 1", "skip")], body, reducer))
        check(make((7, 7, 3, 3), (7, 7), "j, i", [(y, "i + k - 1, j + l - 1", "skip")], body, reducer))
        check(make((3, 3, 3, 3), (3, 3), "i, j", [(y, "2*i + k, 2*j + l - 1", "zero")], body, reducer))
        product = "mul" if body == "copy" else body
        check(make((4, 4, 9), (4, 4), "i, j", [(y, "i, j"), (x, "k - 1", "skip")], product, reducer))


@pytest.mark.parametrize("reducer", REDUCERS)
def test_reducers_over_nothing(reducer: str) -> None:
    for dtype in ("float32", "int64"):
        x = array("x", 4, 0, dtype=dtype)
        check(make((4, 0), (4,), "i", [(x, "i, j")], "copy", reducer))
        check(make((4, 0), (0,), "j", [(x, "i, j")], "copy", reducer))
        check(make((4, 0), (), "", [(x, "i, j")], "copy", reducer))


@pytest.mark.parametrize("reducer", ["max", "min", "argmax", "argmin"])
def test_nan_and_infinities(reducer: str) -> None:
    x = array("x", 4, 5)
    values = np.array(
        [[1, np.nan, 3, np.nan, 9], [-np.inf] * 5, [np.inf, 2, np.inf, 0, -np.inf], [3, 3, 1, 1, 2]], dtype=np.float64
    )
    check(make((4, 5), (4,), "i", [(x, "i, j")], "copy", reducer), values={x: values})
    check(make((4, 5), (), "", [(x, "i, j")], "copy", reducer), values={x: values})
    check(make((4, 7), (4,), "i", [(x, "i, j - 1", "skip")], "copy", reducer), values={x: values})
    flat = view(x, (20,))
    check(make((18, 5), (18,), "i", [(flat, "i + j - 1", "skip")], "copy", reducer), values={x: values})


def test_what_is_skipped_takes_no_part() -> None:
    """No 0 * NaN: a weight that is NaN spoils only the points that read inside."""
    x, w = array("x", 6), array("w", 3)
    values = {x: np.arange(6.0), w: np.array([np.nan, 1.0, np.inf])}
    check(make((6, 3), (6,), "i", [(x, "i - j", "skip"), (w, "j")], "mul", "sum"), values=values)
    check(make((8, 3), (8,), "i", [(x, "i + j - 4", "skip"), (w, "j")], "mul", "sum"), values=values)
    check(make((6, 3), (6,), "i", [(x, "i - j", "zero"), (w, "j")], "mul", "sum"), values=values)


# --- Contractions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [*DTYPES, "bool"])
@pytest.mark.parametrize(
    ("domain", "out", "left", "right"),
    [
        ((7, 9, 8), "i, j", "i, k", "k, j"),
        ((7, 9, 8), "j, i", "i, k", "k, j"),
        ((7, 9, 8), "i, j", "k, i", "k, j"),
        ((7, 9, 8), "i, j", "i, k", "j, k"),
        ((7, 8), "i", "i, j", "j"),
        ((7, 8), "j", "i", "i, j"),
        ((7,), "", "i", "i"),
        ((7, 8), "", "i, j", "j, i"),
        ((7, 8), "i", "i, j", "i, j"),
        ((3, 4, 5, 6), "i, j, k", "i, j, l", "i, l, k"),  # a batch
        ((3, 4, 5, 6), "i, j, k", "j, i, l", "l, i, k"),
        ((3, 4, 5, 6), "j, i, k", "i, j, l", "i, l, k"),
        ((3, 4, 5, 6), "k, i, j", "i, j, l", "i, l, k"),
        ((3, 4, 5, 6), "i, j, k", "i, j, l", "l, k"),
        ((3, 4, 5, 6), "k, j, i", "i, j, l", "l, k"),
        ((2, 3, 4, 5, 6), "i, j, k, l", "i, j, k, m", "i, j, m, l"),  # two batch axes
        ((2, 3, 4, 5, 6), "j, i, k, l", "i, j, k, m", "i, j, m, l"),
        ((2, 3, 4, 5, 6), "i, j, k, l", "i, k, j, m", "i, l, j, m"),  # attention
        ((3, 4, 5), "i, j", "i, j, k", "i, k"),
        ((3, 4, 5), "i, j", "i, k", "i, k, j"),
        ((3, 5, 4), "i, k", "i, j, k", "j"),
        ((3, 4, 5, 2), "i, j", "i, k, l", "l, k, j"),  # two summed axes
        ((3, 4, 5, 2), "i, j", "i, k, l", "k, j"),  # an axis that only one operand has
        ((3, 4, 5), "i, j", "i, k", "j"),
        ((3, 4), "i, j", "i", "j"),
        ((7, 9, 8), "i, j", "i, 2*k", "k, 8 - j"),  # strided views
        ((4, 9, 3), "i, j", "2*i + k", "k, j"),
    ],
)
def test_contractions(domain: tuple[int, ...], out: str, left: str, right: str, dtype: str) -> None:
    def operand(name: str, read: str) -> Node:
        rows = index_map(len(domain), read).rows
        shape = [r.const + sum(max(c, 0) * (domain[a] - 1) for a, c in r.terms) + 1 for r in rows]
        return array(name, *shape, dtype=dtype)

    shape = tuple(domain[r.terms[0][0]] for r in index_map(len(domain), out).rows)
    a, b = operand("a", left), operand("b", right)
    check(make(domain, shape, out, [(a, left), (b, right)], "mul", "sum"))
    if dtype.startswith("float"):
        x, y = sc.Arg(0, dtype), sc.Arg(1, dtype)
        scaled = sc.apply("mul", sc.apply("mul", sc.apply("neg", sc.apply("exp", x)), y), sc.literal(0.5, dtype))
        check(make(domain, shape, out, [(a, left), (b, right)], scaled, "sum"))
        mean = sc.apply("div", sc.apply("mul", x, y), sc.literal(7, dtype))
        check(make(domain, shape, out, [(a, left), (b, right)], mean, "sum"))
        zero = sc.literal(0, dtype)
        masked = sc.apply("mul", sc.apply("select", sc.apply("lt", x, zero), zero, x), y)
        check(make(domain, shape, out, [(a, left), (b, right)], masked, "sum"))


def test_contractions_of_three() -> None:
    a, b, c = array("a", 4, 5), array("b", 5, 6), array("c", 6, 7)
    node = make((4, 7, 5, 6), (4, 7), "i, j", [(a, "i, k"), (b, "k, l"), (c, "l, j")], "mul", "sum")
    assert "np.einsum" in check(node)
    r, s = array("r", 4), array("s", 6)
    node = make((4, 6, 5), (4, 6), "i, j", [(a, "i, k"), (b, "k, j"), (r, "i"), (s, "j")], "mul", "sum")
    assert " @ " in check(node)
    k = array("k", 5)
    assert " @ " in check(make((4, 6, 5), (4, 6), "i, j", [(a, "i, k"), (k, "k"), (b, "k, j")], "mul", "sum"))


def test_contractions_read_as_a_person_would_write_them() -> None:
    x, g, w = array("x", 7, 9), array("g", 7, 8), array("w", 9, 8)
    assert "= x @ w\n" in check(make((7, 8, 9), (7, 8), "i, j", [(x, "i, k"), (w, "k, j")], "mul", "sum"))
    assert "= x.T @ g\n" in check(make((9, 8, 7), (9, 8), "i, j", [(x, "k, i"), (g, "k, j")], "mul", "sum"))
    assert "= g @ w.T\n" in check(make((7, 9, 8), (7, 9), "i, j", [(g, "i, k"), (w, "j, k")], "mul", "sum"))
    reads = [(array("q", 2, 4, 3, 6), "i, k, j, m"), (array("k", 2, 5, 3, 6), "i, l, j, m")]
    scores = check(make((2, 3, 4, 5, 6), (2, 3, 4, 5), "i, j, k, l", reads, "mul", "sum"))
    assert 'np.matmul(q.transpose(0, 2, 1, 3), k.transpose(0, 2, 3, 1), order="C")' in scores


@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize("size", [7, 8, 9])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation"),
    [(3, 1, 1, 1), (3, 2, 1, 1), (2, 2, 0, 1), (3, 1, 2, 2), (1, 1, 0, 1), (3, 3, 2, 2)],
)
def test_convolutions(images: int, size: int, kernel: int, stride: int, padding: int, dilation: int) -> None:
    """n o i j c p q: the convolution, and its gradients as scatter and in gather form."""
    out = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    window = f"{stride}*k + {dilation}*n - {padding}, {stride}*l + {dilation}*p - {padding}"
    x, w, g = array("x", images, 3, size, size), array("w", 4, 3, kernel, kernel), array("g", images, 4, out, out)
    domain = (images, 4, out, out, 3, kernel, kernel)
    at_x, at_w, at_y = f"i, m, {window}", "j, m, n, p", "i, j, k, l"
    mode = "zero" if padding else "inside"
    check(make(domain, g.shape, at_y, [(x, at_x, mode), (w, at_w)], "mul", "sum"))
    check(make(domain, w.shape, at_w, [(x, at_x, mode), (g, at_y)], "mul", "sum"))
    check(make(domain, x.shape, at_x, [(g, at_y), (w, at_w)], "mul", "sum"))
    if stride == 1:
        gathered = f"i, j, k - {dilation}*n + {padding}, l - {dilation}*p + {padding}"
        domain = (images, 4, size, size, 3, kernel, kernel)
        node = make(domain, x.shape, "i, m, k, l", [(g, gathered, "skip"), (w, at_w)], "mul", "sum")
        text = check(node)
        if kernel > 1:
            assert "for " in text and "+= " in text


def test_a_large_convolution_needs_no_transposition() -> None:
    x, w = array("x", 2, 8, 18, 18), array("w", 8, 8, 3, 3)
    reads = [(x, "i, m, k + n, l + p"), (w, "j, m, n, p")]
    text = check(make((2, 8, 16, 16, 8, 3, 3), (2, 8, 16, 16), "i, j, k, l", reads, "mul", "sum"))
    assert "w.reshape(8, 72) @ x_view.reshape(2, 72, 256)).reshape(2, 8, 16, 16)" in text


# --- Others ---------------------------------------------------------------------------------------------------------


def test_opaque() -> None:
    x, at = array("x", 4, 5, 3), array("at", 2, 3, dtype="int64")
    values = {at: np.array([[0, 3, 1], [2, 2, 0]])}
    for axis in range(3):
        shape = (*x.shape[:axis], 2, 3, *x.shape[axis + 1 :])
        values[at] = np.array([[0, 2, 1], [2, 2, 0]])
        check(opaque("take", (x, at), shape, "float64", axis=axis), values=values)
        updates = array("u", *shape)
        check(opaque("scatter_add", (updates, at), x.shape, "float64", axis=axis), values=values)
        for reverse in (0, 1):
            check(opaque("cumsum", (x,), x.shape, "float64", axis=axis, reverse=reverse))
    one = array("one", dtype="int64")
    check(opaque("take", (x, one), (5, 3), "float64", axis=0), values={one: np.array(2)})
    y = array("y", 5, dtype="float32")
    check(opaque("cumsum", (y,), (5,), "float32", axis=0, reverse=0))
    check(opaque("cumsum", (array("z", 5, dtype="int32"),), (5,), "int32", axis=0, reverse=1))


def test_views() -> None:
    x = array("x", 4, 6)
    twice = make((4, 6), (4, 6), "i, j", [(x, "i, j")], sc.apply("add", sc.Arg(0, "float64"), sc.Arg(0, "float64")))
    flat = view(twice, (24,))
    check(flat, make((24,), (24,), "i", [(flat, "23 - i")]), twice, view(x, (2, 12)), x)

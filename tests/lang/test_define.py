"""Index notation: values against NumPy, errors with their caret, extents, reads outside, derivatives."""

from __future__ import annotations

import numpy as np
import pytest

from graphc.errors import ArgumentError, IndexNotationError, ShapeError
from graphc.ir import graph as ir_graph
from graphc.ir.graph import Graph
from graphc.ir.interp import interpret
from graphc.ir.node import Generic, leaf
from graphc.ir.origin import origins_of
from graphc.ir.verify import verify
from graphc.lang.define import define
from graphc.lang.tensor import Tensor, input
from graphc.rules.grad import backward

RANDOM = np.random.default_rng(0)


def value(tensor, feed):
    graph = Graph((tensor.node,))
    verify(graph)
    return interpret(graph, {x.node: array for x, array in feed.items()})[0]


def run(definition, *arrays):
    leaves = [input(f"x{j}", a.shape, a.dtype.name) for j, a in enumerate(arrays)]
    return value(definition(*leaves), dict(zip(leaves, arrays, strict=True)))


def normal(*shape):
    return RANDOM.normal(size=shape)


CONV1D = define("y[n,o,i] = sum[c,k] x[n,c,2*i+k] * w[o,c,k]", x="N C L", w="O C K", i="(L-K)//2+1")


def conv1d(x, w):
    count = (x.shape[2] - w.shape[2]) // 2 + 1
    windows = [x[:, :, 2 * i : 2 * i + w.shape[2]] for i in range(count)]
    return np.stack([np.einsum("nck,ock->no", window, w) for window in windows], axis=-1)


@pytest.mark.parametrize("length", [3, 4, 8, 9])
def test_strided_convolution(length):
    x, w = normal(2, 3, length), normal(4, 3, 3)
    np.testing.assert_allclose(run(CONV1D, x, w), conv1d(x, w), rtol=1e-12)


A, B, V = normal(3, 4), normal(4, 5), normal(6)
LABELS = np.array([2, 0, 1])


@pytest.mark.parametrize(
    "line, keywords, arrays, expected",
    [
        ("C[i,j] = sum[k] A[i,k] * B[k,j]", {"A": "I K", "B": "K J"}, (A, B), A @ B),
        ("y[i,j] = tanh(x[i,j])", {"x": "N, M"}, (A,), np.tanh(A)),
        ("y = sum[i] x[i]**2", {"x": "N"}, (V,), np.sum(V**2)),
        ("y[] = prod[i] x[i]", {"x": "N"}, (V,), np.prod(V)),
        ("y[i] = max[j] x[i,j]", {"x": "N M"}, (A,), A.max(1)),
        ("y[i] = min[j] x[i,j]", {"x": "N M"}, (A,), A.min(1)),
        ("y[i] = argmax[j] x[i,j]", {"x": "N M"}, (A,), A.argmax(1)),
        ("y[i] = argmin[j] -x[i,j]", {"x": "N M"}, (A,), A.argmax(1)),
        ("y[j,i] = x[i,j]", {"x": "N M"}, (A,), A.T),
        ("y[i] = x[L-1-i]", {"x": "L", "i": "L"}, (V,), V[::-1]),
        ("y[i] = x[-i+L-1]", {"x": "L", "i": "L"}, (V,), V[::-1]),
        ("y[i] = x[s*i+a]", {"x": "L", "s": 2, "a": 1, "i": "L//s"}, (V,), V[1::2]),
        ("y[i] = x[2*(i+1)]", {"x": "L", "i": 2}, (V,), V[2::2]),
        ("y[i] = x[i] * a[] + b", {"x": "N", "a": "", "b": ""}, (V, np.array(2.0), np.array(3.0)), V * 2 + 3),
        ("y[i] = x[i] * i / N", {"x": "N"}, (V,), V * np.arange(6) / 6),
        ("y[i] = where(x[i] > 0, x[i], 0.1*x[i])", {"x": "N"}, (V,), np.where(V > 0, V, 0.1 * V)),
        ("y[i] = x[i] if not x[i] <= 0 else 0", {"x": "N"}, (V,), np.maximum(V, 0)),
        ("y[i] = 0 < x[i] < 1 or x[i] < -1", {"x": "N"}, (V,), ((V > 0) & (V < 1)) | (V < -1)),
        ("y[i] = max(x[i], min(i, 2))", {"x": "N"}, (V,), np.maximum(V, np.minimum(np.arange(6), 2))),
        ("y[i] = sqrt(abs(x[i])) - -x[i]", {"x": "N"}, (V,), np.sqrt(np.abs(V)) + V),
        ("y[i,j] = (t[i] == j) * 1", {"t": "N", "j": 4}, (LABELS,), np.eye(4, dtype=int)[LABELS]),
        ("y = sum[i] t[i] == 1", {"t": "N"}, (LABELS,), 1),
        ("y = max[i] t[i] > 1", {"t": "N"}, (LABELS,), True),
        ("y[i] = t[i] & 3 | 4", {"t": "N"}, (LABELS,), LABELS & 3 | 4),
        ("y[i] = ~(x[i] > 0) & (x[i] < 1)", {"x": "N"}, (V,), V <= 0),
        ("y[i] = t[i] / 2", {"t": "N"}, (LABELS,), np.float32([1, 0, 0.5])),
        ("y[i] = i", {"i": 4}, (), np.arange(4)),
        ("y[i,j] = sin(i) * 2", {"i": 2, "j": 2}, (), np.float32(np.repeat(np.sin([[0], [1]]) * 2, 2, 1))),
        ("y[i] = 1.5", {"i": 2}, (), np.float32([1.5, 1.5])),
        ("y[i] = sum[k] x[i,k] - m[i]", {"x": (3, "K"), "m": 3}, (A, normal(3) * 0), A.sum(1)),
        ("y[i] = atan2(x[i], 1) // 1 % 2", {"x": "N"}, (V,), np.floor(np.arctan(V)) % 2),
    ],
)
def test_value(line, keywords, arrays, expected):
    got = run(define(line, **keywords), *arrays)
    np.testing.assert_allclose(got, expected, rtol=1e-6 if got.dtype == np.float32 else 1e-12)
    assert got.shape == np.shape(expected)
    assert got.dtype.kind == np.asarray(expected).dtype.kind


def test_a_call_makes_one_generic_with_the_name_of_the_output():
    x, w = input("x", (1, 2, 9)), input("w", (1, 2, 3))
    y = CONV1D(w=w, x=x)
    assert isinstance(y, Tensor) and isinstance(y.node, Generic)
    assert y.node is CONV1D(x, w).node
    (origin, *_) = origins_of(y.node)
    assert origin.op == "y" and origin.file == __file__
    assert repr(CONV1D) == "y[n,o,i] = sum[c,k] x[n,c,2*i+k] * w[o,c,k]"
    assert CONV1D.name == "y"


def test_definitions_do_not_become_public_ops():
    sort = define("sort[i] = x[i] * 2", x="N")
    sort(input("x", (3,)))
    with pytest.raises(Exception, match="not available"):
        np.sort(input("x", (3,)))


def test_a_line_may_be_broken():
    both = define(
        """y[i] = sum[k]
                 x[i,k] * w[k]""",
        x="N K",
        w="K",
    )
    np.testing.assert_allclose(run(both, A, normal(4) * 0), np.zeros(3))


# --- Dtypes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dtypes, expected",
    [
        (("float32", "float32"), "float32"),
        (("float32", "float64"), "float64"),
        (("float32", "int64"), "float32"),
        (("int32", "int64"), "int64"),
        (("bool", "float32"), "float32"),
        (("bool", "bool"), "int64"),
    ],
)
def test_operands_are_promoted(dtypes, expected):
    times = define("y[i] = a[i] * b[i]", a="N", b="N")
    y = times(*(input("x", (3,), dtype) for dtype in dtypes))
    assert y.dtype == expected
    verify(Graph((y.node,)))


def test_floats_are_computed_in_the_widest_dtype():
    f = define("y[i] = a[i] * a[i] + b[i]", a="N", b="N")
    a = np.float32([1 + 2**-20])
    np.testing.assert_array_equal(run(f, a, np.zeros(1)), a.astype("float64") ** 2)


# --- Errors in the line ---------------------------------------------------------------------------------------------


def check_error(error, line, pointed, problem):
    """The message says what is wrong, quotes the line, and its caret stands below `pointed`."""
    message, quoted, caret, *_ = error.value.message.split("\n")
    assert problem in message
    assert quoted.strip() == line
    assert line[len(caret) - 1 - 4 :].startswith(pointed), f"the caret is at {line[len(caret) - 5 :]!r}"
    assert error.value.where is not None and error.value.where.startswith(__file__)


@pytest.mark.parametrize(
    "line, keywords, pointed, problem",
    [
        ("x[i] + 1", {"x": "N"}, "x[i]", "begin with the output"),
        ("y[i] =", {}, "", "body is missing"),
        ("y[2*i] = x[i]", {"x": "N"}, "2*i", "plain name"),
        ("y[i,i] = x[i]", {"x": "N"}, "i] =", "declared twice"),
        ("y[i] = sum[i] x[i]", {"x": "N"}, "i] x", "declared twice"),
        ("y[i] = sum[] x[i]", {"x": "N"}, "] x", "needs an index"),
        ("y[i] = mean[k] x[i,k]", {"x": "N K"}, "mean", "no reducer"),
        ("y[i] = 2 * sum[k] x[i,k]", {"x": "N K"}, "sum[k]", "inside the body"),
        ("y = max[i] sum[k] x[i,k]", {"x": "N K"}, "sum[k]", "inside the body"),
        ("y[i] = x[i] + * 2", {"x": "N"}, "* 2", "cannot read"),
        ("y[i] = x[i] + z[i]", {"x": "N"}, "z[i]", "'z' is unknown"),
        ("y[i] = x[i] + z", {"x": "N"}, "z", "unknown name 'z'"),
        ("y[i] = x[i+z]", {"x": "N", "i": 2}, "z]", "unknown name 'z'"),
        ("y[i] = x[i] + i[2]", {"x": "N"}, "i[2]", "an index"),
        ("y[i] = x[i,i]", {"x": "N"}, "x[i,i]", "rank 1"),
        ("y[i] = 2 * x", {"x": "N", "i": 2}, "x", "rank 1"),
        ("y[i] = x[i] + x[]", {"x": "N"}, "x", "rank 1"),
        ("y[i] = x[i*i]", {"x": "N", "i": 2}, "i*i", "not affine"),
        ("y[i] = x[N*i]", {"x": "N", "i": 2}, "N*i", "whole coefficients"),
        ("y[i] = x[i//2]", {"x": "N", "i": 2}, "i//2", "divided"),
        ("y[i] = x[i+0.5]", {"x": "N", "i": 2}, "0.5", "not affine"),
        ("y[i] = x[exp(i)]", {"x": "N", "i": 2}, "exp", "not affine"),
        ("y[i] = x[2*i]", {"x": "N"}, "i] =", "no extent"),
        ("y[i] = x[i] + foo(2)", {"x": "N"}, "foo", "unknown function"),
        ("y[i] = x[i] + sum(2)", {"x": "N"}, "sum", "reducer"),
        ("y[i] = exp(x[i], 2)", {"x": "N"}, "exp", "takes 1 arguments"),
        ("y[i] = exp(x[i], base=2)", {"x": "N"}, "exp", "no keywords"),
        ("y[i] = exp", {"i": 2}, "exp", "is a function"),
        ("y[i] = inside(i)", {"i": 2}, "i)", "an index"),
        ("y[i] = inside(x[i], 2)", {"x": "N", "i": 2}, "inside", "one read"),
        ("y[i] = x[i] @ 2", {"x": "N"}, "x[i] @", "no meaning"),
        ("y[i] = x[i] + 'a'", {"x": "N"}, "'a'", "no meaning"),
        ("y[i] = x[i] + 1/0", {"x": "N"}, "1/0", "division by zero"),
        ("y[i] = x[i]", {"x": "N", "w": "K"}, "", "'w' is not read"),
        ("y[i] = x[i]", {"x": "N 2*M"}, "x[i]", "is a name or a number"),
        ("y[i] = x[i]", {"x": "N", "i": "Q+1"}, "y", "unknown name 'Q'"),
        ("y[i] = x[i]", {"x": "N", "i": "N+"}, "i", "cannot read the extent"),
        ("y[i] = x[i]", {"x": "N", "a": 0.5}, "y", "a=0.5"),
        ("y[i] = x[i]", {"x": "i"}, "i", "an index and a dimension"),
        ("y[i] = y[i]", {"y": "N"}, "y", "the output"),
        ("y[i] = x[i]", {"x": "N", "outside": "wrap"}, "y", '"zero" or "skip"'),
        ("y[i] = x[i]", {"x": "N", "outside": {"z": "zero"}}, "y", "no operand"),
    ],
)
def test_error_points_into_the_line(line, keywords, pointed, problem):
    with pytest.raises(IndexNotationError) as error:
        define(line, **keywords)
    check_error(error, line, pointed, problem)


def test_caret_counts_letters_and_not_bytes():
    line = "ŷ[ι] = λ*x[ι] + z"
    with pytest.raises(IndexNotationError) as error:
        define(line, x="N", λ=2)
    check_error(error, line, "z", "unknown name")


# --- Errors of a call -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shapes, problem",
    [
        (((2, 3, 9), (4, 2, 3)), "the dimension C is 3 in x and 2 in w"),
        (((2, 3, 9), (4, 3)), "w is (O, C, K)"),
        (((2, 3, 1), (4, 3, 4)), "the extent of i is (L - K) // 2 + 1 = -1"),
    ],
)
def test_shapes_that_do_not_fit(shapes, problem):
    with pytest.raises(ShapeError) as error:
        CONV1D(*(input("x", shape) for shape in shapes))
    assert problem in str(error.value) and str(error.value).startswith("y: ")
    assert error.value.where.startswith(__file__)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_wrong_number_of_operands(count):
    with pytest.raises(ArgumentError, match=r"y takes 2 operands \(x, w\)"):
        CONV1D(*[input("x", (2, 2, 2))] * count)


def test_two_dimensions_of_one_index_must_be_equal():
    add = define("y[i] = a[i] + b[i]", a="N", b="M")
    assert add(input("a", ("N",)), input("b", ("N",))).shape == input("z", ("N",)).shape
    with pytest.raises(ShapeError, match=r"the index i runs over axis 0 of a .* 3 and 4 differ"):
        add(input("a", (3,)), input("b", (4,)))


def test_maximum_of_nothing():
    with pytest.raises(ShapeError, match="extent 0 has no max"):
        define("y[i] = max[k] x[i,k]", x="N K")(input("x", (3, 0)))


def test_a_read_outside_names_the_index_and_its_range():
    line = "y[i] = x[i] + x[i-1]"
    with pytest.raises(IndexNotationError) as error:
        define(line, x="N")(input("x", (3,)))
    check_error(error, line, "x[i-1]", "i - 1 runs from -1 to 1, axis 0 has extent 3")
    with pytest.raises(IndexNotationError, match="from 0 to 5, axis 0 has extent 4"):
        define("y[i] = x[i]", x="N", i=6)(input("x", (4,)))


@pytest.mark.parametrize(
    "line, pointed, problem",
    [("y[i] = 2 + (x[i] & 1)", "x[i] &", "not floats"), ("y[i] = 2 * ~x[i]", "~x", "truth values")],
)
def test_bits_of_floats(line, pointed, problem):
    op = define(line, x="N")
    with pytest.raises(IndexNotationError) as error:
        op(input("x", (3,)))
    check_error(error, line, pointed, problem)


def test_a_line_is_text():
    with pytest.raises(TypeError, match="a line of text is needed, not int"):
        define(3, x="N")


# --- Symbolic extents -----------------------------------------------------------------------------------------------


def test_symbolic_extents_are_bound_later():
    x, w = input("x", ("N", 3, "L")), input("w", (4, 3, 3), "float64")
    y = CONV1D(x, w)
    assert str(y.shape[2]) == "((L + 1)//2) - 1"
    leaves: dict = {}
    graph = ir_graph.specialise(Graph((y.node,)), {"N": 2, "L": 8}, leaves)
    a, b = normal(2, 3, 8).astype("float32"), normal(4, 3, 3)
    got = interpret(graph, {leaves[x.node]: a, leaves[w.node]: b})[0]
    np.testing.assert_allclose(got, conv1d(a.astype("float64"), b), rtol=1e-12)


@pytest.mark.parametrize(
    "line, keywords, is_provable",
    [
        ("y[i] = sum[k] x[i+k] * w[k]", {"i": "L-K+1"}, True),
        ("y[i] = sum[k] x[2*i+k] * w[k]", {"i": "(L-K)//2+1"}, True),
        ("y[i] = sum[k] x[i+2*k] * w[k]", {"i": "L-2*(K-1)"}, True),
        ("y[i] = x[L-1-i] + w[0]", {"i": "L"}, False),
        ("y[i] = sum[k] x[i+k] * w[k]", {"i": "L"}, False),
        ("y[i] = sum[k] x[2*i+k] * w[k]", {"i": "(L-K)//2+2"}, False),
        ("y[i] = sum[k] x[i+k-1] * w[k]", {"i": "L-K+1"}, False),
        ("y[i] = sum[k] x[i+k] * w[k]", {"i": "7"}, False),
    ],
)
def test_reads_with_symbolic_extents_are_proved_or_refused(line, keywords, is_provable):
    op = define(line, x="L", w="K", **keywords)
    operands = input("x", ("L",)), input("w", ("K",))
    if is_provable:
        assert set(op(*operands).node.modes) == {"inside"}
    else:
        with pytest.raises(IndexNotationError, match=r"not known whether|reads outside"):
            op(*operands)
    padded = define(line, x="L", w="K", outside="zero", **keywords)
    assert padded(*operands).node is not None


# --- Reads outside --------------------------------------------------------------------------------------------------


def test_outside_zero_reads_zero():
    f = define("y[i] = sum[k] exp(x[i+k-1])", x="N", i="N", k=3, outside="zero")
    e = np.exp(np.pad(V, 1))
    np.testing.assert_allclose(run(f, V), e[:-2] + e[1:-1] + e[2:])


def test_outside_skip_leaves_the_point_out():
    f = define("y[i] = sum[k] exp(x[i+k-1])", x="N", i="N", k=3, outside="skip")
    e = np.pad(np.exp(V), 1)
    np.testing.assert_allclose(run(f, V), e[:-2] + e[1:-1] + e[2:])
    g = define("y[i] = max[k] x[i+k-1]", x="N", i="N", k=3, outside="skip")
    m = np.pad(V, 1, constant_values=-np.inf)
    np.testing.assert_allclose(run(g, V), np.maximum(np.maximum(m[:-2], m[1:-1]), m[2:]))


def test_outside_by_operand():
    f = define("y[i] = x[i-1] + w[i]", x="N", w="N", outside={"x": "zero"})
    np.testing.assert_allclose(run(f, V, V), np.pad(V, 1)[:-2] + V)
    g = define("y[i] = x[i-1] + w[i+1]", x="N", w="N", i="N", outside={"x": "zero"})
    with pytest.raises(IndexNotationError, match="reads outside w"):
        g(input("x", (3,)), input("w", (3,)))


def test_inside_tells_where_a_read_is():
    f = define("y[i] = where(inside(x[i-1]), x[i-1], 7)", x="N", i="N", outside="zero")
    np.testing.assert_allclose(run(f, V), [7, *V[:-1]])


# --- Derivatives ----------------------------------------------------------------------------------------------------


def gradients(tensor, leaves):
    seed = leaf("seed", tensor.shape, tensor.dtype, "input")
    found = backward([tensor.node], [seed], [x.node for x in leaves])
    return seed, [Tensor(found[x.node]) for x in leaves]


def central(f, array, step=1e-5):
    out = np.empty(array.shape)
    for at in np.ndindex(array.shape):
        up, down = array.copy(), array.copy()
        up[at] += step
        down[at] -= step
        out[at] = (f(up) - f(down)) / (2 * step)
    return out


@pytest.mark.parametrize(
    "line, keywords, shapes",
    [
        (CONV1D.line, {"x": "N C L", "w": "O C K", "i": "(L-K)//2+1"}, [(2, 2, 7), (2, 2, 3)]),
        ("y[i] = sum[k] exp(x[i+k-1]) * w[k]", {"x": "N", "w": "K", "i": "N", "outside": "zero"}, [(5,), (3,)]),
        ("y[i] = sum[k] exp(x[i+k-1]) * w[k]", {"x": "N", "w": "K", "i": "N", "outside": "skip"}, [(5,), (3,)]),
        ("y[i] = max[k] x[i+k] * w[k]", {"x": "N", "w": "K", "i": "N-K+1"}, [(6,), (3,)]),
        ("y[i] = prod[k] x[i,k] * w[k]", {"x": "N K", "w": "K"}, [(3, 3), (3,)]),
        ("y[i] = x[i]**2 * w[] / (1 + i) + sin(x[N-1-i])", {"x": "N", "w": ""}, [(4,), ()]),
        ("y[i,j] = where(x[i] > w[j], x[i] * w[j]**3, tanh(w[j]))", {"x": "N", "w": "M"}, [(3,), (4,)]),
    ],
)
def test_first_and_second_derivatives(line, keywords, shapes):
    op = define(line, **keywords)
    random = np.random.default_rng(5)
    leaves = [input(f"x{j}", shape, "float64") for j, shape in enumerate(shapes)]
    arrays = [random.normal(size=shape) for shape in shapes]
    y = op(*leaves)
    seed, first = gradients(y, leaves)
    weights = random.normal(size=y.shape)
    feed = {**dict(zip(leaves, arrays, strict=True)), Tensor(seed): weights}

    def at(tensor, j, array):
        return value(tensor, {**feed, leaves[j]: array})

    for j, array in enumerate(arrays):
        expected = central(lambda new, j=j: np.sum(weights * at(y, j, new)), array)
        np.testing.assert_allclose(value(first[j], feed), expected, rtol=1e-6, atol=1e-7)
    probe = random.normal(size=shapes[1])
    inner = leaf("probe", shapes[1], "float64", "input")
    second = backward([first[1].node], [inner], [x.node for x in leaves])
    for j, array in enumerate(arrays):
        expected = central(lambda new, j=j: np.sum(probe * at(first[1], j, new)), array)
        got = value(Tensor(second[leaves[j].node]), {**feed, Tensor(inner): probe}) if leaves[j].node in second else 0
        np.testing.assert_allclose(np.broadcast_to(got, array.shape), expected, rtol=1e-6, atol=1e-6)

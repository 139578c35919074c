"""Which nodes compute each row by itself (`graphc.passes.rows`): what is accepted computes the same, what mixes rows is
refused with its reason, the op and the line."""

from __future__ import annotations

import re

import numpy as np
import pytest

import graphc as gc
from graphc.errors import CompileError
from graphc.ir.extent import evaluate

RNG = np.random.default_rng(0)
EXPLANATION = (
    ". A dynamic dimension is a number of independent rows, which may only be summed, multiplied up, or searched for a "
    "maximum or minimum; a dimension that dynamic= does not list is compiled for each size that a call brings"
)
MEETS = "each row meets every other one, over N twice:"
MIXES = "a change of shape mixes it with the axes before it"
PICKED = "one row, or some rows, are picked by their numbers"


def rows(*others, name="x", dtype="float32"):
    return gc.input(name, ("N", *others), dtype)


def sequence(step, first, x):
    return gc.scan(step, first, x)[1].T


def weights(*shape):
    return gc.constant(np.random.default_rng(1).normal(size=shape).astype("float32"))


REFUSED = {
    "a product of all pairs": (3, lambda x: x @ x.T, f"in matmul, {MEETS} (N, N, 3)"),
    "an outer product": ((), lambda x: gc.outer(x, x), f"in einsum, {MEETS} (N, N)"),
    "pairs that are summed": ((), lambda x: gc.define("y[i] = sum[j] x[i]*x[j]", x="N")(x), f"in y, {MEETS} (N, N)"),
    "eye": (3, lambda x: gc.eye(x.shape[0]), f"in eye, {MEETS} (N, N)"),
    "attention to other rows": (
        (3, 4), lambda x: gc.nn.MultiheadAttention(4, 2, seed=0)(x, x, x)[0],
        f"in einsum, {MEETS} (3, 2, N, N, 2)",
    ),
    "backwards": (3, lambda x: x[::-1], "in getitem, a row needs other rows"),
    "one row": (3, lambda x: x[0], f"in getitem, {PICKED}"),
    "one row for all": (3, lambda x: x - x[:1], f"in getitem, {PICKED}"),
    "the first row in each": (
        3, lambda x: gc.define("y[n,f] = x[n,f] * x[0,f]", x="N F", outside="zero")(x), "in y, a row needs other rows",
    ),
    "the row before": (
        (), lambda x: gc.define("y[n] = x[n] * x[n-1]", x="N", outside="zero")(x), "in y, a row needs other rows",
    ),
    "the row after": (
        (), lambda x: gc.define("y[n] = x[n] * x[n+1]", x="N", outside="zero")(x), "in y, a row needs other rows",
    ),
    "a number for each row": (
        (), lambda x: gc.define("y[n] = x[n] * w[n]", x="N", w="K", outside="zero", n="N")(x, weights(50)),
        "in y, the number of a row is an index of something else",
    ),
    "without the first": (3, lambda x: x[1:], "in getitem, axis 0 has the extent N - 1, no multiple of N"),
    "every other": (3, lambda x: x[::2], "in getitem, axis 0 has the extent ((N + 1)//2), no multiple of N"),
    "padded": (3, lambda x: gc.pad(x, ((1, 0), (0, 0))), "in pad, axis 0 has the extent N + 1, no multiple of N"),
    "put after other rows": (
        3, lambda x: gc.concatenate([x, x]), "in concatenate, rows are put in other places than their own",
    ),
    "tiled": (3, lambda x: gc.tile(x, (2, 1)), "in concatenate, rows are put in other places than their own"),
    "cumsum": (3, lambda x: gc.cumsum(x, axis=0), "in cumsum, a row needs those before it"),
    "take": (3, lambda x: gc.take(x, gc.constant(np.array([0])), axis=0), f"in take, {PICKED}"),
    "gradient of take": (
        3, lambda x: gc.grad(gc.sum(gc.take(x, gc.constant(np.array([0])), axis=0)), x),
        f"in take, {PICKED}",
    ),
    "transposed output": (3, lambda x: x.T, "in transpose, it is axis 1 of an output, and must be axis 0"),
    "stacked before": (
        3, lambda x: gc.stack([x, x]), "in concatenate, it is axis 1 of an output, and must be axis 0",
    ),
    "shape that mixes": (3, lambda x: gc.reshape(x.T, (-1,)), f"in reshape, {MIXES}"),
    "shape that cuts": (3, lambda x: gc.reshape(x, (3, -1)), f"in reshape, {MIXES}"),
    "shape without elements": (
        0, lambda x: gc.reshape(x, (-1,)), "in reshape, an array without elements is given another shape",
    ),
    "window": (
        3, lambda x: gc.conv1d(x.T.reshape(1, 3, -1), weights(2, 3, 3), padding=1), "in conv1d, a row needs other rows",
    ),
    "scan over rows": (
        3, lambda x: gc.scan(lambda h, row: (h + row, h), gc.zeros((3,)), x)[1],
        "in scan, the loop of a scan goes over it",
    ),
    "recurrent over rows": (
        (3, 4), lambda x: gc.nn.LSTM(4, 2, seed=0)(x)[0], "in scan, the loop of a scan goes over it",
    ),
    "sum within a step": (
        3, lambda x: gc.scan(lambda h, column: (h + gc.sum(column), h), gc.zeros(()), x.T)[1],
        "in sum, each step of a loop adds up over it",
    ),
    "rows mixed within a step": (
        3, lambda x: sequence(lambda h, column: (h[::-1] + column, h), gc.zeros_like(x[:, 0]), x.T),
        "in getitem, a row needs other rows",
    ),
    "numbers within a step": (
        3, lambda x: sequence(lambda h, c: (h + c + gc.arange(c.shape[0]), h), gc.zeros_like(x[:, 0]), x.T),
        "in arange, a step of a loop uses its size or a row's number",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    others, build, why = REFUSED[case]
    x = rows(*(others if isinstance(others, tuple) else (others,)))
    output = build(x)
    with pytest.raises(CompileError) as caught:
        gc.compile([x], output, backend="numpy", dynamic=["N"])
    assert caught.value.message == f"compile: N cannot be dynamic: {why}{EXPLANATION}"
    file, _, line = caught.value.where.rpartition(":")
    assert file == __file__ and int(line) in {number for *_, number in build.__code__.co_lines()}


INPUTS = {
    "second axis": ((3, "N"), "it is axis 1 of an input, and must be axis 0"),
    "one more": (("N+1", 3), "axis 0 has the extent N + 1, no multiple of N"),
    "squares": (("N*N",), "axis 0 has the extent N**2, no multiple of N"),
    "both axes": (("N", "N"), f"{MEETS} (N, N)"),
}


@pytest.mark.parametrize("case", INPUTS)
def test_refused_inputs(case):
    shape, why = INPUTS[case]
    x, y = gc.input("x", shape), rows(name="y")
    with pytest.raises(CompileError, match=re.escape(f"N cannot be dynamic: in the input 'x', {why}. ")) as caught:
        gc.compile([x, y], [x, y], backend="numpy", dynamic=["N"])
    assert caught.value.where.startswith(f"{__file__}:")


def test_a_part_of_several_elements_each():
    x, y = gc.input("x", ("2*N", 2)), rows(name="y")
    with pytest.raises(CompileError, match="in getitem, a row needs other rows"):
        gc.compile([x, y], x[: y.shape[0]], backend="numpy", dynamic=["N"])


def test_two_dimensions_must_not_meet():
    x, y = rows(3), gc.input("y", ("M", 3))
    with pytest.raises(CompileError, match=re.escape("in matmul, each row of M meets each one of N: (N, M, 3)")):
        gc.compile([x, y], x @ y.T, backend="numpy", dynamic=["N", "M"])
    first = gc.define("y[n,f] = x[n,f] * z[0,f]", x="N F", z="M F", outside="zero")(x, y)
    with pytest.raises(CompileError, match="in y, each row of M meets each one of N"):
        gc.compile([x, y], first, backend="numpy", dynamic=["N", "M"])
    for dimension in ("N", "M"):
        output = x @ y.T if dimension == "N" else y @ x.T
        gc.compile([x, y], output, backend="numpy", dynamic=[dimension])(
            np.ones((2, 3), "float32"), np.ones((4, 3), "float32")
        )


ACCEPTED = {
    "steps as rows": ((5, 3), lambda x: gc.reshape(x, (-1, 3)) @ weights(3, 2)),
    "all in one row": ((5, 3), lambda x: gc.reshape(x, (-1,))),
    "beside each other": (3, lambda x: gc.concatenate([x, 2 * x], axis=1)),
    "stacked": (3, lambda x: gc.stack([x, 2 * x], axis=1)),
    "one after another, in turns": (3, lambda x: gc.reshape(gc.stack([x, -x], axis=1), (-1, 3))),
    "repeated": (3, lambda x: gc.repeat(x, 3, axis=0)),
    "split": (4, lambda x: gc.split(x, 2, axis=1)),
    "backwards in each row": (4, lambda x: x[:, ::-1]),
    "windows": ((2, 7), lambda x: gc.max_pool1d(gc.conv1d(x, weights(3, 2, 3), padding=1), 2)),
    "windows along no rows": (3, lambda x: gc.conv1d(x.T.reshape(1, 3, -1), weights(2, 3, 1)).reshape(2, -1).T),
    "cumsum": (4, lambda x: gc.cumsum(x, axis=1)),
    "argmax": (4, lambda x: gc.argmax(x, axis=1)),
    "argmax over rows": (3, lambda x: [gc.argmax(x, axis=0), gc.argmin(x, axis=0), gc.argmax(x), gc.argmin(x.T)]),
    "of numbers that are often equal": (3, lambda x: [gc.argmax(gc.rint(x), axis=0), gc.argmin(gc.rint(x.T) > 0)]),
    "argmax where there is NaN": (3, lambda x: gc.argmax(gc.sqrt(x), axis=0)),
    "gradients of max and min": (3, lambda x: gc.grad(gc.sum(gc.max(x, axis=0)) * gc.min(x), x)),
    "sorted by a constant": (4, lambda x: gc.take(x, gc.constant(np.array([2, 0])), axis=1)),
    "its gradient": (
        4, lambda x: gc.grad(gc.sum(gc.take(gc.sin(x), gc.constant(np.array([2, 0, 2])), axis=1) ** 2), x),
    ),
    "transposed and back": ((3, 4), lambda x: gc.moveaxis(gc.sin(gc.moveaxis(x, 0, 2)) * 2, 2, 0)),
    "transposed and back, after a sum": (3, lambda x: (x.T - gc.max(x)).T),
    "computed transposed, after a sum": (3, lambda x: (gc.sin(x.T) / gc.sum(gc.sin(x.T))).T),
    "computed in between, after a sum": (
        (3, 4), lambda x: gc.moveaxis((y := gc.sin(gc.moveaxis(x, 0, 2))) / gc.sum(y, (0, 2), keepdims=True), 2, 0),
    ),
    "Gram matrix": (3, lambda x: [x.T @ x, x @ (x.T @ x)]),
    "pairs in each row": ((3, 4), lambda x: x @ gc.swapaxes(x, 1, 2)),
    "tables of one shape": (3, lambda x: gc.sum(x * weights(2, 3)[0], 0) * gc.constant(np.arange(3, dtype="float32"))),
    "totals": (3, lambda x: [gc.sum(x, 0), gc.prod(x, 0), gc.max(x), gc.min(x, 0), gc.mean(x), gc.std(x, 0)]),
    "sums behind each other": (3, lambda x: [gc.softmax(x, axis=0), gc.logsumexp(x, axis=0)]),
    "numbers of rows": (3, lambda x: x * gc.reshape(gc.arange(x.shape[0]), (-1, 1))),
    "rows of a constant": ((), lambda x: gc.take(weights(70, 2), gc.arange(x.shape[0]), axis=0)),
    "size": (3, lambda x: gc.sum(gc.ones_like(x)) * x),
    "no input at all": (3, lambda x: [gc.zeros((x.shape[0], 2)), gc.arange(x.shape[0])]),
    "scan over columns": (
        3, lambda x: sequence(lambda h, column: (h + gc.sin(column), h), gc.zeros_like(x[:, 0]), x.T),
    ),
    "RNN": ((4, 3), lambda x: gc.nn.RNN(3, 2, batch_first=True, seed=0)(x)[0]),
    "LSTM": ((4, 3), lambda x: gc.nn.LSTM(3, 2, batch_first=True, bidirectional=True, seed=0)(x)[0]),
    "GRU": ((4, 3), lambda x: gc.nn.GRU(3, 2, batch_first=True, num_layers=2, seed=0)(x)[0]),
    "attention in each row": ((5, 4), lambda x: gc.nn.MultiheadAttention(4, 2, batch_first=True, seed=0)(x, x, x)[0]),
    "no elements": (0, lambda x: [x, gc.sum(x), gc.sum(x, axis=1)]),
}  # fmt: skip


@pytest.mark.parametrize("case", ACCEPTED)
def test_accepted(case):
    others, build = ACCEPTED[case]
    x = rows(*(others if isinstance(others, tuple) else (others,)))
    outputs = build(x)
    outputs = list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
    static, dynamic = (gc.compile([x], outputs, backend="numpy", dynamic=names) for names in ((), ["N"]))
    for size in (1, 7, 66):
        given = RNG.uniform(0.5, 1, size=[evaluate(extent, {"N": size}) for extent in x.shape]).astype("float32")
        for found, expected in zip(dynamic(given), static(given), strict=True):
            assert found.shape == expected.shape and found.dtype == expected.dtype
            np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-5)


def test_several_elements_for_each_row():
    x, y = gc.input("x", ("2*N", 2)), rows(2, name="y")
    outputs = [x + gc.repeat(y, 2, axis=0), x[::2] * y, gc.reshape(x, (-1, 4)), gc.sum(x, axis=0)]
    outputs.append(gc.arange(x.shape[0]))
    static, dynamic = (gc.compile([x, y], outputs, backend="numpy", dynamic=names) for names in ((), ["N"]))
    given = RNG.normal(size=(142, 2)).astype("float32"), RNG.normal(size=(71, 2)).astype("float32")
    for found, expected in zip(dynamic(*given), static(*given), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_embedding_and_its_gradient():
    labels = rows(3, name="labels", dtype="int64")
    table = gc.param("table", (5, 2), init=RNG.normal(size=(5, 2)))
    loss = gc.sum(gc.sin(gc.take(table, labels, axis=0)))
    static, dynamic = (
        gc.compile([labels], [loss, gc.grad(loss, table)], backend="numpy", dynamic=names) for names in ((), ["N"])
    )
    given = RNG.integers(0, 5, (23, 3))
    for found, expected in zip(dynamic(given), static(given), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5)

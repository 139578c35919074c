"""Operations and bytes of kernels, against counts made by hand, and by going over every point."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

import graphc as gc
from graphc.compiler.cost import Cost, cost_of, elements_reached, updates_cost
from graphc.ir.affine import AffineMap, affine
from graphc.program import Program

F32, I64 = 4, 8  # bytes


def program_of(inputs: Sequence[gc.Tensor], outputs: object, **options: object) -> Program:
    return gc.compile(inputs, outputs, backend="numpy", **options).program


def costs(inputs: Sequence[gc.Tensor], outputs: object) -> list[Cost]:
    program = program_of(inputs, outputs)
    return [cost_of(program, kernel) for kernel in program.kernels]


def only(inputs: Sequence[gc.Tensor], outputs: object) -> tuple[int, int, int]:
    """(operations, bytes read, bytes written) of a program's one kernel, which works in float32."""
    (cost,) = costs(inputs, outputs)
    assert set(cost.operations) <= {"float32"}
    assert (cost.total_operations, cost.bytes) == (sum(cost.operations.values()), cost.read + cost.written)
    return cost.total_operations, cost.read, cost.written


# ---- what a kernel does --------------------------------------------------------------------------------------------


def test_a_matrix_product() -> None:
    x, w = gc.input("x", (8, 32)), gc.input("w", (32, 16))
    assert only([x, w], x @ w) == (2 * 8 * 16 * 32, F32 * (8 * 32 + 32 * 16), F32 * 8 * 16)


def test_an_epilogue_counts_and_scratch_does_not() -> None:
    x, w, b = gc.input("x", (8, 32)), gc.input("w", (32, 16)), gc.input("b", (16,))
    operations, read, written = only([x, w, b], gc.relu(x @ w + b))
    assert operations == 2 * 8 * 16 * 32 + 8 * 16 + 8 * 16  # the bias, and a comparison with 0
    assert (read, written) == (F32 * (8 * 32 + 32 * 16 + 16), F32 * 8 * 16)


@pytest.mark.parametrize("padding", [0, 1])
def test_a_convolution_counts_its_points_whether_or_not_they_read_padding(padding: int) -> None:
    x, w = gc.input("x", (2, 3, 8, 8)), gc.input("w", (4, 3, 3, 3))
    side = 6 + 2 * padding
    operations, read, written = only([x, w], gc.conv2d(x, w, padding=padding))
    assert operations == 2 * (2 * 4 * side * side) * (3 * 3 * 3)
    assert (read, written) == (F32 * (2 * 3 * 8 * 8 + 4 * 3 * 3 * 3), F32 * 2 * 4 * side * side)


def test_a_strided_read_counts_what_it_reaches() -> None:
    x, w = gc.input("x", (2, 3, 8, 8)), gc.input("w", (4, 3, 1, 1))
    assert only([x, w], gc.conv2d(x, w, stride=2))[1] == F32 * (2 * 3 * 4 * 4 + 4 * 3)


def test_an_elementwise_expression() -> None:
    a, b = gc.input("a", (5, 7)), gc.input("b", (7,))
    assert only([a, b], gc.exp(a) * b + 1) == (3 * 35, F32 * (35 + 7), F32 * 35)


def test_a_term_that_occurs_twice_counts_once() -> None:
    a = gc.input("a", (5, 7))
    e = gc.exp(a)
    assert only([a], e * (1 + e)) == (3 * 35, F32 * 35, F32 * 35)  # exp, add, multiply


def test_selects_casts_and_integers_count_nothing() -> None:
    n = gc.input("n", (6,), dtype="int64")
    assert only([n], gc.where(n > 2, n + 1, n * n)) == (0, I64 * 6, I64 * 6)
    a = gc.input("a", (6,))
    (cost,) = costs([a], gc.where(a > 2, a, 0).astype("float64"))
    assert (cost.operations, cost.read, cost.written) == ({"float32": 6}, F32 * 6, 8 * 6)  # a comparison each


def test_float64_is_counted_apart() -> None:
    a, b = gc.input("a", (4, 4), dtype="float64"), gc.input("b", (6,))
    first, second = costs([a, b], [a @ a, b + 1])
    assert (first.operations, first.read) == ({"float64": 2 * 4**3}, 8 * 16)
    assert second.operations == {"float32": 6}


def test_softmax() -> None:
    a = gc.input("a", (5, 7))
    operations = 5 * 35  # maximum, subtract, exp, sum, divide
    assert only([a], gc.softmax(a, axis=-1)) == (operations, F32 * 35, F32 * 35)


def test_what_a_kernel_writes_first_it_need_not_read() -> None:
    a = gc.input("a", (5, 7))
    e = gc.exp(a)
    assert only([a], [e, e / gc.sum(e, axis=-1, keepdims=True)]) == (3 * 35, F32 * 35, F32 * 2 * 35)


def test_a_diagonal() -> None:
    a = gc.input("a", (6, 6))
    assert only([a], gc.diagonal(a) + 1) == (6, F32 * 6, F32 * 6)


def test_a_window() -> None:
    x = gc.input("x", (2, 3, 8, 8))
    assert only([x], gc.max_pool2d(x, 2)) == (2 * 3 * 16 * 4, F32 * 2 * 3 * 64, F32 * 2 * 3 * 16)


def test_joined_parts_write_the_whole_once() -> None:
    a, b = gc.input("a", (2, 3)), gc.input("b", (4, 3))
    found = costs([a, b], gc.concatenate([2 * a, 3 * b], axis=0))
    assert sum(cost.written for cost in found) == F32 * 18 and sum(cost.read for cost in found) == F32 * 18


def test_several_reads_of_one_array_count_at_most_as_the_whole() -> None:
    a = gc.input("a", (9,))
    assert only([a], a[1:] - a[:-1]) == (8, F32 * 9, F32 * 8)
    assert only([a], a[1:3] - a[4:6]) == (2, F32 * 4, F32 * 2)


def test_ops_outside_index_notation() -> None:
    table, t = gc.input("table", (100, 8)), gc.input("t", (3,), dtype="int64")
    assert only([table, t], gc.take(table, t, axis=0)) == (0, F32 * 24 + I64 * 3, F32 * 24)
    scatter = costs([table, t], gc.grad(gc.sum(gc.take(table, t, axis=0)), table))[-1]
    assert scatter == Cost({"float32": 24}, F32 * 24 + I64 * 3, F32 * 800)
    a = gc.input("a", (5, 7))
    assert only([a], gc.cumsum(a, axis=1)) == (35, F32 * 35, F32 * 35)


def test_a_training_step() -> None:
    batch, inputs, hidden, classes = 8, 12, 6, 4
    x, t = gc.input("x", (batch, inputs)), gc.input("t", (batch,), dtype="int64")
    model = gc.nn.Sequential(gc.nn.Linear(inputs, hidden), gc.nn.ReLU(), gc.nn.Linear(hidden, classes))
    loss = gc.nn.cross_entropy(model(x), t)
    program = program_of([x, t], loss, updates=gc.optim.SGD(lr=0.1).updates(loss, model.parameters()))
    products = [kernel for kernel in program.kernels if kernel.kind == "contraction"]
    counts = [cost_of(program, kernel).total_operations for kernel in products]
    first, second = 2 * batch * inputs * hidden, 2 * batch * hidden * classes
    # Beside its product: bias and ReLU; bias; the derivative of ReLU; the updates, two operations for each weight.
    expected = [
        first + 2 * batch * hidden,
        second + batch * classes,
        second + batch * hidden,
        first + 2 * inputs * hidden,
        second + 2 * hidden * classes,
    ]
    assert sorted(counts) == sorted(expected)
    moved = cost_of(program, products[0])
    assert moved.read == F32 * (batch * inputs + inputs * hidden + hidden)


def test_updates_that_are_computed_in_place_are_not_copied() -> None:
    x, v, w = gc.input("x", (5, 7)), gc.param("v", (5, 7)), gc.param("w", (5, 7))
    assert updates_cost(program_of([x], gc.sum(x), updates={w: w + x})).bytes == 0
    # What w gets is computed while the new v still needs the old one.
    assert updates_cost(program_of([x], gc.sum(x), updates={w: v + x, v: w + x})) == Cost({}, F32 * 35, F32 * 35)


# ---- what a map reaches --------------------------------------------------------------------------------------------


@st.composite
def boxes_and_rows(draw: st.DrawFn) -> tuple[tuple[int, ...], AffineMap, tuple[int, ...]]:
    rank = draw(st.integers(1, 3))
    domain = tuple(draw(st.lists(st.integers(0, 4), min_size=rank, max_size=rank)))
    rows, shape = [], []
    for _ in range(draw(st.integers(0, 3))):
        coefficients = draw(st.dictionaries(st.integers(0, rank - 1), st.integers(-3, 3), max_size=2))
        rows.append(affine(coefficients, draw(st.integers(-3, 5))))
        shape.append(draw(st.integers(1, 6)))
    return domain, AffineMap(rank, tuple(rows)), tuple(shape)


@given(boxes_and_rows())
def test_elements_reached(drawn: tuple[tuple[int, ...], AffineMap, tuple[int, ...]]) -> None:
    domain, index_map, shape = drawn
    reached = set()
    for point in itertools.product(*map(range, domain)):
        place = tuple(row.const + sum(c * point[axis] for axis, c in row.terms) for row in index_map.rows)
        if all(0 <= at < extent for at, extent in zip(place, shape, strict=True)):
            reached.add(place)
    found = elements_reached(index_map, domain, shape)
    axes = [axis for row in index_map.rows for axis, _ in row.terms]
    if len(axes) == len(set(axes)):
        assert found == len(reached)
    assert len(reached) <= found <= math.prod(domain)

"""Updates that are computed into their target's memory: those that can be, and none that cannot."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc.backend import available
from graphc.errors import ArgumentError

N = 40


@pytest.fixture(params=available())
def backend(request):
    return request.param


def step(backend, outputs, updates, inputs=()):
    return gc.compile(list(inputs), outputs, updates, backend=backend, threads=2)


def placed(function):
    """The targets that are written in place."""
    program = function.program
    return {target for source, target in program.updates if program.root(source).kind == "update"}


def variables(*names):
    rng = np.random.default_rng(0)
    return [gc.param(name, (N, N), init=rng.normal(size=(N, N)).astype("float32")) for name in names]


def test_a_step_of_descent_is_in_place(backend):
    (w,) = variables("w")
    x = gc.input("x", (N, N))
    before, array = w.value, np.full((N, N), 0.5, "float32")
    function = step(backend, gc.sum(x @ w), {w: w - 0.1 * gc.grad(gc.sum(gc.tanh(x @ w)), w)}, [x])
    assert placed(function) == {"w"}
    sources = {source for source, _ in function.program.updates}
    assert all(buffer.offset is None for buffer in function.program.buffers if buffer.name in sources)
    function(array)
    expected = before - 0.1 * (array.T @ (1 - np.tanh(array @ before) ** 2))
    np.testing.assert_allclose(w.value, expected, rtol=1e-5, atol=1e-5)


def test_two_that_exchange_their_values_are_not(backend):
    a, b = variables("a", "b")
    old = a.value, b.value
    function = step(backend, [], {a: b + 1, b: a + 1})
    function()
    assert placed(function) != {"a", "b"}
    np.testing.assert_array_equal(a.value, old[1] + 1)
    np.testing.assert_array_equal(b.value, old[0] + 1)


def test_a_value_moved_within_its_array_is_not(backend):
    (w,) = variables("w")
    old = w.value
    function = step(backend, [], {w: w.T + 1})
    function()
    assert placed(function) == set()
    np.testing.assert_array_equal(w.value, old.T + 1)


def test_a_sum_over_the_rows_it_changes_is_not(backend):
    (w,) = variables("w")
    old = w.value
    function = step(backend, [], {w: w - gc.mean(w, axis=0, keepdims=True)})
    function()
    np.testing.assert_allclose(w.value, old - old.mean(axis=0), rtol=1e-5, atol=1e-6)


def test_softmax_of_its_own_rows(backend):
    (w,) = variables("w")
    old = w.value.astype("float64")
    function = step(backend, [], {w: gc.softmax(w, axis=1)})
    function()
    expected = np.exp(old) / np.exp(old).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(w.value, expected, rtol=1e-5)


def test_the_old_value_as_an_output_is_kept(backend):
    (w,) = variables("w")
    old = w.value
    function = step(backend, [w + 0, w.T + 0, w], {w: w * 2})
    results = function()
    for result, expected in zip(results, (old, old.T, old), strict=True):
        np.testing.assert_array_equal(result, expected)
    np.testing.assert_array_equal(w.value, old * 2)


def test_a_product_that_reads_what_it_updates_is_not(backend):
    (w,) = variables("w")
    old = w.value
    function = step(backend, [], {w: w @ w + w})
    function()
    assert placed(function) == set()
    np.testing.assert_allclose(w.value, old @ old + old, rtol=1e-4, atol=1e-5)


def test_nothing_is_written_when_a_check_fails(backend):
    (w,) = variables("w")
    old = w.value
    labels = gc.input("labels", (3,), dtype="int64")
    picked = gc.take(w, labels, axis=0)
    function = step(backend, gc.sum(picked), {w: w * 2}, [labels])
    with pytest.raises(ArgumentError):
        function(np.array([0, 1, N]))
    np.testing.assert_array_equal(w.value, old)


def test_one_value_for_two_targets(backend):
    a, b = variables("a", "b")
    old = a.value
    function = step(backend, [], {a: a * 3, b: a * 3})
    function()
    np.testing.assert_array_equal(a.value, old * 3)
    np.testing.assert_array_equal(b.value, old * 3)


def test_nothing_is_written_before_a_later_check(backend):
    a, b = variables("a", "b")
    old = a.value
    labels = gc.input("labels", (N,), dtype="int64")
    function = step(backend, [], {a: a * 2, b: gc.take(b, labels, axis=0)}, [labels])
    assert "a" not in placed(function)
    with pytest.raises(ArgumentError):
        function(np.full(N, N))
    np.testing.assert_array_equal(a.value, old)


def test_a_later_stage_of_the_kernel_reads_the_old_value(backend):
    a, b = variables("a", "b")
    old = a.value, b.value
    function = step(backend, [], {a: gc.sin(a) * b, b: gc.cos(a) * b})
    assert placed(function) == {"b"}
    function()
    np.testing.assert_allclose(a.value, np.sin(old[0]) * old[1], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(b.value, np.cos(old[0]) * old[1], rtol=1e-5, atol=1e-6)


def test_a_reader_of_the_old_value_comes_first(backend):
    a, b = variables("a", "b")
    old = a.value, b.value
    function = step(backend, [], {a: gc.sin(a), b: gc.cos(a) * b})
    assert placed(function) == {"a", "b"}
    function()
    np.testing.assert_allclose(a.value, np.sin(old[0]), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(b.value, np.cos(old[0]) * old[1], rtol=1e-5, atol=1e-6)


def test_a_repeated_check_does_not_hold_up_the_others(backend):
    table, w = variables("table", "w")
    labels = gc.input("labels", (3,), dtype="int64")
    loss = gc.mean(gc.tanh(gc.take(table, labels, axis=0) @ w) ** 2)
    updates = {p: p - 0.1 * g for p, g in zip((table, w), gc.grad(loss, [table, w]), strict=True)}
    function = step(backend, loss, updates, [labels])
    kinds = [kernel.kind for kernel in function.program.kernels]
    writes = [kernel.writes for kernel in function.program.kernels]
    sources = {target: source for source, target in function.program.updates}
    late = max(place for place, kind in enumerate(kinds) if kind == "opaque")
    assert late > min(place for place, names in enumerate(writes) if sources["w"] in names)
    assert placed(function) == {"table", "w"}
    old = table.value, w.value
    with pytest.raises(ArgumentError):
        function(np.array([0, 1, N]))
    np.testing.assert_array_equal(table.value, old[0])
    np.testing.assert_array_equal(w.value, old[1])


def test_the_same_indices_into_a_shorter_axis_are_checked_again(backend):
    a, b, c, w = variables("a", "b", "c", "w")
    labels = gc.input("labels", (N,), dtype="int64")
    long, short = gc.take(gc.concatenate([a, b]), labels, axis=0), gc.take(b, labels, axis=0)
    deep = gc.tanh(gc.tanh(gc.tanh(short @ a) @ a) @ a)
    function = step(backend, [], {w: w * gc.mean(long), c: c + deep}, [labels])
    kinds = [kernel.kind for kernel in function.program.kernels]
    writer = next(at for at, one in enumerate(function.program.kernels) if function.program.updates[0][0] in one.writes)
    assert kinds.index("opaque") < writer < len(kinds) - 1 - kinds[::-1].index("opaque")  # it stands between the checks
    old = w.value
    with pytest.raises(ArgumentError):
        function(np.full(N, N))
    np.testing.assert_array_equal(w.value, old)

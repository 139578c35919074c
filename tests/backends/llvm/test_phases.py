"""Native code of phased programs: blocks that threads share, and calls without Python."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc_llvm import phases

THREADS = (1, 2, 3)
ROWS = (1, 2, 7, 8, 31, 32, 100)  # as many blocks of a length for each thread, and some that are left


@pytest.fixture(autouse=True)
def worth_sharing(monkeypatch):
    monkeypatch.setattr(phases, "_WORTH_SHARING", 0)  # so that short blocks are shared, too


def images(rows):
    return np.random.default_rng(rows).normal(size=(rows, 1, 12, 12)).astype("float32")


def network():
    """Rows with so much work that their blocks are short, over several kernels with temporaries between them."""
    return gc.nn.Sequential(
        gc.nn.Conv2d(1, 16, 3, padding=1, seed=0), gc.nn.ReLU(), gc.nn.Conv2d(16, 16, 3, padding=1, seed=1),
        gc.nn.ReLU(), gc.nn.MaxPool2d(2), gc.nn.Dropout(0.5, seed=3), gc.nn.Flatten(), gc.nn.Linear(576, 10, seed=2),
    )  # fmt: skip


def longest_block(function):
    return function.specialised(N=1).program.phases[0].programs[0][0]


@pytest.mark.parametrize("training", [False, True])
def test_blocks_that_threads_share(training):
    x, model = gc.input("x", ("N", 1, 12, 12)), network()
    y = gc.softmax(model(x, training=training))
    want = gc.compile([x], y, backend="numpy")
    functions = [gc.compile([x], y, dynamic=["N"], threads=threads) for threads in THREADS]
    arenas = [function.specialised(N=1).executable.layout.arena_bytes for function in functions]
    assert arenas[2] - arenas[1] == arenas[1] - arenas[0] > 4 * 16 * 12 * 12 * longest_block(functions[0])
    states = [variable for variable in functions[0]._forms.variables if variable.dtype == "int64"]
    assert bool(states) == training  # dropout counts its draws, so each call begins from the same count
    assert longest_block(functions[0]) * 8 <= max(ROWS)
    for rows in ROWS:
        found = []
        for function in (want, *functions):
            for state in states:
                state.value = 5
            found.append(function(images(rows)))
        np.testing.assert_allclose(found[1], found[0], rtol=1e-4, atol=1e-6)
        for other in found[2:]:
            assert other.tobytes() == found[1].tobytes()


def test_sums_over_blocks_are_added_in_order_by_any_threads():
    x, model = gc.input("x", ("N", 1, 12, 12)), network()
    loss = gc.mean(model(x, training=False) ** 2)
    outputs = [loss, *gc.grad(loss, model.parameters())]
    want = gc.compile([x], outputs, backend="numpy")
    functions = [gc.compile([x], outputs, dynamic=["N"], threads=threads) for threads in THREADS]
    for rows in (7, 100):
        first, *others = (function(images(rows)) for function in functions)
        for one, wanted in zip(first, want(images(rows)), strict=True):
            np.testing.assert_allclose(one, wanted, rtol=2e-4, atol=1e-5)
        for other in others:
            assert [one.tobytes() for one in other] == [one.tobytes() for one in first]


def test_sums_fill_whole_arrays_with_what_combines_to_nothing():
    x = gc.input("x", ("N", 3, 7))  # 21 elements: vectors of 16, 8 or 4 leave some over
    total = gc.compile([x], [gc.sum(x, axis=0), gc.prod(x, axis=0), gc.max(x, axis=0)], dynamic=["N"])
    numbers = 1 + np.random.default_rng(0).random((5, 3, 7)).astype("float32")
    for _ in range(2):  # also into memory that holds earlier sums
        for got, want in zip(total(numbers), (numbers.sum(0), numbers.prod(0), numbers.max(0)), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-6)


def test_sizes_are_called_natively_from_the_second_time_on():
    x = gc.input("x", ("N", 3))
    double = gc.compile([x], 2 * x, dynamic=["N"])
    numbers = np.ones((5, 3), "float32")
    double(numbers)
    executable = double.specialised(N=5).executable
    assert executable._fast_entry is None
    double(numbers)
    assert executable._fast_entry is not None
    np.testing.assert_array_equal(double(numbers), 2 * numbers)

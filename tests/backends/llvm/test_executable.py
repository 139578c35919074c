"""Memory of results: kept for the next call only when nobody can see it any more."""

from __future__ import annotations

import gc as garbage
import threading
from collections.abc import Callable

import numpy as np
import pytest

import graphc as gc
from graphc_llvm import memory
from graphc_llvm.memory import ResultMemory

SHAPE = (64, 64)


def native() -> Callable[[np.ndarray], np.ndarray]:
    """2 * x as a function; from its second call on Python has no part in it."""
    x = gc.input("x", SHAPE)
    function = gc.compile([x], 2 * x, threads=1, backend="llvm")
    function(full(0))
    return function


def through_python() -> Callable[[np.ndarray], np.ndarray]:
    """The same, without native calls."""
    executable = native().specialised().executable
    return lambda array: executable.run([array])[0]


@pytest.fixture(params=[native, through_python])
def double(request: pytest.FixtureRequest) -> Callable[[np.ndarray], np.ndarray]:
    return request.param()


def full(value: float) -> np.ndarray:
    return np.full(SHAPE, value, dtype="float32")


def test_a_held_result_is_never_written_again(double) -> None:
    held = [double(full(number)) for number in range(20)]
    for number, array in enumerate(held):
        assert np.all(array == 2 * number)
    assert len({array.ctypes.data for array in held}) == 20


def test_views_hold_the_memory_too(double) -> None:
    views = [double(full(1))[3:5], double(full(2)).T, double(full(3)).reshape(-1)[7:9], memoryview(double(full(4)))]
    views.append(double(full(5)).view("int32"))
    for number in range(10):
        double(full(100 + number))
    assert [float(np.asarray(view).flat[0]) for view in views[:4]] == [2, 4, 6, 8]
    assert views[4].view("float32").flat[0] == 10


def test_dropped_memory_is_used_again(double) -> None:
    addresses = set()
    for _ in range(10):
        result = double(full(1))
        addresses.add(result.ctypes.data)
        del result
    garbage.collect()
    assert len(addresses) == 1
    assert all(address % 64 == 0 for address in addresses)


def test_no_more_than_so_much_is_kept(monkeypatch) -> None:
    monkeypatch.setattr(memory, "KEPT_BYTES", 40_000)
    results = ResultMemory()
    arrays = [results.empty((4096,), "float32") for _ in range(5)]
    assert sum(len(kept) for kept in results._kept.values()) == 2
    assert len({array.ctypes.data for array in arrays}) == 5


def test_threads_get_results_of_their_own(double) -> None:
    wrong: list[float] = []

    def work(number: int) -> None:
        for _ in range(300):
            result = double(full(number))
            if not np.all(result == 2 * number):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong

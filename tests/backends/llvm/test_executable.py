"""Memory of results: kept for the next call only when nobody can see it any more."""

from __future__ import annotations

import gc as garbage
import threading

import numpy as np

import graphc as gc
from graphc_llvm import executable
from graphc_llvm.executable import ResultMemory

SHAPE = (64, 64)


def double() -> gc.Function:
    x = gc.input("x", SHAPE)
    return gc.compile([x], 2 * x, threads=1)


def full(value: float) -> np.ndarray:
    return np.full(SHAPE, value, dtype="float32")


def test_a_held_result_is_never_written_again() -> None:
    f = double()
    held = [f(full(number)) for number in range(20)]
    for number, array in enumerate(held):
        assert np.all(array == 2 * number)
    assert len({array.ctypes.data for array in held}) == 20


def test_views_hold_the_memory_too() -> None:
    f = double()
    views = [f(full(1))[3:5], f(full(2)).T, f(full(3)).reshape(-1)[7:9], memoryview(f(full(4)))]
    views.append(f(full(5)).view("int32"))
    for number in range(10):
        f(full(100 + number))
    assert [float(np.asarray(view).flat[0]) for view in views[:4]] == [2, 4, 6, 8]
    assert views[4].view("float32").flat[0] == 10


def test_dropped_memory_is_used_again() -> None:
    f = double()
    addresses = set()
    for _ in range(10):
        result = f(full(1))
        addresses.add(result.ctypes.data)
        del result
    garbage.collect()
    assert len(addresses) == 1
    assert all(address % 64 == 0 for address in addresses)


def test_no_more_than_so_much_is_kept(monkeypatch) -> None:
    monkeypatch.setattr(executable, "KEPT_BYTES", 40_000)
    memory = ResultMemory()
    arrays = [memory.empty((4096,), "float32") for _ in range(5)]
    assert sum(len(kept) for kept in memory._kept.values()) == 2
    assert len({array.ctypes.data for array in arrays}) == 5


def test_threads_get_results_of_their_own() -> None:
    f = double()
    wrong: list[float] = []

    def work(number: int) -> None:
        for _ in range(300):
            result = f(full(number))
            if not np.all(result == 2 * number):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong

"""Native calls within a process: threads, Python code within a call, errors, signals, forks, the end."""

from __future__ import annotations

import gc as garbage
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc_llvm import fastcall_entry
from tests.backends.llvm.calling import (
    THREADS,
    compiled,
    entry_of,
    in_threads,
    layers,
    needs_native_calls,
    outcome,
    picking,
    python_frames,
    without_native_calls,
)

pytestmark = needs_native_calls
CALLS = 10_000
LONG_SIDE = 256  # of square matrices whose product is worth the interpreter lock's release


# ---- threads -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lock", ["held", "released"])
def test_threads_compute_the_same_bits(lock, monkeypatch):
    monkeypatch.setattr(fastcall_entry, "LONG_NANOSECONDS", 1e9 if lock == "held" else 0)
    function = layers()
    rng = np.random.default_rng(1)
    arrays = rng.standard_normal((THREADS, 8, 16)).astype("float32")
    expected = [[part.tobytes() for part in function(array)] for array in arrays]
    assert entry_of(function).releases_lock == (lock == "released")

    def work(number: int) -> None:
        array, bits = arrays[number], expected[number]
        for _ in range(CALLS // THREADS):
            y, total = function(array)
            assert [y.tobytes(), total.tobytes()] == bits

    in_threads(work)
    assert entry_of(function).busy == 0


def test_long_programs_run_at_the_same_time():
    """Of programs that release the lock one thread's runs in the prepared memory, the others' in memory of theirs."""
    a, b = gc.input("a", (LONG_SIDE, LONG_SIDE)), gc.input("b", (LONG_SIDE, LONG_SIDE))
    function = gc.compile([a, b], gc.relu(a @ b), backend="llvm", threads=2)
    rng = np.random.default_rng(2)
    pairs = rng.standard_normal((THREADS, 2, LONG_SIDE, LONG_SIDE)).astype("float32")
    expected = [function(*pair).tobytes() for pair in pairs]
    assert entry_of(function).releases_lock

    def work(number: int) -> None:
        for _ in range(20):
            assert function(*pairs[number]).tobytes() == expected[number]

    in_threads(work)


def test_sizes_from_several_threads():
    x = gc.input("x", ("N",))
    function = compiled([x], 2 * x)

    def work(number: int) -> None:
        for turn in range(300):
            size = (number + turn) % 11 + 1
            assert function(np.full(size, number, "float32")).tolist() == [2 * number] * size

    in_threads(work)


# ---- Python within a call ------------------------------------------------------------------------------------------


def test_a_weak_reference_calls_the_function():
    """A callback that runs while a call takes its results may call the function itself."""
    function = layers()
    array = np.ones((8, 16), "float32")
    bits = function(array)[0].tobytes()
    seen: list[bytes] = []
    for _ in range(20):
        result = function(array)[0]
        watch = weakref.ref(result, lambda _: seen.append(function(2 * array)[0].tobytes()))
        del result
        assert function(array)[0].tobytes() == bits
        assert watch() is None
    assert len(seen) == 20 and set(seen) == {function(2 * array)[0].tobytes()}


class Caller:
    """Calls something when the garbage collector finds it."""

    def __init__(self, call: Callable[[], None]) -> None:
        self.call, self.cycle = call, self

    def __del__(self) -> None:
        self.call()


def test_the_garbage_collector_calls_the_function():
    function = layers()
    array = np.ones((8, 16), "float32")
    bits, other = function(array)[0].tobytes(), function(2 * array)[0].tobytes()
    seen: list[bytes] = []
    before = garbage.get_threshold()
    try:
        for _ in range(200):
            Caller(lambda: seen.append(function(2 * array)[0].tobytes()))
            garbage.set_threshold(1)  # the tuple of results is the next object that it counts (until 3.11, at once)
            result = function(array)[0]
            garbage.set_threshold(*before)
            assert result.tobytes() == bits
    finally:
        garbage.set_threshold(*before)
    garbage.collect()
    assert len(seen) == 200 and set(seen) == {other}


# ---- errors --------------------------------------------------------------------------------------------------------


def test_an_index_outside():
    rows = np.arange(15, dtype="float32").reshape(5, 3)
    (native, count), (python, _) = picking(), without_native_calls_of(picking)
    good, bad = np.array([1, 4]), np.array([1, 5])
    native(rows, good)
    for turn in range(2, 5):
        assert outcome_of_tuple(native, rows, bad) == outcome_of_tuple(python, rows, bad)
        assert outcome_of_tuple(native, rows, bad)[0] is gc.errors.ArgumentError
        assert native(rows, good)[0].tolist() == rows[good].tolist()
        assert count.value == turn
    assert entry_of(native).busy == 0 and python_frames(native, rows, good) == 0


def without_native_calls_of(build: Callable[[], tuple[gc.Function, Any]]) -> tuple[gc.Function, Any]:
    made: list[Any] = []

    def first() -> gc.Function:
        function, other = build()
        made.append(other)
        return function

    return without_native_calls(first), made[0]


def outcome_of_tuple(function: gc.Function, *arguments: Any) -> tuple[Any, ...]:
    return outcome(lambda *given: function(*given)[0], *arguments)


def test_results_that_no_memory_can_hold():
    x = gc.input("x", ())
    function = compiled([x], [x + 1, x + gc.zeros((1 << 30, 1 << 20))])
    for _ in range(3):
        with pytest.raises(MemoryError):
            function(1.0)
    assert entry_of(function).busy == 0


# ---- params and states ---------------------------------------------------------------------------------------------


def test_updates_are_seen_everywhere():
    w = gc.param("w", (3,), init=1.0)
    x = gc.input("x", (3,))
    step, value = compiled([x], [gc.sum(w)], updates={w: w + x}), compiled([], w * 1)
    ones = np.ones(3, "float32")
    for number in range(1, 6):
        assert step(ones)[0] == 3 * number
        assert value().tolist() == w.value.tolist() == [number + 1] * 3
    w.value = [10, 20, 30]
    assert value().tolist() == [10, 20, 30] and step(ones)[0] == 60
    assert value().tolist() == w.value.tolist() == [11, 21, 31]
    assert python_frames(step, ones) == python_frames(value) == 0


def test_initial_values_are_computed_at_the_first_call():
    asked: list[tuple[int, ...]] = []

    def init(shape: tuple[int, ...], dtype: str) -> np.ndarray:
        asked.append(shape)
        return np.ones(shape, dtype)

    w = gc.param("w", (3,), init=init)
    function = compiled([], w * 2)
    assert not asked
    assert [function().tolist() for _ in range(2)] == [[2, 2, 2]] * 2 and asked == [(3,)]


# ---- the process ---------------------------------------------------------------------------------------------------


def long_step() -> tuple[gc.Function, Any, np.ndarray]:
    """A step of some tenths of a second, which counts."""
    x = gc.input("x", (700, 900))
    count = gc.state("count", (), init=0.0)
    deep = x
    for _ in range(40):
        deep = gc.sin(gc.stop_gradient(deep)) + gc.exp(-gc.reshape(deep, (700, 900)) * 0.5)
    return compiled([x], [gc.sum(deep)], updates={count: count + 1}), count, np.ones((700, 900), "float32")


def wait_until_busy(function: gc.Function) -> None:
    deadline = time.monotonic() + 60
    while not entry_of(function).busy:
        assert time.monotonic() < deadline
        time.sleep(0.001)  # the other thread has to get as far as its call


def test_an_interrupt_during_a_long_step():
    """It comes when the step is over; the step is done, once."""
    step, count, array = long_step()
    expected = float(step(array)[0])
    assert entry_of(step).releases_lock

    def interrupt() -> None:
        wait_until_busy(step)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        for turn in range(2, 4):
            thread = threading.Thread(target=interrupt)
            thread.start()
            with pytest.raises(KeyboardInterrupt):
                step(array)
                thread.join()  # were the step over before the signal, then here
            thread.join()
            assert count.value == turn
    finally:
        signal.signal(signal.SIGINT, before)
    assert entry_of(step).busy == 0 and float(step(array)[0]) == expected


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("while_busy", [False, True])
def test_fork(while_busy):
    step, count, array = long_step()
    expected = float(step(array)[0])
    thread = threading.Thread(target=step, args=(array,))
    if while_busy:
        thread.start()
        wait_until_busy(step)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            right = float(step(array)[0]) == expected and entry_of(step).busy == 0
            status = 0 if right and python_frames(step, array) == 0 else 2
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    if while_busy:
        thread.join()
    assert float(step(array)[0]) == expected and count.value == 2 + while_busy


def test_a_call_when_modules_are_gone():
    """Objects that outlive the modules at exit may still call functions."""
    code = """
import builtins, ctypes, sys
import numpy as np
from tests.backends.llvm.calling import layers

class Last:
    def __init__(self):
        self.function, self.array = layers(), np.ones((8, 16), "float32")
        self.bits = self.function(self.array)[0].tobytes()
    def __del__(self, write=sys.stdout.write, flush=sys.stdout.flush):
        for _ in range(1000):
            right = self.function(self.array)[0].tobytes() == self.bits
        write("right" if right else "wrong")
        flush()

builtins.last = Last()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "right", "")


def test_the_process_ends_during_a_call():
    """A thread whose call outlives the interpreter ends where it would take the lock again."""
    code = """
import threading
from tests.backends.llvm.test_fastcall_process import long_step, wait_until_busy
step, _, array = long_step()
step(array)
threading.Thread(target=lambda: [step(array) for _ in range(100)], daemon=True).start()
wait_until_busy(step)
print("ends")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ends\n", "")

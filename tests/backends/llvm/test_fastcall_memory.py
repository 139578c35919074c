"""Memory and native calls: what a call allocates, what it leaves behind, and when all of it is given back."""

from __future__ import annotations

import contextlib
import ctypes
import gc as garbage
import platform
import resource
import sys
import tracemalloc
import weakref

import numpy as np
import pytest

import graphc as gc
from graphc_llvm import fastcall
from graphc_llvm.jit import compile_object, object_symbols
from graphc_llvm.parallel import PARALLEL_FOR
from graphc_llvm.target import host_target
from tests.backends.llvm.calling import compiled, layers, needs_native_calls, picking, training_step

pytestmark = needs_native_calls


def test_a_call_allocates_its_results_alone():
    """In Python, of which tracemalloc tells; the program's own code calls nothing that could allocate."""
    step, arrays = training_step()
    step(*arrays)
    tracemalloc.start()
    try:
        first = step(*arrays)
        held = []
        for _ in range(5):
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            result = step(*arrays)
            after, peak = tracemalloc.get_traced_memory()
            held.append((after - before, peak - before))
            del result
    finally:
        tracemalloc.stop()
    new = sys.getsizeof(first) + sys.getsizeof(first[0]) + 64  # the tuple and the array, with their headers
    assert all(0 <= grown <= peak <= new for grown, peak in held), held
    assert held[-1][0] <= sys.getsizeof(first) + 64  # by now the array is one of before
    text = step.source("llvm")
    assert set(object_symbols(compile_object(text, host_target()))[1]) <= {PARALLEL_FOR}


def test_a_call_takes_nothing_from_the_c_library():
    class Usage(ctypes.Structure):  # struct mallinfo2 of malloc.h: ten size_t
        _fields_ = tuple(
            (name, ctypes.c_size_t)
            for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
        )

    usage = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if usage is None:
        pytest.skip("needs glibc's mallinfo2")  # no other C library says how much it has given
    usage.restype = Usage
    step, arrays = training_step()
    images = gc.input("images", (64, 64))
    large = compiled([images], gc.exp(images) @ images)
    image = np.ones((64, 64), "float32")
    for _ in range(3):
        step(*arrays), large(image)
    before = usage()
    for _ in range(100):
        step(*arrays), large(image)
    after = usage()
    assert (after.uordblks + after.hblkhd) - (before.uordblks + before.hblkhd) <= 0


def test_nothing_leaks():
    """References, and memory: after 10^5 native calls, 10^4 through Python, 10^4 that raise."""
    function = layers()
    array, wide = np.ones((8, 16), "float32"), np.ones((8, 16), "float64").tolist()
    counted = [array, None, True, float, np.ndarray, np.dtype("float32"), np.dtype("uint8")]

    def work(native: int, others: int) -> None:
        for _ in range(native):
            function(array)
        for _ in range(others):
            function(wide)
            with contextlib.suppress(gc.errors.ArgumentError):
                function(array, array)
            watch = weakref.ref(function(array)[0])  # for which the next call gives that array up
            function(array)
            assert watch() is None

    work(100, 100)
    before, resident = [sys.getrefcount(thing) for thing in counted], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    work(100_000, 10_000)
    after = [sys.getrefcount(thing) for thing in counted]
    assert all(abs(one - other) < 50 for one, other in zip(before, after, strict=True)), (before, after)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resident
    assert grown < 4096 * (1 if platform.system() == "Linux" else 1024)  # KiB on Linux, bytes on macOS


def test_errors_leak_nothing():
    """Results that were there before the error came are given back."""
    pick, _ = picking()
    rows, bad = np.ones((5, 3), "float32"), np.array([1, 9])
    x = gc.input("x", ())
    too_large = compiled([x], [x + 1, x + gc.zeros((1 << 30, 1 << 20))])

    def fail(times: int) -> int:
        for _ in range(times):
            with pytest.raises(gc.errors.ArgumentError):
                pick(rows, bad)
            with pytest.raises(MemoryError):
                too_large(1.0)
        garbage.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = fail(20)
        assert fail(200) - before < 200 * 16
    finally:
        tracemalloc.stop()


def test_a_dropped_function_is_gone_at_once():
    function, arrays = training_step()
    function(*arrays)
    function([list(row) for row in arrays[0]], arrays[1])  # through Python, as well
    result = function(*arrays)
    executable = function.specialised().executable
    native = executable._native
    watched = [weakref.ref(thing) for thing in (function, executable, executable._fast_entry, native, native.image)]
    del native
    del executable
    garbage.disable()
    try:
        del function
        assert [reference() for reference in watched] == [None] * len(watched)
    finally:
        garbage.enable()
    assert result[0].shape == ()


def test_a_function_keeps_the_code_that_calls_it(monkeypatch):
    """Modules may be gone before it: not they own the native function."""
    monkeypatch.setattr(fastcall, "_definitions", [])
    function, arrays = training_step()
    watch = weakref.ref(fastcall._definitions.pop())
    garbage.collect()
    assert watch() is not None and np.isfinite(function(*arrays)[0])
    del function
    assert watch() is None


def test_what_it_hands_on_lives_alone():
    """`partial` lets its function be taken out: that keeps all it needs."""
    function, arrays = training_step()
    step = function.func
    del function
    garbage.collect()
    for _ in range(3):
        assert np.isfinite(step(*arrays)[0])
    with pytest.raises(gc.errors.ArgumentError):
        step(arrays[0])

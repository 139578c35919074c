"""Results of native calls: arrays of before are returned again when nobody can tell, and only then."""

from __future__ import annotations

import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc_llvm import fastcall_entry, fastcall_layout
from graphc_llvm.fastcall_entry import SLOTS
from tests.backends.llvm.calling import compiled, entry_of, needs_native_calls, python_frames

pytestmark = needs_native_calls


@pytest.fixture(params=[(6,), (), (40, 50)], ids=["small", "scalar", "aligned"])
def shape(request: pytest.FixtureRequest) -> tuple[int, ...]:
    return request.param


@pytest.fixture
def filled(shape: tuple[int, ...]) -> Iterator[Callable[[float], np.ndarray]]:
    """A native function of a number that gives an array full of it."""
    x = gc.input("x", ())
    function = compiled([x], x + gc.zeros(shape))
    function(0.0)
    assert python_frames(function, 0.0) == 0
    yield function
    for number in range(2 * SLOTS):  # whatever a test did to a result, later ones are as they must be
        result = function(float(number))
        assert type(result) is np.ndarray and result.dtype is np.dtype("float32") and result.shape == shape
        assert result.base is None or isinstance(result.base, np.ndarray)
        assert result.flags.c_contiguous and result.flags.writeable and np.all(result == number)


def test_held_results_stay(filled):
    held = [filled(float(number)) for number in range(20)]
    assert all(np.all(array == number) for number, array in enumerate(held))


def test_large_results_start_at_a_cache_line(filled, shape):
    held = [filled(1.0) for _ in range(5)]
    assert len(shape) < 2 or all(array.ctypes.data % 64 == 0 for array in held)


def test_a_dropped_result_is_returned_again(filled):
    first = filled(1.0)
    mark = id(first)
    del first
    assert mark in [id(filled(2.0)) for _ in range(SLOTS)]


VIEWS: dict[str, Callable[[np.ndarray], Any]] = {
    "view": lambda a: a[...],
    "transposed": lambda a: a.T,
    "other dtype": lambda a: a.reshape(-1).view("int32").view("float32"),
    "memoryview": memoryview,
    "base": lambda a: (a if a.base is None else a.base).view("float32"),
    "flat": lambda a: a.flat,
    "through a buffer": lambda a: np.frombuffer(a, dtype="float32"),
    "interface": lambda a: np.asarray(type("Holder", (), {"__array_interface__": a.__array_interface__, "a": a})()),
    "weak reference": weakref.ref,
}


@pytest.mark.parametrize("kind", VIEWS)
def test_what_sees_a_result_keeps_it(filled, kind):
    seen = [VIEWS[kind](filled(7.0)) for _ in range(3)]
    for number in range(10):
        filled(float(number))
    for view in seen:
        if kind == "weak reference":
            assert view() is None or np.all(view() == 7)
        elif kind == "base":
            assert np.count_nonzero(np.asarray(view) == 7) >= filled(0.0).size
        else:
            assert np.all(np.asarray(view) == 7)


def test_a_weak_reference_dies(filled):
    died: list[int] = []
    references = [weakref.ref(filled(1.0), lambda _, n=n: died.append(n)) for n in range(3)]
    result = None
    for _ in range(2 * SLOTS):
        result = filled(2.0)  # held during the next call, which so looks at all slots
    assert result is not None and died == [0, 1, 2] and not any(reference() is not None for reference in references)


def resize(array: np.ndarray) -> None:
    if array.base is None:
        array.resize(array.size * 1000, refcheck=False)


# Bytes that, read as an array's fields, would say that it owns its data and has no weak references.
LIKE_AN_ARRAY = (b"\4" + bytes(15)) * 1000

CHANGES: dict[str, Callable[[np.ndarray], Any]] = {
    "read-only": lambda a: a.setflags(write=False),
    "reshaped": lambda a: setattr(a, "shape", (*a.shape[::-1], 1)),
    "resized": resize,
    "other dtype": lambda a: setattr(a, "dtype", "int32"),
    "a dtype with metadata": lambda a: setattr(a, "dtype", np.dtype("float32", metadata={"unit": "m"})),
    "other byte order": lambda a: setattr(a, "dtype", ">f4"),
    "other strides": lambda a: a.ndim and setattr(a, "strides", (0,) * a.ndim),
    "other memory": lambda a: a.__setstate__((1, a.shape, a.dtype, False, LIKE_AN_ARRAY[: a.nbytes])),
    "overwritten": lambda a: a.fill(99),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # NumPy means to take some of these away
@pytest.mark.parametrize("kind", CHANGES)
def test_changed_results(filled, kind):
    for _ in range(3):
        CHANGES[kind](filled(3.0))


def test_several_results_and_their_order():
    x = gc.input("x", (5,))
    function = compiled([x], [x + number for number in range(4)])
    for start in range(6):
        results = function(np.full(5, start, "float32"))
        assert type(results) is tuple
        assert [float(result[0]) for result in results] == [start + number for number in range(4)]


def test_an_output_twice():
    x = gc.input("x", (2, 3))
    y = x * 2
    function = compiled([x], [y, gc.reshape(y, (3, 2)), y])
    for _ in range(3):
        one, two, three = function(np.ones((2, 3), "float32"))
        assert one.shape == three.shape == (2, 3) and two.shape == (3, 2)
        assert all(np.all(each == 2) for each in (one, two, three))


def test_no_more_than_so_much_is_kept(monkeypatch):
    monkeypatch.setattr(fastcall_entry, "KEPT_BYTES", 50_000)
    x = gc.input("x", (4096,))
    function = compiled([x], [x + number for number in range(3)])
    ones = np.ones(4096, "float32")
    marks = []
    for _ in range(10):
        results = function(ones)
        marks.append([id(result) for result in results])
        assert [float(result[0]) for result in results] == [1, 2, 3]
        del results
    records = (fastcall_layout.ResultRecord * 3).from_address(entry_of(function).results)
    assert [record.slot_count for record in records] == [1, 1, 1]


def test_two_arrays_take_turns():
    """Who holds a result until the next one comes gets arrays of before; who holds many, new ones, once each."""
    x, array = gc.input("x", (64, 64)), np.ones((64, 64), "float32")
    function = compiled([x], x + 1)
    for _ in range(3):
        result = function(array)
    tracemalloc.start()
    try:
        for _ in range(10):
            result = function(array)
        assert tracemalloc.get_traced_memory()[1] < 200
        held = [function(array) for _ in range(10)]
        many, _ = tracemalloc.get_traced_memory()
        for _ in range(100):
            held = [*held[1:], function(array)]
        assert tracemalloc.get_traced_memory()[0] < many + 2 * result.nbytes
    finally:
        tracemalloc.stop()

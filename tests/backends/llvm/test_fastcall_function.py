"""The function around its native calls: several sizes, other uses of it, and interpreters that get none."""

from __future__ import annotations

import copy
import functools
import inspect
import pickle
import sys

import numpy as np
import pytest

import graphc as gc
from graphc_llvm import fastcall_layout
from graphc_llvm.fastcall_code import fast_call_text
from graphc_llvm.fastcall_layout import MOST_ENTRIES
from graphc_llvm.jit import compile_object, object_symbols
from graphc_llvm.target import host_target
from tests.backends.llvm.calling import Pair, compiled, needs_native_calls, python_frames

pytestmark = needs_native_calls
SHAPE = (3, 4)
GOOD = np.arange(12, dtype=np.float32).reshape(SHAPE) / 7


@pytest.fixture
def function() -> gc.Function:
    """3 * x + 1, called once."""
    x = gc.input("x", SHAPE)
    made = compiled([x], 3 * x + 1, name="f")
    made(GOOD)
    return made


def test_sizes_take_turns():
    x = gc.input("x", ("N", "M"))
    function = compiled([x], 2 * x + gc.sum(x))
    shapes = [(n, 3) for n in range(1, MOST_ENTRIES + 5)]
    for _ in range(3):
        for shape in shapes:
            array = np.ones(shape, "float32")
            assert np.all(function(array) == 2 + array.size)
    assert all(python_frames(function, np.ones(shape, "float32")) == 0 for shape in shapes[-MOST_ENTRIES:])
    forgotten = np.ones(shapes[0], "float32")
    assert python_frames(function, forgotten) > 0 and python_frames(function, forgotten) == 0


def test_a_size_is_tried_once():
    """Calls that Python converts the arguments of do not crowd out other sizes."""
    x = gc.input("x", ("N",))
    function = compiled([x], 2 * x)
    function(np.ones(2, "float32"))
    for _ in range(2 * MOST_ENTRIES):
        function([1.0, 2.0, 3.0])
    assert python_frames(function, np.ones(2, "float32")) == 0


def test_errors_behind_several_sizes():
    def build() -> gc.Function:
        x, y = gc.input("x", ("N",)), gc.input("y", ("N",))
        function = compiled([x, y], x + y, name="f")
        for size in (2, 3, 4):
            function(*np.ones((2, size), "float32"))
        return function

    pair = Pair(build)
    assert pair.agree(np.ones(3, "float32"), np.ones(4, "float32"))[0] is gc.errors.ArgumentError
    assert pair.agree(np.ones(4, "float32"), [1, 2, 3, 4])[0] is np.ndarray
    assert pair.agree("text", np.ones(4, "float32"))[0] is gc.errors.ArgumentTypeError


def test_it_is_still_a_function(function):
    assert isinstance(function, gc.Function) and callable(function)
    assert repr(function) == "<Function f(x: float32(3, 4)) on llvm>"
    assert "Called with one array for each declared input" in (gc.Function.__doc__ or "")
    assert str(inspect.signature(function)) == "(*arguments)"
    assert next(iter(inspect.signature(gc.Function).parameters)) == "inputs"
    assert function.inputs[0].name == "x" and function.name == "f" and function.backend == "llvm"
    assert copy.copy(function) is function and copy.deepcopy([function])[0] is function
    with pytest.raises(TypeError, match="f: a compiled function cannot be pickled"):
        pickle.dumps(function)


def test_functions_of_functions(function):
    partial = functools.partial(function, GOOD)
    assert np.array_equal(partial(), 3 * GOOD + 1)
    assert [each.shape for each in map(function, [GOOD] * 3)] == [SHAPE] * 3
    assert {function: 1}[function] == 1 and function == function


def test_the_code_is_the_same_in_every_process():
    """It may be kept on disk: what differs from one process to the next is named, and bound when it is loaded."""
    target = host_target()
    text = fast_call_text(target)
    assert text == fast_call_text(target)
    exported, undefined = object_symbols(compile_object(text, target))
    assert exported == [fastcall_layout.CALL] and set(undefined) <= set(fastcall_layout.symbols())
    assert all(str(address) not in text for address in fastcall_layout.symbols().values())


# ---- where native calls are not possible ---------------------------------------------------------------------------


OFFSETS = sorted(
    name for name in vars(fastcall_layout)
    if name.isupper() and isinstance(getattr(fastcall_layout, name), int)
    and name.startswith(("ARRAY_", "DTYPE_", "TUPLE_", "LIST_", "VALUE", "TYPE", "REFERENCES"))
)


@pytest.mark.parametrize("name", OFFSETS)
def test_an_unknown_layout_is_noticed(name, monkeypatch):
    monkeypatch.setattr(fastcall_layout, name, getattr(fastcall_layout, name) + 4)
    assert not fastcall_layout.as_expected.__wrapped__()


def test_other_interpreters_are_noticed(monkeypatch):
    assert fastcall_layout.as_expected.__wrapped__()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
        assert not fastcall_layout.as_expected.__wrapped__()
    with monkeypatch.context() as patch:
        patch.setattr(sys.implementation, "name", "pypy")
        assert not fastcall_layout.as_expected.__wrapped__()
    with monkeypatch.context() as patch:
        patch.setattr(fastcall_layout, "_is_main_interpreter", lambda: False)
        assert not fastcall_layout.as_expected.__wrapped__()
    with monkeypatch.context() as patch:
        patch.setattr(fastcall_layout, "_PYTHON_FUNCTIONS", ("PyObject_Vectorcall", "PyNo_SuchThing"))
        assert not fastcall_layout.as_expected.__wrapped__()


def test_without_a_known_layout_python_calls(monkeypatch):
    monkeypatch.setattr(fastcall_layout, "as_expected", lambda: False)
    monkeypatch.setattr("graphc_llvm.as_expected", lambda: False)
    x = gc.input("x", ("N",))
    function = compiled([x], [2 * x, gc.sum(x)])
    for size in (3, 4, 3):
        doubled, total = function(np.ones(size, "float32"))
        assert doubled.tolist() == [2] * size and total == size
    assert python_frames(function, np.ones(3, "float32")) > 0

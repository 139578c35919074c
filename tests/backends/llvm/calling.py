"""What the tests of native calls share: functions to call, and what can be told of a call."""

from __future__ import annotations

import gc as garbage
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc_llvm import LlvmBackend, fastcall_layout

THREADS = 8
needs_native_calls = pytest.mark.skipif(
    not fastcall_layout.as_expected(), reason="this interpreter gets no native calls"
)


def compiled(*args: Any, **options: Any) -> gc.Function:
    return gc.compile(*args, threads=1, backend="llvm", **options)


def without_native_calls(build: Callable[[], gc.Function]) -> gc.Function:
    """The function that `build` makes, all of whose calls go through Python."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LlvmBackend, "fast_calls", lambda self: None)
        function = build()
    return function


def python_frames(function: Callable[..., Any], *arguments: Any) -> int:
    """How many Python functions a call runs: none when it is native."""
    count = 0

    def note(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event == "call"

    was_enabled = garbage.isenabled()
    garbage.disable()  # a collection in the middle of the call would run weak references' callbacks
    sys.setprofile(note)
    try:
        function(*arguments)
    finally:
        sys.setprofile(None)
        if was_enabled:
            garbage.enable()
    return count


def outcome(function: gc.Function, *arguments: Any, **named: Any) -> tuple[Any, ...]:
    """All that a caller can tell of a call: the array or the error, and the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = function(*arguments, **named)
            said: tuple[Any, ...] = (type(result), result.dtype, result.shape, result.strides, result.tobytes())
        except Exception as error:
            said = (type(error), str(error))
    return (*said, [(one.category, str(one.message), one.filename == __file__) for one in caught])


class Pair:
    """One function twice: with native calls, and without."""

    def __init__(self, build: Callable[[], gc.Function]) -> None:
        self.native, self.python = build(), without_native_calls(build)

    def agree(self, *arguments: Any, **named: Any) -> tuple[Any, ...]:
        here, there = (outcome(function, *arguments, **named) for function in (self.native, self.python))
        assert here == there
        return here


def in_threads(work: Callable[[int], None]) -> None:
    """Call `work(0)` to `work(THREADS - 1)` at the same time; an error in one is raised here."""
    errors: list[BaseException] = []
    ready = threading.Barrier(THREADS)

    def run(number: int) -> None:
        ready.wait()
        try:
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def entry_of(function: gc.Function) -> fastcall_layout.EntryRecord:
    entry = function.specialised().executable._fast_entry
    assert entry is not None
    return entry.record


def layers(size: int = 16) -> gc.Function:
    """Two dense layers with two outputs, one of them a scalar."""
    rng = np.random.default_rng(0)
    x = gc.input("x", (8, size))
    v, w = (gc.param(name, (size, size), init=rng.standard_normal((size, size))) for name in "vw")
    y = gc.tanh(gc.tanh(x @ v) @ w)
    return compiled([x], [y, gc.sum(y * y)])


def training_step() -> tuple[gc.Function, list[np.ndarray]]:
    x, t = gc.input("x", (32, 20)), gc.input("t", (32,), dtype="int64")
    model = gc.nn.Sequential(gc.nn.Linear(20, 30), gc.nn.ReLU(), gc.nn.Linear(30, 5))
    loss = gc.nn.cross_entropy(model(x), t)
    updates = gc.optim.Adam(lr=1e-3).updates(loss, model.parameters())
    rng = np.random.default_rng(3)
    arrays = [rng.standard_normal((32, 20)).astype("float32"), rng.integers(0, 5, 32)]
    return compiled([x, t], [loss], updates=updates), arrays


def picking() -> tuple[gc.Function, Any]:
    """A step that takes rows by number, and counts."""
    x, n = gc.input("x", (5, 3)), gc.input("n", (2,), dtype="int64")
    count = gc.state("count", (), init=0.0)
    return compiled([x, n], [gc.take(x, n, axis=0)], updates={count: count + 1}, name="pick"), count

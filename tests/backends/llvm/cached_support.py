"""What the tests of programs in the disk cache share: a cache for one test, and programs to keep in it."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc.cache import Cache
from graphc_llvm import cached
from graphc_llvm.executable import Native


class Disk(Cache):
    """A cache for one test, and how many programs were compiled beside it."""

    compiled = 0


@functools.cache
def _load_what_processes_share() -> None:
    """Such as the thread pool: it should not go into a test's cache."""
    x = gc.input("x")
    gc.compile([x], x, threads=2)(np.zeros((), dtype="float32"))


def use_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    """A new cache, which programs use until the test ends."""
    _load_what_processes_share()
    found = Disk(str(tmp_path / "cache"), 1 << 24)
    monkeypatch.setattr(cached, "user_cache", lambda: found)
    monkeypatch.setattr(cached, "_sources", lambda: ("the sources",))  # somebody may edit a file while the tests run

    compile_ = Native._compiled

    def counted(self: Native) -> cached.Code:
        found.compiled += 1
        return compile_(self)

    monkeypatch.setattr(Native, "_compiled", counted)
    return found


def draw(shape: tuple[int, ...], dtype: str = "float32", seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    if dtype.startswith("float"):
        return generator.standard_normal(shape).astype(dtype)
    return generator.integers(0, 5, shape).astype(dtype)


# --- Programs: each gives a new function of equal meaning, and arguments for it ---------------------------------------

Case = tuple[gc.Function, list[np.ndarray], list[gc.Variable]]
"""A function, arguments for it, and the params that it reads or writes."""


def product(threads: int | None = 1, seed: int = 0, **options: Any) -> Case:
    x, b = gc.input("x", (33, 20)), gc.input("b", (17,))
    w = gc.param("w", (20, 17), init=gc.init.he_normal(seed=seed))
    return gc.compile([x, b], gc.relu(x @ w + b), threads=threads, **options), [draw((33, 20)), draw((17,))], [w]


def convolution() -> Case:
    x, w = gc.input("x", (2, 64, 12, 12)), gc.input("w", (64, 64, 3, 3))
    f = gc.compile([x, w], gc.max_pool2d(gc.conv2d(x, w, padding=1), 2), threads=2)
    return f, [draw((2, 64, 12, 12)), draw((64, 64, 3, 3), seed=1)], []


def training_step() -> Case:
    x, t = gc.input("x", (8, 12)), gc.input("t", (8,), dtype="int64")
    model = gc.nn.Sequential(gc.nn.Linear(12, 9, seed=1), gc.nn.ReLU(), gc.nn.Linear(9, 5, seed=2))
    loss = gc.nn.cross_entropy(model(x), t)
    updates = gc.optim.Adam(lr=0.01).updates(loss, model.parameters())
    f = gc.compile([x, t], loss, updates=updates, threads=2)
    return f, [draw((8, 12)), draw((8,), "int64")], list(updates)


def many_dtypes() -> Case:
    x, n = gc.input("x", (50,), dtype="float64"), gc.input("n", (50,), dtype="int32")
    outputs = [gc.exp(x) / 3, n * 2 - 7, x > 0.1, gc.argmax(x), gc.where(x > 0, x, np.nan), gc.minimum(x, -0.0)]
    return gc.compile([x, n], outputs, threads=1), [draw((50,), "float64"), draw((50,), "int32")], []


def constants() -> Case:
    x = gc.input("x", (6, 7))
    table = np.linspace(-1, 1, 42, dtype="float32").reshape(6, 7)
    return gc.compile([x], [gc.cumsum(x * table, axis=1), x @ table.T], threads=1), [draw((6, 7))], []


def gather() -> Case:
    x, i = gc.input("x", (5, 4)), gc.input("i", (9,), dtype="int64")
    taken = gc.take(gc.sin(x), i, axis=0)
    outputs = [taken, gc.grad(gc.sum(taken * taken), x)]
    return gc.compile([x, i], outputs, threads=1), [draw((5, 4)), draw((9,), "int64")], []


def nothing() -> Case:
    x = gc.input("x", (0, 3))
    return gc.compile([x], [x + 1, gc.sum(x)], threads=1), [draw((0, 3))], []


PROGRAMS = [product, convolution, training_step, many_dtypes, constants, gather, nothing]


def results(case: Case, calls: int = 2) -> list[bytes]:
    """The bits of all results of so many calls, then of the params."""
    f, arguments, variables = case
    found: list[bytes] = []
    for _ in range(calls):
        returned = f(*arguments)
        found += [array.tobytes() for array in (returned if isinstance(returned, tuple) else (returned,))]
    return found + [variable.value.tobytes() for variable in variables]

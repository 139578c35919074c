"""Clocks between the lines of the generated function: whose lines they close, and that nothing else changes."""

from __future__ import annotations

import re

import numpy as np

import graphc as gc
from graphc.program import Program
from graphc_numpy import TimedProgram
from graphc_numpy.emit import emit


def program() -> Program:
    """Two kernels; a product with an update that waits for the end; another such update, for which an array is made
    before; a copy of what the first overwrites. The input has the name that the clock would have."""
    x, v, w = gc.input("clock", (64, 32)), gc.param("v", (32, 16)), gc.param("w", (32, 16), init=np.ones((32, 16)))
    z, u = gc.param("z", (16, 32)), gc.param("u", (16, 32))
    loss = gc.sum(gc.tanh(x @ w))
    scaled = u * gc.exp(z)
    return gc.compile([x], loss, updates={w: v - 0.1 * gc.grad(loss, w), v: w, u: scaled}, backend="numpy").program


def test_nothing_else_changes() -> None:
    plain, timed = emit(program())[1], emit(program(), timed=True)[1]
    assert "clock_2" not in plain
    lines = timed.replace("(clock_2, clock,", "(clock,").splitlines()
    assert [line for line in lines if not line.startswith("    clock_2(")] == plain.splitlines()


def test_each_line_counts_to_its_kernel() -> None:
    found = program()
    parts = re.split(r"clock_2\((\d)\)", emit(found, timed=True)[1].partition("def ")[2])
    assert parts[-1].split()[0] == "return"
    names = [*(kernel.name for kernel in found.kernels), "after"]
    expected = {
        "np.tanh(": "grad_tanh",
        ".sum()": "loss",
        ".T @ grad_tanh": "subtract",
        "np.subtract(v, ": "subtract",  # after the copy of what it overwrites
        "w.copy()": "w_copy",
        "np.multiply(u, ": "scaled",
        "np.empty(": "after",
        "v[...] = ": "after",
    }
    for text, kernel in expected.items():
        (number,) = (number for part, number in zip(parts[:-1:2], parts[1::2], strict=True) if text in part)
        assert names[int(number)] == kernel, text


def test_times_of_a_kernel_are_added(monkeypatch) -> None:
    """The clock is read twice at each of its calls; here each reading is one second after the one before."""
    import graphc_numpy

    now = iter(range(100))
    monkeypatch.setattr(graphc_numpy.time, "perf_counter", lambda: float(next(now)))
    found = program()
    arrays = [np.zeros(found.by_name[name].shape, np.float32) for name in found.inputs]
    seconds = TimedProgram(found).run(arrays)
    names = [*(kernel.name for kernel in found.kernels), "after"]
    expected = {"grad_tanh": 1, "loss": 1, "subtract": 2, "w_copy": 1, "scaled": 1, "after": 2}
    assert dict(zip(names, seconds, strict=True)) == expected

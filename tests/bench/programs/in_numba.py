"""Elementwise programs in Numba: loops over all processors; the derivative by hand, as Numba has none."""

from __future__ import annotations

import importlib
import math
from functools import partial
from typing import Any

import numpy as np

from tests.bench.programs.libraries import Begin, Program, computed
from tests.bench.programs.problems import Elementwise, Problem

numba: Any = importlib.import_module("numba")


def prepare(problem: Problem, threads: int) -> Begin:
    """See `libraries.Prepare`."""
    if not isinstance(problem, Elementwise):
        raise NotImplementedError(f"Numba has no program for {problem}")
    x = problem.data()

    def begin() -> Program:
        loop = _gradient if problem.gradient else _value
        return computed(partial(numba.njit(parallel=True, fastmath=True)(loop), x))

    return begin


def _value(x: Any) -> Any:
    y = np.empty_like(x)
    one = np.float32(1)
    for i in numba.prange(x.size):
        v = x[i]
        sigmoid = one / (one + math.exp(-v))
        y[i] = math.tanh(np.float32(1.5) * v + np.float32(0.5)) * sigmoid + math.exp(-v * v)
    return y


def _gradient(x: Any) -> Any:
    dx = np.empty_like(x)
    one = np.float32(1)
    for i in numba.prange(x.size):
        v = x[i]
        sigmoid = one / (one + math.exp(-v))
        tanh = math.tanh(np.float32(1.5) * v + np.float32(0.5))
        slope = np.float32(1.5) * (one - tanh * tanh) * sigmoid + tanh * sigmoid * (one - sigmoid)
        dx[i] = slope - np.float32(2) * v * math.exp(-v * v)
    return dx

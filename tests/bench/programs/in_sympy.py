"""Gradients that SymPy derives, made a Python function by its lambdify: on `math` for one point, on NumPy for many."""

from __future__ import annotations

import importlib
from functools import partial
from typing import Any

import numpy as np

from tests.bench.programs.libraries import Begin, Program, computed
from tests.bench.programs.problems import PARAMETERS, Composed, Problem

sympy: Any = importlib.import_module("sympy")


def prepare(problem: Problem, threads: int) -> Begin:
    """See `libraries.Prepare`."""
    if not isinstance(problem, Composed):
        raise NotImplementedError(f"SymPy has no program for {problem}")
    values = problem.data()

    def begin() -> Program:
        symbols = sympy.symbols(list(values))
        x, y, b0, w0, b1, w1, b2, w2, b3, w3 = symbols
        loss = (b3 + w3 * sympy.cos(b2 + w2 * sympy.exp(b1 + w1 * sympy.sin(b0 + w0 * x))) - y) ** 2
        named = dict(zip(values, symbols, strict=True))
        gradients = [loss.diff(named[name]) for name in PARAMETERS]
        if problem.points is None:
            function = sympy.lambdify(symbols, gradients, modules="math", cse=True)
            return computed(partial(function, *map(float, values.values())))
        terms = sympy.lambdify(symbols, gradients, modules="numpy", cse=True)
        return computed(lambda: [np.sum(term) for term in terms(*values.values())])

    return begin

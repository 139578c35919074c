"""Scalar gradients in CasADi, which interprets them in double precision."""

from __future__ import annotations

import importlib
from functools import partial
from typing import Any

import numpy as np

from tests.bench.programs.libraries import Begin, Program
from tests.bench.programs.problems import PARAMETERS, Composed, Problem

casadi: Any = importlib.import_module("casadi")


def prepare(problem: Problem, threads: int) -> Begin:
    """See `libraries.Prepare`."""
    if not isinstance(problem, Composed) or problem.points is not None:
        raise NotImplementedError(f"CasADi has no program for {problem}")
    values = {name: float(value) for name, value in problem.data().items()}

    def begin() -> Program:
        leaves = {name: casadi.SX.sym(name) for name in values}
        x, y, b0, w0, b1, w1, b2, w2, b3, w3 = leaves.values()
        loss = (b3 + w3 * casadi.cos(b2 + w2 * casadi.exp(b1 + w1 * casadi.sin(b0 + w0 * x))) - y) ** 2
        parameters = [leaves[name] for name in PARAMETERS]
        gradients = casadi.vertsplit(casadi.gradient(loss, casadi.vertcat(*parameters)))
        call = partial(casadi.Function("gradients", list(leaves.values()), gradients), *values.values())
        return Program(call, lambda: [np.array(float(value)) for value in call()])

    return begin

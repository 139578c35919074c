"""A training step and scalar gradients in PyTensor.

Functions of arrays are compiled by Numba, the default from PyTensor 3 on, because a PyTensor that pip installed finds
no BLAS for its C code; the scalar function is C, which is faster there. Arguments are arrays of the right type, and
PyTensor is told to trust that (`trust_input`), as its documentation advises for small functions.
"""

from __future__ import annotations

import importlib
import warnings
from functools import partial
from typing import Any

import numpy as np

from tests.bench.programs.libraries import Begin, Program, computed, trained
from tests.bench.programs.problems import PARAMETERS, Composed, Linear, Network, Problem, Training

# Several lines about what the text above says, at each start.
warnings.filterwarnings("ignore", message="PyTensor could not link to a BLAS")
pytensor: Any = importlib.import_module("pytensor")
pt: Any = importlib.import_module("pytensor.tensor")


def prepare(problem: Problem, threads: int) -> Begin:
    """See `libraries.Prepare`."""
    match problem:
        case Composed(points=None):
            return _composed(problem)
        case Training(optimiser="sgd", momentum=0.0):
            return _training(problem)
        case _:
            raise NotImplementedError(f"PyTensor has no program for {problem}")


def _composed(problem: Composed) -> Begin:
    if not pytensor.config.cxx:
        raise RuntimeError("PyTensor found no C++ compiler")
    values = problem.data()

    def begin() -> Program:
        leaves = {name: pt.scalar(name, dtype="float32") for name in values}
        x, y, b0, w0, b1, w1, b2, w2, b3, w3 = leaves.values()
        loss = (b3 + w3 * pt.cos(b2 + w2 * pt.exp(b1 + w1 * pt.sin(b0 + w0 * x))) - y) ** 2
        gradients = pytensor.grad(loss, [leaves[name] for name in PARAMETERS])
        function = pytensor.function(list(leaves.values()), gradients, mode="CVM")
        function.trust_input = True
        return computed(partial(function, *values.values()))

    return begin


def _training(problem: Training) -> Begin:
    batches = problem.batches()
    weights = [tuple(map(pytensor.shared, (weight.T.copy(), bias))) for weight, bias in problem.network.weights()]

    def begin() -> Program:
        x = pt.matrix("x", dtype="float32", shape=(problem.batch, *problem.network.shape))
        classes = pt.vector("classes", dtype="int64", shape=(problem.batch,))
        logits = _outputs(problem.network, weights, x)
        loss = -pt.mean(pt.special.log_softmax(logits, axis=1)[pt.arange(problem.batch), classes])
        parameters = [parameter for pair in weights for parameter in pair]
        rate = np.float32(problem.rate)
        updates = [(p, p - rate * g) for p, g in zip(parameters, pytensor.grad(loss, parameters), strict=True)]
        step = pytensor.function([x, classes], loss, updates=updates, mode="NUMBA")
        step.trust_input = True
        return trained(lambda number: step(*batches[number]))

    return begin


def _outputs(network: Network, weights: Any, x: Any) -> Any:
    pairs = iter(weights)
    for stage in network.stages:
        if isinstance(stage, Linear):
            weight, bias = next(pairs)
            x = x @ weight + bias
        elif stage == "relu":
            x = pt.maximum(x, 0)
        else:
            raise NotImplementedError(f"PyTensor has no program for {stage}")
    return x

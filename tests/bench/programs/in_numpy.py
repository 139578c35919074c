"""The training step of a dense network by hand in NumPy: no array that is not needed, results in place."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.bench.programs.libraries import Begin, Program, trained
from tests.bench.programs.problems import Array, Problem, Training


def prepare(problem: Problem, threads: int) -> Begin:
    """See `libraries.Prepare`. Its threads: see tests.bench.environment."""
    if not isinstance(problem, Training) or len(problem.network.shape) != 1 or problem.optimiser != "sgd":
        raise NotImplementedError(f"NumPy has no program for {problem}")
    batches = problem.batches()
    weights = [(weight.T.copy(), bias) for weight, bias in problem.network.weights()]

    def begin() -> Program:
        return trained(lambda number: _step(problem.rate, weights, *batches[number]))

    return begin


def _step(rate: float, weights: list[tuple[Array, Array]], x: Array, classes: Array) -> Any:
    """One step of gradient descent for Linear, ReLU, ..., Linear, softmax; the loss before it."""
    activations = [x]
    for number, (weight, bias) in enumerate(weights):
        z = activations[-1] @ weight
        z += bias
        if number < len(weights) - 1:
            np.maximum(z, 0, out=z)
        activations.append(z)
    logits = activations.pop()
    rows = np.arange(len(logits))
    logits -= logits.max(axis=1, keepdims=True)
    chosen = logits[rows, classes]
    d = np.exp(logits, out=logits)
    sums = d.sum(axis=1, keepdims=True)
    loss = (np.log(sums[:, 0]) - chosen).mean()
    d /= sums
    d[rows, classes] -= 1
    d /= len(d)
    for (weight, bias), h in zip(reversed(weights), reversed(activations), strict=True):
        d_weight, d_bias = h.T @ d, d.sum(axis=0)
        if h is not x:
            d = d @ weight.T
            d *= h > 0
        d_weight *= rate
        d_bias *= rate
        weight -= d_weight
        bias -= d_bias
    return loss

"""The programs in graphc."""

from __future__ import annotations

from functools import partial

import graphc as gc
from tests.bench.programs.libraries import Begin, Program, computed, trained
from tests.bench.programs.problems import (
    PARAMETERS,
    Composed,
    Conv,
    Elementwise,
    Inference,
    Linear,
    Network,
    NormLoss,
    Problem,
    Training,
)


def prepare(problem: Problem, threads: int, backend: str = "llvm") -> Begin:
    """See `libraries.Prepare`."""
    compiled = partial(gc.compile, backend=backend, threads=threads)
    match problem:
        case Inference():
            return _inference(problem, compiled)
        case Training():
            return _training(problem, compiled)
        case Elementwise():
            return _elementwise(problem, compiled)
        case Composed():
            return _composed(problem, compiled)
        case NormLoss():
            return _norm_loss(problem, compiled)


def prepare_numpy(problem: Problem, threads: int) -> Begin:
    """The same on the backend that generates NumPy code."""
    return prepare(problem, threads, "numpy")


def model_of(network: Network) -> gc.nn.Sequential:
    """The network with its weights."""
    layers: list[gc.nn.Module] = []
    for stage in network.stages:
        match stage:
            case Linear():
                layers.append(gc.nn.Linear(stage.inputs, stage.outputs))
            case Conv():
                layers.append(gc.nn.Conv2d(stage.inputs, stage.outputs, stage.kernel, padding=stage.padding))
            case "relu":
                layers.append(gc.nn.ReLU())
            case "pool":
                layers.append(gc.nn.MaxPool2d(2))
            case "flatten":
                layers.append(gc.nn.Flatten())
    model = gc.nn.Sequential(*layers)
    values = (array for pair in network.weights() for array in pair)
    for parameter, value in zip(model.parameters(), values, strict=True):
        parameter.value = value
    return model


def loss_of(model: gc.nn.Sequential, problem: Training) -> tuple[list[gc.Tensor], gc.Tensor]:
    """([inputs, classes], the mean cross-entropy)"""
    x = gc.input("x", (problem.batch, *problem.network.shape))
    t = gc.input("t", (problem.batch,), dtype="int64")
    return [x, t], gc.nn.cross_entropy(model(x), t)


def _inference(problem: Inference, compiled: partial[gc.Function]) -> Begin:
    model, data = model_of(problem.network), problem.data()

    def begin() -> Program:
        x = gc.input("x", data.shape)
        return computed(partial(compiled([x], model(x)), data))

    return begin


def _training(problem: Training, compiled: partial[gc.Function]) -> Begin:
    model, batches = model_of(problem.network), problem.batches()

    def begin() -> Program:
        optimiser = (
            gc.optim.Adam(problem.rate)
            if problem.optimiser == "adam"
            else gc.optim.SGD(problem.rate, problem.momentum)
        )
        inputs, loss = loss_of(model, problem)
        step = compiled(inputs, loss, optimiser.updates(loss, model.parameters()))
        return trained(lambda number: step(*batches[number]))

    return begin


def _elementwise(problem: Elementwise, compiled: partial[gc.Function]) -> Begin:
    data = problem.data()

    def begin() -> Program:
        x = gc.input("x", data.shape)
        y = gc.tanh(1.5 * x + 0.5) * gc.sigmoid(x) + gc.exp(-(x**2))
        return computed(partial(compiled([x], gc.grad(gc.sum(y), x) if problem.gradient else y), data))

    return begin


def _composed(problem: Composed, compiled: partial[gc.Function]) -> Begin:
    data = problem.data()

    def begin() -> Program:
        leaves = {name: gc.input(name, value.shape) for name, value in data.items()}
        x, y, b0, w0, b1, w1, b2, w2, b3, w3 = leaves.values()
        f = b3 + w3 * gc.cos(b2 + w2 * gc.exp(b1 + w1 * gc.sin(b0 + w0 * x)))
        gradients = gc.grad(gc.sum((f - y) ** 2), [leaves[name] for name in PARAMETERS])
        return computed(partial(compiled(list(leaves.values()), gradients), *data.values()))

    return begin


def _norm_loss(problem: NormLoss, compiled: partial[gc.Function]) -> Begin:
    data, gamma, beta, classes = problem.data()
    layer = gc.nn.LayerNorm(problem.columns)
    parameters = layer.parameters()
    for parameter, value in zip(parameters, (gamma, beta), strict=True):
        parameter.value = value

    def begin() -> Program:
        x, t = gc.input("x", data.shape), gc.input("t", classes.shape, dtype="int64")
        loss = gc.nn.cross_entropy(layer(x), t)
        return computed(partial(compiled([x, t], gc.grad(loss, [x, *parameters])), data, classes))

    return begin

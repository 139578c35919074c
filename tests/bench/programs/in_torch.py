"""The programs in PyTorch, eager and by torch.compile: convolutions in the memory format `channels_last`, optimisers
fused, as PyTorch's documentation advises for speed on CPUs."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from typing import Any

from tests.bench.programs.libraries import Begin, Program, computed, trained
from tests.bench.programs.problems import (
    PARAMETERS,
    Array,
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

torch: Any = importlib.import_module("torch")

Wrap = Callable[[Any], Any]
"""Of a function or module: itself, or compiled."""


def prepare(problem: Problem, threads: int, wrap: Wrap = lambda function: function) -> Begin:
    """See `libraries.Prepare`."""
    torch.set_num_threads(threads)
    match problem:
        case Inference():
            return _inference(problem, wrap)
        case Training():
            return _training(problem, wrap)
        case Elementwise():
            return _elementwise(problem, wrap)
        case Composed():
            return _composed(problem, wrap)
        case NormLoss():
            return _norm_loss(problem, wrap)


def prepare_compiled(problem: Problem, threads: int) -> Begin:
    """The same with what is differentiated or computed by torch.compile, which takes seconds and a C++ compiler."""
    return prepare(problem, threads, torch.compile)


def _model_of(network: Network) -> Any:
    """The network with its weights, trainable."""
    nn = torch.nn
    layers: list[Any] = []
    weights = network.weights()
    for stage in network.stages:
        match stage:
            case Linear():
                layers.append(nn.utils.skip_init(nn.Linear, stage.inputs, stage.outputs))
            case Conv():
                sizes = stage.inputs, stage.outputs, stage.kernel
                layers.append(nn.utils.skip_init(nn.Conv2d, *sizes, padding=stage.padding))
            case "relu":
                layers.append(nn.ReLU())
            case "pool":
                layers.append(nn.MaxPool2d(2))
            case "flatten":
                layers.append(nn.Flatten())
        if isinstance(stage, (Linear, Conv)):
            layers[-1].weight, layers[-1].bias = (nn.Parameter(torch.from_numpy(array)) for array in next(weights))
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


def _tensor(x: Array) -> Any:
    tensor = torch.from_numpy(x)
    return tensor.to(memory_format=torch.channels_last) if x.ndim == 4 else tensor


def _inference(problem: Inference, wrap: Wrap) -> Begin:
    model, x = _model_of(problem.network).eval(), _tensor(problem.data())

    def begin() -> Program:
        return computed(torch.inference_mode()(partial(wrap(model), x)))

    return begin


def _training(problem: Training, wrap: Wrap) -> Begin:
    model = _model_of(problem.network)
    batches = [tuple(map(_tensor, batch)) for batch in problem.batches()]

    def begin() -> Program:
        if problem.optimiser == "adam":
            optimiser = torch.optim.Adam(model.parameters(), problem.rate, fused=True)
        else:
            optimiser = torch.optim.SGD(model.parameters(), problem.rate, problem.momentum, fused=True)

        @wrap
        def loss_of(x: Any, classes: Any) -> Any:
            return torch.nn.functional.cross_entropy(model(x), classes)

        def step(number: int) -> Any:
            optimiser.zero_grad(set_to_none=True)
            loss = loss_of(*batches[number])
            loss.backward()
            optimiser.step()
            return loss.detach()

        return trained(step)

    return begin


def _elementwise(problem: Elementwise, wrap: Wrap) -> Begin:
    x = torch.from_numpy(problem.data()).requires_grad_(problem.gradient)

    def begin() -> Program:
        @wrap
        def y(x: Any) -> Any:
            return torch.tanh(1.5 * x + 0.5) * torch.sigmoid(x) + torch.exp(-x.square())

        return computed(lambda: torch.autograd.grad(y(x).sum(), x)[0] if problem.gradient else y(x))

    return begin


def _composed(problem: Composed, wrap: Wrap) -> Begin:
    values = {name: torch.from_numpy(value) for name, value in problem.data().items()}
    parameters = [values[name].requires_grad_() for name in PARAMETERS]

    def begin() -> Program:
        @wrap
        def loss(x: Any, y: Any, b0: Any, w0: Any, b1: Any, w1: Any, b2: Any, w2: Any, b3: Any, w3: Any) -> Any:
            f = b3 + w3 * torch.cos(b2 + w2 * torch.exp(b1 + w1 * torch.sin(b0 + w0 * x)))
            return (f - y).square().sum()

        return computed(lambda: torch.autograd.grad(loss(*values.values()), parameters))

    return begin


def _norm_loss(problem: NormLoss, wrap: Wrap) -> Begin:
    *leaves, classes = (torch.from_numpy(array) for array in problem.data())
    for leaf in leaves:
        leaf.requires_grad_()

    def begin() -> Program:
        @wrap
        def loss(x: Any, gamma: Any, beta: Any) -> Any:
            normalised = torch.nn.functional.layer_norm(x, (problem.columns,), gamma, beta)
            return torch.nn.functional.cross_entropy(normalised, classes)

        return computed(lambda: torch.autograd.grad(loss(*leaves), leaves))

    return begin

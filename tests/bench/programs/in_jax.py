"""The programs in JAX: pure functions under jit, steps that give their parameters away (donated).

Images and kernels are channels-last, as in JAX's neural-network libraries and as XLA's convolutions on CPUs are
faster; the first Linear after `flatten` has its columns in that order. Pooling is a maximum over two axes of a
reshaped array, whose gradient XLA computes faster than that of a window's.
"""

from __future__ import annotations

import importlib
import math
from functools import partial
from typing import Any

import numpy as np

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

jax: Any = importlib.import_module("jax")  # its threads: see tests.bench.environment
jnp: Any = importlib.import_module("jax.numpy")
jax.devices("cpu")


def prepare(problem: Problem, threads: int) -> Begin:
    """See `libraries.Prepare`."""
    match problem:
        case Inference():
            return _inference(problem)
        case Training():
            return _training(problem)
        case Elementwise():
            return _elementwise(problem)
        case Composed():
            return _composed(problem)
        case NormLoss():
            return _norm_loss(problem)


def _images(x: Array) -> Array:
    """Channels last."""
    return np.ascontiguousarray(np.moveaxis(x, 1, -1)) if x.ndim == 4 else x


def _parameters(network: Network) -> Any:
    """[(weight, bias)] on the device: Conv's (kernel, kernel, inputs, outputs), Linear's (inputs, outputs)."""
    found = []
    weights = network.weights()
    channels = None  # of the image that the next Linear gets flattened
    for stage in network.stages:
        if not isinstance(stage, (Linear, Conv)):
            continue
        weight, bias = next(weights)
        if isinstance(stage, Conv):
            weight, channels = weight.transpose(2, 3, 1, 0), stage.outputs
        else:
            if channels is not None:
                weight = weight.reshape(stage.outputs, channels, -1).swapaxes(1, 2).reshape(stage.shape)
            weight, channels = weight.T, None
        found.append((jax.device_put(np.ascontiguousarray(weight)), jax.device_put(bias)))
    return found


def _outputs(network: Network, parameters: Any, x: Any) -> Any:
    weights = iter(parameters)
    for stage in network.stages:
        match stage:
            case Linear():
                weight, bias = next(weights)
                x = x @ weight + bias
            case Conv():
                weight, bias = next(weights)
                padding = [(stage.padding, stage.padding)] * 2
                axes = ("NHWC", "HWIO", "NHWC")
                x = jax.lax.conv_general_dilated(x, weight, (1, 1), padding, dimension_numbers=axes) + bias
            case "relu":
                x = jax.nn.relu(x)
            case "pool":
                batch, rows, columns, channels = x.shape
                x = x.reshape(batch, rows // 2, 2, columns // 2, 2, channels).max((2, 4))
            case "flatten":
                x = x.reshape(x.shape[0], -1)
    return x


def _cross_entropy(logits: Any, classes: Any) -> Any:
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), classes[:, None], axis=1).mean()


def _inference(problem: Inference) -> Begin:
    parameters, x = _parameters(problem.network), jax.device_put(_images(problem.data()))

    def begin() -> Program:
        outputs = jax.jit(partial(_outputs, problem.network))
        return computed(lambda: outputs(parameters, x).block_until_ready())

    return begin


def _training(problem: Training) -> Begin:
    parameters = _parameters(problem.network)
    batches = [(jax.device_put(_images(x)), jax.device_put(classes)) for x, classes in problem.batches()]

    def loss_of(parameters: Any, x: Any, classes: Any) -> Any:
        return _cross_entropy(_outputs(problem.network, parameters, x), classes)

    def begin() -> Program:
        update = partial(_adam if problem.optimiser == "adam" else _sgd, problem)
        slots = [jax.tree.map(jnp.zeros_like, parameters) for _ in range(2)]

        @partial(jax.jit, donate_argnums=0)
        def step(state: Any, x: Any, classes: Any) -> Any:
            loss, gradients = jax.value_and_grad(loss_of)(state[0], x, classes)
            return update(state, gradients), loss

        state: Any = (parameters, *slots, jnp.zeros(()))

        def call(number: int) -> Any:
            nonlocal state
            state, loss = jax.block_until_ready(step(state, *batches[number]))
            return loss

        return trained(call)

    return begin


def _sgd(problem: Training, state: Any, gradients: Any) -> Any:
    parameters, momenta, unused, count = state
    if problem.momentum:
        momenta = gradients = jax.tree.map(lambda m, g: problem.momentum * m + g, momenta, gradients)
    parameters = jax.tree.map(lambda p, g: p - problem.rate * g, parameters, gradients)
    return parameters, momenta, unused, count


def _adam(problem: Training, state: Any, gradients: Any) -> Any:
    """With PyTorch's defaults: betas 0.9 and 0.999, eps 1e-8."""
    parameters, means, sizes, count = state
    count = count + 1
    means = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, means, gradients)
    sizes = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, sizes, gradients)
    # 1 - beta^t: in float32 the plain difference loses four digits at the first steps.
    first, second = (-jnp.expm1(count * math.log(beta)) for beta in (0.9, 0.999))
    rate, root = problem.rate / first, jnp.sqrt(second)
    parameters = jax.tree.map(
        lambda p, m, v: p - rate * m / (jnp.sqrt(v) / root + 1e-8), parameters, means, sizes
    )
    return parameters, means, sizes, count


def _elementwise(problem: Elementwise) -> Begin:
    x = jax.device_put(problem.data())

    def begin() -> Program:
        def y(x: Any) -> Any:
            return jnp.tanh(1.5 * x + 0.5) * jax.nn.sigmoid(x) + jnp.exp(-(x**2))

        function = jax.jit(jax.grad(lambda x: y(x).sum()) if problem.gradient else y)
        return computed(lambda: function(x).block_until_ready())

    return begin


def _composed(problem: Composed) -> Begin:
    values = [jax.device_put(value) for value in problem.data().values()]

    def begin() -> Program:
        def loss(x: Any, y: Any, b0: Any, w0: Any, b1: Any, w1: Any, b2: Any, w2: Any, b3: Any, w3: Any) -> Any:
            f = b3 + w3 * jnp.cos(b2 + w2 * jnp.exp(b1 + w1 * jnp.sin(b0 + w0 * x)))
            return ((f - y) ** 2).sum()

        gradients = jax.jit(jax.grad(loss, argnums=tuple(range(2, 2 + len(PARAMETERS)))))
        return computed(lambda: jax.block_until_ready(gradients(*values)))

    return begin


def _norm_loss(problem: NormLoss) -> Begin:
    *leaves, classes = (jax.device_put(array) for array in problem.data())

    def begin() -> Program:
        def loss(x: Any, gamma: Any, beta: Any, classes: Any) -> Any:
            mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
            return _cross_entropy((x - mean) * jax.lax.rsqrt(var + 1e-5) * gamma + beta, classes)

        gradients = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))
        return computed(lambda: jax.block_until_ready(gradients(*leaves, classes)))

    return begin

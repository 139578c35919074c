"""What the programs compute: data, weights and networks in NumPy arrays, the same for everyone."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

STEPS: Final = 50
"""Training steps whose losses everyone must agree on."""

BATCHES: Final = 5
"""Batches that these steps go through in turn."""


# ---- networks ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Linear:
    """x @ weight.T + bias."""

    inputs: int
    outputs: int

    @property
    def shape(self) -> tuple[int, ...]:
        """The weight's: (outputs, inputs)."""
        return (self.outputs, self.inputs)


@dataclass(frozen=True)
class Conv:
    """A square convolution of stride 1, with a bias for each channel of the result."""

    inputs: int
    outputs: int
    kernel: int
    padding: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """The weight's: (outputs, inputs, kernel, kernel)."""
        return (self.outputs, self.inputs, self.kernel, self.kernel)


Stage: TypeAlias = Linear | Conv | Literal["relu", "pool", "flatten"]
"""pool: the greatest of each 2 x 2; flatten: all axes but the first in one, channels outermost."""


@dataclass(frozen=True)
class Network:
    """Stages, one after another, on inputs of `shape` (without the batch's axis); images are (channels, rows, columns).
    """

    shape: tuple[int, ...]
    stages: tuple[Stage, ...]

    @property
    def classes(self) -> int:
        """Outputs of the last stage."""
        last = self.stages[-1]
        assert isinstance(last, Linear)
        return last.outputs

    def weights(self) -> Iterator[tuple[Array, Array]]:
        """(weight, bias) of each Linear and Conv: uniform of variance 2 / inputs of an output (He's rule, which keeps
        the size of activations through any number of ReLUs), and zeros."""
        random = np.random.default_rng(0)
        for stage in self.stages:
            if isinstance(stage, (Linear, Conv)):
                bound = math.sqrt(6 / math.prod(stage.shape[1:]))
                weight = random.random(stage.shape, dtype=np.float32)
                weight -= np.float32(0.5)
                weight *= np.float32(2 * bound)
                yield weight, np.zeros(stage.outputs, np.float32)


def _dense(*widths: int) -> Iterator[Stage]:
    for number, (inputs, outputs) in enumerate(pairwise(widths)):
        if number:
            yield "relu"
        yield Linear(inputs, outputs)


def _vgg19() -> Iterator[Stage]:
    """K. Simonyan, A. Zisserman, Very deep convolutional networks, arXiv:1409.1556, configuration E."""
    channels = 3
    for outputs, repeats in ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4)):
        for _ in range(repeats):
            yield from (Conv(channels, outputs, 3, padding=1), "relu")
            channels = outputs
        yield "pool"
    yield "flatten"
    yield from _dense(512 * 7 * 7, 4096, 4096, 1000)


def deep(layers: int, width: int = 32) -> Network:
    """So many equal layers."""
    return Network((width,), tuple(_dense(*[width] * (layers + 1))))


MLP: Final = Network((784,), tuple(_dense(784, 128, 128, 10)))
LENET: Final = Network((1, 28, 28), (
    Conv(1, 6, 5, padding=2), "relu", "pool", Conv(6, 16, 5), "relu", "pool", "flatten", *_dense(400, 120, 84, 10),
))
CNN: Final = Network((1, 28, 28), (
    Conv(1, 32, 3), "relu", Conv(32, 64, 3), "relu", "pool", "flatten", *_dense(9216, 128, 10),
))
VGG19: Final = Network((3, 224, 224), tuple(_vgg19()))


# ---- problems ----------------------------------------------------------------------------------------------


# The tolerance of each is a multiple of the greatest element of an array (of a loss itself), and some ten times what
# was seen between the libraries: an operand rounded to half precision, or a step of another size, is far outside.


@dataclass(frozen=True)
class Inference:
    """The network's outputs for one batch."""

    network: Network
    batch: int
    tolerance: float = 3e-5

    def data(self) -> Array:
        """Standard normal inputs."""
        return np.random.default_rng(1).standard_normal((self.batch, *self.network.shape), dtype=np.float32)


@dataclass(frozen=True)
class Training:
    """One step down the gradient of the mean cross-entropy: SGD (with momentum, if there is any) or Adam, with the
    defaults of PyTorch. What is compared are the losses of STEPS steps, each before its step.

    The tolerance is about ten times what such losses in float32 differ from the same in float64, by PyTorch, JAX and
    graphc alike. Adam divides by the size of a gradient, and so makes the rounding error of a small one as large as
    that of a great one: it has more.
    """

    network: Network
    batch: int
    rate: float
    optimiser: Literal["sgd", "adam"] = "sgd"
    momentum: float = 0.0
    tolerance: float = 1e-5

    def batches(self) -> list[tuple[Array, Array]]:
        """BATCHES times (inputs, classes): noise around one random input for each class, so that there is something
        to learn, and the loss falls smoothly."""
        random = np.random.default_rng(2)
        means = random.standard_normal((self.network.classes, *self.network.shape), dtype=np.float32)
        found = []
        for _ in range(BATCHES):
            classes = random.integers(0, self.network.classes, self.batch)
            noise = random.standard_normal((self.batch, *self.network.shape), dtype=np.float32)
            found.append((noise + np.float32(0.5) * means[classes], classes))
        return found


@dataclass(frozen=True)
class Elementwise:
    """tanh(1.5 x + 0.5) sigmoid(x) + exp(-x^2), or the gradient of its sum."""

    count: int
    gradient: bool = False
    tolerance: float = 1e-5

    def data(self) -> Array:
        """Standard normal x."""
        return np.random.default_rng(3).standard_normal(self.count, dtype=np.float32)


PARAMETERS: Final = ("b0", "w0", "b1", "w1", "b2", "w2", "b3", "w3")


@dataclass(frozen=True)
class Composed:
    """The eight gradients of (b3 + w3 cos(b2 + w2 exp(b1 + w1 sin(b0 + w0 x))) - y)^2 at one point, or of its sum over
    points."""

    points: int | None = None
    tolerance: float = 1e-5

    def data(self) -> dict[str, Array]:
        """float32 values of x and y (without axes, or with one) and of the PARAMETERS (without)."""
        random = np.random.default_rng(4)
        shape = () if self.points is None else (self.points,)
        values = {"x": random.uniform(0, 1, shape), "y": random.uniform(2, 3, shape)}
        values.update({name: random.uniform(0.2, 0.8, ()) for name in PARAMETERS})
        return {name: np.asarray(value, np.float32) for name, value in values.items()}


@dataclass(frozen=True)
class NormLoss:
    """Layer normalisation (eps 1e-5), then the mean cross-entropy of its rows: gradients of x, gamma and beta."""

    rows: int
    columns: int
    tolerance: float = 1e-5

    def data(self) -> tuple[Array, Array, Array, Array]:
        """x, gamma, beta and the class of each row."""
        random = np.random.default_rng(5)
        x = random.standard_normal((self.rows, self.columns), dtype=np.float32)
        gamma = random.uniform(0.5, 1.5, self.columns).astype(np.float32)
        beta = random.uniform(-0.5, 0.5, self.columns).astype(np.float32)
        return x, gamma, beta, random.integers(0, self.columns, self.rows)


Problem: TypeAlias = Inference | Training | Elementwise | Composed | NormLoss

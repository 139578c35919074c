"""What the tests of training share: small nets with states, and data for them."""

from __future__ import annotations

import numpy as np

import graphc as gc

ROWS, WIDTH, CLASSES = 64, 6, 4  # four batches of 16: one size is one form to compile
SHORT = 50  # three, and a short one


class Running(gc.nn.Module):
    """Subtracts the batch's mean in training, and the mean that runs beside it afterwards: batch norm in little.

    Its scale depends on a counter, as dropout's mask does."""

    def __init__(self, width):
        self.mean = gc.state("running_mean", (width,), init=0)
        self.counter = gc.state("counter", (), init=0, dtype="int32")

    def forward(self, x, training):
        if not training:
            return x - self.mean
        mean = gc.mean(x, axis=0)
        self.mean.set_next(0.9 * self.mean + 0.1 * mean)
        self.counter.set_next(self.counter + 1)
        return (x - mean) * (1 + 0.1 * gc.sin(self.counter.astype("float32")))


def net(seed=0):
    return gc.nn.Sequential(
        gc.nn.Linear(WIDTH, 8, seed=(seed, 0)), Running(8), gc.nn.ReLU(), gc.nn.Linear(8, CLASSES, seed=(seed, 1))
    )


def data(rows=ROWS, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, rows)
    return (rng.normal(size=(rows, WIDTH)) + labels[:, None]).astype("float32"), labels


def accuracy(prediction, target):
    return gc.mean(gc.equal(gc.argmax(prediction, axis=1), target).astype("float32"))


def states(model, optimiser):
    """Every value that a step reads or writes, as a list of arrays."""
    running = [layer for layer in model if isinstance(layer, Running)]
    own = [state for layer in running for state in (layer.mean, layer.counter)]
    slots = list(optimiser._slots.values())
    return [variable.value for variable in (*model.parameters(), *own, optimiser.lr, *slots)]


def assert_same(one, other):
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert a.dtype == b.dtype and a.tobytes() == b.tobytes()


def without_seconds(history):
    return {name: values for name, values in history.items() if name != "seconds"}

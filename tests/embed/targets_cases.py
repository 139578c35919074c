"""The programs that the tests of targets compile, with inputs and what the JIT of this machine makes of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

import graphc as gc

Array = NDArray[Any]


@dataclass(frozen=True)
class Case:
    """A compiled function, its inputs, and what a call gives. `params`: those that its export takes, before the call;
    none where they are embedded. `updated`: the same afterwards. `sizes`: of its dynamic dimensions."""

    function: Any
    inputs: tuple[Array, ...]
    params: tuple[Array, ...]
    outputs: tuple[Array, ...]
    updated: tuple[Array, ...]
    sizes: tuple[int, ...] = ()


def make(function: Any, inputs: Sequence[Array], *sizes: int) -> Case:
    """Call a function once on this machine."""
    params = function._forms.variables if function.targets else ()  # in the order of the exported struct
    before = tuple(np.array(param.value) for param in params)
    result = function(*inputs)
    outputs = result if isinstance(result, tuple) else (result,)
    after = tuple(np.array(param.value) for param in params)
    return Case(function, tuple(inputs), before, tuple(np.asarray(one) for one in outputs), after, sizes)


def network() -> Any:
    """The digits MLP."""
    return gc.nn.Sequential(gc.nn.Linear(64, 32, seed=0), gc.nn.ReLU(), gc.nn.Linear(32, 10, seed=1))


def digits_mlp() -> Case:
    x, model = gc.input("x", (1, 64)), network()
    return make(gc.compile([x], gc.softmax(model(x)), backend="llvm", name="digits"), [draw(1, 64)])


def small_cnn() -> Case:
    x = gc.input("x", (2, 1, 8, 8))
    model = gc.nn.Sequential(
        gc.nn.Conv2d(1, 6, 3, padding=1, seed=0), gc.nn.ReLU(), gc.nn.MaxPool2d(2), gc.nn.Flatten(),
        gc.nn.Linear(96, 10, seed=2),
    )  # fmt: skip
    return make(gc.compile([x], gc.softmax(model(x)), backend="llvm", name="cnn"), [draw(2, 1, 8, 8)])


def elementwise() -> Case:
    """Every function of floats, on ordinary numbers and some that are not."""
    x, y = gc.input("x", (37,)), gc.input("y", (37,))
    outputs = [
        gc.exp(gc.tanh(x)) * gc.log(gc.abs(x) + 1.5) + gc.sin(3 * x), gc.cos(y), gc.sin(y), gc.tan(x),
        gc.sqrt(gc.abs(y)), gc.floor(y), gc.ceil(y), gc.rint(2.5 * x), gc.abs(x) ** (0.3 * x), gc.arctan2(x, y),
        gc.log1p(x * x), gc.erf(x), gc.sigmoid(x), gc.softplus(x), gc.expm1(x), gc.maximum(x, y), x % 0.75,
        gc.astype(100 * y, "int64"), gc.astype(x, "int32"), gc.rsqrt(x * x + 0.1),
    ]  # fmt: skip
    one, other = 2 * draw(37), draw(37)
    other[:8] = [1e6, -3e7, 1e20, 2.0**24, 0.5, -0.0, 1e-30, 8388609.0]  # large angles; ends of rounding
    return make(gc.compile([x, y], outputs, backend="llvm", name="elementwise"), [one, other])


def training_step() -> Case:
    x, t, model = gc.input("x", (8, 64)), gc.input("t", (8,), dtype="int64"), network()
    loss = gc.nn.cross_entropy(model(x), t)
    updates = gc.optim.SGD(lr=0.1).updates(loss, model.parameters())
    step = gc.compile([x, t], [loss], updates=updates, backend="llvm", name="step")
    return make(step, [draw(8, 64), np.arange(8) % 10])


def dynamic_step() -> Case:
    """Any number of rows; the norm over them has sums one behind the other, between which rows are kept."""
    x, t = gc.input("x", ("N", 64)), gc.input("t", ("N",), dtype="int64")
    model = gc.nn.Sequential(
        gc.nn.Linear(64, 12, seed=0), gc.nn.BatchNorm1d(12), gc.nn.Tanh(), gc.nn.Linear(12, 10, seed=1)
    )
    loss = gc.nn.cross_entropy(model(x), t)
    updates = gc.optim.SGD(lr=0.1).updates(loss, model.parameters())
    step = gc.compile([x, t], [loss], updates=updates, backend="llvm", name="step", dynamic=["N"])
    return make(step, [draw(23, 64), np.arange(23) % 10], 23)


def integers() -> Case:
    a, b = (gc.input(name, (5, 7), dtype="int64") for name in "ab")
    c, d = (gc.input(name, (5, 7), dtype="int32") for name in "cd")
    outputs = [
        a // b, a % b, a * b, (a > b) & (c > 0), gc.sum(a, axis=0), c * 3 - c // 2, gc.maximum(a, b), gc.any(c > 0),
        gc.cumsum(a, axis=1), gc.take(a, gc.abs(c) % 5), gc.astype(a, "float32"), gc.astype(c, "float32"), a // 10,
        d // c, d % c,
    ]  # fmt: skip
    rng = np.random.default_rng(2)
    wide = rng.integers(-(2**62), 2**62, size=(5, 7))
    wide[1, :4] = [0, 2**53 + 1, -(2**24) - 1, 2**62 - 1]
    divisors = rng.integers(-(2**40), 2**40, size=(5, 7))
    divisors[0, :4] = [1, -1, 3, 0]
    small = rng.integers(-100, 100, size=(5, 7)).astype("int32")
    halves = rng.integers(-(2**31), 2**31, size=(5, 7)).astype("int32")
    halves[2, :3] = [-(2**31), 2**31 - 1, 0]
    small[2, :2] = [-1, 0]
    return make(gc.compile([a, b, c, d], outputs, backend="llvm", name="integers"), [wide, divisors, small, halves])


CASES: dict[str, Callable[[], Case]] = {
    "digits MLP": digits_mlp, "small CNN": small_cnn, "elementwise": elementwise, "training step": training_step,
    "integers": integers, "dynamic step": dynamic_step,
}


@cache
def case(name: str) -> Case:
    """One of CASES, compiled and run once a process."""
    return CASES[name]()


def draw(*shape: int) -> Array:
    """Normal random numbers, the same at every call."""
    return np.random.default_rng(1).normal(size=shape).astype("float32")

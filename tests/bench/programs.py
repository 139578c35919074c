"""Whole programs: training steps and inference. A new one is a function here and a row of PROGRAMS."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Final

import numpy as np

import graphc as gc
from tests.bench.clock import median


def mlp_step(backend: str, rounds: int) -> dict[str, float]:
    """One SGD step of 784-128-128-10 with ReLU and cross-entropy at batch 64."""
    x, t = gc.input("x", (64, 784)), gc.input("t", (64,), dtype="int64")
    layers = [gc.nn.Linear(784, 128, seed=0), gc.nn.ReLU(), gc.nn.Linear(128, 128, seed=1), gc.nn.ReLU()]
    model = gc.nn.Sequential(*layers, gc.nn.Linear(128, 10, seed=2))
    loss = gc.nn.cross_entropy(model(x), t)
    updates = gc.optim.SGD(lr=0.1).updates(loss, model.parameters())
    rng = np.random.default_rng(0)
    arrays = rng.normal(size=(64, 784)).astype("float32"), rng.integers(0, 10, 64)
    start = time.perf_counter()
    step = gc.compile([x, t], loss, updates, backend=backend)
    step(*arrays)
    first = time.perf_counter() - start
    return {"median": median(lambda: step(*arrays), rounds, 100), "compiling and the first": first}


# name: figures in seconds by what they are, given the number of rounds
PROGRAMS: Final[dict[str, Callable[[int], dict[str, float]]]] = {
    "mlp_b64 llvm": partial(mlp_step, "llvm"),
    "mlp_b64 numpy": partial(mlp_step, "numpy"),
}

"""Code for lesser processors of the same family gives the same values; unknown and unfit names are refused."""

from __future__ import annotations

import dataclasses
import platform

import numpy as np
import pytest

import graphc as gc
from graphc.errors import BackendError
from graphc_llvm import executable
from graphc_llvm.target import host_target

CPUS = ["x86-64", "x86-64-v3"] if platform.machine() in ("x86_64", "AMD64") else ["neon"]


@pytest.mark.parametrize("cpu", CPUS)
def test_a_training_step_on_lesser_processors(cpu):
    if executable_lacks(cpu):
        cpu = "native"  # an old machine: the test still runs, on what it has
    x, t = gc.input("x", (6, 2, 9, 9)), gc.input("t", (6,), dtype="int64")
    model = gc.nn.Sequential(
        gc.nn.Conv2d(2, 5, 3, padding=1, seed=0), gc.nn.ReLU(), gc.nn.MaxPool2d(2), gc.nn.Flatten(),
        gc.nn.Linear(80, 17, seed=1), gc.nn.Tanh(), gc.nn.Linear(17, 3, seed=2),
    )  # fmt: skip
    loss = gc.nn.cross_entropy(model(x), t)
    outputs = [loss, *gc.grad(loss, [x, *model.parameters()])]
    rng = np.random.default_rng(0)
    arrays = rng.normal(size=(6, 2, 9, 9)).astype("float32"), rng.integers(0, 3, 6)
    want = gc.compile([x, t], outputs, backend="numpy")(*arrays)
    got = gc.compile([x, t], outputs, backend="llvm", cpu=cpu)(*arrays)
    for one, other in zip(got, want, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def executable_lacks(cpu):
    try:
        executable.runnable_target(cpu)
    except BackendError:
        return True
    return False


def test_unknown_processor_is_refused():
    x = gc.input("x", (3,))
    with pytest.raises(BackendError, match=r"cpu: unknown processor 'nonsense'; known: .*test_cpus.py:\d+"):
        gc.compile([x], x + 1, backend="llvm", cpu="nonsense")


def test_more_than_this_machine_has_is_refused(monkeypatch):
    """Code with instructions that the processor does not have would end the process."""
    strong = host_target()
    weak = dataclasses.replace(strong, has_fma=False, has_avx512=False, vector_bits=128)
    monkeypatch.setattr(executable, "host_target", lambda cpu="native": weak if cpu == "native" else strong)
    with pytest.raises(BackendError, match="this machine cannot run code for x86-64-v4: it has no"):
        executable.runnable_target("x86-64-v4")

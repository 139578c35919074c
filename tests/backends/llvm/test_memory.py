"""Native code writes nothing outside its buffers: arena, outputs and inputs stand between guards that must survive."""

from __future__ import annotations

import math

import numpy as np
import pytest

import graphc as gc
from graphc_llvm import memory
from tests.conformance.test_named_ops import SHAPED

GUARD, PATTERN = 4096, 0xA5


class GuardedNumpy:
    """NumPy, but `empty` makes arrays between guards."""

    def __init__(self):
        self.made = []

    def __getattr__(self, name):
        return getattr(np, name)

    def empty(self, shape, dtype=float):
        kind = np.dtype(dtype)
        size = math.prod(shape if isinstance(shape, tuple) else (shape,)) * kind.itemsize
        raw = np.full(size + 2 * GUARD, PATTERN, dtype=np.uint8)
        self.made.append((raw, size))
        return raw[GUARD : GUARD + size].view(kind).reshape(shape)

    def broken(self):
        return any((raw[:GUARD] != PATTERN).any() or (raw[GUARD + size :] != PATTERN).any() for raw, size in self.made)


@pytest.mark.parametrize("name", sorted(SHAPED))
def test_writes_stay_inside(name, monkeypatch):
    build, makers = SHAPED[name]
    rng = np.random.default_rng(0)
    arrays = [make(rng, "float32") for make in makers]
    inputs = [gc.input(f"x{n}", array.shape, dtype=array.dtype) for n, array in enumerate(arrays)]
    y = build(*inputs)
    outputs = [y]
    floats = [x for x in inputs if x.dtype == "float32"]
    if y.dtype == "float32":
        outputs += gc.grad(gc.sum(gc.sin(y) * y), floats)
    function = gc.compile(inputs, outputs, backend="llvm")
    guarded = GuardedNumpy()
    executable = function.specialised().executable
    monkeypatch.setattr(memory, "np", guarded)
    copies = []
    for array in arrays:
        copy = guarded.empty(array.shape, array.dtype)
        copy[...] = array
        copies.append(copy)
    executable.run(copies)  # not the function, whose native calls take their results from NumPy itself
    assert len(guarded.made) > len(arrays) and not guarded.broken()
    assert all(np.array_equal(copy, array) for copy, array in zip(copies, arrays, strict=True))

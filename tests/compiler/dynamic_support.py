"""What the tests of dynamic dimensions share: a function for any sizes gives what those for known sizes give."""

from __future__ import annotations

import numpy as np

import graphc as gc
from graphc.errors import ArgumentError
from graphc.ir.extent import evaluate

nn = gc.nn


def rows(*others, name="x", dtype="float32"):
    return gc.input(name, ("N", *others), dtype)


def draw(tensor, sizes, seed=0):
    generator = np.random.default_rng(seed)
    shape = [evaluate(extent, sizes) for extent in tensor.shape]
    if tensor.dtype == "bool":
        return generator.random(shape) < 0.9
    if tensor.dtype.startswith("int"):
        return generator.integers(0, 4, shape).astype(tensor.dtype)
    return generator.uniform(0.1, 0.9, shape).astype(tensor.dtype)


def outcome(function, arguments, calls=2):
    """What calls give and leave in params and states, or the error's words; then all is as before."""
    variables = function._forms.variables
    before = [variable.value for variable in variables]
    try:
        results = [function(*arguments) for _ in range(calls)]
        flat = [a.copy() for one in results for a in (one if isinstance(one, tuple) else (one,))]
        return flat + [variable.value for variable in variables]
    except ArgumentError as error:
        for variable, value in zip(variables, before, strict=True):
            assert (variable.value == value).all()
        return error.message
    finally:
        for variable, value in zip(variables, before, strict=True):
            variable.value = value


def agrees(backend, inputs, outputs, updates=None, sizes=(1, 5, 23), dynamic=("N",), rtol=1e-4, calls=2):
    """The dynamic function gives what the function for each size gives, which the NumPy backend computes."""
    static = gc.compile(inputs, outputs, updates, backend="numpy")
    function = gc.compile(inputs, outputs, updates, backend=backend, dynamic=dynamic, threads=2)
    for size in sizes:
        named = size if isinstance(size, dict) else {"N": size}
        arguments = [draw(tensor, named) for tensor in inputs]
        found, expected = outcome(function, arguments, calls), outcome(static, arguments, calls)
        if isinstance(expected, str) or isinstance(found, str):
            assert found == expected, named
            continue
        for one, other in zip(found, expected, strict=True):
            assert one.dtype == other.dtype and one.shape == other.shape, named
            if one.dtype.kind == "f":
                np.testing.assert_allclose(one, other, rtol=rtol, atol=rtol / 10, err_msg=str(named))
            else:
                np.testing.assert_array_equal(one, other, err_msg=str(named))
    return function


def perceptron(*more):
    return nn.Sequential(nn.Linear(5, 6, seed=0), nn.Tanh(), *more, nn.Linear(6, 4, seed=1))

"""Random draws that are asked for in a wrong way: what came, what was expected, and the user's line."""

from __future__ import annotations

import pytest

import graphc as gc
from graphc.errors import ArgumentError, GraphcError


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: gc.random.uniform((3,), 2, 1), ["uniform: low must not be above high", "2.0", "1.0"]),
        (lambda: gc.random.uniform((3,), float("nan")), ["uniform: low must be a finite float32", "nan"]),
        (lambda: gc.random.uniform((3,), 0, 1e39), ["uniform: high must be a finite float32", "1e+39"]),
        (lambda: gc.random.uniform((3,), -3e38, 3e38), ["uniform: high - low must be a finite float32"]),
        (lambda: gc.random.uniform((3,), gc.input("low")), ["uniform: low must be a number", "low"]),
        (lambda: gc.random.uniform((3,), [1, 2]), ["uniform: low must be a number", "[1, 2]"]),
        (lambda: gc.random.uniform((3,), dtype="int64"), ["uniform: the dtype is float32 or float64", "int64"]),
        (lambda: gc.random.uniform((-3,)), ["uniform", "negative"]),
        (lambda: gc.random.normal((3,), sigma=-1), ["normal: sigma must be from 0 up", "-1"]),
        (lambda: gc.random.normal((3,), mean="a"), ["normal: mean must be a number", "'a'"]),
        (lambda: gc.random.bernoulli((3,), 1.5), ["bernoulli: p must be from 0 to 1", "1.5"]),
        (lambda: gc.random.bernoulli((3,), float("nan")), ["bernoulli: p must be from 0 to 1", "nan"]),
        (lambda: gc.random.randint((3,), 2, 2), ["randint: low must be below high", "2 and 2"]),
        (lambda: gc.random.randint((3,), 0, 2**31 + 1, dtype="int32"), ["within int32", "2147483649"]),
        (lambda: gc.random.randint((3,), -(2**63), 2**63), ["randint", "wider than 2^63"]),
        (lambda: gc.random.randint((3,), 0.5, 2), ["randint: low must be a whole number", "0.5"]),
        (lambda: gc.random.randint((3,), 0, 2, dtype="float32"), ["randint: the dtype is int32 or int64", "float32"]),
        (lambda: gc.random.Generator(-1), ["Generator: seed must be a whole number from 0 up", "-1"]),
        (lambda: gc.random.normal((3,), seed="x"), ["seed must be a whole number from 0 up", "'x'"]),
        (lambda: gc.random.Generator([]), ["seed must be a whole number from 0 up", "[]"]),
    ],
)
def test_errors_say_what_came(call, words):
    with pytest.raises(GraphcError) as caught:
        call()
    for word in [*words, "test_random_errors.py"]:
        assert word in str(caught.value)


def test_wrong_numbers_are_value_errors():
    with pytest.raises(ArgumentError):
        gc.random.bernoulli((3,), -0.1)

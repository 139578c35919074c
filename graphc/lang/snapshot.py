"""Values of named variables as a dictionary of arrays, and back: all of them or none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from graphc.errors import ArgumentError, ArgumentTypeError
from graphc.ir.extent import ints
from graphc.lang.source import user_line
from graphc.lang.tensor import Array, Variable

_MOST_LINES = 12  # of each kind in one message


class Differences(NamedTuple):
    """Names without a value, and values without a name: what strict=False lets pass."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def snapshot(named: Sequence[tuple[str, Variable]]) -> dict[str, Array]:
    """A copy of the value of each variable, by name."""
    return {name: variable.value for name, variable in named}


def restore(
    owner: str, named: Sequence[tuple[str, Variable]], values: Mapping[str, Any], strict: bool = True
) -> Differences:
    """Set the variables to the values of their names; returns what did not match.

    An array must have its variable's shape, and be of its kind (float, integer, bool); another width is converted where
    that changes no value. Two names of one variable need one value. Everything is checked before anything is changed:
    `ArgumentError` lists what is wrong, `ArgumentTypeError` says that `values` is no dictionary.
    """
    if not isinstance(values, Mapping):
        raise ArgumentTypeError(f"{owner}: a dictionary of arrays is needed, not {type(values).__name__}", user_line())
    known = dict(named)
    missing = [name for name in known if name not in values]
    unexpected = [str(name) for name in values if name not in known]
    problems: list[str] = []
    new: dict[Variable, tuple[str, Array]] = {}
    for name, variable in known.items():
        if name not in values:
            continue
        array = np.asarray(values[name])
        problem = _problem(array, variable)
        if problem is None and variable in new and not _same(new[variable][1], array):
            problem = f"it is one array with {new[variable][0]}, but their values differ"
        if problem is not None:
            problems.append(f"{name}: {problem}")
        new.setdefault(variable, (name, array))
    if strict:
        problems[:0] = _listed("missing", missing) + _listed("unexpected", unexpected)
        if missing or unexpected:
            problems.append("strict=False leaves out what has no counterpart")
    if problems:
        raise ArgumentError(f"{owner}: nothing was changed:\n  " + "\n  ".join(_shortened(problems)), user_line())
    made = [(variable, _ready(variable, array)) for variable, (_, array) in new.items()]
    for variable, array in made:  # from here on nothing can fail
        variable.install(array)
    return Differences(missing, unexpected)


def _problem(array: Array, variable: Variable) -> str | None:
    shape, dtype = ints(variable.shape), np.dtype(variable.dtype)
    if array.shape != shape:
        return f"its shape is {array.shape}, {shape} is expected"
    if _kind(array.dtype) != _kind(dtype):
        return f"its dtype is {array.dtype}, {dtype} is expected"
    if array.dtype != dtype and not np.can_cast(array.dtype, dtype, "safe"):
        with np.errstate(all="ignore"):
            if not _same(array.astype(dtype), array):
                return f"its {array.dtype} values cannot be held by {dtype}; convert it with astype first"
    return None


def _kind(dtype: np.dtype[Any]) -> str:
    return "i" if dtype.kind == "u" else dtype.kind


def _same(a: Array, b: Array) -> bool:
    return a is b or np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def _ready(variable: Variable, array: Array) -> Array:
    """What `install` takes: in the variable's dtype, and a copy of its own where there is no memory to copy it to."""
    if variable.is_made:
        return array.astype(variable.dtype, copy=False)
    return np.array(array, dtype=variable.dtype, order="C")


def _listed(what: str, names: list[str]) -> list[str]:
    if not names:
        return []
    rest = len(names) - _MOST_LINES
    return [f"{what}: {', '.join(names[:_MOST_LINES])}" + (f" and {rest} more" if rest > 0 else "")]


def _shortened(lines: list[str]) -> list[str]:
    rest = len(lines) - _MOST_LINES
    return lines if rest <= 0 else [*lines[:_MOST_LINES], f"and {rest} more"]

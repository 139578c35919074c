"""Options that several commands have: names, sizes, values; and random values where the user gave none."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from graphc.cli.spec import Loaded
from graphc.errors import SpecError
from graphc.ir.dtypes import is_float
from graphc.lang.tensor import Tensor

Draw: TypeAlias = Callable[[np.random.Generator, tuple[int, ...]], NDArray[Any]]

DEFAULT_SIZE = 2  # of a named dimension: enough to see that a batch is a batch, small enough to read


def wrt_tensors(loaded: Loaded, wrt: str | None) -> list[Tensor] | None:
    """The tensors that `--wrt a,b` names; None when the option was not given."""
    if wrt is None:
        return None
    return [loaded.leaf(name) for name in dict.fromkeys(part.strip() for part in wrt.split(",")) if name]


def sizes_of(
    loaded: Loaded, given: Sequence[str], dimensions: Sequence[str], default: int = DEFAULT_SIZE
) -> dict[str, int]:
    """A size for each named dimension, from `--size N=64` (also `N=64,M=3`)."""
    sizes = dict.fromkeys(dimensions, default)
    for text in (part for item in given for part in item.split(",")):
        name, _, number = (part.strip() for part in text.partition("="))
        if not number.isdecimal():
            raise SpecError(f"--size {text}: a name and a whole number are needed, as in N=64")
        if name not in sizes:
            there = ", ".join(dimensions) or "none"
            raise SpecError(f"--size {text}: {loaded.spec} has no dimension {name!r}; its dimensions are {there}")
        sizes[name] = int(number)
    return sizes


def random_array(
    shape: tuple[int, ...],
    dtype: str,
    rng: np.random.Generator,
    draw: Draw = lambda rng, shape: rng.standard_normal(shape),
) -> NDArray[Any]:
    """A value for an input: floats as drawn, integers 0 or 1."""
    values = draw(rng, shape) if is_float(dtype) else rng.integers(0, 2, shape)
    return np.asarray(values, dtype=dtype)


def parse_values(text: str) -> dict[str, Any]:
    """`x=-2,y=[1, 2],z=1e-3,w=w.npy` as numbers, lists and arrays in files by name."""
    found: dict[str, Any] = {}
    for part in _split(text):
        name, separator, value = (piece.strip() for piece in part.partition("="))
        if not separator or not name:
            raise SpecError(f"--values: {part.strip()!r} is no name=number")
        if value.endswith(".npy"):
            found[name] = _array_in(value)
            continue
        try:
            found[name] = ast.literal_eval(re.sub(r"^\+", "", value))
        except (ValueError, SyntaxError):
            if value.lower() not in ("inf", "-inf", "nan"):
                what = "is neither a number, a list of numbers nor an .npy file"
                raise SpecError(f"--values: {value!r} for {name} {what}") from None
            found[name] = float(value)
    return found


def _array_in(path: str) -> NDArray[Any]:
    """The array that NumPy saved in a file."""
    try:
        found: NDArray[Any] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise SpecError(f"--values: {path} cannot be read: {error}") from None
    return found


def _split(text: str) -> list[str]:
    """At the commas that stand outside of brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "[(") - (letter in "])")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part for part in parts if part.strip()]

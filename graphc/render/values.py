"""Numbers for a drawing: the value of each node from the interpreter, and their few-letter texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from graphc.errors import ArgumentError
from graphc.ir.extent import dimension_names, format_shape
from graphc.ir.graph import Graph, specialise
from graphc.ir.interp import interpret
from graphc.ir.node import Input, Node
from graphc.lang.tensor import Tensor, variables

Array: TypeAlias = NDArray[Any]
TINY = 4  # elements that are written out


def values_of(nodes: Sequence[Node], given: Mapping[Any, Any]) -> dict[Node, Array]:
    """The value of each node, `given` a value for each input by tensor or by name; params have their own unless given.

    Errors: `ArgumentError` for an unknown, ambiguous or missing name and for a value that does not fit.
    """
    graph = Graph(tuple(nodes))
    leaves = graph.inputs
    arrays: dict[Node, Array] = {}
    for key, value in given.items():
        leaf = _leaf(key, leaves)
        try:
            arrays[leaf] = np.asarray(value, dtype=leaf.dtype)
        except (TypeError, ValueError) as error:
            raise ArgumentError(f"values: {leaf.name}: {error}") from None
    for leaf in leaves:
        if leaf not in arrays and leaf in variables:
            arrays[leaf] = variables[leaf].storage
    missing = [leaf.name for leaf in leaves if leaf not in arrays]
    if missing:
        raise ArgumentError(f"values: no value for {', '.join(missing)}")
    sizes = _sizes(leaves, arrays)
    new_leaves: dict[Node, Node] = {}
    if sizes:
        graph = specialise(graph, sizes, new_leaves)
    filled: dict[Node, Array] = {}
    for leaf in leaves:
        wanted = new_leaves.get(leaf, leaf).shape
        if arrays[leaf].shape != wanted:
            raise ArgumentError(
                f"values: {leaf.name} has shape {format_shape(leaf.shape)}, a value of {arrays[leaf].shape} was given"
            )
        filled[new_leaves.get(leaf, leaf)] = arrays[leaf]
    return dict(zip(nodes, interpret(graph, filled), strict=True))


def _leaf(key: Any, leaves: Sequence[Input]) -> Input:
    if isinstance(key, Tensor):
        found = [leaf for leaf in leaves if leaf is key.node]
        label = repr(key)
    else:
        found = [leaf for leaf in leaves if leaf.name == str(key)]
        label = repr(str(key))
    if len(found) != 1:
        what = "is not a leaf of the graph" if not found else "names several leaves"
        names = ", ".join(dict.fromkeys(leaf.name for leaf in leaves))
        raise ArgumentError(f"values: {label} {what}; the leaves are {names}")
    return found[0]


def _sizes(leaves: Sequence[Input], arrays: Mapping[Node, Array]) -> dict[str, int]:
    """The named dimensions, from the shapes of the values."""
    sizes: dict[str, int] = {}
    for leaf in leaves:
        for extent, size in zip(leaf.shape, arrays[leaf].shape, strict=False):
            if str(extent).isidentifier():
                sizes.setdefault(str(extent), size)
    for leaf in leaves:
        for extent in leaf.shape:
            unknown = dimension_names(extent) - set(sizes)
            if unknown:
                raise ArgumentError(f"values: the dimension {', '.join(sorted(unknown))} is not known from any value")
    return sizes


def number(value: Any) -> str:
    """A number in three significant digits; whole numbers in full."""
    if isinstance(value, (bool, np.bool_)):
        return str(bool(value))
    real = float(value)
    if real == 0:
        return "0"  # a minus sign before zero says nothing to a reader
    if real.is_integer() and abs(real) < 1e6:
        return str(int(real))
    return format(real, ".3g")


def summary(array: Array) -> list[str]:
    """A scalar or tiny array in full, otherwise mean, deviation and extremes, in a line or two."""
    if array.ndim == 0:
        return [number(array[()])]
    if array.size <= TINY:
        return [_nested(array)]
    numbers = array.astype(np.float64)
    mean, deviation = number(numbers.mean()), number(numbers.std())
    return [f"mean {mean}, std {deviation}", f"min {number(numbers.min())}, max {number(numbers.max())}"]


def _nested(array: Array) -> str:
    if array.ndim == 0:
        return number(array[()])
    return "[" + ", ".join(_nested(part) for part in array) + "]"

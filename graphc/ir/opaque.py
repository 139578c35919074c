"""The ops that index notation does not cover, each with its reference meaning in NumPy.

take         (array, indices) with axis: array's slices at integer indices, which must lie in [0, extent)
scatter_add  (updates, indices) with axis: zeros of the result's shape, to which each slice of the updates is added at
             its index: the gradient of take
cumsum       (array) with axis and reverse: running sums along an axis, from the end when reverse is 1
checked      (indices) with extent: the indices, which must lie in [0, extent)

stop_gradient (x): x, through which no gradient flows;  custom_vjp (y, x0, x1, ...): y, whose gradients the user gave;
checkpoint_in (x): x, an input of a part whose values a reverse sweep computes again;  checkpoint_out (y, y0, y1, ...):
y, one of all outputs y0, y1, ... of such a part. All four are gone before a program is planned.

again (x, g0, g1, ...): x, but not before g0, g1, ... are known. What is computed from it is not what was computed from
x, so it is computed then. It needs no kernel and no memory: a program has another name for the memory of x.

An index outside its axis is an error before anything is written: `IndexError` in the interpreter and the backends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphc.ir.extent import ints
from graphc.ir.node import Opaque

Array = NDArray[Any]


def _check_bounds(indices: Array, extent: int, op: str) -> None:
    if indices.size and (indices.min() < 0 or indices.max() >= extent):
        bad = indices[(indices < 0) | (indices >= extent)].flat[0]
        raise IndexError(f"{op}: index {bad} is outside an axis of {extent}")


def _take(node: Opaque, arrays: Sequence[Array]) -> Array:
    axis = node.attribute("axis")
    _check_bounds(arrays[1], arrays[0].shape[axis], "take")
    return np.take(arrays[0], arrays[1], axis=axis)


def _scatter_add(node: Opaque, arrays: Sequence[Array]) -> Array:
    axis = node.attribute("axis")
    updates, indices = arrays
    out = np.zeros(ints(node.shape), dtype=node.dtype)
    _check_bounds(indices, out.shape[axis], "take")
    rank = indices.ndim
    moved = np.moveaxis(updates, range(axis, axis + rank), range(rank)).reshape(
        (indices.size, *out.shape[:axis], *out.shape[axis + 1 :])
    )
    np.add.at(np.moveaxis(out, axis, 0), indices.reshape(-1), moved)
    return out


def _cumsum(node: Opaque, arrays: Sequence[Array]) -> Array:
    axis = node.attribute("axis")
    array = np.flip(arrays[0], axis) if node.attribute("reverse") else arrays[0]
    total = np.cumsum(array, axis=axis, dtype=node.dtype)
    return np.flip(total, axis) if node.attribute("reverse") else total


def _checked(node: Opaque, arrays: Sequence[Array]) -> Array:
    _check_bounds(arrays[0], node.attribute("extent"), "checked")
    return arrays[0]


REFERENCE: Mapping[str, Callable[[Opaque, Sequence[Array]], Array]] = {
    "take": _take,
    "scatter_add": _scatter_add,
    "cumsum": _cumsum,
    "checked": _checked,
    "stop_gradient": lambda node, arrays: arrays[0],
    "custom_vjp": lambda node, arrays: arrays[0],
    "checkpoint_in": lambda node, arrays: arrays[0],
    "checkpoint_out": lambda node, arrays: arrays[0],
    "again": lambda node, arrays: arrays[0],
}

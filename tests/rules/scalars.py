"""What the tests of scalar rules share: bodies evaluated by the interpreter, central differences."""

from __future__ import annotations

import numpy as np

from graphc.ir import scalar as sc
from graphc.ir.affine import identity
from graphc.ir.graph import Graph
from graphc.ir.interp import interpret
from graphc.ir.node import leaf, scalar_map
from graphc.ir.verify import verify


def evaluate(body: sc.Scalar, *values: np.ndarray) -> np.ndarray:
    """A body whose Arg j is values[j] (arrays of one length)."""
    leaves = [leaf(f"x{j}", value.shape, value.dtype.name, "input") for j, value in enumerate(values)]
    shape = values[0].shape if values else (1,)
    graph = Graph((scalar_map(shape, leaves, [identity(1)] * len(leaves), body),))
    verify(graph)
    return interpret(graph, dict(zip(leaves, values, strict=True)))[0]


def central_difference(body: sc.Scalar, values: list[np.ndarray], position: int, step: float = 1e-5) -> np.ndarray:
    """d(body)/d(values[position]) to fourth order in the step, in float64."""

    def at(distance: float) -> np.ndarray:
        moved = list(values)
        moved[position] = values[position] + distance
        return evaluate(body, *moved)

    near, far = at(step) - at(-step), at(2 * step) - at(-2 * step)
    return (8 * near - far) / (12 * step)

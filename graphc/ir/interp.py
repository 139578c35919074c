"""The interpreter: what every backend must match. Clear before fast; it walks the whole domain of each Generic.

Sums and products of float32 are accumulated in float64 and rounded once, so that the interpreter is the more accurate
side of every comparison.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphc.ir import loop
from graphc.ir import scalar as sc
from graphc.ir.affine import AffineMap
from graphc.ir.extent import ints
from graphc.ir.graph import Graph
from graphc.ir.node import SKIP, Const, Generic, Input, Join, Node, Opaque, View
from graphc.ir.opaque import REFERENCE

Array = NDArray[Any]


def _ndtr(x: float) -> float:
    """The standard normal distribution function, erfc(-x/sqrt(2))/2; in its tail without the error of x/sqrt(2)."""
    y = -x * math.sqrt(0.5)
    value = math.erfc(y) / 2
    if x < -1 and value:
        value *= math.exp(float(Fraction(y) ** 2 - Fraction(x) ** 2 / 2))
    return value


_VECTORISED = {
    "erf": np.vectorize(math.erf, otypes=[np.float64]),
    "ndtr": np.vectorize(_ndtr, otypes=[np.float64]),
}


def interpret(graph: Graph, values: Mapping[Node, Array]) -> tuple[Array, ...]:
    """The values of the graph's outputs; `values` gives the leaves. All extents must be known."""
    done: dict[Node, Array] = {}
    with np.errstate(all="ignore"):
        for node in graph.nodes:
            done[node] = _evaluate(node, done, values)
    return tuple(done[node] for node in graph.outputs)


def _evaluate(node: Node, done: Mapping[Node, Array], values: Mapping[Node, Array]) -> Array:
    match node:
        case Input():
            return np.asarray(values[node], dtype=node.dtype).reshape(ints(node.shape))
        case Const():
            return node.value
        case View():
            return done[node.operand].reshape(ints(node.shape))
        case Join():  # parts are disjoint and hold 0 where they do not write
            return functools.reduce(np.add, [done[part] for part in node.parts])
        case Opaque(op=loop.SCAN):
            return loop.run(node, [done[operand] for operand in node.operands], interpret)
        case Opaque():
            return REFERENCE[node.op](node, [done[operand] for operand in node.operands])
        case Generic():
            return evaluate_generic(node, [done[operand] for operand in node.operands])


def evaluate_generic(node: Generic, operands: list[Array]) -> Array:
    """Visit every point of the domain in row-major order."""
    domain, shape = ints(node.domain), ints(node.shape)
    points = np.indices(domain, dtype=np.int64).reshape(len(domain), math.prod(domain))
    target, visit = _locate(node.out_map, points, shape)
    reads: list[Array] = []
    for operand, index_map, mode in zip(operands, node.maps, node.modes, strict=True):
        at, inside = _locate(index_map, points, operand.shape)
        if mode == SKIP:
            visit &= inside
        reads.append(np.where(inside, operand.reshape(-1)[at] if operand.size else 0, 0).astype(operand.dtype))
    body = np.broadcast_to(_scalar(node.body, reads, points), points.shape[1:])[visit]
    out_size, target = math.prod(shape), target[visit]
    if node.reducer in ("argmax", "argmin"):
        return _first_extreme(node, body, target, points[:, visit], out_size).reshape(shape)
    if node.reducer in ("max", "min"):
        extreme = np.inf if node.reducer == "min" else -np.inf
        if not node.dtype.startswith("float"):
            extreme = np.iinfo(node.dtype).max if node.reducer == "min" else np.iinfo(node.dtype).min
        out = np.full(out_size, extreme, dtype=node.dtype)
        (np.minimum if node.reducer == "min" else np.maximum).at(out, target, body)
        return out.reshape(shape)
    wide = "float64" if node.dtype == "float32" and node.reducer else node.dtype
    out = np.full(out_size, 1 if node.reducer == "prod" else 0, dtype=wide)
    if node.reducer is None:
        out[target] = body
    else:
        (np.multiply if node.reducer == "prod" else np.add).at(out, target, body)
    return out.astype(node.dtype).reshape(shape)


def _locate(index_map: AffineMap, points: Array, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """For each point the flat position in an array of `shape` (0 where outside) and whether it is inside."""
    flat = np.zeros(points.shape[1], dtype=np.int64)
    inside = np.ones(points.shape[1], dtype=bool)
    for row, extent in zip(index_map.rows, shape, strict=True):
        value = sum((points[axis] * c for axis, c in row.terms), np.full_like(flat, row.const))
        inside &= (value >= 0) & (value < extent)
        flat = flat * extent + value
    return np.where(inside, flat, 0), inside


def _scalar(body: sc.Scalar, reads: list[Array], points: Array) -> Array:
    done: dict[sc.Scalar, Any] = {}
    for node in sc.postorder(body):
        match node:
            case sc.Arg():
                done[node] = reads[node.index]
            case sc.Index():
                done[node] = points[node.axis]
            case sc.Literal():
                done[node] = np.dtype(node.dtype).type(node.value)
            case sc.InBounds():
                done[node] = _locate(node.map, points, ints(node.shape))[1]
            case sc.Size():
                raise ValueError(f"the extent {node.extent} is not known yet")
            case sc.Apply(op="cast"):
                done[node] = done[node.args[0]].astype(node.dtype)
            case sc.Apply(op="select"):
                done[node] = np.where(*(done[arg] for arg in node.args))
            case sc.Apply() if node.op in _VECTORISED:
                done[node] = np.asarray(_VECTORISED[node.op](done[node.args[0]])).astype(node.dtype)
            case sc.Apply():
                done[node] = sc.NUMPY_FUNCTIONS[node.op](*(done[arg] for arg in node.args))
    return np.asarray(done[body])


def _first_extreme(node: Generic, body: Array, target: Array, points: Array, out_size: int) -> Array:
    """Position, in row-major order of the reduced axes, of the first extreme; NaN wins; -1 where nothing was read."""
    position = np.zeros(points.shape[1], dtype=np.int64)
    for axis in node.reduced_axes:
        position = position * ints(node.domain)[axis] + points[axis]
    best = np.full(out_size, -1, dtype=np.int64)
    held = np.zeros(out_size, dtype=body.dtype)
    for value, at, where in zip(body, target, position, strict=True):
        better = value > held[at] if node.reducer == "argmax" else value < held[at]
        if best[at] < 0 or (not np.isnan(held[at]) and (better or np.isnan(value))):
            best[at], held[at] = where, value
    return best

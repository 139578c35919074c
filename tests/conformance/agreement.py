"""How the conformance tests compare: the interpreter against every installed backend, and derivatives against
differences."""

from __future__ import annotations

import math

import numpy as np

import graphc as gc
from graphc.backend import available
from graphc.ir import interp
from graphc.ir import scalar as sc
from graphc.ir.extent import ints
from graphc.ir.graph import Graph
from graphc.ir.node import Generic, Join, Opaque

EPS = {"float32": 2.0**-23, "float64": 2.0**-52}
KINK_DISTANCE = 1e-3
ROUNDING_RUNS = 3


def agree(outputs, values, backends=None):
    """Every backend computes what the interpreter does.

    float64: 1e-10 of the size of the terms; float32: 4 sqrt(K) eps times it, K the longest chain of roundings into
    one number. The size of the terms is measured: the outputs' spread when each node's value is disturbed by its
    rounding.
    """
    outputs = list(outputs)
    graph = Graph(tuple(output.node for output in outputs))
    leaves = {tensor.node: np.asarray(value, dtype=tensor.dtype) for tensor, value in values.items()}
    expected = interp.interpret(graph, leaves)
    sizes = term_sizes(graph, leaves)
    longest = max([1, *(terms_of(node) for node in graph.nodes)])
    for backend in backends or available():
        function = gc.compile(list(values), outputs, backend=backend)
        for output, got, want, size in zip(outputs, function(*values.values()), expected, sizes, strict=True):
            assert got.dtype == want.dtype and got.shape == want.shape, backend
            if not output.dtype.startswith("float"):
                np.testing.assert_array_equal(got, want, err_msg=backend)
                continue
            bound = 1e-10 if output.dtype == "float64" else 4 * math.sqrt(longest) * EPS["float32"]
            same = (got == want) | (np.isnan(got) & np.isnan(want))
            with np.errstate(invalid="ignore"):
                wrong = ~same & ~(np.abs(got.astype(np.float64) - want) <= bound * size)
            assert not wrong.any(), (
                f"{backend}: {output} at {np.argwhere(wrong)[0]}: {got[wrong][0]} for {want[wrong][0]}, "
                f"size {np.broadcast_to(size, got.shape)[wrong][0]}\n{graph}"
            )


def terms_of(node):
    """How many roundings go into one element of a node."""
    if isinstance(node, Generic):
        points = math.prod(node.domain[axis] for axis in node.reduced_axes)
        return points + len(sc.postorder(node.body))
    return max(node.shape, default=1) if isinstance(node, Opaque) else 1


def term_sizes(graph, leaves):
    """|value| plus what one rounding error at each node moves it by, in units of that error."""
    widest = {node: value.astype(np.float64) if value.dtype.kind == "f" else value for node, value in leaves.items()}
    rng = np.random.default_rng(0)
    plain = _walk(graph, widest, None, 0)
    sizes = [np.abs(value.astype(np.float64)) for value in plain]
    small = 1e-7
    for _ in range(ROUNDING_RUNS):
        moved = _walk(graph, widest, rng, small)
        with np.errstate(invalid="ignore"):
            sizes = [s + np.abs(m.astype(np.float64) - p) / small for s, m, p in zip(sizes, moved, plain, strict=True)]
    return [
        np.where(np.isfinite(size), size, np.inf) + np.max(size, initial=0, where=np.isfinite(size)) for size in sizes
    ]


def _walk(graph, leaves, rng, small):
    """The interpreter with every float value multiplied by 1 + small * (a number in [-1, 1])."""
    done = {}
    with np.errstate(all="ignore"):
        for node in graph.nodes:
            value = interp._evaluate(node, done, leaves) if node not in leaves else leaves[node]
            disturb = rng is not None and value.dtype.kind == "f" and not isinstance(node, Join)
            done[node] = value * (1 + small * rng.uniform(-1, 1, value.shape)) if disturb else value
    return [np.asarray(done[node]) for node in graph.outputs]


def kink_distance(graph, leaves):
    """How far the nearest comparison or maximum is from a tie."""
    nearest = math.inf
    done = {}
    with np.errstate(all="ignore"):
        for node in graph.nodes:
            done[node] = interp._evaluate(node, done, leaves)
            if isinstance(node, Generic):
                nearest = min(nearest, _nearest_tie(node, [done[operand] for operand in node.operands]))
    return nearest


def _nearest_tie(node, operands):
    domain = ints(node.domain)
    points = np.indices(domain, dtype=np.int64).reshape(len(domain), math.prod(domain))
    reads = []
    visited = np.ones(points.shape[1], dtype=bool)
    for operand, index_map, mode in zip(operands, node.maps, node.modes, strict=True):
        at, inside = interp._locate(index_map, points, operand.shape)
        visited &= inside | (mode != "skip")
        reads.append(np.where(inside, operand.reshape(-1)[at] if operand.size else 0, 0))
    nearest = math.inf
    for part in sc.postorder(node.body):
        if isinstance(part, sc.Apply) and part.op in ("lt", "le", "eq", "maximum", "minimum", "abs", "sign", "floor"):
            if not part.args[0].dtype.startswith("float"):
                continue
            values = [interp._scalar(arg, reads, points) for arg in part.args]
            gap = np.abs(values[0] - (values[1] if len(values) > 1 else 0))
            gap = np.broadcast_to(gap, visited.shape)[visited]
            nearest = min(nearest, float(gap.min(initial=math.inf)))
    if node.reducer in ("max", "min", "argmax", "argmin"):
        body = np.broadcast_to(interp._scalar(node.body, reads, points), visited.shape)
        target, _ = interp._locate(node.out_map, points, ints(node.shape))
        for element in np.unique(target[visited]):
            group = np.sort(body[visited & (target == element)])
            if group.size > 1:
                gaps = np.diff(group)
                nearest = min(nearest, float(gaps[-1] if node.reducer.endswith("max") else gaps[0]))
    return nearest


def derivatives_match(loss, leaf, values, rng):
    """First and second derivatives along a random direction against central differences (float64)."""
    gradient = gc.grad(loss, leaf)
    vector = rng.normal(size=ints(leaf.shape))
    curvature = gc.jvp(gradient, leaf, vector)
    graph = Graph((loss.node, gradient.node, curvature.node))
    at = {tensor.node: np.asarray(value, dtype=tensor.dtype) for tensor, value in values.items()}
    _, slope, second = interp.interpret(graph, at)
    step = 1e-5
    ahead, behind = (
        interp.interpret(graph, {**at, leaf.node: at[leaf.node] + sign * step * vector}) for sign in (1, -1)
    )
    bound = 1e-6 * (1 + np.abs(slope).max(initial=0) + np.abs(second).max(initial=0))
    np.testing.assert_allclose((slope * vector).sum(), (ahead[0] - behind[0]) / (2 * step), atol=bound, rtol=1e-6)
    np.testing.assert_allclose(second, (ahead[1] - behind[1]) / (2 * step), atol=bound, rtol=1e-6)

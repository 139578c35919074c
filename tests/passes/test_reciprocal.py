"""Division by a shared root: what becomes a product, what stays a quotient, and that the values stay right."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc.ir import scalar as sc
from graphc.ir.graph import Graph
from graphc.ir.node import Generic
from graphc.passes.reciprocal import multiply_by_reciprocals


def divisions(graph: Graph, least: int) -> int:
    """Quotients in bodies over at least so many points."""
    return sum(
        part.op == "div"
        for node in graph.nodes
        if isinstance(node, Generic) and np.prod([int(str(e)) for e in node.domain]) >= least
        for part in sc.postorder(node.body)
        if isinstance(part, sc.Apply)
    )


def rewritten(expression):
    return multiply_by_reciprocals(Graph((expression.node,)))


x, v = gc.input("x", (16, 32)), gc.input("v", (16, 1))


def test_a_root_of_each_row():
    assert divisions(rewritten(x / gc.sqrt(v)), 16 * 32) == 0


def test_twice_in_one_expression():
    s = gc.sqrt(v)
    graph = rewritten((x / s) / s + x / s)
    assert divisions(graph, 16 * 32) == 0
    assert divisions(graph, 1) == 1


@pytest.mark.parametrize(
    "expression", [x / v, x / (gc.sqrt(v) + 1e-6), x / gc.sqrt(x * x), gc.sqrt(v) / x], ids=str
)
def test_others_stay(expression):
    assert rewritten(expression).outputs == (expression.node,)


@pytest.mark.parametrize("backend", ["numpy", "llvm"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values(backend, dtype):
    a, b = gc.input("a", (40, 64), dtype=dtype), gc.input("b", (40, 1), dtype=dtype)
    function = gc.compile([a, b], a / gc.sqrt(b), backend=backend)
    info = np.finfo(dtype)
    rng = np.random.default_rng(0)
    left = rng.normal(size=(40, 64)).astype(dtype)
    left[:, :6] = 0, -0.0, np.inf, -np.inf, np.nan, info.tiny
    right = rng.uniform(0, 4, (40, 1)).astype(dtype)
    right[:6, 0] = 0, np.inf, np.nan, info.smallest_subnormal, info.max, info.tiny
    with np.errstate(all="ignore"):
        root = np.sqrt(right)
        expected = left.astype("longdouble") / root
        rounded = expected.astype(dtype)
    found = function(left, right)
    same = (found == rounded) | (np.isnan(found) & np.isnan(rounded))
    usual = np.isfinite(rounded)
    with np.errstate(all="ignore"):
        ulp = np.abs(found.astype("longdouble") - expected) / np.spacing(np.abs(rounded))
    assert np.all(same | (usual & (ulp <= 1.5)))
    assert np.array_equal(np.signbit(found[same & ~np.isnan(found)]), np.signbit(rounded[same & ~np.isnan(found)]))

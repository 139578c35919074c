"""Matrix chains: what is reordered, and what is not."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import graphc as gc
from graphc.ir.graph import Graph
from graphc.ir.node import Generic
from graphc.passes.chain import order_chains
from graphc.passes.simplify import simplify
from tests.passes.support import keeps_meaning


def matrices(*extents):
    return [gc.input(f"m{k}", pair, "float64") for k, pair in enumerate(itertools.pairwise(extents))]


def simplified_chain(graph):
    return order_chains(simplify(graph))


def cost(graph):
    return sum(int(np.prod(node.domain)) for node in graph.nodes if isinstance(node, Generic) and node.reducer == "sum")


def test_the_narrow_side_goes_first():
    a, b, c = matrices(10, 30, 5, 60)
    assert cost(keeps_meaning(simplified_chain, a @ (b @ c))) == 10 * 30 * 5 + 10 * 5 * 60


def test_the_cheaper_order_is_kept_as_written():
    a, b, c = matrices(10, 30, 5, 60)
    graph = simplify(Graph(((a @ b @ c).node,)))
    assert order_chains(graph).outputs == graph.outputs


@pytest.mark.parametrize("turn", [False, True])
def test_transposes_within_a_chain(turn):
    a, b, c = gc.input("a", (4, 10), "float64"), gc.input("b", (30, 4), "float64"), gc.input("c", (5, 30), "float64")
    x = gc.input("x", (5,), "float64")
    product = (a.T @ b.T) @ c.T
    graph = keeps_meaning(simplified_chain, product.T @ gc.ones((10, 2), "float64") if turn else product @ x)
    assert cost(graph) < 10 * 4 * 30


def test_a_product_read_elsewhere_is_kept():
    a, b, c = matrices(10, 30, 20, 1)
    product = a @ b
    graph = keeps_meaning(simplified_chain, product @ c, gc.exp(product))
    assert cost(graph) == 10 * 30 * 20 + 10 * 20


def test_elementwise_ops_end_a_chain():
    a, b, c = matrices(10, 30, 20, 1)
    assert cost(keeps_meaning(simplified_chain, gc.exp(a @ b) @ c)) == 10 * 30 * 20 + 10 * 20


def test_batches_are_left_alone():
    a, b, c = (
        gc.input(name, shape, "float64") for name, shape in zip("abc", [(2, 9, 8), (2, 8, 7), (2, 7, 1)], strict=True)
    )
    graph = keeps_meaning(simplified_chain, a @ b @ c)
    assert cost(graph) == 2 * 9 * 8 * 7 + 2 * 9 * 7


def test_gradients_of_a_chain():
    a, b, c = matrices(12, 20, 16, 1)
    loss = gc.sum((a @ b @ c) ** 2)
    keeps_meaning(simplified_chain, *gc.grad(loss, [a, b, c]), rtol=1e-9)


def test_inner_products_of_vectors():
    a, x, y = gc.input("a", (6, 6), "float64"), gc.input("x", (6,), "float64"), gc.input("y", (6,), "float64")
    graph = keeps_meaning(simplified_chain, (x @ (a @ a)) @ y, x @ (a @ (a @ y)), x @ y)
    assert cost(graph) <= 2 * (2 * 36 + 6) + 6


def test_a_thousand_factors_need_no_stack():
    square = gc.input("square", (2, 2), "float64")
    product = square
    for _ in range(2_000):
        product = product @ square
    keeps_meaning(simplified_chain, product, values={square.node: np.array([[0.5, 0.5], [0.25, 0.75]])})

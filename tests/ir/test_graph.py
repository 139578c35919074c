"""Graph: order, users, rewriting, specialising, the exchange with networkx."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest

import graphc as gc
from graphc.ir.extent import dimension
from graphc.ir.graph import Graph, rebuild, replace, rewrite, specialise, topological
from graphc.ir.interp import interpret
from graphc.ir.node import Generic, Input, Join
from graphc.ir.origin import origins_of
from graphc.ir.verify import verify


def model():
    x, w = gc.input("x", ("N", 3)), gc.input("w", (3, 2))
    hidden = gc.tanh(x @ w)
    return x, w, hidden, gc.sum(hidden * hidden)


def test_operands_come_first_and_each_node_once():
    *_, loss = model()
    order = topological((loss.node, loss.node))
    assert len(set(order)) == len(order)
    for place, node in enumerate(order):
        assert all(operand in order[:place] for operand in node.operands)


def test_inputs_are_in_the_order_of_declaration():
    a, b, c = (gc.input(name, ()) for name in "abc")
    assert [leaf.name for leaf in Graph(((c * a + b).node,)).inputs] == ["a", "b", "c"]


def test_dimensions_and_users():
    x, _, hidden, loss = model()
    graph = Graph((loss.node,))
    assert graph.dimensions == ("N",)
    users = graph.users()
    assert users[loss.node] == [] and len(users[hidden.node]) == 1 and len(users[x.node]) == 1
    assert set(users) == set(graph.nodes)


def test_rebuild_returns_the_node_when_nothing_changes():
    *_, loss = model()
    for node in topological((loss.node,)):
        assert rebuild(node, node.operands) is node


def test_rewrite_without_a_change_is_the_same_graph():
    *_, loss = model()
    graph = Graph((loss.node,), ("loss",))
    new = rewrite(graph, lambda node: node)
    assert new.outputs == graph.outputs and new.names == ("loss",)


def test_replace_puts_another_node_in_place():
    x, _, _, loss = model()
    other = gc.input("other", ("N", 3))
    (new,) = replace(Graph((loss.node,)), {x.node: other.node}).outputs
    assert x.node not in topological((new,)) and other.node in topological((new,))
    assert origins_of(new)[0].where == origins_of(loss.node)[0].where


def test_rewrite_passes_parts_of_joins_to_their_own_step():
    x = gc.input("x", (4,))
    joined = gc.concatenate([gc.sin(x), gc.cos(x)])
    graph = Graph((joined.node,))
    assert isinstance(joined.node, Join)
    parts, others = [], []

    def part_step(node):
        parts.append(node)
        return node

    def step(node):
        others.append(node)
        return node

    rewrite(graph, step, part_step)
    assert set(parts) == set(joined.node.parts) and not set(parts) & set(others)


def test_specialise_knows_every_extent():
    x, w, hidden, loss = model()
    gradient = gc.grad(loss, x)
    graph = Graph((loss.node, gradient.node, gc.mean(hidden).node))
    leaves = {}
    new = specialise(graph, {"N": 5}, leaves)
    verify(new)
    assert all(isinstance(extent, int) for node in new.nodes for extent in node.shape)
    assert leaves[x.node].shape == (5, 3) and leaves[w.node] is w.node
    assert new.nodes == specialise(graph, {"N": 5}, {}).nodes
    rng = np.random.default_rng(0)
    values = {leaves[x.node]: rng.normal(size=(5, 3)), w.node: rng.normal(size=(3, 2))}
    total, to_x, mean = interpret(new, values)
    h = np.tanh(values[leaves[x.node]] @ values[w.node])
    np.testing.assert_allclose(total, (h * h).sum(), rtol=1e-6)
    np.testing.assert_allclose(mean, h.mean(), rtol=1e-6)
    np.testing.assert_allclose(to_x, (2 * h * (1 - h * h)) @ values[w.node].T, rtol=1e-5)


def test_specialise_one_dimension_of_two():
    x = gc.input("x", ("N", "M"))
    (node,) = specialise(Graph((gc.sum(x, axis=0).node,)), {"N": 5}, {}).outputs
    assert node.domain == (dimension("M"), 5) and node.shape == (dimension("M"),)


@pytest.mark.parametrize("size", [0, 1, 2, 9])
def test_specialised_windows_and_slices(size):
    x = gc.input("x", ("N",))
    outputs = [x[::-1], x[: (size + 1) // 2] if size else x, gc.concatenate([x, x]), gc.cumsum(x)]
    leaves = {}
    graph = specialise(Graph(tuple(y.node for y in outputs)), {"N": size}, leaves)
    verify(graph)
    value = np.arange(size, dtype=np.float32)
    node = leaves.get(x.node, x.node)
    got = interpret(graph, {node: value})
    np.testing.assert_array_equal(got[0], value[::-1])
    np.testing.assert_array_equal(got[2], np.concatenate([value, value]))
    np.testing.assert_array_equal(got[3], np.cumsum(value))


def test_to_networkx():
    x, _, hidden, loss = model()
    hidden.named("squashed")
    graph = Graph((loss.node,))
    out = graph.to_networkx()
    assert out.number_of_nodes() == len(graph.nodes) and nx.is_directed_acyclic_graph(out)
    assert out.number_of_edges() == sum(len(node.operands) for node in graph.nodes)
    assert out.nodes["x"]["shape"] == x.shape and out.nodes["squashed"]["node"] is hidden.node
    assert isinstance(out.nodes["x"]["node"], Input) and isinstance(out.nodes["squashed"]["node"], Generic)

"""The order of execution: short lives, and updates after all that reads the old value."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc.backend import available
from graphc.ir.graph import Graph
from graphc.passes.order import execution_order


def chain(layers, optimiser):
    x, t = gc.input("x", (8, 16)), gc.input("t", (8,), "int64")
    stack = [part for k in range(layers) for part in (gc.nn.Linear(16, 16, seed=k), gc.nn.Tanh())]
    model = gc.nn.Sequential(*stack, gc.nn.Linear(16, 10, seed=99))
    loss = gc.nn.cross_entropy(model(x), t)
    return gc.compile([x, t], [loss], optimiser.updates(loss, model.parameters()), backend="numpy")


def ordered(outputs, updates=()):
    nodes = [tensor.node for tensor in (*outputs, *dict(updates).values())]
    graph = Graph(tuple(nodes))
    order = execution_order(graph, len(outputs), [target.node for target in dict(updates)])
    assert sorted(map(id, order)) == sorted(map(id, graph.nodes))
    place = {node: number for number, node in enumerate(order)}
    assert all(place[operand] < place[node] for node in order for operand in node.operands)
    return place


@pytest.mark.parametrize("optimiser", [gc.optim.SGD(0.1), gc.optim.SGD(0.1, momentum=0.9), gc.optim.Adam()])
def test_cotangents_do_not_pile_up(optimiser):
    """Of a chain the activations are alive together, and beside them two cotangents and a few small arrays."""
    step = chain(12, optimiser)
    one = 8 * 16 * 4
    assert 12 * one <= step.stats.peak_bytes <= 15 * one
    assert all(step.program.root(source).kind == "update" for source, _ in step.program.updates)


def test_readers_of_an_old_value_come_before_the_new_one():
    x = gc.input("x", (4,))
    a, b = gc.param("a", (4,), init=1), gc.param("b", (4,), init=2)
    new_b = b - gc.sum(gc.cos(a * x)) * b
    new_a = gc.exp(a) * gc.sin(gc.exp(gc.exp(x * 2)))
    place = ordered([], {a: new_a, b: new_b})
    readers = [node for node in place if a.node in node.operands and node is not new_a.node]
    assert all(place[node] < place[new_a.node] for node in readers)


def test_a_shallow_update_that_much_reads_comes_last():
    x, w = gc.input("x", (4,)), gc.param("w", (4,), init=1)
    rate = gc.state("rate", (), init=0.1)
    new = w - rate * gc.sin(gc.tanh(w * x))
    place = ordered([gc.sum(new)], {rate: rate * 0.9, w: new})
    assert place[(rate * 0.9).node] == len(place) - 1


@pytest.mark.parametrize("backend", available())
def test_updates_that_read_each_other(backend):
    """No order puts each after its readers: they end all the same, and with the right values."""
    a, b = gc.param("a", (3,), init=1), gc.param("b", (3,), init=2)
    a.value, b.value = np.full(3, 1), np.full(3, 2)
    step = gc.compile([], [gc.sum(a)], {a: gc.sin(b) * a, b: gc.cos(a) + b, }, backend=backend)
    step()
    np.testing.assert_allclose(a.value, np.sin(2.0), rtol=1e-6)
    np.testing.assert_allclose(b.value, np.cos(1.0) + 2, rtol=1e-6)


def test_one_value_for_two_targets_waits_for_the_readers_of_both():
    x = gc.input("x", (3,))
    a, b = gc.param("a", (3,), init=1), gc.param("b", (3,), init=2)
    c, d = gc.param("c", (3,), init=1), gc.param("d", (3,), init=2)
    new = gc.exp(gc.exp(gc.exp(x)))
    readers = [gc.sin(a), gc.sin(b)]
    deep = [gc.tanh(gc.tanh(gc.tanh(gc.tanh(gc.tanh(one))))) for one in readers]
    place = ordered([], {a: new, b: new, c: deep[0], d: deep[1]})
    assert all(place[one.node] < place[new.node] < place[last.node] for one, last in zip(readers, deep, strict=True))

"""Random graphs: arrows are reads, numbers are the interpreter's and finite differences'; shared terms, steps."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphc as gc
from graphc.ir.graph import Graph
from graphc.ir.interp import interpret
from graphc.ir.node import Node
from graphc.render import graph_of, picture_of
from graphc.render.dot import dot_of_picture
from graphc.render.fold import fold
from graphc.render.gradients import gradients_of
from graphc.render.picture import Picture
from graphc.render.values import summary

EDGE = re.compile(r"^\s*(\w+) -> (\w+)(?: \[(.*)\])?$", re.M)
STEP = 1e-6

OPS = [
    lambda a, b: a + b,
    lambda a, b: a * b,
    lambda a, b: a @ b,
    lambda a, b: gc.exp(a / 4),
    lambda a, b: gc.maximum(a, b + 0.25),  # equal arguments would be a kink
    lambda a, b: gc.softmax(a),
    lambda a, b: a.T + b,
    lambda a, b: gc.sin(a) - gc.sigmoid(b),
]
PROGRAMS = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=8)
Steps = list[tuple[int, int, int]]


def build(steps: Steps, dtype: str = "float32") -> tuple[gc.Tensor, gc.Tensor, gc.Tensor]:
    """A loss made of the steps in scopes, and its two leaves."""
    x, w = gc.input("x", (2, 2), dtype=dtype), gc.input("w", (2, 2), dtype=dtype)
    values = [x, w]
    for number, (op, left, right) in enumerate(steps):
        with gc.scope(f"block{number // 3}"):
            values.append(OPS[op](values[left % len(values)], values[right % len(values)]))
    return gc.sum(values[-1] * values[-1] / 2), x, w


def edges_of(dot: str) -> set[tuple[str, str]]:
    """(what is read, who reads it) for every edge that is drawn."""
    found: set[tuple[str, str]] = set()
    for tail, head, attributes in EDGE.findall(dot):
        if "style=invis" not in attributes:
            found.add((head, tail) if "dir=back" in attributes else (tail, head))
    return found


def reads_of(drawn: Picture) -> set[tuple[Node, Node]]:
    return {read for arrow in drawn.arrows for read in arrow.reads}


@given(PROGRAMS, st.booleans())
@settings(max_examples=30)
def test_the_edges_of_a_drawing_are_the_edges_of_the_graph(steps: Steps, backward: bool) -> None:
    loss, *_ = build(steps)
    graph = graph_of(loss)
    outputs = (*graph.outputs, *gradients_of([loss.node]).graph.outputs) if backward else graph.outputs
    nodes = Graph(outputs).nodes
    whole = picture_of(loss, backward=backward, depth=99)
    ids = {box.nodes[0]: box.id for box in whole.boxes}
    assert set(ids) == set(nodes)
    dot = dot_of_picture(fold(whole))
    assert edges_of(dot) == {(ids[operand], ids[node]) for node in nodes for operand in node.operands}
    assert set(re.findall(r"^\s*(n\d+) \[", dot, re.M)) == set(ids.values())
    assert dot == dot_of_picture(fold(picture_of(loss, backward=backward, depth=99)))


@given(PROGRAMS, st.booleans(), st.sampled_from([None, 0, 1, 2]))
@settings(max_examples=30)
def test_a_folded_drawing_holds_every_node_once_and_every_read_between_two_boxes(
    steps: Steps, backward: bool, depth: int | None
) -> None:
    loss, *_ = build(steps)
    whole = picture_of(loss, backward=backward, depth=depth)
    folded = fold(whole)
    home = {node: box.id for box in folded.boxes for node in box.nodes}
    assert sorted(box.nodes[0].__hash__() for box in whole.boxes) == sorted(
        node.__hash__() for box in folded.boxes for node in box.nodes
    )
    between = {(a, b) for a, b in reads_of(whole) if home[a] != home[b]}
    assert reads_of(folded) == between
    assert {(arrow.source, arrow.target) for arrow in folded.arrows} == {(home[a], home[b]) for a, b in between}
    assert edges_of(dot_of_picture(folded)) == {(home[a], home[b]) for a, b in between}
    assert all(box.owner is None or box.owner in home.values() for box in folded.boxes)
    known = {group.key for group in folded.groups}
    assert all(box.group is None or box.group in known for box in folded.boxes)


def finite_difference(loss: gc.Tensor, node: Node, given_values: dict[Node, np.ndarray]) -> np.ndarray:
    """dloss/dnode: the node is replaced by a leaf, and each of its elements moved both ways."""
    (value,) = interpret(Graph((node,)), given_values)
    leaf = gc.input("moved", node.shape, dtype=node.dtype)
    from graphc.ir.graph import replace  # replace is a common name

    cut = replace(Graph((loss.node,)), {node: leaf.node})
    found = np.zeros_like(value)
    for place in np.ndindex(value.shape):
        ends = []
        for step in (STEP, -STEP):
            moved = np.array(value)
            moved[place] += step
            ends.append(interpret(cut, {**given_values, leaf.node: moved})[0])
        found[place] = (ends[0] - ends[1]) / (2 * STEP)
    return found


@given(PROGRAMS, st.integers(0, 1000))
@settings(max_examples=25)
def test_drawn_values_are_the_interpreters_and_drawn_gradients_the_finite_differences(steps: Steps, seed: int) -> None:
    loss, x, w = build(steps, "float64")
    rng = np.random.default_rng(seed)
    arrays = {x: rng.normal(size=(2, 2)), w: rng.normal(size=(2, 2))}
    by_node = {tensor.node: array for tensor, array in arrays.items()}
    graph = graph_of(loss)
    values = {x: arrays[x], w: arrays[w]} if w.node in graph.nodes and x.node in graph.nodes else None
    if values is None:
        values = {tensor: array for tensor, array in arrays.items() if tensor.node in graph.nodes}
    drawn = picture_of(loss, values=values, depth=99)
    lines = {}
    for arrow in drawn.arrows:
        lines[arrow.reads[0][0]] = (arrow.above, arrow.below)
    checked = 0
    for node in graph.nodes:
        if node is loss.node or node not in lines:
            continue
        above, below = lines[node]
        (value,) = interpret(Graph((node,)), by_node)
        assert [line.text for line in above if line.style == "value"] == summary(value)
        if not below:
            continue
        expected = finite_difference(loss, node, by_node)
        shown = np.array([float(text) for line in below for text in re.findall(NUMBER, line.text)])
        if expected.size <= 4:
            scale = 1e-2 * np.abs(expected).reshape(-1) + 1e-5 * (1 + np.abs(expected).max())  # three digits are drawn
            assert np.all(np.abs(shown - expected.reshape(-1)) <= scale), (shown, expected)
            checked += 1
    assert checked


NUMBER = r"-?\d+(?:\.\d+)?(?:e[+-]\d+)?"


@pytest.mark.feature("A4")
def test_a_term_that_several_lines_asked_for_says_so() -> None:
    x = gc.input("x")
    a = gc.exp(x) + 1
    b = gc.exp(x) * 2
    shared = [box for box in picture_of(a * b).boxes if box.is_shared]
    assert [box.lines[0].text for box in shared] == ["exp"]
    (lines,) = [line.text for line in shared[0].lines if line.text.startswith("shared")]
    assert re.fullmatch(r"shared: test_drawing\.py:(\d+), :(\d+)", lines)
    assert len(shared[0].details["shared: asked for by"]) == 2


def test_steps_follow_the_order_of_computation() -> None:
    x, y, z = gc.input("x"), gc.input("y"), gc.input("z")
    q = x + y
    f = (q * z).named("f")
    for backward in (False, True):
        drawn = picture_of(f, values={"x": -2, "y": 5, "z": -4}, backward=backward)
        captions = [step.caption for step in drawn.steps]
        assert captions[0] in ("given: z = -4, x = -2, y = 5", "given: x = -2, y = 5, z = -4")
        assert {"q = x + y = 3", "f = z * q = -12", "∂f/∂f = 1.0 = 1", "∂f/∂z = q * ∂f/∂f = 3"} <= set(captions)
        done: set[str] = set()
        for step in drawn.steps:
            for name in step.boxes:
                read = {arrow.source for arrow in drawn.arrows if arrow.target == name and arrow.role != "update"}
                assert read <= done | set(step.boxes)
            done |= set(step.boxes)
        assert done == {box.id for box in drawn.boxes}
        assert {name for step in drawn.steps for name in step.gradients} == {
            box.id for box in drawn.boxes if box.half == "forward"
        }


def test_a_step_shows_no_number_before_its_time() -> None:
    x, z = gc.input("x"), gc.input("z")
    f = (gc.exp(x) * z).named("f")
    drawn = fold(picture_of(f, values={"x": 1, "z": 7}))
    numbers = re.compile(r'color="#(?:00603a|a8123e)">(?:<i>)?(-?[\d.]+)')
    seen = [numbers.findall(dot_of_picture(drawn, step)) for step in range(len(drawn.steps))]
    assert seen[0] == ["1", "7"] or seen[0] == ["7", "1"]
    assert "2.72" in seen[1] and "19" not in seen[1]
    assert len(seen[-1]) > len(seen[2])
    for step in range(len(drawn.steps) - 1):
        assert set(seen[step]) <= set(seen[step + 1])

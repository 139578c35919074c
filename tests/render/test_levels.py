"""The levels of a drawing: as written, after rewriting, as kernels; whole training steps; files of every kind."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

import graphc as gc
from graphc import nn
from graphc.errors import ArgumentError, GradientError
from graphc.ir.graph import Graph
from graphc.ir.interp import interpret
from graphc.render import dot_of, picture_of, rewritten
from graphc.render.fold import fold
from graphc.render.picture import Picture


def softplus() -> gc.Tensor:
    x = gc.input("x")
    return gc.log(1 + gc.exp(x)).named("f")


def texts(drawn: Picture) -> list[str]:
    return [line.text for box in drawn.boxes for line in box.lines]


def test_the_level_graph_is_what_the_passes_leave() -> None:
    f = softplus()
    x = next(leaf for leaf in Graph((f.node,)).inputs)
    drawn = picture_of(f, level="graph", backward=True)
    expected = rewritten(Graph((f.node, gc.grad(f, gc.Tensor(x)).node)))
    assert {node for box in drawn.boxes for node in box.nodes} == set(expected.nodes)
    assert {read for arrow in drawn.arrows for read in arrow.reads} == {
        (operand, node) for node in expected.nodes for operand in node.operands
    }
    said = texts(drawn)
    assert "softplus(□)" in said and "sigmoid(□)" in said and "∂f/∂x" in said
    assert "exp" in texts(picture_of(f)) and "exp" not in said


def test_values_at_the_level_graph_are_the_interpreters() -> None:
    drawn = picture_of(softplus(), level="graph", values={"x": 100.0})
    (leaf,) = [box for box in drawn.boxes if box.kind == "input"]
    (output,) = [box for box in drawn.boxes if box.kind == "output"]
    (value,) = interpret(Graph(output.nodes), {leaf.nodes[0]: np.float32(100)})
    assert output.details["value"] == (f"{value:.0f}",) == ("100",)


def test_the_level_program_draws_kernels() -> None:
    drawn = picture_of(softplus(), level="program", backward=True)
    assert {box.kind for box in drawn.boxes} >= {"kernel", "output"}
    step = gc.compile([gc.input("x")], gc.constant(1.0), backend="numpy")
    assert picture_of(step, level="program").boxes


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"level": "kernel"}, "op, graph, program are the levels, not 'kernel'"),
        ({"level": "program", "values": {"x": 1}}, "a program has none"),
        ({"direction": "up"}, "LR or TB is needed, not 'up'"),
        ({"depth": -2}, "from 0 up is needed, not -2"),
    ],
)
def test_wrong_options_are_named(options: dict, words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        picture_of(softplus(), **options)


def test_gradients_of_no_scalar_are_an_error_at_every_level() -> None:
    x = gc.input("x", (3,))
    for level in ("op", "graph", "program"):
        with pytest.raises(GradientError, match="exactly one float scalar"):
            picture_of(gc.exp(x), backward=True, level=level)


def test_steps_are_numbered_files(tmp_path: Path) -> None:
    paths = gc.render(softplus(), tmp_path / "f.svg", values={"x": 1.0}, steps=True)
    assert [Path(path).name for path in paths] == [f"f-{n:02}.svg" for n in range(1, len(paths) + 1)]
    assert all("<svg" in Path(path).read_text() for path in paths)
    last = Path(paths[-1]).read_text()
    assert f"{len(paths)} of {len(paths)}: ∂f/∂x" in last
    sizes = {re.search(r'<svg width="(\d+)pt" height="(\d+)pt"', Path(path).read_text()).groups() for path in paths[1:]}
    assert len({height for _, height in sizes}) == 1  # the pictures lie on one another
    with pytest.raises(ArgumentError, match="a path is needed"):
        gc.render(softplus(), steps=True)


def test_a_page_of_steps_is_one_file(tmp_path: Path) -> None:
    (path,) = gc.render(softplus(), tmp_path / "f.html", steps=True)
    page = Path(path).read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>") and json.dumps("∂f/∂x")[1:-1] in page
    assert gc.render(softplus(), tmp_path / "g.html", level="program") == str(tmp_path / "g.html")


def training_step(optimiser: str) -> gc.Function:
    x, t = gc.input("x", ("N", 4)), gc.input("t", ("N",), dtype="int64")
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    loss = nn.cross_entropy(model(x), t).named("L")
    updates = getattr(gc.optim, optimiser)(lr=0.1).updates(loss, model.parameters())
    return gc.compile([x, t], [loss], updates=updates, backend="numpy")


@pytest.mark.parametrize("optimiser", ["SGD", "Adam"])
@pytest.mark.parametrize("depth", [None, 0, 9])
def test_a_training_step_is_drawn_whole(optimiser: str, depth: int | None) -> None:
    step = training_step(optimiser)
    whole = picture_of(step, depth=depth)
    drawn = fold(whole)
    assert {node for box in drawn.boxes for node in box.nodes} == set(step.graph.nodes)
    back = [arrow for arrow in whole.arrows if arrow.role == "update"]
    ids = {box.nodes[0]: box.id for box in whole.boxes}
    new_values = step.graph.outputs[1:]
    wanted = {(ids[value], ids[target.node]) for value, target in zip(new_values, step.targets, strict=True)}
    assert {(arrow.source, arrow.target) for arrow in back} == wanted
    forward = {node for box in whole.boxes if box.half == "forward" for node in box.nodes}
    assert forward == set(Graph(step.graph.outputs[:1]).nodes)
    said = texts(drawn)
    assert "∂L/∂(tanh)" in said or "∂L/∂(multiply)" in said or "∂L/∂(add)" in said
    if depth is None:
        assert said.count(optimiser) == 4 + (optimiser == "Adam") and "0.weight :=" in said  # Adam: the step, too


def test_a_loop_and_its_gradient_are_a_box_each() -> None:
    x = gc.input("x", ("T", 2, 3))
    outputs, _ = nn.LSTM(3, 4)(x)
    drawn = fold(picture_of(gc.sum(outputs * outputs).named("L"), backward=True))
    loops = [box for box in drawn.boxes if box.lines[-1].text in ("scan", "scan, backward", "outputs")]
    assert [box.half for box in loops] == ["forward", "gradient"]
    (inside,) = [box.details["in each step"] for box in picture_of(outputs).boxes if "in each step" in box.details]
    assert any("tanh" in line for line in inside)


def test_what_is_drawn_is_a_tensor_a_list_a_graph_or_a_function() -> None:
    f = softplus()
    assert dot_of(f) == dot_of([f]) == dot_of(Graph((f.node,), ("f",)))


def test_what_is_made_of_gradients_stands_on_their_side() -> None:
    x = gc.input("x", (3,))
    loss = gc.sum(gc.sin(x)).named("L")
    norm = gc.sum(gc.grad(loss, x) ** 2).named("norm")
    drawn = picture_of([loss, norm])
    assert [box.half for box in drawn.boxes if box.details[""] in (("L",), ("norm",))] == ["forward", "gradient"]


def test_a_name_is_that_of_the_line_that_ends_with_the_node() -> None:
    w, x, b = (gc.input(name) for name in ("w", "x", "b"))
    f = 1 / (1 + gc.exp(-(w * x + b)))
    s = gc.sigmoid(w * x + b)
    assert f is not None
    assert "f" not in texts(picture_of(s)) and "s" in texts(picture_of(s))
    t = gc.input("t", ("N",), dtype="int64")
    one = nn.cross_entropy(gc.input("p", ("N", 3)), t)
    two = nn.cross_entropy(gc.input("q", ("N", 3)), t)
    assert one is not None
    assert "one" not in texts(picture_of(two, depth=9)) and "two" in texts(picture_of(two, depth=9))
    h = gc.exp(x)
    k = gc.exp(x) * 2
    assert {"h", "k"} <= set(texts(picture_of(gc.sin(k) + h)))

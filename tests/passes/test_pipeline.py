"""The pipeline as a whole: determinism, growth, debugging output."""

from __future__ import annotations

import cProfile
import dataclasses
import pstats
import subprocess
import sys

import pytest

import graphc as gc
from graphc.ir.graph import Graph
from graphc.passes import pipeline
from graphc.passes.pipeline import PIPELINE, run_passes
from tests.passes.support import keeps_meaning

MODEL = """
import graphc as gc

def model():
    x, t = gc.input("x", (4, 1, 9, 9)), gc.input("t", (4,), dtype="int64")
    w, b = gc.param("w", (3, 1, 3, 3), init=0.1), gc.param("b", (3,), init=0)
    dense = gc.param("dense", (12, 5), init=0.2)
    hidden = gc.max_pool2d(gc.relu(gc.conv2d(x, w, b, stride=2, padding=1)), 2)
    scores = gc.flatten(hidden) @ dense
    loss = -gc.mean(gc.log(gc.softmax(scores))[:, 0] * gc.take(gc.exp(b), gc.clip(t, 0, 2)))
    updates = {p: p - 0.1 * g for p, g in zip([w, b, dense], gc.grad(loss, [w, b, dense]))}
    outputs = [loss, gc.grad(loss, x), x + x[::-1], gc.var(x), gc.maximum(gc.sin(x), gc.cos(x)) * gc.tanh(x)]
    return gc.compile([x, t], outputs, updates=updates, backend="numpy")
"""


def test_two_compiles_of_one_graph_give_the_same_text():
    namespace = {}
    exec(MODEL, namespace)
    one, other = namespace["model"](), namespace["model"]()
    assert str(one.program) == str(other.program)
    assert one.source("numpy") == other.source("numpy")
    assert one.program.digest == other.program.digest


def test_two_processes_give_the_same_text():
    code = MODEL + "f = model()\nprint(f.program.digest)\nprint(f.program)\nprint(f.source('numpy'))\n"
    texts = []
    for seed in ("0", "1", "4242"):
        done = subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        texts.append(done.stdout)
    assert texts[0] == texts[1] == texts[2] and len(texts[0]) > 2000


def test_what_else_the_process_has_built_does_not_matter():
    noise = "\n".join(f"z{k} = gc.sin(gc.input('z', ({k + 1},)) * {k})" for k in range(20))
    texts = []
    for before in ("", noise):
        code = MODEL + before + "\nprint(model().program)\n"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
        texts.append(done.stdout)
    assert texts[0] == texts[1] and texts[0]


def steps(build, count):
    """Function calls to build a chain of `count` ops, differentiate and simplify it."""
    profile = cProfile.Profile()
    profile.enable()
    x = gc.input("x", (3,))
    y = x
    for step in range(count):
        y = build(x, y, step)
    gradient = gc.grad(gc.sum(y), x)
    run_passes(Graph((y.node, gradient.node)))
    profile.disable()
    return pstats.Stats(profile).total_calls


CHAINS = {
    "maps": lambda x, y, step: gc.sin(y) if step % 2 else y * x,
    "exponentials": lambda x, y, step: gc.exp(-y) if step % 2 else y * x,
    "shared": lambda x, y, step: gc.tanh(y + y * x),
    "reductions": lambda x, y, step: gc.softmax(y) if step % 8 == 0 else y + x,
}


@pytest.mark.parametrize("name", CHAINS)
def test_steps_grow_in_proportion_to_the_nodes(name):
    steps(CHAINS[name], 30)
    small, large = steps(CHAINS[name], 40), steps(CHAINS[name], 400)
    assert large <= 12 * small


def test_ten_thousand_nodes_need_at_most_twelve_times_the_steps_of_a_thousand():
    build = CHAINS["maps"]
    small, large = steps(build, 333), steps(build, 3333)  # about three nodes an op, forward and backward
    assert large <= 12 * small


def test_every_pass_keeps_the_meaning():
    x, w = gc.input("x", (2, 2, 6, 6), "float64"), gc.input("w", (3, 2, 3, 3), "float64")
    y = gc.max_pool2d(gc.tanh(gc.conv2d(x, w, stride=2, padding=1)), 2)
    loss = gc.sum(gc.softmax(gc.flatten(y)) ** 2)
    outputs = [loss, *gc.grad(loss, [x, w])]
    graph_outputs = outputs
    for step in PIPELINE:
        graph = keeps_meaning(step, *graph_outputs)
        graph_outputs = [gc.Tensor(node) for node in graph.outputs]


def test_running_the_passes_twice_changes_little():
    x = gc.input("x", (4, 5))
    loss = gc.sum(gc.softmax(x @ x.T))
    once = run_passes(Graph((loss.node, gc.grad(loss, x).node)))
    assert len(run_passes(once).nodes) <= len(once.nodes)


def test_names_of_outputs_are_kept():
    x = gc.input("x", (4,))
    assert run_passes(Graph((gc.exp(x).node,), ("y",))).names == ("y",)


@pytest.mark.parametrize(("level", "words"), [(0, []), (1, ["graphc: fuse:", "nodes", "ms"]), (2, ["return", "exp("])])
def test_debugging_prints_what_each_pass_did(monkeypatch, capsys, level, words):
    monkeypatch.setattr(pipeline, "config", dataclasses.replace(pipeline.config, debug=level))
    run_passes(Graph((gc.exp(gc.input("x", (3,))).node,)))
    text = capsys.readouterr().err
    assert all(word in text for word in words) and bool(text) == bool(level)
    if level:
        assert [line.split()[1].rstrip(":") for line in text.splitlines() if line.startswith("graphc: ")] == [
            step.__name__ for step in PIPELINE
        ]

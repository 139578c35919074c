"""Programs drawn: each edge is a buffer that one kernel writes, or the caller gives, and another reads."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import graphc as gc
from graphc.cli import main
from graphc.render.program import dot_of_program


def training():
    x, t = gc.input("x", (16, 8)), gc.input("t", (16,), dtype="int64")
    model = gc.nn.Sequential(gc.nn.Linear(8, 6, seed=0), gc.nn.ReLU(), gc.nn.Linear(6, 3, seed=1))
    loss = gc.nn.cross_entropy(model(x), t)
    return gc.compile([x, t], loss, gc.optim.Adam(0.1).updates(loss, model.parameters()), backend="numpy")


def loop():
    x, w = gc.input("x", (5, 4)), gc.param("w", (4, 4), init=0.1)
    last, y = gc.scan(lambda h, v: (gc.tanh(h @ w + v), h), gc.zeros((4,)), x)
    return gc.compile([x], [last, gc.grad(gc.sum(y), w)], backend="numpy")


def joined():
    x = gc.input("x", (4, 6))
    return gc.compile([x], gc.concatenate([gc.exp(x), gc.sin(x @ gc.transpose(x)) @ x, x]), backend="numpy")


def drawn(dot):
    """Edges as pairs; those that are dashed; the names in the boxes."""
    edges, dashed = set(), set()
    for tail, head, rest in re.findall(r"^\s*\"?([\w.]+)\"? -> \"?([\w.]+)\"?(.*)$", dot, re.MULTILINE):
        (dashed if "dashed" in rest else edges).add((tail, head))
    return edges, dashed


@pytest.mark.parametrize("make", [training, loop, joined])
def test_every_edge_is_a_read_and_every_read_an_edge(make):
    program = make().program
    edges, dashed = drawn(dot_of_program(program))
    expected = set()
    for number, kernel in enumerate(program.kernels):
        for name in kernel.reads:
            root = program.root(name)
            if root.kind in ("input", "param", "state", "constant"):
                expected.add((f"b_{root.name}", f"k{number}"))
            for other in range(number):
                if root.name in {program.root(written).name for written in program.kernels[other].writes}:
                    expected.add((f"k{other}", f"k{number}"))
    for output in program.outputs:
        for number, kernel in enumerate(program.kernels):
            if program.root(output).name in {program.root(written).name for written in kernel.writes}:
                expected.add((f"k{number}", f"o_{output}"))
    assert edges == expected
    assert {head for _, head in dashed} == {f"b_{target}" for _, target in program.updates}


def test_boxes_tell_kind_members_and_steps():
    dot = dot_of_program(training().program)
    assert "contraction, 2 stages" in dot and "1: relu" in dot and "float32(16, 6) 384 B" in dot
    assert re.search(r"5 steps of \d kernels", dot_of_program(loop().program))


def test_the_same_text_twice():
    assert dot_of_program(training().program) == dot_of_program(training().program)


def test_the_command(tmp_path: Path, monkeypatch, capsys):
    (tmp_path / "model.py").write_text(
        "import graphc as gc\nx = gc.input('x', ('N', 4))\nloss = gc.sum(gc.exp(x @ gc.param('w', (4, 2), init=0.5)))\n"
    )
    monkeypatch.chdir(tmp_path)
    arguments = ["render", "model.py:loss", "--level", "program", "--backward", "--size", "N=3", "-o"]
    assert main([*arguments, "p.dot"]) == 0 and capsys.readouterr().out == "p.dot\n"
    assert "float32(3, 2)" in (tmp_path / "p.dot").read_text(encoding="utf-8")
    assert main([*arguments, "p.tiff"]) == 2 and "'p.tiff' ends in none of" in capsys.readouterr().err
    assert main([*arguments, "p.dot", "--values", "x=1"]) == 2 and "a program has none" in capsys.readouterr().err

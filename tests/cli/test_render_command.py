"""graphc render and graphc show --diff: levels, steps, differences, values of arrays; what they refuse."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from graphc.cli import main

MODEL = """
import graphc as gc

x = gc.input("x", ("N", 4))
t = gc.input("t", ("N",), dtype="int64")
model = gc.nn.Sequential(gc.nn.Linear(4, 5, seed=0), gc.nn.Tanh(), gc.nn.Linear(5, 3, seed=1))
loss = gc.nn.cross_entropy(model(x), t)
s = gc.input("s")
f = gc.log(1 + gc.exp(s))
step = gc.compile([x, t], [loss], updates=gc.optim.SGD(lr=0.1).updates(loss, model.parameters()))
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "model.py").write_text(MODEL)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def drawn(folder: Path, *arguments: str, name: str = "loss") -> str:
    """The DOT that a command writes."""
    assert main(["render", f"model.py:{name}", "-o", "a.dot", *arguments]) == 0
    return (folder / "a.dot").read_text(encoding="utf-8")


def test_levels(folder: Path) -> None:
    assert "<b>tanh</b>" in drawn(folder, "--backward")
    assert "sum □ * □" in drawn(folder, "--level", "graph", "--backward")
    assert ":=" in drawn(folder, name="step")
    assert re.search(r"\d us, \d+%|\d us, \d", drawn(folder, "--level", "program", "--profile", name="step"))
    assert main(["render", "model.py:loss", "-o", "t.svg", "--level", "time", "--backward", "--size", "N=8"]) == 0
    assert "<svg" in (folder / "t.svg").read_text()


def test_depth_and_direction(folder: Path) -> None:
    folded = drawn(folder, "--depth", "0", "--direction", "TB")
    assert "Linear(4, 5)" in folded and "rankdir=TB" in folded and "<b>matmul" not in folded
    assert "<b>matmul" in drawn(folder, "--depth", "1")


def test_steps(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["render", "model.py:f", "-o", "f.dot", "--steps", "--values", "s=1"]) == 0
    written = capsys.readouterr().out.split()
    assert written[0] == "f-01.dot" and len(written) == len(list(folder.glob("f-*.dot"))) > 4
    assert main(["render", "model.py:f", "-o", "f.html", "--steps"]) == 0


def test_differences(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "after stabilise: 2 nodes" in drawn(folder, "--diff", "stabilise", name="f")
    assert "N = 3" in drawn(folder, "--diff", "fuse", "--backward", "--size", "N=3")
    capsys.readouterr()
    assert main(["show", "model.py:f", "--diff", "stabilise"]) == 0
    assert "log1p(exp(x)) -> softplus(x)" in capsys.readouterr().out


def test_values_of_arrays(folder: Path) -> None:
    np.save("x.npy", np.arange(8, dtype=np.float32).reshape(2, 4))
    assert "mean 3.5" in drawn(folder, "--values", "x=x.npy,t=[1,2]")
    assert "(6, 4)" in drawn(folder, "--values", "random", "--size", "N=6")
    assert drawn(folder, "--values", "random") == drawn(folder, "--values", "random")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--values", "x=none.npy,t=[1]"], "none.npy cannot be read"),
        (["--values", "x=bad.npy,t=[1]"], "bad.npy cannot be read"),
        (["--diff", "fold"], "there is no pass 'fold'; the passes are stabilise"),
        (["--diff", "fuse", "--steps"], "a pass is drawn without steps"),
        (["--profile"], "--profile: times are those of kernels"),
        (["--level", "time", "--depth", "1"], "--depth: it is for --level op, graph and program"),
        (["--level", "program", "--steps"], "--steps: it is for --level op and graph"),
        (["--level", "program", "--values", "random"], "--values: it is for --level op and graph"),
        (["--size", "N=2"], "sizes are for --diff, --values random"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_line(
    arguments: list[str], words: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "bad.npy").write_bytes(b"no array")
    assert main(["render", "model.py:loss", "-o", "a.dot", *arguments]) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1
    assert not (folder / "a.dot").exists()


def test_a_pass_that_there_is_not_is_refused_by_show(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "model.py:f", "--diff", "fold"]) == 2
    assert "there is no pass 'fold'" in capsys.readouterr().err

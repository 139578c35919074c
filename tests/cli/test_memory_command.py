"""graphc show --as memory, and graphc render --level memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphc.cli import main

MODEL = """
import graphc as gc

x, t = gc.input("x", ("N", 4)), gc.input("t", ("N",), dtype="int64")
net = gc.nn.Sequential(gc.nn.Linear(4, 8, seed=0), gc.nn.ReLU(), gc.nn.Linear(8, 3, seed=1))
loss = gc.nn.cross_entropy(net(x), t)
step = gc.compile([x, t], loss, gc.optim.SGD(0.1).updates(loss, net.parameters()), backend="numpy", name="step")
"""


@pytest.fixture(autouse=True)
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "model.py").write_text(MODEL)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "model.py:step", "--as", "memory", "--size", "N=16"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("step: arena ") and "+ relu 512" in text and "<- peak" in text
    assert main(["show", "model.py:loss", "--as", "memory"]) == 0
    forward = capsys.readouterr().out
    assert main(["show", "model.py:loss", "--as", "memory", "--backward"]) == 0
    assert "grad_" not in forward and "grad_" in capsys.readouterr().out


def test_the_drawing(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["render", "model.py:step", "--level", "memory", "-o", "step.svg", "--size", "N=16"]) == 0
    assert capsys.readouterr().out == "step.svg\n"
    assert "relu: 512 bytes at " in (model / "step.svg").read_text(encoding="utf-8")
    assert main(["render", "model.py:loss", "--level", "memory", "-o", "loss.svg", "--wrt", "x"]) == 0
    assert "grad_" in (model / "loss.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--level", "memory", "-o", "step.png"], "'step.png' does not end in .svg"),
        (["--level", "memory", "-o", "step.svg", "--values", "x=1"], "--values: it is for --level op and graph"),
        (["--level", "memory", "-o", "step.svg", "--size", "M=1"], "no dimension 'M'"),
        (["-o", "step.svg", "--size", "N=1"], "and --level program, time and memory"),
    ],
)
def test_a_wrong_command_line(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["render", "model.py:step", *arguments]) == 2
    assert words in capsys.readouterr().err

"""graphc bench: what is compiled and called, what is printed and written, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import graphc as gc
from graphc.backend import Machine
from graphc.cli import main
from graphc.cli.bench import SIZE
from graphc.compiler import profile as module
from graphc.lang.tensor import Variable

MODEL = """
import graphc as gc

X = gc.input("X", ("N", 4))
t = gc.input("t", ("N",), dtype="int64")
net = gc.nn.Sequential(gc.nn.Linear(4, 5, seed=0), gc.nn.ReLU(), gc.nn.Linear(5, 3, seed=1))
logits = net(X)
loss = gc.nn.cross_entropy(logits, t)
both = [logits, loss]
row = gc.input("row", (1, 3))
only_row = gc.take(row, t, axis=0)
none = gc.take(gc.input("empty", (0, 3)), t, axis=0)
step = gc.compile([X, t], loss, updates=gc.optim.SGD(lr=0.1).updates(loss, net.parameters()), name="step")
"""


@pytest.fixture(autouse=True)
def _no_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    """The roofs of this machine take a third of a second, and no test depends on them; nor on a warm processor."""
    from graphc_llvm.profile import TimedProgram

    monkeypatch.setattr(TimedProgram, "machine", lambda self, dtypes: Machine(3, {"float32": 1e9}, 1e9, 0, "by decree"))
    monkeypatch.setattr(module, "WARM_SECONDS", 0.0)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "model.py").write_text(MODEL)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> None:
    assert main(["bench", "--repeats", "2", *arguments]) == 0


def test_a_tensor(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("model.py:loss")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("a call takes ") and "(median of 2; least " in lines[0]
    assert lines[2].startswith("loss on llvm, 3 threads: ") and lines[3].startswith("measured roofs: 1 GFLOP/s float32")
    assert lines[5].split()[:4] == ["kernel", "kind", "scope", "where"]
    assert lines[6].split()[:2] == ["cross_entropy", "opaque"]  # its labels are checked
    first = lines[7].split()
    assert first[:2] == ["relu", "contraction"] and "model.py:7" in first
    assert any("cross_entropy" in line and "model.py:8" in line for line in lines)
    assert any(line.startswith("total ") for line in lines)
    assert not [line for line in lines if "grad_" in line]


def kernels(model: Path, *arguments: str) -> dict[str, dict[str, object]]:
    run(*arguments, "--json", "out.json")
    return {kernel["name"]: kernel for kernel in json.loads((model / "out.json").read_text())["kernels"]}


def test_sizes(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["bench", "--help"])
    assert f"(default: {SIZE} for each)" in " ".join(capsys.readouterr().out.split())
    assert kernels(model, "model.py:logits")["relu"]["operations"] == (2 * 4 + 2) * 5 * SIZE
    assert kernels(model, "model.py:logits", "--size", "N=7")["relu"]["operations"] == (2 * 4 + 2) * 5 * 7


def test_backward(model: Path) -> None:
    forward, both = kernels(model, "model.py:loss"), kernels(model, "model.py:loss", "--backward")
    assert not any(name.startswith("grad_") for name in forward)
    products = [kernel for name, kernel in both.items() if name.startswith("grad_") and kernel["kind"] == "contraction"]
    assert len(products) >= 4  # one for each weight, one for X, one between the layers
    assert kernels(model, "model.py:both", "--backward").keys() >= {kernel["name"] for kernel in products}


def test_a_function_is_called_as_it_is_and_left_as_it_was(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Variable, np.ndarray]] = []
    updates = gc.optim.SGD.updates

    def remember(self: gc.optim.SGD, loss: gc.Tensor, params: list[Variable]) -> dict[Variable, gc.Tensor]:
        seen.extend((param, param.value) for param in params)
        return updates(self, loss, params)

    monkeypatch.setattr(gc.optim.SGD, "updates", remember)
    found = kernels(model, "model.py:step")
    assert "updates" in found and any("SGD" in scope for kernel in found.values() for scope in kernel["scopes"])
    assert len(seen) == 4
    for param, before in seen:
        np.testing.assert_array_equal(param.value, before)


def test_json(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("model.py:loss", "--json", "out.json")
    printed = capsys.readouterr().out
    found = json.loads((model / "out.json").read_text(), parse_constant=pytest.fail)
    assert (found["spec"], found["function"], found["runs"]) == ("model.py:loss", "loss", 2)
    assert found["call"]["runs"] == 2 and 0 < found["call"]["least"] <= found["call"]["seconds"]
    assert f"{found['call']['seconds'] * 1e6:,.1f} us" in printed.splitlines()[0]
    assert found["machine"]["threads"] == 3 and all(kernel["name"] in printed for kernel in found["kernels"])


def test_top(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = kernels(model, "model.py:loss", "--backward", "--top", "2")
    rows = capsys.readouterr().out.splitlines()[6:]
    slowest = sorted(found, key=lambda name: -found[name]["seconds"])
    assert [row.split()[0] for row in rows[:2]] == slowest[:2]
    assert rows[2].startswith("(") and "more)" in rows[2] and rows[3].split()[0] == "total"


def test_threads(model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from graphc.cli import bench

    given: list[int | None] = []
    compile_ = bench.compile

    def remember(*tensors: object, threads: int | None, name: str) -> gc.Function:
        given.append(threads)
        return compile_(*tensors, threads=threads, name=name)

    monkeypatch.setattr(bench, "compile", remember)
    run("model.py:logits", "--threads", "1")
    run("model.py:logits")
    assert given == [1, None]
    capsys.readouterr()
    assert main(["bench", "model.py:step", "--threads", "1"]) == 2
    assert "model.py:step is compiled already" in capsys.readouterr().err


def test_indices_where_only_the_first_exists(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("model.py:only_row")
    assert "opaque" in capsys.readouterr().out
    assert main(["bench", "model.py:none"]) == 1
    assert "index 0 is outside an axis of 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["model.py:net"], 2, "'net' in model.py is a Sequential, a model without an input"),
        (["model.py:logits", "--size", "M=3"], 2, "no dimension 'M'; its dimensions are N"),
        (["model.py:logits", "--backward"], 1, "exactly one float scalar"),
        (["model.py:logits", "--repeats", "1", "--json", "nowhere/out.json"], 1, "nowhere/out.json"),
    ],
)
def test_errors(
    arguments: list[str], code: int, expected: str, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *arguments]) == code
    out, err = capsys.readouterr()
    assert expected in err and err.startswith("graphc: ") and err.count("\n") == 1 and out == ""

"""The command line, called as a function; one test runs the installed program."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import graphc as gc
from graphc.cli import SHOW_KINDS, main

MODEL = """
import graphc as gc

x, y, z = gc.input("x"), gc.input("y"), gc.input("z")
q = x + y
f = q * z
X = gc.input("X", ("N", 4))
t = gc.input("t", ("N",), dtype="int64")
net = gc.nn.Sequential(gc.nn.Linear(4, 5, seed=0), gc.nn.ReLU(), gc.nn.Linear(5, 3, seed=1))
logits = net(X)
loss = gc.nn.cross_entropy(logits, t)
pair = [f, loss]
wrong = gc.custom_vjp(lambda a: a * a, lambda g, y, a: [3 * g * a])(x)
logs = gc.log(x) * gc.sqrt(y) + gc.max(gc.stack([x, y, z]))
picked = gc.take(X, t, axis=1)
step = gc.compile([x, y, z], [f], backend="numpy", name="step")
number = 3
"""


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "model.py").write_text(MODEL)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def error_line(capsys: pytest.CaptureFixture[str]) -> str:
    """What is on stderr, which must be one line; stdout must be empty."""
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("graphc: ") and err.endswith("\n") and err.count("\n") == 1
    return err.removeprefix("graphc: ").strip()


# --- SPEC -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("model.py", "file.py:name or module:name is needed"),
        ("model.py:", "file.py:name or module:name is needed"),
        (":f", "file.py:name or module:name is needed"),
        ("missing.py:f", "there is no file missing.py; the folder has model.py"),
        ("no_such_module:f", "there is no module 'no_such_module'"),
        ("model.py:nope", "model.py has no 'nope'; it offers q, f, logits, loss, pair, wrong, logs, picked, step, x"),
        ("model.py:number", "'number' in model.py is an int; a tensor, a list of tensors or a compiled function"),
        ("model.py:net", "'net' in model.py is a Sequential, a model without an input: call it on one"),
    ],
)
@pytest.mark.parametrize("command", ["show", "check", "render"])
def test_bad_spec(
    command: str, spec: str, expected: str, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extra = ["-o", "f.svg"] if command == "render" else []
    assert main([command, spec, *extra]) == 2
    assert expected in error_line(capsys)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x = 1\ny = (", "bad.py:2: "),
        ("import graphc\n\nz = 1 / 0\n", "bad.py:3: ZeroDivisionError: division by zero (while importing bad.py)"),
        ("import graphc as gc\ngc.input('a', 3) + gc.input('b', 4)\n", "bad.py:2: ShapeError: add: "),
        ("raise SystemExit(3)\n", "bad.py:1: SystemExit: 3"),
        ("import no_such_package\n", "bad.py:1: ModuleNotFoundError: No module named 'no_such_package'"),
        ("raise ValueError('two\\nlines')\n", "bad.py:1: ValueError: two lines"),
        ("x = 1\n", "bad.py has no 'f'; it offers nothing"),
    ],
)
def test_bad_file(text: str, expected: str, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (model / "bad.py").write_text(text)
    assert main(["show", "bad.py:f"]) == 2
    assert expected in error_line(capsys)


def test_module_spec_and_neighbours(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (model / "user_of_model_spec.py").write_text("from model import f\ng = f * f\n")
    assert main(["show", "user_of_model_spec:g"]) == 0
    assert main(["show", "user_of_model_spec.py:g"]) == 0
    sys.modules.pop("model", None)


# --- show -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SHOW_KINDS)
@pytest.mark.parametrize("name", ["f", "loss", "step", "pair"])
def test_show(kind: str, name: str, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", f"model.py:{name}", "--as", kind]) == 0
    assert len(capsys.readouterr().out) > 60


@pytest.mark.parametrize("kind", SHOW_KINDS)
def test_show_backward(kind: str, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "model.py:loss", "--as", kind, "--backward"]) == 0
    everything = capsys.readouterr().out
    assert main(["show", "model.py:loss", "--as", kind, "--wrt", "X"]) == 0
    assert len(everything) > len(capsys.readouterr().out) > 60


def test_sizes(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "model.py:loss", "--as", "program"]) == 0
    assert "input X: float32(2, 4)" in capsys.readouterr().out
    assert main(["show", "model.py:loss", "--as", "program", "--size", "N=7"]) == 0
    assert "input X: float32(7, 4)" in capsys.readouterr().out
    assert main(["show", "model.py:loss", "--as", "program", "--size", "M=7"]) == 2
    assert "no dimension 'M'; its dimensions are N" in error_line(capsys)


def test_text_and_latex_say_what_each_gradient_is(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "model.py:f", "--as", "text", "--backward"]) == 0
    text = capsys.readouterr().out
    assert "(3) df/dq = z" in text and "df/dx = df/dq" in text
    assert main(["show", "model.py:f", "--as", "latex", "--backward"]) == 0
    assert r"\frac{\partial f}{\partial z} &= q" in capsys.readouterr().out
    assert main(["show", "model.py:f", "--as", "text", "--backward", "--index"]) == 0
    assert "df/dq = z * df/df" in capsys.readouterr().out
    assert main(["show", "model.py:f", "--as", "code", "--backward"]) == 0
    assert "grad_q = z\n" in capsys.readouterr().out


def test_unknown_leaf(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "model.py:f", "--wrt", "k"]) == 2
    assert "there is no leaf 'k'; its leaves are x, y, z" in error_line(capsys)


def test_backward_of_no_scalar(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "model.py:logits", "--backward"]) == 1
    assert "exactly one float scalar" in error_line(capsys)


# --- render ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["svg", "png", "pdf", "dot"])
def test_render(suffix: str, model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pygraphviz")
    monkeypatch.setenv("PATH", "")
    assert main(["render", "model.py:f", "-o", f"f.{suffix}", "--values", "x=-2, y=5,z=-4", "--backward"]) == 0
    assert capsys.readouterr().out == f"f.{suffix}\n"
    assert (model / f"f.{suffix}").stat().st_size > 500


def test_render_without_graphviz(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(sys.modules, "pygraphviz", None)
    assert main(["render", "model.py:f", "-o", "f.png"]) == 1
    assert "pip install pygraphviz" in error_line(capsys)
    assert (model / "f.dot").is_file()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["-o", "f.jpg"], ".svg, .png, .pdf, .dot, .gv"),
        (["-o", "f.svg", "--values", "x"], "'x' is no name=number"),
        (["-o", "f.svg", "--values", "x=a"], "'a' for x is neither a number, a list of numbers nor"),
        (["-o", "f.svg", "--values", "k=1"], "'k' is not a leaf of the graph; the leaves are x, y, z"),
        (["-o", "f.svg", "--values", "x=1"], "no value for y, z"),
        (["-o", "f.svg", "--values", "x=[1,2],y=1,z=1"], "x has shape ()"),
    ],
)
def test_bad_render_options(
    options: list[str], expected: str, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["render", "model.py:f", *options]) == 2
    assert expected in error_line(capsys)


# --- check ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["f", "loss", "logits", "pair", "logs", "step", "picked"])
def test_good_gradients_pass(name: str, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", f"model.py:{name}", "--seed", "3"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0].split() == ["leaf", "elements", "tested", "max", "|gradient|", "max", "error", "ok"]
    assert all(line.endswith("yes") for line in out.splitlines()[1:])


@pytest.mark.parametrize("seed", ["0", "1", "2"])
def test_a_wrong_gradient_fails(seed: str, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "model.py:wrong", "--seed", seed]) == 1
    assert "NO" in capsys.readouterr().out


def test_check_some_leaves_at_a_size(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "model.py:loss", "--wrt", "X,2.bias", "--size", "N=3"]) == 0
    rows = capsys.readouterr().out.splitlines()[1:]
    assert [row.split()[:2] for row in rows] == [["X", "12"], ["2.bias", "3"]]


# --- demo, help -----------------------------------------------------------------------------------------------------


def test_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pygraphviz")
    folder = tmp_path / "out"
    assert main(["demo", "--epochs", "1", "--output", str(folder)]) == 0
    out, err = capsys.readouterr()
    assert "epoch   1/1" in err and "\r" not in err
    assert "held-out accuracy: 9" in out or "held-out accuracy: 8" in out
    names = {"forward.svg", "backward.svg", "step.py", "step.ll", "gradients.tex"}
    assert {path.name for path in folder.iterdir()} == names
    assert all(str(folder / name) in out for name in names)
    assert r"\begin{aligned}" in (folder / "gradients.tex").read_text()
    compile((folder / "step.py").read_text(), "step.py", "exec")
    assert "define" in (folder / "step.ll").read_text()


def test_demo_reaches_97_percent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pygraphviz")
    for seed in range(5):
        assert main(["demo", "--output", str(tmp_path), "--seed", str(seed)]) == 0
        line = capsys.readouterr().out.splitlines()[0]
        assert float(line.removeprefix("held-out accuracy: ").split("%")[0]) >= 97.0


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    version = f"graphc {gc.__version__}"
    for arguments, expected in ((["--version"], version), (["--help"], "demo"), (["show", "-h"], "SPEC")):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 0
        assert expected in capsys.readouterr().out


def test_installed_program(model: Path) -> None:
    program = shutil.which("graphc", path=str(Path(sys.executable).parent))
    command = [program] if program else [sys.executable, "-m", "graphc"]
    result = subprocess.run([*command, "show", "model.py:nope"], capture_output=True, text=True)
    assert result.returncode == 2 and result.stdout == "" and result.stderr.count("\n") == 1
    result = subprocess.run([sys.executable, "-m", "graphc", "show", "model.py:f"], capture_output=True, text=True)
    assert result.returncode == 0 and "q: float32() = x + y" in result.stdout

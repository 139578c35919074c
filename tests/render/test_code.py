"""Equations as code: it runs by itself, and its gradients are the finite differences of its own forward pass."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc.cli import main
from graphc.errors import BackendError
from graphc.ir.extent import evaluate
from graphc.ir.graph import Graph, specialise
from graphc.ir.interp import interpret
from graphc.ir.node import Node
from graphc.render.equations.code import code_of_graph
from graphc.render.gradients import gradients_of
from tests.render.equation_models import HOSTILE_NAMES, MODELS, recurrent

SIZES = {"N": 3, "T": 2}
STEP = 1e-6  # of central differences in float64, whose error is then about 1e-9
RUNS = [name for name in MODELS if name != "recurrent"]


def code_of(loss: gc.Tensor) -> str:
    gradients = gradients_of([loss.node])
    return code_of_graph(gradients.graph, gradients)


def names_in(code: str) -> list[str]:
    """What the first comment calls the leaves, in their order."""
    return re.findall(r"^#   (\w+): ", code, re.MULTILINE)


def values_for(graph: Graph, seed: int = 0) -> list[Any]:
    rng = np.random.default_rng(seed)
    sizes = {name: SIZES[name] for name in graph.dimensions}
    values: list[Any] = []
    for leaf in graph.inputs:
        shape = tuple(evaluate(extent, sizes) for extent in leaf.shape)
        is_float = leaf.dtype.startswith("float")
        values.append(rng.uniform(0.2, 1.0, shape) if is_float else rng.integers(0, 2, shape))
    return values


def run(code: str, values: list[Any]) -> dict[str, Any]:
    names: dict[str, Any] = dict(zip(names_in(code), values, strict=True))
    exec(code, names)
    return names


def check(loss: gc.Tensor) -> None:
    """Against the interpreter's gradients of `gc.grad`, and the differences of what the code itself computes."""
    code = code_of(loss)
    forward = Graph((loss.node,))
    leaves = [leaf for leaf in forward.inputs if leaf.dtype.startswith("float") and leaf.kind != "state"]
    derived = gc.grad(loss, [gc.Tensor(leaf) for leaf in leaves])
    whole = Graph((loss.node, *(tensor.node for tensor in derived)))
    values = values_for(forward)
    found = run(code, values)
    name_of = dict(zip(forward.inputs, names_in(code), strict=True))
    new: dict[Node, Node] = {}
    known = specialise(whole, {name: SIZES[name] for name in whole.dimensions}, new)
    given = {new[leaf]: value for leaf, value in zip(forward.inputs, values, strict=True)}
    expected = interpret(known, given)
    loss_name = _loss_in(code)
    for leaf, reference in zip(leaves, expected[1:], strict=True):
        gradient = np.asarray(found[f"grad_{name_of[leaf]}"])
        assert gradient.shape == reference.shape
        scale = 1e-6 + np.abs(reference).max(initial=0)
        np.testing.assert_allclose(gradient / scale, reference / scale, atol=2e-4)  # the interpreter's float32
        place = forward.inputs.index(leaf)
        for at in list(np.ndindex(gradient.shape))[:: max(1, gradient.size // 4)]:
            moved: list[float] = []
            for sign in (1, -1):
                other = [np.array(value) for value in values]
                other[place][at] += sign * STEP
                moved.append(float(run(code, other)[loss_name]))
            difference = (moved[0] - moved[1]) / (2 * STEP)
            assert abs(difference - gradient[at]) <= 1e-6 * max(1.0, abs(difference)), (leaf.name, at)


def _loss_in(code: str) -> str:
    """What the last line of the forward pass assigns."""
    forward = code.partition("# Backward pass")[0].rstrip()
    return forward.splitlines()[-1].partition(" = ")[0]


@pytest.mark.feature("A5")
@pytest.mark.parametrize("name", RUNS)
def test_models(name: str) -> None:
    check(MODELS[name]())


@pytest.mark.feature("A5")
@pytest.mark.parametrize("name", ["a1", "a2", "a4", "mlp"])
def test_golden(name: str, golden: Callable[[str, str], None]) -> None:
    golden(f"render/code-{name}.txt", code_of(MODELS[name]()) + "\n")


@pytest.mark.feature("A5")
def test_one_assignment_a_line() -> None:
    code = code_of(MODELS["a4"]())
    lines = [line for line in code.splitlines() if line and not line.startswith(("#", "import"))]
    assert all(re.fullmatch(r"\w+ = [^=]+", line) for line in lines)
    for line in ("grad_f3 = 2 * (f3 - y)", "grad_h3 = w3 * grad_f3", "grad_w3 = h3 * grad_f3", "grad_b3 = grad_f3"):
        assert line in lines


def case(name: str) -> gc.Tensor:
    x, y = gc.input("x", ("N", 6)), gc.input("y", ("N", 6))
    image = gc.input("image", ("N", 2, 7, 7))
    match name:
        case "concatenate":
            return gc.sum(gc.concatenate([x, y], axis=1) ** 2)
        case "stack":
            return gc.sum(gc.stack([x, y]) ** 3)
        case "slice":
            return gc.sum(x[:, 1::2] ** 2)
        case "pad":
            return gc.sum(gc.pad(x, 1) ** 2)
        case "cumsum":
            return gc.sum(gc.cumsum(x, axis=1) * y)
        case "product":
            return gc.sum(gc.prod(x, axis=1))
        case "extreme":
            return gc.sum(gc.max(x, axis=1) ** 3)
        case "take":
            return gc.sum(gc.take(gc.param("E", (2, 4), init=0.3), gc.input("t", ("N",), dtype="int64"), axis=0) ** 2)
        case "vector":
            return gc.sum((x @ gc.input("v", (6,))) ** 2)
        case "strides":
            return gc.sum(gc.nn.Conv2d(2, 4, 3, stride=2, padding=1)(image) ** 2)
        case "dilation":
            return gc.sum(gc.nn.Conv2d(2, 4, 3, dilation=2)(image) ** 2)
        case "groups":
            return gc.sum(gc.nn.Conv2d(2, 4, 3, groups=2)(image) ** 2)
        case "transposed":
            return gc.sum(gc.nn.ConvTranspose2d(2, 3, 3, stride=2)(image) ** 2)
        case "average":
            return gc.sum(gc.nn.AvgPool2d(3, 2)(image) ** 2)
        case "where":
            return gc.sum(gc.where(x < y, x / y, x * x))
        case "gelu":
            return gc.sum(gc.gelu(x) * gc.softplus(y))
        case "names":
            total = gc.input("x")
            for odd in HOSTILE_NAMES:
                total = (total * gc.input(odd)).named(odd)
            return total
    raise AssertionError(name)


CASES = "concatenate stack slice pad cumsum product extreme take vector strides dilation groups transposed average"


@pytest.mark.parametrize("name", [*CASES.split(), "where", "gelu", "names"])
def test_ops(name: str) -> None:
    check(case(name))


def test_the_command_line_prints_code_that_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Softmax and cross-entropy have no name in NumPy: their inner equations are printed."""
    model = tmp_path / "model.py"
    model.write_text(
        "import graphc as gc\n"
        'x, t = gc.input("x", (3, 4)), gc.input("t", (3,), dtype="int64")\n'
        "loss = gc.nn.cross_entropy(gc.softmax(x, axis=1), t)\n",
        encoding="utf-8",
    )
    assert main(["show", f"{model}:loss", "--as", "code", "--backward"]) == 0
    found = run(capsys.readouterr().out, [np.eye(3, 4), np.array([0, 1, 2])])
    assert found["grad_x"].shape == (3, 4) and abs(found["grad_x"].sum()) < 1e-12


def test_a_loop_is_refused_in_words() -> None:
    with pytest.raises(BackendError, match=r"gc\.scan.*unroll=True") as caught:
        code_of(recurrent())
    assert "equation_models.py:" in str(caught.value)

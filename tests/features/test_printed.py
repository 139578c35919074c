"""A5 in print: the composed scalar function and both backward passes as flat code and as numbered equations."""

from __future__ import annotations

import re

import numpy as np
import pytest

import graphc as gc
from graphc.render import graph_of, latex_of_graph
from tests.features.test_calculus import POINT, Composed, composed_by_hand


@pytest.mark.feature("A5")
def test_the_passes_as_flat_code():
    """One assignment a line, of one operation or call; gradients are named grad_...; the text runs by itself."""
    model = Composed()
    outputs = [model.loss, *gc.grad(model.loss, model.parameters)]
    text = gc.compile(model.inputs, outputs, backend="numpy", name="passes").source("numpy")
    body = text.split("):\n")[1].splitlines()
    assigned = [re.fullmatch(r"    (\w+) = (.+)", line) for line in body[:-1]]
    assert all(assigned) and body[-1].startswith("    return ")
    operation = re.compile(r"np\.\w+\(\w+\)|-\w+|[\w.]+ [-+*/] [\w.]+")
    assert [line[2] for line in assigned if not operation.fullmatch(line[2])] == []
    names = [line[1] for line in assigned]
    split = next(number for number, name in enumerate(names) if name.startswith("grad_"))
    assert all(name.startswith("grad_") for name in names[split:]), "forward first, then backward"
    forward, _, second = composed_by_hand(POINT[0], POINT[1], POINT[2:6], POINT[6:])
    defined: dict = {}
    exec(text, defined)
    np.testing.assert_allclose(defined["passes"](*map(np.float64, POINT)), [forward[-1], *second], rtol=1e-12)


@pytest.mark.feature("A5")
def test_the_passes_as_numbered_equations():
    model = Composed()
    gradients = gc.grad(model.loss, [*model.f, *model.parameters])
    rows = latex_of_graph(graph_of([model.loss, *gradients])).splitlines()[1:-1]
    found = [re.match(r"\\text\{\((\d+)\)\} && (.*?) &=", row) for row in rows]
    numbered = [match for match in found if match]
    assert [match[1] for match in numbered] == [str(n + 1) for n in range(len(numbered))]
    titles = [row.split("{")[1].split(":")[0].rstrip("} \\") for row in rows if "textbf" in row]
    assert titles == ["Given", "Forward pass", "Backward pass 1", "Backward pass 2"]
    second = next(place for place, row in enumerate(rows) if "Backward pass 2" in row)
    derivatives = [re.fullmatch(r"\\frac\{\\partial v_\{8\}\}\{\\partial (.*)\}", match[2]) for match in numbered]
    assert [match is not None for match in derivatives] == [False] * 8 + [True] * (len(derivatives) - 8)
    last = len([match for match in found[second:] if match])
    found = {match[1] for match in derivatives[-last:] if match}
    assert found == {f"{name}_{{{k}}}" for name in "bw" for k in range(4)}

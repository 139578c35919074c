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
    assert [re.match(r"\\text\{\((\d+)\)\}", row)[1] for row in rows] == [str(n + 1) for n in range(len(rows))]
    left = [row.split("&&")[1].split("&=")[0].strip() for row in rows if "&=" in row]
    bars = {name for name in left if name.startswith(r"\overline")}
    assert {rf"\overline{{w_{{{k}}}}}" for k in range(4)} | {rf"\overline{{b_{{{k}}}}}" for k in range(4)} <= bars
    plain = [name for name in left if name not in bars]
    assert left[: len(plain)] == plain, "the forward pass comes first"

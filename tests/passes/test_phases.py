"""Random graphs whose rows are summed and read again, in blocks: the same numbers as all rows at once."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import graphc as gc
from graphc.ir.extent import evaluate
from graphc.passes import blocks, phases, pipeline

LENGTH = 3
UNARY = (gc.tanh, gc.sin, gc.sigmoid, gc.abs, lambda x: x * x, lambda x: x[:, ::-1], lambda x: gc.cumsum(x, axis=1))
TOTALS = (gc.sum, gc.max, gc.min, gc.mean, lambda x, **axes: gc.prod(gc.tanh(x), **axes))


@st.composite
def models(draw):
    """(inputs, outputs), with rows of R and values near 1 by size, and totals over them that rows read again."""
    x, y = gc.input("x", ("R", LENGTH), "float64"), gc.input("y", ("R", LENGTH), "float64")
    w = gc.input("w", (LENGTH, LENGTH), "float64")
    known, totals = [x, y], [w[0]]

    def row():
        return draw(st.sampled_from(known))

    for _ in range(draw(st.integers(1, 7))):
        match draw(st.integers(0, 8)):
            case 0:
                new = draw(st.sampled_from(UNARY))(row())
            case 1:
                new = row() * row() + row()
            case 2:
                new = gc.tanh(row() @ w)
            case 3:
                new = gc.reshape(gc.softmax(gc.reshape(row(), (-1,))), (-1, LENGTH))
            case 4:
                new = row() - gc.mean(row(), axis=1, keepdims=True)
            case 5:
                new = gc.tanh(row() * draw(st.sampled_from(totals)))
            case 6:
                new = (row().T * gc.tanh(gc.reshape(gc.arange(row().shape[0]), (1, -1)) / 7)).T
            case 7:
                new = gc.tanh(row() @ gc.tanh(row().T @ row()))
            case _:
                total = draw(st.sampled_from(TOTALS))(row(), axis=draw(st.sampled_from([0, None])))
                totals.append(gc.tanh(total) if draw(st.booleans()) else gc.tanh(total * draw(st.sampled_from(totals))))
                continue
        known.append(new)
    outputs = [draw(st.sampled_from([*known, *totals])) for _ in range(draw(st.integers(1, 3)))]
    return [x, y, w], [known[-1], totals[-1], *outputs]


def kept(*outputs):
    """What later phases of a function find in memory, of rows and of totals; and how often exp is computed."""
    (x,) = gc.ir.graph.Graph(tuple(output.node for output in outputs)).inputs
    function = gc.compile([gc.Tensor(x)], list(outputs), backend="numpy", dynamic=["R"])
    program = function.specialised(R=1).program
    names = [buffer.name for buffer in program.buffers if buffer.kind == "temporary"]
    first = [phase.programs[0][1] for phase in program.phases]
    return [name for name in names if name in program.rows], sum(str(part).count("exp(") for part in first)


def test_what_is_computed_once_is_stored_once():
    x = gc.input("x", ("R", LENGTH))
    y = gc.exp(x)
    assert kept(gc.reshape(y, (-1,)) / gc.sum(y)) == (["exp"], 1)
    assert kept(x.T.T - gc.max(x)) == ([], 0)
    assert kept(gc.arange(x.shape[0]) * gc.sum(y)) == ([], 1)


def test_a_block_has_a_bounded_size():
    for others, longest in ((1 << 22, 1), (1 << 16, 64), (1, blocks.LONGEST)):
        x = gc.input("x", ("R", others))
        (phase,) = gc.compile([x], gc.sin(2 * x), backend="numpy", dynamic=["R"]).specialised(R=1).program.phases
        lengths = [length for length, _ in phase.programs]
        assert lengths[0] <= longest and lengths[-1] == 1 and (others == 1 << 22 or lengths[0] > 1)


def check(inputs, outputs, sizes, longest):
    checked = patch.object(phases, "run_passes", lambda graph, **o: pipeline.run_passes(graph, check=True, **o))
    with patch.object(blocks, "LONGEST", longest), checked:
        dynamic = gc.compile(inputs, outputs, backend="numpy", dynamic=["R"])
    static = gc.compile(inputs, outputs, backend="numpy")
    for size in sizes:
        rng = np.random.default_rng(size)
        values = [rng.uniform(-1, 1, [evaluate(e, {"R": size}) for e in tensor.shape]) for tensor in inputs]
        for found, expected in zip(dynamic(*values), static(*values), strict=True):
            assert found.shape == expected.shape and found.dtype == expected.dtype
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


@settings(max_examples=30)
@given(models(), st.integers(1, 20), st.sampled_from([1, 4]))
def test_in_blocks_as_all_at_once(model, size, longest):
    check(*model, [size], longest)


@settings(max_examples=20)
@given(models(), st.booleans())
def test_gradients_in_blocks(model, twice):
    inputs, (rows, total, *_) = model
    loss = gc.sum(gc.sin(rows)) + gc.sum(gc.stop_gradient(total))
    if not _searches(loss):
        gradients = gc.grad(loss, inputs)
        check(inputs, [gc.grad(gc.sum(gradients[2] * gradients[2]), inputs[2])] if twice else gradients, [7], 4)


def _searches(loss):
    """Whether a gradient needs the place of a maximum or minimum over rows, which is none that blocks can tell."""
    nodes = gc.ir.graph.topological((loss.node,))
    return any(getattr(node, "reducer", None) in ("max", "min") for node in nodes)

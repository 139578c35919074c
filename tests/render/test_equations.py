"""Equations: which there are, in which part, in matrix notation, in the lecture's form; as text and as LaTeX."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

import graphc as gc
from graphc.ir.graph import Graph
from graphc.render.equations.derivation import Equations
from graphc.render.equations.derive import equations_of
from graphc.render.equations.latex import latex_document_of
from graphc.render.equations.text import text_of, text_of_graph
from graphc.render.gradients import gradients_of
from tests.render.equation_models import HOSTILE_NAMES, MODELS, a4, columns, mlp, neuron, recurrent, rows


def equations(loss: gc.Tensor, index: bool = False) -> Equations:
    gradients = gradients_of([loss.node])
    return equations_of(gradients.graph, gradients, index=index)


def lines_of(loss: gc.Tensor) -> list[str]:
    """The numbered lines of the text, without their numbers."""
    found = re.findall(r"^ *\((\d+)\) +(.*)$", text_of(equations(loss)), re.MULTILINE)
    assert [int(number) for number, _ in found] == list(range(1, len(found) + 1))
    return [line.strip() for _, line in found]


@pytest.mark.feature("A5")
@pytest.mark.parametrize("name", ["a1", "a2", "a4", "rows", "columns", "mlp", "cnn", "recurrent"])
def test_golden(name: str, golden: Callable[[str, str], None]) -> None:
    found = equations(MODELS[name]())
    golden(f"render/equations-{name}.txt", text_of(found) + "\n")
    golden(f"render/equations-{name}.tex", latex_document_of(found) + "\n")


@pytest.mark.feature("A5")
def test_the_lecture_in_its_own_words() -> None:
    assert lines_of(a4()) == [
        "f0 = b0 + w0 * x",
        "h1 = sin(f0)",
        "f1 = b1 + w1 * h1",
        "h2 = exp(f1)",
        "f2 = b2 + w2 * h2",
        "h3 = cos(f2)",
        "f3 = b3 + w3 * h3",
        "l = (f3 - y)^2",
        "dl/df3 = 2 * (f3 - y)",
        "dl/dh3 = w3 * dl/df3",
        "dl/df2 = -sin(f2) * dl/dh3",
        "dl/dh2 = w2 * dl/df2",
        "dl/df1 = h2 * dl/dh2",
        "dl/dh1 = w1 * dl/df1",
        "dl/df0 = cos(f0) * dl/dh1",
        *(line for k in (3, 2, 1) for line in (f"dl/db{k} = dl/df{k}", f"dl/dw{k} = h{k} * dl/df{k}")),
        "dl/db0 = dl/df0",
        "dl/dw0 = x * dl/df0",
        "dl/dx = w0 * dl/df0",
        "dl/dy = -dl/df3",
    ]


def test_the_derivative_of_a_sigmoid_is_in_terms_of_its_value() -> None:
    assert "df/dv1 = f * (1 - f)" in lines_of(neuron())


@pytest.mark.feature("A11")
def test_both_conventions() -> None:
    by_rows, by_columns = lines_of(rows()), lines_of(columns())
    assert by_rows[0] == "Z = X @ W + b" and by_columns[0] == "Z = W @ X + b"
    assert by_rows[3:] == [
        "delta_H = 1 / N * H",
        "delta_Z = delta_H * relu'(Z)",
        "dL/db = sum(delta_Z, axis=0)",
        "dL/dW = X^T @ delta_Z",
        "dL/dX = delta_Z @ W^T",
    ]
    assert by_columns[5:] == ["dL/db = sum(delta_Z, axis=1)", "dL/dW = delta_Z @ X^T", "dL/dX = W^T @ delta_Z"]


def test_layers_have_short_names_and_gradients_of_matrices() -> None:
    text = latex_document_of(equations(mlp()))
    assert r"Z^{(0)} &= x \, W^{(0) \top} + b^{(0)}" in text
    assert r"H^{(1)} &= \operatorname{relu}(Z^{(0)})" in text
    assert r"\delta_{Z^{(0)}} &= \delta_{H^{(1)}} \odot \operatorname{relu}'(Z^{(0)})" in text
    assert r"\partial W^{(0)}} &= \delta_{Z^{(0)}}^{\top} \, x" in text
    assert r"\partial b^{(0)}} &= \mathbf{1}^{\top} \delta_{Z^{(0)}}" in text


def test_a_loop_is_a_recurrence() -> None:
    found = lines_of(recurrent())
    text = text_of(equations(recurrent()))
    assert "for t = 0, ..., T - 1:" in text and "for t = T - 1, ..., 0:" in text and "scan" not in text
    step = next(line for line in found if line.startswith("h[t + 1] = "))
    assert step.startswith("h[t + 1] = tanh(U @ ") and "dL/dU = sum_U[0]" in found


def test_a_training_step_has_its_updates_in_a_part_of_their_own() -> None:
    x, y = gc.input("x", ("N", 4)), gc.input("y", ("N", 2))
    W = gc.param("W", (4, 2), init=0.1)
    loss = gc.nn.mse_loss(x @ W, y)
    step = gc.compile([x, y], [loss], updates=gc.optim.SGD(lr=0.1).updates(loss, [W]), backend="numpy")
    latex = step.source("latex", N=2)
    assert latex.index("Backward pass 2") < latex.index("Updates") < latex.index(r"W &\leftarrow W - ")
    text = text_of_graph(step.graph, targets=[target.node for target in step.targets])
    assert re.search(r"W <- W - lr \* dv\d+/dW", text) or "W <- W - lr * dloss/dW" in text


def test_leaves_come_first_inputs_before_parameters() -> None:
    text = text_of(equations(a4()))
    given = text.partition("\n\n")[0].splitlines()
    assert given[0] == "Given" and [line.split()[0] for line in given[1:3]] == ["x", "y"]
    assert given[3].split(maxsplit=1) == ["b0", "in R  (param)"]


def test_one_shared_gradient_is_written_once_and_repeated_by_name() -> None:
    x, y = gc.input("x"), gc.input("y")
    z = gc.exp(x + y).named("z")
    assert lines_of(z) == ["z = exp(x + y)", "dz/dx = z", "dz/dy = dz/dx"]


def test_a_leaf_that_the_loss_does_not_need_has_the_gradient_zero() -> None:
    x, y = gc.input("x"), gc.input("y")
    z = gc.exp(x).named("z")
    gradients = gradients_of([z.node], [x.node, y.node])
    assert "dz/dy = 0" in text_of(equations_of(Graph((z.node, y.node, gradients.of[x.node])), gradients))


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_any_text_is_a_name_of_one_line(name: str) -> None:
    x = gc.input(name, (2, 3))
    loss = gc.sum((x * gc.param(f"{name}.weight", (2, 3))).named(name + "!") ** 2).named("loss")
    text = text_of(equations(loss))
    assert len(lines_of(loss)) == 5 and text.isprintable() is False  # its line ends
    assert all(line.isprintable() for line in text.split("\n"))


def test_matrix_notation_follows_structure_not_names() -> None:
    x, w = gc.input("x", ("N", 4)), gc.input("w", (3, 4))
    product = gc.define("y[i,j] = sum[k] x[i,k] * w[j,k]", x="N K", w="M K")(x, w).named("y")
    assert text_of_graph(Graph((product.node,))).endswith("y = x @ w^T")
    outer = gc.define("y[i,j] = u[i] * v[j]", u="N", v="M")(gc.input("u", (3,)), gc.input("v", (4,))).named("y")
    assert text_of_graph(Graph((outer.node,))).endswith("y = outer(u, v)")


def test_depth_is_no_limit() -> None:
    y = gc.input("x", (2, 2, 2))
    for turn in range(1400):
        y = gc.transpose(y, (1, 2, 0)) if turn % 3 else gc.sin(y)
    found = lines_of(gc.sum(y).named("L"))
    assert max(map(len, found)) < 200 and found[-1].startswith("dL/dx = ")


def test_index_notation_on_request() -> None:
    text = text_of(equations(rows(), index=True), index=True)
    assert "[i,j for i<N,j<2] sum[k<3] X[i,k] * W[k,j]" in text and "@" not in text

"""Whole programs: the text, its names and constants, reuse of memory, updates, outputs, errors."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphc.backend import Backend, Executable, Options, load
from graphc.errors import BackendError
from graphc.ir import scalar as sc
from graphc.ir.graph import Graph
from graphc.ir.interp import interpret
from graphc.ir.node import Input, Node, const, leaf, opaque, view
from graphc.passes.plan import plan
from graphc.program import Buffer, Kernel, Program, Stage
from graphc_numpy import NumpyExecutable, backend
from tests.backends.numpy.support import array, check, compiled, make, run_text, sample

F32 = "float32"


def arg(position: int, dtype: str = F32) -> sc.Scalar:
    return sc.Arg(position, dtype)


def one(value: float, dtype: str = F32) -> sc.Scalar:
    return sc.literal(value, dtype)


def elementwise(body: sc.Scalar, *operands: Node) -> Node:
    shape = operands[0].shape
    axes = ", ".join("ijk"[: len(shape)])
    return make(shape, shape, axes, [(x, axes) for x in operands], body)


def training_step(batch: int = 64, hidden: int = 32) -> tuple[Program, Graph, list[Input]]:
    """An MLP's step by hand: forward, softmax cross-entropy, gradients, and W - lr * g."""
    x, t = leaf("x", (batch, 20), F32, "input"), leaf("t", (batch,), "int64", "input")
    W1, b1 = leaf("W1", (20, hidden), F32, "param"), leaf("b1", (hidden,), F32, "param")
    W2, b2 = leaf("W2", (hidden, 10), F32, "param"), leaf("b2", (10,), F32, "param")
    lr = leaf("lr", (), F32, "state")
    n, h = batch, hidden
    a = make((n, h, 20), (n, h), "i, j", [(x, "i, k"), (W1, "k, j")], "mul", "sum")
    hidden_sum = make((n, h), (n, h), "i, j", [(a, "i, j"), (b1, "j")], sc.apply("add", arg(0), arg(1)))
    relu = elementwise(sc.apply("select", sc.apply("le", arg(0), one(0)), one(0), arg(0)), hidden_sum)
    z0 = make((n, 10, h), (n, 10), "i, j", [(relu, "i, k"), (W2, "k, j")], "mul", "sum")
    z = make((n, 10), (n, 10), "i, j", [(z0, "i, j"), (b2, "j")], sc.apply("add", arg(0), arg(1)))
    top = make((n, 10), (n,), "i", [(z, "i, j")], "copy", "max")
    shifted = make((n, 10), (n, 10), "i, j", [(z, "i, j"), (top, "i")], sc.apply("sub", arg(0), arg(1)))
    e = elementwise(sc.apply("exp", arg(0)), shifted)
    s = make((n, 10), (n,), "i", [(e, "i, j")], "copy", "sum")
    hit = sc.apply("eq", arg(1, "int64"), sc.Index(1))
    own = make((n, 10), (n,), "i", [(shifted, "i, j"), (t, "i")], sc.apply("select", hit, arg(0), one(0)), "sum")
    loss = make(
        (n,), (), "", [(s, "i"), (own, "i")],
        sc.apply("mul", sc.apply("sub", sc.apply("log", arg(0)), arg(1)), one(1 / n)), "sum",
    )  # fmt: skip
    soft = sc.apply("div", arg(0), arg(1))
    hot = sc.apply("select", sc.apply("eq", arg(2, "int64"), sc.Index(1)), one(1), one(0))
    dz = make(
        (n, 10), (n, 10), "i, j", [(e, "i, j"), (s, "i"), (t, "i")],
        sc.apply("mul", sc.apply("sub", soft, hot), one(1 / n)),
    )  # fmt: skip
    dW2 = make((h, 10, n), (h, 10), "i, j", [(relu, "k, i"), (dz, "k, j")], "mul", "sum")
    db2 = make((n, 10), (10,), "j", [(dz, "i, j")], "copy", "sum")
    dr = make((n, h, 10), (n, h), "i, j", [(dz, "i, k"), (W2, "j, k")], "mul", "sum")
    da = elementwise(sc.apply("select", sc.apply("le", arg(1), one(0)), one(0), arg(0)), dr, hidden_sum)
    dW1 = make((20, h, n), (20, h), "i, j", [(x, "k, i"), (da, "k, j")], "mul", "sum")
    db1 = make((n, h), (h,), "j", [(da, "i, j")], "copy", "sum")
    params, grads = [W1, b1, W2, b2], [dW1, db1, dW2, db2]
    new = []
    for p, g in zip(params, grads, strict=True):
        axes = ", ".join("ij"[: len(p.shape)])
        body = sc.apply("sub", arg(0), sc.apply("mul", arg(2), arg(1)))
        new.append(make(p.shape, p.shape, axes, [(p, axes), (g, axes), (lr, "")], body))
    graph = Graph((loss, *new), ("loss",))
    leaves = [x, t, W1, b1, W2, b2, lr]
    names: dict[Node, str] = {
        a: "a", hidden_sum: "h", relu: "relu", z0: "z0", z: "z", top: "top", shifted: "shifted", e: "e", s: "s",
        own: "own", loss: "loss", dz: "dz", dW2: "dW2", db2: "db2", dr: "drelu", da: "dh", dW1: "dW1", db1: "db1",
        **{node: f"{p.name}_new" for p, node in zip(params, new, strict=True)},
    }  # fmt: skip
    return renamed(plan(graph, "step", leaves, 1, params), names), graph, leaves


def renamed(program: Program, names: dict[Node, str]) -> Program:
    """The program with other names for the buffers that stages write."""
    new = {stage.write: names[stage.node] for stage in program.stages()}

    def name(old: str) -> str:
        return new.get(old, old)

    return replace(
        program,
        buffers=tuple(replace(buffer, name=name(buffer.name)) for buffer in program.buffers),
        kernels=tuple(
            replace(
                kernel,
                stages=tuple(
                    replace(s, reads=tuple(name(read) for read in s.reads), write=name(s.write)) for s in kernel.stages
                ),
            )
            for kernel in program.kernels
        ),
        outputs=tuple(name(output) for output in program.outputs),
        updates=tuple((name(source), target) for source, target in program.updates),
    )


def program_of(
    outputs: Sequence[Node],
    targets: Sequence[Input] = (),
    values: Sequence[Node] = (),
    leaves: Sequence[Input] | None = None,
) -> Program:
    graph = Graph((*outputs, *values))
    return plan(graph, "step", tuple(leaves) if leaves is not None else graph.inputs, len(outputs), tuple(targets))


def test_the_text_of_a_training_step(golden: Callable[[str, str], None]) -> None:
    program, graph, leaves = training_step()
    text = backend.compile(program, Options()).source("numpy")
    golden("numpy/training_step.py", text)
    given = {x: sample(x.shape, x.dtype, k) for k, x in enumerate(leaves)}
    given[leaves[1]] = np.arange(64) % 10
    given[leaves[6]] = np.array(0.1, dtype=np.float32)
    expected = interpret(graph, given)
    arrays = [given[x].copy() for x in leaves]
    (loss,) = run_text(text, "step", arrays)
    np.testing.assert_allclose(loss, expected[0], rtol=1e-5)
    for new, param in zip(expected[1:], arrays[2:6], strict=True):
        np.testing.assert_allclose(param, new, rtol=1e-4, atol=1e-5)


def test_the_text_is_plain() -> None:
    """NumPy alone, one statement a line, no name that hides a builtin."""
    text = backend.compile(training_step()[0], Options()).source("numpy")
    tree = ast.parse(text)
    imports = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert [ast.unparse(node) for node in imports] == ["import numpy as np"]
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    assert not names & set(dir(__builtins__))
    body = text[text.index("def step") :]
    assert "eval" not in body and ";" not in body


def test_two_compiles_give_the_same_text_in_two_processes() -> None:
    code = (
        "from tests.backends.numpy.test_programs import training_step, backend, Options;"
        "import sys; sys.stdout.write(backend.compile(training_step()[0], Options()).source('numpy'))"
    )
    here = [backend.compile(training_step()[0], Options()).source("numpy") for _ in range(2)]
    environment = {"PYTHONHASHSEED": "7", "PYTHONPATH": str(Path(__file__).parents[3])}
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert here[0] == here[1] == there.stdout


def test_the_backend_is_found_and_fits_the_protocol() -> None:
    found = load("numpy")
    assert isinstance(found, Backend) and found is backend
    executable = found.compile(training_step()[0], Options())
    assert isinstance(executable, Executable) and isinstance(executable, NumpyExecutable)
    with pytest.raises(BackendError, match="it has: numpy"):
        executable.source("asm")


@pytest.mark.parametrize("name", ["lambda", "np", "print", "strided", "erf", "sum", "match", "x", "step", "inside"])
def test_names_that_the_code_needs_itself(name: str) -> None:
    x = leaf(name, (9,), "float64", "input")
    windows = make((7, 3), (7, 3), "i, j", [(x, "i + j")], sc.apply("erf", sc.Arg(0, "float64")))
    check(windows, make((9,), (9,), "i", [(x, "i - 1", "zero")], sc.apply("erf", sc.Arg(0, "float64"))))


def test_two_buffers_that_need_one_name() -> None:
    buffers = (
        Buffer("sum", (3,), "float64", "input"),
        Buffer("sum_", (3,), "float64", "input"),
        Buffer("out", (3,), "float64", "output"),
    )
    a, b = leaf("a", (3,), "float64", "input"), leaf("b", (3,), "float64", "input")
    node = elementwise(sc.apply("sub", sc.Arg(0, "float64"), sc.Arg(1, "float64")), a, b)
    stage = Stage(node, ("sum", "sum_"), "out")
    program = Program("np", buffers, (Kernel("k", "loops", 1, (stage,)),), ("sum", "sum_"), ("out",), ())
    (result,) = backend.compile(program, Options()).run([np.ones(3), np.full(3, 4.0)])
    np.testing.assert_array_equal(result, [-3, -3, -3])


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "int32", "bool"])
def test_constants(dtype: str) -> None:
    x = array("x", 5, 40, dtype=dtype)
    small = const(sample((40,), dtype, 1))
    large = const(sample((5, 40), dtype, 2))
    number, nothing = const(sample((), dtype, 3)), const(np.zeros((0, 3), dtype))
    op = "xor" if dtype == "bool" else "add"
    body = sc.Arg(0, dtype)
    for position in (1, 2, 3):
        body = sc.apply(op, body, sc.Arg(position, dtype))
    node = make((5, 40), (5, 40), "i, j", [(x, "i, j"), (small, "j"), (large, "i, j"), (number, "")], body)
    text = check(node, make((3, 0), (3,), "i", [(nothing, "j, i")], "copy", "sum"), large)
    assert "base64.b64decode" in text and text.startswith("import base64\n\nimport numpy as np\n")
    if dtype.startswith("float"):
        odd = const(np.array([np.nan, np.inf, -np.inf, -0.0, 0.1], dtype=dtype))
        check(make((5,), (5,), "i", [(odd, "i")], sc.apply("neg", sc.Arg(0, dtype))), odd)


# --- Memory ---------------------------------------------------------------------------------------------------------


def test_dead_arrays_are_reused() -> None:
    x, y = array("x", 100, 100), array("y", 100, 100)
    a = elementwise(sc.apply("exp", sc.Arg(0, "float64")), x)
    b = elementwise(sc.apply("mul", sc.Arg(0, "float64"), sc.Arg(1, "float64")), a, y)
    c = elementwise(sc.apply("sqrt", sc.apply("abs", sc.Arg(0, "float64"))), b)
    text = check(c)
    assert text.count("out=") == 3
    kept = check(c, a)  # an output stays as it is
    assert kept.count("out=") == 2
    assert "out=x" not in text + kept and "out=y" not in text + kept


def test_reuse_never_overwrites_what_is_still_read() -> None:
    """Many orders of reading the same few arrays."""
    x = array("x", 40, 40)
    nodes: list[Node] = [x]
    rng = np.random.default_rng(1)
    ops = ["add", "sub", "mul", "maximum"]
    reads = ["i, j", "j, i", "i, 39 - j", "39 - i, j"]
    for step in range(60):
        left, right = (nodes[int(k)] for k in rng.integers(max(0, len(nodes) - 6), len(nodes), 2))
        body = sc.apply(ops[step % 4], sc.Arg(0, "float64"), sc.apply("tanh", sc.Arg(1, "float64")))
        first, second = (reads[int(k)] for k in rng.integers(0, 4, 2))
        nodes.append(make((40, 40), (40, 40), "i, j", [(left, first), (right, second)], body))
    check(*nodes[-3:], nodes[20], nodes[10], scale=1e9)


def test_a_view_keeps_its_array_alive() -> None:
    x = array("x", 40, 40)
    a = elementwise(sc.apply("exp", sc.Arg(0, "float64")), x)
    flat = view(a, (1600,))
    b = elementwise(sc.apply("neg", sc.Arg(0, "float64")), a)
    c = make((1600,), (1600,), "i", [(flat, "i"), (view(b, (1600,)), "1599 - i")], "mul")
    windows = make((1598, 3), (1598,), "i", [(flat, "i + j")], sc.apply("neg", sc.Arg(0, "float64")), "max")
    check(c, windows, b)


def test_outputs_are_new_arrays() -> None:
    x = array("x", 4, 6)
    a = elementwise(sc.apply("exp", sc.Arg(0, "float64")), x)
    number = make((), (), "", [], sc.literal(2, "float64"))
    program, executable = compiled([a, a, view(a, (24,)), x, view(x, (24,)), const(np.arange(3.0)), number])
    given = np.arange(24.0).reshape(4, 6)
    results = executable.run([given])
    assert [r.shape for r in results] == [(4, 6), (4, 6), (24,), (4, 6), (24,), (3,), ()]
    for position, result in enumerate(results):
        assert isinstance(result, np.ndarray) and result.flags.writeable and not np.shares_memory(result, given)
        assert not any(np.shares_memory(result, other) for other in results[:position])
    again = executable.run([given])
    assert not any(np.shares_memory(one, other) for one in results for other in again)
    assert program.outputs


def test_an_output_that_is_an_input_without_the_planner() -> None:
    x = Buffer("x", (3,), "float64", "input")
    flat = Buffer("flat", (3, 1), "float64", "input", alias="x")
    program = Program("step", (x, flat), (), ("x",), ("x", "flat", "x"), ())
    given = np.arange(3.0)
    results = backend.compile(program, Options()).run([given])
    assert not any(np.shares_memory(a, given) for a in results) and not np.shares_memory(results[0], results[2])
    assert backend.compile(Program("step", (x,), (), ("x",), (), ()), Options()).run([given]) == ()


# --- Updates --------------------------------------------------------------------------------------------------------


def run_updates(program: Program, *arrays: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], ...]:
    return backend.compile(program, Options()).run(arrays)


def test_updates_read_the_values_before_the_step() -> None:
    a, b = leaf("a", (300,), "float64", "param"), leaf("b", (300,), "float64", "param")
    va, vb = np.full(300, 1.0), np.full(300, 2.0)
    run_updates(program_of([], [a, b], [b, a], [a, b]), va, vb)  # a swap
    assert va[0] == 2 and vb[0] == 1
    total = elementwise(sc.apply("add", sc.Arg(0, "float64"), sc.Arg(1, "float64")), a, b)
    twice = elementwise(sc.apply("mul", sc.Arg(0, "float64"), sc.literal(2, "float64")), a)
    (old,) = run_updates(program_of([a], [a, b], [total, twice], [a, b]), va, vb)
    assert (old == 2).all() and (va == 3).all() and (vb == 4).all()
    reverse = make((300,), (300,), "i", [(a, "299 - i")])
    va[:] = np.arange(300)
    run_updates(program_of([], [a], [reverse], [a]), va)
    np.testing.assert_array_equal(va, np.arange(300)[::-1])
    negative = make((300,), (300,), "i", [(a, "299 - i")], sc.apply("neg", sc.Arg(0, "float64")))
    run_updates(program_of([], [a], [negative], [a]), va)
    np.testing.assert_array_equal(va, -np.arange(300.0))


def adam_like(size: int) -> tuple[list[Input], list[Node]]:
    g = leaf("g", (size,), F32, "input")
    w, m, v, t = (leaf(name, (size,) if name != "t" else (), F32, "state") for name in "wmvt")
    mul, add = (lambda a, b: sc.apply("mul", a, b)), (lambda a, b: sc.apply("add", a, b))
    next_t = elementwise(add(arg(0), one(1)), t)
    next_m = elementwise(add(mul(arg(0), one(0.9)), mul(arg(1), one(0.1))), m, g)
    next_v = elementwise(add(mul(arg(0), one(0.99)), mul(mul(arg(1), arg(1)), one(0.01))), v, g)
    step = sc.apply("div", mul(arg(1), arg(3)), add(sc.apply("sqrt", arg(2)), one(1e-3)))
    reads = [(w, "i"), (next_m, "i"), (next_v, "i"), (next_t, "")]
    next_w = make((size,), (size,), "i", reads, sc.apply("sub", arg(0), step))
    return [g, w, m, v, t], [next_w, next_m, next_v, next_t]


@pytest.mark.parametrize("size", [1, 7, 3000])
def test_updates_that_depend_on_one_another(size: int) -> None:
    leaves, new = adam_like(size)
    program = program_of([], leaves[1:], new, leaves)
    arrays = [np.asarray(np.abs(sample(x.shape, F32, k))) for k, x in enumerate(leaves)]
    for _ in range(3):
        expected = interpret(Graph(tuple(new)), dict(zip(leaves, arrays, strict=True)))
        run_updates(program, *arrays)
        for array_, wanted in zip(arrays[1:], expected, strict=True):
            np.testing.assert_allclose(array_, wanted, rtol=1e-5)
    text = backend.compile(program, Options()).source("numpy")
    if size == 3000:
        tail = text[text.index("out=") :]
        assert "out=m)" in text and "out=v)" in text and "out=w)" in text and "[...] =" not in text
        assert "np.empty" not in tail  # what the tail needs is there before the first param is written


def test_a_failed_call_changes_nothing() -> None:
    a = leaf("a", (300,), "float64", "param")
    x, at = leaf("x", (4,), "float64", "input"), leaf("at", (2,), "int64", "input")
    taken = opaque("take", (x, at), (2,), "float64", axis=0)
    new = elementwise(sc.apply("mul", sc.Arg(0, "float64"), sc.literal(2, "float64")), a)
    spread = opaque("scatter_add", (taken, at), (4,), "float64", axis=0)
    for outputs in ([taken], [spread], [x, taken]):
        executable = backend.compile(program_of(outputs, [a], [new], [a, x, at]), Options())
        value = np.ones(300)
        for bad in ([0, 4], [-1, 0]):
            with pytest.raises(IndexError, match=f"take: index {next(b for b in bad if b)} is outside an axis of 4"):
                executable.run([value, np.zeros(4), np.array(bad)])
            assert (value == 1).all()
        executable.run([value, np.zeros(4), np.array([0, 3])])
        assert (value == 2).all()


def test_an_update_whose_value_is_also_returned() -> None:
    a = leaf("a", (300,), "float64", "param")
    new = elementwise(sc.apply("mul", sc.Arg(0, "float64"), sc.literal(2, "float64")), a)
    value = np.ones(300)
    (result,) = run_updates(program_of([new], [a], [new], [a]), value)
    assert (result == 2).all() and (value == 2).all() and not np.shares_memory(result, value)


def test_one_value_for_two_params() -> None:
    a, b = leaf("a", (300,), "float64", "param"), leaf("b", (300,), "float64", "param")
    new = elementwise(sc.apply("add", sc.Arg(0, "float64"), sc.Arg(1, "float64")), a, b)
    va, vb = np.full(300, 1.0), np.full(300, 2.0)
    run_updates(program_of([], [a, b], [new, new], [a, b]), va, vb)
    assert (va == 3).all() and (vb == 3).all()


def test_a_product_that_is_read_transposed_is_computed_transposed() -> None:
    x, g, w = array("x", 7, 9), array("g", 7, 8), array("w", 8, 9)
    dw = make((9, 8, 7), (9, 8), "i, j", [(x, "k, i"), (g, "k, j")], "mul", "sum")
    change = sc.apply("sub", sc.Arg(0, "float64"), sc.Arg(1, "float64"))
    new = make((8, 9), (8, 9), "i, j", [(w, "i, j"), (dw, "j, i")], change)
    text = check(new)
    assert "= g.T @ x\n" in text
    total = make((8, 9), (9,), "j", [(dw, "j, i")], "copy", "sum")
    check(new, total)
    check(new, dw)


def test_empty_arrays() -> None:
    for batch in (0, 1, 2):
        x, w = array("x", batch, 5, dtype=F32), array("w", 5, 3, dtype=F32)
        y = make((batch, 3, 5), (batch, 3), "i, j", [(x, "i, k"), (w, "k, j")], "mul", "sum")
        relu = elementwise(sc.apply("maximum", arg(0), one(0)), y)
        dw = make((5, 3, batch), (5, 3), "i, j", [(x, "k, i"), (relu, "k, j")], "mul", "sum")
        check(relu, dw, make((batch, 3), (3,), "j", [(relu, "i, j")], "copy", "max"))

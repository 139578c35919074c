"""Exported functions whose sizes are arguments of each call."""

from __future__ import annotations

import ctypes
import json
import re
import subprocess

import numpy as np
import pytest

import graphc as gc
from graphc.errors import ArgumentError
from graphc_llvm.export_interface import status_code
from tests.backends.llvm.export_support import Raw, aligned, compiled, loaded, output_of
from tests.conftest import requires_tool

ROWS = (0, 1, 2, 3, 4, 5, 15, 16, 17, 63, 64, 65, 300)

# Reads the number of rows and x, writes y: on the heap, where valgrind sees what is read or written beside them.
MAIN = """
#include "digits.h"
#include <stdlib.h>
#include <stdio.h>

int main(int count, char **arguments) {
    int64_t rows = count > 1 ? atoll(arguments[1]) : 0, bytes = digits_workspace_bytes(rows);
    size_t x_size = (size_t)DIGITS_INPUT_x_SIZE(rows), y_size = (size_t)DIGITS_OUTPUT_y_SIZE(rows);
    float *x = (float *)malloc(x_size * sizeof(float)), *y = (float *)malloc(y_size * sizeof(float));
    void *workspace = NULL;
    digits_inputs inputs;
    digits_outputs outputs;
    if (bytes != DIGITS_WORKSPACE_BYTES(rows) || bytes < 0) return 1;
    if (posix_memalign(&workspace, 64, (size_t)bytes)) return 9;
    inputs.x = x;
    outputs.y = y;
    if (fread(x, sizeof(float), x_size, stdin) != x_size) return 2;
    if (digits_run(&inputs, NULL, &outputs, rows, workspace, (size_t)bytes)) return 3;
    if (fwrite(y, sizeof(float), y_size, stdout) != y_size) return 4;
    if (digits_describe(DIGITS_KIND_INPUT, 0)->rows != 1) return 5;
    if (digits_describe(DIGITS_KIND_INPUT, 0)->shape[0] != 1) return 5;
    if (digits_run(&inputs, NULL, &outputs, -1, workspace, (size_t)bytes) != DIGITS_BAD_SIZE) return 6;
    if (digits_workspace_bytes(DIGITS_MOST_N + 1) != -1 || digits_workspace_bytes(DIGITS_MOST_N) < 0) return 7;
    free(x);
    free(y);
    free(workspace);
    return 0;
}
"""


def perceptron(**options):
    """y = softmax of a perceptron's scores of x, called digits."""
    x = gc.input("x", ("N", 64))
    model = gc.nn.Sequential(gc.nn.Linear(64, 33, seed=0), gc.nn.ReLU(), gc.nn.Linear(33, 10, seed=1))
    return gc.compile([x], gc.softmax(model(x)).named("y"), backend="llvm", name="digits", **options)


def standardised():
    """A function with sums over rows, one behind the other, so that rows are kept in the workspace; and its export's
    output, the mean and the rows."""
    x = gc.input("x", ("N", 6))
    centred = x - gc.mean(x, axis=0)
    y = centred / gc.sqrt(gc.mean(centred**2, axis=0) + 1e-3)
    outputs = [gc.max(y).named("top"), y.named("y")]
    return gc.compile([x], outputs, backend="llvm", name="standard", dynamic=["N"], threads=1)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dynamic")
    function = perceptron(dynamic=["N"])
    function.export(folder / "digits", loader="python")
    return folder, function


def test_c_gets_the_bits_of_python_for_any_number_of_rows(digits):
    folder, function = digits
    program = compiled(folder, MAIN, "-std=c11", "-D_POSIX_C_SOURCE=200112L")
    rng = np.random.default_rng(0)
    for rows in ROWS:
        x = rng.normal(size=(rows, 64)).astype("float32")
        assert output_of([program, str(rows)], x.tobytes()) == function(x).tobytes()


def test_it_is_cpp_and_clean_under_sanitizers_and_valgrind(digits):
    folder, function = digits
    x = np.random.default_rng(1).normal(size=(70, 64)).astype("float32")
    want = function(x).tobytes()
    cpp = compiled(folder, MAIN, "-std=c++11", compiler="g++", file="main.cpp")
    assert output_of([cpp, "70"], x.tobytes()) == want
    checked = compiled(folder, MAIN, "-std=gnu11", "-fsanitize=address,undefined", "-fno-sanitize-recover", file="s.c")
    assert output_of([checked, "70"], x.tobytes()) == want
    plain = compiled(folder, MAIN, "-std=gnu11", file="v.c")
    valgrind = [requires_tool("valgrind"), "-q", "--error-exitcode=1", "--leak-check=full", plain, "70"]
    cpu = perceptron(dynamic=["N"], cpu="x86-64-v3")  # valgrind knows no AVX-512
    cpu.export(folder / "digits", formats=["o"])
    plain = compiled(folder, MAIN, "-std=gnu11", file="v.c")
    assert output_of(valgrind, x.tobytes()) == cpu(x).tobytes()
    function.export(folder / "digits", formats=["o"])


def test_there_is_no_undefined_symbol_and_no_writable_data(digits):
    folder, _ = digits
    nm = subprocess.run([requires_tool("nm"), folder / "digits.o"], capture_output=True, text=True, check=True)
    kinds = {line.split()[-2] for line in nm.stdout.splitlines()}
    assert kinds <= set("Ttr"), kinds


class Sized(Raw):
    """`run` with a number of rows."""

    def __init__(self, folder, prefix):
        super().__init__(folder, prefix)
        self._run.argtypes = [*[ctypes.c_void_p] * 3, ctypes.c_int64, ctypes.c_void_p, ctypes.c_size_t]
        self._bytes.argtypes = [ctypes.c_int64]

    def call(self, rows, inputs, outputs, workspace):
        """The status; an argument is an address, or an array."""
        groups = [(ctypes.c_void_p * len(one))(*map(_address, one)) for one in (inputs, outputs)]
        return self._run(groups[0], None, groups[1], rows, workspace.ctypes.data, len(workspace))


def _address(one):
    return one if isinstance(one, int) else one.ctypes.data


@pytest.mark.parametrize("rows", [-1, -(2**63), 2**63 - 1, 2**62, 0])
def test_a_size_outside_its_limits_is_refused_and_nothing_written(tmp_path, rows):
    standardised().export(tmp_path / "standard", formats=["so"])
    raw = Sized(tmp_path, "standard")
    x, top, y = np.ones((4, 6), "float32"), np.full((), -7, "float32"), np.full((4, 6), -7, "float32")
    workspace = aligned(raw._bytes(4))
    before = workspace.copy()
    assert raw.call(rows, [x], [top, y], workspace) == status_code("BAD_SIZE")  # of no rows there is no maximum
    assert raw._bytes(rows) == -1
    assert top == -7
    assert (y == -7).all()
    assert (workspace == before).all()


def test_the_workspace_grows_with_the_rows_that_are_kept(tmp_path):
    function = standardised()
    function.export(tmp_path / "standard", formats=["so"])
    raw = Sized(tmp_path, "standard")
    assert raw._bytes(1) < raw._bytes(1000) < raw._bytes(100_000)
    for rows in range(1, 9):  # each part begins at a cache line
        assert raw._bytes(rows) == function.specialised(N=rows).executable.layout.arena_bytes
    for rows in (1, 7, 64, 1000):
        x = np.random.default_rng(rows).normal(size=(rows, 6)).astype("float32")
        top, y = np.empty((), "float32"), np.empty((rows, 6), "float32")
        workspace = aligned(raw._bytes(rows))
        short = workspace[: len(workspace) - 64]
        assert raw.call(rows, [x], [top, y], short) == status_code("WORKSPACE_TOO_SMALL")
        assert raw.call(rows, [x], [top, y], workspace) == 0
        want = function(x)
        assert top.tobytes() == want[0].tobytes()
        assert y.tobytes() == want[1].tobytes()


def test_arguments_are_checked_as_far_as_their_rows_reach(digits):
    folder, _ = digits
    raw = Sized(folder, "digits")
    memory = np.zeros(64 * 80, "float32")
    y, workspace = np.zeros((8, 10), "float32"), aligned(raw._bytes(8))
    at = memory.ctypes.data
    behind = at + 4 * 64 * 5  # where five rows end
    assert raw.call(5, [at], [behind], workspace) == 0
    assert raw.call(6, [at], [behind], workspace) == status_code("OVERLAP")
    assert raw.call(5, [at], [behind - 4], workspace) == status_code("OVERLAP")
    assert raw.call(5, [at + 2], [y], workspace) == status_code("MISALIGNED")
    assert raw.call(5, [0], [y], workspace) == status_code("NULL")
    assert raw.call(5, [workspace.ctypes.data], [y], workspace) == status_code("WORKSPACE_OVERLAP")
    assert raw.call(0, [0], [0], workspace) == 0  # of no rows nothing is read or written
    assert raw.call(0, [workspace.ctypes.data + 2], [y], workspace) == 0


def test_a_step_that_is_exported_learns_what_the_compiled_one_learns(tmp_path):
    x, t = gc.input("x", ("N", 8)), gc.input("t", ("N",), dtype="int64")
    model = gc.nn.Linear(8, 4, seed=0)
    loss = gc.nn.cross_entropy(model(x), t)
    step = gc.compile([x, t], loss.named("loss"), gc.optim.Adam(lr=0.1).updates(loss, model.parameters()),
                      backend="llvm", name="step")  # the export alone is dynamic
    step.export(tmp_path / "step", dynamic=["N"], loader="python")
    library = loaded(tmp_path / "step.py")
    library.selftest()
    params = {name: library.zeros("params", name) for name in library.TENSORS["params"]}
    by_name = {tensor[0]: params[name] for name, tensor in library.TENSORS["params"].items()}
    for tensor in step.targets:
        np.asarray(by_name[tensor.name])[...] = tensor.value.reshape(-1)
    for name, value in by_name.items():
        if name == "lr":
            np.asarray(value)[...] = 0.1
    rng = np.random.default_rng(0)
    for rows in (1, 5, 64, 100):
        inputs = rng.normal(size=(rows, 8)).astype("float32"), rng.integers(0, 4, rows)
        got = library.run(*inputs, *params.values())
        np.testing.assert_allclose(np.asarray(got), step(*inputs), rtol=1e-5)
    for tensor in step.targets:
        np.testing.assert_allclose(np.asarray(by_name[tensor.name]), tensor.value.reshape(-1), rtol=1e-4, atol=1e-6)


def test_the_python_loader_finds_the_number_of_rows(digits):
    folder, function = digits
    library = loaded(folder / "digits.py")
    library.selftest()
    for rows in (1, 3, 70):
        x = np.random.default_rng(rows).normal(size=(rows, 64)).astype("float32")
        assert np.asarray(library.run(x)).tobytes() == function(x).tobytes()
        flat = np.asarray(library.run(x.reshape(-1)))
        assert flat.shape == (rows, 10)
    with pytest.raises(ValueError, match=r"x: the shape is \(N, 64\), or a multiple of 64 elements, not \(3,\)"):
        library.run(np.zeros(3, "float32"))


SCRIPT = """
import load, { DIMENSIONS } from "./step.mjs";
const step = await load();
step.selftest();
step.params.w.fill(0.5);
const row = (n) => Float32Array.from({ length: n * 8 }, (_, i) => ((i * 37) % 101) / 101 - 0.5);
const labels = (n) => BigInt64Array.from({ length: n }, (_, i) => BigInt(i % 4));
const found = [1, 5, 700, 3].map((n) => [...step.run({ x: row(n), t: labels(n) }).loss]);
const tried = [
  () => step.run({ x: row(2).slice(1), t: labels(2) }), () => step.run({ x: row(2), t: labels(3) }),
  () => step.run({ x: [], t: [] }),
];
const errors = tried.map((call) => { try { call(); return ""; } catch (error) { return error.message; } });
console.log(JSON.stringify({ found, w: [...step.params.w], errors, least: DIMENSIONS.N.least }));
"""


def test_javascript_gets_new_places_for_more_rows(tmp_path):
    x, t = gc.input("x", ("N", 8)), gc.input("t", ("N",), dtype="int64")
    w = gc.param("w", (8, 4), init=0.5)
    loss = gc.nn.cross_entropy(x @ w, t)
    (slope,) = gc.grad(loss, [w])
    step = gc.compile([x, t], loss.named("loss"), {w: w - 0.1 * slope}, backend="llvm", name="step")
    step.export(tmp_path / "step", target="wasm32", loader="javascript", dynamic=["N"])
    (tmp_path / "main.mjs").write_text(SCRIPT)
    got = json.loads(output_of([requires_tool("node"), tmp_path / "main.mjs"]))
    want = []
    for rows in (1, 5, 700, 3):
        numbers = ((np.arange(rows * 8) * 37 % 101) / 101 - 0.5).astype("float32").reshape(rows, 8)
        want.append([float(step(numbers, np.arange(rows) % 4))])
    np.testing.assert_allclose(got["found"], want, rtol=1e-5)
    np.testing.assert_allclose(got["w"], w.value.reshape(-1), rtol=1e-5)
    assert got["least"] == 1  # of no rows there is no mean
    assert got["errors"][:2] == [
        "step: x is float32[N,8], 8 elements for each of N, not 15",
        "step: t is int64[N], 1 elements for each of N, not 3: another input has 2 rows",
    ]
    assert re.fullmatch(r"step: N is from 1 to \d+, not 0", got["errors"][2])


def test_errors_of_the_option():
    with pytest.raises(ArgumentError, match="there is no dimension 'M'; there are: N"):
        perceptron().export("digits", dynamic=["M"])
    with pytest.raises(ArgumentError, match="N is dynamic: it has a size in each call"):
        perceptron().export("digits", dynamic=["N"], sizes={"N": 3})

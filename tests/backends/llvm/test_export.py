"""A C program links an exported function and gets the bits that Python gets."""

from __future__ import annotations

import subprocess

import numpy as np
import pytest

import graphc as gc
from graphc.errors import ExportError
from tests.conftest import requires_tool

WARNINGS = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror"]
MAIN = """
#include "digits.h"
#include <stdio.h>
#include <stdlib.h>

int main(void) {
    static float x[%(x)d], y[%(y)d];
    size_t bytes = (size_t)digits_workspace_bytes();
    unsigned char *raw = malloc(bytes + 128);
    unsigned char *workspace = raw + (64 - (size_t)raw %% 64) %% 64;
    digits_inputs inputs = {x};
    digits_outputs outputs = {y};
    if (fread(x, sizeof(float), %(x)d, stdin) != %(x)d) return 2;
    int32_t status = digits_run(&inputs, NULL, &outputs, workspace, bytes);
    if (status) { fputs(digits_strerror(status), stderr); return 3; }
    fwrite(y, sizeof(float), %(y)d, stdout);
    if (digits_run(NULL, NULL, &outputs, workspace, bytes) != DIGITS_NULL) return 4;
    if (digits_run(&inputs, NULL, &outputs, workspace, bytes - 1) != DIGITS_WORKSPACE_TOO_SMALL) return 5;
    if (digits_run(&inputs, NULL, &outputs, workspace + 4, bytes) != DIGITS_WORKSPACE_MISALIGNED) return 6;
    free(raw);
    return 0;
}
"""


@pytest.fixture
def predict():
    x = gc.input("x", (5, 64))
    model = gc.nn.Sequential(gc.nn.Linear(64, 33, seed=0), gc.nn.ReLU(), gc.nn.Linear(33, 10, seed=1))
    return gc.compile([x], gc.softmax(model(x)), backend="llvm", name="digits")


def build(folder, source, *more):
    gcc = requires_tool("gcc")
    (folder / "main.c").write_text(source)
    subprocess.run([gcc, *WARNINGS, "main.c", "digits.o", *more, "-o", "main"], cwd=folder, check=True)
    return folder / "main"


def test_c_program_gets_the_same_bits(predict, tmp_path):
    written = predict.export(str(tmp_path / "digits"))
    assert [name.rsplit(".")[-1] for name in written] == ["o", "h"]
    program = build(tmp_path, MAIN % {"x": 5 * 64, "y": 50})
    x = np.random.default_rng(0).normal(size=(5, 64)).astype("float32")
    done = subprocess.run([program], input=x.tobytes(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == predict(x).tobytes()


def test_object_needs_nothing_and_holds_no_writable_data(predict, tmp_path):
    nm = requires_tool("nm")
    predict.export(str(tmp_path / "digits"))
    listed = subprocess.run([nm, "digits.o"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    kinds = {line.split()[-2] for line in listed.splitlines()}
    assert not kinds & set("UDBdb"), listed
    visible = {line.split()[-1] for line in listed.splitlines() if line.split()[-2] == "T"}
    assert visible == {"digits_run", "digits_strerror", "digits_workspace_bytes"}


def test_header_compiles_as_cpp(predict, tmp_path):
    gcc = requires_tool("gcc")
    predict.export(str(tmp_path / "digits"))
    (tmp_path / "main.cpp").write_text('#include "digits.h"\nint main() { return digits_workspace_bytes() < 0; }\n')
    flags = ["-Wall", "-Wextra", "-Werror", "-fsyntax-only"]
    subprocess.run([gcc, "-x", "c++", *flags, "main.cpp"], cwd=tmp_path, check=True)


def test_passed_weights_of_a_training_step(tmp_path):
    x = gc.input("x", (3,))
    w = gc.param("w", (3,), init=2.0)
    step = gc.compile([x], gc.sum(w * x), {w: w - 0.5 * x}, backend="llvm")
    with pytest.raises(ExportError, match='weights="pass"'):
        step.export(str(tmp_path / "digits"))
    step.export(str(tmp_path / "digits"), weights="pass")
    assert "float *w; /* float32(3,) */" in (tmp_path / "digits.h").read_text()
    assert "const float *w;" not in (tmp_path / "digits.h").read_text()
    source = """
    #include "digits.h"
    #include <stdio.h>
    static unsigned char workspace[DIGITS_WORKSPACE_BYTES] __attribute__((aligned(64)));
    int main(void) {
        float x[3] = {1, 2, 3}, w[3] = {2, 2, 2}, y = 0;
        digits_inputs inputs = {x};
        digits_params params = {w};
        digits_outputs outputs = {&y};
        if (digits_run(&inputs, &params, &outputs, workspace, sizeof workspace)) return 1;
        printf("%g %g %g %g", (double)y, (double)w[0], (double)w[1], (double)w[2]);
        return 0;
    }
    """
    program = build(tmp_path, source)
    done = subprocess.run([program], capture_output=True, text=True, check=True)
    assert done.stdout == "12 1.5 1 0.5"


def test_bad_names_and_options_are_refused(predict, tmp_path):
    with pytest.raises(ExportError, match="cannot be the prefix"):
        predict.export(str(tmp_path / "2digits"))
    with pytest.raises(ExportError, match='"embed" or "pass"'):
        predict.export(str(tmp_path / "digits"), weights="copy")

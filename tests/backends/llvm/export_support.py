"""What the tests of export share: functions to export, C programs that call them, and calls by ctypes."""

from __future__ import annotations

import ctypes
import importlib.util
import subprocess

import numpy as np

import graphc as gc
from tests.conftest import requires_tool

WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror"]

# Reads x, writes y; only the exported function, read and write are called. -DHEAP puts all arrays on the heap, each
# with its own size, where valgrind sees what is read or written beside them. -DSTATUSES tries bad arguments, too.
MAIN = """
#include "digits.h"
#include <stdlib.h>
#include <unistd.h>
#define X DIGITS_INPUT_x_SIZE
#define Y DIGITS_OUTPUT_y_SIZE

static int whole(int fd, char *at, size_t left, int is_reading) {
    while (left) {
        ssize_t done = is_reading ? read(fd, at, left) : write(fd, at, left);
        if (done <= 0) return 0;
        at += done;
        left -= (size_t)done;
    }
    return 1;
}

int main(void) {
#ifdef HEAP
    float *x = (float *)malloc(X * sizeof(float)), *y = (float *)malloc(Y * sizeof(float));
    void *workspace = NULL;
    if (posix_memalign(&workspace, 64, DIGITS_WORKSPACE_BYTES) || !x || !y) return 9;
#else
    static float x[X], y[Y];
    static unsigned char memory[DIGITS_WORKSPACE_BYTES + 63];
    unsigned char *workspace = memory + (64 - (uintptr_t)memory % 64) % 64;
#endif
    digits_inputs inputs;
    digits_outputs outputs;
    inputs.x = x;
    outputs.y = y;
    if (!whole(0, (char *)x, X * sizeof(float), 1)) return 2;
    if (digits_run(&inputs, NULL, &outputs, workspace, DIGITS_WORKSPACE_BYTES)) return 3;
    if (!whole(1, (char *)y, Y * sizeof(float), 0)) return 4;
#ifdef STATUSES
    if (digits_run(NULL, NULL, &outputs, workspace, DIGITS_WORKSPACE_BYTES) != DIGITS_NULL) return 5;
    if (digits_run(&inputs, NULL, &outputs, workspace, 0) != DIGITS_WORKSPACE_TOO_SMALL) return 6;
    if (digits_strerror(DIGITS_NULL)[0] != 'a' || digits_describe(DIGITS_KIND_INPUT, 1)) return 7;
    if (digits_describe(DIGITS_KIND_INPUT, 0)->bytes != (int64_t)(X * sizeof(float))) return 8;
#endif
#ifdef HEAP
    free(x);
    free(y);
    free(workspace);
#endif
    return 0;
}
"""


def perceptron(batch=5, hidden=33, **options):
    """y = softmax of a perceptron's scores of x, called digits."""
    x = gc.input("x", (batch, 64))
    model = gc.nn.Sequential(gc.nn.Linear(64, hidden, seed=0), gc.nn.ReLU(), gc.nn.Linear(hidden, 10, seed=1))
    return gc.compile([x], gc.softmax(model(x)).named("y"), backend="llvm", name="digits", **options)


def compiled(folder, source, *flags, compiler="gcc", file="main.c", objects=("digits.o",), warnings=WARNINGS):
    """The path of a program in C or C++, without a warning."""
    (folder / file).write_text(source)
    tool = requires_tool(compiler)
    program = folder / f"{file}{''.join(flags)}.out".replace("/", "_")
    subprocess.run([tool, *warnings, *flags, file, *objects, "-o", program], cwd=folder, check=True)
    return program


def output_of(command, given=b""):
    """What a program wrote; its status is 0."""
    done = subprocess.run(command, input=given, capture_output=True, check=False)
    assert done.returncode == 0, (done.returncode, done.stderr.decode(errors="replace"))
    return done.stdout


def loaded(path):
    """The module of a Python loader."""
    requires_tool("cc", "it links the shared library")
    spec = importlib.util.spec_from_file_location(f"exported_{abs(hash(path))}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Raw:
    """An exported function called with addresses: `run(inputs, params, outputs, workspace, size)` takes lists of
    addresses, or None for a null struct, and gives the status."""

    def __init__(self, folder, prefix):
        requires_tool("cc", "it links the shared library")
        self.shared = ctypes.CDLL(str(folder / f"lib{prefix}.so"))
        self._run = getattr(self.shared, f"{prefix}_run")
        self._run.argtypes = [ctypes.c_void_p] * 4 + [ctypes.c_size_t]
        self._bytes = getattr(self.shared, f"{prefix}_workspace_bytes")
        self._bytes.restype = ctypes.c_int64

    @property
    def workspace_bytes(self):
        return self._bytes()

    def run(self, inputs, params, outputs, workspace, size):
        groups = [one if one is None else (ctypes.c_void_p * max(len(one), 1))(*one) for one in
                  (inputs, params, outputs)]
        return self._run(*groups, workspace, size)


def aligned(size, fill=0xA5):
    """Bytes at a multiple of 64, as an array."""
    memory = np.full(size + 64, fill, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size]

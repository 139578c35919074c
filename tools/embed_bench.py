"""How fast exported code is called from C: `python -m tools.embed_bench`, with gcc.

Prints nanoseconds a call (the least of many short rounds, in which all that is compared takes turns, as other work on
the machine only adds) of

- the perceptron of the digits, 64-32-10 and 64-128-10, on one image, and of a call that is refused;
- the gradient of FEATURES' row A4, f = b3 + w3 cos(b2 + w2 exp(b1 + w1 sin(b0 + w0 x))), l = (f - y)^2, by its eight
  params, and the same written in C with libm under gcc -O3;
- the perceptron 64-32-10 and its training step (Adam) for 1, 64 and 1000 rows, by code for any number of rows
  (`dynamic=["N"]`) and by code for exactly so many;

and how large the objects are.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import graphc as gc

ROUNDS, CALLS = 400, 2000

TIMER = """
#include <stdio.h>
#include <time.h>
static double least[3] = {1e30, 1e30, 1e30};
#define TIME(number, call) do { \\
    struct timespec begun, ended; \\
    clock_gettime(CLOCK_MONOTONIC, &begun); \\
    for (int calls = 0; calls < CALLS; calls++) { call; } \\
    clock_gettime(CLOCK_MONOTONIC, &ended); \\
    double ns = (double)(ended.tv_sec - begun.tv_sec) * 1e9 + (double)(ended.tv_nsec - begun.tv_nsec); \\
    if (ns / CALLS < least[number]) least[number] = ns / CALLS; \\
} while (0)
static void print(int number, const char *title) { printf("  %-44s %8.1f ns\\n", title, least[number]); }
"""

DIGITS = (
    TIMER
    + """
#include "digits.h"
#include <stdint.h>
int main(void) {
    static unsigned char workspace[DIGITS_WORKSPACE_BYTES] __attribute__((aligned(64)));
    static float image[64];
    static float scores[10];
    digits_inputs inputs = {image};
    digits_outputs outputs = {scores}, same = {image}; /* the latter is found by the last check */
    if (digits_run(&inputs, 0, &same, workspace, sizeof workspace) != DIGITS_OVERLAP) return 1;
    for (int rounds = 0; rounds < ROUNDS; rounds++) {
        TIME(0, digits_run(&inputs, 0, &outputs, workspace, sizeof workspace));
        TIME(1, digits_run(&inputs, 0, &same, workspace, sizeof workspace));
    }
    print(0, "run");
    print(1, "a call that is refused");
    return 0;
}
"""
)

A4 = (
    TIMER
    + """
#include "a4.h"
#include <math.h>
#include <stdint.h>
__attribute__((noinline))
static void by_hand(const float *x, const float *y, const float *b, const float *w, float *db, float *dw) {
    float f0 = b[0] + w[0] * *x, h1 = sinf(f0), f1 = b[1] + w[1] * h1, h2 = expf(f1), f2 = b[2] + w[2] * h2;
    float h3 = cosf(f2), f3 = b[3] + w[3] * h3, d3 = 2 * (f3 - *y);
    float d2 = -d3 * w[3] * sinf(f2), d1 = d2 * w[2] * h2, d0 = d1 * w[1] * cosf(f0);
    db[0] = d0; db[1] = d1; db[2] = d2; db[3] = d3;
    dw[0] = d0 * *x; dw[1] = d1 * h1; dw[2] = d2 * h2; dw[3] = d3 * h3;
}
int main(void) {
    static unsigned char workspace[A4_WORKSPACE_BYTES] __attribute__((aligned(64)));
    static float x = 2.3f, y = 2.0f;
    static float b[4] = {1.0f, 2.0f, 3.0f, 0.4f}, w[4] = {0.1f, -0.2f, 0.5f, 0.3f};
    static float db[4], dw[4], db_by_hand[4], dw_by_hand[4];
    a4_inputs inputs = {&x, &y, b, w};
    a4_outputs outputs = {db, dw}, same = {db, w}; /* the latter is found by the last check */
    if (a4_run(&inputs, 0, &same, workspace, sizeof workspace) != A4_OVERLAP) return 1;
    for (int rounds = 0; rounds < ROUNDS; rounds++) {
        TIME(0, a4_run(&inputs, 0, &outputs, workspace, sizeof workspace));
        TIME(1, a4_run(&inputs, 0, &same, workspace, sizeof workspace));
        TIME(2, by_hand(&x, &y, b, w, db_by_hand, dw_by_hand));
    }
    print(0, "exported");
    print(1, "a call that is refused");
    print(2, "C with libm, gcc -O3");
    for (int i = 0; i < 4; i++)
        if (fabsf(db[i] - db_by_hand[i]) > 1e-5f || fabsf(dw[i] - dw_by_hand[i]) > 1e-5f) {
            puts("  THEY DIFFER");
            return 1;
        }
    return 0;
}
"""
)


# `any` takes the number of rows, `fixed` has it. The structs are rows of pointers, whose lengths `describe` tells.
ROWS_OF = (
    TIMER
    + """
#include "any.h"
#include "fixed.h"
#include <stdint.h>
#include <stdlib.h>
static void *memory(const any_tensor_info *info) {
    size_t bytes = (size_t)info->bytes * (info->rows ? ROWS : 1), i;
    char *array = calloc(bytes + 64, 1);
    if (info->dtype == ANY_DTYPE_FLOAT32 && info->shape[0] != 0 && info->rank)
        for (i = 0; i < bytes / 4; i++) ((float *)array)[i] = (float)(i * 37 % 101) / 5000.0f;
    return array;
}
int main(void) {
    void *groups[3][64], *workspace;
    size_t bytes = (size_t)any_workspace_bytes(ROWS), other = (size_t)fixed_workspace_bytes();
    if (bytes < other) bytes = other;
    workspace = aligned_alloc(64, (bytes + 63) / 64 * 64);
    for (int kind = 0; kind < 3; kind++)
        for (int i = 0; any_describe(kind, i); i++) groups[kind][i] = memory(any_describe(kind, i));
    for (int rounds = 0; rounds < ROUNDS; rounds++) {
        TIME(0, any_run((any_inputs *)groups[0], (any_params *)groups[1], (any_outputs *)groups[2], ROWS, workspace,
            bytes));
        TIME(1, fixed_run((fixed_inputs *)groups[0], (fixed_params *)groups[1], (fixed_outputs *)groups[2], workspace,
            bytes));
    }
    printf("  %5d rows: any %10.1f ns, fixed %10.1f ns, ratio %.3f\\n", ROWS, least[0], least[1], least[0] / least[1]);
    return 0;
}
"""
)


def of_rows(is_step: bool) -> gc.Function:
    """The scores of any number of images, or a training step on them."""
    x, t = gc.input("x", ("N", 64)), gc.input("t", ("N",), dtype="int64")
    model = gc.nn.Sequential(gc.nn.Linear(64, 32, seed=0), gc.nn.ReLU(), gc.nn.Linear(32, 10, seed=1))
    if not is_step:
        return gc.compile([x], model(x).named("scores"), backend="llvm", name="scores")
    loss = gc.nn.cross_entropy(model(x), t)
    updates = gc.optim.Adam(lr=1e-3).updates(loss, model.parameters())
    return gc.compile([x, t], loss.named("loss"), updates, backend="llvm", name="step")


def a4(dtype: str = "float32") -> gc.Function:
    """The gradient of row A4 by b0 ... b3, w0 ... w3."""
    x, y = gc.input("x", (), dtype=dtype), gc.input("y", (), dtype=dtype)
    b, w = gc.input("b", (4,), dtype=dtype), gc.input("w", (4,), dtype=dtype)
    f = b[3] + w[3] * gc.cos(b[2] + w[2] * gc.exp(b[1] + w[1] * gc.sin(b[0] + w[0] * x)))
    db, dw = gc.grad((f - y) ** 2, [b, w])
    return gc.compile([x, y, b, w], [db.named("db"), dw.named("dw")], backend="llvm", name="a4")


def perceptron(hidden: int) -> gc.Function:
    """The scores of one image."""
    image = gc.input("image", (1, 64))
    model = gc.nn.Sequential(gc.nn.Linear(64, hidden, seed=0), gc.nn.ReLU(), gc.nn.Linear(hidden, 10, seed=1))
    return gc.compile([image], model(image).named("scores"), backend="llvm", name="digits")


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for hidden in (32, 128):
            made = perceptron(hidden).export(folder / "digits", formats=["o"])
            print(f"digits 64-{hidden}-10: {made.code_bytes:,} bytes of code, {made.data_bytes:,} of data")
            run(folder, "digits", DIGITS)
        made = a4().export(folder / "a4", formats=["o"])
        print(f"A4's gradient: {made.code_bytes:,} bytes of code, {made.data_bytes:,} of data")
        run(folder, "a4", A4)
        for is_step in (False, True):
            function = of_rows(is_step)
            made = function.export(folder / "any", formats=["o"], dynamic=["N"])
            what = "its training step" if is_step else "digits 64-32-10"
            print(f"{what} for any number of rows: {made.code_bytes:,} bytes of code, {made.data_bytes:,} of data")
            for rows in (1, 64, 1000):
                function.export(folder / "fixed", formats=["o"], sizes={"N": rows})
                run(folder, "any.o fixed", ROWS_OF, f"-DROWS={rows}", calls=max(CALLS // rows, 1))
    return 0


def run(folder: Path, names: str, source: str, *more: str, calls: int = CALLS) -> None:
    (folder / "main.c").write_text(source)
    options = ["-O3", "-march=native", "-std=gnu11", f"-DROUNDS={ROUNDS}", f"-DCALLS={calls}", *more]
    command = ["gcc", *options, f"-I{folder}", "main.c", *f"{names}.o".split(), "-lm", "-o", "main"]
    subprocess.run(command, cwd=folder, check=True)
    subprocess.run(["./main"], cwd=folder, check=True)


if __name__ == "__main__":
    sys.exit(main())

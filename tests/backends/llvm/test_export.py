"""Programs in C, C++ and Rust link an exported function and get the bits that Python gets."""

from __future__ import annotations

import subprocess

import numpy as np
import pytest

from tests.backends.llvm.export_support import MAIN, compiled, output_of, perceptron
from tests.conftest import requires_tool

FUNCTIONS = {
    f"digits_{name}"
    for name in "run workspace_bytes describe strerror selftest selftest_bytes version abi_version".split()
}

RUST = """
use std::ffi::c_void;
use std::io::{Read, Write};

#[repr(C)]
struct Inputs { x: *const f32 }
#[repr(C)]
struct Outputs { y: *mut f32 }
#[derive(Clone)]
#[repr(C, align(64))]
struct Line([u8; 64]);

extern "C" {
    fn digits_workspace_bytes() -> i64;
    fn digits_run(
        inputs: *const Inputs, params: *const c_void, outputs: *const Outputs, workspace: *mut c_void, bytes: usize,
    ) -> i32;
}

fn main() {
    let mut given = Vec::new();
    std::io::stdin().read_to_end(&mut given).unwrap();
    let x: Vec<f32> = given.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    let mut y = vec![0f32; 50];
    let bytes = unsafe { digits_workspace_bytes() } as usize;
    let mut workspace = vec![Line([0; 64]); (bytes + 63) / 64];
    let (inputs, outputs) = (Inputs { x: x.as_ptr() }, Outputs { y: y.as_mut_ptr() });
    let status =
        unsafe { digits_run(&inputs, std::ptr::null(), &outputs, workspace.as_mut_ptr().cast(), bytes) };
    assert_eq!(status, 0);
    for value in y {
        std::io::stdout().write_all(&value.to_le_bytes()).unwrap();
    }
}
"""

THREADS = """
#include "digits.h"
#include <pthread.h>
#include <stdio.h>
#include <string.h>
enum { THREADS = 8, CALLS = 300, X = DIGITS_INPUT_x_SIZE, Y = DIGITS_OUTPUT_y_SIZE };
static float x[THREADS][X], y[THREADS][Y];
static unsigned char memory[THREADS][(DIGITS_WORKSPACE_BYTES + 127) / 64 * 64];
static int bad[THREADS];

static void *work(void *argument) {
    int me = *(int *)argument, i;
    unsigned char *workspace = memory[me] + (64 - (uintptr_t)memory[me] % 64) % 64;
    float again[Y];
    digits_inputs inputs;
    digits_outputs outputs;
    inputs.x = x[me];
    outputs.y = y[me];
    bad[me] = digits_run(&inputs, NULL, &outputs, workspace, DIGITS_WORKSPACE_BYTES) != 0;
    outputs.y = again;
    for (i = 0; i < CALLS; i++) {
        memset(again, 0, sizeof again);
        bad[me] |= digits_run(&inputs, NULL, &outputs, workspace, DIGITS_WORKSPACE_BYTES) != 0;
        bad[me] |= memcmp(again, y[me], sizeof again) != 0;
    }
    return NULL;
}

int main(void) {
    pthread_t threads[THREADS];
    int numbers[THREADS], i, all = 0;
    if (fread(x, sizeof x[0], THREADS, stdin) != THREADS) return 2;
    for (i = 0; i < THREADS; i++) {
        numbers[i] = i;
        if (pthread_create(&threads[i], NULL, work, &numbers[i])) return 3;
    }
    for (i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        all |= bad[i];
    }
    fwrite(y, sizeof y[0], THREADS, stdout);
    return all;
}
"""


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """The function, the folder of its files, an x and the bytes of its y."""
    folder = tmp_path_factory.mktemp("digits")
    predict = perceptron()
    predict.export(folder / "digits")
    x = np.random.default_rng(0).normal(size=(5, 64)).astype("float32")
    return predict, folder, x, predict(x).tobytes()


@pytest.mark.parametrize("standard", ["-std=c99", "-std=c11"])
def test_c_gets_the_same_bits(digits, standard):
    _, folder, x, y = digits
    program = compiled(folder, MAIN, standard, "-D_POSIX_C_SOURCE=200809L", "-DSTATUSES")
    assert output_of([program], x.tobytes()) == y


@pytest.mark.parametrize("standard", ["-std=c++11", "-std=c++17"])
def test_cpp_gets_the_same_bits_from_the_static_library(digits, standard):
    _, folder, x, y = digits
    program = compiled(
        folder, MAIN, standard, "-DSTATUSES", compiler="g++", file="main.cpp", objects=["-L.", "-l:digits.a"]
    )
    assert output_of([program], x.tobytes()) == y


def test_rust_gets_the_same_bits(digits):
    _, folder, x, y = digits
    rustc = requires_tool("rustc")
    (folder / "main.rs").write_text(RUST)
    flags = ["--edition", "2021", "-D", "warnings", "-C", "link-arg=digits.o", "-o", "in_rust"]
    subprocess.run([rustc, *flags, "main.rs"], cwd=folder, check=True)
    assert output_of([folder / "in_rust"], x.tobytes()) == y


def test_sanitizers_find_nothing(digits):
    _, folder, x, y = digits
    flags = ["-std=c99", "-D_POSIX_C_SOURCE=200809L", "-DHEAP", "-DSTATUSES", "-fsanitize=address,undefined"]
    program = compiled(folder, MAIN, *flags, "-fno-sanitize-recover=all")
    assert output_of([program], x.tobytes()) == y


def test_eight_threads_at_once(digits):
    predict, folder, _, _ = digits
    program = compiled(folder, THREADS, "-std=c99", "-pthread", file="threads.c")
    x = np.random.default_rng(1).normal(size=(8, 5, 64)).astype("float32")
    assert output_of([program], x.tobytes()) == b"".join(predict(one).tobytes() for one in x)


def test_valgrind_finds_no_error_and_no_allocation(tmp_path):
    valgrind = requires_tool("valgrind")
    predict = perceptron(cpu="x86-64-v3")  # valgrind knows no AVX-512
    predict.export(tmp_path / "digits", formats=["a"])
    x = np.random.default_rng(2).normal(size=(5, 64)).astype("float32")
    for flags, allocations in ((["-DHEAP"], "3 allocs, 3 frees"), ([], "0 allocs, 0 frees")):
        program = compiled(tmp_path, MAIN, "-std=c99", "-D_POSIX_C_SOURCE=200809L", "-DSTATUSES", *flags)
        done = subprocess.run([valgrind, "--error-exitcode=9", program], input=x.tobytes(), capture_output=True)
        said = done.stderr.decode()
        assert done.returncode == 0 and "ERROR SUMMARY: 0 errors" in said and allocations in said, said
        assert done.stdout == predict(x).tobytes()


def test_object_needs_nothing_and_holds_no_writable_data(digits):
    _, folder, _, _ = digits
    nm = requires_tool("nm")
    listed = subprocess.run([nm, "digits.o"], cwd=folder, capture_output=True, text=True, check=True).stdout
    kinds = {line.split()[-2] for line in listed.splitlines()}
    assert kinds <= set("Ttr"), listed  # code, and constants that only the object sees
    visible = {line.split()[-1] for line in listed.splitlines() if line.split()[-2] == "T"}
    assert visible == FUNCTIONS


def test_two_functions_link_into_one_program(tmp_path):
    for name, batch in (("digits", 5), ("others", 2)):
        perceptron(batch=batch).export(tmp_path / name, formats=["a"])
    source = """
    #include "digits.h"
    #include "others.h"
    int main(void) { return digits_workspace_bytes() == others_workspace_bytes() && OTHERS_OK != DIGITS_OK; }
    """
    output_of([compiled(tmp_path, source, "-std=c99", objects=["digits.a", "others.a"])])


def test_one_image_takes_less_than_25_kilobytes_of_code(tmp_path):
    for cpu in ("x86-64", "x86-64-v3", "x86-64-v4"):
        written = perceptron(batch=1, hidden=128).export(tmp_path / "digits", target=cpu, formats=["o"])
        assert 1000 < written.code_bytes < 25_000, cpu

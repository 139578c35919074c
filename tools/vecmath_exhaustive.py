"""Sweep float32 vector functions over all 2^32 inputs, or 2^32 random pairs, and print the largest error in ulp.

    python tools/vecmath_exhaustive.py exp pow [--every 16] [--cpu x86-64-v3] [--jobs 1]

The reference is the C library's double function, called by a small C program (`vecmath_reference.c`) that the machine's
C compiler makes at run time: some 20 ns an input.  `--every k` takes every k-th block of 4096 inputs only: a sample can
miss the worst case.  Every thread runs at idle priority where the system has that.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import graphc as gc
from graphc_llvm import jit
from graphc_llvm.bodies import emit_map_body
from graphc_llvm.emit import I64, PTR, Builder, Module, Type, Value
from graphc_llvm.target import host_target
from graphc_llvm.vecmath import BINARY, FUNCTIONS

BLOCK = 1 << 12
PARTS = 64  # of a sweep, for the threads
LANES = {"f32": 16, "f64": 8}
# What the functions are swept as: some are compositions, taken from the graph that a user's call builds.
COMPOSED = ("gelu", "gelu_slope")
# gelu has one bound down to here and another in the tail below.
GELU_TAIL = -1.0


@dataclass(frozen=True)
class Sweep:
    """The largest error, the arguments where it is, and the number of inputs."""

    error: float
    where: tuple[float, ...]
    count: int


class _Worst(ctypes.Structure):
    _fields_ = (("error", ctypes.c_double), ("x", ctypes.c_float), ("y", ctypes.c_float), ("count", ctypes.c_int64))


@cache
def emitter(name: str, dtype: str) -> Callable[..., Value]:
    """The emitter of a function of the table, or of the body of a composition."""
    if name not in COMPOSED:
        return FUNCTIONS[name]
    x = gc.input("x", (16,), dtype=dtype)
    y = gc.gelu(x) if name == "gelu" else gc.grad(gc.sum(gc.gelu(x)), x)
    body = gc.compile([x], [y], backend="numpy").program.kernels[0].stages[0].node.body

    def emit(b: Builder, value: Value) -> Value:
        return emit_map_body(b, body, value.type.lanes, {0: value})

    return emit


def module_text(name: str, kind: str, cpu: str, lanes: int) -> str:
    """`void apply(out, x, y, n)`: the function over n elements, n a multiple of the lanes."""
    module = Module(host_target(cpu))
    b = module.function("apply", [("out", PTR), ("x", PTR), ("y", PTR), ("n", I64)])
    out, *inputs, n = b.params
    emit = emitter(name, "float32" if kind == "f32" else "float64")
    with b.loop(0, n, lanes) as loop:
        values = [b.load(b.gep(p, loop.index, kind), Type(kind, lanes)) for p in inputs[: 1 + (name in BINARY)]]
        b.store(emit(b, *values), b.gep(out, loop.index, kind))
    b.ret()
    return module.text()


@cache
def compiled(name: str, kind: str, cpu: str) -> tuple[int, jit.Library]:
    """The address of `apply`, and the library that holds it."""
    library = jit.load(jit.compile_object(module_text(name, kind, cpu, LANES[kind]), host_target(cpu)))
    return library.address("apply"), library


@cache
def reference() -> ctypes.CDLL:
    """The C program, compiled; SystemExit with advice where there is no compiler."""
    names = (os.environ.get("CC", ""), "cc", "gcc", "clang")
    compiler = next((found for name in names if name and (found := shutil.which(name))), None)
    if compiler is None:
        raise SystemExit(
            "make accuracy needs a C compiler for its reference: install gcc or clang "
            "(Debian and Ubuntu: the package gcc), or name one in CC. Nothing else of graphc needs it."
        )
    source = Path(__file__).with_name("vecmath_reference.c")
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "reference.so"
        options = ["-O3", "-std=c11", "-shared", "-fPIC"]
        subprocess.run([compiler, *options, str(source), "-o", str(made), "-lm"], check=True)
        library = ctypes.CDLL(str(made))
    pointer, number, real = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
    library.sweep_unary.argtypes = [pointer, ctypes.c_int, number, number, number, real, real, pointer]
    library.sweep_binary.argtypes = [pointer, ctypes.c_int, number, number, pointer]
    return library


def idle() -> None:
    """Take only what time no one else wants."""
    if hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def sweep(
    name: str, every: int = 1, cpu: str = "native", jobs: int = 1,
    low: float = float("-inf"), high: float = float("inf"),
) -> Sweep:
    """The function's largest error over every `every`-th block of 4096 inputs, or of as many pairs.

    A unary function counts where low <= x <= high; NaN is an input too where high is infinite.
    """
    library, (address, _held) = reference(), compiled(name, "f32", cpu)
    index = library.reference_index(name.encode())
    blocks = (1 << 32) // BLOCK // every // PARTS

    def part(number: int) -> _Worst:
        worst = _Worst()
        if name in BINARY:
            library.sweep_binary(address, index, number * blocks, blocks, ctypes.byref(worst))
        else:
            start = number * blocks * every * BLOCK
            library.sweep_unary(address, index, start, blocks, every, low, high, ctypes.byref(worst))
        return worst

    with ThreadPoolExecutor(jobs, initializer=idle) as pool:
        results = list(pool.map(part, range(PARTS)))
    largest = max(results, key=lambda worst: worst.error)
    where = (largest.x, largest.y) if name in BINARY else (largest.x,)
    return Sweep(largest.error, where, sum(worst.count for worst in results))


def cores() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def hexadecimal(values: Iterable[float]) -> str:
    """Arguments as exact text."""
    return ", ".join(float(value).hex() for value in values)


def main() -> None:
    """Read the command line and print one line per function."""
    parser = argparse.ArgumentParser(description="largest float32 error in ulp over all inputs")
    parser.add_argument("names", nargs="*", help="functions; all by default")
    parser.add_argument("--every", type=int, default=1, help="take only every k-th block of 4096 inputs")
    parser.add_argument("--cpu", default="native", help="native, x86-64, x86-64-v3 or x86-64-v4")
    parser.add_argument("--jobs", type=int, default=cores(), help="threads")
    parser.add_argument("--low", type=float, default=float("-inf"), help="least input of unary functions")
    parser.add_argument("--high", type=float, default=float("inf"), help="largest input of unary functions")
    options = parser.parse_args()
    for name in options.names or [*sorted(FUNCTIONS), "gelu"]:
        found = sweep(name, options.every, options.cpu, options.jobs, options.low, options.high)
        print(f"{name}: {found.error:.3f} ulp at {hexadecimal(found.where)} over {found.count} inputs", flush=True)


if __name__ == "__main__":
    main()

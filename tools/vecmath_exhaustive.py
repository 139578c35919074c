"""Sweep one float32 vector function over all 2^32 inputs and print its largest error in ulp.

    PYTHONPATH=backends python tools/vecmath_exhaustive.py exp [--every 16] [--cpu x86-64-v3]

The reference is NumPy's or SciPy's float64 function.  `--every k` takes every k-th block of 4096 inputs only: a
sample can miss the worst case.  Binary functions are not swept.
"""

from __future__ import annotations

import argparse
import ctypes
from collections.abc import Callable

import numpy as np
from scipy import special

from graphc_llvm import jit
from graphc_llvm.emit import F32, I64, PTR, Module
from graphc_llvm.target import host_target
from graphc_llvm.vecmath import BINARY, FUNCTIONS

CHUNK = 1 << 20
BLOCK = 1 << 12
LANES = 16
REFERENCES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "exp": np.exp, "expm1": np.expm1, "log": np.log, "log1p": np.log1p, "sin": np.sin, "cos": np.cos, "tan": np.tan,
    "tanh": np.tanh, "sqrt": np.sqrt, "rsqrt": lambda x: 1 / np.sqrt(x), "erf": special.erf, "sigmoid": special.expit,
    "softplus": lambda x: np.logaddexp(0.0, x),
}


def compiled(name: str, cpu: str) -> tuple[Callable[..., None], jit.Library]:
    """`apply(out, x, n)` for float32 arrays of n elements, n a multiple of LANES, and the library that holds it."""
    target = host_target(cpu)
    module = Module(target)
    b = module.function("apply", [("out", PTR), ("x", PTR), ("n", I64)])
    out, x, n = b.params
    with b.loop(0, n, LANES) as loop:
        value = b.load(b.gep(x, loop.index, "f32"), F32.with_lanes(LANES))
        b.store(FUNCTIONS[name](b, value), b.gep(out, loop.index, "f32"))
    b.ret()
    library = jit.load(jit.compile_object(module.text(), target))
    signature = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
    return signature(library.address("apply")), library


def chunk_errors(got: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Errors in ulp of the float64 reference rounded to float32; infinity where NaN or infinity disagree."""
    with np.errstate(all="ignore"):
        rounded = exact.astype(np.float32)
        spacing = np.spacing(np.minimum(np.abs(rounded), np.finfo(np.float32).max)).astype(np.float64)
        errors = np.abs(got.astype(np.float64) - exact) / spacing
    agree = (got == rounded) & ~np.isfinite(rounded) | np.isnan(got) & np.isnan(rounded)
    wrong_zero = (got == 0) & (rounded == 0) & (np.signbit(got) != np.signbit(rounded))
    errors = np.where(agree, 0.0, np.where(np.isnan(errors), np.inf, errors))
    return np.where(wrong_zero, np.inf, errors)


def sweep(name: str, every: int, cpu: str) -> tuple[float, float, int]:
    """(largest error, the input where it is, number of inputs)."""
    function, _library = compiled(name, cpu)
    out = np.empty(CHUNK, np.float32)
    worst, where, count = 0.0, 0.0, 0
    offsets = np.arange(CHUNK)
    offsets = offsets // BLOCK * (BLOCK * every) + offsets % BLOCK
    for start in range(0, 1 << 32, CHUNK * every):
        x = (offsets + start).astype(np.uint32).view(np.float32)
        function(out.ctypes.data, x.ctypes.data, CHUNK)
        with np.errstate(all="ignore"):
            errors = chunk_errors(out, REFERENCES[name](x.astype(np.float64)))
        at = int(np.argmax(errors))
        if errors[at] > worst:
            worst, where = float(errors[at]), float(x[at])
        count += CHUNK
    return worst, where, count


def main() -> None:
    """Read the command line and print one line per function."""
    parser = argparse.ArgumentParser(description="largest float32 error in ulp over all inputs")
    parser.add_argument("names", nargs="*", help="functions; all unary ones by default")
    parser.add_argument("--every", type=int, default=1, help="take only every k-th block of 4096 inputs")
    parser.add_argument("--cpu", default="native", help="native, x86-64, x86-64-v3 or x86-64-v4")
    options = parser.parse_args()
    for name in options.names or sorted(set(FUNCTIONS) - BINARY):
        worst, where, count = sweep(name, options.every, options.cpu)
        print(f"{name}: {worst:.3f} ulp at {where!r} ({float(where).hex()}) over {count} inputs", flush=True)


if __name__ == "__main__":
    main()

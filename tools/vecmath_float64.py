"""Compare float64 vector functions with mpmath on stratified points, and print the largest error in ulp.

    python tools/vecmath_float64.py exp pow [--points 1000000] [--jobs 2]

Half of the points are random significands over all exponents and both signs, half lie where the function has its shape.
Infinities, NaN and the signs of zeros are the business of tests/backends/llvm/test_vecmath.py.
"""

from __future__ import annotations

import argparse
import ctypes
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

import mpmath
import numpy as np
from vecmath_exhaustive import COMPOSED, FUNCTIONS, Sweep, compiled, cores, hexadecimal, idle

POINTS = 1_000_000
CHUNK = 1 << 13
BITS = 140  # of the reference: 53, and room for what cancels in it
SEED = 2024
Array = np.ndarray
# Beyond these a function is 0, 1, -1, infinite or its argument, to float64: mpmath need not compute with huge numbers.
FLAT = {"exp": 800, "expm1": 800, "tanh": 60, "sigmoid": 800, "softplus": 800, "erf": 30, "ndtr": 60, "gelu": 60}
# Where half of the points are, uniformly; and functions of positive numbers take the exponential of such a point.
SHAPE = {
    "exp": 750.0, "expm1": 711.0, "sigmoid": 750.0, "softplus": 750.0, "sin": 1e5, "cos": 1e5, "tan": 1e5, "ndtr": 39.0,
    "gelu": 39.0, "log": 8.0, "rsqrt": 8.0, "sqrt": 8.0,
}
POSITIVE = ("log", "sqrt", "rsqrt")


def _normal(x: mpmath.mpf) -> mpmath.mpf:
    return mpmath.erfc(-x / mpmath.sqrt(2)) / 2


EXACT: dict[str, Callable[..., mpmath.mpf]] = {
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "softplus": lambda x: mpmath.log1p(mpmath.exp(x)) if x < 0 else x + mpmath.log1p(mpmath.exp(-x)),
    "rsqrt": lambda x: 1 / mpmath.sqrt(x), "pow": mpmath.power, "ndtr": _normal, "gelu": lambda x: x * _normal(x),
}


def stratified(count: int, generator: np.random.Generator) -> Array:
    """Random significands over every exponent and both signs, denormals included; no infinity or NaN."""
    signs = generator.integers(0, 2, count, dtype=np.uint64) << np.uint64(63)
    exponents = generator.integers(0, 2047, count, dtype=np.uint64) << np.uint64(52)
    return (signs | exponents | generator.integers(0, 2**52, count, dtype=np.uint64)).view(np.float64)


def points(name: str, count: int) -> tuple[Array, ...]:
    """At least `count` arguments where the function is real: half, or a third of a power's, over all exponents."""
    generator = np.random.default_rng(SEED)
    wild = stratified(count // 2, generator)
    rest = count if name == "pow" else count - count // 2
    if name == "pow":
        base = np.exp(generator.uniform(-300, 300, rest))
        near = generator.random(rest) < 0.3
        base[near] = 1 + generator.normal(0, 1, near.sum()) * np.exp(generator.uniform(-30, -2, near.sum()))
        exponent = generator.uniform(-745, 710, rest) / np.where(base == 1, 1, np.log(np.abs(base)))
        whole = generator.random(rest) < 0.1
        base[whole] *= -1
        exponent[whole] = np.rint(exponent[whole])
        return np.concatenate([wild, base]), np.concatenate([stratified(count // 2, generator), exponent])
    if name == "atan2":
        x = stratified(rest, generator)
        with np.errstate(over="ignore"):
            y = np.clip(x * np.exp(generator.normal(0, 4, rest)), -1e308, 1e308)
        return np.concatenate([wild, y]), np.concatenate([stratified(count // 2, generator), x])
    span = SHAPE.get(name, 12.0)
    shaped = generator.uniform(-span, span, rest)
    shaped[: rest // 4] = generator.normal(0, 1, rest // 4)
    shaped = np.exp(shaped) if name in POSITIVE else shaped
    if name in POSITIVE:
        wild = np.abs(wild)
    x = np.concatenate([wild, shaped])
    return (np.where(x <= -1, -x, x) if name == "log1p" else x,)


def apply(name: str, *arguments: Array) -> Array:
    """The compiled function on arrays whose length is a multiple of the lanes."""
    address, _library = compiled(name, "f64", "native")
    function = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3, ctypes.c_int64)(address)
    out = np.empty_like(arguments[0])
    function(out.ctypes.data, arguments[0].ctypes.data, arguments[-1].ctypes.data, out.size)
    return out


def exact_value(name: str, *arguments: float) -> mpmath.mpf | None:
    """The function to some 140 bits; None where it is not real."""
    flat = FLAT.get(name)
    values = [mpmath.mpf(max(-flat, min(flat, a)) if flat else a) for a in arguments]
    if name in ("softplus", "gelu") and flat and arguments[0] > flat:
        return mpmath.mpf(arguments[0])
    if (name == "log1p" and arguments[0] <= -1) or (name == "pow" and arguments[0] < 0 and arguments[1] % 1):
        return None
    if name == "pow" and abs(arguments[1] * float(mpmath.log(abs(values[0])))) > 800:
        return None  # 0 or infinite, which the special values test
    return mpmath.re((EXACT.get(name) or getattr(mpmath, name))(*values))


def ulp_error(got: float, exact: mpmath.mpf) -> float:
    """|got - exact| in units in the last place of exact rounded to float64; infinite where only one overflows."""
    limit = mpmath.ldexp(1, 1024) - mpmath.ldexp(1, 970)
    if abs(exact) >= limit or np.isinf(got):
        return 0.0 if abs(exact) >= limit and np.isinf(got) else float("inf")
    if np.isnan(got):
        return float("inf")
    spacing = mpmath.ldexp(1, max(int(mpmath.mag(exact)) - 53, -1074) if exact else -1074)
    return float(abs(mpmath.mpf(got) - exact) / spacing)


def chunk_worst(name: str, got: Array, arguments: tuple[Array, ...]) -> tuple[float, tuple[float, ...], int]:
    """The largest error of a chunk, the arguments where it is, and how many values were compared."""
    worst, where, count = 0.0, (0.0,) * len(arguments), 0
    with mpmath.workprec(BITS):
        for value, *at in zip(got.tolist(), *(a.tolist() for a in arguments), strict=True):
            exact = exact_value(name, *at)  # mpmath itself takes more bits where the argument's reduction cancels
            if exact is None:
                continue
            error = ulp_error(value, exact)
            count += 1
            if error > worst:
                worst, where = error, tuple(at)
    return worst, where, count


def compare(name: str, count: int = POINTS, jobs: int = 1) -> Sweep:
    """The largest error of a float64 function over about `count` points."""
    arguments = points(name, count // CHUNK * CHUNK or CHUNK)
    got = apply(name, *arguments)
    parts = range(0, got.size, CHUNK)
    with ProcessPoolExecutor(jobs, initializer=idle) as pool:
        results = list(pool.map(
            chunk_worst, [name] * len(parts), [got[i:i + CHUNK] for i in parts],
            [tuple(a[i:i + CHUNK] for a in arguments) for i in parts],
        ))
    error, where, _ = max(results)
    return Sweep(error, where, sum(compared for _, _, compared in results))


def main() -> None:
    """Read the command line and print one line per function."""
    parser = argparse.ArgumentParser(description="largest float64 error in ulp over stratified points")
    parser.add_argument("names", nargs="*", help="functions; all by default")
    parser.add_argument("--points", type=int, default=POINTS, help="how many points")
    parser.add_argument("--jobs", type=int, default=cores(), help="processes")
    options = parser.parse_args()
    for name in options.names or [*sorted(FUNCTIONS), *COMPOSED[:1]]:
        found = compare(name, options.points, options.jobs)
        print(f"{name}: {found.error:.3f} ulp at {hexadecimal(found.where)} over {found.count} points", flush=True)


if __name__ == "__main__":
    main()

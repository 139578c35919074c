"""Accuracy, special values and determinism of the vector functions, each against a wider reference."""

from __future__ import annotations

import ctypes
import importlib.util
import math
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import mpmath
import numpy as np
import pytest
from scipy import special

from graphc_llvm import jit
from graphc_llvm.coefficients import POLYNOMIALS
from graphc_llvm.emit import I64, PTR, Module, Type
from graphc_llvm.target import Target, host_target, named_target
from graphc_llvm.vecmath import BINARY, FUNCTIONS
from graphc_llvm.vecmath_normal import gelu

EMITTERS = {**FUNCTIONS, "gelu": gelu}
NAMES = sorted(EMITTERS)
UNARY = sorted(set(EMITTERS) - BINARY)
DTYPES = {"f32": np.dtype(np.float32), "f64": np.dtype(np.float64)}
ULP_BOUND = {"f32": 1.5, "f64": 2.0}
BINARY_BOUND = 2.0
# float32 results of these below -1, down to the denormals.
TAIL = frozenset({"ndtr", "gelu"})
TAIL_BOUND, TAIL_START = 4.0, -1.0
LANES = (0, 4, 8, 16)
Array = np.ndarray


def module_text(name: str, kind: str, lanes: int, target: Target | None) -> str:
    """`void apply(out, x, y, n)`: the function over n elements, n a multiple of the lanes."""
    module = Module(target)
    b = module.function("apply", [("out", PTR), ("x", PTR), ("y", PTR), ("n", I64)])
    out, *inputs, n = b.params
    inputs = inputs if name in BINARY else inputs[:1]
    with b.loop(0, n, max(lanes, 1)) as loop:
        values = [b.load(b.gep(pointer, loop.index, kind), Type(kind, lanes)) for pointer in inputs]
        b.store(EMITTERS[name](b, *values), b.gep(out, loop.index, kind))
    b.ret()
    return module.text()


@cache
def compiled(name: str, kind: str, lanes: int, cpu: str = "native") -> tuple[Callable[..., None], jit.Library]:
    target = host_target(cpu)
    library = jit.load(jit.compile_object(module_text(name, kind, lanes, target), target), process_symbols=False)
    signature = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3, ctypes.c_int64)
    return signature(library.address("apply")), library


def apply(name: str, *arguments: Array, lanes: int = 16, cpu: str = "native") -> Array:
    kind = "f32" if arguments[0].dtype == np.float32 else "f64"
    size = arguments[0].size
    padded = [np.concatenate([a, np.ones(-size % 16, a.dtype)]) for a in arguments]
    out = np.empty_like(padded[0])
    function, _library = compiled(name, kind, lanes, cpu)
    function(out.ctypes.data, padded[0].ctypes.data, padded[-1].ctypes.data, out.size)
    return out[:size]


def stratified(kind: str, count: int, seed: int) -> Array:
    """Random significands over every exponent and both signs, zeros and denormals included."""
    generator = np.random.default_rng(seed)
    exponents, mantissa, unsigned = (256, 23, np.uint32) if kind == "f32" else (2048, 52, np.uint64)
    each = max(1, count // (2 * exponents))
    patterns = np.arange(2 * exponents, dtype=np.uint64).repeat(each) << np.uint64(mantissa)
    patterns |= generator.integers(0, 2**mantissa, patterns.size, dtype=np.uint64)
    return patterns.astype(unsigned).view(DTYPES[kind])


def interesting(name: str, kind: str, count: int, seed: int) -> Array:
    """Half over all exponents, half uniform where the function has its shape."""
    generator = np.random.default_rng(seed + 1)
    wide = kind == "f64"
    spans = {"exp": (110, 750), "expm1": (90, 711), "ndtr": (15, 39), "gelu": (15, 39)}
    span = spans.get(name, (12, 12))[wide]
    dense = generator.uniform(-span, span, count // 2).astype(DTYPES[kind])
    near_one = (1 + generator.normal(0, 0.05, count // 8)).astype(DTYPES[kind])
    return np.concatenate([stratified(kind, count // 2, seed), dense, near_one])


def special_values(kind: str) -> Array:
    limits = np.finfo(DTYPES[kind])
    tiny = [0.0, limits.smallest_subnormal, limits.tiny, 1e-30]
    positive = [*tiny, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 1e8, limits.max, np.inf]
    return np.array([*positive, *(-v for v in positive), np.nan], DTYPES[kind])


@np.errstate(all="ignore")
def wide_reference(name: str, *arguments: Array) -> Array:
    """The function in float64."""
    x = arguments[0].astype(np.float64)
    if name in BINARY:
        y = arguments[1].astype(np.float64)
        return np.power(x, y) if name == "pow" else np.arctan2(x, y)
    table: dict[str, Callable[[Array], Array]] = {
        "sigmoid": special.expit, "softplus": lambda x: np.logaddexp(0.0, x), "erf": special.erf,
        "rsqrt": lambda x: 1 / np.sqrt(x), "ndtr": special.ndtr,
        "gelu": lambda x: np.where(np.isneginf(x), -0.0, x * special.ndtr(x)),
    }
    return table.get(name, getattr(np, name, None))(x)


def exact_reference(name: str, *arguments: float) -> mpmath.mpf:
    """The function to 60 digits, for finite results."""
    table = {
        "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)), "softplus": lambda x: mpmath.log1p(mpmath.exp(x)),
        "rsqrt": lambda x: 1 / mpmath.sqrt(x), "pow": mpmath.power,
        "ndtr": lambda x: mpmath.erfc(-x / mpmath.sqrt(2)) / 2, "gelu": lambda x: x * exact_reference("ndtr", x),
    }
    function = table.get(name) or getattr(mpmath, name)
    return function(*(mpmath.mpf(a) for a in arguments))


def ulp_errors(got: Array, reference: Array) -> Array:
    """|got - reference| in units in the last place of the reference, rounded to got's type; 0 where both overflow.

    `reference` is wider than got.  A finite reference that rounds to infinity asks for infinity.
    """
    limits = np.finfo(got.dtype)
    with np.errstate(all="ignore"):
        rounded = reference.astype(got.dtype)
        spacing = np.spacing(np.minimum(np.abs(rounded), limits.max)).astype(np.float64)
        error = np.abs(got.astype(np.float64) - reference) / spacing
    agree = (got == rounded) & ~np.isfinite(rounded) | np.isnan(got) & np.isnan(rounded)
    return np.where(agree, 0.0, np.where(np.isnan(error), np.inf, error))


def bounds(name: str, x: Array) -> Array:
    """The largest error that each point may have."""
    kind = "f32" if x.dtype == np.float32 else "f64"
    whole = np.full(x.shape, BINARY_BOUND if name in BINARY else ULP_BOUND[kind])
    return np.where(x < TAIL_START, TAIL_BOUND, whole) if name in TAIL and kind == "f32" else whole


def assert_close(name: str, errors: Array, arguments: tuple[Array, ...], got: Array) -> None:
    allowed = bounds(name, arguments[0])
    worst = int(np.argmax(errors / allowed))
    at = ", ".join(a[worst].item().hex() for a in arguments)
    assert errors[worst] <= allowed[worst], f"{name}({at}) = {got[worst]}: {errors[worst]:.2f} ulp"


def pairs(kind: str, count: int, seed: int) -> tuple[Array, Array]:
    """Arguments of a binary function: over all exponents, and where a power neither over- nor underflows."""
    generator = np.random.default_rng(seed)
    wild = stratified(kind, count // 2, seed)
    size = count - wild.size
    base = np.exp(generator.uniform(-5, 5, size)) * np.where(generator.random(size) < 0.1, -1, 1)
    exponent = generator.uniform(-15, 15, size) * (1 if kind == "f32" else 8)
    exponent = np.where(generator.random(size) < 0.2, np.rint(exponent), exponent)
    base[: size // 8] = 1 + generator.normal(0, 1e-3, size // 8)
    exponent[: size // 8] *= 1000
    dtype = DTYPES[kind]
    return np.concatenate([wild, base.astype(dtype)]), np.concatenate([
        generator.permutation(wild), exponent.astype(dtype),
    ])


@pytest.mark.parametrize("name", UNARY)
def test_float32_within_its_bound(name: str) -> None:
    x = interesting(name, "f32", 1 << 18, seed=1)
    got = apply(name, x)
    assert_close(name, ulp_errors(got, wide_reference(name, x)), (x,), got)


@pytest.mark.parametrize("name", sorted(BINARY))
def test_float32_binary_within_its_bound(name: str) -> None:
    x, y = pairs("f32", 1 << 18, seed=2)
    got = apply(name, x, y)
    assert_close(name, ulp_errors(got, wide_reference(name, x, y)), (x, y), got)


def float64_errors(name: str, got: Array, *arguments: Array) -> Array:
    """Errors in ulp against mpmath, where float64 itself is finite; 0 elsewhere (special values have their test)."""
    errors = np.zeros(got.size)
    rounded = wide_reference(name, *arguments)
    with mpmath.workprec(220):
        for i in np.flatnonzero(np.isfinite(rounded) & (rounded != 0)):
            values = [float(a[i]) for a in arguments]
            if name == "erf" and abs(values[0]) > 6.5:
                exact = mpmath.mpf(1 if values[0] > 0 else -1)
            elif name in ("tanh", "sigmoid", "softplus", "ndtr", "gelu") and abs(values[0]) > 800:
                continue
            elif name in ("sin", "cos", "tan"):
                with mpmath.workprec(1400):
                    exact = exact_reference(name, *values)
            else:
                with mpmath.workprec(220 if abs(values[0]) > 1e-30 else 2400):
                    exact = exact_reference(name, *values)
            errors[i] = float(abs(mpmath.mpf(float(got[i])) - mpmath.re(exact)) / np.spacing(abs(rounded[i])))
    return errors


@pytest.mark.parametrize("name", UNARY)
def test_float64_within_two_ulp(name: str) -> None:
    x = interesting(name, "f64", 1 << 12, seed=3)
    got = apply(name, x)
    assert_close(name, float64_errors(name, got, x), (x,), got)


@pytest.mark.parametrize("name", sorted(BINARY))
def test_float64_binary_within_two_ulp(name: str) -> None:
    x, y = pairs("f64", 3 << 11, seed=4)
    got = apply(name, x, y)
    assert_close(name, float64_errors(name, got, x, y), (x, y), got)


@pytest.mark.parametrize("kind", ["f32", "f64"])
@pytest.mark.parametrize("name", NAMES)
def test_special_values_as_in_numpy(name: str, kind: str) -> None:
    values = special_values(kind)
    arguments = [values]
    if name in BINARY:
        grid = np.meshgrid(values, values)
        arguments = [np.ascontiguousarray(part.ravel()) for part in grid]
    got = apply(name, *arguments)
    reference = wide_reference(name, *arguments)
    with np.errstate(all="ignore"):
        wanted = reference.astype(DTYPES[kind])
    zero = wanted == 0
    if name == "gelu":  # half the smallest denormal is a tie
        zero &= np.abs(arguments[0]) != np.finfo(DTYPES[kind]).smallest_subnormal
    exact = ~np.isfinite(wanted) | zero
    np.testing.assert_array_equal(np.isnan(got), np.isnan(wanted))
    np.testing.assert_array_equal(got[exact], wanted[exact])
    np.testing.assert_array_equal(np.signbit(got[zero]), np.signbit(wanted[zero]))


@pytest.mark.parametrize("kind", ["f32", "f64"])
@pytest.mark.parametrize("name", NAMES)
def test_every_lane_count_agrees_bit_for_bit(name: str, kind: str) -> None:
    arguments: tuple[Array, ...] = pairs(kind, 1 << 12, seed=5)
    arguments = arguments if name in BINARY else arguments[:1]
    results = [apply(name, *arguments, lanes=lanes) for lanes in LANES]
    unsigned = np.uint32 if kind == "f32" else np.uint64
    for lanes, result in zip(LANES[1:], results[1:], strict=True):
        same = (result.view(unsigned) == results[0].view(unsigned)) | np.isnan(result) & np.isnan(results[0])
        assert same.all(), f"{lanes} lanes differ from scalar code at {[a[~same][0] for a in arguments]}"


@pytest.mark.parametrize("name", NAMES)
def test_text_is_deterministic(name: str) -> None:
    target = host_target()
    assert module_text(name, "f64", 8, target) == module_text(name, "f64", 8, target)


@pytest.mark.parametrize("cpu", ["x86-64", "x86-64-v3", "x86-64-v4", "neon"])
@pytest.mark.parametrize("name", NAMES)
def test_no_undefined_symbol_on_any_target(name: str, cpu: str) -> None:
    target = named_target(cpu)
    for kind in ("f32", "f64"):
        code = jit.compile_object(module_text(name, kind, target.lanes(kind), target), target)
        assert jit.object_symbols(code) == (["apply"], [])


@pytest.mark.parametrize("name", NAMES)
def test_without_fma_within_the_same_bound(name: str) -> None:
    arguments: tuple[Array, ...] = pairs("f32", 1 << 15, seed=6)
    arguments = arguments if name in BINARY else (interesting(name, "f32", 1 << 15, seed=6),)
    got = apply(name, *arguments, lanes=4, cpu="x86-64")
    assert_close(name, ulp_errors(got, wide_reference(name, *arguments)), arguments, got)


FIT_SCRIPT = Path(__file__).parents[3] / "tools" / "fit_polynomials.py"


FITTED = ("exp_f32", "expm1_f32", "sin_f32", "cos_f32", "tanh_f32", "cos_f32_wide", "softplus_f32", "ndtr_f32")


@pytest.mark.parametrize("name", FITTED)
def test_coefficients_are_those_of_the_fit(name: str) -> None:
    specification = importlib.util.spec_from_file_location("fit_polynomials", FIT_SCRIPT)
    assert specification and specification.loader
    script = importlib.util.module_from_spec(specification)
    sys.modules["fit_polynomials"] = script  # dataclasses look their module up by name
    specification.loader.exec_module(script)
    coefficients, worst = script.fit(script.ROWS[name])
    assert tuple(coefficients) == POLYNOMIALS[name].coefficients
    assert math.log2(worst) == pytest.approx(POLYNOMIALS[name].log2_error, abs=0.01)


@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_angles_next_to_multiples_of_a_right_angle(name: str) -> None:
    multiples = np.concatenate([np.arange(1, 400), np.random.default_rng(8).integers(400, 2**45, 400)])
    nearest = multiples * (np.pi / 2)
    # the double nearest to a multiple of pi/2 (J.-M. Muller, Elementary Functions, table 11.1)
    worst = float(6381956970095103) * 2.0**797
    x = np.concatenate([nearest, np.nextafter(nearest, 0), [worst, -worst]])
    got = apply(name, x)
    assert_close(name, float64_errors(name, got, x), (x,), got)
    narrow = x[np.abs(x) < 1e38].astype(np.float32)
    got = apply(name, narrow)
    assert_close(name, ulp_errors(got, wide_reference(name, narrow)), (narrow,), got)


def test_sine_and_cosine_share_their_reduction() -> None:
    """Both of one argument cost one reduction and one pair of polynomials, although the first leaves its block."""
    for kind, lanes in (("f32", 16), ("f64", 8)):
        counts = {}
        for names in (("sin",), ("sin", "cos"), ("sin", "cos", "tan")):
            module = Module(named_target("x86-64-v4"))
            b = module.function("apply", [("x", PTR)])
            value = b.load(b.params[0], Type(kind, lanes))
            for name in names:
                b.store(FUNCTIONS[name](b, value), b.params[0])
            b.ret()
            counts[names] = b.text().count(f"@llvm.fma.v{lanes}{kind}(")
        assert counts["sin",] == counts["sin", "cos"] > 8, kind
        if kind == "f64":
            assert counts["sin", "cos", "tan"] - counts["sin",] == 3, "those of the quotient"


def test_values_of_another_block_are_made_again() -> None:
    """What was made inside a branch is not at hand after it."""
    module = Module(named_target("x86-64-v3"))
    b = module.function("apply", [("x", PTR), ("test", I64)])
    x = b.load(b.params[0], Type("f64", 4))
    with b.if_(b.icmp("ne", b.params[1], 0)):
        b.store(FUNCTIONS["cos"](b, x), b.params[0])
    b.store(FUNCTIONS["sin"](b, x), b.params[0])
    with b.loop(0, b.params[1]):
        b.store(FUNCTIONS["cos"](b, x), b.params[0])
    b.ret()
    assert jit.compile_object(module.text(), named_target("x86-64-v3"))  # LLVM verifies that definitions reach uses


PAGE = Path(__file__).parents[3] / "docs" / "accuracy.md"


def page_tables() -> dict[str, list[list[str]]]:
    """The tables of docs/accuracy.md by their headings, as rows of cells."""
    sections = PAGE.read_text(encoding="utf-8").split("\n## ")[1:]
    return {
        section.splitlines()[0]: [
            [cell.strip(" `") for cell in line.split("|")[1:-1]] for line in section.splitlines()[4:]
        ]
        for section in sections
    }


def test_the_page_holds_every_function_and_the_bounds_of_these_tests() -> None:
    tables = page_tables()
    assert [title.split(" ")[0] for title in tables] == ["float32"] * 3 + ["float64"]
    for heading, rows in tables.items():
        kind = "f32" if heading.startswith("float32") else "f64"
        assert {title.split(",")[0] for title, *_ in rows} - {"gelu'"} == set(EMITTERS), heading
        for title, _, bound, error, *_ in rows:
            name, somewhere = title.split(",")[0], -2.0 if "< -1" in title else 0.0
            assert float(error) <= float(bound), (heading, title)
            if name in EMITTERS:
                assert float(bound) == bounds(name, np.full(1, somewhere, DTYPES[kind]))[0], (heading, title)


@pytest.mark.parametrize("cpu, lanes", [("x86-64-v3", 8), ("x86-64", 4)])
def test_the_errors_of_the_page_are_real(cpu: str, lanes: int) -> None:
    target = host_target()
    if "x86_64" not in target.triple or (cpu != "x86-64" and not target.has_fma):
        pytest.skip(f"this processor cannot run code for {cpu}")  # an illegal instruction would end the whole run
    (rows,) = [rows for heading, rows in page_tables().items() if f"on {cpu}," in heading]
    for title, _, _, error, at, *_ in rows:
        name = title.split(",")[0]
        if name in EMITTERS:
            arguments = tuple(np.full(16, float.fromhex(word), np.float32) for word in at.split(", "))
            got = apply(name, *arguments, lanes=lanes, cpu=cpu)
            assert ulp_errors(got, wide_reference(name, *arguments))[0] == pytest.approx(float(error), abs=2e-3), title


@pytest.mark.skipif(not host_target().has_fma, reason="the page was measured with FMA")
def test_the_float64_errors_of_the_page_are_real() -> None:
    (rows,) = [rows for heading, rows in page_tables().items() if heading.startswith("float64")]
    for name, _, _, error, at, *_ in rows:
        if name == "rsqrt":  # another method without AVX-512
            continue
        arguments = tuple(np.full(16, float.fromhex(word)) for word in at.split(", "))
        got = apply(name, *arguments)
        errors = float64_errors(name, got[:1], *(a[:1] for a in arguments))
        assert errors[0] == pytest.approx(float(error), abs=2e-3), name


def test_the_float64_tangent_carries_what_sine_and_cosine_lost() -> None:
    x = np.random.default_rng(9).uniform(-100, 100, 1 << 12)
    assert float64_errors("tan", apply("tan", x), x).max() < 1

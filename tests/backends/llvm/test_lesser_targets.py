"""What is emitted for lesser processors, run on this one: float32 without float64, i64 without division."""

from __future__ import annotations

import ctypes
import dataclasses

import numpy as np
import pytest

from graphc_llvm import jit
from graphc_llvm.emit import F32, F64, I32, I64, PTR, Builder, Module, Type, Value
from graphc_llvm.nest import part_of
from graphc_llvm.target import host_target
from graphc_llvm.vecmath import BINARY, FUNCTIONS
from tests.backends.llvm.test_vecmath import interesting, special_values, ulp_errors, wide_reference

SINGLE = dataclasses.replace(host_target(), has_avx512=False, has_doubles=False)  # as a Cortex-M4, whose FMA it keeps
HALVES = dataclasses.replace(host_target(), has_avx512=False, division_bits=32)
BOUND = 2.0  # units in the last place
BOUNDS = {"tan": 2.5, "pow": 1.0, "ndtr": 4.0}  # ndtr: below -1, as everywhere
LANES = (0, 4)
Array = np.ndarray


def run(target, emit, result, *arrays, lanes=0):
    """What `emit(b, *values)` makes of each element; and the module's text."""
    module = Module(target)
    b = module.function("apply", [("out", PTR), *((f"x{i}", PTR) for i in range(len(arrays))), ("n", I64)])
    kinds = {"float32": "f32", "float64": "f64", "int32": "i32", "int64": "i64"}
    with b.loop(0, b.params[-1], max(lanes, 1)) as loop:
        values = [
            b.load(b.gep(pointer, loop.index, kinds[array.dtype.name]), Type(kinds[array.dtype.name], lanes))
            for pointer, array in zip(b.params[1:], arrays, strict=False)
        ]
        kind = kinds[np.dtype(result).name]
        b.store(emit(b, *values), b.gep(b.params[0], loop.index, kind))
    b.ret()
    size = arrays[0].size
    padded = [np.concatenate([array, np.ones(-size % 4, array.dtype)]) for array in arrays]
    out = np.empty(padded[0].size, result)
    library = jit.load(jit.compile_object(module.text(), target), process_symbols=False)
    signature = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * (len(arrays) + 1), ctypes.c_int64)
    signature(library.address("apply"))(out.ctypes.data, *(array.ctypes.data for array in padded), out.size)
    return out[:size], module.text()


# --- float32 without float64 ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_float32_without_float64(name, lanes):
    x = np.concatenate([special_values("f32"), interesting(name, "f32", 20000, 1)])
    arrays = [x]
    if name in BINARY:
        y = np.concatenate([special_values("f32")[::-1], interesting(name, "f32", 20000, 2)])
        rows = special_values("f32").size
        arrays = [np.concatenate([x, np.repeat(x[:rows], rows)]), np.concatenate([y, np.tile(y[:rows], rows)])]
    got, text = run(SINGLE, FUNCTIONS[name], "float32", *arrays, lanes=lanes)
    assert "double" not in text
    errors = ulp_errors(got, wide_reference(name, *arrays))
    worst = int(np.argmax(errors))
    assert errors[worst] <= BOUNDS.get(name, BOUND), (errors[worst], [a[worst] for a in arrays], got[worst])


@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_large_angles_without_float64(name):
    """float32 numbers near multiples of pi/2 and others, up to the largest."""
    generator = np.random.default_rng(0)
    x = (generator.integers(0x49800000, 0x7F800000, 40000, dtype=np.uint32)).view(np.float32)
    multiples = (np.rint(x[:20000].astype(np.float64) / (np.pi / 2)) * (np.pi / 2)).astype(np.float32)
    x = np.concatenate([x, -x, multiples, np.array([16367173 * 2.0**72], np.float32)])  # the last: Muller, chapter 11
    got, _ = run(SINGLE, FUNCTIONS[name], "float32", x)
    errors = ulp_errors(got, wide_reference(name, x))
    assert errors.max() <= BOUNDS.get(name, BOUND), (errors.max(), x[np.argmax(errors)])


# --- i64 without division ---------------------------------------------------------------------------------------------


def whole_numbers(count: int) -> Array:
    generator = np.random.default_rng(3)
    powers = [sign * (2**bit + low) for bit in range(62) for sign in (1, -1) for low in (-1, 0, 1)]
    ends = [2**63 - 1, -(2**63) + 1, -(2**63)]
    random = generator.integers(-(2**63), 2**63 - 1, count) >> generator.integers(0, 63, count)
    return np.concatenate([np.array([*powers, *ends], np.int64), random])


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("what", ["div", "rem"])
def test_division_of_i64(what, lanes):
    x = whole_numbers(4000)
    y = np.random.default_rng(4).permutation(x)
    y[y == 0] = 7
    y[(x == -(2**63)) & (y == -1)] = 3  # overflows; nobody asks for it (bodies.py)
    with np.errstate(all="ignore"):
        quotient = np.where((x < 0) == (y < 0), 1, -1) * (np.abs(x.astype(object)) // np.abs(y.astype(object)))
    wanted = quotient if what == "div" else x.astype(object) - quotient * y.astype(object)
    got, text = run(HALVES, lambda b, x, y: getattr(b, what)(x, y), "int64", x, y, lanes=lanes)
    np.testing.assert_array_equal(got, wanted.astype(np.int64))
    assert "sdiv" not in text and "srem" not in text


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("type_", [F32, F64], ids=["f32", "f64"])
def test_i64_to_float_rounds_once(type_, lanes):
    x = np.concatenate([whole_numbers(4000), 2**40 + np.arange(-70000, 70000, 1000), 2**53 + np.arange(8)])
    dtype = "float32" if type_ is F32 else "float64"
    got, text = run(HALVES, lambda b, x: b.sitofp(x, type_.with_lanes(lanes)), dtype, x, lanes=lanes)
    np.testing.assert_array_equal(got, x.astype(dtype))
    assert not [line for line in text.splitlines() if "itofp i64" in line or f"itofp <{lanes} x i64>" in line]


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_float_to_i64_saturates(dtype, lanes):
    limits = [0.5, -0.5, 2.0**62, -(2.0**63), 2.0**63, 1e30, -1e30, np.inf, -np.inf, np.nan, 0.0, -0.0, 1e-40]
    x = np.concatenate([np.array(limits), whole_numbers(2000) / 3.0, 2.0 ** np.arange(-5, 64)]).astype(dtype)
    got, text = run(HALVES, lambda b, x: b.fptosi(x, I64.with_lanes(lanes)), "int64", x, lanes=lanes)
    inside = np.abs(x) < 2.0**63
    wanted = np.where(x > 0, 2**63 - 1, -(2**63))
    wanted[inside] = x[inside].astype(np.int64)
    wanted[np.isnan(x)] = 0
    np.testing.assert_array_equal(got, wanted)
    assert "fptosi" not in text


def test_loops_count_in_the_width_of_pointers():
    narrow = dataclasses.replace(HALVES, pointer_bits=32)

    def total(b: Builder, x: Value) -> Value:
        with b.loop(0, b.sext(x, I64), 3, carried=[b.const(I64, 0)]) as loop:
            loop.yield_([b.add(loop.carried[0], loop.index)])
        return loop.results[0]

    x = np.array([0, 1, 3, 4, 100], np.int32)
    got, text = run(narrow, total, "int64", x)
    np.testing.assert_array_equal(got, [sum(range(0, n, 3)) for n in x])
    assert "phi i32" in text
    assert len([line for line in text.splitlines() if "phi i64" in line]) == 2  # the sum, in the loop and behind it


@pytest.mark.parametrize("pointer_bits", [32, 64])
def test_parts_of_much_work(pointer_bits):
    """Their bounds are right where units times tasks takes more than 32 bits."""
    units, tasks = 2**30 + 11, 7
    target = dataclasses.replace(HALVES if pointer_bits == 32 else host_target(), pointer_bits=pointer_bits)
    task = np.arange(tasks)
    for which in (0, 1):
        got, _ = run(target, lambda b, x, w=which: part_of(b, units, x, tasks)[w], "int64", task)
        np.testing.assert_array_equal(got, (task + which) * units // tasks)


def test_indices_are_divided_in_32_bits():
    def halves(b: Builder, x: Value) -> Value:
        quotient, rest = b.divide_index(b.sext(x, I64), 7)
        return b.trunc(b.add(b.mul(quotient, 1000), rest), I32)

    x = np.arange(0, 4000, 13, dtype=np.int32)
    got, text = run(HALVES, halves, "int32", x)
    np.testing.assert_array_equal(got, x // 7 * 1000 + x % 7)
    assert "div i64" not in text


# --- i32 without division ---------------------------------------------------------------------------------------------

NONE = dataclasses.replace(HALVES, has_division=False)  # as an Armv7-A without the extension


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("what", ["div", "rem"])
def test_division_of_i32(what, lanes):
    generator = np.random.default_rng(5)
    powers = [sign * (2**bit + low) for bit in range(31) for sign in (1, -1) for low in (-1, 0, 1)]
    ends = [2**31 - 1, -(2**31) + 1, -(2**31)]
    random = generator.integers(-(2**31), 2**31, 20000) >> generator.integers(0, 31, 20000)
    x = np.concatenate([np.array([*powers, *ends], np.int64), random])
    y = generator.permutation(x)
    y[y == 0] = 7
    quotients = generator.integers(1, 2**16, 4000)  # whole quotients, and one above and below
    divisors = generator.integers(1, 2**15, 4000) * generator.choice((-1, 1), 4000)
    x = np.concatenate([x, *(quotients * divisors + one for one in (-1, 0, 1))]).astype(np.int32)
    y = np.concatenate([y, divisors, divisors, divisors]).astype(np.int32)
    y[(x == -(2**31)) & (y == -1)] = 3  # overflows; nobody asks for it (bodies.py)
    wide, divisor = x.astype(np.int64), y.astype(np.int64)
    quotient = np.sign(wide) * np.sign(divisor) * (np.abs(wide) // np.abs(divisor))
    wanted = quotient if what == "div" else wide - quotient * divisor
    got, text = run(NONE, lambda b, x, y: getattr(b, what)(x, y), "int32", x, y, lanes=lanes)
    np.testing.assert_array_equal(got, wanted)
    assert "sdiv" not in text and "srem" not in text
    assert "sdiv" in run(HALVES, lambda b, x, y: b.div(x, y), "int32", x, y)[1]

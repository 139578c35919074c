"""Single numbers, where rare arguments are behind a branch, and sine and cosine of one angle."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

import graphc as gc
from graphc.ir import scalar as sc
from graphc_llvm import jit
from graphc_llvm.bodies import emit_bodies
from graphc_llvm.emit import F32, I64, PTR, Module, Type
from graphc_llvm.target import host_target, target_named
from graphc_llvm.vecmath import FUNCTIONS
from graphc_llvm.vecmath_exponential import EXP_RANGE
from graphc_llvm.vecmath_trigonometry import LARGE_ANGLE, sine_and_cosine
from tests.backends.llvm.test_vecmath import DTYPES, UNARY, apply, special_values, stratified

UNSIGNED = {"f32": np.uint32, "f64": np.uint64}


def edges(kind):
    """Special values, and what lies on both sides of where a function takes another way."""
    dtype = DTYPES[kind]
    limits = np.array([LARGE_ANGLE, *map(abs, EXP_RANGE[kind]), 104.0, 88.0, 87.3, 745.0, 708.4, 709.7], dtype)
    near = [limits, np.nextafter(limits, dtype.type(0)), np.nextafter(limits, dtype.type(np.inf))]
    both = np.concatenate([*near, np.linspace(85, 106, 512).astype(dtype)])
    return np.concatenate([special_values(kind), both, -both])


def same(got, wanted):
    kind = "f32" if got.dtype == np.float32 else "f64"
    return (got.view(UNSIGNED[kind]) == wanted.view(UNSIGNED[kind])) | np.isnan(got) & np.isnan(wanted)


@pytest.mark.parametrize("kind, cpu", [("f32", "native"), ("f32", "x86-64"), ("f64", "native")])
@pytest.mark.parametrize("name", UNARY)
def test_single_numbers_are_computed_as_vectors_are(name, kind, cpu):
    if cpu != "native" and "x86_64" not in host_target().triple:
        pytest.skip(f"this processor cannot run code for {cpu}")  # an illegal instruction would end the whole run
    x = edges(kind)
    equal = same(apply(name, x, lanes=0, cpu=cpu), apply(name, x, lanes=16, cpu=cpu))
    assert equal.all(), x[~equal]


@pytest.mark.parametrize("lanes", [0, 4, 16])
@pytest.mark.parametrize("kind", ["f32", "f64"])
def test_sine_and_cosine_together_are_what_each_is(kind, lanes):
    target = host_target()
    module = Module(target)
    b = module.function("both", [("x", PTR), ("sines", PTR), ("cosines", PTR), ("n", I64)])
    with b.loop(0, b.params[3], max(lanes, 1)) as loop:
        places = [b.gep(pointer, loop.index, kind) for pointer in b.params[:3]]
        values = sine_and_cosine(b, b.load(places[0], Type(kind, lanes)))
        for value, place in zip(values, places[1:], strict=True):
            b.store(value, place)
    b.ret()
    library = jit.load(jit.compile_object(module.text(), target), process_symbols=False)
    function = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3, ctypes.c_int64)(library.address("both"))
    x = np.concatenate([edges(kind), stratified(kind, 1 << 13, seed=1)])
    x = np.resize(x, -(-x.size // 16) * 16)
    sines, cosines = np.empty_like(x), np.empty_like(x)
    function(x.ctypes.data, sines.ctypes.data, cosines.ctypes.data, x.size)
    for name, got in (("sin", sines), ("cos", cosines)):
        equal = same(got, apply(name, x, lanes=lanes))
        assert equal.all(), (name, x[~equal])


def text_of(ops, lanes, target):
    """A function that stores these functions of one number, or of as many lanes."""
    module = Module(target)
    b = module.function("apply", [("x", PTR)])
    x = sc.Arg(0, "float32")
    value = b.load(b.params[0], F32.with_lanes(lanes))
    bodies = [sc.apply(op, x) for op in ops]
    for number, result in enumerate(emit_bodies(b, bodies, lanes, lambda arg: value, None, None)):
        b.store(result, b.gep(b.params[0], number, "f32"))
    b.ret()
    return b.text()


@pytest.mark.parametrize("lanes", [0, 8])
def test_bodies_with_both_test_the_angle_once(lanes):
    target = target_named("x86-64-v3", None)
    one, both = (text_of(ops, lanes, target) for ops in (["sin"], ["sin", "cos"]))
    assert one.count("br i1") == both.count("br i1") == (2 if lanes == 0 else 1)
    assert one.count("@llvm.fma.") == both.count("@llvm.fma.") > 8
    assert text_of(["sin", "cos"], lanes, target).count("call preserve_mostcc") == 2


def test_only_rare_arguments_leave_the_straight_code():
    """Of one number no instruction of the floating-point unit is spent on whether it is rare."""
    for op in ("sin", "cos", "exp"):
        text = text_of([op], 0, target_named("x86-64-v4", None))
        before = text[: text.index("br i1")]
        assert "icmp" in before and "fcmp" not in before and "@llvm.fabs" not in before, op


@pytest.mark.parametrize("name", ["aarch64-linux", "armv7-linux", "cortex-m4", "riscv64-linux", "wasm32", "x86-64"])
def test_single_numbers_are_compiled_for_other_targets(name):
    """Registers are spared for rare calls only where LLVM knows how."""
    target = target_named(name, None)
    module = Module(target)
    b = module.function("apply", [("x", PTR)])
    for op in ("sin", "cos", "exp"):
        b.store(FUNCTIONS[op](b, b.load(b.params[0], F32)), b.params[0])
    b.ret()
    assert jit.compile_object(module.text(), target)
    spared = "preserve_mostcc" in module.text()
    assert spared == (name == "x86-64")
    for helper in set(module.functions) - {"apply"}:  # the part of a module that only calls it must agree
        assert module.functions[helper].declaration().startswith("declare preserve_mostcc void") == spared


def test_a_program_of_single_numbers_is_right_far_out_and_at_zero():
    """Through the whole compiler: the sine keeps the sign of a zero, and angles beyond 2^20 are reduced."""
    x = gc.input("x", ())
    f = gc.compile([x], [gc.sin(x), gc.cos(x), gc.exp(x), gc.sin(x) + 2 * gc.cos(x)], backend="llvm")
    for value in (0.0, -0.0, 2.5, -3e6, 1e30, 88.0, -103.0, 89.5, -110.0, np.inf, -np.inf, np.nan):
        number = np.float32(value)
        with np.errstate(all="ignore"):
            sine, cosine, power = (function(np.float64(number)) for function in (np.sin, np.cos, np.exp))
            wanted = np.array([sine, cosine, power, sine + 2 * cosine]).astype("float32")
        got = np.array(f(number))
        np.testing.assert_allclose(got, wanted, rtol=4e-7, atol=2e-45)
        assert value or np.signbit(got[0]) == np.signbit(number)

"""The IR builder: what it writes runs, and does what its docstrings say."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import numpy as np
import pytest

from graphc_llvm import jit
from graphc_llvm.emit import F32, F64, I1, I32, I64, PTR, Builder, Module, Type, Value
from graphc_llvm.target import Target, host_target, named_target

V4 = F32.with_lanes(4)
BASELINE = "x86-64"  # neither FMA nor rounding instructions


def run(build: Callable[[Builder, Value], None], data: np.ndarray, count: int = 0, cpu: str = "native") -> None:
    """Emit `void apply(ptr data, i64 count)` with the given body and run it on the array."""
    target: Target = host_target(cpu)
    module = Module(target)
    b = module.function("apply", [("data", PTR), ("count", I64)])
    b_data, b_count = b.params
    b.count = b_count
    build(b, b_data)
    b.ret()
    library = jit.load(jit.compile_object(module.text(), target))
    ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(library.address("apply"))(data.ctypes.data, count)


def test_types_are_interned_and_spelled() -> None:
    assert Type("f32", 16) is F32.with_lanes(16)
    assert F32.with_lanes(16).text == "<16 x float>"
    assert F64.mask().text == "i1" and V4.mask() is I1.with_lanes(4)
    with pytest.raises(ValueError, match="unknown LLVM kind"):
        Type("f16")


def test_constants_are_exact() -> None:
    b = Module().function("f", [])
    assert b.const(F32, 0.1).text == "0x3FB99999A0000000"  # 0.1 rounded to float32, spelled as a double
    assert b.const(F64, 0.1).text == "0x3FB999999999999A"
    assert b.const(F64, 0.0).text != b.const(F64, -0.0).text
    assert b.const(I32.with_lanes(4), -3).text == "splat (i32 -3)"
    with pytest.raises(ValueError, match="not a constant"):
        b.const(I32, 0.5)


def test_operand_types_must_agree() -> None:
    b = Module().function("f", [("x", F32), ("y", F64)])
    with pytest.raises(ValueError, match="where float is needed"):
        b.add(*b.params)


def test_two_builds_give_the_same_text() -> None:
    def text() -> str:
        module = Module()
        b = module.function("f", [("x", PTR)], noalias=["x"])
        module.global_array("offsets", [1, 2, 3], "i64")
        with b.loop(0, 8) as loop:
            b.store(b.sqrt(b.load(b.gep(b.params[0], loop.index, "f32"), F32)), b.params[0])
        b.ret()
        return module.text()

    assert text() == text()
    assert 'nounwind "no-builtins"' in text() and "ptr noalias %x" in text()


def test_equal_arrays_are_shared_and_others_renamed() -> None:
    module = Module()
    first, same, other = (module.global_array("table", values, "i64") for values in ([1, 2], [1, 2], [3]))
    assert first.text == same.text == "@table" and other.text == "@table.1"
    assert module.text().count("private unnamed_addr constant") == 2


@pytest.mark.parametrize("count", [0, 1, 5])
def test_loop_carries_values_and_may_run_zero_times(count: int) -> None:
    def body(b: Builder, data: Value) -> None:
        with b.loop(0, b.count, carried=[b.const(I64, 100)]) as loop:
            loop.yield_([b.add(loop.carried[0], loop.index)])
        b.store(loop.results[0], data)

    out = np.zeros(1, np.int64)
    run(body, out, count)
    assert out[0] == 100 + sum(range(count))


def test_constant_loops_nest_and_step() -> None:
    def body(b: Builder, data: Value) -> None:
        zero = b.const(I64, 0)
        with b.loop(0, 3, name="row", carried=[zero]) as rows:
            with b.loop(1, 10, 4, name="column", carried=[rows.carried[0]]) as columns:
                columns.yield_([b.add(columns.carried[0], b.mul(rows.index, columns.index))])
            rows.yield_(columns.results)
        with b.loop(5, 5, carried=rows.results) as never:
            never.yield_([zero])
        b.store(never.results[0], data)

    out = np.zeros(1, np.int64)
    run(body, out)
    assert out[0] == sum(i * j for i in range(3) for j in range(1, 10, 4))


@pytest.mark.parametrize("value", [-2.0, 3.0])
def test_branches_merge_their_values(value: float) -> None:
    def body(b: Builder, data: Value) -> None:
        x = b.load(data, F64)
        positive = b.fcmp("ogt", x, 0.0)
        with b.if_else(positive) as branch:
            with branch.then():
                branch.yield_([b.mul(x, 10.0)])
            with branch.otherwise():
                branch.yield_([b.neg(x)])
        with b.if_(positive, otherwise=[x]) as only:
            only.yield_([b.add(x, 1.0)])
        b.store(branch.results[0], b.gep(data, 1, "f64"))
        b.store(only.results[0], b.gep(data, 2, "f64"))

    out = np.array([value, 0, 0])
    run(body, out)
    assert out.tolist() == [value, value * 10 if value > 0 else -value, value + 1 if value > 0 else value]


@pytest.mark.parametrize("cpu", ["native", BASELINE])
def test_rounding_functions(cpu: str) -> None:
    values = np.array([0.0, -0.0, 0.5, -0.5, 1.5, 2.5, -2.5, 0.49999997, 8388609.0, -1e30, np.inf, -0.2], np.float32)
    data = np.zeros((5, 12), np.float32)
    data[0] = values

    def body(b: Builder, pointer: Value) -> None:
        x = b.load(pointer, F32.with_lanes(12))
        for row, function in enumerate((b.rint, b.floor, b.ceil, b.trunc), start=1):
            b.store(function(x), b.gep(pointer, 12 * row, "f32"))

    run(body, data, cpu=cpu)
    for row, function in enumerate((np.rint, np.floor, np.ceil, np.trunc), start=1):
        np.testing.assert_array_equal(data[row], function(values))
        np.testing.assert_array_equal(np.signbit(data[row]), np.signbit(function(values)))


def test_fma_rounds_once_with_the_instruction_and_twice_without() -> None:
    x = 1 + 2.0**-12
    for cpu, wanted in (("native", 2.0**-24), (BASELINE, 0.0)):
        data = np.array([x, 0], np.float32)

        def body(b: Builder, pointer: Value) -> None:
            value = b.load(pointer, F32)
            b.store(b.fma(value, value, -(1 + 2.0**-11)), b.gep(pointer, 1, "f32"))

        run(body, data, cpu=cpu)
        assert data[1] == wanted


def test_minimum_and_maximum_propagate_nan() -> None:
    data = np.array([1, np.nan, 3, 4, 2, 2, np.nan, -4, *[0] * 8], np.float32)

    def body(b: Builder, pointer: Value) -> None:
        x, y = b.load(pointer, V4), b.load(b.gep(pointer, 4, "f32"), V4)
        b.store(b.minimum(x, y), b.gep(pointer, 8, "f32"))
        b.store(b.maximum(x, y), b.gep(pointer, 12, "f32"))

    run(body, data)
    np.testing.assert_array_equal(data[8:12], np.minimum(data[:4], data[4:8]))
    np.testing.assert_array_equal(data[12:], np.maximum(data[:4], data[4:8]))


def test_float_to_integer_saturates() -> None:
    data = np.array([1.9, -1.9, 1e20, np.nan], np.float32)

    def body(b: Builder, pointer: Value) -> None:
        b.store(b.fptosi(b.load(pointer, V4), I32.with_lanes(4)), pointer)

    run(body, data)
    assert data.view(np.int32).tolist() == [1, -1, 2**31 - 1, 0]


@pytest.mark.parametrize("lanes", [1, 2, 8, 16])
def test_reduction_is_a_tree_of_halves(lanes: int) -> None:
    data = np.random.default_rng(0).normal(size=lanes).astype(np.float32)
    wanted = data.copy()
    while wanted.size > 1:
        wanted = wanted[: wanted.size // 2] + wanted[wanted.size // 2:]

    def body(b: Builder, pointer: Value) -> None:
        b.store(b.reduce_add(b.load(pointer, F32.with_lanes(lanes))), pointer)

    run(body, data)
    assert data[0] == wanted[0]


def test_reduction_refuses_other_lane_counts() -> None:
    b = Module().function("f", [("x", F32.with_lanes(6))])
    with pytest.raises(ValueError, match="in halves"):
        b.reduce_add(b.params[0])


def test_masked_memory_and_gather() -> None:
    data = np.arange(24, dtype=np.float32)

    def body(b: Builder, pointer: Value) -> None:
        index = b.iota("i64", 4)
        mask = b.icmp("slt", index, 3)
        picked = b.gather(b.gep(pointer, b.mul(index, 5), "f32"), V4)
        loaded = b.masked_load(b.gep(pointer, 8, "f32"), V4, mask, -1.0)
        b.masked_store(picked, b.gep(pointer, 16, "f32"), mask)
        b.store(loaded, b.gep(pointer, 20, "f32"))

    run(body, data)
    assert data[16:].tolist() == [0, 5, 10, 19, 8, 9, 10, -1]


def test_splat_extract_insert_shuffle() -> None:
    data = np.array([1, 2, 3, 4], np.float32)

    def body(b: Builder, pointer: Value) -> None:
        x = b.load(pointer, V4)
        spread = b.splat(b.extract(x, 2), 4)
        b.store(b.insert(b.shuffle(x, spread, [3, 2, 5, 0]), b.extract(x, 1), 0), pointer)

    run(body, data)
    assert data.tolist() == [2, 3, 3, 1]


def test_alloca_stands_in_the_entry_block() -> None:
    module = Module()
    b = module.function("f", [("n", I64)])
    with b.loop(0, b.params[0]):
        b.store(b.const(F32, 1.0), b.alloca("f32", 4))
    b.ret()
    text = module.text()
    assert text.index("alloca") < text.index("br i1")


def test_targets_know_their_vectors() -> None:
    assert [named_target(cpu).lanes("f32") for cpu in ("x86-64", "x86-64-v3", "x86-64-v4", "neon")] == [4, 8, 16, 4]
    assert not named_target("x86-64").has_fma and named_target("x86-64-v4").has_avx512
    assert named_target("neon").triple == "aarch64-unknown-linux-gnu"
    with pytest.raises(ValueError, match="unknown processor"):
        named_target("cray-1")

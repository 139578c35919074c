"""Contractions as LLVM IR against the interpreter: roles, tiles, copies, packing, epilogues, on each level of x86-64.

The error bound is that of a sum of K products in any order, with headroom: 4 sqrt(K) eps sum |a*b|; the interpreter
accumulates float32 in float64.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphc as gc
from graphc.ir.affine import AffineMap, affine
from graphc.ir.extent import ints
from graphc.ir.graph import Graph
from graphc.ir.interp import evaluate_generic, interpret
from graphc.ir.node import INSIDE, Generic
from graphc.passes.pipeline import run_passes
from graphc.passes.plan import plan
from graphc.program import Buffer, Kernel, Program, Stage
from graphc_llvm import jit
from graphc_llvm.contraction import can_fuse_epilogue, emit_contraction
from graphc_llvm.contraction_cost import balanced
from graphc_llvm.contraction_plan import plan_contraction
from graphc_llvm.emit import PTR, Module
from graphc_llvm.lower import lower
from graphc_llvm.target import Target, host_target, named_target

SIZES = (1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 100)
LEVELS = ("x86-64", "x86-64-v3", "x86-64-v4")
IS_X86 = host_target().triple.startswith("x86_64")


def runs_here(level: str) -> bool:
    host = host_target()
    return IS_X86 and (level == "x86-64" or (level == "x86-64-v3" and host.has_fma) or host.has_avx512)


def programs(outputs: Sequence[gc.Tensor], inputs: Sequence[gc.Tensor]) -> tuple[Program, Graph]:
    graph = run_passes(Graph(tuple(out.node for out in outputs)), check=True)
    return plan(graph, "p", [leaf.node for leaf in inputs], len(outputs), []), graph


def emitted(program: Program, kernel: Kernel, target: Target) -> tuple[Module, Any]:
    module = Module(target)
    code = emit_contraction(module, target, program, kernel, "kernel")
    if code is not None:
        count = len(code.buffers) + 1
        b = module.function("run", [(f"p{number}", PTR) for number in range(count)])
        b.call("kernel", None, b.params)
        b.ret()
    return module, code


def aligned(size: int, dtype: str) -> np.ndarray:
    """64-byte aligned memory full of NaNs, between guards."""
    nbytes = size * np.dtype(dtype).itemsize
    raw = np.full(nbytes + 192, 0xFF, dtype=np.uint8)
    start = -raw.ctypes.data % 64 + 64
    return raw[start : start + nbytes].view(dtype)


def execute(program: Program, kernel: Kernel, memory: dict[str, np.ndarray], target: Target) -> bool:
    """Run one kernel on the buffers; False when it is left to general loops."""
    module, code = emitted(program, kernel, target)
    if code is None:
        return False
    text = jit.compile_object(module.text(), target)
    assert jit.object_symbols(text) == (["run"], [])
    library = jit.load(text, process_symbols=False)
    arrays = [*(memory[name] for name in code.buffers), aligned(code.workspace_bytes, "uint8")]
    guards = [(a.base, a.base.copy(), a) for a in arrays if a.base is not None]
    function = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * len(arrays))(library.address("run"))
    function(*(array.ctypes.data for array in arrays))
    for raw, before, array in guards:  # nothing outside of an array was written
        root = raw.view(np.uint8).reshape(-1)
        start = array.ctypes.data - root.ctypes.data
        assert np.array_equal(root[:start], before.view(np.uint8).reshape(-1)[:start])
        assert np.array_equal(root[start + array.nbytes :], before.view(np.uint8).reshape(-1)[start + array.nbytes :])
    return True


def run_program(
    program: Program, values: dict[str, np.ndarray], target: Target | None = None
) -> tuple[list[np.ndarray], list[bool]]:
    """All kernels in order, those that are no contraction (or are left to loops) through the interpreter."""
    memory: dict[str, np.ndarray] = {}
    for buffer in program.buffers:
        if buffer.alias is None:
            memory[buffer.name] = aligned(buffer.size, buffer.dtype)
            if buffer.name in values:
                memory[buffer.name][:] = values[buffer.name].reshape(-1)
            if buffer.value is not None:
                memory[buffer.name][:] = buffer.value.reshape(-1)
    ran: list[bool] = []

    def shaped(name: str) -> np.ndarray:
        return memory[program.root(name).name].reshape(program.by_name[name].shape)

    for kernel in program.kernels:
        is_native = kernel.kind == "contraction" and execute(program, kernel, memory, target or host_target())
        ran.append(is_native)
        if not is_native:
            for stage in kernel.stages:
                assert isinstance(stage.node, Generic)
                result = evaluate_generic(stage.node, [shaped(name) for name in stage.reads])
                at = written(stage.node)
                shaped(stage.write)[at] = result[at]
    return [shaped(name) for name in program.outputs], ran


def written(node: Generic) -> tuple[np.ndarray, ...]:
    """The elements that a Generic writes, which for a part of a Join are not all."""
    domain = ints(node.domain)
    points = np.indices(domain).reshape(len(domain), math.prod(domain))
    rows = node.out_map.rows
    return tuple(
        sum((points[a] * c for a, c in row.terms), np.full(points.shape[1], row.const)) for row in rows
    )


def compare(
    outputs: Sequence[gc.Tensor], inputs: Sequence[gc.Tensor], depth: int, target: Target | None = None,
    seed: int = 0, native: bool | None = True,
    reference: Callable[..., np.ndarray] | None = None,
) -> Program:
    program, graph = programs(outputs, inputs)
    random = np.random.default_rng(seed)
    values = {}
    for leaf in inputs:
        shape = ints(leaf.node.shape)
        if leaf.node.dtype.startswith("float"):
            values[leaf.node] = random.standard_normal(shape).astype(leaf.node.dtype)
        else:
            values[leaf.node] = random.integers(-50, 50, shape).astype(leaf.node.dtype)
    got, ran = run_program(program, {leaf.name: value for leaf, value in values.items()}, target)
    if native:
        assert all(
            done for done, kernel in zip(ran, program.kernels, strict=True) if kernel.kind == "contraction"
        ), f"left to general loops:\n{program}"
        assert any(ran)
    want = interpret(graph, values) if reference is None else (reference(*values.values()),)
    # sum |a*b| <= K max|a| max|b|; the values are standard normal, so 16 bounds a product and sqrt(K) their spread
    for one, other in zip(got, want, strict=True):
        if one.dtype.kind != "f":
            assert np.array_equal(one, other)
            continue
        eps = np.finfo(one.dtype).eps
        bound = 4 * math.sqrt(max(depth, 1)) * eps * 16 * max(depth, 1)
        assert one.shape == other.shape
        assert np.all(np.isfinite(one))
        assert np.abs(one - other).max(initial=0.0) <= bound
    return program


# ---- matrix products ---------------------------------------------------------------------------------------


@settings(max_examples=settings.default.max_examples // 2)
@given(
    m=st.sampled_from(SIZES), n=st.sampled_from(SIZES), k=st.sampled_from(SIZES), form=st.sampled_from("NT"),
    other=st.sampled_from("NT"), dtype=st.sampled_from(["float32", "float64"]),
)
def test_matmul(m: int, n: int, k: int, form: str, other: str, dtype: str) -> None:
    a = gc.input("a", (m, k) if form == "N" else (k, m), dtype=dtype)
    b = gc.input("b", (k, n) if other == "N" else (n, k), dtype=dtype)
    product = (a if form == "N" else a.T) @ (b if other == "N" else b.T)
    is_small = m * n * k < 4000 or min(m, n, k) < 7
    compare([product], [a, b], k, native=not is_small)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("m", "n", "k"), [(17, 33, 9), (64, 100, 31), (13, 16, 40)])
def test_matmul_on_each_level(level: str, m: int, n: int, k: int) -> None:
    a, b = gc.input("a", (m, k)), gc.input("b", (k, n))
    target = named_target(level)
    if runs_here(level):
        compare([a @ b], [a, b], k, target)
        return
    program, _ = programs([a @ b], [a, b])
    module, _ = emitted(program, program.kernels[0], target)
    assert jit.compile_object(module.text(), target)


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_integers_are_exact(dtype: str) -> None:
    a, b = gc.input("a", (19, 23), dtype=dtype), gc.input("b", (23, 37), dtype=dtype)
    compare([a @ b], [a, b], 23)


def test_batched_products() -> None:
    a, b = gc.input("a", (3, 17, 20)), gc.input("b", (3, 20, 33))
    compare([a @ b], [a, b], 20)
    shared = gc.input("b", (20, 33))
    compare([a @ shared], [a, shared], 20)


def small_caches(level: int = 8192) -> Target:
    """The host with caches so small that moderate sizes are packed and blocked."""
    return replace(host_target(), l1_bytes=level // 4, l2_bytes=level, l3_bytes=level * 4)


@pytest.mark.parametrize("transposed", [(False, False), (True, False), (False, True), (True, True)])
def test_a_large_product_is_packed_and_blocked(transposed: tuple[bool, bool]) -> None:
    m, n, k = 45, 900, 1100
    left, right = transposed
    a = gc.input("a", (k, m) if left else (m, k))
    b = gc.input("b", (n, k) if right else (k, n))

    def product(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        return (one.T if left else one).astype("float64") @ (other.T if right else other)

    both = (a.T if left else a) @ (b.T if right else b)
    program = compare([both], [a, b], k, small_caches(), reference=product)
    schedule = plan_contraction(program, program.kernels[0], small_caches())
    assert schedule is not None
    in_place = left  # the short side is contiguous along its 45 lanes, from row to row
    assert schedule.tiling.packed is not in_place
    assert schedule.passes == (1 if in_place else 3)


def test_nothing_to_sum_gives_zeros() -> None:
    a, b, bias = gc.input("a", (20, 0)), gc.input("b", (0, 30)), gc.input("c", (30,))
    compare([a @ b + bias], [a, b, bias], 0, native=None)


def test_an_empty_result() -> None:
    a, b = gc.input("a", (0, 20)), gc.input("b", (20, 30))
    compare([a @ b], [a, b], 20, native=None)


# ---- convolutions ------------------------------------------------------------------------------------------


def convolutions(
    n: int, c: int, h: int, w: int, k: int, r: int, *, stride: int = 1, padding: int = 0, dilation: int = 1,
    groups: int = 1, dtype: str = "float32", target: Target | None = None, native: bool | None = True,
) -> list[Program]:
    """A convolution and both of its gradients."""
    x = gc.input("x", (n, c, h, w), dtype=dtype)
    weight = gc.input("w", (k, c // groups, r, r), dtype=dtype)
    y = gc.conv2d(x, weight, stride=stride, padding=padding, dilation=dilation, groups=groups)
    dy = gc.input("dy", y.shape, dtype=dtype)
    dx, dw = gc.vjp(y, [x, weight], dy)
    points = n * int(y.shape[2]) * int(y.shape[3])
    depth = c // groups * r * r
    return [
        compare([y], [x, weight], depth, target, native=native),
        compare([dx], [dy, weight], k // groups * r * r, target, native=native),
        compare([dw], [dy, x], points, target, native=native),
    ]


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize("dilation", [1, 2])
def test_convolution_and_its_gradients(stride: int, padding: int, dilation: int) -> None:
    convolutions(2, 3, 11, 9, 8, 3, stride=stride, padding=padding, dilation=dilation, native=None)


@pytest.mark.parametrize("case", [
    {"n": 1, "c": 16, "h": 14, "w": 14, "k": 16, "r": 3, "padding": 1},
    {"n": 3, "c": 3, "h": 20, "w": 40, "k": 13, "r": 5, "padding": 2},
    {"n": 2, "c": 32, "h": 7, "w": 7, "k": 20, "r": 1},
    {"n": 2, "c": 8, "h": 10, "w": 10, "k": 12, "r": 3, "padding": 1, "groups": 2},
])
def test_convolutions_of_many_channels(case: dict[str, int]) -> None:
    convolutions(**case)


def test_a_depthwise_convolution() -> None:
    convolutions(2, 5, 12, 33, 5, 3, padding=1, groups=5, native=None)


@pytest.mark.parametrize("level", LEVELS)
def test_convolutions_on_each_level(level: str) -> None:
    if runs_here(level):
        convolutions(2, 4, 9, 12, 8, 3, padding=1, target=named_target(level), native=None)


def test_convolutions_of_double_precision() -> None:
    convolutions(2, 4, 9, 12, 8, 3, padding=1, dtype="float64", native=None)


def test_images_are_copied_one_at_a_time_when_the_cache_is_small() -> None:
    forward, back, weights = convolutions(3, 4, 20, 20, 16, 3, padding=1, target=small_caches(), native=None)
    for program in (forward, back, weights):
        schedule = plan_contraction(program, program.kernels[0], small_caches())
        assert schedule is not None
        copy = schedule.copies[0] or schedule.copies[1]
        assert copy is not None
        assert len(copy.shape) == 3
        assert schedule.outer or schedule.k_outer
    schedule = plan_contraction(weights, weights.kernels[0], small_caches())
    assert schedule is not None
    assert schedule.passes >= 3


# ---- epilogues ---------------------------------------------------------------------------------------------


def test_bias_along_either_side_and_activation() -> None:
    a, b = gc.input("a", (29, 40)), gc.input("b", (40, 50))
    row, column = gc.input("r", (50,)), gc.input("c", (29, 1))
    for bias in (row, column):
        program = compare([gc.relu(a @ b + bias)], [a, b, bias], 40)
        assert len(program.kernels) == 1
        assert can_fuse_epilogue(program, program.kernels[0])


def test_values_used_later_are_written_too() -> None:
    a, b, bias = gc.input("a", (29, 40)), gc.input("b", (40, 50)), gc.input("r", (50,))
    h = a @ b + bias
    program = compare([h, gc.tanh(h)], [a, b, bias], 40)
    assert len(program.kernels) == 1


def test_a_bool_result_beside_the_sum() -> None:
    a, b = gc.input("a", (29, 40)), gc.input("b", (40, 50))
    h = a @ b
    program, graph = programs([h > 0, h], [a, b])
    random = np.random.default_rng(3)
    values = {leaf.node: random.standard_normal(ints(leaf.node.shape)).astype("float32") for leaf in (a, b)}
    got, ran = run_program(program, {leaf.name: value for leaf, value in values.items()})
    want = interpret(graph, values)
    assert any(ran)
    clear = np.abs(want[1]) > 1e-4
    assert np.array_equal(got[0][clear], want[0][clear])


def test_a_mask_from_another_array() -> None:
    a, b, h = gc.input("a", (33, 20)), gc.input("b", (45, 20)), gc.input("h", (33, 45))
    compare([gc.where(h > 0, a @ b.T, 0.0)], [a, b, h], 20)


def test_an_update_of_a_weight() -> None:
    x, dy, w = gc.input("x", (64, 30)), gc.input("dy", (64, 40)), gc.input("w", (30, 40))
    program = compare([w - 0.1 * (x.T @ dy)], [x, dy, w], 64)
    assert len(program.kernels) == 1


@pytest.mark.parametrize("channels", [5, 16, 40])
def test_convolution_with_bias_relu_and_a_residual(channels: int) -> None:
    x, w = gc.input("x", (2, 8, 12, 12)), gc.input("w", (channels, 8, 3, 3))
    bias, rest = gc.input("b", (channels,)), gc.input("r", (2, channels, 12, 12))
    compare([gc.relu(gc.conv2d(x, w, bias=bias, padding=1) + rest)], [x, w, bias, rest], 72)


@pytest.mark.parametrize("level", LEVELS)
def test_epilogues_on_each_level(level: str) -> None:
    if runs_here(level):
        a, b, bias = gc.input("a", (29, 40)), gc.input("b", (40, 50)), gc.input("r", (50,))
        compare([gc.tanh(a @ b + bias)], [a, b, bias], 40, named_target(level))


# ---- what is left to others, and how schedules print ---------------------------------------------------------


def test_a_strided_part_of_a_join_touches_only_its_elements() -> None:
    """out[2*i + 1, j] = sum a[i, k] * b[k, j], into an array that keeps its other rows."""
    domain = (9, 20, 16)
    out_map = AffineMap(3, (affine({0: 2}, 1), affine({1: 1})))
    a, b = gc.input("a", (9, 16)), gc.input("b", (16, 20))
    maps = (AffineMap(3, (affine({0: 1}), affine({2: 1}))), AffineMap(3, (affine({2: 1}), affine({1: 1}))))
    body = (a @ b).node.body
    node = Generic(domain, (18, 20), out_map, (a.node, b.node), maps, (INSIDE, INSIDE), body, "sum")
    buffers = (
        Buffer("a", (9, 16), "float32", "input"), Buffer("b", (16, 20), "float32", "input"),
        Buffer("y", (18, 20), "float32", "output"),
    )
    kernel = Kernel("y", "contraction", 0, (Stage(node, ("a", "b"), "y"),))
    program = Program("p", buffers, (kernel,), ("a", "b"), ("y",), ())
    random = np.random.default_rng(0)
    memory = {buffer.name: aligned(buffer.size, "float32") for buffer in buffers}
    for name in ("a", "b"):
        memory[name][:] = random.standard_normal(memory[name].size)
    memory["y"][:] = 5.0
    assert execute(program, kernel, memory, host_target())
    y = memory["y"].reshape(18, 20)
    assert np.all(y[::2] == 5.0)
    want = memory["a"].reshape(9, 16).astype(float) @ memory["b"].reshape(16, 20)
    assert np.allclose(y[1::2], want, atol=1e-4)


def test_a_stage_that_must_initialise_is_left_to_loops() -> None:
    a, b = gc.input("a", (20, 30)), gc.input("b", (30, 40))
    program, _ = programs([a @ b], [a, b])
    kernel = program.kernels[0]
    kernel = replace(kernel, stages=(replace(kernel.stages[0], initialise=True),))
    assert emitted(program, kernel, host_target())[1] is None


def test_tiny_products_are_left_to_loops() -> None:
    a, b = gc.input("a", (3, 4)), gc.input("b", (4, 5))
    program, _ = programs([a @ b], [a, b])
    assert emitted(program, program.kernels[0], host_target())[1] is None


@pytest.mark.parametrize("extent", [1, 13, 14, 15, 56, 64, 100])
def test_parts_are_balanced(extent: int) -> None:
    parts = balanced(extent, 14)
    assert sum(size * count for size, count in parts) == extent
    assert max(size for size, _ in parts) - min(size for size, _ in parts) <= 1
    assert sum(count for _, count in parts) == -(-extent // 14)


def test_schedules_print_and_the_same_input_gives_the_same_text() -> None:
    x, w = gc.input("x", (1, 32, 14, 14)), gc.input("w", (64, 32, 3, 3))
    texts, plans = set(), set()
    for _ in range(2):
        program, _ = programs([gc.conv2d(x, w, padding=1)], [x, w])
        texts.add(emitted(program, program.kernels[0], named_target("x86-64-v4"))[0].text())
        plans.add(str(plan_contraction(program, program.kernels[0], named_target("x86-64-v4"))))
    assert len(texts) == 1
    (text,) = plans
    assert text.startswith("f32: vectors of x, in place; elements of w, in place")
    assert "copy x with a border of zeros" in text


def test_a_schedule_may_be_replaced() -> None:
    a, b = gc.input("a", (40, 50)), gc.input("b", (50, 70))
    program, _ = programs([a @ b], [a, b])
    kernel, target = program.kernels[0], host_target()
    schedule = plan_contraction(program, kernel, target)
    assert schedule is not None
    tiling = replace(schedule.tiling, vectors=1, splits=((3, 13), (1, 1)))
    other = plan_contraction(program, kernel, target, tiling)
    assert other is not None and other.tiling == tiling and other.s_tiles == 14
    module = Module(target)
    assert emit_contraction(module, target, program, kernel, "kernel", other) is not None
    assert "kernel.tile3x1x" in module.text() and "kernel.tile1x1x" in module.text()


def test_identical_kernels_share_their_code() -> None:
    x = gc.input("x", (32, 64))
    weights = [gc.input(f"w{number}", (64, 64)) for number in range(4)]
    y = x
    for weight in weights:
        y = gc.relu(y @ weight)
    program, _ = programs([y], [x, *weights])
    module, _ = lower(program, host_target())
    assert len(program.kernels) == 4
    assert module.text().count("define internal void @entry_k0(") == 1
    assert "@entry_k1" not in module.text()
    assert module.text().count("call void @entry_k0(") == 4

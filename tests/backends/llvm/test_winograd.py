"""Winograd's F(2x2, 3x3) against float64 NumPy: every shape, padding and level, within the bound of its docstring."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import graphc as gc
from graphc.program import Program
from graphc_llvm import jit, winograd
from graphc_llvm import lower as lowering
from graphc_llvm.pool import pool_library
from graphc_llvm.target import Target, host_target, named_target
from graphc_llvm.winograd_match import Convolution, find_convolution
from graphc_llvm.winograd_plan import WinogradPlan, candidates, plan_winograd

HOST = host_target()
IS_X86 = HOST.triple.startswith("x86_64")
LEVELS = [
    level for level, runs in (("x86-64", True), ("x86-64-v3", HOST.has_fma), ("x86-64-v4", HOST.has_avx512))
    if IS_X86 and runs
]
GUARD = 4096
# The root mean square error of Winograd's algorithm, by that of the direct sum: measured 0.6 on normal data.
RMS_FACTOR = 1.0
# The same for data of one sign, where the transform of the input cancels what the direct sum just adds up.
POSITIVE_RMS_FACTOR = 2.0

BT = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])
G = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
AT = np.array([[1, 1, 1, 0], [0, 1, -1, -1]])


def any_plan(conv: Convolution, target: Target, most_rows: int = 0) -> WinogradPlan | None:
    """The cheapest plan, or one with the largest blocks of at most `most_rows`, even where it does not pay."""
    plans = [plan for plan in candidates(conv, target) if not most_rows or plan.rows <= most_rows]
    return min(plans, key=lambda plan: (-plan.rows if most_rows else 0, plan.cost), default=None)


class Built:
    """A compiled expression whose convolutions all take Winograd's way, or all the direct one."""

    def __init__(
        self, inputs: Sequence[gc.Tensor], outputs: gc.Tensor | list[gc.Tensor], *, target: Target = HOST,
        threads: int = 1, direct: bool = False, rows: int = 0,
    ) -> None:
        self.program: Program = gc.compile(list(inputs), outputs, backend="numpy").program
        self.plans: list[WinogradPlan] = []

        def plan(conv: Convolution, target: Target) -> WinogradPlan | None:
            chosen = None if direct else any_plan(conv, target, rows)
            self.plans += [chosen] if chosen else []
            return chosen

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(winograd, "plan_winograd", plan)
            module, self.layout = lowering.lower(self.program, target, threads=threads)
        self.text = module.text()
        assert direct or self.plans, f"no convolution found:\n{self.program}"
        self.object = jit.compile_object(self.text, target)
        self.loaded = jit.load(self.object, libraries=[pool_library(target)] if threads > 1 else [])

    def __call__(self, *arrays: np.ndarray) -> list[np.ndarray]:
        """Run on an arena full of NaNs, between guards."""
        raws: list[np.ndarray] = []

        def room(nbytes: int) -> np.ndarray:
            raw = np.full(nbytes + 2 * GUARD + 64, 0xFF, dtype=np.uint8)
            start = -raw.ctypes.data % 64 + GUARD
            raws.append(raw)
            return raw[start : start + nbytes]

        buffers = [self.program.by_name[name] for name in self.layout.outputs]
        outputs = [room(one.nbytes).view(one.dtype).reshape(one.shape) for one in buffers]
        arena = room(self.layout.arena_bytes)
        addresses = [array.ctypes.data for array in (*arrays, *outputs)]
        entry = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)(self.loaded.address("entry"))
        before = [array.copy() for array in arrays]
        assert entry(ctypes.addressof((ctypes.c_void_p * len(addresses))(*addresses)), arena.ctypes.data) == 0
        for raw in raws:
            assert (raw[: GUARD - 64] == 0xFF).all() and (raw[-GUARD + 64 :] == 0xFF).all(), "written outside"
        assert all(np.array_equal(one, other) for one, other in zip(arrays, before, strict=True))
        return outputs


def tiles(x: np.ndarray, padding: tuple[int, int]) -> np.ndarray:
    """[n, c, tile row, tile column, 4, 4] in float64."""
    (top, left), (height, width) = padding, x.shape[2:]
    rows, columns = -(-(height + 2 * top - 2) // 2), -(-(width + 2 * left - 2) // 2)
    space = np.zeros((*x.shape[:2], 2 * rows + 2 + height, 2 * columns + 2 + width))
    space[:, :, top : top + height, left : left + width] = x
    windows = np.lib.stride_tricks.sliding_window_view(space, (4, 4), axis=(2, 3))
    return windows[:, :, : 2 * rows : 2, : 2 * columns : 2]


def lavin_gray(
    x: np.ndarray, g: np.ndarray, padding: tuple[int, int], matrices: Sequence[np.ndarray]
) -> np.ndarray:
    """Y = A^T [ sum (G g G^T) * (B^T d B) ] A in float64, with the matrices (B^T, G, A^T)."""
    bt, g_matrix, at = matrices
    height, width = x.shape[2] + 2 * padding[0] - 2, x.shape[3] + 2 * padding[1] - 2
    v = bt @ tiles(x, padding) @ bt.T
    u = g_matrix @ g.astype("float64") @ g_matrix.T
    y = at @ np.einsum("ncijab,kcab->nkijab", v, u) @ at.T
    n, k, rows, columns = y.shape[:4]
    return y.transpose(0, 1, 2, 4, 3, 5).reshape(n, k, 2 * rows, 2 * columns)[:, :, :height, :width]


def direct_sum(x: np.ndarray, g: np.ndarray, padding: tuple[int, int]) -> np.ndarray:
    """The convolution in float64."""
    space = np.pad(x.astype("float64"), [(0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2])
    windows = np.lib.stride_tricks.sliding_window_view(space, (3, 3), axis=(2, 3))
    return np.einsum("nchwrs,kcrs->nkhw", windows, g.astype("float64"), optimize=True)


def bound(x: np.ndarray, g: np.ndarray, padding: tuple[int, int]) -> np.ndarray:
    """What the docstring of `graphc_llvm.winograd` promises, element by element."""
    roundings = (x.shape[1] + 12) * np.finfo(x.dtype).eps / 2
    return roundings / (1 - roundings) * lavin_gray(np.abs(x), np.abs(g), padding, [np.abs(m) for m in (BT, G, AT)])


def coarse_bound(x: np.ndarray, g: np.ndarray, padding: tuple[int, int]) -> np.ndarray:
    """The corollary, by tiles: 16 g(C + 12) sum max|d| sum|g|, as [n, k, tile row, tile column]."""
    roundings = (x.shape[1] + 12) * np.finfo(x.dtype).eps / 2
    largest = np.abs(tiles(x, padding)).max(axis=(4, 5))
    total = np.einsum("ncij,kc->nkij", largest, np.abs(g.astype("float64")).sum(axis=(2, 3)))
    return 16 * roundings / (1 - roundings) * total


def normal(seed: int, *shapes: tuple[int, ...], dtype: str = "float32") -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.standard_normal(shape).astype(dtype) for shape in shapes]


def check_forward(
    n: int, c: int, k: int, h: int, w: int, padding: tuple[int, int], dtype: str = "float32", **options: Any
) -> Built:
    x, g = gc.input("x", (n, c, h, w), dtype=dtype), gc.input("g", (k, c, 3, 3), dtype=dtype)
    built = Built([x, g], gc.conv2d(x, g, padding=padding), **options)
    xs, gs = normal(n + c + k + h + w, (n, c, h, w), (k, c, 3, 3), dtype=dtype)
    error = np.abs(built(xs, gs)[0] - direct_sum(xs, gs, padding))
    assert (error <= bound(xs, gs, padding)).all()
    return built


def check_gradient(
    n: int, c: int, k: int, h: int, w: int, padding: tuple[int, int], dtype: str = "float32", **options: Any
) -> Built:
    """dx is the convolution of dy with the kernels turned about, the channels exchanged, and 2 - padding zeros."""
    x, g = gc.input("x", (n, c, h, w), dtype=dtype), gc.input("g", (k, c, 3, 3), dtype=dtype)
    y = gc.conv2d(x, g, padding=padding)
    dy = gc.input("dy", y.shape, dtype=dtype)
    built = Built([g, dy], gc.vjp(y, [x], dy)[0], **options)
    shape = n, k, h + 2 * padding[0] - 2, w + 2 * padding[1] - 2
    gs, dys = normal(n + c + k + h + w, (k, c, 3, 3), shape, dtype=dtype)
    turned, rest = gs[:, :, ::-1, ::-1].swapaxes(0, 1), (2 - padding[0], 2 - padding[1])
    error = np.abs(built(gs, dys)[0] - direct_sum(dys, turned, rest))
    assert (error <= bound(dys, turned, rest)).all()
    return built


# ---- shapes -------------------------------------------------------------------------------------------------

EXTENTS = st.sampled_from([1, 2, 3, 4, 5, 7, 8, 13, 16, 31, 33, 36])
CHANNELS = st.sampled_from([1, 2, 3, 8, 15, 16, 17, 33])
PADDING = st.tuples(st.integers(0, 2), st.integers(0, 2))


@settings(max_examples=settings.default.max_examples // 2)
@given(
    n=st.integers(1, 3), c=CHANNELS, k=CHANNELS, h=EXTENTS, w=EXTENTS, padding=PADDING,
    dtype=st.sampled_from(["float32", "float64"]), rows=st.sampled_from([0, 1, 3, 1000]),
)
@example(n=1, c=1, k=1, h=1, w=1, padding=(1, 1), dtype="float32", rows=0)
@example(n=2, c=33, k=17, h=36, w=33, padding=(0, 2), dtype="float32", rows=0)
def test_forward(
    n: int, c: int, k: int, h: int, w: int, padding: tuple[int, int], dtype: str, rows: int
) -> None:
    if h + 2 * padding[0] >= 3 and w + 2 * padding[1] >= 3:
        check_forward(n, c, k, h, w, padding, dtype, rows=rows)


@settings(max_examples=settings.default.max_examples // 4)
@given(
    n=st.integers(1, 3), c=CHANNELS, k=CHANNELS, h=EXTENTS, w=EXTENTS, padding=PADDING,
    dtype=st.sampled_from(["float32", "float64"]),
)
def test_input_gradient(n: int, c: int, k: int, h: int, w: int, padding: tuple[int, int], dtype: str) -> None:
    if h + 2 * padding[0] > 5 and w + 2 * padding[1] > 5 and h > 1 and w > 1:  # else dy is the smaller one to slide
        check_gradient(n, c, k, h, w, padding, dtype)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_each_level(level: str, dtype: str) -> None:
    check_forward(2, 5, 9, 9, 37, (1, 2), dtype, target=named_target(level))
    check_gradient(1, 9, 20, 12, 7, (0, 1), dtype, target=named_target(level))


@pytest.mark.parametrize("cpu", ["neon", "x86-64-v4"])
def test_code_for_other_processors_compiles(cpu: str) -> None:
    x, g = gc.input("x", (2, 20, 13, 13)), gc.input("g", (24, 20, 3, 3))
    program = gc.compile([x, g], gc.conv2d(x, g, padding=1), backend="numpy").program
    target = named_target(cpu)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(winograd, "plan_winograd", any_plan)
        module, _ = lowering.lower(program, target)
    assert jit.compile_object(module.text(), target)


def test_panels_in_groups_when_the_cache_is_small() -> None:
    small = replace(HOST, l1_bytes=8192, l2_bytes=65536, l3_bytes=1 << 20)
    built = check_forward(9, 32, 70, 8, 8, (1, 1), target=small, rows=4)
    assert not built.plans[0].is_shared
    grouped = replace(named_target(LEVELS[-1]) if LEVELS else HOST, l2_bytes=800_000)
    built = check_forward(16, 200, 120, 8, 8, (1, 1), target=grouped, rows=8)
    assert built.plans[0].group > 1
    assert built.plans[0].groups > 1


def test_layouts_of_weights_and_of_results() -> None:
    """Kernels as [r, s, c, k], and results that a later transposition moves: addresses are general."""
    x, g = gc.input("x", (2, 6, 9, 11)), gc.input("g", (3, 3, 6, 10))
    y = gc.transpose(gc.conv2d(x, gc.transpose(g, (3, 2, 0, 1)), padding=1), (1, 0, 2, 3))
    built = Built([x, g], y)
    xs, gs = normal(3, (2, 6, 9, 11), (3, 3, 6, 10))
    kernels = gs.transpose(3, 2, 0, 1)
    error = np.abs(built(xs, gs)[0].swapaxes(0, 1) - direct_sum(xs, kernels, (1, 1)))
    assert (error <= bound(xs, kernels, (1, 1))).all()


# ---- accuracy -----------------------------------------------------------------------------------------------


def test_matrices_compute_a_convolution() -> None:
    xs, gs = normal(0, (1, 3, 9, 10), (4, 3, 3, 3), dtype="float64")
    assert np.allclose(lavin_gray(xs, gs, (1, 2), (BT, G, AT)), direct_sum(xs, gs, (1, 2)), atol=1e-12)


@pytest.mark.parametrize("is_positive", [False, True])
@pytest.mark.parametrize("channels", [16, 64, 256])
def test_errors_are_as_small_as_those_of_the_direct_sum(channels: int, is_positive: bool) -> None:
    shapes = (1, channels, 14, 14), (32, channels, 3, 3)
    xs, gs = normal(channels, *shapes)
    if is_positive:
        xs, gs = np.abs(xs), np.abs(gs)
    x, g = (gc.input(name, shape) for name, shape in zip("xg", shapes, strict=True))
    y = gc.conv2d(x, g, padding=1)
    want = direct_sum(xs, gs, (1, 1))
    errors = [Built([x, g], y, direct=direct)(xs, gs)[0] - want for direct in (False, True)]
    rms, direct_rms = (np.sqrt(np.mean(error**2)) for error in errors)
    assert rms <= (POSITIVE_RMS_FACTOR if is_positive else RMS_FACTOR) * direct_rms
    assert (np.abs(errors[0]) <= bound(xs, gs, (1, 1))).all()
    by_tiles = np.abs(errors[0]).reshape(1, 32, 7, 2, 7, 2).max(axis=(3, 5))
    assert (by_tiles <= coarse_bound(xs, gs, (1, 1))).all()


# ---- epilogues ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("height", "width"), [(12, 12), (7, 35), (13, 64)])
def test_bias_residual_and_activation(level: str, height: int, width: int) -> None:
    shapes = (2, 6, height, width), (20, 6, 3, 3), (20,), (2, 20, height, width)
    x, g, bias, rest = (gc.input(name, shape) for name, shape in zip("xgbr", shapes, strict=True))
    h = gc.conv2d(x, g, bias=bias, padding=1) + rest
    built = Built([x, g, bias, rest], [gc.relu(h), h, h > 0], target=named_target(level))
    assert len(built.program.kernels) == 1
    xs, gs, bs, rs = normal(7, *shapes)
    got, sums, positive = built(xs, gs, bs, rs)
    want = direct_sum(xs, gs, (1, 1)) + bs[:, None, None] + rs
    slack = bound(xs, gs, (1, 1)) + 2e-7 * (np.abs(want) + np.abs(bs[:, None, None]) + np.abs(rs))
    assert (np.abs(sums - want) <= slack).all()
    assert np.array_equal(got, np.maximum(sums, 0))
    assert np.array_equal(positive, sums > 0)


def test_an_update_with_a_mask() -> None:
    """where(h > 0, dx, 0), as behind a ReLU: the mask is read, the sum is written nowhere else."""
    x, g = gc.input("x", (2, 5, 10, 9)), gc.input("g", (8, 5, 3, 3))
    y = gc.conv2d(gc.relu(x), g, padding=1)
    dy = gc.input("dy", y.shape)
    built = Built([x, g, dy], gc.vjp(y, [x], dy)[0])
    xs, gs, dys = normal(5, (2, 5, 10, 9), (8, 5, 3, 3), (2, 8, 10, 9))
    turned = gs[:, :, ::-1, ::-1].swapaxes(0, 1)
    error = np.abs(built(xs, gs, dys)[0] - np.where(xs > 0, direct_sum(dys, turned, (1, 1)), 0))
    assert (error <= bound(dys, turned, (1, 1))).all()


# ---- threads, memory ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 40, 70, 14, 14), (12, 8, 20, 11, 13), (3, 16, 33, 8, 30)])
def test_two_threads_give_the_same_bits(shape: tuple[int, int, int, int, int]) -> None:
    n, c, k, h, w = shape
    x, g = gc.input("x", (n, c, h, w)), gc.input("g", (k, c, 3, 3))
    y = gc.conv2d(x, g, padding=1)
    xs, gs = normal(1, (n, c, h, w), (k, c, 3, 3))
    one, two = (Built([x, g], y, threads=threads) for threads in (1, 2))
    assert str(one.plans[0]) == str(two.plans[0])
    want = one(xs, gs)[0]
    for _ in range(20):
        assert np.array_equal(two(xs, gs)[0].view(np.uint32), want.view(np.uint32))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("at_end", [False, True])
@pytest.mark.parametrize(("h", "w", "padding"), [(5, 5, (1, 1)), (4, 35, (2, 2)), (6, 18, (0, 0)), (1, 1, (1, 1))])
def test_reads_stay_inside(
    fenced: Any, level: str, at_end: bool, h: int, w: int, padding: tuple[int, int]
) -> None:
    shapes = (2, 3, h, w), (5, 3, 3, 3)
    x, g = (gc.input(name, shape) for name, shape in zip("xg", shapes, strict=True))
    bias = gc.input("b", (5,))
    built = Built([x, g, bias], gc.conv2d(x, g, bias=bias, padding=padding), target=named_target(level))
    xs, gs, bs = (fenced(array, at_end) for array in normal(2, *shapes, (5,)))
    want = direct_sum(xs, gs, padding) + bs[:, None, None]
    assert np.allclose(built(xs, gs, bs)[0], want, atol=1e-4)


# ---- planning -----------------------------------------------------------------------------------------------

# Fixed numbers, so that the choices do not depend on the machine: 512-bit vectors, 1 MiB second level, 16 MiB third.
SERVER = replace(named_target("x86-64-v4"), l1_bytes=32 << 10, l2_bytes=1 << 20, l3_bytes=16 << 20)


def planned(
    n: int, c: int, k: int, h: int, *, padding: int = 1, gradient: bool = False, target: Target = SERVER
) -> WinogradPlan | None:
    x, g = gc.input("x", (n, c, h, h)), gc.input("g", (k, c, 3, 3))
    y = gc.conv2d(x, g, padding=padding)
    inputs, out = [x, g], y
    if gradient:
        dy = gc.input("dy", y.shape)
        inputs, out = [g, dy], gc.vjp(y, [x], dy)[0]
    program = gc.compile(inputs, out, backend="numpy").program
    conv = find_convolution(program, program.kernels[0])
    assert conv is not None
    return plan_winograd(conv, target)


@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("shape", [(8, 64, 64, 56), (8, 128, 128, 28), (64, 32, 64, 26), (1, 64, 64, 56)])
def test_large_convolutions_are_worth_it(shape: tuple[int, int, int, int], gradient: bool) -> None:
    plan = planned(*shape, gradient=gradient)
    assert plan is not None
    registers = plan.panel * plan.splits[0][0] + plan.splits[0][0] + 1
    assert registers <= SERVER.vector_registers
    assert plan.pitch * 4 % 4096 != 0
    assert plan.rows * plan.blocks >= shape[0] * plan.tile_rows > plan.rows * (plan.blocks - 1)


@pytest.mark.parametrize("shape", [(8, 3, 64, 224), (8, 64, 3, 56), (1, 512, 512, 7), (1, 8, 8, 8), (2, 16, 16, 2)])
def test_few_channels_or_tiles_are_not(shape: tuple[int, int, int, int]) -> None:
    assert planned(*shape) is None


def test_tasks_follow_from_shapes() -> None:
    one, many = planned(1, 64, 64, 56), planned(64, 64, 64, 56)
    assert one is not None and many is not None
    assert one.is_shared and one.parts * one.groups >= 8
    assert not many.is_shared and many.blocks >= 64


def test_plans_print() -> None:
    assert str(planned(8, 64, 64, 56)).splitlines()[:3] == [
        "Winograd F(2x2, 3x3) of f32 x 16, 28x28 tiles an image",
        "56 blocks of 4 tile rows: vectors 1x3 2x2, pitch 112",
        "8 panels of 8 output channels, 1 a group",
    ]


@pytest.mark.parametrize("case", [
    {"stride": 2}, {"dilation": 2}, {"groups": 2}, {"taps": 5}, {"taps": 1}, {"dtype": "int32"},
])
def test_other_convolutions_are_left_alone(case: dict[str, Any]) -> None:
    taps, dtype = case.pop("taps", 3), case.pop("dtype", "float32")
    x = gc.input("x", (2, 64, 30, 30), dtype=dtype)
    g = gc.input("g", (64, 64 // case.get("groups", 1), taps, taps), dtype=dtype)
    y = gc.conv2d(x, g, padding=1, **case)
    dy = gc.input("dy", y.shape, dtype=dtype)
    outputs = [y] if dtype == "int32" else [y, gc.vjp(y, [x], dy)[0]]
    program = gc.compile([x, g, dy], outputs, backend="numpy").program
    assert all(find_convolution(program, kernel) is None for kernel in program.kernels)


def test_the_weights_of_a_matrix_product_are_no_kernel() -> None:
    a, b = gc.input("a", (64, 3)), gc.input("b", (3, 64))
    program = gc.compile([a, b], a @ b, backend="numpy").program
    assert find_convolution(program, program.kernels[0]) is None


def test_the_same_input_gives_the_same_text() -> None:
    x, g = gc.input("x", (2, 16, 12, 12)), gc.input("g", (16, 16, 3, 3))
    y = gc.conv2d(x, g, padding=1)
    assert Built([x, g], y).text == Built([x, g], y).text

"""Depthwise convolutions as stencils: against float64 sums made by NumPy, for one to four threads.

Every error is at most  4 sqrt(K) eps  times the sum of the K absolute products of its element (`test_products.check`).
"""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import graphc as gc
from graphc.ir.node import Generic
from graphc.lang.tensor import Tensor
from graphc.program import Program
from graphc_llvm import jit, stencil, stencil_plan
from graphc_llvm import lower as lowering
from graphc_llvm.stencil_match import Tap
from graphc_llvm.stencil_plan import Stencil, plan_stencil
from graphc_llvm.stencil_tile import LARGEST_CODE, Shape, choose_tile
from graphc_llvm.target import Target, host_target, named_target
from tests.backends.llvm.test_products import compare_convolution, convolution, machine, normal

HOST = host_target()
IS_X86 = HOST.triple.startswith("x86_64")
LEVELS = [
    level for level, runs in (("x86-64", True), ("x86-64-v3", HOST.has_fma), ("x86-64-v4", HOST.has_avx512))
    if IS_X86 and runs
]
V4 = replace(named_target("x86-64-v4"), l1_bytes=32768)


@pytest.fixture(autouse=True)
def plans(monkeypatch: pytest.MonkeyPatch) -> list[Stencil]:
    """Tasks are small; gives the plans that were made, in order."""
    made: list[Stencil] = []

    def record(*args: Any) -> Stencil | None:
        plan = plan_stencil(*args)
        made.extend([plan] if plan is not None else [])
        return plan

    monkeypatch.setattr(stencil, "plan_stencil", record)
    monkeypatch.setattr(stencil_plan, "TASK_PRODUCTS", 512)
    return made


def depthwise(
    shape: Sequence[int], window: tuple[int, int], *, multiplier: int = 1, dtype: str = "float32", **options: Any
) -> tuple[gc.Tensor, gc.Tensor, gc.Tensor]:
    """x, w and their convolution."""
    x = gc.input("x", tuple(shape), dtype=dtype)
    w = gc.input("w", (shape[1] * multiplier, 1, *window), dtype=dtype)
    return x, w, gc.conv2d(x, w, groups=shape[1], **options)


def plan_of(shape: Sequence[int], window: tuple[int, int], target: Target = V4, **options: Any) -> Stencil | None:
    """The plan of the one contraction of a depthwise convolution."""
    x, w, y = depthwise(shape, window, **options)
    program = gc.compile([x, w], y, backend="numpy").program
    (kernel,) = (kernel for kernel in program.kernels if kernel.kind == "contraction")
    return plan_stencil(program, kernel, target)


# ---- values ------------------------------------------------------------------------------------------------


@settings(  # `plans` only patches
    max_examples=settings.default.max_examples // 2, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    images=st.integers(1, 3), channels=st.sampled_from([1, 2, 5]), multiplier=st.sampled_from([1, 1, 2]),
    window=st.tuples(st.integers(1, 5), st.integers(1, 7)), stride=st.tuples(st.integers(1, 3), st.integers(1, 2)),
    dilation=st.tuples(st.integers(1, 3), st.integers(1, 3)), padding=st.tuples(st.integers(0, 4), st.integers(0, 7)),
    extra=st.tuples(st.integers(0, 20), st.integers(0, 70)), dtype=st.sampled_from(["float32", "float32", "float64"]),
    level=st.sampled_from([None, 2048]), threads=st.integers(2, 4),
)
def test_convolutions_and_their_gradients(
    images: int, channels: int, multiplier: int, window: tuple[int, int], stride: tuple[int, int],
    dilation: tuple[int, int], padding: tuple[int, int], extra: tuple[int, int], dtype: str, level: int | None,
    threads: int,
) -> None:
    size = [max(1, d * (k - 1) + 1 - 2 * p) + e for d, k, p, e in zip(dilation, window, padding, extra, strict=True)]
    x = normal((images, channels, *size), 0, dtype)
    w = normal((channels * multiplier, 1, *window), 1, dtype)
    compare_convolution(x, w, stride, padding, dilation, channels, machine(level), threads)


@pytest.mark.parametrize("width", [4, 7, 8, 9, 16, 17, 33, 113])
@pytest.mark.parametrize("stride", [1, 2])
def test_widths_around_the_vector(plans: list[Stencil], width: int, stride: int) -> None:
    wide = stride * (width - 1) + 1
    compare_convolution(
        normal((2, 3, 9, wide), 0), normal((3, 1, 3, 3), 1), (stride, stride), (1, 1), (1, 1), 3, machine(None), 3
    )
    assert plans[0].columns == width and plans[0].plane is None


@pytest.mark.parametrize(("window", "padding", "dilation"), [((7, 7), 3, 1), ((9, 8), 4, 1), ((7, 7), 9, 3)])
@pytest.mark.parametrize("stride", [1, 2])
def test_large_windows_are_copied(
    plans: list[Stencil], window: tuple[int, int], padding: int, dilation: int, stride: int
) -> None:
    compare_convolution(
        normal((1, 3, 40, 36), 0), normal((3, 1, *window), 1), (stride, stride), (padding, padding),
        (dilation, dilation), 3, machine(2048), 4
    )
    assert plans[0].plane is not None


@pytest.mark.parametrize("window", [3, 7])
@pytest.mark.parametrize("shape", [(1, 1, 75, 50), (1, 2, 64, 300), (3, 7, 20, 20)])
def test_any_number_of_threads_gives_the_same_bits(
    plans: list[Stencil], shape: tuple[int, ...], window: int
) -> None:
    x, w, y = depthwise(shape, (window, window), padding=window // 2)
    arrays = normal(shape, 0), normal((shape[1], 1, window, window), 1)
    results = [gc.compile([x, w], y, threads=threads)(*arrays) for threads in (1, 2, 3, 4)]
    assert plans[0].tasks > 4
    assert (plans[0].parts > 1) is (plans[0].planes < 4)
    assert all(np.array_equal(results[0], other) for other in results[1:])
    wide = [array.astype("float64") for array in arrays]
    want = convolution(*wide, None, (1, 1), (window // 2,) * 2, (1, 1), shape[1])[0]
    assert np.abs(results[0] - want).max() < 1e-4


@pytest.mark.parametrize("length", [40, 300])
def test_one_dimension(plans: list[Stencil], length: int) -> None:
    x, w = gc.input("x", (3, 4, length)), gc.input("w", (4, 1, 5))
    arrays = normal((3, 4, length), 0), normal((4, 1, 5), 1)
    got = gc.compile([x, w], gc.conv1d(x, w, padding=2, groups=4))(*arrays)
    wide = [array.astype("float64")[:, :, None] for array in arrays]
    want = convolution(*wide, None, (1, 1), (0, 2), (1, 1), 4)[0]
    assert len(plans) == 1 and np.abs(got - want[:, :, 0]).max() < 1e-5


@pytest.mark.parametrize("window", [3, 7])
@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_integers_are_exact(plans: list[Stencil], dtype: str, window: int) -> None:
    x, w, y = depthwise((2, 3, 19, 21), (window, window), padding=1, dtype=dtype)
    rng = np.random.default_rng(0)
    arrays = [rng.integers(-50, 50, shape).astype(dtype) for shape in (x.shape, w.shape)]
    got = gc.compile([x, w], y)(*arrays)
    want = convolution(*arrays, None, (1, 1), (1, 1), (1, 1), 3)[0]
    assert len(plans) == 1 and np.array_equal(got, want.astype(dtype))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("window", "stride"), [(3, 1), (3, 2), (7, 1), (7, 2)])
def test_each_level(plans: list[Stencil], level: str, window: int, stride: int) -> None:
    x, w, y = depthwise((2, 3, 18, 37), (window, window), padding=window // 2, stride=stride)
    dy = gc.input("dy", y.shape)
    outputs = [y, gc.vjp(y, [x], dy)[0]]
    arrays = [normal(tensor.shape, seed) for seed, tensor in enumerate((x, w, dy))]
    got = gc.compile([x, w, dy], outputs, cpu=level)(*arrays)
    wide = [array.astype("float64") for array in arrays]
    options = (stride, stride), (window // 2,) * 2, (1, 1), 3
    want = [convolution(*wide[:2], None, *options)[0], convolution(*wide, *options)[0]]
    assert len(plans) >= 2
    for one, exact in zip(got, want, strict=True):
        assert np.abs(one - exact).max() < 1e-4


def test_neon_compiles() -> None:
    target = named_target("neon")
    for window, stride in itertools.product((3, 7), (1, 2)):
        x, w, y = depthwise((2, 3, 18, 37), (window, window), padding=1, stride=stride)
        module, _ = lowering.lower(gc.compile([x, w], y, backend="numpy").program, target)
        assert jit.compile_object(module.text(), target)


# ---- epilogues ---------------------------------------------------------------------------------------------


def fused(window: int, epilogue: str) -> tuple[list[gc.Tensor], gc.Tensor]:
    """A depthwise convolution with stages after it in the five axes of its sum, in which the planner fuses."""
    x, w, y = depthwise((2, 3, 13, 37), (window, window), padding=window // 2)
    bias, rest = gc.input("b", (3, 1, 1, 1)), gc.input("r", (2, 3, 1, 13, 37))
    total = Tensor(y.node.operands[0]) + bias
    match epilogue:
        case "short":
            return [x, w, bias, rest], gc.relu(total + rest)
        case "long":
            return [x, w, bias, rest], gc.tanh(total) * gc.exp(rest) + gc.sin(total)
    return [x, w, bias, rest], total > rest


@pytest.mark.parametrize("window", [3, 7])
@pytest.mark.parametrize("epilogue", ["short", "long", "bool"])
@pytest.mark.parametrize("level", ["native", *LEVELS[:1]])
def test_epilogues(plans: list[Stencil], window: int, epilogue: str, level: str) -> None:
    inputs, output = fused(window, epilogue)
    arrays = [normal(tensor.shape, seed) for seed, tensor in enumerate(inputs)]
    compiled = gc.compile(inputs, output, cpu=level, threads=2)
    assert [len(kernel.stages) > 1 for kernel in compiled.program.kernels] == [True]
    want = gc.compile(inputs, output, backend="numpy")(*arrays)
    got = compiled(*arrays)
    assert len(plans) == 1
    if epilogue == "bool":
        assert got.dtype == np.bool_ and np.array_equal(got, want)
    else:
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


# ---- memory ------------------------------------------------------------------------------------------------


def run_fenced(program: Program, level: str, arrays: Sequence[np.ndarray], fenced: Any, at_end: bool) -> np.ndarray:
    """The only output of a program, all of whose memory is fenced and full of NaNs."""
    target = host_target(level)
    module, layout = lowering.lower(program, target)
    library = jit.load(jit.compile_object(module.text(), target))
    (name,) = layout.outputs
    output = fenced(np.full(program.by_name[name].shape, np.nan, program.by_name[name].dtype), at_end)
    arena = fenced(np.full(-(-layout.arena_bytes // 64) * 64, 0xFF, np.uint8), at_end)
    table = (ctypes.c_void_p * (len(arrays) + 1))(*(array.ctypes.data for array in (*arrays, output)))
    entry = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)(library.address("entry"))
    assert entry(ctypes.addressof(table), arena.ctypes.data) == 0
    return output


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("at_end", [False, True])
@pytest.mark.parametrize(
    ("size", "window", "padding", "stride"),
    [((9, 37), 3, 1, 1), ((9, 16), 3, 0, 1), ((11, 41), 3, 1, 2), ((6, 8), 5, 4, 2), ((20, 33), 7, 3, 1),
     ((21, 29), 7, 0, 2)],
)
def test_no_memory_outside_is_touched(
    plans: list[Stencil], fenced: Any, level: str, at_end: bool, size: tuple[int, int], window: int, padding: int,
    stride: int,
) -> None:
    x, w, y = depthwise((1, 2, *size), (window, window), padding=padding, stride=stride)
    program = gc.compile([x, w], y, backend="numpy").program
    arrays = [fenced(normal(tensor.shape, seed), at_end) for seed, tensor in enumerate((x, w))]
    got = run_fenced(program, level, arrays, fenced, at_end)
    wide = [array.astype("float64") for array in arrays]
    want = convolution(*wide, None, (stride, stride), (padding, padding), (1, 1), 2)[0]
    assert len(plans) == 1 and np.abs(got.reshape(want.shape) - want).max() < 1e-4


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("at_end", [False, True])
def test_an_epilogue_touches_no_memory_outside(
    plans: list[Stencil], fenced: Any, level: str, at_end: bool
) -> None:
    inputs, output = fused(3, "short")
    program = gc.compile(inputs, output, backend="numpy").program
    arrays = [fenced(normal(tensor.shape, seed), at_end) for seed, tensor in enumerate(inputs)]
    want = gc.compile(inputs, output, backend="numpy")(*arrays)
    got = run_fenced(program, level, arrays, fenced, at_end)
    assert len(plans) == 1 and np.abs(got - want).max() < 1e-4


# ---- plans -------------------------------------------------------------------------------------------------


def test_the_plan_of_a_small_window_prints() -> None:
    assert str(plan_of((8, 32, 56, 56), (3, 3), padding=1)).splitlines() == [
        "stencil of 9 taps on x, weights w in registers; f32, 16 lanes; outer i<8 j<32",
        "steps 1 x 1; tiles: rows 14x4, vectors 1x4, the last of 8 lanes; taps written out",
        "image in place; 1 a plane; tasks: 32",
    ]


def test_the_plan_of_a_large_window_prints() -> None:
    assert str(plan_of((8, 96, 56, 56), (7, 7), padding=3)).splitlines() == [
        "stencil of 49 taps on x, weights w a column at a time; f32, 16 lanes; outer i<8 j<96",
        "steps 1 x 1; tiles: rows 14x4, vectors 1x4, the last of 8 lanes; taps in a loop over columns",
        "copy of 62 rows from -3, pitch 80, 16 zeros first; 1 a plane; tasks: 32",
    ]


def test_large_planes_are_copied_in_bands() -> None:
    plan = plan_of((4, 16, 224, 224), (7, 7), padding=3)
    assert plan is not None and plan.plane is not None
    assert plan.parts > 1
    assert plan.plane.size * 4 <= V4.l1_bytes
    assert plan.plane.rows >= 5 * plan.reach  # what neighbouring bands copy twice is the smaller part


def test_narrow_images_use_narrow_vectors() -> None:
    plans = {width: plan_of((8, 64, 28, width), (3, 3), padding=1) for width in (4, 7, 8, 9, 28)}
    assert {width: plan and plan.lanes for width, plan in plans.items()} == {4: 4, 7: 8, 8: 8, 9: 16, 28: 16}


def test_column_tiles_with_the_same_masks_are_one_loop() -> None:
    plan = plan_of((1, 8, 30, 640), (3, 3), padding=1)
    assert plan is not None
    assert sum(run.count for run in plan.runs) == sum(count for _, count in plan.column_tiles)
    assert max(run.count for run in plan.runs) > 4
    assert len(plan.runs) <= 4
    middle = next(run for run in plan.runs if run.count > 1)
    assert all(bounds == (0, 16) for bounds in middle.masks(plan))


@pytest.mark.parametrize("shape", [
    (1, 1, 8, 28, 28, 2), (1, 2, 16, 28, 28, 1), (1, 8, 64, 56, 3, 1),
])
def test_what_is_no_stencil_is_left_to_contractions(shape: tuple[int, ...]) -> None:
    """Several channels in a group, or too few columns for the lanes."""
    n, groups, channels, h, w, depth = shape
    x, g = gc.input("x", (n, groups * max(depth, 2), h, w)), gc.input("w", (channels, max(depth, 2), 3, 3))
    program = gc.compile([x, g], gc.conv2d(x, g, padding=1, groups=groups), backend="numpy").program
    assert all(plan_stencil(program, kernel, V4) is None for kernel in program.kernels)


def test_weights_that_leave_their_array_are_no_weights() -> None:
    """Strided gradients may read w outside of its array, where a tap has no weight to load."""
    x, w, y = depthwise((2, 2, 21, 23), (3, 3), padding=1)
    program = gc.compile([x, w], y, backend="numpy").program
    (kernel,) = program.kernels
    (stage,) = kernel.stages
    node = stage.node
    assert isinstance(node, Generic) and plan_stencil(program, kernel, V4) is not None
    open_node: Generic = Generic(
        node.domain, node.shape, node.out_map, node.operands, node.maps, ("zero", "zero"), node.body, node.reducer
    )
    assert plan_stencil(program, replace(kernel, stages=(replace(stage, node=open_node),)), V4) is None


@pytest.mark.parametrize("target", [V4, named_target("x86-64-v3"), named_target("x86-64"), named_target("neon")])
@pytest.mark.parametrize("window", [3, 5, 7])
@pytest.mark.parametrize("step", [1, 2])
def test_tiles_fit_the_registers_and_are_not_long(target: Target, window: int, step: int) -> None:
    lanes = target.lanes("f32")
    taps = tuple(Tap(r, c, r * window + c) for r in range(window) for c in range(window))
    for size in (7, 14, 28, 56, 112, 224):
        vectors = -(-size // lanes)
        shape = Shape(taps, size, vectors, lanes, step, step, size * step, size * step, lanes * 4,
                      target.vector_registers)
        tile = choose_tile(shape)
        assert tile is not None
        held = len(taps) if tile.keeps_weights else window
        assert tile.rows * tile.vectors == 1 or tile.rows * tile.vectors + held + 2 <= target.vector_registers
        x, w, y = depthwise((1, 32, size * step, size * step), (window, window), padding=window // 2, stride=step)
        module, _ = lowering.lower(gc.compile([x, w], y, backend="numpy").program, target)
        text = module.text()
        sums = text.count("call <") - text.count("@llvm.masked") if target.has_fma else text.count(" fadd <")
        assert sums <= LARGEST_CODE


def test_the_same_program_gives_the_same_text() -> None:
    x, w, y = depthwise((2, 3, 30, 40), (3, 3), padding=1, stride=2)
    program = gc.compile([x, w], y, backend="numpy").program
    texts = {lowering.lower(program, V4)[0].text() for _ in range(2)}
    assert len(texts) == 1

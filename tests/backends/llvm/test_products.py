"""Matrix products and convolutions, compiled and called: against float64 sums made by NumPy, for one to four threads.

Every error is at most  4 sqrt(K) eps  times the sum of the K absolute products of its element. Tasks are made small
and caches are, so that little shapes are cut, packed and blocked in all the ways that big ones are. Winograd's
algorithm is off: it has a bound of its own, in `test_winograd`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphc as gc
from graphc_llvm import contraction_cost, contraction_plan, contraction_tasks, executable
from graphc_llvm.target import Target, host_target

EXTENTS = st.sampled_from([0, 1, 2, 3, 5, 8, 13, 16, 17, 33, 40])


def machine(level: int | None, cpu: str = "native") -> Target:
    """This processor, or what it has of a lesser one, with a second-level cache of `level` bytes (None: its own)."""
    target = host_target(cpu)
    return target if level is None else replace(target, l1_bytes=level // 4, l2_bytes=level, l3_bytes=level * 4)


MACHINES = [machine(None), machine(2048), machine(32768)]
if host_target().triple.startswith("x86_64"):
    MACHINES.append(machine(4096, "x86-64"))
    if host_target().has_fma:
        MACHINES.append(machine(16384, "x86-64-v3"))
TARGETS = st.sampled_from(MACHINES)


@contextmanager
def small(target: Target) -> Iterator[None]:
    """Small tasks, and code for `target`."""
    tasks = {"TASK_PRODUCTS": 512, "TASK_ELEMENTS": 128, "LEAST_OUTER": 2}
    plans = {"LEAST_BLOCKED": 3, "LONG_SUM": 256, "SHORTEST_PART": 4, "FEWEST_PARTS": 2, "MOST_PARTS": 5}
    with mock.patch.multiple(contraction_tasks, **tasks), mock.patch.multiple(contraction_plan, **plans):
        with mock.patch.object(executable, "runnable_target", lambda cpu: target):
            yield


def check(
    inputs: Sequence[gc.Tensor], outputs: Sequence[gc.Tensor], arrays: Sequence[np.ndarray],
    want: Sequence[np.ndarray], magnitudes: Sequence[np.ndarray], depths: Sequence[int], target: Target,
    threads: int = 2,
) -> None:
    """Compile with one thread and with several; compare both with each other and with `want`."""
    with small(target):
        alone = gc.compile(inputs, list(outputs), threads=1, winograd=False)(*arrays)
        shared = gc.compile(inputs, list(outputs), threads=threads, winograd=False)(*arrays)
    for one, other, exact, magnitude, depth in zip(alone, shared, want, magnitudes, depths, strict=True):
        assert np.array_equal(one, other), "the number of threads changes the result"
        assert one.shape == exact.shape
        bound = 4 * np.sqrt(max(depth, 1)) * np.finfo(one.dtype).eps * magnitude
        assert np.all(np.abs(one - exact) <= bound)


def normal(shape: Sequence[int], seed: int, dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


# ---- matrix products ---------------------------------------------------------------------------------------


@settings(max_examples=settings.default.max_examples // 2)
@given(
    m=EXTENTS, n=EXTENTS, k=EXTENTS, forms=st.sampled_from(["NN", "NT", "TN", "TT"]),
    batch=st.sampled_from([(), (), (1,), (3,), (2, 5)]), dtype=st.sampled_from(["float32", "float64"]),
    target=TARGETS, threads=st.integers(2, 4),
)
def test_products(
    m: int, n: int, k: int, forms: str, batch: tuple[int, ...], dtype: str, target: Target, threads: int
) -> None:
    def form(matrix: Any, letter: str) -> Any:
        return matrix if letter == "N" else matrix.swapaxes(-1, -2)

    shapes = [(*batch, *(p if f == "N" else p[::-1])) for p, f in zip(((m, k), (k, n)), forms, strict=True)]
    a, b = (normal(shape, seed, dtype) for seed, shape in enumerate(shapes))
    left, right = (gc.input(name, shape, dtype=dtype) for name, shape in zip("ab", shapes, strict=True))

    def transposed(tensor: gc.Tensor, letter: str) -> gc.Tensor:
        rank = len(tensor.shape)
        return tensor if letter == "N" else gc.transpose(tensor, (*range(rank - 2), rank - 1, rank - 2))

    one, other = (form(x.astype("float64"), f) for x, f in zip((a, b), forms, strict=True))
    out = transposed(left, forms[0]) @ transposed(right, forms[1])
    check([left, right], [out], [a, b], [one @ other], [abs(one) @ abs(other)], [k], target, threads)


@pytest.mark.parametrize("size", [(1, 40), (40, 1), (40, 300), (300, 40), (0, 5), (5, 0)])
def test_a_matrix_times_a_vector_both_ways_and_the_outer_product(size: tuple[int, int]) -> None:
    m, n = size
    a, x, y = normal(size, 0), normal((n,), 1), normal((m,), 2)
    left, right, lower = gc.input("a", size), gc.input("x", (n,)), gc.input("y", (m,))
    wide = [array.astype("float64") for array in (a, x, y)]
    want = [wide[0] @ wide[1], wide[2] @ wide[0], np.outer(wide[2], wide[1])]
    magnitudes = [abs(wide[0]) @ abs(wide[1]), abs(wide[2]) @ abs(wide[0]), abs(want[2])]
    outputs = [left @ right, lower @ left, gc.outer(lower, right)]
    check([left, right, lower], outputs, [a, x, y], want, magnitudes, [n, m, 1], machine(None))


def test_both_operands_may_be_views_of_one_array() -> None:
    x = gc.input("x", (40, 60))
    array = normal((40, 60), 3)
    wide = array.astype("float64")
    outputs = [x @ x.T, x.T @ x, x[1:31, 2:32] @ x[5:35, 7:47], gc.reshape(x, (60, 40)) @ x]
    pairs = [(wide, wide.T), (wide.T, wide), (wide[1:31, 2:32], wide[5:35, 7:47]), (wide.reshape(60, 40), wide)]
    want = [one @ other for one, other in pairs]
    magnitudes = [abs(one) @ abs(other) for one, other in pairs]
    check([x], outputs, [array], want, magnitudes, [60, 40, 30, 40], machine(4096))


# ---- convolutions ------------------------------------------------------------------------------------------


def convolution(
    x: np.ndarray, w: np.ndarray, dy: np.ndarray | None, stride: tuple[int, int], padding: tuple[int, int],
    dilation: tuple[int, int], groups: int,
) -> list[np.ndarray]:
    """Y, or with dy its gradients: one tap after the other."""
    height, width = x.shape[2:]
    padded = np.pad(x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2))
    axes = zip(padded.shape[2:], w.shape[2:], dilation, stride, strict=True)
    size = [(extent - d * (k - 1) - 1) // s + 1 for extent, k, d, s in axes]
    y, dx, dw = np.zeros((len(x), len(w), *size)), np.zeros(padded.shape), np.zeros(w.shape)
    outs, ins = len(w) // groups, x.shape[1] // groups
    for group, p, q in itertools.product(range(groups), range(w.shape[2]), range(w.shape[3])):
        rows = slice(p * dilation[0], p * dilation[0] + stride[0] * (size[0] - 1) + 1, stride[0])
        columns = slice(q * dilation[1], q * dilation[1] + stride[1] * (size[1] - 1) + 1, stride[1])
        o, i = slice(group * outs, (group + 1) * outs), slice(group * ins, (group + 1) * ins)
        y[:, o] += np.einsum("nchw,oc->nohw", padded[:, i, rows, columns], w[o, :, p, q])
        if dy is not None:
            dx[:, i, rows, columns] += np.einsum("nohw,oc->nchw", dy[:, o], w[o, :, p, q])
            dw[o, :, p, q] += np.einsum("nohw,nchw->oc", dy[:, o], padded[:, i, rows, columns])
    if dy is None:
        return [y]
    return [dx[:, :, padding[0] : padding[0] + height, padding[1] : padding[1] + width], dw]


PAIRS = st.tuples(st.integers(1, 3), st.integers(1, 3))


@settings(max_examples=settings.default.max_examples // 2)
@given(
    images=st.sampled_from([1, 2, 5]), channels=st.sampled_from([1, 2, 3, 7]), outs=st.sampled_from([1, 2, 6, 17]),
    groups=st.sampled_from([1, 1, 2, 3]), kernel=PAIRS, stride=PAIRS, dilation=PAIRS,
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)), extra=st.tuples(st.integers(0, 17), st.integers(0, 20)),
    dtype=st.sampled_from(["float32", "float32", "float64"]), target=TARGETS, threads=st.integers(2, 4),
)
def test_convolutions_and_their_gradients(
    images: int, channels: int, outs: int, groups: int, kernel: tuple[int, int], stride: tuple[int, int],
    dilation: tuple[int, int], padding: tuple[int, int], extra: tuple[int, int], dtype: str, target: Target,
    threads: int,
) -> None:
    size = [
        max(1, d * (k - 1) + 1 - 2 * p) + e for d, k, p, e in zip(dilation, kernel, padding, extra, strict=True)
    ]
    x = normal((images, channels * groups, *size), 0, dtype)
    w = normal((outs * groups, channels, *kernel), 1, dtype)
    compare_convolution(x, w, stride, padding, dilation, groups, target, threads)


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise(stride: int, padding: int) -> None:
    x, w = normal((2, 9, 19, 23), 0), normal((9, 1, 3, 3), 1)
    compare_convolution(x, w, (stride, stride), (padding, padding), (1, 1), 9, machine(None), 3)


@pytest.mark.parametrize(("window", "stride"), [(11, 4), (4, 2), (4, 4), (7, 3)])
def test_strides_that_divide_the_window_nearly(window: int, stride: int) -> None:
    x, w = normal((2, 3, 35, 38), 0), normal((8, 3, window, window), 1)
    compare_convolution(x, w, (stride, stride), (2, 2), (1, 1), 1, machine(None), 2)


def compare_convolution(
    x: np.ndarray, w: np.ndarray, stride: tuple[int, int], padding: tuple[int, int], dilation: tuple[int, int],
    groups: int, target: Target, threads: int,
) -> None:
    options = (stride, padding, dilation, groups)
    wide = [x.astype("float64"), w.astype("float64")]
    (y,) = convolution(*wide, None, *options)
    dy = normal(y.shape, 2, str(x.dtype))
    image, weight = gc.input("x", x.shape, dtype=str(x.dtype)), gc.input("w", w.shape, dtype=str(x.dtype))
    upstream = gc.input("dy", y.shape, dtype=str(x.dtype))
    out = gc.conv2d(image, weight, stride=stride, padding=padding, dilation=dilation, groups=groups)
    assert out.shape == y.shape
    wide.append(dy.astype("float64"))
    want = [y, *convolution(*wide, *options)]
    absolute = [abs(array) for array in wide]
    magnitudes = [*convolution(*absolute[:2], None, *options), *convolution(*absolute, *options)]
    taps = w.shape[2] * w.shape[3]
    depths = [w.shape[1] * taps, len(w) // groups * taps, y.size // max(y.shape[1], 1)]
    outputs = [out, *gc.vjp(out, [image, weight], upstream)]
    check([image, weight, upstream], outputs, [x, w, dy], want, magnitudes, depths, target, threads)


@pytest.mark.parametrize("images", [1, 9])
@pytest.mark.parametrize("stride", [1, 2])
def test_copies_in_strips(images: int, stride: int) -> None:
    x, w = normal((images, 6, 48, 20), 0), normal((3, 6, 3, 3), 1)
    weight, image = gc.input("w", w.shape), gc.input("x", x.shape)
    compare_convolution(x, w, (stride, stride), (1, 1), (1, 1), 1, machine(8192), 3)
    program = gc.compile([image, weight], gc.conv2d(image, weight, padding=1), threads=1, winograd=False).program
    tiny = replace(host_target(), l1_bytes=2048, l2_bytes=8192, l3_bytes=32768)
    schedule = contraction_plan.plan_contraction(program, program.kernels[0], tiny)
    assert schedule is not None and schedule.strip is not None


@pytest.mark.parametrize("which", ["forward", "image", "weight", "product"])
def test_every_choice_of_tiles_computes_the_same(which: str) -> None:
    x, w, dy = normal((2, 5, 9, 18), 0), normal((7, 5, 3, 3), 1), normal((2, 7, 9, 18), 2)
    image, weight, upstream = gc.input("x", x.shape), gc.input("w", w.shape), gc.input("dy", dy.shape)
    out = gc.conv2d(image, weight, padding=1)
    left, right = gc.input("x", (37, 41)), gc.input("w", (43, 41))
    cases: dict[str, tuple[list[gc.Tensor], gc.Tensor, list[np.ndarray]]] = {
        "forward": ([image, weight], out, [x, w]),
        "image": ([upstream, weight], gc.vjp(out, image, upstream), [dy, w]),
        "weight": ([upstream, image], gc.vjp(out, weight, upstream), [dy, x]),
        "product": ([left, right], left @ right.T, [normal((37, 41), 3), normal((43, 41), 4)]),
    }
    inputs, output, arrays = cases[which]
    want = gc.compile(inputs, output, backend="numpy")(*arrays)
    tilings: list[contraction_cost.Tiling] = []

    def remember(work: contraction_cost.Work, target: Target, lanes: int) -> contraction_cost.Tiling:
        tilings.extend(contraction_cost._candidates(work, target, lanes))
        return tilings[0]

    with mock.patch.object(contraction_plan, "choose_tiling", remember):
        gc.compile(inputs, output, threads=1, winograd=False)
    random = np.random.default_rng(0)
    assert any(tiling.along_k for tiling in tilings) is (which != "image")
    for number in random.choice(len(tilings), 12, replace=False):
        with mock.patch.object(contraction_plan, "choose_tiling", lambda *_, chosen=tilings[number]: chosen):
            got = gc.compile(inputs, output, threads=2, winograd=False)(*arrays)
        assert np.allclose(got, want, rtol=1e-4, atol=1e-4), tilings[number]


@settings(max_examples=settings.default.max_examples // 4)
@given(
    channels=st.integers(1, 5), outs=st.integers(1, 9), kernel=st.integers(1, 4), stride=st.integers(1, 3),
    length=st.integers(1, 25), dilation=st.integers(1, 2), threads=st.integers(2, 4),
)
def test_transposed_and_one_dimensional(
    channels: int, outs: int, kernel: int, stride: int, length: int, dilation: int, threads: int
) -> None:
    x, w = normal((2, channels, length, 6), 0), normal((channels, outs, kernel, 2), 1)
    image, weight = gc.input("x", x.shape), gc.input("w", w.shape)
    out = gc.conv_transpose2d(image, weight, stride=(stride, 1), dilation=(dilation, 1))
    height = (length - 1) * stride + dilation * (kernel - 1) + 1
    like = np.zeros((2, outs, height, 7))
    options = ((stride, 1), (0, 0), (dilation, 1), 1)
    wide = [x.astype("float64"), w.astype("float64")]
    want = convolution(like, wide[1], wide[0], *options)[0]
    magnitude = convolution(like, abs(wide[1]), abs(wide[0]), *options)[0]
    depth = channels * kernel * 2
    check([image, weight], [out], [x, w], [want], [magnitude], [depth], machine(None), threads)


@pytest.mark.parametrize("rows, depth, columns", [(64, 9216, 128), (16, 20000, 32), (33, 8300, 100), (1, 30000, 50)])
def test_deep_sums_over_neighbours(rows: int, depth: int, columns: int) -> None:
    x, w = gc.input("x", (rows, depth)), gc.input("w", (columns, depth))
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=shape).astype("float32") for shape in ((rows, depth), (columns, depth)))
    found = gc.compile([x, w], gc.einsum("bk,ok->bo", x, w), threads=2)(a, b)
    exact, size = a.astype("float64") @ b.astype("float64").T, np.abs(a) @ np.abs(b).T
    assert np.all(np.abs(found - exact) <= 4 * np.sqrt(depth) * np.finfo("float32").eps * size)

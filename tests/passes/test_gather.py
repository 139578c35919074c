"""Gather form: sums that scatter become sums with one writer an element."""

from __future__ import annotations

import itertools

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import graphc as gc
from graphc.ir import scalar as sc
from graphc.ir.affine import AffineMap, affine, axis_row
from graphc.ir.classify import Scatter, classify
from graphc.ir.graph import Graph
from graphc.ir.node import INSIDE, Generic, Join, generic, leaf
from graphc.passes.gather import gather
from tests.passes.support import keeps_meaning


def no_scatter(graph):
    for node in graph.nodes:
        if isinstance(node, Generic):
            assert not isinstance(classify(node), Scatter), f"{node}\n{graph}"
    return graph


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize("dilation", [1, 2, 3])
def test_gradient_of_a_convolution(stride, padding, dilation):
    for kernel, extent in itertools.product((1, 2, 3), (7, 8)):
        x = gc.input("x", (2, 2, extent), "float64")
        w = gc.input("w", (3, 2, kernel), "float64")
        y = gc.conv1d(x, w, stride=stride, padding=padding, dilation=dilation)
        upstream = gc.input("upstream", y.shape, "float64")
        no_scatter(keeps_meaning(gather, *gc.vjp(y, [x, w], upstream)))


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(2, 2, 0), (3, 1, 1), (3, 2, 1), (2, 3, 0)])
def test_gradient_of_pooling(kernel, stride, padding):
    x = gc.input("x", (1, 2, 7, 7), "float64")
    for pool in (gc.max_pool2d, gc.avg_pool2d):
        y = pool(x, kernel, stride, padding)
        upstream = gc.input("upstream", y.shape, "float64")
        no_scatter(keeps_meaning(gather, gc.vjp(y, x, upstream)))


@pytest.mark.parametrize(
    "read",
    [
        lambda x: x[::-1],
        lambda x: x[2:],
        lambda x: x[:-3:2],
        lambda x: x[::-3],
        lambda x: gc.pad(x, 2),
        lambda x: gc.concatenate([x[3:], x]),
        lambda x: gc.stack([x, x[::-1]]),
        lambda x: gc.tile(x, 3),
        lambda x: gc.repeat(x, 2, axis=0),
    ],
    ids=["flip", "slice", "step", "negative step", "pad", "concatenate", "stack", "tile", "repeat"],
)
def test_gradient_of_a_re_read(read):
    x = gc.input("x", (7,), "float64")
    y = read(x)
    upstream = gc.input("upstream", y.shape, "float64")
    no_scatter(keeps_meaning(gather, gc.vjp(y, x, upstream)))


@st.composite
def scatters(draw):
    """A sum whose output row has one to three axes with any coefficients, its points anywhere around the output."""
    rank = draw(st.integers(1, 3))
    domain = tuple(draw(st.lists(st.integers(1, 4), min_size=rank, max_size=rank)))
    coefficients = draw(st.lists(st.sampled_from([-3, -2, -1, 1, 2, 3]), min_size=1, max_size=rank))
    row = affine(dict(enumerate(coefficients)), draw(st.integers(-4, 4)))
    extent = draw(st.integers(1, 7))
    x = leaf("x", domain, "float64", "input")
    body = sc.apply("exp", sc.Arg(0, "float64"))
    maps = (AffineMap(rank, tuple(axis_row(axis) for axis in range(rank))),)
    return generic(domain, (extent,), AffineMap(rank, (row,)), (x,), maps, (INSIDE,), body, "sum")


@given(scatters())
def test_any_row_is_solved(node):
    no_scatter(keeps_meaning(gather, gc.Tensor(node)))


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(0, 2))
def test_two_rows_at_once(stride, other, kernel, dilation, padding):
    x, w = gc.input("x", (1, 1, 6, 5), "float64"), gc.input("w", (1, 1, kernel, 2), "float64")
    reach = (kernel - 1) * dilation + 1
    if reach > 6 + 2 * padding:
        return
    y = gc.conv2d(x, w, stride=(stride, other), padding=padding, dilation=(dilation, 1))
    upstream = gc.input("upstream", y.shape, "float64")
    no_scatter(keeps_meaning(gather, *gc.vjp(y, [x, w], upstream)))


def test_a_strided_gradient_is_a_join_of_its_residues():
    x, w = gc.input("x", (1, 1, 8), "float64"), gc.input("w", (1, 1, 3), "float64")
    y = gc.conv1d(x, w, stride=2)
    (node,) = gather(Graph((gc.vjp(y, x, gc.input("upstream", y.shape, "float64")).node,))).outputs
    assert isinstance(node, Join) and len(node.parts) == 2
    assert sorted(part.out_map.rows[2].const for part in node.parts) == [0, 1]


def test_a_residue_that_nothing_writes_is_zero():
    x, w = gc.input("x", (1, 1, 7), "float64"), gc.input("w", (1, 1, 1), "float64")
    y = gc.conv1d(x, w, stride=3)
    gradient = gc.vjp(y, x, gc.ones(y.shape, "float64"))
    keeps_meaning(gather, gradient, values={x.node: np.ones((1, 1, 7)), w.node: np.full((1, 1, 1), 2.0)})


def test_no_nan_arises_at_the_border():
    """The padded read of 1/x must not compute 1/0, forward or backward."""
    x = gc.input("x", (1, 1, 5), "float64")
    y = gc.conv1d(1 / x + gc.log(x), gc.ones((1, 1, 3), "float64"), padding=2)
    graph = keeps_meaning(gather, y, gc.grad(gc.sum(y), x), values={x.node: np.arange(1.0, 6.0).reshape(1, 1, 5)})
    no_scatter(graph)


def test_what_is_in_gather_form_already_is_left_alone():
    x = gc.input("x", (3, 4))
    graph = Graph(((x @ x.T).node, gc.max(x, 0).node, gc.softmax(x).node))
    assert gather(graph).outputs == graph.outputs


@pytest.mark.parametrize("kernel, stride, padding", [(3, 2, 1), (3, 2, 0), (2, 1, 0), (5, 2, 2), (4, 3, 1)])
@pytest.mark.parametrize("pool", [gc.max_pool2d, gc.avg_pool2d])
def test_the_gradient_of_overlapping_windows(pool, kernel, stride, padding):
    x = gc.input("x", (2, 2, 9, 11), "float64")
    y = pool(x, kernel, stride, padding)
    loss = gc.sum(y * y)
    graph = keeps_meaning(gather, gc.grad(loss, x), rtol=1e-13)
    for node in graph.nodes:
        if isinstance(node, Join) and (kernel, stride) == (3, 2):
            assert all(part.reducer is None for part in node.parts)
    at = np.random.default_rng(0).normal(size=(2, 2, 9, 11))
    value = gc.compile([x], loss, backend="numpy")
    for backend in ("numpy", "llvm"):
        found = gc.compile([x], gc.grad(loss, x), backend=backend)(at)
        np.testing.assert_allclose(found, gc.finite_difference(value, at), rtol=1e-6, atol=1e-7)


def test_parts_of_overlapping_windows_share_a_kernel_that_writes_whole_rows():
    x, g = gc.input("x", (2, 2, 8, 12)), gc.input("g", (2, 2, 4, 6))
    program = gc.compile([x, g], gc.grad(gc.sum(gc.max_pool2d(x, 3, 2, 1) * g), x), backend="numpy").program
    assert [len(kernel.stages) for kernel in program.kernels] == [1, 4]

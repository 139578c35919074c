"""What each op classifies as, after the passes up to gather form: golden, and every window in full."""

from __future__ import annotations

import itertools

import pytest

import graphc as gc
from graphc.ir import scalar as sc
from graphc.ir.classify import Contraction, Map, Reduction, Scatter, Window, classify
from graphc.ir.graph import Graph, topological
from graphc.ir.node import Generic
from graphc.ir.verify import verify
from graphc.passes.pipeline import PIPELINE


def gathered(*tensors):
    """The graph after the passes up to and including gather."""
    graph = Graph(tuple(tensor.node for tensor in tensors))
    for step in PIPELINE:
        graph = step(graph)
        verify(graph, step.__name__)
        if step.__name__ == "gather":
            return graph
    raise AssertionError("there is no pass called gather")


def work(graph):
    """The Generics that do arithmetic on two operands or reduce: copies, fills and zero parts left out."""
    return [
        node
        for node in graph.nodes
        if isinstance(node, Generic) and node.operands and not (node.reducer is None and isinstance(node.body, sc.Arg))
    ]


def conv_and_gradients(stride, padding, dilation, kernel, extent=9):
    x, w = gc.input("x", (2, 3, extent, extent)), gc.input("w", (4, 3, kernel, kernel))
    y = gc.conv2d(x, w, stride=stride, padding=padding, dilation=dilation)
    upstream = gc.input("upstream", y.shape)
    return y, *gc.vjp(y, [x, w], upstream)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", [0, 1, 2])
def test_conv2d_and_its_gradients_are_contractions(stride, padding):
    for dilation, kernel in itertools.product((1, 2, 3), (1, 2, 3)):
        for tensor in conv_and_gradients(stride, padding, dilation, kernel):
            graph = gathered(tensor)
            nodes = work(graph)
            assert nodes
            for node in nodes:
                assert isinstance(classify(node), Contraction), f"{dilation=} {kernel=}\n{graph}"


@pytest.mark.parametrize("stride", [1, 2])
def test_second_derivatives_of_conv2d_are_contractions(stride):
    x, w = gc.input("x", (2, 3, 7, 7)), gc.input("w", (4, 3, 3, 3))
    y = gc.conv2d(x, w, stride=stride, padding=1)
    upstream, again = gc.input("upstream", y.shape), gc.input("again", x.shape)
    to_x = gc.vjp(y, x, upstream)
    for tensor in gc.vjp(to_x, [w, upstream], again):
        for node in work(gathered(tensor)):
            assert isinstance(classify(node), Contraction)


@pytest.mark.parametrize("left", [(4, 5), (2, 4, 5), (5,)])
@pytest.mark.parametrize("transpose", [False, True])
def test_matmul_and_its_gradients_are_contractions(left, transpose):
    a, b = gc.input("a", left), gc.input("b", (6, 5) if transpose else (5, 6))
    y = a @ (b.T if transpose else b)
    upstream = gc.input("upstream", y.shape)
    to_a, to_b = gc.vjp(y, [a, b], upstream)
    vector = len(left) == 1
    for tensor in (y, to_a, to_b):
        for node in work(gathered(tensor)):
            if not (vector and node.reducer is None):  # the gradient of a vector's matrix is an outer product
                assert isinstance(classify(node), Contraction), node


def test_axes_of_a_contraction():
    a, b = gc.input("a", (7, 4, 5)), gc.input("b", (7, 5, 6))
    assert classify((a @ b).node) == Contraction(batch=(0,), m=(1,), n=(2,), k=(3,))
    y = conv_and_gradients(1, 0, 1, 3)[0].node
    assert classify(y) == Contraction(batch=(), m=(0, 2, 3), n=(1,), k=(4, 5, 6))


X = gc.input("x", (3, 8))
IMAGE = gc.input("image", (1, 2, 8, 8))
CLASSES = {
    "exp": (gc.exp(X), Map()),
    "transpose": (X.T, Map()),
    "outer sum": (X[:, :, None] + X[:, None, :], Map()),
    "sum": (gc.sum(X, 1), Reduction((1,))),
    "sum of everything": (gc.sum(X), Reduction((0, 1))),
    "argmax": (gc.argmax(X, 0), Reduction((1,))),
    "dot with itself": (gc.einsum("ij,ij->i", X, X), Reduction((1,))),
    "max pool": (gc.max_pool2d(IMAGE, 2), Window((4, 5))),
    "convolution of three factors": (gc.einsum("ij,ij,ij->i", X, gc.exp(X), gc.sin(X)), Reduction((1,))),
}


@pytest.mark.parametrize("name", CLASSES)
def test_other_ops(name):
    tensor, expected = CLASSES[name]
    assert classify(tensor.node) == expected


def test_a_scatter_until_it_is_gathered():
    pooled = gc.max_pool2d(IMAGE, 3, 1)
    gradient = gc.grad(gc.sum(pooled), IMAGE)
    before = [classify(node) for node in topological((gradient.node,)) if isinstance(node, Generic)]
    after = [classify(node) for node in gathered(gradient).nodes if isinstance(node, Generic)]
    assert Scatter() in before and Scatter() not in after


def test_golden(golden):
    lines = []
    cases = {
        "matmul": lambda: gc.input("a", (4, 5)) @ gc.input("b", (5, 6)),
        "conv2d": lambda: gc.conv2d(gc.input("a", (2, 3, 9, 9)), gc.input("b", (4, 3, 3, 3)), padding=1),
        "conv2d, stride 2": lambda: gc.conv2d(gc.input("a", (2, 3, 9, 9)), gc.input("b", (4, 3, 3, 3)), stride=2),
        "conv2d, groups 2": lambda: gc.conv2d(gc.input("a", (2, 4, 9, 9)), gc.input("b", (4, 2, 3, 3)), groups=2),
        "conv_transpose2d": lambda: gc.conv_transpose2d(
            gc.input("a", (2, 3, 5, 5)), gc.input("b", (3, 4, 3, 3)), stride=2
        ),
    }
    for name, build in cases.items():
        y = build()
        a, b = (gc.Tensor(leaf) for leaf in Graph((y.node,)).inputs)
        to_a, to_b = gc.vjp(y, [a, b], gc.input("upstream", y.shape))
        for part, tensor in (("", y), (", gradient of a", to_a), (", gradient of b", to_b)):
            lines.append(f"{name}{part}")
            lines += [f"    {classify(node)}" for node in work(gathered(tensor))]
    golden("ir/classify.txt", "\n".join(lines) + "\n")

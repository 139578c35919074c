"""Nodes: interning, normal form, nominal leaves, merges on record, depth."""

from __future__ import annotations

import gc as garbage
import inspect
import subprocess
import sys
import threading

import numpy as np
import pytest

import graphc as gc
from graphc.errors import VerifyError
from graphc.ir import build
from graphc.ir import scalar as sc
from graphc.ir.affine import AffineMap, affine, axis_row, identity
from graphc.ir.graph import Graph, topological
from graphc.ir.node import INSIDE, SKIP, ZERO, Const, Generic, Join, View, const, generic, join, leaf, view
from graphc.ir.origin import origins_of
from graphc.passes.pipeline import run_passes

A0, A1 = sc.Arg(0, "float32"), sc.Arg(1, "float32")
MUL = sc.apply("mul", A0, A1)


def array(name="x", *shape, dtype="float32"):
    return leaf(name, shape, dtype, "input")


# --- Interning ------------------------------------------------------------------------------------------------------


def test_equal_expressions_are_one_node():
    x, y = gc.input("x", ("N", 3)), gc.input("y", (3,))
    assert gc.exp(x * y).node is gc.exp(x * y).node
    assert (x @ gc.ones((3, 2))).node is (x @ gc.ones((3, 2))).node
    assert gc.max(x, axis=0).node is not gc.max(x, axis=1).node


@pytest.mark.parametrize("op", [gc.add, gc.multiply, gc.maximum, gc.minimum, gc.equal, gc.not_equal])
def test_commutative_operands_have_one_order(op):
    x, y = gc.input("x", (3,)), gc.input("y", (3,))
    assert op(x, y).node is op(y, x).node
    assert op(gc.sin(x), y).node is op(y, gc.sin(x)).node
    row = gc.input("row", (2, 3))
    assert op(x, row).node is op(row, x).node, "also when one is stretched"


@pytest.mark.parametrize("op", [gc.subtract, gc.divide, gc.power, gc.arctan2, gc.less])
def test_other_operands_keep_theirs(op):
    x, y = gc.input("x", (3,)), gc.input("y", (3,))
    assert op(x, y).node is not op(y, x).node


@pytest.mark.parametrize("make", [gc.input, gc.param, gc.state])
def test_leaves_are_nominal(make):
    one, other = make("x", (3,)), make("x", (3,))
    assert one.node is not other.node
    assert gc.exp(one).node is not gc.exp(other).node


def test_constants_are_equal_by_content():
    assert gc.constant([1.0, 2.0]).node is gc.constant([1.0, 2.0]).node
    assert gc.constant([1.0, 2.0]).node is not gc.constant([[1.0, 2.0]]).node
    assert gc.constant([0.0]).node is not gc.constant([-0.0]).node
    assert gc.constant(np.array([1, 2])).node is not gc.constant(np.array([1, 2], np.int32)).node


def test_a_constant_keeps_its_value_when_the_array_changes():
    value = np.arange(4.0).reshape(2, 2).T
    node = gc.constant(value).node
    expected = value.copy()
    value[:] = -1
    np.testing.assert_array_equal(node.value, expected)
    with pytest.raises(ValueError):
        node.value[0, 0] = 5


def test_threads_build_one_graph():
    x = gc.input("x", (4,))
    made, start = [], threading.Barrier(6)

    def work():
        start.wait()
        y = x
        for step in range(100):
            y = gc.sin(y) * x + float(step)
        made.append(gc.grad(gc.sum(y), x).node)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 6 and all(node is made[0] for node in made)


def test_forward_and_backward_share():
    x = gc.input("x", (3,))
    y = gc.exp(x)
    gradient = gc.grad(gc.sum(y), x)
    forward, backward = run_passes(Graph((y.node, gradient.node))).outputs
    assert backward is forward is y.node


# --- Normal form ----------------------------------------------------------------------------------------------------


def test_a_copy_is_its_operand():
    x = array("x", 3)
    assert generic((3,), (3,), identity(1), (x,), (identity(1),), (INSIDE,), A0, None) is x


def test_equal_reads_become_one():
    x = array("x", 3)
    node = generic((3,), (3,), identity(1), (x, x), (identity(1),) * 2, (INSIDE,) * 2, MUL, None)
    assert node.operands == (x,) and node.body is sc.apply("mul", A0, A0)


def test_unused_reads_go_unless_they_skip_points():
    x, y = array("x", 5), array("y", 3)
    shifted = AffineMap(1, (affine({0: 1}, -2),))
    plain = generic((5,), (5,), identity(1), (x, y), (identity(1), shifted), (INSIDE, ZERO), A0, None)
    assert plain is x
    skipping = generic((5,), (5,), identity(1), (x, y), (identity(1), shifted), (INSIDE, SKIP), A0, None)
    assert skipping.operands == (x, y)


def test_modes_become_inside_where_every_read_provably_is():
    x = array("x", 5)
    for start, mode in ((0, INSIDE), (2, INSIDE), (3, ZERO), (-1, ZERO)):
        shifted = AffineMap(1, (affine({0: 1}, start),))
        node = generic((3,), (3,), identity(1), (x,), (shifted,), (ZERO,), A0, None)
        assert node.modes == (mode,), start


def test_output_axes_come_first():
    x = array("x", 2, 3)
    out_map = AffineMap(2, (axis_row(1),))
    node = generic((2, 3), (3,), out_map, (x,), (identity(2),), (INSIDE,), A0, "sum")
    assert node.domain == (3, 2) and node.out_map.projection == (0,) and node.reduced_axes == (1,)
    assert node is build.reduce_axes(x, (0,), "sum")


def test_a_sum_of_one_term_is_a_map():
    x = array("x", 3, 1)
    assert build.reduce_axes(x, (1,), "sum").reducer is None
    assert build.reduce_axes(array("x", 3, 2), (1,), "sum").reducer == "sum"
    assert build.reduce_axes(x, (1,), "argmax").reducer == "argmax"


def test_views_of_views_and_of_the_same_shape():
    x = array("x", 2, 3)
    assert view(x, (2, 3)) is x
    assert view(view(x, (6,)), (2, 3)) is x
    assert isinstance(view(view(x, (6,)), (3, 2)), View) and view(view(x, (6,)), (3, 2)).operand is x
    with pytest.raises(VerifyError, match=r"view: \(2, 3\) and \(7,\)"):
        view(x, (7,))


def test_a_join_of_one_complete_part_is_that_part():
    x = array("x", 3)
    part = generic((3,), (3,), identity(1), (x,), (identity(1),), (INSIDE,), sc.apply("sin", A0), None)
    empty = Generic((0,), (3,), identity(1), (x,), (identity(1),), (INSIDE,), A0, None)
    assert join([part]) is part and join([empty, part]) is part
    half = Generic((1,), (3,), identity(1), (x,), (identity(1),), (INSIDE,), A0, None)
    assert isinstance(join([part, half]), Join)


def test_const_of_a_transposed_array():
    value = np.arange(6).reshape(2, 3).T
    assert isinstance(const(value), Const)
    np.testing.assert_array_equal(const(value).value, value)


# --- Origins --------------------------------------------------------------------------------------------------------


def test_a_merge_records_both_lines():
    x = gc.input("x", (3,))
    first = inspect.currentframe().f_lineno + 1
    one = gc.exp(x)
    other = gc.exp(x)
    assert one.node is other.node
    assert [origin.where for origin in origins_of(one.node)] == [f"{__file__}:{first}", f"{__file__}:{first + 1}"]
    assert {origin.op for origin in origins_of(one.node)} == {"exp"}


def test_an_origin_tells_op_line_name_and_scope():
    x = gc.input("x", (3,))
    with gc.scope("encoder"), gc.scope("layer2"):
        line = inspect.currentframe().f_lineno + 1
        hidden = gc.tanh(x)
    (origin,) = origins_of(hidden.node)
    assert (origin.op, origin.where, origin.scope) == ("tanh", f"{__file__}:{line}", "encoder/layer2")
    assert origin.assigned_name == "hidden"


def test_the_parts_of_a_composed_op_share_its_line():
    x = gc.input("x", (3, 4))
    line = inspect.currentframe().f_lineno + 1
    p = gc.softmax(x)
    for node in topological((p.node,)):
        if node.operands:
            origin = origins_of(node)[0]
            assert origin.where == f"{__file__}:{line}", origin
            assert origin.op == "softmax" or origin.scope.startswith("softmax")


def test_gradients_have_the_line_of_what_they_differentiate():
    x = gc.input("x", (3,))
    line = inspect.currentframe().f_lineno + 1
    y = gc.sin(x)
    gradient = gc.grad(gc.sum(y), x)
    origin = origins_of(gradient.node)[0]
    assert origin.role == "grad" and origin.where == f"{__file__}:{line}"


def test_origins_survive_all_passes():
    x = gc.input("x", (2, 3, 9, 9))
    w, b = gc.param("w", (4, 3, 3, 3), init=0.1), gc.param("b", (4,), init=0)
    with gc.scope("features"):
        hidden = gc.max_pool2d(gc.relu(gc.conv2d(x, w, b, stride=2, padding=1)), 2)
    dense = gc.param("dense", (hidden.shape[1] * 4, 5), init=0.1)
    loss = -gc.mean(gc.log(gc.softmax(gc.flatten(hidden) @ dense)))
    outputs = [loss, *gc.grad(loss, [x, w, b, dense])]
    graph = run_passes(Graph(tuple(t.node for t in outputs)), check=True)
    for node in graph.nodes:
        origins = origins_of(node)
        assert origins, f"no origin: {node}"
        if not isinstance(node, Const):
            assert any(origin.file == __file__ for origin in origins), (node, origins)


def test_a_node_that_is_gone_leaves_no_origin_behind():
    from graphc.ir import origin as side_table

    x = gc.input("x", (3,))
    garbage.collect()
    before = len(side_table._table)
    y = gc.sin(gc.cos(x) * 17)
    assert len(side_table._table) > before
    del y
    garbage.collect()
    assert len(side_table._table) == before


# --- Depth ----------------------------------------------------------------------------------------------------------

DEEP = """
import gc as garbage, sys, threading
import graphc as gc
from graphc.ir.graph import Graph
from graphc.passes.pipeline import run_passes

def work():
    x = gc.input("x", (3,))
    y = x
    for step in range(10_000):
        y = gc.sin(y) if step % 2 else y * x
    gradient = gc.grad(gc.sum(y), x)
    graph = run_passes(Graph((y.node, gradient.node)))
    print(len(graph.nodes) > 1000)
    del graph, gradient, y
    garbage.collect()
    print("deleted")

sys.setrecursionlimit(400)
threading.stack_size(1 << 20)
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


def test_a_chain_of_ten_thousand_needs_no_stack():
    done = subprocess.run([sys.executable, "-c", DEEP], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["True", "deleted"], done.stderr[-2000:]
    assert done.returncode == 0

"""Programs: kernels, buffers, memory, the order of writes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import graphc as gc
from graphc.backend import available
from graphc.ir.node import SKIP, Generic
from graphc.ir.scalar import Arg
from graphc.program import ALIGNMENT


@pytest.fixture(params=available())
def backend(request):
    return request.param


def program(inputs, outputs, updates=None):
    return gc.compile(inputs, outputs, updates=updates, backend="numpy").program


def well_formed(plan):
    """Every buffer is known, is written before it is read, and shares no memory with another that is alive."""
    given = set(plan.inputs) | {buffer.name for buffer in plan.buffers if buffer.kind == "constant"}
    written = {plan.root(name).name for name in given}
    lives = {}
    for when, kernel in enumerate(plan.kernels):
        for stage in kernel.stages:
            for name in stage.reads:
                assert plan.root(name).name in written, f"{name} is read before it is written\n{plan}"
            assert stage.write not in given
            if isinstance(stage.node, Generic) and stage.node.reducer is None and SKIP in stage.node.modes:
                assert stage.initialise, f"{stage} leaves elements unwritten\n{plan}"
            written.add(plan.root(stage.write).name)
            for name in (*stage.reads, stage.write):
                first, _ = lives.get(plan.root(name).name, (when, when))
                lives[plan.root(name).name] = (first, when)
    for name in (*plan.outputs, *(source for source, _ in plan.updates)):
        assert plan.root(name).name in written
        lives[plan.root(name).name] = (lives.get(plan.root(name).name, (0, 0))[0], len(plan.kernels))
    placed = [b for b in plan.buffers if b.offset is not None]
    for one, other in itertools.combinations(placed, 2):
        (a, b), (c, d) = lives[one.name], lives[other.name]
        apart = one.offset + one.nbytes <= other.offset or other.offset + other.nbytes <= one.offset
        assert apart or b < c or d < a, f"{one} and {other}\n{plan}"
    assert all(b.offset % ALIGNMENT == 0 and b.offset + b.nbytes <= plan.arena_bytes for b in placed)
    return plan


def test_softmax_is_one_kernel():
    x = gc.input("x", (5, 7))
    (kernel,) = well_formed(program([x], gc.softmax(x))).kernels
    assert kernel.kind == "loops" and kernel.outer == 1


def test_layer_norm_is_one_kernel():
    x, g, b = gc.input("x", (5, 7)), gc.input("g", (7,)), gc.input("b", (7,))
    y = (x - gc.mean(x, 1, True)) / gc.sqrt(gc.var(x, 1, True) + 1e-5) * g + b
    assert len(well_formed(program([x, g, b], y)).kernels) == 1


def batch_norm(x, g, b):
    mean, deviation = gc.mean(x, (0, 2, 3), True), gc.sqrt(gc.var(x, (0, 2, 3), True) + 1e-5)
    return (x - mean) / deviation * gc.reshape(g, (1, -1, 1, 1)) + gc.reshape(b, (1, -1, 1, 1))


def test_numbers_and_the_array_that_they_are_put_into_are_one_kernel(backend):
    """The loss and the eight derivatives of FEATURES' A4, with its parameters in one array."""
    p, x, y = gc.input("p", (8,), dtype="float64"), gc.input("x", dtype="float64"), gc.input("y", dtype="float64")
    b, w = [p[2 * k] for k in range(4)], [p[2 * k + 1] for k in range(4)]
    loss = (b[3] + w[3] * gc.cos(b[2] + w[2] * gc.exp(b[1] + w[1] * gc.sin(b[0] + w[0] * x))) - y) ** 2
    step = gc.compile([p, x, y], [loss, gc.grad(loss, p)], backend=backend)
    [kernel] = step.program.kernels
    assert len(kernel.stages) > 8
    at = np.array([1, 0.1, 2, -0.7, 3, 0.6, 0.4, -1.3])
    _, gradient = step(at, 2.3, 2.0)
    expected = gc.finite_difference(lambda q: step(q, 2.3, 2.0)[0], at)
    np.testing.assert_allclose(gradient, expected, rtol=1e-6)


def test_batch_norm_is_statistics_and_a_map():
    x, g, b = gc.input("x", (4, 3, 5, 6)), gc.input("g", (3,)), gc.input("b", (3,))
    statistics, result = well_formed(program([x, g, b], batch_norm(x, g, b))).kernels
    assert statistics.outer == 1 and {stage.node.shape for stage in statistics.stages} == {(3,)}
    assert [stage.node.shape for stage in result.stages] == [(4, 3, 5, 6)]


def test_the_gradient_of_batch_norm_is_sums_and_a_map(backend):
    x, g, b = gc.input("x", (4, 3, 5, 6), "float64"), gc.input("g", (3,), "float64"), gc.input("b", (3,), "float64")
    loss = gc.sum(gc.sin(batch_norm(x, g, b)))
    step = gc.compile([x, g, b], [*gc.grad(loss, [x, g, b])], backend=backend)
    sums, result = well_formed(program([x, g, b], [*gc.grad(gc.sum(batch_norm(x, g, b) * x), [x, g, b])])).kernels
    assert sums.outer == 1 and [stage.node.shape for stage in result.stages] == [(4, 3, 5, 6)]
    rng = np.random.default_rng(0)
    at, scale, shift = rng.normal(size=(4, 3, 5, 6)), rng.normal(size=3), rng.normal(size=3)

    def value(x, g, b):
        centred = x - x.mean((0, 2, 3), keepdims=True)
        normal = centred / np.sqrt((centred**2).mean((0, 2, 3), keepdims=True) + 1e-5)
        return np.sin(normal * g.reshape(1, 3, 1, 1) + b.reshape(1, 3, 1, 1)).sum()

    for found, function, point in (
        (0, lambda v: value(v, scale, shift), at),
        (1, lambda v: value(at, v, shift), scale),
        (2, lambda v: value(at, scale, v), shift),
    ):
        expected = gc.finite_difference(function, point)
        np.testing.assert_allclose(step(at, scale, shift)[found], expected, rtol=1e-6, atol=1e-6)


def test_a_sum_waits_for_the_kernel_that_reads_its_array_too():
    x, g = gc.input("x", (8, 5)), gc.input("g", (8, 5))
    weight, bias = gc.param("weight", (5,), init=1), gc.param("bias", (5,), init=0)
    y = (x - gc.mean(x, 1, True)) / gc.sqrt(gc.var(x, 1, True) + 1e-5) * weight + bias
    plan = well_formed(program([x, g], gc.grad(gc.sum(y * g), [x, weight, bias])))
    rows, columns = plan.kernels  # of the input's gradient, and of the params', which are sums over columns
    assert rows.outer == 1 and [stage.node.reducer for stage in columns.stages] == ["sum", "sum"]


def test_what_a_row_keeps_at_hand_is_not_computed_again_for_the_columns():
    x, t = gc.input("x", (8, 5)), gc.input("t", (8,), "int64")
    weight, bias = gc.param("weight", (5,), init=1), gc.param("bias", (5,), init=0)
    y = (x - gc.mean(x, 1, True)) / gc.sqrt(gc.var(x, 1, True) + 1e-5) * weight + bias
    plan = well_formed(program([x, t], gc.grad(gc.nn.cross_entropy(y, t), [x, weight, bias])))
    _, rows, columns = plan.kernels  # the first checks the labels
    stored = {stage.write for stage in rows.stages}
    (bias_gradient,) = [stage for stage in columns.stages if isinstance(stage.node.body, Arg)]
    assert set(bias_gradient.reads) <= stored


def test_a_sum_that_is_read_before_stays_before():
    x, g = gc.input("x", (8, 5)), gc.input("g", (8, 5))
    early = gc.sum(g, axis=0)
    later = gc.sum(g * (x @ gc.stack([early] * 5)), axis=0)
    plan = well_formed(program([x, g], [early, later]))
    assert len(plan.kernels) >= 3


def test_bias_and_activation_join_the_contraction():
    x, w, b = gc.input("x", (5, 7)), gc.input("w", (7, 3)), gc.input("b", (3,))
    (kernel,) = well_formed(program([x, w, b], gc.relu(x @ w + b))).kernels
    assert kernel.kind == "contraction" and len(kernel.stages) == 2


def test_a_training_step_is_well_formed_and_reuses_memory():
    x, t = gc.input("x", (16, 64)), gc.input("t", (16,), dtype="int64")
    layers = [gc.param(f"w{k}", (64, 64), init=0.01) for k in range(8)]
    h = x
    for w in layers:
        h = gc.tanh(h @ w)
    loss = -gc.mean(gc.take(gc.log_softmax(h), t, axis=1))
    updates = {w: w - 0.1 * g for w, g in zip(layers, gc.grad(loss, layers), strict=True)}
    plan = well_formed(program([x, t], [loss], updates))
    temporaries = sum(b.nbytes for b in plan.buffers if b.kind == "temporary" and b.alias is None)
    assert plan.arena_bytes < temporaries
    assert len(plan.updates) == 8 and {target for _, target in plan.updates} == {f"w{k}" for k in range(8)}


def test_outputs_alias_nothing(backend):
    x, w = gc.input("x", (3,)), gc.param("w", init=np.ones(3, np.float32))
    y = gc.exp(x)
    outputs = [x, w, y, y, y.reshape(3, 1), x.reshape(1, 3), gc.constant(np.ones(3, np.float32))]
    function = gc.compile([x], outputs, backend=backend)
    value = np.arange(3, dtype=np.float32)
    got = function(value)
    for array, expected in zip(got, [value, np.ones(3), *[np.exp(value)] * 3, value, np.ones(3)], strict=True):
        np.testing.assert_allclose(array.reshape(3), expected, rtol=1e-6)
    for one, other in itertools.combinations((*got, value, w.storage), 2):
        assert not np.shares_memory(one, other)
    got[1][:] = 7
    assert w.value.tolist() == [1, 1, 1]
    assert function(value)[6].tolist() == [1, 1, 1]


def test_updates_read_the_values_before_the_step(backend):
    a, b = gc.param("a", (), init=1.0), gc.param("b", (), init=2.0)
    swap = gc.compile([], [a + b], updates={a: b, b: a + b}, backend=backend)
    totals = [float(swap()[0]) for _ in range(4)]
    assert totals == [3, 5, 8, 13] and (float(a.value), float(b.value)) == (8, 13)


def test_states_are_written_by_whoever_reaches_them(backend):
    count = gc.state("count", (), init=0, dtype="int64")
    count.set_next(count + 1)
    x = gc.input("x", ())
    function = gc.compile([x], x * count.astype("float32"), backend=backend)
    assert [float(function(10.0)) for _ in range(3)] == [0, 10, 20]
    assert int(count.value) == 3
    count.value = 100
    assert float(function(1.0)) == 100


def test_names_are_the_users_and_identifiers():
    x, y = gc.input("x-1", (3,)), gc.input("class", (3,))
    hidden = gc.exp(x) @ gc.sin(y)
    names = [buffer.name for buffer in program([x, y], hidden).buffers]
    assert all(name.isidentifier() for name in names) and "hidden" in " ".join(names)
    assert len(set(names)) == len(names)


def test_unused_inputs_are_passed_and_not_read(backend):
    x, unused = gc.input("x", (3,)), gc.input("unused", ("N", 2))
    function = gc.compile([unused, x], x * 2, backend=backend)
    assert function(np.ones((5, 2), np.float32), np.ones(3, np.float32)).tolist() == [2, 2, 2]


def test_no_kernels_at_all(backend):
    x = gc.input("x", (2,))
    assert gc.compile([x], x, backend=backend)([1, 2]).tolist() == [1, 2]
    assert gc.compile([], gc.constant([1.0, 2.0]), backend=backend)().tolist() == [1, 2]
    assert gc.compile([x], [], backend=backend)([1, 2]) == ()


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_parts_of_a_join_fill_one_buffer(backend, stride):
    x, w = gc.input("x", (1, 1, 8)), gc.input("w", (1, 1, 2))
    y = gc.conv1d(x, w, stride=stride)
    gradient = gc.grad(gc.sum(y * y), x)
    function = gc.compile([x, w], gradient, backend=backend)
    well_formed(function.program)
    value, weight = np.arange(8, dtype=np.float32).reshape(1, 1, 8), np.array([[[1, -2]]], np.float32)
    expected = np.zeros(8)
    for i in range((8 - 2) // stride + 1):
        window = value[0, 0, stride * i : stride * i + 2]
        expected[stride * i : stride * i + 2] += 2 * (window @ weight[0, 0]) * weight[0, 0]
    for _ in range(3):  # the second call finds memory that was used before
        np.testing.assert_allclose(function(value, weight)[0, 0], expected)


@pytest.mark.parametrize(("kernel", "stride"), [(2, 2), (2, 3), (3, 2), (3, 1)])
def test_elements_that_no_window_reads_have_gradient_zero(backend, kernel, stride):
    x = gc.input("x", (2, 3, 8, 9))
    y = gc.max_pool2d(x, kernel, stride)
    function = gc.compile([x], gc.grad(gc.sum(y), x), backend=backend)
    value = np.random.default_rng(0).permutation(432).reshape(2, 3, 8, 9).astype(np.float32)
    well_formed(function.program)
    del [np.full(value.shape, 1e27, np.float32) for _ in range(8)][:]  # something for uninitialised memory to hold
    got = function(value)
    windows = ((8 - kernel) // stride + 1) * ((9 - kernel) // stride + 1)
    assert got.sum() == 6 * windows and set(np.unique(got)) <= set(range(10))


def test_rows_that_meet_share_a_kernel():
    x, g = gc.input("x", (6, 9)), gc.input("g", (6, 9))
    (kernel,) = well_formed(program([x, g], gc.grad(gc.sum(gc.log_softmax(x, axis=1) * g), x))).kernels
    assert kernel.kind == "loops" and kernel.outer == 1


def test_maps_and_full_sums_of_one_array_share_a_kernel():
    x = gc.input("x", (40,))
    y = gc.exp(x)
    (kernel,) = well_formed(program([x], [y, gc.sum(y), gc.sum(gc.sin(x) * x), gc.max(y)])).kernels
    assert len(kernel.stages) >= 4


def test_a_sum_of_what_another_kernel_reads_later_stays_in_order():
    x, w = gc.input("x", (6, 6)), gc.input("w", (6, 6))
    rows = gc.sum(x, axis=1, keepdims=True)
    product = (x / rows) @ w
    plan = well_formed(program([x, w], [product / rows, gc.sum(x * w, axis=1, keepdims=True) + rows]))
    assert [kernel.kind for kernel in plan.kernels].count("contraction") == 1


def test_the_gradient_of_pooling_is_one_kernel_after_its_choice():
    x = gc.input("x", (2, 3, 8, 8))
    y = gc.max_pool2d(gc.relu(x), 2)
    plan = well_formed(program([x], gc.grad(gc.sum(y * y), x)))
    assert len(plan.kernels) == 1

"""The plan of the arena: what is alive when and where, the bytes in `stats`, the table."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc.compiler.memory import UPDATES
from graphc.errors import ArgumentError
from graphc.program import ALIGNMENT
from tests.nn.test_models import MODELS, OPTIMISERS


def small_step():
    x, t = gc.input("x", ("N", 8)), gc.input("t", ("N",), "int64")
    model = gc.nn.Sequential(gc.nn.Linear(8, 16, seed=0), gc.nn.ReLU(), gc.nn.Linear(16, 4, seed=1))
    loss = gc.nn.cross_entropy(model(x), t)
    return gc.compile([x, t], [loss], gc.optim.SGD(0.1).updates(loss, model.parameters()), backend="numpy", name="step")


def model_step(name, checkpoint=False):
    model, image = MODELS[name][0]()
    x, t = gc.input("x", (4, *image)), gc.input("t", (4,), "int64")
    scores = gc.checkpoint(model, x) if checkpoint else model(x)
    loss = gc.nn.cross_entropy(scores, t)
    return gc.compile([x, t], [loss, scores], OPTIMISERS[name](0.1).updates(loss, model.parameters()), backend="numpy")


def not_in_place():
    w = gc.param("w", (16, 16), init=np.ones((16, 16)))
    return gc.compile([], gc.sum(w), {w: gc.tanh(w.T @ w)}, backend="numpy")


STEPS = {name: lambda name=name: model_step(name) for name in MODELS}
STEPS |= {"checkpoint": lambda: model_step("mlp", True), "copied updates": not_in_place}


@pytest.mark.feature("F.memory")
@pytest.mark.parametrize("name", STEPS)
def test_the_plan_is_sound(name):
    """Every temporary is in it, from its first writer to its last reader, and no two meet in time and place."""
    step = STEPS[name]()
    memory, program = step.memory(), step.program
    owners = {b.name: b for b in program.buffers if b.kind == "temporary" and b.alias is None}
    assert {block.name for block in memory.blocks} == set(owners)
    touched = {}
    for place, kernel in enumerate(program.kernels):
        for one in (*kernel.reads, *kernel.writes):
            touched.setdefault(program.root(one).name, []).append(place)
    late = {program.root(one).name for one in (*program.outputs, *(source for source, _ in program.updates))}
    for block in memory.blocks:
        last = len(program.kernels) if block.name in late else max(touched[block.name])
        assert (block.first, block.last) == (min(touched[block.name]), last)
        assert block.offset == owners[block.name].offset and block.offset % ALIGNMENT == 0
        assert owners[block.name].nbytes <= block.size < owners[block.name].nbytes + ALIGNMENT + 1
        assert block.offset + block.size <= memory.arena_bytes == program.arena_bytes
    for number, one in enumerate(memory.blocks):
        for other in memory.blocks[:number]:
            apart_in_time = one.last < other.first or other.last < one.first
            apart = one.offset + one.size <= other.offset or other.offset + other.size <= one.offset
            assert apart_in_time or apart, (one, other)


@pytest.mark.feature("F.memory")
@pytest.mark.parametrize("name", STEPS)
def test_the_peak_is_that_of_the_live_bytes(name):
    memory, stats = STEPS[name]().memory(), STEPS[name]().stats
    live = [sum(b.size for b in memory.blocks if b.first <= s <= b.last) for s in range(len(memory.steps))]
    assert list(memory.live_bytes) == live
    assert memory.peak_bytes == max(live) == live[memory.peak_step] == stats.peak_bytes
    assert 0 < stats.peak_bytes <= stats.arena_bytes


def test_updates_that_are_copied_are_a_step():
    memory = not_in_place().memory()
    assert memory.steps[-1] == UPDATES and memory.live_bytes[-1] == 1024
    assert UPDATES not in small_step().memory().steps


def test_stats_count_each_array_once():
    stats = model_step("mlp").stats
    weights = 784 * 128 + 128 + 128 * 128 + 128 + 128 * 10 + 10
    assert stats.param_bytes == 4 * weights
    assert stats.input_bytes == 4 * 4 * 784 + 4 * 8
    assert stats.output_bytes == 4 + 4 * 4 * 10
    assert stats.state_bytes == 4 and stats.constant_bytes == 0  # the learning rate
    x = gc.input("x", (300,), "float64")
    table = np.random.default_rng(0).normal(size=300)
    assert gc.compile([x], x[::-1] * table, backend="numpy").stats.constant_bytes == 2400


@pytest.mark.feature("F.memory")
def test_table(golden):
    golden("memory/step.txt", str(small_step().memory(N=32)) + "\n")


def test_sizes_of_named_dimensions():
    step = small_step()
    assert step.memory(N=64).peak_bytes > step.memory(N=8).peak_bytes
    with pytest.raises(ArgumentError, match="no dimension M"):
        step.memory(M=3)


def test_a_program_without_temporaries():
    x = gc.input("x", (3,))
    memory = gc.compile([x], x * 2, backend="numpy", name="double").memory()
    assert (memory.peak_bytes, memory.peak_step, memory.blocks) == (0, None, ())
    assert str(memory).startswith("double: arena 0 bytes\n") and "peak" not in str(memory)

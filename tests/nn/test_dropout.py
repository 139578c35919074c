"""Dropout: masks, scale, gradients, seeds and counters; the same bits on every backend and thread count."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

import graphc as gc
from graphc.backend import available
from graphc.errors import GraphcError
from graphc.ir.graph import topological

ONES = np.ones((40, 50), dtype="float32")


def run(layer, array=ONES, **options):
    """The layer in training, on the numpy backend, for the counter as it stands."""
    x = gc.input("x", array.shape, dtype=array.dtype)
    return gc.evaluate(layer(x, training=True), {x: array}, **options)


@pytest.mark.feature("E.dropout")
def test_scales_what_it_keeps():
    kept = gc.evaluate(gc.random.Generator(3).bernoulli((40, 50), 0.7))
    x = gc.input("x", (40, 50))
    array = np.random.default_rng(0).normal(size=(40, 50)).astype("float32")
    dropped = gc.evaluate(gc.nn.dropout(x, 0.3, seed=3), {x: array})
    np.testing.assert_allclose(dropped, np.where(kept, array / 0.7, 0), rtol=1e-6)
    assert 0.67 < kept.mean() < 0.73


@pytest.mark.feature("E.dropout")
def test_is_the_input_itself_where_nothing_is_dropped():
    x = gc.input("x", (3, 4))
    assert gc.nn.dropout(x, 0.5, training=False) is x
    assert gc.nn.dropout(x, 0) is x
    model = gc.nn.Sequential(gc.nn.Dropout(0.5), gc.nn.Dropout(1))
    assert model(x).node is x.node and model(x, training=False).node is x.node
    assert model(x, training=True).node is not x.node


def test_all_is_dropped_at_one_also_what_is_not_finite():
    x = gc.input("x", (4,))
    y = gc.nn.dropout(x, 1)
    values = gc.evaluate([y, gc.grad(gc.sum(y), x)], {x: [1, np.nan, np.inf, -2]})
    assert not np.any(values)
    y = gc.nn.dropout(gc.constant(np.full(100, np.nan)), 0.5, seed=0)
    assert 30 < (gc.evaluate(y) == 0).sum() < 70


@pytest.mark.feature("E.dropout")
def test_gradient_at_a_fixed_counter():
    rng = np.random.default_rng(0)
    model = gc.nn.Sequential(
        gc.nn.Linear(5, 8, seed=0, dtype="float64"),
        gc.nn.Tanh(),
        gc.nn.Dropout(0.4, seed=1),
        gc.nn.Dropout(0.2, seed=1),
    )
    x = gc.input("x", (6, 5), dtype="float64")
    loss = gc.sum(gc.sin(model(x, training=True)))
    leaves = [x, *model.parameters()]
    assert [leaf.name for leaf in leaves] == ["x", "0.weight", "0.bias"]  # counters are not learnt
    at = rng.normal(size=(6, 5))
    model[2].counter.value = 11
    for leaf, gradient in zip(leaves, gc.evaluate(gc.grad(loss, leaves), {x: at}), strict=True):
        base = at if leaf is x else leaf.value
        direction = rng.normal(size=base.shape)
        ends = []
        for step in (1e-6, -1e-6):
            if leaf is not x:
                leaf.value = base + step * direction
            ends.append(float(gc.evaluate(loss, {x: base + step * direction if leaf is x else at})))
        if leaf is not x:
            leaf.value = base
        assert (gradient * direction).sum() == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-7)


@pytest.mark.parametrize("layer, shape", [(gc.nn.Dropout1d, (20, 30, 7)), (gc.nn.Dropout2d, (20, 30, 3, 4))])
def test_whole_channels(layer, shape):
    found = run(layer(0.25, seed=0), np.ones(shape, dtype="float32")).reshape(20, 30, -1)
    assert (found == found[:, :, :1]).all()
    np.testing.assert_allclose(np.unique(found), [0, 4 / 3], rtol=1e-6)
    assert 0.65 < (found > 0).mean() < 0.85
    assert (run(layer(0.25, seed=0), np.ones((2, *shape[1:]), dtype="float32"))[:, :, 0] > 0).any()


# --- Steps ----------------------------------------------------------------------------------------------------------


def training_step(backend, threads=1):
    model = gc.nn.Sequential(
        gc.nn.Linear(48, 65, seed=0), gc.nn.ReLU(), gc.nn.Dropout(0.5, seed=2), gc.nn.Linear(65, 10, seed=1)
    )
    x, t = gc.input("x", (32, 48)), gc.input("t", (32,), dtype="int64")
    loss = gc.nn.cross_entropy(model(x, training=True), t)
    updates = gc.optim.SGD(lr=0.1).updates(loss, model.parameters())
    mask = model[2](gc.ones((300, 300)), training=True) > 0  # another draw, large enough to be shared by threads
    return model, gc.compile([x, t], [loss, mask], updates, backend=backend, threads=threads)


def batch():
    rng = np.random.default_rng(0)
    return rng.normal(size=(32, 48)).astype("float32"), rng.integers(0, 10, 32)


@pytest.mark.feature("C.dropout")
def test_steps_are_the_same_for_every_backend_and_thread_count():
    runs = {}
    for backend, threads in [("numpy", 1), *(("llvm", threads) for threads in (1, 2, 3, 4))]:
        model, step = training_step(backend, threads)
        losses, masks = zip(*(step(*batch()) for _ in range(6)), strict=True)
        assert int(model[2].counter.value) == 6
        assert len({mask.tobytes() for mask in masks}) == 6 and len(set(map(float, losses))) == 6
        runs[backend, threads] = np.array(losses), np.array(masks)
    losses, masks = runs["llvm", 1]
    for (backend, _), (other_losses, other_masks) in runs.items():
        np.testing.assert_array_equal(masks, other_masks)
        if backend == "llvm":
            np.testing.assert_array_equal(losses, other_losses)
        np.testing.assert_allclose(losses, other_losses, rtol=1e-5)


def test_restored_states_go_on_with_the_same_numbers():
    model, step = training_step("llvm")
    variables = [*model.parameters(), model[2].counter]
    for _ in range(2):
        step(*batch())
    saved = [variable.value for variable in variables]
    expected = [step(*batch())[0] for _ in range(3)]
    other, again = training_step("llvm")  # built anew, as in another process
    for variable, value in zip([*other.parameters(), other[2].counter], saved, strict=True):
        variable.value = value
    assert [again(*batch())[0] for _ in range(3)] == expected


def test_mask_is_stored_as_bytes_and_used_where_values_are_made():
    _, step = training_step("llvm")
    program = step.program
    masks = [b for b in program.buffers if b.dtype == "bool" and b.kind == "temporary" and b.shape == (32, 65)]
    assert len(masks) == 1
    readers = [kernel for kernel in program.kernels if masks[0].name in kernel.reads]
    assert [kernel.kind for kernel in readers] == ["contraction", "contraction"]  # forward, backward: in epilogues


def test_mask_is_the_same_where_a_checkpoint_computes_again():
    x = gc.input("x", (6, 5), dtype="float64")
    w = gc.constant(np.random.default_rng(0).normal(size=(5, 5)))
    at = np.random.default_rng(1).normal(size=(6, 5))
    found = []
    for ck in (lambda f, h: f(h), gc.checkpoint):
        layer = gc.nn.Dropout(0.5, seed=4)

        def part(h, layer=layer):
            return layer(gc.tanh(h @ w), training=True) @ w

        loss = gc.sum(gc.sin(ck(part, ck(part, x))))
        step = gc.compile([x], [loss, gc.grad(loss, x)], backend="llvm")
        found.append([step(at) for _ in range(3)])
    for plain, again in zip(*found, strict=True):
        for one, other in zip(plain, again, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12)


# --- Seeds and counters ---------------------------------------------------------------------------------------------


def test_layers_of_one_seed_differ_by_their_names_and_repeat():
    def masks():
        model = gc.nn.Sequential(gc.nn.Dropout(0.5, seed=0), gc.nn.Dropout(0.5, seed=0))
        return [run(layer).tobytes() for layer in model]

    assert masks() == masks() and len(set(masks())) == 2


def test_layers_without_a_seed_differ_and_repeat(monkeypatch):
    runs = []
    for _ in range(2):  # as in two processes
        monkeypatch.setattr(gc.random, "_unseeded", Counter())
        models = [gc.nn.Sequential(gc.nn.Dropout(), gc.nn.Dropout()) for _ in range(2)]
        runs.append([run(layer).tobytes() for model in models for layer in model])
        runs[-1].append(gc.evaluate(gc.nn.dropout(gc.constant(ONES))).tobytes())
    assert runs[0] == runs[1] and len(set(runs[0])) == 5


def test_each_call_of_a_layer_is_a_draw_of_its_own():
    layer = gc.nn.Dropout(0.5, seed=0)
    x = gc.constant(ONES)
    first, second = layer(x, training=True), layer(x, training=True)
    assert vars(layer)["counter"] is layer.generator.counter  # an attribute like others, for who lists a model's states
    one, other = gc.evaluate([first, second])
    assert (one != other).any()
    step = gc.compile([], [first, second])
    step()
    assert int(layer.counter.value) == 1


def test_generator_can_be_shared():
    rng = gc.random.Generator(0)
    model = gc.nn.Sequential(gc.nn.Dropout(0.5, seed=rng), gc.nn.Dropout2d(0.5, seed=rng))
    assert model[0].counter is rng.counter and model[1].counter is rng.counter
    y = model(gc.ones((2, 3, 4, 4)), training=True)
    assert sum(getattr(node, "kind", "") == "state" for node in topological((y.node,))) == 1
    assert (gc.evaluate(gc.nn.dropout(gc.constant(ONES), seed=rng)) == 0).any()


def test_counter_is_named_after_its_place():
    model = gc.nn.Sequential(gc.nn.Linear(2, 2), gc.nn.Sequential(gc.nn.Dropout(0.5)))
    assert model[1][0].counter.name == "1.0.counter"
    assert gc.nn.Dropout(0.5).counter.name == "dropout.counter"


@pytest.mark.parametrize("backend", available())
def test_symbolic_batch(backend):
    layer = gc.nn.Dropout(0.5, seed=0)
    x = gc.input("x", ("N", 50))
    apply = gc.compile([x], layer(x, training=True), backend=backend)
    whole = apply(ONES)
    layer.counter.value = 0
    np.testing.assert_array_equal(apply(ONES[:7]), whole[:7])
    assert apply(ONES[:0]).shape == (0, 50)


def test_text():
    assert repr(gc.nn.Dropout(0.25)) == "Dropout(p=0.25)" and repr(gc.nn.Dropout2d()) == "Dropout2d(p=0.5)"


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: gc.nn.Dropout(1.5), ["Dropout: p must be from 0 to 1", "1.5"]),
        (lambda: gc.nn.Dropout1d(-0.1), ["Dropout1d: p must be from 0 to 1", "-0.1"]),
        (lambda: gc.nn.Dropout(float("nan")), ["Dropout: p must be from 0 to 1", "nan"]),
        (lambda: gc.nn.Dropout("half"), ["Dropout: p must be a number from 0 to 1", "'half'"]),
        (lambda: gc.nn.Dropout(0.5, seed=-1), ["Dropout: seed must be a whole number", "-1"]),
        (lambda: gc.nn.dropout(gc.input("x", (3,)), 2), ["dropout: p must be from 0 to 1", "2"]),
        (lambda: gc.nn.dropout(gc.input("x", (3,)), 0.5, seed="x"), ["dropout: seed must be a whole number", "'x'"]),
        (lambda: gc.nn.dropout(gc.input("n", (3,), "int64")), ["dropout: the input must have a float dtype", "int64"]),
        (
            lambda: gc.nn.Dropout()(gc.input("n", (3,), "int64")),
            ["Dropout(p=0.5): the input must have a float dtype", "int64"],
        ),
        (
            lambda: gc.nn.Dropout2d()(gc.input("x", (3, 4, 5))),
            ["Dropout2d(p=0.5): the input has 3 axes, 4 are expected"],
        ),
        (lambda: gc.nn.Dropout1d()(gc.input("x", (3, 4))), ["Dropout1d(p=0.5): the input has 2 axes, 3 are expected"]),
    ],
)
def test_errors_name_the_layer(call, words):
    with pytest.raises(GraphcError) as caught:
        call()
    for word in [*words, "test_dropout.py"]:
        assert word in str(caught.value)


def test_values_of_another_library_have_no_counter_of_draws():
    model = gc.nn.Sequential(gc.nn.Linear(2, 3), gc.nn.Sequential(gc.nn.Dropout(0.5, seed=0)), gc.nn.Linear(3, 1))
    values = model.state_dict()
    assert values.pop("1.0.counter") == 0
    model[1][0].counter.value = 7
    model.load_state_dict(values)
    assert model[1][0].counter.value == 7
    model.load_state_dict({**values, "1.0.counter": np.int64(5)})
    assert model[1][0].counter.value == 5
    values.pop("2.bias")
    with pytest.raises(gc.GraphcError, match=r"missing: 2\.bias"):
        model.load_state_dict(values)

"""What the self-test compares with: results that are rounding alone may differ, all others may not."""

from __future__ import annotations

import tempfile

import numpy as np
import pytest

import graphc as gc
from graphc_llvm import export
from graphc_llvm.export_recorded import Recorded, record, step_of
from tests.backends.llvm.export_support import loaded


def before_batch_norm():
    """A bias that batch norm takes off again has a gradient of 0, its weights have not."""
    x, t = gc.input("x", (64, 8)), gc.input("t", (64,), dtype="int64")
    first, norm, last = gc.nn.Linear(8, 12, seed=0), gc.nn.BatchNorm1d(12), gc.nn.Linear(12, 10, seed=1)
    loss = gc.nn.cross_entropy(last(gc.relu(norm(first(x), training=True))), t)
    return [x, t], gc.grad(loss, [first.bias, first.weight, last.bias])


def around_the_mean(dtype):
    x = gc.input("x", (3000,), dtype=dtype)
    return [x], [gc.sum(y - gc.mean(y)) for y in (x, gc.exp(x), x * x + 3.0)]


def of_few(dtype="float32"):
    """Sums that are 0 here, by chance."""
    inputs = [gc.input(f"x{size}", (size,), dtype=dtype) for size in range(2, 12)]
    return inputs, [gc.sum(y - gc.mean(y)) for x in inputs for y in (x, gc.exp(x))]


def over_classes():
    z, t = gc.input("z", (32, 10)), gc.input("t", (32,), dtype="int64")
    return [z, t], [gc.sum(gc.grad(gc.nn.cross_entropy(z, t), z), axis=1)]


NOISY = {
    "bias before batch norm": before_batch_norm,
    "around the mean": lambda: around_the_mean("float32"),
    "around the mean, float64": lambda: around_the_mean("float64"),
    "of few": of_few,
    "over classes": over_classes,
}


def recorded(inputs, outputs, running=lambda run: run, **options):
    """What is recorded of a function when it is exported: results and tolerances, in order. running: what makes another
    `run` of the program's."""
    found = []

    def kept(*arguments):
        *others, run = arguments
        found.append(record(*others, running(run)))
        return found[0]

    function = gc.compile(inputs, outputs, backend="llvm", **options)
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(export, "record", kept)
        function.export(f"{folder}/made", formats=[])
    return list(found[0].results.values()), list(found[0].tolerances.values())


def differs(results, others, tolerances):
    """Whether the self-test would say that something is wrong."""
    close = (
        np.all((np.abs(np.asarray(one, float) - other) <= allowed) | (one == other))
        for one, other, allowed in zip(results, others, tolerances, strict=True)
    )
    return not all(close)


@pytest.mark.parametrize("name", NOISY)
def test_rounding_may_differ(name):
    """Fewer lanes add in another order."""
    inputs, outputs = NOISY[name]()
    results, tolerances = recorded(inputs, outputs)
    others, other_tolerances = recorded(inputs, outputs, cpu="generic")
    assert not differs(results, others, tolerances)
    assert not differs(others, results, other_tolerances)
    for tolerance in tolerances:
        assert np.isfinite(tolerance).all() and (tolerance.dtype.kind != "f" or tolerance.min() > 0)


@pytest.mark.parametrize("name", NOISY)
def test_selftest_passes_on_another_processor(name, tmp_path):
    """On the least that this one can stand for; tests/embed has others."""
    function = gc.compile(*NOISY[name](), backend="llvm")
    loaded(function.export(tmp_path / "noisy", loader="python", cpu="generic")[-1]).selftest()


def perceptron(change=lambda weight: weight, activation=gc.relu, transposed=False, bias=True):
    """A small network, or one in which something is wrong."""
    draw = np.random.default_rng(0).normal
    first, second = (draw(size=size).astype("float32") / 4 for size in ((16, 16), (16, 10)))
    offset = draw(size=16).astype("float32") / 4
    x = gc.input("x", (8, 16))
    w = gc.param("w", (16, 16), init=change(first.copy()))
    b, v = gc.param("b", (16,), init=offset), gc.param("v", (16, 10), init=second)
    h = x @ (w.T if transposed else w)
    return [x], [gc.softmax(activation(h + b if bias else h + 0 * b) @ v)]


def one_changed(weight):
    weight[3, 5] *= 1.02
    return weight


def two_swapped(weight):
    weight[[0, 1]] = weight[[1, 0]]
    return weight


@pytest.mark.parametrize(
    "mistake",
    [
        {"change": one_changed}, {"change": two_swapped}, {"activation": gc.elu}, {"transposed": True}, {"bias": False},
        {"activation": lambda h: h}, {"change": lambda weight: weight * np.float32(1.001)},
    ],
    ids=["one weight", "two rows", "activation", "transposed", "no bias", "no activation", "scale"],
)
def test_mistakes_are_found(mistake):
    results, tolerances = recorded(*perceptron())
    others, _ = recorded(*perceptron(**mistake))
    assert differs(results, others, tolerances)
    assert tolerances[0].max() <= 5e-4 * results[0].max()


def test_a_wrong_weight_is_found_beside_rounding():
    """The bias' gradient says nothing, the other gradients say it all."""
    inputs, outputs = before_batch_norm()
    results, tolerances = recorded(inputs, outputs)
    others, _ = recorded(inputs, [outputs[0], outputs[1] * 1.001, outputs[2]])
    assert not differs(results[:1], others[:1], tolerances[:1])
    assert differs(results[1:2], others[1:2], tolerances[1:2])


def test_what_jumps_where_numbers_meet_may_be_anything():
    x = gc.input("x", (6, 50))
    one = gc.sin(x) ** 2 + gc.cos(x) ** 2
    outputs = [gc.argmax(one, axis=1), one >= 1.0, gc.where(one >= 1.0, 1.0, 0.0), x > 0.0, gc.argmax(x, axis=1)]
    results, tolerances = recorded([x], outputs)
    for jumps in (0, 1):
        assert tolerances[jumps].any() and tolerances[jumps].dtype == results[jumps].dtype
    assert tolerances[2].max() > 1 and tolerances[2].min() > 0
    for stays in (3, 4):
        assert not tolerances[stays].any()


def test_infinities_and_nans_are_results():
    x = gc.input("x", (5,))
    results, tolerances = recorded([x], [x / gc.abs(x * 0.0), gc.log(-gc.abs(x) - 1.0)])
    assert np.isinf(results[0]).all() and np.isnan(results[1]).all()
    assert not np.isinf(tolerances[0]).any() and not np.isinf(tolerances[1]).any()


def test_a_changed_input_whose_index_is_outside_counts_for_nothing():
    """An index may be computed from floats."""
    calls = []

    def sometimes(run):
        def refusing(arrays):
            calls.append(len(calls))
            if len(calls) % 2 == 0:
                raise IndexError
            return run(arrays)

        return refusing

    x = gc.input("x", (7,))
    results, tolerances = recorded([x], gc.exp(x), running=sometimes)
    assert len(calls) == 9
    assert tolerances[0].max() <= 5e-4 * results[0].max()


def test_a_state_without_axes_is_updated_in_every_run():
    x, s = gc.input("x", (4,)), gc.state("s", (), init=2.0)
    results, tolerances = recorded([x], [gc.sum(x) * s], updates={s: s * 1.5})
    assert 0 < tolerances[1] <= 5e-4 * results[1]


def test_all_of_a_tensor_is_rounding_or_nothing_is():
    x = gc.input("x", (16, 3))
    _, (tolerance,) = recorded([x], [gc.sum(x - gc.mean(x, axis=1, keepdims=True), axis=1)])
    assert tolerance.min() > 0 and np.median(tolerance) == tolerance.min()


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64", "bool"])
def test_the_object_compares_with_each_tolerance(dtype, tmp_path, monkeypatch):
    """Of three results the middle one is recorded as something else."""
    x = gc.input("x", (3,))
    function = gc.compile([x], gc.astype(x * 0.0 + 1.0, dtype), backend="llvm")
    wrong, anything = (np.nan, np.inf) if dtype.startswith("float") else (0, 1)
    allowed = np.array([0, anything, 0], dtype)
    for name, tolerances in ("granted", allowed), ("refused", np.zeros(3, dtype)), ("elsewhere", np.roll(allowed, 1)):

        def wrongly(interface, embedded, run, tolerances=tolerances):
            root = interface.fields["outputs"][0].root
            return Recorded(0, 1, {root: np.array([1, wrong, 1], dtype)}, {root: tolerances})

        monkeypatch.setattr(export, "record", wrongly)
        module = loaded(function.export(tmp_path / name, loader="python")[-1])
        if name == "granted":
            module.selftest()
        else:
            with pytest.raises(RuntimeError, match="something else than what was recorded"):
                module.selftest()


def test_the_same_every_time():
    twice = (recorded(*before_batch_norm()) for _ in range(2))
    for one, other in zip(*twice, strict=True):
        assert [array.tobytes() for array in one] == [array.tobytes() for array in other]


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 1000])
def test_at_most_sixteen_are_recorded(size):
    assert min(size, 8) <= len(range(0, size, step_of(size))) <= 16

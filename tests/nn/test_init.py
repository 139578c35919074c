"""Initialisers: statistics, fans, seeds."""

from __future__ import annotations

import math

import numpy as np
import pytest

import graphc as gc
from graphc.errors import ArgumentError, ShapeError
from graphc.nn import init
from tests.features.rows import shows

RANDOM = {
    "normal": lambda seed: init.normal(0.5, seed),
    "uniform": lambda seed: init.uniform(-1, 2, seed),
    "he_normal": init.he_normal,
    "he_uniform": init.he_uniform,
    "xavier_normal": init.xavier_normal,
    "xavier_uniform": init.xavier_uniform,
    "fan_in_uniform": init.fan_in_uniform,
    "orthogonal": lambda seed: init.orthogonal(seed=seed),
}
DEVIATION = {  # of a (400, 300) weight used as x @ W
    "normal": 0.5,
    "uniform": 3 / math.sqrt(12),
    "he_normal": math.sqrt(2 / 400),
    "he_uniform": math.sqrt(2 / 400),
    "xavier_normal": math.sqrt(2 / 700),
    "xavier_uniform": math.sqrt(2 / 700),
    "fan_in_uniform": math.sqrt(1 / 400 / 3),
    "orthogonal": math.sqrt(1 / 400),
}


ROWS = {  # of the features table
    "normal": ["E.normal"],
    "he_normal": ["E.he"],
    "he_uniform": ["E.he"],
    "xavier_normal": ["E.xavier"],
    "xavier_uniform": ["E.xavier"],
    "orthogonal": ["E.orthogonal"],
}


@pytest.mark.parametrize("name", [shows(name, ROWS.get(name, [])) for name in RANDOM])
def test_mean_and_deviation(name):
    values = RANDOM[name](0)((400, 300), "float64")
    expected_mean = 0.5 if name == "uniform" else 0.0
    assert values.mean() == pytest.approx(expected_mean, abs=5 * DEVIATION[name] / math.sqrt(values.size))
    assert values.std() == pytest.approx(DEVIATION[name], rel=0.01)


@pytest.mark.feature("E.seeds")
@pytest.mark.parametrize("name", RANDOM)
def test_one_seed_one_array(name):
    first, again, other = (RANDOM[name](seed)((20, 30), "float32") for seed in (7, 7, 8))
    assert first.dtype == np.float32
    assert np.array_equal(first, again) and not np.array_equal(first, other)


@pytest.mark.parametrize("name", RANDOM)
def test_float32_is_float64_rounded(name):
    assert np.array_equal(
        RANDOM[name](3)((9, 17), "float32"), RANDOM[name](3)((9, 17), "float64").astype("float32")
    )


def test_numbers_of_a_seed_are_those_of_philox():
    expected = np.random.Generator(np.random.Philox(np.random.SeedSequence(5))).standard_normal(6)
    assert np.array_equal(init.normal(1.0, seed=5)((2, 3), "float64").ravel(), expected)


def test_large_arrays_are_drawn_in_chunks_without_a_seam(monkeypatch):
    whole = init.normal(seed=1)((50,), "float64")
    monkeypatch.setattr(init, "_CHUNK", 7)
    assert np.array_equal(init.normal(seed=1)((50,), "float64"), whole)


def test_uniform_bounds():
    values = init.he_uniform(seed=0)((96, 100), "float64")
    assert np.abs(values).max() <= 0.25 and np.abs(values).max() > 0.249


def test_fans():
    assert init.fans((784, 128)) == (784, 128)
    assert init.fans((784, 128), "oi") == (128, 784)
    assert init.fans((16, 6, 5, 5)) == init.fans((16, 6, 5, 5), "oi") == (150, 400)
    assert init.fans((8, 4, 3)) == (12, 24)
    assert init.fans((5,)) == (5, 5)


@pytest.mark.feature("E.he")
def test_fan_in_of_a_convolution():
    assert init.he_normal(seed=0)((64, 32, 3, 3), "float64").std() == pytest.approx(math.sqrt(2 / 288), rel=0.02)


@pytest.mark.feature("E.orthogonal")
@pytest.mark.parametrize("shape", [(5, 5), (3, 8), (8, 3), (4, 2, 3, 3)])
def test_orthogonal(shape):
    matrix = init.orthogonal(2.0, seed=0)(shape, "float64").reshape(shape[0], -1)
    small = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    np.testing.assert_allclose(small, 4 * np.eye(len(small)), atol=1e-12)


@pytest.mark.feature("E.zeros")
def test_numbers():
    assert np.array_equal(init.zeros()((2,), "float32"), np.zeros(2, "float32"))
    assert np.array_equal(init.ones()((2,), "int64"), np.ones(2, "int64"))
    assert np.array_equal(init.constant(0.25)((), "float64"), np.array(0.25))


def test_without_a_seed_two_differ_and_a_run_repeats(monkeypatch):
    def run():
        monkeypatch.setattr(init, "_unseeded", init.Counter())
        model = gc.nn.Sequential(gc.nn.Linear(4, 4), gc.nn.Linear(4, 4))
        alone = [gc.nn.Linear(4, 4), gc.nn.Linear(4, 4)]
        free = [gc.param("W", (4, 4), init=gc.init.he_normal()) for _ in range(2)]
        variables = [*model.parameters(), *(p for layer in alone for p in layer.parameters()), *free]
        return [variable.value.tobytes() for variable in variables]

    first = run()
    assert len(set(first)) == len(first) == 10
    assert run() == first


def test_a_new_layer_leaves_unseeded_others_as_they_were(monkeypatch):
    def weight(layers):
        monkeypatch.setattr(init, "_unseeded", init.Counter())
        return gc.nn.Sequential(*layers).parameters()[0].value

    short = weight([gc.nn.Linear(3, 4)])
    assert np.array_equal(weight([gc.nn.Linear(3, 4), gc.nn.Linear(4, 4)]), short)


@pytest.mark.parametrize("bad", [-1, 1.5, "0", (), (1, -1)])
def test_bad_seed(bad):
    with pytest.raises(ArgumentError, match="he_normal: seed must be a whole number from 0 up"):
        init.he_normal(seed=bad)


def test_bad_options():
    with pytest.raises(ArgumentError, match='layout is "io"'):
        init.he_normal(layout="iohw")
    with pytest.raises(ArgumentError, match="sigma must be from 0 up, not -1"):
        init.normal(-1)
    with pytest.raises(ArgumentError, match="low must not be above high"):
        init.uniform(2, 1)
    with pytest.raises(ShapeError, match="a scalar has none"):
        gc.param("s", (), init=init.he_normal(seed=0)).value
    with pytest.raises(ShapeError, match="at least two axes"):
        init.orthogonal(seed=0)((3,), "float32")

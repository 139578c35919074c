"""state_dict and load_state_dict: names, copies, what is refused, and that nothing changes then."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc.errors import ArgumentError, ArgumentTypeError


class Net(gc.nn.Module):
    def __init__(self, seed=None):
        self.body = gc.nn.Sequential(gc.nn.Linear(4, 3, seed=seed), gc.nn.ReLU())
        self.heads = [gc.nn.Linear(3, 2, bias=False), gc.nn.Linear(3, 2)]
        self.seen = gc.state("seen", (), dtype="int64")

    def forward(self, x):
        return self.heads[0](self.body(x)) + self.heads[1](self.body(x))


NAMES = ["body.0.weight", "body.0.bias", "heads.0.weight", "heads.1.weight", "heads.1.bias", "seen"]


def values_of(model):
    return {name: value.copy() for name, value in model.state_dict().items()}


def assert_same(found, expected):
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype and found[name].shape == value.shape
        assert np.array_equal(found[name], value, equal_nan=value.dtype.kind == "f")


def test_names_copies_and_states():
    model = Net()
    found = model.state_dict()
    assert list(found) == NAMES
    assert [name for name, _ in model.named_states()] == ["seen"] and model.states() == [model.seen]
    found["seen"][...] = 7
    found["body.0.bias"][...] = 7
    assert model.seen.value == 0 and not np.any(model.body[0].bias.value == 7)


def test_what_one_model_has_another_takes():
    one, other = Net(), Net()
    one.seen.value = 5
    assert other.load_state_dict(one.state_dict()) == ([], [])
    assert_same(other.state_dict(), one.state_dict())


def test_batch_norm_has_pytorchs_names():
    model = gc.nn.Sequential(gc.nn.Conv2d(1, 2, 3), gc.nn.BatchNorm2d(2))
    assert set(model.state_dict()) == {
        "0.weight",
        "0.bias",
        "1.weight",
        "1.bias",
        "1.running_mean",
        "1.running_var",
        "1.num_batches_tracked",
    }


def test_shared_parameters_have_all_their_names_and_one_value():
    class Tied(gc.nn.Module):
        def __init__(self):
            self.a, self.b = gc.nn.Linear(2, 2, bias=False), gc.nn.Linear(2, 2, bias=False)
            self.b.weight = self.a.weight
            self.c = self.a

    model = Tied()
    found = model.state_dict()
    assert list(found) == ["a.weight", "b.weight", "c.weight"]
    model.load_state_dict({name: value + 1 for name, value in found.items()})
    assert_same(model.state_dict(), {name: value + 1 for name, value in found.items()})
    with pytest.raises(ArgumentError, match=r"b\.weight: it is one array with a\.weight, but their values differ"):
        model.load_state_dict(found | {"b.weight": found["b.weight"] * 2})


def test_all_that_is_wrong_is_listed_and_nothing_changes():
    model = Net()
    before = values_of(model)
    bad = values_of(model)
    del bad["heads.0.weight"]
    bad |= {
        "extra": np.zeros(2),
        "body.0.weight": np.zeros((3, 5), np.float32),
        "seen": np.array(1.5),
        "heads.1.bias": np.array([0.1, 0.2]),
        "body.0.bias": np.ones(3, np.float32),
    }
    with pytest.raises(ArgumentError) as caught:
        model.load_state_dict(bad)
    assert caught.value.message.splitlines() == [
        "Net.load_state_dict: nothing was changed:",
        "  missing: heads.0.weight",
        "  unexpected: extra",
        "  body.0.weight: its shape is (3, 5), (3, 4) is expected",
        "  heads.1.bias: its float64 values cannot be held by float32; convert it with astype first",
        "  seen: its dtype is float64, int64 is expected",
        "  strict=False leaves out what has no counterpart",
    ]
    assert caught.value.where.startswith(__file__)
    assert_same(model.state_dict(), before)
    with pytest.raises(ArgumentError, match=r"body\.0\.weight: its shape"):
        model.load_state_dict(bad, strict=False)
    assert_same(model.state_dict(), before)
    with pytest.raises(ArgumentTypeError, match=r"Net\.load_state_dict: a dictionary of arrays is needed, not list"):
        model.load_state_dict([])


def test_without_strict_what_has_no_counterpart_is_returned():
    model = Net()
    missing, unexpected = model.load_state_dict({"extra": np.zeros(1), "seen": np.array(3)}, strict=False)
    assert missing == NAMES[:-1] and unexpected == ["extra"] and model.seen.value == 3


def test_another_width_is_converted_where_no_value_changes():
    model = gc.nn.Linear(2, 1)
    model.load_state_dict({"weight": np.array([[0.5, -3.0]]), "bias": np.array([2.0], np.float16)})
    assert model.weight.value.tolist() == [[0.5, -3.0]] and model.bias.value.dtype == np.float32
    model.load_state_dict({"weight": np.array([[np.nan, np.inf]]), "bias": np.array([0.0])})
    for bad in (1e300, 0.1):
        with pytest.raises(ArgumentError, match="weight: its float64 values cannot be held by float32"):
            model.load_state_dict({"weight": np.array([[bad, 0.0]]), "bias": np.array([0.0])})


def test_loading_runs_no_initialiser():
    def forbidden(shape, dtype):
        raise AssertionError("the initialiser ran")

    class Big(gc.nn.Module):
        def __init__(self):
            self.w = gc.param("w", (3,), init=forbidden)

    model = Big()
    model.load_state_dict({"w": np.arange(3.0)})
    assert model.w.value.tolist() == [0, 1, 2]
    other = Big()
    other.w.value = [4, 5, 6]
    assert other.w.value.tolist() == [4, 5, 6]
    given = np.zeros(3, np.float32)
    third = Big()
    third.load_state_dict({"w": given})
    given[...] = 9
    assert third.w.value.tolist() == [0, 0, 0]


def test_compiled_functions_see_what_is_loaded():
    model, x = gc.nn.Linear(2, 1, seed=0), gc.input("x", (1, 2))
    f = gc.compile([x], model(x))
    f(np.ones((1, 2), np.float32))
    model.load_state_dict({"weight": np.array([[2.0, 3.0]]), "bias": np.array([1.0])})
    assert f(np.ones((1, 2), np.float32)).item() == 6

"""Module and Sequential: registration, names, scopes, training."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc.errors import ArgumentTypeError
from graphc.ir.graph import topological
from graphc.ir.origin import origins_of


class Block(gc.nn.Module):
    def __init__(self):
        self.first = gc.nn.Linear(4, 4, seed=1)
        self.scale = gc.param("scale", (4,), init=1.0)
        self.seen = gc.state("seen", ())
        self.rest = [gc.nn.Linear(4, 4, bias=False), gc.nn.Linear(4, 2)]

    def forward(self, x):
        x = gc.relu(self.first(x)) * self.scale
        for layer in self.rest:
            x = layer(x)
        return x


class Net(gc.nn.Module):
    def __init__(self):
        self.encoder = gc.nn.Sequential(Block(), gc.nn.Tanh())
        self.head = gc.nn.Linear(2, 1)

    def forward(self, x):
        return self.head(self.encoder(x))


NAMES = [
    "encoder.0.first.weight",
    "encoder.0.first.bias",
    "encoder.0.scale",
    "encoder.0.rest.0.weight",
    "encoder.0.rest.1.weight",
    "encoder.0.rest.1.bias",
    "head.weight",
    "head.bias",
]


def scopes(tensor):
    return {origin.scope for node in topological((tensor.node,)) for origin in origins_of(node)}


def test_named_parameters_in_order_of_declaration_and_without_states():
    model = Net()
    assert [name for name, _ in model.named_parameters()] == NAMES
    assert all(a is b for a, b in zip(model.parameters(), model.parameters(), strict=True))


def test_parameters_of_layers_carry_their_full_name_whatever_is_asked_first():
    model = Net()
    assert model.encoder[0].first.weight.name == "encoder.0.first.weight"
    model(gc.input("x", (3, 4)))
    assert [p.name for p in model.parameters()] == [n if n != "encoder.0.scale" else "scale" for n in NAMES]


def test_scopes_follow_attributes():
    found = scopes(Net()(gc.input("x", (3, 4))))
    assert {"encoder/0", "encoder/0/first", "encoder/0/rest/1", "encoder/1", "head"} <= {
        scope if not scope.endswith(("/matmul", "/add")) else scope.rsplit("/", 1)[0] for scope in found
    }


def test_user_lines_point_here():
    model = gc.nn.Sequential(gc.nn.Linear(4, 2))
    y = model(gc.input("x", (3, 4)))
    assert {origin.file for origin in origins_of(y.node)} == {__file__}


@pytest.mark.feature("C.parameters")
def test_parameter_count_of_two_three_one_is_13():
    model = gc.nn.Sequential(gc.nn.Linear(2, 3), gc.nn.Sigmoid(), gc.nn.Linear(3, 1))
    assert sum(p.value.size for p in model.parameters()) == 13
    assert [name for name, _ in model.named_parameters()] == ["0.weight", "0.bias", "2.weight", "2.bias"]


def test_a_shared_layer_counts_once():
    layer = gc.nn.Linear(4, 4)
    model = gc.nn.Sequential(layer, gc.nn.ReLU(), layer)
    assert len(model.parameters()) == 2
    assert model(gc.input("x", (1, 4))).shape == (1, 4)

    class Tied(gc.nn.Module):
        def __init__(self):
            self.a = gc.nn.Linear(2, 2)
            self.b = gc.nn.Linear(2, 2)
            self.b.weight = self.a.weight

    tied = Tied()
    assert [name for name, _ in tied.named_parameters()] == ["a.weight", "a.bias", "b.bias"]


def test_training_reaches_the_modules_inside():
    seen = []

    class Probe(gc.nn.Module):
        def forward(self, x, training):
            seen.append(training)
            return x

    class Outer(gc.nn.Module):
        def __init__(self):
            self.inner = gc.nn.Sequential(Probe())
            self.off = Probe()

        def forward(self, x):
            return self.off(self.inner(x), training=False)

    model, x = Outer(), gc.input("x", ())
    model(x)
    model(x, training=True)
    Probe()(x)
    assert seen == [False, False, True, False, False]


def test_functions_in_a_sequential():
    model = gc.nn.Sequential(gc.nn.Linear(2, 2, seed=0), gc.relu, lambda x: 2 * x)
    assert model(gc.input("x", ("N", 2))).dtype == "float32"
    assert len(model) == 3 and model[1] is gc.relu


def test_a_value_that_cannot_be_called():
    with pytest.raises(ArgumentTypeError, match=r"layer 1 is 3; .*test_module\.py:\d+"):
        gc.nn.Sequential(gc.nn.ReLU(), 3)
    with pytest.raises(ArgumentTypeError, match="layer 0"):
        gc.nn.Sequential(gc.nn.ReLU)


def test_unknown_attribute_and_missing_forward():
    with pytest.raises(AttributeError, match="'Linear' object has no attribute 'wieght'"):
        gc.nn.Linear(2, 2).wieght
    with pytest.raises(NotImplementedError, match="Module defines no forward"):
        gc.nn.Module()(1)


def test_repr():
    model = gc.nn.Sequential(gc.nn.Conv2d(1, 6, 5, padding=2, bias=False), gc.nn.Linear(784, 128), gc.nn.ReLU())
    assert repr(model) == (
        "Sequential(\n  (0): Conv2d(1, 6, 5, padding=2, bias=False)\n  (1): Linear(784, 128)\n  (2): ReLU()\n)"
    )


def test_setting_a_value_is_seen_by_the_model():
    layer = gc.nn.Linear(2, 1, seed=0)
    layer.weight.value = [[1.0, 2.0]]
    layer.bias.value = [0.5]
    assert np.allclose(gc.evaluate(layer(gc.constant([[3.0, 4.0]])), {}), [[11.5]])

"""Recurrent layers over sequences: their cells, one step after another; sizes, options and errors."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc.backend import available
from graphc.errors import ArgumentError, ShapeError

L, N, D, H = 4, 3, 2, 5
KINDS = ("RNN", "LSTM", "GRU")


@pytest.fixture(params=available())
def backend(request):
    return request.param


def layer_of(kind, **options):
    return getattr(gc.nn, kind)(D, H, dtype="float64", seed=0, **options)


def by_cells(layer, kind, x, options):
    """The outputs and the last hidden states, made with cells that have the layer's parameters."""
    directions = 2 if options.get("bidirectional") else 1
    last = []
    for number in range(options.get("num_layers", 1)):
        columns = []
        for suffix in (f"l{number}", f"l{number}_reverse")[:directions]:
            width = D if number == 0 else H * directions
            cell = getattr(gc.nn, f"{kind}Cell")(width, H, bias=options.get("bias", True), dtype="float64")
            for name, parameter in cell.named_parameters():
                parameter.value = getattr(layer, f"{name}_{suffix}").value
            outputs, state = {}, None
            for t in range(L) if suffix[-1] != "e" else reversed(range(L)):
                state = cell(x[t]) if state is None else cell(x[t], state)
                outputs[t] = state[0] if kind == "LSTM" else state
            columns.append(gc.stack([outputs[t] for t in range(L)]))
            last.append(state[0] if kind == "LSTM" else state)
        x = gc.concatenate(columns, axis=-1)
    return x, gc.stack(last)


@pytest.mark.feature("C.recurrent")
@pytest.mark.parametrize(
    "options", [{}, {"num_layers": 2, "bidirectional": True}, {"bias": False}], ids=["plain", "both ways", "no bias"]
)
@pytest.mark.parametrize("kind", KINDS)
def test_cells_one_after_another(kind, options, backend):
    layer = layer_of(kind, **options)
    x = gc.input("x", (L, N, D), "float64")
    y, state = layer(x)
    hidden = state[0] if kind == "LSTM" else state
    expected = by_cells(layer, kind, x, options)
    at = np.random.default_rng(0).normal(size=(L, N, D))
    loss, expected_loss = (gc.sum(gc.sin(one)) + gc.sum(two * two) for one, two in ((y, hidden), expected))
    found = gc.compile([x], [y, hidden, gc.grad(loss, x)], backend=backend)(at)
    wanted = gc.compile([x], [*expected, gc.grad(expected_loss, x)], backend="numpy")(at)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-12)


def test_batch_first_and_no_batch():
    at = np.random.default_rng(0).normal(size=(L, N, D))
    layer, first = layer_of("LSTM"), layer_of("LSTM", batch_first=True)
    x, swapped = gc.input("x", (L, N, D), "float64"), gc.input("x", (N, L, D), "float64")
    y = gc.evaluate(layer(x)[0], {x: at})
    np.testing.assert_allclose(gc.evaluate(first(swapped)[0], {swapped: at.swapaxes(0, 1)}), y.swapaxes(0, 1))
    one = gc.input("x", (L, D), "float64")
    np.testing.assert_allclose(gc.evaluate(layer(one)[0], {one: at[:, 1]}), y[:, 1], rtol=1e-12)


def test_a_sequence_in_two_halves_with_the_state_handed_on():
    layer = layer_of("LSTM", num_layers=2)
    x = gc.input("x", (L, N, D), "float64")
    whole, _ = layer(x)
    first, state = layer(x[:2])
    second, _ = layer(x[2:], state)
    at = np.random.default_rng(0).normal(size=(L, N, D))
    found, expected = gc.evaluate([gc.concatenate([first, second]), whole], {x: at})
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_symbolic_length_and_batch(backend):
    layer = gc.nn.GRU(D, H, seed=0)
    x = gc.input("x", ("L", "N", D))
    run = gc.compile([x], layer(x), backend=backend)
    for length, batch in ((1, 1), (7, 2), (3, 5)):
        y, h = run(np.ones((length, batch, D), np.float32))
        assert y.shape == (length, batch, H) and h.shape == (1, batch, H)
        np.testing.assert_array_equal(y[-1], h[0])


def test_parameters_have_pytorchs_names_and_bounds():
    layer = gc.nn.LSTM(20, 16, num_layers=2, bidirectional=True, seed=1)
    names = [name for name, _ in layer.named_parameters()]
    assert names[:5] == ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0", "weight_ih_l0_reverse"]
    assert len(names) == 16 and layer.weight_ih_l1.shape == (64, 32)
    values = np.concatenate([parameter.value.ravel() for parameter in layer.parameters()])
    assert 0.24 < np.abs(values).max() <= 0.25 and len(np.unique(values)) > 0.99 * values.size


def test_dropout_between_layers_in_training_alone():
    layer = layer_of("RNN", num_layers=2, dropout=0.5)
    x = gc.input("x", (L, N, D), "float64")
    at = np.ones((L, N, D))
    plain, _ = layer(x)
    trained, _ = layer(x, training=True)
    step = gc.compile([x], [plain, trained])
    (one, drawn), (two, other) = step(at), step(at)
    np.testing.assert_array_equal(one, two)
    assert np.abs(drawn - other).max() > 1e-3 and np.abs(one - drawn).max() > 1e-3


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda x: gc.nn.GRU(3, H)(x), ShapeError, "2 features, 3 are expected"),
        (lambda x: gc.nn.GRU(D, H)(x[0, 0]), ShapeError, "1 axes"),
        (lambda x: gc.nn.GRU(D, H)(x, gc.zeros((2, N, H))), ShapeError, "the state must have shape"),
        (lambda x: gc.nn.LSTM(D, H)(x, gc.zeros((1, N, H))), ArgumentError, "pair"),
        (lambda x: gc.nn.RNN(D, H, nonlinearity="sin"), ArgumentError, "nonlinearity"),
        (lambda x: gc.nn.RNN(D, 0), ArgumentError, "hidden_size"),
        (lambda x: gc.nn.RNN(D, H, dropout=1.0), ArgumentError, "dropout"),
    ],
    ids=["features", "axes", "state", "pair", "nonlinearity", "hidden size", "dropout"],
)
def test_errors(call, error, words):
    with pytest.raises(error, match=words) as caught:
        call(gc.input("x", (L, N, D)))
    assert "test_sequence.py" in str(caught.value)

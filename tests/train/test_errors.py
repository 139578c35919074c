"""Wrong use of a training: each refusal in words, and nothing changed."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc.backend import available
from graphc.errors import ArgumentError, ArgumentTypeError
from graphc.nn import cross_entropy, mse_loss
from graphc.train import NonFiniteLossError, checkpoint
from tests.train.support import CLASSES, WIDTH, accuracy, assert_same, data, net, states


def fit(given=None, model=None, loss=cross_entropy, **options):
    options = {"optimiser": gc.optim.SGD(0.1), "epochs": 1, "batch_size": 16, "backend": "numpy", **options}
    return gc.fit(model or net(), loss, data() if given is None else given, **options)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((np.zeros((0, WIDTH)), np.zeros(0, int)), "fit: the data has no rows"),
        ((np.zeros((5, WIDTH)), np.zeros(4, int)), r"differ in their numbers of rows; .*\(5, 6\), \(4,\)"),
        ((np.zeros((5, WIDTH)), np.zeros(5, int), np.zeros(5)), "pair .inputs, targets.*; 3 parts came"),
        ((np.array(["a", "b"]), np.zeros(2, int)), "the inputs must be arrays of numbers, not of <U1"),
        ((np.zeros((2, WIDTH)), np.array(["a", "b"])), "the targets must be arrays of numbers"),
        ((np.float32(1), np.float32(1)), "the inputs need an axis of rows"),
        (3, "data is arrays, an iterable of batches or a function that gives one, not 3"),
        ((np.zeros((5, WIDTH)), np.full(5, 2**63, np.uint64)), "9223372036854775808 does not fit int64"),
        ((np.zeros((5, WIDTH + 1)), np.zeros(5, int)), "Linear.6, 8.*: the input has 7 features, 6 are expected"),
        ((np.zeros((5, WIDTH)), np.zeros(5)), "probabilities must have the logits' shape"),
    ],
)
def test_data_that_does_not_fit(given, message):
    with pytest.raises((ArgumentError, ValueError, TypeError), match=message):
        fit(given)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": -1}, "fit: epochs must be a whole number from 0 up, not -1"),
        ({"epochs": 1.5}, "fit: epochs must be a whole number"),
        ({"batch_size": 0}, "fit: batch_size must be a whole number from 1 up, not 0"),
        ({"seed": -1}, "fit: seed"),
        ({"patience": 0}, "fit: patience must be a whole number from 1 up"),
        ({"every": 0}, "fit: every must be"),
        ({"on_nan": "ignore"}, 'fit: on_nan is "raise" or "continue", not \'ignore\''),
        ({"validation": 1.5}, "held_out must lie between 0 and 1"),
        ({"validation": (np.zeros((0, WIDTH)), np.zeros(0, int))}, "fit: validation: the data has no rows"),
        ({"optimiser": "adam"}, "fit: the optimiser must be one of gc.optim"),
        ({"loss": "mse"}, "fit: the loss must be a function"),
        ({"model": lambda x: x}, "fit: the model must be a gc.nn.Module"),
        ({"metrics": {"loss": accuracy}}, "a metric cannot be called 'loss'"),
        ({"loss": lambda p, t: p}, r"fit: the loss must be one number, its shape is \(N, 4\); take a mean"),
        ({"loss": lambda p, t: 3.0}, "fit: the loss must be a tensor, not float"),
        ({"loss": lambda p, t: gc.sum(t)}, "fit: the loss must be a float, its dtype is int64"),
        ({"metrics": {"guess": lambda p, t: p}}, "the metric 'guess' must be one number"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises((ArgumentError, ArgumentTypeError), match=message):
        fit(**options)


def test_a_fraction_of_batches_cannot_be_held_out():
    with pytest.raises(ArgumentError, match="validation is a fraction only of arrays"):
        fit([data()], validation=0.2)


def test_an_error_names_the_users_line():
    with pytest.raises(ArgumentError, match=r"test_errors\.py:\d+"):
        fit(epochs=-1)


# --- Losses that are no numbers -------------------------------------------------------------------------------------


def with_bad_value(value=np.nan, row=20):
    images, labels = data()
    images = images.copy()
    images[row, 2] = value
    return images, labels


def learnt_before(given, is_bad):
    """(the number of the first batch that is bad, what a fit of those before it has learnt)"""
    order = list(gc.data.batches(*given, 16, 0, 0))
    step = next(number for number, batch in enumerate(order) if is_bad(batch))
    model, optimiser = net(), gc.optim.Adam(0.1)
    trainer = gc.Trainer(model, cross_entropy, optimiser, backend="numpy")
    if step:
        trainer.fit(order[:step], epochs=1)
    else:  # nothing; the optimiser's states are there once a step was built
        trainer.fit(order[:1], epochs=0)
    return step, order[step], states(model, optimiser)


@pytest.mark.parametrize("row", [3, 20])
@pytest.mark.parametrize("label", [-1, CLASSES, 2**40])
def test_a_label_out_of_range(label, row):
    images, labels = data()
    labels = labels.copy()
    labels[row] = label
    step, _, expected = learnt_before((images, labels), lambda batch: label in batch[1])
    model, optimiser = net(), gc.optim.Adam(0.1)
    with pytest.raises(ArgumentError, match=rf"cross_entropy.*label {label} is outside") as caught:
        fit((images, labels), model, optimiser=optimiser)
    assert str(caught.value).startswith(f"fit: epoch 1, step {step + 1}: cross_entropy")
    assert_same(states(model, optimiser), expected)


@pytest.mark.parametrize("backend", available())
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_value_in_the_data(bad, backend):
    images, labels = data()
    images = images.copy()
    images[7, 2] = bad
    model = net()
    with pytest.raises(NonFiniteLossError, match=rf"the inputs hold {bad} in row \d+ of the batch"):
        fit((images, labels), model, backend=backend)
    for parameter in model.parameters():
        assert np.isfinite(parameter.value).all()


def test_the_error_has_what_a_diagnosis_needs():
    given = with_bad_value()
    step, batch, expected = learnt_before(given, lambda batch: np.isnan(batch[0]).any())
    model, optimiser = net(), gc.optim.Adam(0.1)
    with pytest.raises(NonFiniteLossError) as caught:
        fit(given, model, optimiser=optimiser)
    message = str(caught.value)
    assert message.startswith(f"fit: epoch 1, step {step + 1}: the loss is nan; the inputs hold nan in row ")
    assert "gc.diagnose(model, loss, error.batch)" in message and "test_errors.py" in message
    assert_same(caught.value.batch, batch)
    assert_same(states(model, optimiser), expected)
    report = gc.diagnose(model, cross_entropy, caught.value.batch)
    assert report.findings[0].startswith("not finite: the first NaN comes from the input 'x'")


@pytest.mark.parametrize("backend", available())
def test_training_may_go_on_after_it(backend):
    images, labels = with_bad_value()
    model, optimiser = net(), gc.optim.Adam(0.1)
    history = fit((images, labels), model, optimiser=optimiser, backend=backend, on_nan="continue", epochs=2)
    assert history.skipped == 2 and history.steps == 8 and np.isfinite(history["loss"]).all()
    good = [
        batch
        for epoch in range(2)
        for batch in gc.data.batches(images, labels, 16, 0, epoch)
        if not np.isnan(batch[0]).any()
    ]
    other, its_optimiser = net(), gc.optim.Adam(0.1)
    gc.fit(other, cross_entropy, good, optimiser=its_optimiser, epochs=1, backend=backend)
    assert_same(states(model, optimiser), states(other, its_optimiser))


def test_a_learning_rate_that_is_too_high():
    x = np.random.default_rng(0).normal(size=(64, 4)) * 100
    model = gc.nn.Linear(4, 1, seed=0)
    with pytest.raises(NonFiniteLossError, match=r"epoch \d+, step \d+: the loss is inf"):
        gc.fit(model, mse_loss, (x, x[:, :1]), optimiser=gc.optim.SGD(10.0), epochs=50, batch_size=16)
    assert np.isfinite(model.weight.value).all()


def test_a_run_time_error_names_the_batch_and_changes_nothing():
    class Words(gc.nn.Module):
        def __init__(self):
            self.table = gc.param("table", (10, 3), init=np.ones((10, 3), np.float32))

        def forward(self, words):
            return gc.take(self.table, words, axis=0)

    words = np.arange(40) % 10
    words[33] = 10
    order = list(gc.data.batches(words, words, 8, 0, 0))
    step = next(number for number, (batch, _) in enumerate(order) if 10 in batch)
    for backend in available():
        model = Words()
        with pytest.raises(ArgumentError, match=f"fit: epoch 1, step {step + 1}: .*index 10 is outside an axis of 10"):
            gc.fit(
                model,
                mse_loss,
                (words, np.zeros((40, 3))),
                optimiser=gc.optim.SGD(0.1),
                epochs=1,
                batch_size=8,
                backend=backend,
            )
        other = Words()
        gc.fit(
            other,
            mse_loss,
            [(batch, np.zeros((8, 3))) for batch, _ in order[:step]] or [(words[:0], np.zeros((0, 3)))],
            optimiser=gc.optim.SGD(0.1),
            epochs=1 if step else 0,
            backend=backend,
        )
        assert_same([model.table.value], [other.table.value])


def test_what_was_learnt_before_an_error_is_saved(tmp_path):
    path = tmp_path / "run.npz"
    model = net()
    with pytest.raises(NonFiniteLossError):
        fit(with_bad_value(), model, checkpoint=path)
    assert_same([checkpoint.read(str(path))[1]["now/0.weight"]], [model[0].weight.value])

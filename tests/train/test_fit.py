"""gc.fit and Trainer: what they compute, against loops written out here."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import graphc as gc
from graphc.backend import available
from graphc.data import batches, digits, split
from graphc.nn import cross_entropy
from tests.train.support import ROWS, SHORT, WIDTH, Running, accuracy, assert_same, data, net, states

RUN = {"epochs": 3, "batch_size": 16}


@pytest.mark.feature("E.minibatches")
@pytest.mark.parametrize("backend", available())
def test_a_fit_is_the_loop_that_one_would_write(backend):
    images, labels = data(SHORT)
    model, optimiser = net(), gc.optim.Adam(0.01)
    history = gc.fit(model, cross_entropy, (images, labels), optimiser=optimiser, seed=5, backend=backend, **RUN)

    other, its_optimiser = net(), gc.optim.Adam(0.01)
    x, t = gc.input("x", ("N", WIDTH)), gc.input("t", ("N",), dtype="int64")
    loss = cross_entropy(other(x, training=True), t)
    running = other[1]
    updates = {state: state.next_value for state in (running.mean, running.counter)}
    step = gc.compile([x, t], loss, updates | its_optimiser.updates(loss, other.parameters()), backend=backend)
    means = []
    for epoch in range(3):
        losses = [(float(step(*batch)), len(batch[1])) for batch in batches(images, labels, 16, 5, epoch)]
        means.append(sum(value * rows for value, rows in losses) / SHORT)
    assert_same(states(model, optimiser), states(other, its_optimiser))
    assert history["loss"] == means and history.steps == 3 * 4 and history.epochs == 3
    assert running.counter.value == 12


@pytest.mark.feature("E.history")
def test_digits_are_learnt():
    images, labels, test_images, test_labels = split(*digits(), held_out=0.2, seed=1)
    model = gc.nn.Sequential(
        gc.nn.Linear(64, 128, seed=(1, 0)), gc.nn.ReLU(), gc.nn.Linear(128, 10, seed=(1, 1))
    )
    trainer = gc.Trainer(model, cross_entropy, gc.optim.Adam(2e-3), metrics={"accuracy": gc.nn.accuracy})
    history = trainer.fit((images, labels), epochs=25, validation=(test_images, test_labels))
    assert history["validation_accuracy"][-1] >= 0.97
    found = trainer.predict(test_images).argmax(axis=1)
    assert np.mean(found == test_labels) == pytest.approx(history["validation_accuracy"][-1])
    assert trainer.evaluate((test_images, test_labels))["loss"] == pytest.approx(history["validation_loss"][-1])
    assert list(history) == ["loss", "accuracy", "validation_loss", "validation_accuracy", "seconds"]


def test_the_last_batch_is_left_out_if_asked():
    model, optimiser = net(), gc.optim.SGD(0.1)
    history = gc.fit(model, cross_entropy, data(SHORT), optimiser=optimiser, drop_last=True, **RUN)
    assert history.steps == 3 * 3


def test_a_batch_may_be_larger_than_the_data():
    history = gc.fit(net(), cross_entropy, data(), optimiser=gc.optim.SGD(0.1), epochs=2, batch_size=1000)
    assert history.steps == 2


def test_predict_and_evaluate_leave_everything_as_it_is():
    model, optimiser = net(), gc.optim.Adam(0.01)
    trainer = gc.Trainer(model, cross_entropy, optimiser, metrics={"accuracy": accuracy})
    trainer.fit(data(), **RUN)
    before = states(model, optimiser)
    scores = trainer.predict(data(70)[0], batch_size=32)
    results = trainer.evaluate(data(70), batch_size=32)
    assert_same(before, states(model, optimiser))
    images, labels = data(70)
    hidden = images @ model[0].weight.value.T + model[0].bias.value - model[1].mean.value
    expected = np.maximum(hidden, 0) @ model[3].weight.value.T + model[3].bias.value
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-5)
    assert results["accuracy"] == pytest.approx(np.mean(expected.argmax(axis=1) == labels))
    shifted = expected - expected.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    assert results["loss"] == pytest.approx(-log_p[np.arange(70), labels].mean(), rel=1e-5)


def test_predict_needs_no_fit():
    model = net()
    trainer = gc.Trainer(model, cross_entropy, gc.optim.SGD(0.1))
    assert trainer.predict(data()[0]).shape == (ROWS, 4)


class Sum(gc.nn.Module):
    """Two inputs, two outputs."""

    def __init__(self):
        self.left, self.right = gc.nn.Linear(2, 1, seed=0), gc.nn.Linear(3, 1, seed=1)

    def forward(self, x, y):
        return self.left(x) + self.right(y), self.left(x)


def test_several_inputs_and_targets():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 2)), rng.normal(size=(40, 3))
    s, u = x.sum(axis=1, keepdims=True) - y.sum(axis=1, keepdims=True), x.sum(axis=1, keepdims=True)

    def loss(prediction, s, u):
        return gc.nn.mse_loss(prediction[0], s) + gc.nn.mse_loss(prediction[1], u)

    model = Sum()
    trainer = gc.Trainer(model, loss, gc.optim.SGD(0.2))
    trainer.fit(((x, y), (s, u)), epochs=150, batch_size=20)
    np.testing.assert_allclose(model.left.weight.value, [[1, 1]], atol=1e-3)
    np.testing.assert_allclose(model.right.weight.value, [[-1, -1, -1]], atol=1e-3)
    first, second = trainer.predict((x, y), batch_size=7)
    np.testing.assert_allclose(first, s, atol=1e-2)
    np.testing.assert_allclose(second, u, atol=1e-2)


def test_a_loss_may_take_the_model_and_add_a_penalty():
    images, labels = data()

    def loss(model, x, t):
        return cross_entropy(model(x), t) + 0.5 * sum(gc.sum(p * p) for p in model.parameters())

    model, optimiser = net(), gc.optim.SGD(0.1)
    trainer = gc.Trainer(model, loss, optimiser, metrics={"accuracy": accuracy})
    history = trainer.fit((images, labels), validation=(images, labels), **RUN)
    assert "accuracy" not in history and len(history["validation_accuracy"]) == 3
    plain, its_optimiser = net(), gc.optim.SGD(0.1, weight_decay=1.0)  # the gradient of the penalty is p
    gc.fit(plain, cross_entropy, (images, labels), optimiser=its_optimiser, backend="numpy", **RUN)
    for one, other in zip(states(model, optimiser), states(plain, its_optimiser), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    assert model[1].counter.value == 12, "the loss built the model for training"


def test_inputs_alone():
    x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    model = gc.nn.Linear(4, 4, seed=0)
    history = gc.fit(
        model, lambda model, x: gc.nn.mse_loss(model(x), x), x, optimiser=gc.optim.SGD(1.0), epochs=60, batch_size=16
    )
    assert history["loss"][-1] < 1e-6
    np.testing.assert_allclose(model.weight.value, np.eye(4), atol=1e-2)


@pytest.mark.parametrize("dtype", ["float64", "uint8"])
def test_data_of_other_dtypes_is_converted(dtype):
    images, labels = data()
    images = np.abs(np.round(images * 4))
    seen = []

    def loss(prediction, target):
        seen.append((prediction.dtype, target.dtype))
        return cross_entropy(prediction, target)

    results = []
    for given in ((images, labels), (images.astype(dtype), labels.astype("uint8"))):
        model, optimiser = net(), gc.optim.SGD(0.01)
        gc.fit(model, loss, given, optimiser=optimiser, backend="numpy", **RUN)
        results.append(states(model, optimiser))
    assert set(seen) == {("float32", "int64")}
    assert_same(*results)


def test_a_fraction_is_held_out():
    images, labels = data(128)
    trainer = gc.Trainer(net(), cross_entropy, gc.optim.SGD(0.1), metrics={"accuracy": accuracy})
    history = trainer.fit((images, labels), validation=0.25, seed=3, **RUN)
    training_x, training_t, held_x, held_t = split(images, labels, 0.25, 3)
    other = gc.Trainer(net(), cross_entropy, gc.optim.SGD(0.1), metrics={"accuracy": accuracy})
    expected = other.fit((training_x, training_t), validation=(held_x, held_t), seed=3, **RUN)
    assert {n: v for n, v in history.items() if n != "seconds"} == {n: v for n, v in expected.items() if n != "seconds"}


# --- Early stopping, callbacks, going on ----------------------------------------------------------------------------


@pytest.mark.feature("E.early_stopping")
@pytest.mark.parametrize("backend", available())
def test_early_stopping_keeps_the_best_weights(backend):
    images = data(60)[0]
    noise = np.random.default_rng(1).integers(0, 4, 60)  # nothing to learn: the validation loss soon rises
    model, optimiser = net(), gc.optim.Adam(0.05)
    seen = []
    trainer = gc.Trainer(model, cross_entropy, optimiser, backend=backend)

    def note(record):
        running = model[1]
        seen.append([v.value for v in (*model.parameters(), running.mean, running.counter)])

    history = trainer.fit(
        (images[:30], noise[:30]),
        validation=(images[30:], noise[30:]),
        epochs=200,
        batch_size=10,
        patience=4,
        callbacks=[note],
    )
    losses = history["validation_loss"]
    assert history.epochs < 200 and history.best_epoch == int(np.argmin(losses)) + 1
    assert history.epochs == history.best_epoch + 4 and not history.interrupted
    running = model[1]
    now = [v.value for v in (*model.parameters(), running.mean, running.counter)]
    assert_same(now, seen[history.best_epoch - 1])
    assert trainer.evaluate((images[30:], noise[30:]))["loss"] == pytest.approx(min(losses))


def test_a_callback_sees_each_epoch_and_can_stop():
    seen = []

    def callback(record):
        seen.append(record)
        return record.epoch == 2

    history = gc.fit(
        net(), cross_entropy, data(), optimiser=gc.optim.SGD(0.1), epochs=9, batch_size=16, callbacks=[callback]
    )
    assert history.epochs == 2 and [(r.epoch, r.steps) for r in seen] == [(1, 4), (2, 8)]
    assert [record.values["loss"] for record in seen] == history["loss"]
    with pytest.raises(AttributeError):
        seen[0].epoch = 5


def test_a_second_fit_goes_on():
    results = []
    for calls in ((3,), (1, 2, 2, 3)):
        model, optimiser = net(), gc.optim.Adam(0.01)
        trainer = gc.Trainer(model, cross_entropy, optimiser)
        for epochs in calls:
            history = trainer.fit(data(), epochs=epochs, batch_size=16)
            assert history.epochs == epochs
        results.append(states(model, optimiser))
    assert_same(*results)


def test_the_learning_rate_may_change_between_epochs():
    model, optimiser = net(), gc.optim.SGD(0.1)

    def stop_learning(record):
        optimiser.lr.value = 0.0

    gc.fit(model, cross_entropy, data(), optimiser=optimiser, epochs=1, batch_size=16)
    after_one = [p.value for p in model.parameters()]
    model, optimiser = net(), gc.optim.SGD(0.1)
    gc.fit(
        model, cross_entropy, data(), optimiser=optimiser, epochs=4, batch_size=16, callbacks=[stop_learning]
    )
    assert_same(after_one, [p.value for p in model.parameters()])


# --- Progress -------------------------------------------------------------------------------------------------------


def test_progress_is_silent_where_nobody_looks(capfd):
    gc.fit(net(), cross_entropy, data(), optimiser=gc.optim.SGD(0.1), backend="numpy", **RUN)
    assert capfd.readouterr() == ("", "")


@pytest.mark.feature("E.progress")
def test_progress_writes_a_line_an_epoch_if_asked(capsys):
    gc.fit(net(), cross_entropy, data(), optimiser=gc.optim.SGD(0.1), progress=True, **RUN)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 and lines[2].startswith("epoch 3/3  loss ")


@pytest.mark.feature("E.progress")
@pytest.mark.parametrize("is_counted", [True, False])
def test_the_bar_on_a_terminal(monkeypatch, capsys, is_counted):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    given = data() if is_counted else lambda epoch: iter([data(), data()])
    gc.fit(net(), cross_entropy, given, optimiser=gc.optim.SGD(0.1), backend="numpy", **RUN)
    text = capsys.readouterr().err
    assert "epoch 1/3" in text and ("100%" in text if is_counted else "epoch 1/3 2" in text)
    assert "\r\033[Kepoch 3/3  loss " in text and text.endswith("\n"), "a line an epoch stays, the bar does not"


def test_a_running_state_is_found_in_a_list():
    class Listed(gc.nn.Module):
        def __init__(self):
            self.parts = [Running(WIDTH), gc.nn.Linear(WIDTH, 4, seed=0)]

        def forward(self, x):
            for part in self.parts:
                x = part(x)
            return x

    model = Listed()
    gc.fit(model, cross_entropy, data(), optimiser=gc.optim.SGD(0.1), backend="numpy", **RUN)
    assert model.parts[0].counter.value == 12 and np.abs(model.parts[0].mean.value).max() > 0

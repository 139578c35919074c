"""A run that was cut anywhere and went on is, bit for bit, the run that was not."""

from __future__ import annotations

import functools
import itertools
import os
import shutil
import signal
import time
from pathlib import Path

import pytest

import graphc as gc
from graphc.backend import available
from graphc.nn import cross_entropy
from graphc.train import checkpoint
from graphc.train.state import State
from tests.cache_support import fork, in_child, needs_fork
from tests.train.support import ROWS, SHORT, accuracy, assert_same, data, net, states, without_seconds

EPOCHS = 4
STEPS_AN_EPOCH = 4


class StoppedError(Exception):
    """Ends a training from inside."""


def run(path, backend="numpy", stop_at=None, epochs=EPOCHS, kind="arrays", rows=ROWS, validation=None, **options):
    """(states, history) of a training from the checkpoint on; `stop_at` fails at that number of batches."""
    model, optimiser = net(), gc.optim.Adam(0.02)
    images, labels = data(rows)
    count = itertools.count()

    def batches(epoch):
        for one in gc.data.batches(images, labels, 16, 3, epoch):
            if next(count) == stop_at:
                raise StoppedError
            yield one

    trainer = gc.Trainer(model, cross_entropy, optimiser, metrics={"accuracy": accuracy}, backend=backend)
    history = trainer.fit(
        (images, labels) if kind == "arrays" else batches,
        epochs=epochs,
        batch_size=16,
        seed=3,
        validation=validation,
        checkpoint=path,
        **options,
    )
    return states(model, optimiser), history


@pytest.mark.feature("E.resumption")
@pytest.mark.parametrize("backend", available())
def test_a_run_in_two_parts(tmp_path, backend):
    held_out = data(30, seed=1)
    whole, its_history = run(None, backend, validation=held_out)
    path = tmp_path / "run.npz"
    run(path, backend, epochs=2, validation=held_out)
    parts, history = run(path, backend, validation=held_out)
    assert_same(whole, parts)
    assert without_seconds(history) == without_seconds(its_history) and history.steps == its_history.steps
    assert len(history["seconds"]) == EPOCHS


@pytest.mark.feature("E.resumption")
@pytest.mark.parametrize("backend", available())
def test_a_run_that_goes_on_from_the_middle_of_an_epoch(tmp_path, backend):
    whole, its_history = run(None, backend)
    for cut in (2, 7, 11) if backend == "numpy" else (6,):
        path = tmp_path / f"{cut}.npz"
        with pytest.raises(StoppedError):
            run(path, backend, stop_at=cut, kind="function")
        header, _ = checkpoint.read(str(path))
        assert (header["epoch"], header["step"]) == divmod(cut, STEPS_AN_EPOCH)
        parts, history = run(path, backend, kind="function")
        assert_same(whole, parts)
        assert without_seconds(history) == without_seconds(its_history)


def test_arrays_go_on_from_the_middle_too(tmp_path, monkeypatch):
    """The order of the rows of the epoch that was cut is the same, and those that were learnt are left out."""
    whole, its_history = run(None, rows=SHORT)
    path = tmp_path / "run.npz"
    kept = []

    original = State.save

    def save(self, name, variables):
        original(self, name, variables)
        shutil.copy(name, tmp_path / f"{self.history.steps}.npz")
        kept.append((self.epoch, self.step))

    with monkeypatch.context() as patch:
        patch.setattr(State, "save", save)
        run(path, every=3, rows=SHORT)
    assert (0, 3) in kept and (1, 2) in kept and (2, 1) in kept and (1, 0) in kept
    for steps in (3, 6, 9):
        parts, history = run(tmp_path / f"{steps}.npz", rows=SHORT)
        assert_same(whole, parts)
        assert without_seconds(history) == without_seconds(its_history)


@pytest.mark.feature("E.resumption", "E.dropout")
def test_dropout_batch_norm_and_a_schedule_go_on(tmp_path):
    images, labels = data()

    def train(path, cut=None):
        model = gc.nn.Sequential(
            gc.nn.Linear(6, 8, seed=0),
            gc.nn.BatchNorm1d(8),
            gc.nn.ReLU(),
            gc.nn.Dropout(0.3, seed=2),
            gc.nn.Linear(8, 4, seed=1),
        )
        optimiser = gc.optim.AdamW(0.02, schedule=lambda step: 0.9**step, clip_norm=1.0)

        def batches(epoch):
            for number, one in enumerate(gc.data.batches(images, labels, 16, 0, epoch)):
                if (epoch, number) == cut:
                    raise StoppedError
                yield one

        history = gc.fit(model, cross_entropy, batches, optimiser=optimiser, epochs=3, checkpoint=path)
        return [*model.state_dict().values(), *optimiser.state_dict().values()], history

    whole, its_history = train(None)
    path = tmp_path / "run.npz"
    with pytest.raises(StoppedError):
        train(path, (1, 2))
    parts, history = train(path)
    assert_same(whole, parts)
    assert without_seconds(history) == without_seconds(its_history)


def test_a_finished_run_changes_nothing_more(tmp_path):
    path = tmp_path / "run.npz"
    whole, its_history = run(path)
    again, history = run(path)
    assert_same(whole, again)
    assert history == its_history


@pytest.mark.feature("E.resumption", "E.early_stopping")
def test_a_run_with_early_stopping_in_two_parts(tmp_path):
    def both(path, **options):
        x, t = data(60)
        model, optimiser = net(), gc.optim.Adam(0.02)
        trainer = gc.Trainer(model, cross_entropy, optimiser, backend="numpy")
        given = {"epochs": 100, "batch_size": 10, "patience": 3, "checkpoint": path, **options}
        history = trainer.fit((x[:30], t[:30]), validation=(x[30:], t[30:]), **given)
        return states(model, optimiser), history

    whole, its_history = both(None)
    best = its_history.best_epoch
    assert 1 < best < its_history.epochs < 100
    for cut in (best, best + 2, its_history.epochs):
        path = tmp_path / f"{cut}.npz"
        _, history = both(path, epochs=cut)
        assert history.epochs == cut
        parts, history = both(path)
        assert_same(whole, parts)
        assert without_seconds(history) == without_seconds(its_history) and history.best_epoch == best
    again, history = both(path)
    assert_same(whole, again)
    assert history.epochs == its_history.epochs, "it had stopped for good"


def test_a_run_that_a_callback_ended_stays_ended(tmp_path):
    path = tmp_path / "run.npz"
    ended, history = run(path, callbacks=[lambda record: record.epoch == 2])
    again, its_history = run(path)
    assert history == its_history and history.epochs == 2
    assert_same(ended, again)


def test_a_learning_rate_that_a_callback_set_is_kept(tmp_path):
    def train(path, epochs):
        model, optimiser = net(), gc.optim.SGD(0.1)

        def halve(record):
            optimiser.lr.value = optimiser.lr.value / 2

        gc.fit(
            model,
            cross_entropy,
            data(),
            optimiser=optimiser,
            epochs=epochs,
            checkpoint=path,
            callbacks=[halve],
            backend="numpy",
        )
        return states(model, optimiser)

    train(tmp_path / "run.npz", 2)
    assert_same(train(None, 4), train(tmp_path / "run.npz", 4))


# --- Processes that are killed --------------------------------------------------------------------------------------


@pytest.mark.feature("E.resumption")
@needs_fork
def test_runs_that_are_killed_at_any_moment(tmp_path):
    whole, its_history = run(None)
    path = tmp_path / "run.npz"

    def work():
        run(path, every=1)

    kills, delay = 0, 0.02
    while True:
        child = fork(work)
        time.sleep(delay)  # lets the run come to another point each time; none is awaited
        os.kill(child, signal.SIGKILL)
        if not os.WIFSIGNALED(os.waitpid(child, 0)[1]):
            break
        kills += 1
        delay *= 1.3
        if path.exists():
            checkpoint.read(str(path))
    assert kills > 3
    parts, history = run(path)
    assert_same(whole, parts)
    assert without_seconds(history) == without_seconds(its_history)


def killed_in_call(path, number):
    """A run that dies in a call of the operating system with which a checkpoint is written, counted over the run."""
    count = itertools.count()

    def counted(original, *arguments, **options):
        if next(count) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **options)

    for name in ("open", "write", "fsync", "close", "replace"):
        setattr(os, name, functools.partial(counted, getattr(os, name)))
    run(path, every=2)


@pytest.mark.feature("E.checkpoints", "E.resumption")
@needs_fork
def test_runs_that_are_killed_in_the_writing(tmp_path):
    whole, its_history = run(None)
    for number in (2, 17, 31, 45):
        path = tmp_path / f"{number}.npz"
        status = in_child(functools.partial(killed_in_call, path, number))
        if not os.WIFSIGNALED(status):
            break
        parts, history = run(path)
        assert_same(whole, parts)
        assert without_seconds(history) == without_seconds(its_history)
        assert Path(path).is_file()
    assert number > 40, "some checkpoints were written"

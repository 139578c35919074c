"""Ctrl-C: the first ends a training between steps, the second at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

import pytest

import graphc as gc
from graphc.nn import cross_entropy
from graphc.train import checkpoint, prefetch
from graphc.train.interrupts import Interrupts
from tests.train.support import assert_same, data, net, states, without_seconds

pytestmark = pytest.mark.skipif(not hasattr(signal, "raise_signal"), reason="sends signals to itself")


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


def source(at=None, times=1):
    """Batches by epoch; SIGINT comes when the batch of number `at` is gathered, counted over all epochs."""
    images, labels = data()

    def batches(epoch):
        for number, one in enumerate(gc.data.batches(images, labels, 16, 0, epoch)):
            if at == 4 * epoch + number:
                for _ in range(times):
                    os.kill(os.getpid(), signal.SIGINT)
            yield one

    return batches


def run(path=None, **options):
    model, optimiser = net(), gc.optim.Adam(0.02)
    given = {"data": source(), "epochs": 3, **options}
    history = gc.fit(
        model,
        cross_entropy,
        given.pop("data"),
        optimiser=optimiser,
        validation=data(30, seed=1),
        checkpoint=path,
        backend="numpy",
        **given,
    )
    return states(model, optimiser), history


@pytest.fixture(autouse=True)
def own_handler():
    """The handler that was there is there again."""
    before = signal.getsignal(signal.SIGINT)
    yield
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("at", [0, 3, 4, 6, 11])
def test_a_training_stops_between_steps_and_goes_on(tmp_path, at):
    whole, its_history = run()
    path = tmp_path / "run.npz"
    stopped, history = run(path, data=source(at))
    assert history.interrupted and history.epochs <= 3
    header, arrays = checkpoint.read(str(path))
    assert 4 * header["epoch"] + header["step"] == history.steps
    kept = {name.removeprefix("now/"): value for name, value in arrays.items()}
    assert_same([kept["0.weight"]], stopped[:1])
    parts, history = run(path)
    assert not history.interrupted
    assert_same(whole, parts)
    assert without_seconds(history) == without_seconds(its_history)


def test_a_trainer_goes_on_in_memory():
    whole, its_history = run()
    model, optimiser = net(), gc.optim.Adam(0.02)
    trainer = gc.Trainer(model, cross_entropy, optimiser, backend="numpy")
    history = trainer.fit(source(6), epochs=3, validation=data(30, seed=1))
    assert history.interrupted
    history = trainer.fit(source(), epochs=3, validation=data(30, seed=1))
    assert not history.interrupted and without_seconds(history) == without_seconds(its_history)
    assert_same(whole, states(model, optimiser))


def test_an_epoch_that_was_cut_goes_on_only_as_it_was():
    trainer = gc.Trainer(net(), cross_entropy, gc.optim.SGD(0.1), backend="numpy")

    def cut(record):
        interrupt()

    trainer.fit(data(), epochs=1, batch_size=16)
    history = trainer.fit(data(), epochs=2, batch_size=16)
    assert not history.interrupted
    trainer.fit(data(), epochs=5, batch_size=16, callbacks=[cut])
    assert trainer.history.interrupted and trainer.history.epochs == 3
    trainer.fit(data(), epochs=4, batch_size=8)  # between epochs anything may change
    assert trainer.history.epochs == 4


def test_ctrl_c_in_the_validation(tmp_path):
    whole, its_history = run()
    path = tmp_path / "run.npz"

    def validation(epoch):
        if epoch == 1:
            interrupt_main()
        yield data(30, seed=1)

    def interrupt_main():
        os.kill(os.getpid(), signal.SIGINT)

    model, optimiser = net(), gc.optim.Adam(0.02)
    history = gc.fit(
        model,
        cross_entropy,
        source(),
        optimiser=optimiser,
        epochs=3,
        validation=validation,
        checkpoint=path,
        backend="numpy",
    )
    assert history.interrupted and history.epochs == 1 and history.steps == 8
    parts, history = run(path)
    assert_same(whole, parts)
    assert without_seconds(history) == without_seconds(its_history)


def test_the_last_weights_stay_when_a_training_with_patience_is_interrupted(tmp_path):
    model, optimiser = net(), gc.optim.Adam(0.5)
    seen = []

    def note(record):
        seen.append(states(model, optimiser))
        if record.epoch == 3:
            interrupt()

    path = tmp_path / "run.npz"
    history = gc.fit(
        model, cross_entropy, data(), optimiser=optimiser, epochs=9, patience=9, callbacks=[note], checkpoint=path
    )
    assert history.interrupted and history.epochs == 3
    assert_same(states(model, optimiser), seen[2])


def test_ctrl_c_in_the_last_callback_interrupts_nothing():
    history = run(callbacks=[lambda record: interrupt() if record.epoch == 3 else None])[1]
    assert history.epochs == 3 and not history.interrupted


def test_a_second_ctrl_c_raises_at_once(tmp_path):
    path = tmp_path / "run.npz"
    with pytest.raises(KeyboardInterrupt):
        run(path, callbacks=[lambda record: (interrupt(), interrupt())])
    assert_no_reader()


def test_ctrl_c_while_waiting_for_data(tmp_path, monkeypatch):
    """A source that takes its time does not hold the interrupt up."""
    monkeypatch.setattr(prefetch, "JOIN_SECONDS", 0.01)
    release, found = threading.Event(), []
    images, labels = data()

    def slow(epoch):
        yield images[:16], labels[:16]
        os.kill(os.getpid(), signal.SIGINT)
        found.append(release.wait(10))  # until fit has returned; False if that waited for this
        yield images[16:32], labels[16:32]

    history = run(tmp_path / "run.npz", data=slow)[1]
    release.set()
    assert history.interrupted and history.steps <= 1
    assert_no_reader()
    assert found == [True]


def test_outside_the_main_thread_signals_are_left_alone():
    before = signal.getsignal(signal.SIGINT)
    found = []

    def work():
        found.append(run(callbacks=[lambda record: found.append(signal.getsignal(signal.SIGINT))])[1])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found[:3] == [before] * 3 and found[3].epochs == 3


def test_a_signal_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        history = run(callbacks=[lambda record: interrupt()])[1]
        assert not history.interrupted and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_handler_is_put_back_after_an_error():
    def fail(record):
        raise RuntimeError("in a callback")

    with pytest.raises(RuntimeError, match="in a callback"):
        run(callbacks=[fail])


def test_a_notice_on_a_terminal(monkeypatch, capfd):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with Interrupts() as interrupts:
        interrupt()
        assert interrupts.should_stop()
    assert "stopping after this step" in capfd.readouterr().err


def assert_no_reader():
    for _ in range(100):
        if not any(thread.name == "graphc-reader" for thread in threading.enumerate()):
            return
        time.sleep(0.02)  # a reader that was told to end may still be on its way
    raise AssertionError("a reader is left")

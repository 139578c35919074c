"""Where batches come from, and the thread that reads them ahead."""

from __future__ import annotations

import threading
import time
import traceback

import numpy as np
import pytest

import graphc as gc
from graphc.errors import ArgumentError
from graphc.nn import cross_entropy
from graphc.train import prefetch
from graphc.train.prefetch import AHEAD, Prefetch
from graphc.train.sources import CHUNK_BYTES, ArraySource, IterableSource, hold_out
from tests.train.support import assert_same, data, net, states
from tests.train.test_interrupts import assert_no_reader


def flat(chunks):
    return [batch for chunk in chunks for batch in chunk]


# --- Arrays ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 7, 16, 50, 5000])
@pytest.mark.parametrize("drop_last", [False, True])
def test_batches_are_those_of_gc_data(rows, drop_last):
    x, t = np.arange(rows * 3, dtype=np.float32).reshape(rows, 3), np.arange(rows)
    if drop_last and rows < 7:
        with pytest.raises(ArgumentError, match="do not fill one batch of 7"):
            ArraySource("fit", (x, t), 7, "float32", seed=4, drop_last=True)
        return
    source = ArraySource("fit", (x, t), 7, "float32", seed=4, drop_last=drop_last)
    assert source.inputs == 1
    for epoch in (0, 3):
        expected = list(gc.data.batches(x, t, 7, 4, epoch, drop_last=drop_last))
        for start in {0, 1, source.count() // 2, source.count()}:
            found = flat(source.batches(epoch, start))
            assert len(found) == len(expected[start:]) == source.count() - start
            for one, other in zip(found, expected[start:], strict=True):
                assert_same(one, other)
                assert all(array.flags.c_contiguous and array.flags.aligned for array in one)


def test_small_batches_are_handed_on_together_and_large_ones_alone():
    small = ArraySource("fit", np.zeros((1000, 4), np.float32), 8, "float32", seed=0)
    assert [len(chunk) for chunk in small.batches(0, 0)] == [125]
    large = ArraySource("fit", np.zeros((40, CHUNK_BYTES // 16), np.float32), 8, "float32", seed=0)
    assert [len(chunk) for chunk in large.batches(0, 0)] == [1] * 5


def test_without_a_seed_rows_keep_their_order():
    x = np.arange(10.0)[:, None]
    found = flat(ArraySource("evaluate", x, 4, "float64").batches(0, 0))
    np.testing.assert_array_equal(np.concatenate([batch[0] for batch in found]), x)


def test_a_part_is_held_out_with_its_targets():
    x, labels = np.arange(100.0), np.arange(100) % 4
    (training,), (held_out,) = (side for side in hold_out("fit", x, 0.2, 0))
    assert len(training[0]) == 80 and sorted([*training[0], *held_out[0]]) == list(range(100))
    ((x_held,), (t_held,)) = hold_out("fit", (x, labels), 0.2, 0)[1]
    assert np.bincount(t_held).tolist() == [5, 5, 5, 5] and (x_held % 4 == t_held).all()


# --- Iterables ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["list", "function", "object", "lists in it"])
def test_batches_of_the_users_own(kind):
    images, labels = data()

    def of(epoch):
        return list(gc.data.batches(images, labels, 16, 0, epoch % 2 if kind == "function" else 0))

    class Loader:
        def __iter__(self):
            return iter(of(0))

        def __len__(self):
            return 4

    given = {"list": of(0), "function": of, "object": Loader(), "lists in it": [list(one) for one in of(0)]}[kind]
    model, optimiser = net(), gc.optim.SGD(0.1)
    history = gc.fit(model, cross_entropy, given, optimiser=optimiser, epochs=3, backend="numpy")
    other, its_optimiser = net(), gc.optim.SGD(0.1)
    trainer = gc.Trainer(other, cross_entropy, its_optimiser, backend="numpy")
    for epoch in range(3):
        trainer.fit(of(epoch), epochs=epoch + 1)
    assert history.steps == 12
    assert_same(states(model, optimiser), states(other, its_optimiser))


def test_a_function_is_asked_once_an_epoch():
    asked = []

    def batches(epoch):
        asked.append((epoch, threading.current_thread().name))
        return iter([data(), data()])

    gc.fit(net(), cross_entropy, batches, optimiser=gc.optim.SGD(0.1), epochs=3)
    assert [epoch for epoch, _ in asked] == [0, 1, 2]
    assert [name for _, name in asked[1:]] == ["graphc-reader"] * 2


def test_an_iterator_that_is_used_up_is_told():
    with pytest.raises(ArgumentError, match="no batches in epoch 2; an iterator can be used once, so give a function"):
        gc.fit(net(), cross_entropy, iter([data()]), optimiser=gc.optim.SGD(0.1), epochs=2)
    with pytest.raises(ArgumentError, match=r"no batches in epoch 1 \("):
        gc.fit(net(), cross_entropy, lambda epoch: [], optimiser=gc.optim.SGD(0.1), epochs=2)


def test_an_error_about_a_batch_names_the_users_line_and_not_the_threads():
    x, t = data()
    with pytest.raises(ArgumentError, match=r"numbers of rows; .*test_sources\.py:\d+"):
        gc.fit(net(), cross_entropy, [(x, t), (x, t[1:])], optimiser=gc.optim.SGD(0.1), epochs=2)


def test_a_skipped_start_is_not_an_empty_epoch():
    source = IterableSource("fit", [data(), data()], "float32")
    assert flat(source.batches(0, 2)) == [] and len(flat(source.batches(0, 1))) == 1


# --- The reader -----------------------------------------------------------------------------------------------------


def failing_source(epoch):
    yield data()
    raise OSError("the tape is torn")


def test_an_error_in_the_reader_is_the_callers_with_its_traceback():
    model = net()
    with pytest.raises(OSError, match="the tape is torn") as caught:
        gc.fit(model, cross_entropy, failing_source, optimiser=gc.optim.SGD(0.1), epochs=2)
    frames = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert "failing_source" in frames and frames[0].startswith("test_an_error")
    assert model[1].counter.value == 1, "what came before it was learnt"
    assert_no_reader()


def test_no_reader_is_left_while_an_error_is_handled():
    bad = [(np.full((4, 6), np.nan), np.zeros(4, int))] * 10
    trainer = gc.Trainer(net(), cross_entropy, gc.optim.SGD(0.1), backend="numpy")
    with pytest.raises(ArithmeticError) as caught:
        trainer.fit(bad, epochs=2)
    assert_no_reader()
    with pytest.raises(ValueError, match="7 features") as its:
        trainer.evaluate([(np.zeros((4, 7)), np.zeros(4, int))] * 10)
    assert_no_reader()
    assert caught.value.__traceback__ is not None and its.value.__traceback__ is not None  # both hold their frames


class Closing:
    """An iterator without end that notes what is asked, and that it is closed."""

    def __init__(self):
        self.given, self.is_closed = 0, False

    def __call__(self):
        try:
            while True:
                self.given += 1
                yield self.given
        finally:
            self.is_closed = True


def test_the_reader_reads_ahead_but_not_far():
    source = Closing()
    with Prefetch(source) as items:
        iterator = iter(items)
        assert next(iterator) == 1
        wait_for(lambda: source.given == AHEAD + 2)  # one taken, those that wait, and one in its hand
        time.sleep(0.05)  # would let it go on, if it did
        assert source.given == AHEAD + 2
        assert [next(iterator) for _ in range(5)] == [2, 3, 4, 5, 6]
    assert source.is_closed
    assert_no_reader()


def test_waiting_for_an_item_can_be_stopped(monkeypatch):
    monkeypatch.setattr(prefetch, "JOIN_SECONDS", 0.01)
    release, taken = threading.Event(), []

    def slow():
        yield 1
        release.wait(10)  # until the test's end
        yield 2

    with Prefetch(slow, lambda: bool(taken)) as items:
        for item in items:
            taken.append(item)
    assert taken == [1]
    release.set()
    assert_no_reader()


@pytest.mark.parametrize("ending", ["close", "error", "generator", "end"])
def test_the_reader_always_ends(ending):
    source = Closing()
    if ending == "end":
        with Prefetch(lambda: iter(range(5))) as items:
            assert list(items) == [0, 1, 2, 3, 4]
    elif ending == "generator":

        def read():
            with Prefetch(source) as items:
                yield from items

        generator = read()
        assert next(generator) == 1
        generator.close()
    else:
        with pytest.raises(RuntimeError), Prefetch(source) as items:
            for item in items:
                if item == 3:
                    raise RuntimeError
    assert_no_reader()
    assert source.is_closed or ending == "end"


def test_the_reader_ends_with_the_training():
    class EnoughError(Exception):
        pass

    def stop(record):
        raise EnoughError

    for callbacks, kind in (((stop,), EnoughError), ((lambda record: True,), None)):
        closed = []

        def endless(epoch, closed=closed):
            try:
                yield data()
                yield data()
            finally:
                closed.append(epoch)

        if kind is None:
            gc.fit(net(), cross_entropy, endless, optimiser=gc.optim.SGD(0.1), epochs=3, callbacks=callbacks)
        else:
            with pytest.raises(kind):
                gc.fit(net(), cross_entropy, endless, optimiser=gc.optim.SGD(0.1), epochs=3, callbacks=callbacks)
        assert closed == [0]
        assert_no_reader()


def wait_for(condition):
    for _ in range(200):
        if condition():
            return
        time.sleep(0.01)  # the other thread needs the interpreter
    raise AssertionError("it did not come to that")

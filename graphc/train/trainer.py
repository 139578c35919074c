"""Trainer: fit, evaluate and predict."""

from __future__ import annotations

import math
import os
import time
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from graphc.compiler import Function
from graphc.errors import ArgumentError, ArgumentTypeError, DataError, GraphcError
from graphc.lang.source import user_line
from graphc.lang.tensor import Tensor
from graphc.nn.module import Module, in_training
from graphc.train.blame import blame
from graphc.train.graphs import Loss, Metrics, Recipe, Step, leaves_for, put, rows_of, signature
from graphc.train.history import History
from graphc.train.interrupts import Interrupts
from graphc.train.prefetch import Prefetch
from graphc.train.progress import Progress
from graphc.train.sources import ArraySource, Batch, IterableSource, Source, hold_out, is_arrays, parts
from graphc.train.state import Saved, State

Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True)
class Record:
    """What a callback is told after each epoch: how many are done, the optimiser's steps in all, the epoch's values."""

    epoch: int
    steps: int
    values: Mapping[str, float]


Callback: TypeAlias = Callable[[Record], object]


@dataclass(frozen=True)
class _Run:
    """The options of one call of `fit`, checked."""

    epochs: int
    source: Source
    validation: Source | None
    patience: int | None
    path: str | None
    every: int | None
    progress: bool | None
    callbacks: tuple[Callback, ...]
    skips: bool


class Trainer:
    """A model, a loss and an optimiser, with all that goes on from one call of `fit` to the next.

    loss: a function of (prediction, *targets) that returns a scalar, such as `gc.nn.cross_entropy`; or one whose first
        parameter is called `model`, of (model, *inputs, *targets), which calls the model itself and may add penalties.
    metrics: functions of (prediction, *targets), by name. With a loss that takes the model they are computed in
        `evaluate` and for validation data alone.
    backend, threads: as in `gc.compile`.

    The graph of a step is built with training=True, those of `evaluate` and `predict` with training=False; they share
    the parameters. Data is a pair (inputs, targets), each an array or a tuple of arrays, or inputs alone; or an
    iterable of such batches; or a function of the epoch's number, 0 for the first, that returns one. An iterable is
    read in a thread of its own. Float data is converted to the dtype of the model's parameters, small integers to
    int64.
    """

    def __init__(
        self,
        model: Module,
        loss: Loss,
        optimiser: Any,
        *,
        metrics: Metrics | None = None,
        backend: str | None = None,
        threads: int | None = None,
    ) -> None:
        if not isinstance(model, Module):
            raise ArgumentTypeError(f"fit: the model must be a gc.nn.Module, not {model!r}", user_line())
        if not callable(loss) or isinstance(loss, type):
            raise ArgumentTypeError(f"fit: the loss must be a function, not {loss!r}", user_line())
        if not hasattr(optimiser, "updates"):
            raise ArgumentTypeError(
                f"fit: the optimiser must be one of gc.optim, such as gc.optim.Adam(), not {optimiser!r}", user_line()
            )
        if metrics is not None and "loss" in metrics:
            raise ArgumentError("fit: a metric cannot be called 'loss'", user_line())
        self._recipe = Recipe(model, loss, dict(metrics or {}), backend, threads)
        self._optimiser = optimiser
        self._step: Step | None = None
        self._functions: dict[Any, tuple[Function, tuple[str, ...]]] = {}
        self._state = State()
        self._path: str | None = None  # of the checkpoint that is this trainer's own

    @property
    def history(self) -> History:
        """Of all epochs so far."""
        return self._state.history

    # --- fit --------------------------------------------------------------------------------------------------------

    def fit(
        self,
        data: Any,
        *,
        epochs: int,
        batch_size: int = 32,
        seed: int = 0,
        validation: Any = None,
        patience: int | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        every: int | None = None,
        drop_last: bool = False,
        on_nan: str = "raise",
        progress: bool | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> History:
        """Train until `epochs` epochs are done in all, those of earlier calls included; see `gc.fit`."""
        for option, number, least in (("epochs", epochs, 0), ("batch_size", batch_size, 1), ("seed", seed, 0)):
            _check_whole(option, number, least)
        for option, choice in (("patience", patience), ("every", every)):
            if choice is not None:
                _check_whole(option, choice, 1)
        if on_nan not in ("raise", "continue"):
            raise ArgumentError(f'fit: on_nan is "raise" or "continue", not {on_nan!r}', user_line())
        if isinstance(validation, float):
            data, validation = hold_out("fit", data, validation, seed)
        run = _Run(
            epochs,
            self._source("fit", data, batch_size, seed, drop_last),
            None if validation is None else self._source("fit: validation", validation, batch_size),
            patience,
            None if checkpoint is None else os.fspath(checkpoint),
            every,
            progress,
            tuple(callbacks),
            on_nan == "continue",
        )
        with Interrupts() as interrupts:
            self._go_on_from(run)
            try:
                self._train(run, interrupts)
            except Exception:
                self._save(run)  # what was learnt before is worth keeping
                raise
            self.history.interrupted = interrupts.should_stop() and self._goes_on(run)
            if self.history.interrupted:
                self._save(run)
        if patience is not None and self._state.best and not self.history.interrupted:
            put(self._built().weights, self._state.best)
        return self.history

    def _source(self, what: str, data: Any, size: int, seed: int | None = None, drop_last: bool = False) -> Source:
        floating = self._recipe.floating
        if is_arrays(data):
            return ArraySource(what, data, size, floating, seed, drop_last)
        if not callable(data) and not hasattr(data, "__iter__"):
            raise ArgumentTypeError(
                f"{what}: data is arrays, an iterable of batches or a function that gives one, not {data!r}",
                user_line(),
            )
        return IterableSource(what, data, floating)

    def _go_on_from(self, run: _Run) -> None:
        """Take the state from the checkpoint, if there is one, and refuse what does not go on from it."""
        settings = run.source.settings()
        saved = self._resumed(run, settings)
        state = self._state if saved is None else saved.state
        if saved is None and state.step and settings != state.settings:
            raise ArgumentError(
                f"fit: epoch {state.epoch + 1} was interrupted; the data, batch_size and seed must be as they were for "
                "it to go on",
                user_line(),
            )
        if self._step is None:
            batch = run.source.sample(state.epoch)
            self._step = Step(self._recipe, self._optimiser, batch, run.source.inputs)
        if saved is None:
            state.is_stopped, state.settings = False, settings
        else:
            saved.put(self._step.variables, self._step.weights)
        state.history.interrupted = False
        self._state, self._path = state, run.path

    def _resumed(self, run: _Run, settings: Mapping[str, Any]) -> Saved | None:
        """The checkpoint to go on from; one that this trainer wrote is what it has in memory."""
        if run.path is None:
            return None
        folder = os.path.dirname(os.path.abspath(run.path))
        if not os.path.isdir(folder):
            raise DataError(f"{run.path}: there is no folder {folder} for the checkpoint")
        if run.path == self._path or not os.path.lexists(run.path):
            return None
        if self.history.steps:
            raise DataError(f"{run.path}: this file exists, and the trainer has been trained already")
        saved = Saved.read(run.path)
        saved.check_settings(settings)
        return saved

    def _train(self, run: _Run, interrupts: Interrupts) -> None:
        state = self._state
        while self._goes_on(run) and not interrupts.should_stop():
            bar = Progress(run.source.count(), f"epoch {state.epoch + 1}/{run.epochs}")
            if run.progress is False:
                bar.is_terminal = False
            start, before = time.perf_counter(), state.seconds
            try:
                self._steps(run, interrupts, bar)
                values = state.means(self._built().names)
                if run.validation is not None and not interrupts.should_stop():
                    found = self._evaluate(run.validation, interrupts.should_stop)
                    values |= {f"validation_{name}": value for name, value in found.items()}
            finally:
                state.seconds = before + time.perf_counter() - start
                bar.close()
            if interrupts.should_stop():  # the epoch, or its validation, goes on from here
                return
            self._end_epoch(run, values, bar)

    def _goes_on(self, run: _Run) -> bool:
        is_patient = run.patience is None or self._state.waited < run.patience
        return self._state.epoch < run.epochs and is_patient and not self._state.is_stopped

    def _steps(self, run: _Run, interrupts: Interrupts, bar: Progress) -> None:
        """The steps of the epoch that are left, or those until Ctrl-C."""
        state = self._state
        bar.done = state.step
        with closing(_read(run.source, state.epoch, state.step, interrupts.should_stop)) as batches:
            for batch in batches:
                if interrupts.should_stop():
                    return
                self._one_step(run, batch)
                bar.advance()

    def _one_step(self, run: _Run, batch: Batch) -> None:
        """A step that counts, or an error that names it."""
        state, step = self._state, self._built()
        place = f"fit: epoch {state.epoch + 1}, step {state.step + 1}"
        try:
            results = step.function(*batch)
        except GraphcError as error:
            raise type(error)(f"{place}: {error.message.removeprefix('fit: ')}", error.where) from error
        values = {name: float(result) for name, result in zip(step.names, results, strict=True)}
        if math.isfinite(values["loss"]):
            state.add(values, rows_of(batch))
        elif run.skips:
            state.history.skipped += 1
        else:
            raise blame(place, values["loss"], batch, run.source.inputs)
        state.step += 1
        state.history.steps += 1
        if run.every is not None and state.history.steps % run.every == 0:
            self._save(run)

    def _end_epoch(self, run: _Run, values: dict[str, float], bar: Progress) -> None:
        state = self._state
        state.end_epoch(values)
        told = values.get("validation_loss", values["loss"])
        if run.patience is not None:
            state.judge(told, self._built().weights)
        if run.progress or (run.progress is None and bar.is_terminal):
            texts = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
            bar.report(f"epoch {state.epoch}/{run.epochs}  {texts}")
        record = Record(state.epoch, state.history.steps, MappingProxyType(values))
        for callback in run.callbacks:
            if callback(record) is True:
                state.is_stopped = True
        self._save(run)

    def _save(self, run: _Run) -> None:
        """Write the checkpoint. A disk that is full ends no training: the last checkpoint stays, and that is said."""
        if run.path is None or self._step is None:
            return
        try:
            self._state.save(run.path, self._step.variables)
        except OSError as error:
            warnings.warn(
                f"fit: the checkpoint {run.path} cannot be written ({error.strerror or error}); the one before stays",
                RuntimeWarning,
                stacklevel=5,
            )

    def _built(self) -> Step:
        assert self._step is not None
        return self._step

    # --- evaluate and predict ---------------------------------------------------------------------------------------

    def evaluate(self, data: Any, *, batch_size: int = 256) -> dict[str, float]:
        """The mean loss and metrics over data, built with training=False; every row has the same weight."""
        _check_whole("batch_size", batch_size, 1)
        return self._evaluate(self._source("evaluate", data, batch_size), lambda: False)

    def _evaluate(self, source: Source, should_stop: Callable[[], bool]) -> dict[str, float]:
        total = State()
        names: tuple[str, ...] = ()
        with closing(_read(source, self._state.epoch, 0, should_stop)) as batches:
            for batch in batches:
                if should_stop():
                    break
                function, names = self._evaluation(batch, source.inputs)
                results = function(*batch)
                total.add({n: float(r) for n, r in zip(names, results, strict=True)}, rows_of(batch))
        return total.means(names)

    def _evaluation(self, batch: Batch, inputs: int) -> tuple[Function, tuple[str, ...]]:
        key = ("evaluate", inputs, signature(batch))
        if key not in self._functions:
            leaves = leaves_for(batch, inputs)
            results = self._recipe.build(leaves, inputs, is_training=False)
            function = self._recipe.without_updates(leaves, list(results.values()), "evaluate")
            self._functions[key] = function, tuple(results)
        return self._functions[key]

    def predict(self, x: Any, *, batch_size: int = 256) -> Any:
        """The model's output for inputs (an array, or a tuple of them), built with training=False.

        An array, or a tuple of them for a model with several outputs; rows in the order of the inputs.
        """
        _check_whole("batch_size", batch_size, 1)
        inputs, _ = parts("predict", (x,))
        source = ArraySource("predict", (inputs,), batch_size, self._recipe.floating)
        is_single, found = True, []
        for batch in (one for chunk in source.batches(0, 0) for one in chunk):
            key = ("predict", signature(batch))
            if key not in self._functions:
                leaves = leaves_for(batch, len(batch))
                with in_training(False):
                    outputs = self._recipe.model(*leaves)
                single = isinstance(outputs, Tensor)
                function = self._recipe.without_updates(leaves, [outputs] if single else list(outputs), "predict")
                self._functions[key] = function, ("output",) if single else ()
            function, names = self._functions[key]
            is_single = bool(names)
            found.append(function(*batch))
        joined = tuple(np.concatenate(one) for one in zip(*found, strict=True))
        return joined[0] if is_single else joined


def _read(source: Source, epoch: int, start: int, should_stop: Callable[[], bool]) -> Generator[Batch, None, None]:
    """The batches of an epoch, which a thread gathers ahead; to be closed, since an error may keep it alive."""
    with Prefetch(lambda: source.batches(epoch, start), should_stop) as chunks:
        for chunk in chunks:
            yield from chunk


def _check_whole(option: str, value: Any, least: int) -> None:
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < least:
        raise ArgumentError(f"fit: {option} must be a whole number from {least} up, not {value!r}", user_line())

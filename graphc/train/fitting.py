"""fit: a training in one call."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from graphc.nn.module import Module
from graphc.train.graphs import Loss, Metrics
from graphc.train.history import History
from graphc.train.trainer import Callback, Trainer


def fit(
    model: Module,
    loss: Loss,
    data: Any,
    *,
    optimiser: Any,
    epochs: int,
    batch_size: int = 32,
    seed: int = 0,
    validation: Any = None,
    metrics: Metrics | None = None,
    patience: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    every: int | None = None,
    drop_last: bool = False,
    on_nan: str = "raise",
    progress: bool | None = None,
    backend: str | None = None,
    threads: int | None = None,
    callbacks: Sequence[Callback] = (),
) -> History:
    """Train a model on mini-batches; its parameters are changed in place.

    model, loss, metrics, backend, threads, and what data may be: see `Trainer`, of which this is one call.
    batch_size: rows of a batch of arrays. Each row occurs once an epoch, in an order that follows from (seed, epoch)
        alone. The last batch is short, or left out with drop_last. The loss of an epoch is the mean over its rows.
    validation: data of the same kinds, or a fraction of arrays to hold out by the seed (stratified by class where the
        target is one array of integer labels).
    patience: stop after so many epochs without a lower validation loss (training loss, when there is no validation
        data), and put the weights of the best epoch back at the end. "Weights" are the model's parameters and states.
    checkpoint: a file, written after each epoch, at the end, and after every `every` steps. If it exists, training goes
        on from it, bit for bit as if it had not stopped, or from the middle of an epoch; remove it to begin anew. A
        failure to write it is a warning.
    on_nan: "raise" stops with an error at a loss that is NaN or infinite; "continue" goes on with the next batch, and
        counts the step in history.skipped. Such a step changes no parameter and no state.
    progress: None shows a bar on stderr if that is a terminal; True writes a line an epoch in any case; False nothing.
    callbacks: functions of a `Record`, called after each epoch; one that returns True ends the training.

    Ctrl-C: the step that runs is finished, a checkpoint is written, and the history is returned with
    `history.interrupted` set; the model keeps the last weights, not the best. A second Ctrl-C raises KeyboardInterrupt
    at once. (In the main thread; elsewhere Ctrl-C is not touched.)

    Errors: `ArgumentError` for data and options that do not fit, `DataError` for a checkpoint that is damaged or of
    another run, `graphc.train.NonFiniteLossError`; what the data's code raises is raised here.

    >>> import graphc as gc, numpy as np
    >>> x = np.linspace(-1, 1, 64, dtype="float32")[:, None]
    >>> model = gc.nn.Linear(1, 1, seed=0)
    >>> history = gc.fit(model, gc.nn.mse_loss, (x, 3 * x + 1), optimiser=gc.optim.SGD(lr=0.5), epochs=20)
    >>> model.bias.value.round(3), history.epochs
    (array([1.], dtype=float32), 20)
    """
    trainer = Trainer(model, loss, optimiser, metrics=metrics, backend=backend, threads=threads)
    return trainer.fit(
        data,
        epochs=epochs,
        batch_size=batch_size,
        seed=seed,
        validation=validation,
        patience=patience,
        checkpoint=checkpoint,
        every=every,
        drop_last=drop_last,
        on_nan=on_nan,
        progress=progress,
        callbacks=callbacks,
    )

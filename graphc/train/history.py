"""What a training did: one number an epoch for the loss, each metric and the time."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any


class History(dict[str, list[float]]):
    """Lists by name, one entry an epoch: "loss", "validation_loss", metrics, "validation_" metrics, "seconds".

    interrupted: whether Ctrl-C ended the training. best_epoch: the epoch (1 is the first) whose weights early stopping
    kept, None without it. steps: of the optimiser, in all; skipped: those among them whose loss was not finite.
    """

    def __init__(self, values: Mapping[str, list[float]] | None = None) -> None:
        super().__init__(values or {})
        self.interrupted = False
        self.best_epoch: int | None = None
        self.steps = 0
        self.skipped = 0

    @property
    def epochs(self) -> int:
        """How many were finished."""
        return len(self.get("seconds", ()))

    def append(self, values: Mapping[str, float]) -> None:
        """Add an epoch; a name that was not there before gets NaN for the earlier ones."""
        count = self.epochs
        for name, value in values.items():
            self.setdefault(name, [float("nan")] * count).append(value)

    def to_json(self) -> dict[str, Any]:
        """All of it in plain types; the floats keep every bit."""
        return {
            "values": dict(self),
            "interrupted": self.interrupted,
            "best_epoch": self.best_epoch,
            "steps": self.steps,
            "skipped": self.skipped,
        }

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> History:
        """What `to_json` gave."""
        history = cls({str(name): [float(value) for value in values] for name, values in given["values"].items()})
        history.interrupted = bool(given["interrupted"])
        history.best_epoch = None if given["best_epoch"] is None else int(given["best_epoch"])
        history.steps, history.skipped = int(given["steps"]), int(given["skipped"])
        return history

    def plot(self, path: str | os.PathLike[str]) -> str:
        """Draw the losses and the metrics over the epochs into a file (.png, .svg, .pdf); returns its path.

        Errors: `BackendError` when matplotlib is not installed.
        """
        from graphc.train.plots import plot_history  # matplotlib takes most of a second to load

        return plot_history(self, path)

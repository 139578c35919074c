"""Where a training stands: all that goes on from epoch to epoch, and into checkpoints."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from graphc.errors import DataError
from graphc.lang.tensor import Variable
from graphc.train import checkpoint
from graphc.train.history import History

Array: TypeAlias = NDArray[Any]

_NOW, _BEST = "now/", "best/"
_MOST_DIFFERENCES = 12  # lines of an error


@dataclass
class State:
    """epoch: epochs finished; step: steps done in the one that goes on, over `rows` rows, with `sums` of loss and
    metrics weighted by rows and `seconds` so far. The best weights are copies by name, kept under early stopping."""

    epoch: int = 0
    step: int = 0
    rows: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    history: History = field(default_factory=History)
    best: dict[str, Array] = field(default_factory=dict)
    best_value: float = math.inf
    waited: int = 0
    is_stopped: bool = False
    settings: dict[str, Any] = field(default_factory=dict)

    def add(self, values: Mapping[str, float], rows: int) -> None:
        """Count a step."""
        self.rows += rows
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value * rows

    def means(self, names: tuple[str, ...]) -> dict[str, float]:
        """Of the epoch so far, each row with the same weight."""
        return {name: self.sums.get(name, 0.0) / self.rows if self.rows else math.nan for name in names}

    def end_epoch(self, values: Mapping[str, float]) -> None:
        """Put the epoch into the history, and begin the next."""
        self.history.append({**values, "seconds": self.seconds})
        self.epoch += 1
        self.step, self.rows, self.sums, self.seconds = 0, 0, {}, 0.0

    def judge(self, value: float, weights: Mapping[str, Variable]) -> None:
        """Keep the weights of an epoch that is better than all before."""
        if value < self.best_value:  # False for NaN
            self.best_value, self.waited = value, 0
            self.best = {name: variable.value for name, variable in weights.items()}
            self.history.best_epoch = self.epoch
        else:
            self.waited += 1

    def save(self, path: str, variables: Mapping[str, Variable]) -> None:
        """Write a checkpoint. OSError: the one that is there stays."""
        header = {
            "epoch": self.epoch,
            "step": self.step,
            "rows": self.rows,
            "sums": self.sums,
            "seconds": self.seconds,
            "history": self.history.to_json(),
            "best_value": self.best_value,
            "waited": self.waited,
            "is_stopped": self.is_stopped,
            "settings": self.settings,
        }
        arrays = {_NOW + name: variable.storage for name, variable in variables.items()}
        checkpoint.write(path, header, arrays | {_BEST + name: value for name, value in self.best.items()})


@dataclass(frozen=True)
class Saved:
    """A checkpoint that was read: the state, and the values of variables."""

    path: str
    state: State
    values: dict[str, Array]

    @classmethod
    def read(cls, path: str) -> Saved:
        """Errors: `DataError`, which names the file."""
        header, arrays = checkpoint.read(path)
        try:
            state = State(
                epoch=int(header["epoch"]),
                step=int(header["step"]),
                rows=int(header["rows"]),
                sums={str(name): float(value) for name, value in header["sums"].items()},
                seconds=float(header["seconds"]),
                history=History.from_json(header["history"]),
                best=_under(_BEST, arrays),
                best_value=float(header["best_value"]),
                waited=int(header["waited"]),
                is_stopped=bool(header["is_stopped"]),
                settings=dict(header["settings"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{path}: a damaged checkpoint: its header lacks {error}") from error
        return cls(path, state, _under(_NOW, arrays))

    def check_settings(self, settings: Mapping[str, Any]) -> None:
        """`DataError` when the rows would come in another order than in the run that was saved."""
        lines = _differences(self.state.settings, settings)
        if lines:
            raise DataError(
                f"{self.path}: a checkpoint of another run; remove it, or name another file, to train from the start. "
                + "; ".join(lines)
            )

    def put(self, variables: Mapping[str, Variable], weights: Mapping[str, Variable]) -> None:
        """Set the variables. `DataError` lists how another model or optimiser differs; nothing is changed then."""
        lines = _differences(_described(self.values), _described(variables))
        if self.state.best:
            lines += _differences(_described(self.state.best), _described(weights))
        if lines:
            more = f"; and {len(lines) - _MOST_DIFFERENCES} more" if len(lines) > _MOST_DIFFERENCES else ""
            raise DataError(
                f"{self.path}: a checkpoint of another model or optimiser: "
                + "; ".join(lines[:_MOST_DIFFERENCES])
                + more
            )
        for name, variable in variables.items():
            variable.storage[...] = self.values[name]


def _under(prefix: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}


def _described(values: Mapping[str, Any]) -> dict[str, str]:
    return {name: f"{np.dtype(value.dtype).name}{tuple(value.shape)}" for name, value in values.items()}


def _differences(saved: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """In words, name by name."""
    lines = []
    for name in dict.fromkeys((*saved, *now)):
        if name not in now:
            lines.append(f"{name} is in the file alone")
        elif name not in saved:
            lines.append(f"{name} is not in the file")
        elif saved[name] != now[name]:
            lines.append(f"{name} is {saved[name]} in the file, {now[name]} here")
    return lines

"""The error of a loss that is no number: where it was met, and what in the batch is to blame when that can be seen."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.errors import GraphcError
from graphc.lang.source import user_line
from graphc.train.sources import Batch


class NonFiniteLossError(GraphcError, ArithmeticError):
    """A loss that is NaN or infinite. `batch` is what was computed, as a pair (inputs, targets).

    The step changed nothing, so that `gc.diagnose` and `gc.trace_nan` can look at the parameters that led to it.
    """

    batch: tuple[Any, ...] = ()


def blame(place: str, loss: float, batch: Batch, inputs: int) -> NonFiniteLossError:
    """The error for a batch."""
    words = [f"{place}: the loss is {loss}", *_bad_values(batch, inputs)]
    words.append("the step changed nothing; gc.diagnose(model, loss, error.batch) says where it comes from")
    error = NonFiniteLossError("; ".join(words), user_line())
    sides = batch[:inputs], batch[inputs:]
    error.batch = tuple(side[0] if len(side) == 1 else side for side in sides if side)
    return error


def _bad_values(batch: Batch, inputs: int) -> list[str]:
    found = []
    for position, array in enumerate(batch):
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            at = tuple(int(axis) for axis in np.argwhere(~np.isfinite(array))[0])
            side = "inputs" if position < inputs else "targets"
            found.append(f"the {side} hold {array[at]} in row {at[0]} of the batch")
    return found

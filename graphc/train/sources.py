"""Where batches come from: arrays, or anything that gives an iterator of batches for each epoch.

Data is a pair (inputs, targets), each an array or a tuple of arrays, or inputs alone. The first axis of every array
counts rows. A batch is the flat tuple of the inputs' and the targets' arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from itertools import chain, islice
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from graphc.data.digits import batches, split
from graphc.errors import ArgumentError, ArgumentTypeError, DTypeError, GraphcError
from graphc.ir.dtypes import USER_DTYPES
from graphc.lang.source import user_line

Array: TypeAlias = NDArray[Any]
Batch: TypeAlias = tuple[Array, ...]

CHUNK_BYTES = 1 << 18
"""Batches are gathered and handed on together up to this size: to hand one on costs some ten microseconds, a batch of
small rows is computed in fewer, and a quarter of a mebibyte fits into a second-level cache."""


class Source(Protocol):
    """Batches by epoch. `inputs` is how many arrays of a batch are inputs; the others are targets."""

    inputs: int

    def sample(self, epoch: int) -> Batch:
        """Some rows as a batch has them, to learn shapes and dtypes from."""
        ...

    def batches(self, epoch: int, start: int) -> Iterator[list[Batch]]:
        """The batches of an epoch from number `start` on, some at a time."""
        ...

    def count(self) -> int | None:
        """Batches in an epoch, where that is known."""
        ...

    def settings(self) -> dict[str, Any]:
        """What the order of the rows follows from, in plain types."""
        ...


def parts(what: str, data: Any) -> tuple[Batch, Batch]:
    """(inputs, targets) of a pair, or of inputs alone."""
    if isinstance(data, list):
        data = tuple(data) if data and all(_is_array(one) for one in data) else np.asarray(data)
    if not isinstance(data, tuple):
        data = (data,)
    if not 1 <= len(data) <= 2:
        raise ArgumentError(
            f"{what}: data is a pair (inputs, targets), each an array or a tuple of arrays; {len(data)} parts came",
            user_line(),
        )
    inputs, targets = data if len(data) == 2 else (data[0], ())
    flat = _arrays(what, "inputs", inputs), _arrays(what, "targets", targets)
    rows = {array.shape[0] for side in flat for array in side}
    if len(rows) > 1:
        told = ", ".join(str(array.shape) for side in flat for array in side)
        raise ArgumentError(f"{what}: the arrays differ in their numbers of rows; their shapes are {told}", user_line())
    if not flat[0]:
        raise ArgumentError(f"{what}: there are no inputs", user_line())
    return flat


def _is_array(value: Any) -> bool:
    return hasattr(value, "__array__")


def _arrays(what: str, side: str, given: Any) -> Batch:
    is_several = isinstance(given, tuple) or (isinstance(given, list) and given and all(map(_is_array, given)))
    arrays = tuple(np.asarray(one) for one in (given if is_several else (given,)))
    for array in arrays:
        if array.dtype.kind not in "fiub":
            raise ArgumentTypeError(
                f"{what}: the {side} must be arrays of numbers, not of {array.dtype}", user_line()
            )
        if array.ndim == 0:
            raise ArgumentError(f"{what}: the {side} need an axis of rows; a single number came", user_line())
    return arrays


def converted(array: Array, floating: str) -> Array:
    """As graphs take it: floats in the dtype `floating`, integers as they are or, of other widths, as int64."""
    if array.dtype.kind == "f":
        return array.astype(floating, copy=False)
    if array.dtype.name in USER_DTYPES:
        return array
    if array.dtype == np.uint64 and array.size and array.max() > np.iinfo(np.int64).max:
        raise DTypeError(f"the value {array.max()} does not fit int64", user_line())
    return array.astype(np.int64)


class ArraySource:
    """Rows of arrays: each once an epoch, in an order that follows from (seed, epoch) alone; in theirs without a seed.

    The last batch of an epoch is short, or left out with `drop_last`.
    """

    def __init__(
        self, what: str, data: Any, size: int, floating: str, seed: int | None = None, drop_last: bool = False
    ) -> None:
        inputs, targets = parts(what, data)
        self.inputs = len(inputs)
        # What may not fit is found out now; the rest is converted batch by batch, in the reader.
        self.arrays = tuple(converted(a, floating) if a.dtype == np.uint64 else a for a in (*inputs, *targets))
        self.rows = len(self.arrays[0])
        self._size, self._floating, self._seed, self._drop_last = size, floating, seed, drop_last
        if self.rows == 0:
            raise ArgumentError(f"{what}: the data has no rows", user_line())
        if self.count() == 0:
            raise ArgumentError(
                f"{what}: {self.rows} rows do not fill one batch of {size}, and drop_last leaves a short one out",
                user_line(),
            )

    def sample(self, epoch: int) -> Batch:
        return tuple(converted(array[:1], self._floating) for array in self.arrays)

    def count(self) -> int:
        return self.rows // self._size if self._drop_last else -(-self.rows // self._size)

    def settings(self) -> dict[str, Any]:
        shapes = [[array.dtype.name, *array.shape] for array in self.arrays]
        return {"batch_size": self._size, "seed": self._seed, "drop_last": self._drop_last, "arrays": shapes}

    def batches(self, epoch: int, start: int) -> Iterator[list[Batch]]:
        order: Array | None = None
        if self._seed is not None:
            everyone = np.arange(self.rows)
            order = next(iter(batches(everyone, everyone, self.rows, self._seed, epoch)))[0]
        size, count = self._size, self.count()
        row_bytes = sum(array.nbytes // self.rows for array in self.arrays)
        together = max(1, CHUNK_BYTES // max(1, row_bytes * size))
        for first in range(start, count, together):
            last = min(first + together, count)
            rows = slice(first * size, min(last * size, self.rows))
            chunk = [
                np.ascontiguousarray(converted(array[rows if order is None else order[rows]], self._floating))
                for array in self.arrays
            ]
            yield [tuple(array[n * size : (n + 1) * size] for array in chunk) for n in range(last - first)]


class IterableSource:
    """Batches that the user's code makes: an iterable, which is asked for an iterator each epoch, or a function of the
    epoch's number (0 is the first) that returns one."""

    def __init__(self, what: str, data: Iterable[Any] | Callable[[int], Iterable[Any]], floating: str) -> None:
        self._what, self._data, self._floating = what, data, floating
        self._where = user_line()  # a reader's thread has no line of the user's
        self._begun: tuple[int, Batch, Iterator[Any]] | None = None
        self.inputs = 0

    def sample(self, epoch: int) -> Batch:
        """The first batch of the epoch, which `batches` then gives again."""
        iterator = self._open(epoch)
        try:
            first = self._flat(next(iterator))
        except StopIteration:
            raise self._empty(epoch) from None
        self._begun = epoch, first, iterator
        return first

    def count(self) -> int | None:
        return len(self._data) if isinstance(self._data, Sized) else None

    def settings(self) -> dict[str, Any]:
        return {}

    def batches(self, epoch: int, start: int) -> Iterator[list[Batch]]:
        begun, self._begun = self._begun, None
        first: Sequence[Batch] = ()
        if begun is not None and begun[0] == epoch:
            first, rest = (begun[1],), begun[2]
        else:
            rest = self._open(epoch)
        is_empty = True
        for batch in islice(chain(first, map(self._flat, rest)), start, None):
            is_empty = False
            yield [batch]
        if is_empty and not start:
            raise self._empty(epoch)

    def _open(self, epoch: int) -> Iterator[Any]:
        return iter(self._data(epoch) if callable(self._data) else self._data)

    def _flat(self, batch: Any) -> Batch:
        try:
            inputs, targets = parts(self._what, batch)
            self.inputs = len(inputs)
            return tuple(np.ascontiguousarray(converted(array, self._floating)) for array in (*inputs, *targets))
        except GraphcError as error:
            raise type(error)(error.message, self._where) from None

    def _empty(self, epoch: int) -> ArgumentError:
        again = "; an iterator can be used once, so give a function of the epoch that makes one" if epoch else ""
        return ArgumentError(f"{self._what}: there are no batches in epoch {epoch + 1}{again}", self._where)


def is_arrays(data: Any) -> bool:
    """Whether data is arrays, and not something that gives batches."""
    return isinstance(data, tuple) or _is_array(data) or (isinstance(data, list) and all(map(_is_array, data)))


def hold_out(what: str, data: Any, fraction: float, seed: int) -> tuple[Any, Any]:
    """(training, validation) parts of arrays: stratified by class where there is one target of integer labels."""
    if not is_arrays(data):
        raise ArgumentError(f"{what}: validation is a fraction only of arrays; give batches of its own", user_line())
    inputs, targets = parts(what, data)
    rows = len(inputs[0])
    is_labelled = len(targets) == 1 and targets[0].ndim == 1 and targets[0].dtype.kind in "iub"
    labels = targets[0] if is_labelled else np.zeros(rows, np.int64)
    training, _, held_out, _ = split(np.arange(rows), labels, fraction, seed)
    return _rows((inputs, targets), training), _rows((inputs, targets), held_out)


def _rows(sides: Sequence[Batch], rows: Array) -> tuple[Batch, ...]:
    inputs, targets = (tuple(array[rows] for array in side) for side in sides)
    return (inputs, targets) if targets else (inputs,)

"""Values in files: `.npz`, which NumPy reads, and `.safetensors`, which other frameworks read.

A file is there whole or not at all (`graphc.files`). What is read is not trusted: a file that is cut short, damaged or
something else is refused with a `DataError`, before any model is changed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from graphc.errors import ArgumentError, ArgumentTypeError, DataError
from graphc.files import read_npz, write_aside, write_npz
from graphc.lang.source import user_line
from graphc.nn import safetensors

Array: TypeAlias = NDArray[Any]
PathLike: TypeAlias = str | os.PathLike[str]


class HasState(Protocol):
    """A module or an optimiser."""

    def state_dict(self) -> dict[str, Array]: ...


def save(path: PathLike, what: HasState | Mapping[str, Any]) -> None:
    """Write a model, an optimiser or a dictionary of arrays to a `.npz` or `.safetensors` file.

    The same values give the same bytes. Errors: `ArgumentError` for another ending or a name that a file cannot hold,
    `ArgumentTypeError` for what is no array of numbers, `DataError` where the file cannot be written: what was there
    before is there still.

    >>> import pathlib, tempfile
    >>> import graphc as gc
    >>> layer = gc.nn.Linear(2, 1, seed=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder) / "layer.safetensors"
    ...     gc.save(file, layer)
    ...     sorted(gc.load(file))
    ['bias', 'weight']
    """
    path = Path(path)
    write = _format(path)[0]
    values = what if isinstance(what, Mapping) else _state_of(what)
    arrays = {_name(name): _array(name, value) for name, value in values.items()}
    try:
        write_aside(path, lambda file: write(file, arrays))
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}", user_line()) from error


def load(path: PathLike) -> dict[str, Array]:
    """The arrays of a `.npz` or `.safetensors` file by their names.

    float16 and bfloat16 arrays are given as float32, which holds each of their values; others keep their dtype.
    Errors: `DataError` for a file that is missing, damaged, or has no arrays of numbers; `ArgumentError` for another
    ending of its name.
    """
    path = Path(path)
    read = _format(path)[1]
    try:
        with path.open("rb") as file:
            return read(file)
    except DataError as error:
        raise DataError(f"{path}: {error.message}", user_line()) from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}", user_line()) from error


def _state_of(what: HasState) -> dict[str, Array]:
    if not callable(getattr(what, "state_dict", None)):
        raise ArgumentTypeError(
            f"save: a model, an optimiser or a dictionary of arrays is needed, not {type(what).__name__}", user_line()
        )
    return what.state_dict()


def _name(name: Any) -> str:
    if not isinstance(name, str) or not name or name.startswith("__") or "\0" in name or not name.isprintable():
        raise ArgumentError(f"save: {name!r} cannot be the name of an array in a file", user_line())
    return name


def _array(name: str, value: Any) -> Array:
    array = np.asarray(value)
    if array.dtype.newbyteorder("=").name not in safetensors.CODES:
        raise ArgumentTypeError(f"save: {name} has the dtype {array.dtype}, not one of numbers", user_line())
    return array


def _read_npz(file: IO[bytes]) -> dict[str, Array]:
    return {name: _widened(array) for name, array in read_npz(file, safetensors.CODES).items()}


def _widened(array: Array) -> Array:
    return array.astype(np.float32) if array.dtype == np.float16 else array


Writer: TypeAlias = Callable[[IO[bytes], Mapping[str, Array]], None]
Reader: TypeAlias = Callable[[IO[bytes]], dict[str, Array]]

FORMATS: dict[str, tuple[Writer, Reader]] = {
    ".npz": (write_npz, _read_npz),
    ".safetensors": (safetensors.write, safetensors.read),
}


def _format(path: Path) -> tuple[Writer, Reader]:
    if path.suffix not in FORMATS:
        raise ArgumentError(f"{path}: the name of a file of values ends in {' or '.join(FORMATS)}", user_line())
    return FORMATS[path.suffix]

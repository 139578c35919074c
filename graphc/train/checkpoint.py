"""Checkpoints: arrays and a header in one .npz file, which is there whole or not at all (`graphc.files`).

It holds `header.npy`, JSON as bytes, and each array under its name; `numpy.load` reads it, and nothing is pickled.
What is read is not trusted: all that the header lists must be there, and a file that is damaged, cut short or made by
another program is refused with a `DataError` that names it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from graphc.errors import DataError
from graphc.files import read_npz, write_aside, write_npz
from graphc.ir.dtypes import USER_DTYPES

Array: TypeAlias = NDArray[Any]

FORMAT: Final = "graphc checkpoint"
VERSION: Final = 1
_HEADER: Final = "header"
_NEW: Final = ".new"  # added to the name of a file while it is written; what a killed process left is written over
_DTYPES: Final = (*USER_DTYPES, "uint8", "uint32")
_ADVICE: Final = "remove it, or name another file, to train from the start"


def write(path: str, header: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
    """Put a checkpoint in the place of the one that is there. OSError: the file is as it was."""
    text = json.dumps({**header, "format": FORMAT, "version": VERSION, "arrays": list(arrays)})
    content = {_HEADER: np.frombuffer(text.encode(), np.uint8), **arrays}
    write_aside(Path(path), lambda file: write_npz(file, content), _NEW)


def read(path: str) -> tuple[dict[str, Any], dict[str, Array]]:
    """(header, arrays) of a checkpoint. `DataError` names the file and says what is wrong with it."""
    if not os.path.isfile(path):
        raise DataError(f"{path}: {'a folder' if os.path.isdir(path) else 'not a file'}, and no checkpoint")
    try:
        with open(path, "rb") as file:
            arrays = read_npz(file, _DTYPES)
        if _HEADER not in arrays:
            raise DataError("it has no header")
        header = _header(path, arrays.pop(_HEADER))
        if sorted(arrays) != sorted(header.get("arrays", ())):  # damage can hide a part of an archive
            raise DataError("some of its arrays are missing")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, TypeError) as error:  # DataError, too; JSON that is none; a list of arrays that is none
        message = error.message if isinstance(error, DataError) else str(error)
        if message.startswith(path):
            raise
        raise DataError(f"{path}: a damaged file, or not a checkpoint ({message}); {_ADVICE}") from error
    return header, arrays


def _header(path: str, content: Array) -> dict[str, Any]:
    header = json.loads(content.tobytes().decode())
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise DataError(f"{path}: not a checkpoint of graphc; {_ADVICE}")
    if header.get("version") != VERSION:
        raise DataError(
            f"{path}: a checkpoint of version {header.get('version')}; this graphc reads version {VERSION}"
        )
    return header

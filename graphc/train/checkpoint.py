"""Checkpoints: arrays and a header in one .npz file, which is there whole or not at all.

A file is written under another name beside its place, brought to the disk (fsync), and renamed, which is atomic:
whenever a process dies, or the machine, what is read back is the last checkpoint that was finished or the one before.
It holds `header.npy`, JSON as bytes, and each array under its name; `numpy.load` reads it, and nothing is pickled.

What is read is not trusted: each member's checksum is verified, all that the header lists must be there, no member is
larger than the file, and a file that is damaged, cut short or made by another program is refused with a `DataError`
that names it.
"""

from __future__ import annotations

import io
import json
import math
import os
import zipfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from typing import IO, Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from graphc.errors import DataError
from graphc.ir.dtypes import USER_DTYPES

Array: TypeAlias = NDArray[Any]

FORMAT: Final = "graphc checkpoint"
VERSION: Final = 1
_HEADER: Final = "header"
_NEW: Final = ".new"  # added to the name of a file while it is written; what a killed process left is written over
_BUFFER_BYTES: Final = 1 << 20
_OPEN: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0)


class _Descriptor(io.RawIOBase):
    """An open file that is written from its start to its end."""

    def __init__(self, number: int) -> None:
        self._number = number

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return os.write(self._number, data)


def write(path: str, header: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
    """Put a checkpoint in the place of the one that is there. OSError: the file is as it was."""
    path = os.path.realpath(path)  # what a link points to is replaced, and not the link
    temporary = path + _NEW
    try:
        file = os.open(temporary, _OPEN, 0o666)
        try:
            with io.BufferedWriter(_Descriptor(file), _BUFFER_BYTES) as stream:
                _pack(stream, {**header, "format": FORMAT, "version": VERSION, "arrays": list(arrays)}, arrays)
            os.fsync(file)
        finally:
            os.close(file)
        os.replace(temporary, path)
    except BaseException:  # an interrupt, too
        with suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_folder(os.path.dirname(path))


def _pack(stream: IO[bytes] | io.BufferedWriter, header: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
    text = np.frombuffer(json.dumps(header).encode(), np.uint8)
    with zipfile.ZipFile(stream, "w") as archive:
        for name, array in {_HEADER: text, **arrays}.items():
            # force_zip64: an array may take more than 4 GiB, which a stream learns too late
            with archive.open(zipfile.ZipInfo(name + ".npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.ascontiguousarray(array).reshape(array.shape), allow_pickle=False)


def _sync_folder(folder: str) -> None:
    """Bring a new name to the disk, where the system can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    with suppress(OSError):  # some file systems cannot; the file itself is safe
        number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def read(path: str) -> tuple[dict[str, Any], dict[str, Array]]:
    """(header, arrays) of a checkpoint. `DataError` names the file and says what is wrong with it."""
    if not os.path.isfile(path):
        raise DataError(f"{path}: {'a folder' if os.path.isdir(path) else 'not a file'}, and no checkpoint")
    try:
        size = os.path.getsize(path)
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            names = [member.filename for member in members]
            if len(set(names)) < len(names) or _HEADER + ".npy" not in names:
                raise DataError(f"{path}: not a checkpoint of graphc; {_advice}")
            header = _header(path, _array(archive, archive.getinfo(_HEADER + ".npy"), size))
            arrays = {
                member.filename.removesuffix(".npy"): _array(archive, member, size)
                for member in members
                if member.filename != _HEADER + ".npy"
            }
            if sorted(arrays) != sorted(header.get("arrays", ())):  # damage can hide a part of an archive
                raise ValueError("some of its arrays are missing")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, LookupError) as error:
        raise DataError(f"{path}: a damaged file, or not a checkpoint ({error}); {_advice}") from error
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: a damaged file, or not a checkpoint ({error}); {_advice}") from error
    return header, arrays


_advice = "remove it, or name another file, to train from the start"


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, size: int) -> Array:
    """One array. Its bytes are read before its shape is believed."""
    if member.compress_type != zipfile.ZIP_STORED or member.file_size > size or not member.filename.endswith(".npy"):
        raise ValueError(f"{member.filename} is not as graphc writes it")
    content = archive.read(member)  # verifies the checksum, which a read of a part would not
    stream = io.BytesIO(content)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError(f"{member.filename} is not as graphc writes it")
    shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    if dtype.name not in (*USER_DTYPES, "uint8", "uint32") or is_fortran or any(extent < 0 for extent in shape):
        raise ValueError(f"{member.filename} is not as graphc writes it")
    if math.prod(shape) * dtype.itemsize != len(content) - stream.tell():
        raise ValueError(f"{member.filename} has another length than it says")
    return np.frombuffer(content, dtype, offset=stream.tell()).reshape(shape)


def _header(path: str, content: Array) -> dict[str, Any]:
    header = json.loads(content.tobytes().decode())
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise DataError(f"{path}: not a checkpoint of graphc; {_advice}")
    if header.get("version") != VERSION:
        raise DataError(
            f"{path}: a checkpoint of version {header.get('version')}; this graphc reads version {VERSION}"
        )
    return header

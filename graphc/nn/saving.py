"""Values in files: `.npz`, which NumPy reads, and `.safetensors`, which other frameworks read.

A file is written under another name beside its place, brought to the disk, and renamed: what is found under the name
is the old content or the new one, whole, whatever happens meanwhile. What is read is not trusted: a file that is cut
short, damaged or something else is refused with a `DataError`, before any model is changed.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from graphc.errors import ArgumentError, ArgumentTypeError, DataError
from graphc.lang.source import user_line
from graphc.nn import safetensors

if TYPE_CHECKING:
    import zipfile

Array: TypeAlias = NDArray[Any]
PathLike: TypeAlias = str | os.PathLike[str]

_serial = itertools.count()  # of the files that this process writes aside

_DEFLATE_RATIO = 1032  # no deflate stream is longer than this times its compressed form (zlib's technical notes)
_STORED, _DEFLATED = 0, 8  # ways in which a zip file holds a member
_CHUNK_BYTES = 1 << 24
_ZIP_END_BYTES, _ZIP_COUNT_AT, _ZIP64 = 22, 10, 0xFFFF  # the last record of a zip file (PKWARE, APPNOTE 4.3.16)


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
        _write_aside(path, lambda file: write(file, arrays))
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


def _write_aside(path: Path, write: Callable[[IO[bytes]], None]) -> None:
    """Write to a file beside `path`, and put it in its place once it is on the disk."""
    path = Path(os.path.realpath(path))  # what a link points to is replaced, and not the link
    number, temporary = _new_file(path)
    try:
        with os.fdopen(number, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            os.chmod(temporary, path.stat().st_mode & 0o777)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    if os.name == "posix":  # the name is in the folder, which has to reach the disk too
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _new_file(path: Path) -> tuple[int, Path]:
    """A file of its own beside `path`, open for writing."""
    while True:
        beside = path.with_name(f".{path.name}.{os.getpid()}-{next(_serial)}.part")
        with suppress(FileExistsError):  # left by a process of this number that was killed
            return os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666), beside


# --- .npz -----------------------------------------------------------------------------------------------------------


def _write_npz(file: IO[bytes], arrays: Mapping[str, Array]) -> None:
    import zipfile  # with its compressors 5 ms, and only for those who save

    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                npy.write_array(member, array, allow_pickle=False)


def _read_npz(file: IO[bytes]) -> dict[str, Array]:
    import zipfile  # as above

    size = os.fstat(file.fileno()).st_size
    arrays: dict[str, Array] = {}
    try:
        with zipfile.ZipFile(file) as archive:
            # A wrong length in the directory hides what follows it, without a word from zipfile.
            file.seek(size - len(archive.comment) - _ZIP_END_BYTES + _ZIP_COUNT_AT)
            count = int.from_bytes(file.read(2), "little")
            if count not in (len(archive.infolist()), _ZIP64):
                raise DataError(f"damaged: it should have {count} arrays, and {len(archive.infolist())} are found")
            for member in archive.infolist():
                name = member.filename.removesuffix(".npy")
                if name in arrays or name == member.filename:
                    raise DataError(f"damaged: it has a member {member.filename!r} that is no array, or there twice")
                arrays[name] = _read_member(archive, member, size)
    except DataError:
        raise
    except Exception as error:  # zipfile and NumPy's reader of headers raise some twenty kinds for damaged bytes
        raise DataError(f"not an .npz file, or damaged: {error or type(error).__name__}") from None
    return arrays


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, size: int) -> Array:
    """One array, for which memory is taken only after the file is seen to be long enough for it."""
    if member.compress_type not in (_STORED, _DEFLATED):
        raise DataError(f"{member.filename}: compressed in a way that NumPy does not use")
    if member.compress_size > size or member.file_size > _DEFLATE_RATIO * (member.compress_size + 1):
        raise DataError(f"{member.filename}: damaged: {member.file_size} bytes in a file of {size}")
    with archive.open(member) as stream:
        version = npy.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise DataError(f"{member.filename}: a header of version {version}")
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, is_fortran, dtype = read_header(stream)
        if dtype.newbyteorder("=").name not in safetensors.CODES:
            raise DataError(f"{member.filename}: the dtype {dtype}, not one of numbers")
        expected = math.prod(shape) * dtype.itemsize
        if any(extent < 0 for extent in shape) or expected != member.file_size - stream.tell():
            raise DataError(f"{member.filename}: damaged: its bytes are not those of the shape {shape} of {dtype}")
        content = np.empty(expected, dtype=np.uint8)
        done = 0
        while done < expected and (part := stream.read(min(_CHUNK_BYTES, expected - done))):
            content[done : done + len(part)] = np.frombuffer(part, np.uint8)
            done += len(part)
        if done != expected or stream.read(1):  # the read of the last byte compares the checksum
            raise DataError(f"{member.filename}: truncated")
    array = content.view(dtype).reshape(shape, order="F" if is_fortran else "C")
    is_half = dtype.kind == "f" and dtype.itemsize == 2
    return array.astype(np.float32 if is_half else dtype.newbyteorder("="), copy=False)


# --------------------------------------------------------------------------------------------------------------------

Writer: TypeAlias = Callable[[IO[bytes], Mapping[str, Array]], None]
Reader: TypeAlias = Callable[[IO[bytes]], dict[str, Array]]

FORMATS: dict[str, tuple[Writer, Reader]] = {
    ".npz": (_write_npz, _read_npz),
    ".safetensors": (safetensors.write, safetensors.read),
}


def _format(path: Path) -> tuple[Writer, Reader]:
    if path.suffix not in FORMATS:
        raise ArgumentError(f"{path}: the name of a file of values ends in {' or '.join(FORMATS)}", user_line())
    return FORMATS[path.suffix]

"""Files that are there whole or not at all, and `.npz` files that are not trusted.

A file is written under another name beside its place, brought to the disk (fsync), and renamed, which is atomic:
whenever a process dies, or the machine, what is found under the name is the old content or the new one.
"""

from __future__ import annotations

import io
import itertools
import math
import os
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from graphc.errors import DataError

if TYPE_CHECKING:
    import zipfile

Array: TypeAlias = NDArray[Any]

_serial = itertools.count()  # of the files that this process writes aside

_DEFLATE_RATIO = 1032  # no deflate stream is longer than this times its compressed form (zlib's technical notes)
_STORED, _DEFLATED = 0, 8  # ways in which a zip file holds a member
_CHUNK_BYTES = 1 << 24
_BUFFER_BYTES = 1 << 20
_ZIP_END_BYTES, _ZIP_COUNT_AT, _ZIP64 = 22, 10, 0xFFFF  # the last record of a zip file (PKWARE, APPNOTE 4.3.16)


class _Descriptor(io.RawIOBase):
    """An open file that is written from its start to its end."""

    def __init__(self, number: int) -> None:
        self._number = number

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return os.write(self._number, data)


def write_aside(path: Path, write: Callable[[Any], None], beside: str | None = None) -> None:
    """Write to a file beside `path`, and put it in its place once it is on the disk. OSError: all is as it was.

    beside: what is added to its name; a file of that name, which a process left that was killed, is written over. By
    default the name is one of its own, and several processes may write to one path.
    """
    path = Path(os.path.realpath(path))  # what a link points to is replaced, and not the link
    number, temporary = _new_file(path) if beside is None else _file_beside(path, beside)
    try:
        try:
            with io.BufferedWriter(_Descriptor(number), _BUFFER_BYTES) as file:
                write(file)
            os.fsync(number)
        finally:
            os.close(number)
        if path.exists():
            os.chmod(temporary, path.stat().st_mode & 0o777)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Bring a new name to the disk, where the system can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    with suppress(OSError):  # some file systems cannot; the file itself is safe
        number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def _file_beside(path: Path, beside: str) -> tuple[int, Path]:
    temporary = path.with_name(path.name + beside)
    return os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o666), temporary


def _new_file(path: Path) -> tuple[int, Path]:
    """A file of its own beside `path`, open for writing."""
    while True:
        beside = path.with_name(f".{path.name}.{os.getpid()}-{next(_serial)}.part")
        with suppress(FileExistsError):  # left by a process of this number that was killed
            return os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666), beside


def write_npz(file: IO[bytes], arrays: Mapping[str, Array]) -> None:
    """Arrays by name, as NumPy writes them, uncompressed; the same arrays give the same bytes."""
    import zipfile  # with its compressors 5 ms, and only for those who save

    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                npy.write_array(member, array, allow_pickle=False)


def read_npz(file: IO[bytes], dtypes: Collection[str]) -> dict[str, Array]:
    """The arrays of an `.npz` file, of these dtypes; each member's checksum is verified, and no member's size believed.

    Errors: `DataError`, without the file's name.
    """
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
                arrays[name] = _read_member(archive, member, size, dtypes)
    except DataError:
        raise
    except Exception as error:  # zipfile and NumPy's reader of headers raise some twenty kinds for damaged bytes
        raise DataError(f"not an .npz file, or damaged: {error or type(error).__name__}") from None
    return arrays


def _read_member(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, size: int, dtypes: Collection[str]
) -> Array:
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
        if dtype.newbyteorder("=").name not in dtypes:
            raise DataError(f"{member.filename}: the dtype {dtype}, which is not one of those expected")
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
    return array.astype(dtype.newbyteorder("="), copy=False)

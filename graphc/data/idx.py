"""IDX, the file format of MNIST: a reader that trusts nothing in the file.

    offset  bytes  content
    0       2      zeros
    2       1      element type: 8 uint8, 9 int8, 11 int16, 12 int32, 13 float32, 14 float64
    3       1      number of dimensions r
    4       4 r    extents, uint32, big-endian
    4+4r           elements, row by row, big-endian

(Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits".) A file may be gzip-compressed.
"""

from __future__ import annotations

import gzip
import math
import os
import zlib
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from graphc.errors import DataError

ELEMENT_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
MOST_DIMENSIONS = 32  # what every version of NumPy can represent
GZIP_MAGIC = b"\x1f\x8b"
CHUNK_BYTES = 1 << 20

MNIST_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


class Readable(Protocol):
    """An open file, plain or decompressing."""

    def read(self, size: int, /) -> bytes: ...


def read_idx(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Read an IDX file, plain or compressed with gzip (seen by its content, not by its name).

    Returns a new array with the file's shape and element type (uint8, int8, int16, int32, float32 or
    float64) in native byte order. Memory is taken as the data arrives, never on the word of the header.

    Raises DataError, which names the file, what was found and what was expected, when the file is missing,
    is not IDX, ends too early, goes on after its last element, announces more elements than memory has
    addresses, or is damaged gzip.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder) / "two-by-three"
    ...     _ = file.write_bytes(bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 10, 11, 12, 13, 14, 15]))
    ...     read_idx(file)
    array([[10, 11, 12],
           [13, 14, 15]], dtype=uint8)
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: {'not an IDX file but a folder' if path.is_dir() else 'no such file'}")
    try:
        with path.open("rb") as file:
            is_gzip = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
            file.seek(0)
            if not is_gzip:
                return _read_stream(path, file)
            with gzip.GzipFile(fileobj=file) as stream:
                return _read_stream(path, stream)
    except EOFError as error:
        raise DataError(f"{path}: truncated: the gzip data ends before its end-of-stream marker") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: damaged gzip data: {error}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


def mnist(
    folder: str | os.PathLike[str], *, as_images: bool = False
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
    """Read the four files of MNIST, or of a set in the same format, from a folder.

    The files have their standard names (train-images-idx3-ubyte, train-labels-idx1-ubyte and the same with
    t10k), with or without `.gz`; where both exist, the one without is read. Returns training images,
    training labels, test images, test labels: images are float32 in [0, 1] of shape (n, height * width), or
    (n, 1, height, width) with `as_images=True`; labels are int64 of shape (n,).

    Raises DataError, which names the files, when some are missing, cannot be read, hold no images or
    labels, or differ in their numbers of images and labels.

    >>> mnist("no-such-folder")
    Traceback (most recent call last):
    ...
    graphc.errors.DataError: no-such-folder: no such folder; expected one with the four files of MNIST
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected one with the four files of MNIST")
    candidates = [(folder / name, folder / f"{name}.gz") for name in MNIST_FILES]
    missing = [plain.name for plain, packed in candidates if not plain.is_file() and not packed.is_file()]
    if missing:
        raise DataError(f"{folder}: missing {', '.join(missing)} (each may also end in .gz)")
    train_images, train_labels, test_images, test_labels = (
        plain if plain.is_file() else packed for plain, packed in candidates
    )
    return (
        *_read_labelled(train_images, train_labels, as_images),
        *_read_labelled(test_images, test_labels, as_images),
    )


def _read_labelled(
    images_path: Path, labels_path: Path, as_images: bool
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    images, labels = read_idx(images_path), read_idx(labels_path)
    for path, array, ndim in ((images_path, images, 3), (labels_path, labels, 1)):
        if array.ndim != ndim or array.dtype != np.uint8:
            raise DataError(
                f"{path}: expected uint8 elements in {ndim} dimensions, found {array.dtype} in {array.ndim}"
            )
    if len(images) != len(labels):
        raise DataError(f"{labels_path}: {len(labels)} labels for the {len(images)} images of {images_path}")
    n, height, width = images.shape
    scaled = np.divide(images, np.float32(255), dtype=np.float32)
    shape = (n, 1, height, width) if as_images else (n, height * width)
    return scaled.reshape(shape), labels.astype(np.int64)


def _read_stream(path: Path, stream: Readable) -> NDArray[Any]:
    magic = stream.read(4)
    if len(magic) < 4:
        raise DataError(f"{path}: truncated: expected the 4 bytes that begin an IDX file, found {len(magic)}")
    zeros, type_code, ndim = magic[:2], magic[2], magic[3]
    if zeros != b"\0\0" or type_code not in ELEMENT_TYPES or not 1 <= ndim <= MOST_DIMENSIONS:
        raise DataError(
            f"{path}: not an IDX file: it begins with bytes {magic.hex(' ')}; expected 00 00, an element type"
            f" ({', '.join(f'{code:02x}' for code in ELEMENT_TYPES)}) and 1 to {MOST_DIMENSIONS} dimensions"
        )
    header = stream.read(4 * ndim)
    if len(header) < 4 * ndim:
        raise DataError(f"{path}: truncated: expected {ndim} extents of 4 bytes, found {len(header)} bytes")
    dtype = np.dtype(ELEMENT_TYPES[type_code])
    shape = tuple(np.frombuffer(header, ">u4").tolist())
    expected = math.prod(shape) * dtype.itemsize
    announced = f"{expected} bytes for shape {shape} of {dtype.newbyteorder('=').name}"
    # NumPy refuses arrays whose non-zero extents alone exceed its index type, even when the array is empty.
    if math.prod(extent for extent in shape if extent) * dtype.itemsize > np.iinfo(np.intp).max:
        raise DataError(f"{path}: absurd size: its header announces {announced}")

    content = bytearray()
    while len(content) <= expected and (chunk := stream.read(min(CHUNK_BYTES, expected + 1 - len(content)))):
        content += chunk
    if len(content) > expected:
        raise DataError(f"{path}: trailing data: expected {announced}, found more after them")
    if len(content) < expected:
        raise DataError(f"{path}: truncated: expected {announced}, found {len(content)}")
    return np.frombuffer(content, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)

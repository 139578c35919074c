"""The safetensors format: arrays by name in one file, written and read with NumPy alone.

    8 bytes     length n of the header, little-endian
    n bytes     JSON, padded with spaces: {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, ...}
                in which "__metadata__", if there, maps strings to strings
    the rest    elements, row by row, little-endian; offsets count from here, and leave no gap and no overlap

(The format's description: github.com/huggingface/safetensors.) The format has no checksum. A file that graphc writes
has one in its metadata, `graphc_crc32`, of the table of arrays and of their bytes; where it is found it is verified.
"""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Mapping
from typing import IO, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from graphc.errors import DataError

Array: TypeAlias = NDArray[Any]

DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",  # NumPy has no such dtype: read as the upper halves of float32 numbers
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "|i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "|u1",
    "BOOL": "|b1",
}
CODES = {np.dtype(text).newbyteorder("=").name: code for code, text in DTYPES.items() if code != "BF16"}

MOST_HEADER_BYTES = 100_000_000  # the format's own limit
MOST_DIMENSIONS = 32  # what every version of NumPy can represent
_METADATA, _CHECKSUM = "__metadata__", "graphc_crc32"
_ALIGNMENT = 8  # of the first element, as the format asks


def write(file: IO[bytes], arrays: Mapping[str, Array]) -> None:
    """Write arrays of the dtypes in `CODES`."""
    # Wide elements first: so each array begins at a multiple of its elements' size.
    ordered = sorted(arrays, key=lambda name: (-arrays[name].dtype.itemsize, name))
    little = {name: np.ascontiguousarray(arrays[name], arrays[name].dtype.newbyteorder("<")) for name in ordered}
    table: dict[str, Any] = {}
    begin = 0
    for name, array in little.items():
        end = begin + array.nbytes
        code = CODES[arrays[name].dtype.name]
        table[name] = {"dtype": code, "shape": list(arrays[name].shape), "data_offsets": [begin, end]}
        begin = end
    checksum = _crc_of_table(table)
    for array in little.values():
        checksum = zlib.crc32(_bytes_of(array), checksum)
    header = json.dumps({_METADATA: {_CHECKSUM: f"{checksum:08x}"}, **table}, separators=(",", ":")).encode()
    header += b" " * (-len(header) % _ALIGNMENT)
    file.write(len(header).to_bytes(8, "little") + header)
    for array in little.values():
        file.write(_bytes_of(array))


def read(file: IO[bytes]) -> dict[str, Array]:
    """The arrays by name; float16 and bfloat16 as float32, which holds each of their values.

    DataError says what is wrong, without the file's name. Memory is taken for what the file has, not for what it says.
    """
    size = os.fstat(file.fileno()).st_size
    header, start = _read_header(file, size)
    metadata = header.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise DataError("damaged: its metadata are not strings by name")
    places = {name: _place(name, entry, size - start) for name, entry in header.items()}
    reached = 0
    for name, (_, _, begin, end) in sorted(places.items(), key=lambda item: item[1][2:]):
        if begin != reached:
            raise DataError(f"damaged: {name} begins at byte {begin} of the data, where {reached} is expected")
        reached = end
    if reached != size - start:
        raise DataError(f"damaged: its arrays take {reached} bytes, it has {size - start}")
    checksum = _crc_of_table(header)
    arrays: dict[str, Array] = {}
    for name, (code, shape, begin, end) in sorted(places.items(), key=lambda item: item[1][2:]):
        content = np.empty(end - begin, dtype=np.uint8)
        if file.readinto(content.data) != end - begin:  # type: ignore[attr-defined]  # every binary file has readinto
            raise DataError(f"truncated: it ends inside {name}")
        checksum = zlib.crc32(content.data, checksum)
        arrays[name] = _array(name, content, code, shape)
    if metadata.get(_CHECKSUM, f"{checksum:08x}") != f"{checksum:08x}":
        raise DataError("damaged: its checksum is not that of its content")
    return {name: arrays[name] for name in places}


def _read_header(file: IO[bytes], size: int) -> tuple[dict[str, Any], int]:
    first = file.read(8)
    length = int.from_bytes(first, "little")
    if len(first) < 8 or length > min(MOST_HEADER_BYTES, size - 8):
        raise DataError(f"not a safetensors file, or truncated: a header of {length} bytes in a file of {size}")
    try:
        header = json.loads(file.read(length).decode(), object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as error:  # no UTF-8, no JSON, a number or a nesting without end
        raise DataError(f"damaged: its header cannot be read: {error}") from None
    if not isinstance(header, dict):
        raise DataError("damaged: its header is not a JSON object")
    return header, 8 + length


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _place(name: str, entry: Any, available: int) -> tuple[str, tuple[int, ...], int, int]:
    """(dtype, shape, begin, end) of one array, if they are what they should be and fit one another."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise DataError(f"damaged: {name} is not described by dtype, shape and data_offsets")
    code, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(code, str) or code not in DTYPES:
        raise DataError(f"{name} has the dtype {code!r}; those that can be read are {', '.join(DTYPES)}")
    if not _are_sizes(shape) or len(shape) > MOST_DIMENSIONS or not _are_sizes(offsets) or len(offsets) != 2:
        raise DataError(f"damaged: {name} has the shape {shape!r} and the offsets {offsets!r}")
    begin, end = offsets
    if not begin <= end <= available:
        raise DataError(f"damaged or truncated: {name} takes the bytes from {begin} to {end} of {available}")
    expected = math.prod(shape) * np.dtype(DTYPES[code]).itemsize
    if expected != end - begin or math.prod(max(extent, 1) for extent in shape) > np.iinfo(np.intp).max // 8:
        raise DataError(f"damaged: {name} of shape {shape} and dtype {code} has {end - begin} bytes")
    return code, tuple(shape), begin, end


def _are_sizes(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)


def _array(name: str, content: NDArray[np.uint8], code: str, shape: tuple[int, ...]) -> Array:
    if code == "BOOL" and content.size and content.max() > 1:
        raise DataError(f"damaged: {name} is of bools, and has a byte that is neither 0 nor 1")
    array = content.view(DTYPES[code]).reshape(shape)
    if code == "BF16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    if code == "F16":
        return array.astype(np.float32)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _crc_of_table(table: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(table, sort_keys=True, separators=(",", ":")).encode())


def _bytes_of(array: Array) -> memoryview:
    return array.reshape(-1).view(np.uint8).data

"""What the native call reads and writes: our own records, and fields of objects of CPython and NumPy.

The records are ctypes structures, from which `fastcall_code` takes its offsets. The objects' fields are those of
64-bit CPython 3.11 to 3.13 with the global interpreter lock (Include/object.h, cpython/tupleobject.h, cpython/
listobject.h) and of NumPy 2 (ndarraytypes.h: PyArrayObject_fields; arrayscalars.h). None is part of a stable ABI but
the array's; `as_expected` compares each with an object whose content is known.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import sys
import weakref
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

REFERENCES: Final = 0
TYPE: Final = 8
VALUE: Final = 16
"""The first field behind an object's header: the number of a float or of a NumPy scalar, a ctypes object's address, an
array's data."""
ARRAY_DATA: Final = VALUE
ARRAY_RANK: Final = 24  # i32
ARRAY_DIMENSIONS: Final = 32
ARRAY_BASE: Final = 48
ARRAY_DTYPE: Final = 56
ARRAY_FLAGS: Final = 64  # i32
ARRAY_WEAK_REFERENCES: Final = 72
DTYPE_BYTE_ORDER: Final = 26  # i8
DTYPE_NUMBER: Final = 28  # i32
TUPLE_ITEMS: Final = 24  # the items themselves
LIST_ITEMS: Final = 24  # their address

# NumPy's ndarraytypes.h: NPY_ARRAY_C_CONTIGUOUS, _OWNDATA, _ALIGNED, _WRITEABLE.
CONTIGUOUS, OWN_DATA, ALIGNED, WRITEABLE = 0x1, 0x4, 0x100, 0x400

# Places in NumPy's table of C functions, which its ABI fixes (numpy/__multiarray_api.h).
_NUMPY_TYPE: Final = 2
_NUMPY_FUNCTIONS: Final = {"PyArray_NewFromDescr": 94, "PyArray_Empty": 184, "PyArray_SetBaseObject": 282}
_PYTHON_FUNCTIONS: Final = (
    "PyObject_Vectorcall", "PyTuple_New", "PyLong_AsLongLongAndOverflow", "Py_IncRef", "Py_DecRef",
    "PyEval_SaveThread", "PyEval_RestoreThread",
)
_PYTHON_OBJECTS: Final = {
    "PyFloat_Type": float, "PyLong_Type": int, "PyBool_Type": bool, "_Py_TrueStruct": True, "_Py_NoneStruct": None,
}
CALL: Final = "graphc_call"
"""The symbol of the native function."""

ARRAY_TYPE: Final = "graphc_array_type"
BYTE_DTYPE: Final = "graphc_byte_dtype"
"""Names under which the code knows NumPy's ndarray, and the dtype uint8."""

FLOAT32, FLOAT64, INT32, INT64, BOOL = range(1, 6)
KINDS: Final = {"float32": FLOAT32, "float64": FLOAT64, "int32": INT32, "int64": INT64, "bool": BOOL}
"""How a Python number becomes an element of a dtype; 0 where an array is needed."""

MOST_ENTRIES: Final = 8
"""Compiled forms of one function that a call tries: passing over one takes some 3 ns."""


class ArrayRecord(ctypes.Structure):
    """The dtype and shape that an array must have; the records of arguments and results begin with it."""

    _fields_ = (("dtype", ctypes.c_void_p), ("dimensions", ctypes.c_void_p), ("rank", ctypes.c_int64))


class ArgumentRecord(ctypes.Structure):
    """An input. `kind` is one of KINDS for an input of shape (), which `number` holds once it is converted; `scalar` is
    NumPy's scalar type of the dtype."""

    _fields_ = (
        *ArrayRecord._fields_,
        ("kind", ctypes.c_int64), ("scalar", ctypes.c_void_p), ("number", ctypes.c_int64),
    )


class ResultRecord(ctypes.Structure):
    """An output. `slots` is the address of `slot_count` references to earlier results, of which number `turn` is the
    next to be replaced; `flags` are those of a result as it was made; `raw_bytes`: what its memory takes with room for
    alignment, 0 where that is left to NumPy."""

    _fields_ = (
        *ArrayRecord._fields_,
        ("raw_bytes", ctypes.c_int64), ("flags", ctypes.c_int64),
        ("slots", ctypes.c_void_p), ("slot_count", ctypes.c_int64), ("turn", ctypes.c_int64),
    )


class EntryRecord(ctypes.Structure):
    """A compiled program. `table` and `arena` belong to the call that has set `busy`."""

    _fields_ = (
        ("argument_count", ctypes.c_int64), ("busy", ctypes.c_int64),
        ("arguments", ctypes.c_void_p), ("results", ctypes.c_void_p), ("result_count", ctypes.c_int64),
        ("table", ctypes.c_void_p), ("result_table", ctypes.c_void_p), ("arena", ctypes.c_void_p),
        ("code", ctypes.c_void_p), ("releases_lock", ctypes.c_int64), ("single", ctypes.c_int64),
    )


class ChainRecord(ctypes.Structure):
    """The programs that a call tries."""

    _fields_ = (("count", ctypes.c_int64), ("entries", ctypes.c_void_p * MOST_ENTRIES))


class CallerRecord(ctypes.Structure):
    """The `self` of the native function: what it tries, and what it calls when nothing fits."""

    _fields_ = (("chain", ctypes.c_void_p), ("slow", ctypes.c_void_p))


def pointer_at(thing: object, offset: int) -> int:
    """A pointer-sized field of an object."""
    return ctypes.c_void_p.from_address(id(thing) + offset).value or 0


def symbols() -> dict[str, int]:
    """The addresses of what the code calls and compares with."""
    found = {name: _address(getattr(ctypes.pythonapi, name)) for name in _PYTHON_FUNCTIONS}
    found |= {name: id(thing) for name, thing in _PYTHON_OBJECTS.items()}
    table = _numpy_table()
    found |= {name: table[place] or 0 for name, place in _NUMPY_FUNCTIONS.items()}
    return found | {ARRAY_TYPE: id(np.ndarray), BYTE_DTYPE: id(np.dtype(np.uint8))}


def _address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def _numpy_table() -> Any:
    """NumPy's table of C functions."""
    core = importlib.import_module("numpy._core._multiarray_umath")  # private: a type checker does not find it
    prototype = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)
    pointer = prototype(("PyCapsule_GetPointer", ctypes.pythonapi))
    return ctypes.cast(pointer(core._ARRAY_API, None), ctypes.POINTER(ctypes.c_void_p))


def data_address(array: NDArray[Any]) -> int:
    """The address of an array's first element; `array.ctypes.data` takes four times as long."""
    return pointer_at(array, ARRAY_DATA) if as_expected() else array.ctypes.data


@functools.cache
def as_expected() -> bool:
    """Whether this process is one that the code is for: the interpreter, and the layout of its objects."""
    if sys.implementation.name != "cpython" or ctypes.sizeof(ctypes.c_void_p) != 8:
        return False
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        return False
    if object.__basicsize__ != VALUE or np.ndarray.__basicsize__ < ARRAY_WEAK_REFERENCES + 8:
        return False
    try:
        return all(_findings())
    except (ImportError, AttributeError):  # a NumPy or a Python without what we look for
        return False


def _findings() -> Iterator[bool]:
    """Whether each thing is where it should be, the ones that later ones rely on first."""
    yield _is_main_interpreter()
    yield _numpy_table()[_NUMPY_TYPE] == id(np.ndarray)
    yield all(symbols().values())
    array = np.empty((3, 5), dtype=np.float32)[1:]  # its data, flags and base differ from a new array's
    dtype = array.dtype
    yield pointer_at(array, TYPE) == id(np.ndarray)
    yield pointer_at(array, ARRAY_DATA) == array.ctypes.data
    yield ctypes.c_int32.from_address(id(array) + ARRAY_RANK).value == 2
    dimensions = pointer_at(array, ARRAY_DIMENSIONS)
    yield pointer_at(array, ARRAY_DIMENSIONS + 8) == dimensions + 16  # the strides follow: so it may be followed
    yield list((ctypes.c_int64 * 4).from_address(dimensions)) == [*array.shape, *array.strides]
    yield pointer_at(array, ARRAY_BASE) == id(array.base)
    yield pointer_at(array, ARRAY_DTYPE) == id(dtype) == id(np.dtype("float32"))
    yield ctypes.c_int32.from_address(id(array) + ARRAY_FLAGS).value == CONTIGUOUS | ALIGNED | WRITEABLE
    yield pointer_at(array, ARRAY_WEAK_REFERENCES) == 0
    weak = weakref.ref(array)
    yield pointer_at(array, ARRAY_WEAK_REFERENCES) == id(weak)
    swapped = dtype.newbyteorder()
    yield [ctypes.string_at(id(one) + DTYPE_BYTE_ORDER, 1) for one in (dtype, swapped)] == [
        one.byteorder.encode() for one in (dtype, swapped)
    ]
    yield ctypes.c_int32.from_address(id(dtype) + DTYPE_NUMBER).value == dtype.num
    for name in KINDS:
        number = np.dtype(name).type(1)
        yield ctypes.string_at(id(number) + VALUE, number.nbytes) == number.tobytes()
    yield ctypes.c_double.from_address(id(1.5) + VALUE).value == 1.5
    things = [array, dtype]
    yield pointer_at(things, LIST_ITEMS - 8) == 2 <= pointer_at(things, LIST_ITEMS + 8) < 100  # length, allocated
    yield list((ctypes.c_void_p * 2).from_address(pointer_at(things, LIST_ITEMS))) == [id(array), id(dtype)]
    yield list((ctypes.c_void_p * 2).from_address(id(pair := (array, dtype)) + TUPLE_ITEMS)) == list(map(id, pair))
    record = ChainRecord()
    yield pointer_at(record, VALUE) == ctypes.addressof(record)
    before = ctypes.c_int64.from_address(id(record) + REFERENCES).value
    again = record
    yield ctypes.c_int64.from_address(id(again) + REFERENCES).value == before + 1


def _is_main_interpreter() -> bool:
    prototype = ctypes.PYFUNCTYPE(ctypes.c_void_p)
    this, main = (
        prototype((f"PyInterpreterState_{name}", ctypes.pythonapi)) for name in ("Get", "Main")
    )
    return bool(this() == main())

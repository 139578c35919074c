"""The element types, and how they combine.

float32, float64, int32, int64 and bool are the user's; uint32 occurs inside bodies that draw random numbers.
Promotion follows the array API standard with one rule of graphc's own: a float array wins over an integer array
without widening (float32 with int64 stays float32), and Python and NumPy scalars are weak.
"""

from __future__ import annotations

from math import inf
from typing import Any

import numpy as np

from graphc.errors import DTypeError

FLOATS = ("float32", "float64")
INTEGERS = ("int32", "int64", "uint32")
DTYPES = (*FLOATS, *INTEGERS, "bool")
USER_DTYPES = ("float32", "float64", "int32", "int64", "bool")
_RANK = {"bool": 0, "uint32": 1, "int32": 1, "int64": 2, "float32": 3, "float64": 4}


def as_dtype(value: Any, what: str = "dtype") -> str:
    """The name of a dtype given as text, a NumPy dtype or a Python type; `DTypeError` lists those that exist."""
    if value is float:
        return "float32"
    try:
        name = value if isinstance(value, str) and value in DTYPES else np.dtype(value).name
    except TypeError:
        name = str(value)
    if name not in DTYPES:
        raise DTypeError(f"{what}: {name!r} is not supported; use one of {', '.join(USER_DTYPES)}")
    return str(name)


def promote(*dtypes: str) -> str:
    """The dtype of an op on arrays of these dtypes."""
    return max(dtypes, key=_RANK.__getitem__)


def is_float(dtype: str) -> bool:
    return dtype in FLOATS


def promote_weak(dtype: str, value: Any) -> str:
    """The dtype of an op of an array with a Python or NumPy scalar: the array's, unless the kind is a higher one."""
    if isinstance(value, (bool, np.bool_)):
        return dtype
    if isinstance(value, (int, np.integer)):
        return "int64" if dtype == "bool" else dtype
    if isinstance(value, (float, np.floating)):
        return dtype if is_float(dtype) else "float32"
    raise DTypeError(f"a scalar of type {type(value).__name__} cannot take part in an expression")


def identity_of(reducer: str, dtype: str) -> float | int:
    """What combines to nothing: 0 in sums, 1 in products, the least number in maxima, the greatest in minima."""
    if reducer in ("sum", "prod"):
        return 0 if reducer == "sum" else 1
    if dtype == "bool":
        return int(reducer == "min")
    if is_float(dtype):
        return -inf if reducer == "max" else inf
    limits = np.iinfo(dtype)
    return int(limits.min if reducer == "max" else limits.max)

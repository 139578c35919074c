"""Numbers and arrays as Python text."""

from __future__ import annotations

import base64
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LARGEST_LITERAL = 64  # elements of an array that is written out; a larger one is base64
_LARGEST_WHOLE = 1e6  # a float up to this that is a whole number is written without its point


def number(value: Any, dtype: str) -> str:
    """A number that takes the dtype of the array beside it (NumPy's rule for Python scalars).

    >>> number(0.1, "float32"), number(2.0, "float64"), number(-0.0, "float32"), number(float("inf"), "float64")
    ('0.1', '2', '-0.0', 'np.inf')
    """
    if dtype == "bool" or not dtype.startswith("float"):
        return repr(bool(value)) if dtype == "bool" else repr(int(value))
    value = float(value)
    if math.isnan(value):
        return "np.nan"
    if math.isinf(value):
        return "np.inf" if value > 0 else "-np.inf"
    if value.is_integer() and abs(value) <= _LARGEST_WHOLE and not (value == 0 and math.copysign(1, value) < 0):
        return repr(int(value))
    return str(np.float32(value)) if dtype == "float32" else repr(value)


def typed(value: Any, dtype: str) -> str:
    """A number with its dtype: a NumPy scalar."""
    return repr(bool(value)) if dtype == "bool" else f"np.{dtype}({number(value, dtype)})"


def dtype_text(dtype: str) -> str:
    return "bool" if dtype == "bool" else f"np.{dtype}"


def identity(reducer: str | None, dtype: str) -> str:
    """What an element holds that no point writes (see `graphc.ir`)."""
    if reducer in ("argmax", "argmin"):
        return "-1"
    if reducer in ("max", "min"):
        if dtype == "bool":
            return repr(reducer == "min")
        if dtype.startswith("float"):
            return "np.inf" if reducer == "min" else "-np.inf"
        limits = np.iinfo(dtype)
        return repr(int(limits.max if reducer == "min" else limits.min))
    return number(1 if reducer == "prod" else 0, dtype)


def array(value: NDArray[Any]) -> str:
    """An array as an expression."""
    dtype = value.dtype.name
    if value.ndim == 0:
        return f"np.array({number(value[()], dtype)}, dtype={dtype_text(dtype)})"
    if value.size == 0:
        return f"np.zeros({value.shape}, dtype={dtype_text(dtype)})"
    if value.size <= _LARGEST_LITERAL:
        return f"np.array({_nested(value, dtype)}, dtype={dtype_text(dtype)})"
    code = value.dtype.newbyteorder("<").str
    text = base64.b64encode(np.ascontiguousarray(value).astype(code).tobytes()).decode()
    lines = "\n".join(f'    "{text[at : at + 100]}"' for at in range(0, len(text), 100))
    return f'np.frombuffer(base64.b64decode(\n{lines}\n), dtype="{code}").reshape{value.shape}'


def _nested(value: NDArray[Any], dtype: str) -> str:
    if value.ndim == 0:
        return number(value[()], dtype)
    return f"[{', '.join(_nested(row, dtype) for row in value)}]"

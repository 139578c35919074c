"""Numerical derivatives of Python functions on NumPy arrays: the checks that a derived gradient is held against.

>>> float(finite_difference(lambda x: x**3, 2.0).round(6))
12.0
>>> float(complex_step(np.exp, 0.0))
1.0
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphc.errors import ArgumentError
from graphc.lang.source import user_line

Array = NDArray[Any]
# The step that balances truncation and rounding: eps**(1/3) for central differences, eps**(1/2) for forward ones.
_STEPS = {"central": 6e-6, "forward": 1.5e-8}
_IMAGINARY_STEP = 1e-100  # nothing is subtracted, so the step may be as small as one likes


def finite_difference(
    function: Callable[[Array], Any], x: Any, step: float | None = None, scheme: str = "central"
) -> Array:
    """All partial derivatives of `function` at x by differences, in float64.

    function: takes an array of x's shape, returns a number or an array. The result has the shape of what it returns
        followed by x's shape (for a number: x's shape), as `gc.jacobian` has it.
    step: how far each element moves (default: 6e-6 or 1.5e-8, times the element where it is greater than 1).
    scheme: "central" is (f(x+h) - f(x-h)) / 2h, "forward" is (f(x+h) - f(x)) / h.

    Errors: `ArgumentError` for an unknown scheme, or a step that is not positive.

    >>> finite_difference(lambda x: x[0] * x[1], [3.0, 4.0]).round(6)
    array([4., 3.])
    """
    if scheme not in _STEPS:
        raise ArgumentError(f'finite_difference: scheme is "central" or "forward", not {scheme!r}', user_line())
    if step is not None and not step > 0:
        raise ArgumentError(f"finite_difference: step must be positive, not {step}", user_line())
    point = np.array(x, dtype=np.float64)
    here = np.array(function(point.copy()), dtype=np.float64)
    result = np.empty((*here.shape, point.size))
    for place in range(point.size):
        value = point.reshape(-1)[place]
        size = step if step is not None else _STEPS[scheme] * max(1.0, abs(float(value)))
        ahead = np.array(function(_moved(point, place, size)), dtype=np.float64)
        if scheme == "forward":
            result[..., place] = (ahead - here) / size
        else:
            behind = np.array(function(_moved(point, place, -size)), dtype=np.float64)
            result[..., place] = (ahead - behind) / (2 * size)
    return result.reshape(here.shape + point.shape)


def complex_step(function: Callable[[Array], Any], x: Any) -> Array:
    """All partial derivatives of `function` at x to full precision, as the imaginary part of f(x + ih) / h.

    function: made of NumPy operations that accept complex numbers and are smooth there (no abs, maximum or
        comparison). The result is shaped as `finite_difference`'s.

    Source: W. Squire, G. Trapp, Using complex variables to estimate derivatives of real functions, SIAM Review 40
    (1998).

    >>> complex_step(lambda x: np.sin(x[0]) * x[1], [0.0, 2.0])
    array([2., 0.])
    """
    point = np.array(x, dtype=np.complex128)
    columns = [
        np.imag(np.asarray(function(_moved(point, place, 1j * _IMAGINARY_STEP)))) / _IMAGINARY_STEP
        for place in range(point.size)
    ]
    if not columns:
        shape = np.asarray(function(point)).shape
        return np.zeros(shape + point.shape)
    return np.stack(columns, axis=-1).reshape(columns[0].shape + point.shape)


def _moved(point: Array, place: int, distance: complex) -> Array:
    moved = point.copy()
    moved.reshape(-1)[place] += distance
    return moved

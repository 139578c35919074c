"""The arguments of a compiled function: any array-like is accepted when that loses nothing, and refused in words."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from graphc.errors import ArgumentError, ArgumentTypeError
from graphc.ir.extent import evaluate as evaluate_extent
from graphc.ir.extent import format_shape
from graphc.lang.source import user_line
from graphc.lang.tensor import Tensor

Array: TypeAlias = NDArray[Any]
_MOST_SHAPES = 256  # combinations of argument shapes that are remembered


class Arguments:
    """What a function called `name` expects: its inputs, and the named dimensions that a call tells."""

    def __init__(self, name: str, inputs: Sequence[Tensor], dimensions: Sequence[str]) -> None:
        self.name = name
        self.inputs = tuple(inputs)
        self._dtypes = tuple(np.dtype(tensor.dtype) for tensor in inputs)
        self._dimensions = tuple(dimensions)
        self._warned: set[str] = set()
        self._checked: dict[tuple[tuple[int, ...], ...], tuple[int, ...]] = {}  # shapes found to fit, with their sizes

    def check(self, arguments: Sequence[Any]) -> tuple[list[Array], tuple[int, ...]]:
        """(one array for each input, ready for native code; the sizes of the named dimensions)

        Errors: `ArgumentError`, `ArgumentTypeError`, each with the input's name, what was expected and what came.
        """
        if len(arguments) != len(self.inputs):
            names = ", ".join(str(tensor.name) for tensor in self.inputs)
            raise ArgumentError(
                f"{self.name}: {len(self.inputs)} arguments are expected ({names}), {len(arguments)} came", user_line()
            )
        # No comprehension: 3.11 gives it a frame of its own, and _cast counts frames.
        arrays = list(map(self._array, self.inputs, self._dtypes, arguments))
        shapes = tuple([array.shape for array in arrays])
        sizes = self._checked.get(shapes)
        if sizes is None:
            sizes = self._sizes(arrays) if self._dimensions else ()
            self._check_shapes(arrays, dict(zip(self._dimensions, sizes, strict=True)))
            if len(self._checked) >= _MOST_SHAPES:
                self._checked.clear()
            self._checked[shapes] = sizes
        return arrays, sizes

    def _array(self, tensor: Tensor, dtype: np.dtype[Any], value: Any) -> Array:
        """An argument as a C-contiguous array of the input's dtype and rank, when that loses nothing."""
        if type(value) is np.ndarray and value.dtype == dtype and _is_ready(value):
            array = value
        else:
            array = self._convert(tensor, dtype, value)
        if array.ndim != tensor.ndim:
            raise ArgumentError(
                f"{self.name}: input {tensor.name!r} has rank {tensor.ndim}, shape {format_shape(tensor.shape)}; "
                f"an array of shape {array.shape} came",
                user_line(),
            )
        return array

    def _convert(self, tensor: Tensor, dtype: np.dtype[Any], value: Any) -> Array:
        if isinstance(value, Tensor):
            raise ArgumentTypeError(
                f"{self.name}: input {tensor.name!r} needs an array, a symbolic tensor came", user_line()
            )
        try:
            array = np.asarray(value)
        except (ValueError, TypeError) as error:
            raise ArgumentTypeError(
                f"{self.name}: input {tensor.name!r} needs an array of {tensor.dtype}: {error}", user_line()
            ) from None
        if array.dtype != dtype:
            weak = not isinstance(value, (np.ndarray, np.generic)) and not hasattr(value, "__array__")
            array = self._cast(tensor, dtype, array, weak)
        return array if _is_ready(array) else np.array(array, order="C")  # a new array is aligned

    def _cast(self, tensor: Tensor, target: np.dtype[Any], array: Array, weak: bool) -> Array:
        """To the input's dtype: integers that fit, floats to a wider float; a narrower float with one warning."""
        source = array.dtype
        if source.kind not in "fiub":
            raise self._wrong_kind(tensor, source)
        if array.size == 0 or _loses_nothing(source, target):
            return array.astype(target, order="C")
        if target.kind == "f":
            if source.kind == "f" and not weak and tensor.name not in self._warned:
                self._warned.add(str(tensor.name))
                warnings.warn(
                    f"{self.name}: input {tensor.name!r} is {target}; an array of {source} is converted at each call",
                    stacklevel=6,
                )
            return array.astype(target, order="C")
        if target.kind == "i" and source.kind in "iu":
            limits = np.iinfo(tensor.dtype)
            if array.min() >= limits.min and array.max() <= limits.max:
                return array.astype(target, order="C")
            raise ArgumentError(
                f"{self.name}: input {tensor.name!r} is {target}; {array.min()}..{array.max()} does not fit",
                user_line(),
            )
        raise self._wrong_kind(tensor, source)

    def _wrong_kind(self, tensor: Tensor, source: np.dtype[Any]) -> ArgumentTypeError:
        return ArgumentTypeError(
            f"{self.name}: input {tensor.name!r} needs an array of {tensor.dtype}, an array of {source} came",
            user_line(),
        )

    def _sizes(self, arrays: Sequence[Array]) -> tuple[int, ...]:
        """The size of each named dimension, agreed by all arguments."""
        sizes: dict[str, int] = {}
        source: dict[str, str] = {}
        for tensor, array in zip(self.inputs, arrays, strict=True):
            for axis, extent in enumerate(tensor.shape):
                name = str(extent)
                if isinstance(extent, int) or not name.isidentifier():
                    continue
                size = array.shape[axis]
                if sizes.setdefault(name, size) != size:
                    raise ArgumentError(
                        f"{self.name}: the dimension {name} is {sizes[name]} in {source[name]!r} "
                        f"and {size} in {tensor.name!r} (shape {array.shape})",
                        user_line(),
                    )
                source.setdefault(name, str(tensor.name))
        return tuple(sizes[name] for name in self._dimensions)

    def _check_shapes(self, arrays: Sequence[Array], sizes: Mapping[str, int]) -> None:
        for tensor, array in zip(self.inputs, arrays, strict=True):
            wanted = tuple(evaluate_extent(extent, sizes) for extent in tensor.shape)
            if array.shape != wanted:
                given = "" if wanted == tensor.shape else f", here {format_shape(wanted)}"
                raise ArgumentError(
                    f"{self.name}: input {tensor.name!r} has shape {format_shape(tensor.shape)}{given}; "
                    f"an array of shape {array.shape} came",
                    user_line(),
                )


def _is_ready(array: Array) -> bool:
    """Whether native code can read it where it is."""
    flags = array.flags
    return flags.c_contiguous and flags.aligned


@lru_cache(maxsize=64)
def _loses_nothing(source: np.dtype[Any], target: np.dtype[Any]) -> bool:
    return np.can_cast(source, target, "safe")

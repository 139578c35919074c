"""Native calls give what calls through Python give: values, errors and warnings, for every kind of argument."""

from __future__ import annotations

import pickle
import struct
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc_llvm.fastcall_layout import KINDS
from tests.backends.llvm.calling import Pair, compiled, needs_native_calls, python_frames

SHAPE = (3, 4)

pytestmark = needs_native_calls


# ---- numbers for an input of shape () ------------------------------------------------------------------------------


class Float(float):
    pass


class Whole(int):
    pass


class Convertible:
    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.array(1.25)


SIGNALLING = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000001))[0]
FLOATS = [
    1.5, 0.1, -0.0, 0.0, -3.75, 1e30, 1e300, -1e300, 1e-30, 1e-40, 1e-320, float("inf"), -float("inf"), float("nan"),
    -float("nan"), SIGNALLING, 2.0**-126, 2.0**-126 * (1 - 2.0**-53), (2 - 2.0**-23) * 2.0**127, 3.4028235e38,
    (2 - 2.0**-24) * 2.0**127, 2.0**128, Float(1.5),
]
WHOLES = [
    0, 1, -5, 2**24 + 1, 2**31 - 1, 2**31, -(2**31), -(2**31) - 1, 2**53 + 1, 2**60 + 2**36 + 1, 2**62 + 2**38 - 1,
    2**63 - 1, -(2**63), 2**63, 2**64, 10**400, Whole(3), True, False,
]
SCALARS = [
    make(value)
    for make in (np.float32, np.float64, np.int32, np.int64, np.bool_, np.float16, np.uint8, np.longdouble, np.longlong)
    for value in (0, 1)
] + [np.float64(1e300), np.float64(0.1), np.float32(1e-44), np.float32("nan"), np.int64(2**40), np.uint64(2**63)]
ZERO_DIMENSIONAL = [np.array(value) for value in SCALARS[::2]] + [
    np.array(2.5, dtype=dtype) for dtype in ("float32", ">f4", "float64", ">i8")
]
OTHERS = [
    [1.5], np.ones(1, "float32"), "text", b"1", None, object(), 1 + 2j, Fraction(1, 2), Convertible(), (), [[]],
    gc.input("symbol", ()), np.array("1"), np.datetime64(1, "s"), np.array(None), np.ma.masked, memoryview(b"a"),
]


def scalar_pair(dtype: str) -> Pair:
    def build() -> gc.Function:
        x = gc.input("x", (), dtype=dtype)
        function = compiled([x], gc.where(x, x, x) if dtype == "bool" else x + x, name="f")
        function(np.zeros((), dtype))  # from now on there is something native to call
        return function

    return Pair(build)


@pytest.mark.parametrize("dtype", KINDS)
def test_numbers(dtype):
    pair = scalar_pair(dtype)
    for value in [*FLOATS, *WHOLES, *SCALARS, *ZERO_DIMENSIONAL, *OTHERS]:
        pair.agree(value)


@pytest.mark.parametrize("dtype", KINDS)
def test_numbers_under_strict_error_handling(dtype):
    """NumPy's errors of a conversion are the user's to set: the native call meets none."""
    pair = scalar_pair(dtype)
    with np.errstate(all="raise"):
        for value in [*FLOATS, *WHOLES, *SCALARS]:
            pair.agree(value)


NATIVE_NUMBERS = {
    "float32": [1.5, 0.1, -0.0, -3, 2**62, np.float32(2), np.array(2, "float32")],
    "float64": [1.5, float("nan"), 1e300, -3, 2**62, np.float64(2), np.array(2.0)],
    "int32": [7, -(2**31), np.int32(2), np.array(2, "int32")],
    "int64": [7, 2**63 - 1, np.int64(2), np.array(2)],
    "bool": [True, False, np.True_, np.array(True)],
}


@pytest.mark.parametrize("dtype", KINDS)
def test_common_numbers_need_no_python(dtype):
    function = scalar_pair(dtype).native
    for value in NATIVE_NUMBERS[dtype]:
        assert python_frames(function, value) == 0, value
    assert dtype == "bool" or python_frames(function, np.bool_(True)) > 0


# ---- arrays --------------------------------------------------------------------------------------------------------


class Subclass(np.ndarray):
    pass


def unaligned(array: np.ndarray) -> np.ndarray:
    raw = np.zeros(array.nbytes + 1, dtype=np.uint8)
    shifted = raw[1:].view(array.dtype).reshape(array.shape)
    shifted[...] = array
    assert not shifted.flags.aligned
    return shifted


def read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


GOOD = np.arange(12, dtype=np.float32).reshape(SHAPE) / 7
ARRAYS = {
    "as it should be": (GOOD, True),
    "read-only": (read_only(GOOD.copy()), True),
    "a view": (np.zeros((9, 4), "float32")[2:5], True),
    "unpickled, with a dtype object of its own": (pickle.loads(pickle.dumps(GOOD)), True),
    "a dtype with metadata": (GOOD.astype(np.dtype("float32", metadata={"unit": "m"})), True),
    "Fortran order": (np.asfortranarray(GOOD), False),
    "strided": (np.zeros((3, 8), "float32")[:, ::2], False),
    "backwards": (GOOD[::-1], False),
    "big-endian": (GOOD.astype(">f4"), False),
    "unaligned": (unaligned(GOOD), False),
    "a subclass": (GOOD.view(Subclass), False),
    "masked": (np.ma.masked_array(GOOD, mask=GOOD > 1), False),
    "float64": (GOOD.astype("float64"), False),
    "float16": (GOOD.astype("float16"), False),
    "int64": (np.ones(SHAPE, "int64"), False),
    "int32, as wide": (np.ones(SHAPE, "int32"), False),
    "bool": (np.ones(SHAPE, "bool"), False),
    "uint8": (np.ones(SHAPE, "uint8"), False),
    "complex": (np.ones(SHAPE, "complex64"), False),
    "objects": (np.full(SHAPE, None), False),
    "numbers as objects": (np.full(SHAPE, 1.5, dtype=object), False),
    "strings": (np.full(SHAPE, "1"), False),
    "records": (np.zeros(SHAPE, dtype=[("a", "f4")]), False),
    "lists": (GOOD.tolist(), False),
    "a buffer": (memoryview(GOOD), False),
    "transposed shape": (np.zeros((4, 3), "float32"), False),
    "last extent": (np.zeros((3, 5), "float32"), False),
    "lower rank": (np.zeros(12, "float32"), False),
    "higher rank": (np.zeros((1, 3, 4), "float32"), False),
    "rank 0": (np.zeros((), "float32"), False),
    "empty": (np.zeros((3, 0), "float32"), False),
    "a number": (1.5, False),
    "nothing": (None, False),
}


@pytest.fixture(scope="module")
def array_pair() -> Pair:
    def build() -> gc.Function:
        x = gc.input("x", SHAPE)
        function = compiled([x], 3 * x + 1, name="f")
        function(GOOD)
        return function

    return Pair(build)


@pytest.mark.parametrize("kind", ARRAYS)
def test_arrays(array_pair, kind):
    argument, is_native = ARRAYS[kind]
    said = array_pair.agree(argument)
    if said[0] is np.ndarray:
        assert (python_frames(array_pair.native, argument) == 0) == is_native
    assert array_pair.agree(GOOD)[0] is np.ndarray  # whatever came before


@pytest.mark.parametrize("arguments", [(), (GOOD, GOOD), (GOOD, None, 1)])
def test_numbers_of_arguments(array_pair, arguments):
    assert array_pair.agree(*arguments)[0] is gc.errors.ArgumentError


def test_keywords(array_pair):
    for positional in ((), (GOOD,)):
        kind, text, _ = array_pair.agree(*positional, x=GOOD)
        assert issubclass(kind, TypeError) and "by position (x), not by keyword: 'x'" in text


def test_a_conversion_is_warned_of_once():
    x = gc.input("x", SHAPE)
    function = compiled([x], x + 1)
    with pytest.warns(UserWarning, match="is converted at each call") as caught:
        for _ in range(3):
            function(GOOD.astype("float64"))
    assert [one.filename for one in caught] == [__file__]


def test_no_inputs_and_no_outputs():
    w = gc.param("w", (2,), init=1.0)
    add = compiled([], [], updates={w: w + 1})
    value = compiled([], w * 2)
    for number in range(2, 5):
        assert add() == () and value().tolist() == [2 * number] * 2
    assert python_frames(add) == python_frames(value) == 0


def test_empty_arrays():
    x = gc.input("x", (0, 3))
    function = compiled([x], [x + 1, gc.sum(x)])
    for _ in range(4):
        empty, total = function(np.zeros((0, 3), "float32"))
        assert empty.shape == (0, 3) and total == 0

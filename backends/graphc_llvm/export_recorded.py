"""What the self-test of an exported program compares with: inputs from a generator, and some of their results here.

The generator is the linear congruential one of Numerical Recipes (Press et al., third edition, section 7.1.4), modulo
2^32, begun anew for each tensor, so that nothing but results is recorded: up to 16 of each tensor that is written,
evenly spaced. Of each number 23 bits make a float of [-1, 1) for inputs, of [-1/8, 1/8) for params and of [0, 1/8) for
states, some of which are square-rooted; one bit makes an integer, 0 or 1, which is a label or an index almost
everywhere. Where it is none, integers are 0, and where that is none either, run must say BAD_INDEX.

Another processor rounds differently and adds in another order, so a result may differ by a part of the greatest of its
tensor. That is not enough for a sum whose terms cancel, which is rounding alone and different everywhere, nor for what
jumps (a comparison, the index of a maximum) where two numbers are all but equal. Both show when the program runs again
with every float changed a little, at random (as in Vignes, "A stochastic arithmetic for reliable scientific
computation", Mathematics and Computers in Simulation 35, 1993): what such runs do to a result it may do elsewhere, too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from graphc.program import Buffer
from graphc_llvm.export_interface import Interface, status_code

Array = NDArray[Any]
Run = Callable[[Sequence[Array]], Sequence[Array]]

MULTIPLIER, INCREMENT = 1664525, 1013904223  # Numerical Recipes' "quick and dirty" generator
_SEED: Final = 2654435761  # 2^32 over the golden ratio (Knuth, TAOCP 3, 6.4): seeds far apart
_RANGES: Final = {"param": (1 << 22, 2.0**-25), "state": (0, 2.0**-26)}  # what is taken off 23 bits, and a factor
_INPUT_RANGE: Final = (1 << 22, 2.0**-22)

TOLERANCE: Final = {"float32": 1e-4, "float64": 1e-9}
"""Any result may differ by this part of the greatest one that is recorded of its tensor."""

_RECORDED: Final = 16  # results of a tensor
_RUNS: Final = 8  # on changed floats
# By what part of themselves floats change at most: by some units in the last place, or a result that is exact by chance
# would stay so. And how much more than the runs here another processor may do to a result: in a row, 10^4 numbers of
# one sign are added with hundreds of times the error of adding them in 64 parts, as vector units do. A result that
# changes by no greater part than its inputs do stays about within TOLERANCE, as 512 * 2^-22 is 1.2e-4.
_CHANGE: Final = {"float32": 2.0**-22, "float64": 2.0**-40}
_ALLOWED: Final = 512
_PERIOD: Final = 65521  # of random numbers, so that many weights take little time; a prime, as no axis has


@dataclass(frozen=True)
class Recorded:
    """What the program did here: its status, and some of each tensor that it wrote, by root. `bound` is the greatest
    integer among the inputs. tolerances: by how much each result may differ, infinity where it may be anything; of
    integers and bools 1 where it may be anything, else 0."""

    status: int
    bound: int
    results: Mapping[str, Array]
    tolerances: Mapping[str, Array]


def record(interface: Interface, embedded: Mapping[str, Array], run: Run) -> Recorded:
    """Run the program on the generator's arrays and the embedded ones, and on what is near them."""
    for bound in (1, 0):
        arrays = dict(embedded)
        for number, (_, _, field) in enumerate(interface.arguments()):
            if field.buffer.name in interface.program.inputs:
                arrays[field.buffer.name] = generated(field.buffer, number, bound)
        try:
            results = _results(interface, arrays, run)
        except IndexError:
            continue
        return Recorded(0, bound, results, _tolerances(interface, arrays, run, results))
    return Recorded(status_code("BAD_INDEX"), 0, {}, {})


def generated(buffer: Buffer, number: int, bound: int) -> Array:
    """The tensor that the object's own code fills in the same way; `number` counts a call's tensors."""
    factors = np.full(buffer.size, MULTIPLIER, np.uint32)
    powers = np.cumprod(factors, dtype=np.uint32)
    sums = np.cumsum(np.concatenate([np.ones(1, np.uint32), powers[:-1]]), dtype=np.uint32)[: buffer.size]
    states = powers * np.uint32(seed_of(number)) + sums * np.uint32(INCREMENT)
    if buffer.dtype in TOLERANCE:
        offset, scale = float_range(buffer)
        floats = (states >> np.uint32(9)).astype(np.int32) - np.int32(offset)
        made: Array = floats.astype(buffer.dtype) * np.dtype(buffer.dtype).type(scale)
        return made.reshape(buffer.shape)
    return ((states >> np.uint32(31)) * np.uint32(bound)).astype(buffer.dtype).reshape(buffer.shape)


def seed_of(number: int) -> int:
    """The generator's state before the first element of a call's tensor."""
    return _SEED * (number + 1) % 2**32


def float_range(buffer: Buffer) -> tuple[int, float]:
    """What is taken off 23 bits, and what the difference is multiplied with."""
    return _RANGES.get(buffer.kind, _INPUT_RANGE)


def step_of(size: int) -> int:
    """How far apart the recorded elements of a tensor are."""
    return max(-(-size // _RECORDED), 1)


def _results(interface: Interface, arrays: Mapping[str, Array], run: Run) -> dict[str, Array]:
    """What is recorded of one run. It changes no array."""
    program = interface.program
    updated = {target: arrays[target].copy() for _, target in program.updates}
    outputs = run([updated.get(name, arrays[name]) for name in program.inputs])
    written = dict(zip((program.root(name).name for name in program.outputs), outputs, strict=True))
    written.update(updated)
    return {name: array.reshape(-1)[:: step_of(array.size)].copy() for name, array in written.items()}


def _tolerances(
    interface: Interface, arrays: Mapping[str, Array], run: Run, results: Mapping[str, Array]
) -> dict[str, Array]:
    allowed = {name: np.zeros(result.shape) for name, result in results.items()}
    for seed in range(_RUNS):
        generator = np.random.default_rng(seed)
        near = {name: _changed(array, generator) for name, array in arrays.items()}
        with contextlib.suppress(IndexError):  # an index that is computed, and near a jump
            for name, found in _results(interface, near, run).items():
                np.maximum(allowed[name], _difference(results[name], found) * _ALLOWED, out=allowed[name])
    return {name: _tolerance(result, allowed[name]) for name, result in results.items()}


def _changed(array: Array, generator: np.random.Generator) -> Array:
    """Each float a little greater or less; the whole tensor, too, or the mean of a long one would hardly change."""
    if array.dtype.name not in _CHANGE:
        return array
    half = _CHANGE[array.dtype.name] / 2
    signs = generator.choice((-1, 1), min(array.size, _PERIOD))
    factors = (1 + half * (generator.uniform(-1, 1) + signs)).astype(array.dtype)
    return np.asarray(array * np.resize(factors, array.shape), order="C")  # what has no axes would be no array


def _difference(result: Array, found: Array) -> Array:
    """Of each element: between floats; of others 1 where they differ."""
    if result.dtype.name not in TOLERANCE:
        return np.asarray(result != found, np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.abs(np.asarray(found, np.float64) - result)
    difference[(found == result) | (np.isnan(found) & np.isnan(result))] = 0
    difference[np.isnan(difference)] = np.inf
    return difference


def _tolerance(result: Array, allowed: Array) -> Array:
    """Of each element. Where a tensor is rounding alone it is so everywhere: an element that happened to change little
    is granted what half of those that changed are."""
    if result.dtype.name not in TOLERANCE:
        return (allowed > 0).astype(result.dtype)
    greatest = float(np.abs(result[np.isfinite(result)]).max(initial=0))
    level = np.median(allowed[allowed > 0]) if allowed.any() else 0.0
    with np.errstate(over="ignore"):
        return np.maximum(np.maximum(allowed, level), TOLERANCE[result.dtype.name] * greatest).astype(result.dtype)

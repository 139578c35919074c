"""Initialisers: functions (shape, dtype) -> array that give a parameter its first value.

    W = gc.param("W", (784, 128), init=gc.init.he_normal(seed=0))

Seeds. The numbers come from NumPy's counter-based generator Philox, keyed by the seed alone: one seed, one array, on
every machine, and the float32 array is the float64 one rounded. A seed is a whole number or a sequence of them.
`seed=None` is repeatable too: nothing is drawn from the clock or the system. A layer's parameter is then keyed by its
full name ("encoder.0.weight") and by how many parameters of that name this process has initialised without a seed
before, so that two layers differ, a run repeats, and a new layer leaves the others as they were. An initialiser that
is given to `gc.param` directly knows no name and is keyed by how many such initialisers were used before it.

Fans. With layout="io", the default, a matrix is (in, out), as in x @ W; with layout="oi" it is (out, in), as `Linear`
stores it. From three axes on the layout is that of convolution kernels, (out, in, *kernel), under both names:
fan_in = in * product(kernel), fan_out = out * product(kernel). A vector of n elements has both fans n.

Sources: X. Glorot, Y. Bengio, Understanding the difficulty of training deep feedforward neural networks, 2010
(Xavier); K. He et al., Delving deep into rectifiers, arXiv:1502.01852 (He); A. Saxe et al., Exact solutions to the
nonlinear dynamics of learning in deep linear neural networks, arXiv:1312.6120 (orthogonal).
"""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from graphc.errors import ArgumentError, ShapeError
from graphc.lang.source import user_line

Array: TypeAlias = NDArray[Any]
Seed: TypeAlias = int | Sequence[int] | None

_CHUNK = 1 << 20  # numbers drawn at once: the float64 draws of a large kernel need no second copy of it
_unseeded: Counter[str] = Counter()  # how often each name was initialised without a seed


@dataclass(frozen=True)
class RandomInitialiser:
    """A draw keyed by a seed; `named` gives one without a seed the key of a parameter's name."""

    draw: Callable[[np.random.Generator, tuple[int, ...]], Array]
    seed: Seed

    def named(self, name: str) -> RandomInitialiser:
        """The same distribution, keyed by a name when no seed was given."""
        return self if self.seed is not None else replace(self, seed=_seed_of_name(name))

    def __call__(self, shape: tuple[int, ...], dtype: str) -> Array:
        """An array of this shape and dtype."""
        seed = self.seed if self.seed is not None else _seed_of_name("")
        return self.draw(np.random.Generator(np.random.Philox(np.random.SeedSequence(seed))), shape).astype(
            dtype, copy=False
        )


def _seed_of_name(name: str) -> tuple[int, int]:
    _unseeded[name] += 1
    return zlib.crc32(name.encode()), _unseeded[name]


def _checked(op: str, draw: Callable[[np.random.Generator, tuple[int, ...]], Array], seed: Seed) -> RandomInitialiser:
    numbers = () if seed is None else (seed,) if not isinstance(seed, Sequence) else seed
    if any(not isinstance(n, (int, np.integer)) or n < 0 for n in numbers) or (seed is not None and not len(numbers)):
        raise ArgumentError(
            f"{op}: seed must be a whole number from 0 up, a sequence of them or None, not {seed!r}", user_line()
        )
    return RandomInitialiser(draw, seed)


def _filled(shape: tuple[int, ...], draw: Callable[[int], Array]) -> Array:
    """An array filled in chunks; float64 throughout, so that both float dtypes see the same numbers."""
    out = np.empty(math.prod(shape))
    for start in range(0, out.size, _CHUNK):
        out[start : start + _CHUNK] = draw(min(_CHUNK, out.size - start))
    return out.reshape(shape)


# --- Numbers --------------------------------------------------------------------------------------------------------


def constant(value: float) -> Callable[[tuple[int, ...], str], Array]:
    """Every element is `value`.

    >>> constant(3)((2,), "float32")
    array([3., 3.], dtype=float32)
    """
    return lambda shape, dtype: np.full(shape, value, dtype=dtype)


def zeros() -> Callable[[tuple[int, ...], str], Array]:
    """Every element is 0."""
    return constant(0)


def ones() -> Callable[[tuple[int, ...], str], Array]:
    """Every element is 1."""
    return constant(1)


# --- Distributions --------------------------------------------------------------------------------------------------


def normal(sigma: float = 1.0, seed: Seed = None) -> RandomInitialiser:
    """Normal numbers of mean 0 and standard deviation sigma. Errors: `ArgumentError` for a negative sigma.

    >>> normal(0.1, seed=0)((2, 3), "float32").shape
    (2, 3)
    """
    if not sigma >= 0:
        raise ArgumentError(f"normal: sigma must be from 0 up, not {sigma!r}", user_line())
    return _checked("normal", lambda rng, shape: sigma * _filled(shape, rng.standard_normal), seed)


def uniform(low: float = 0.0, high: float = 1.0, seed: Seed = None) -> RandomInitialiser:
    """Numbers spread evenly over [low, high). Errors: `ArgumentError` when low is above high."""
    if not low <= high:
        raise ArgumentError(f"uniform: low must not be above high, not {low!r} and {high!r}", user_line())
    return _checked("uniform", lambda rng, shape: low + (high - low) * _filled(shape, rng.random), seed)


def _scaled(
    op: str, seed: Seed, layout: str, is_normal: bool, sigma: Callable[[int, int], float]
) -> RandomInitialiser:
    """Draws of standard deviation sigma(fan_in, fan_out): normal, or uniform over +-sqrt(3) sigma."""
    if layout not in ("io", "oi"):
        raise ArgumentError(f'{op}: layout is "io" for (in, out) or "oi" for (out, in), not {layout!r}', user_line())

    def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        deviation = sigma(*fans(shape, layout))
        if is_normal:
            return deviation * _filled(shape, rng.standard_normal)
        return math.sqrt(3.0) * deviation * (2 * _filled(shape, rng.random) - 1)

    return _checked(op, draw, seed)


def fans(shape: Sequence[int], layout: str = "io") -> tuple[int, int]:
    """(fan_in, fan_out) of a weight: how many numbers one output sums, and how many outputs one input reaches.

    >>> fans((784, 128)), fans((784, 128), layout="oi"), fans((16, 6, 5, 5))
    ((784, 128), (128, 784), (150, 400))
    """
    if len(shape) == 0:
        raise ShapeError("fans: a scalar has none; this initialiser is for weights of one axis and more", user_line())
    if len(shape) == 1:
        return shape[0], shape[0]
    if len(shape) == 2:
        return (shape[0], shape[1]) if layout == "io" else (shape[1], shape[0])
    window = math.prod(shape[2:])
    return shape[1] * window, shape[0] * window


def _per(fan: float) -> float:
    return 1.0 / fan if fan else 0.0  # a weight without elements


def he_normal(seed: Seed = None, layout: str = "io") -> RandomInitialiser:
    """Normal with variance 2 / fan_in, which keeps the size of activations through ReLU layers.

    >>> abs(float(he_normal(seed=0)((200, 300), "float32").std()) - 0.1) < 0.001
    True
    """
    return _scaled("he_normal", seed, layout, True, lambda fan_in, fan_out: math.sqrt(2 * _per(fan_in)))


def he_uniform(seed: Seed = None, layout: str = "io") -> RandomInitialiser:
    """Uniform over +-sqrt(6 / fan_in): variance 2 / fan_in."""
    return _scaled("he_uniform", seed, layout, False, lambda fan_in, fan_out: math.sqrt(2 * _per(fan_in)))


def fan_in_uniform(seed: Seed = None, layout: str = "io") -> RandomInitialiser:
    """Uniform over +-1 / sqrt(fan_in): what PyTorch's layers begin with (variance 1 / (3 fan_in))."""
    return _scaled("fan_in_uniform", seed, layout, False, lambda fan_in, fan_out: math.sqrt(_per(fan_in) / 3))


def xavier_normal(seed: Seed = None, gain: float = 1.0, layout: str = "io") -> RandomInitialiser:
    """Normal with variance gain^2 * 2 / (fan_in + fan_out), for tanh and linear layers."""
    return _scaled("xavier_normal", seed, layout, True, lambda i, o: gain * math.sqrt(2 * _per(i + o)))


def xavier_uniform(seed: Seed = None, gain: float = 1.0, layout: str = "io") -> RandomInitialiser:
    """Uniform over +-gain * sqrt(6 / (fan_in + fan_out))."""
    return _scaled("xavier_uniform", seed, layout, False, lambda i, o: gain * math.sqrt(2 * _per(i + o)))


def orthogonal(gain: float = 1.0, seed: Seed = None) -> RandomInitialiser:
    """gain times a random matrix with orthonormal rows or columns, whichever are fewer; later axes count as one.

    The matrix is uniform over all such matrices: the Q of a normal matrix, with the signs of R's diagonal.
    """

    def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        if len(shape) < 2:
            raise ShapeError(f"orthogonal: at least two axes are needed, the shape is {shape}", user_line())
        rows, columns = shape[0], math.prod(shape[1:])
        matrix = _filled((max(rows, columns), min(rows, columns)), rng.standard_normal)
        q, r = np.linalg.qr(matrix)
        q = q * np.where(np.diagonal(r) < 0, -1.0, 1.0)
        return gain * np.ascontiguousarray(q if rows >= columns else q.T).reshape(shape)

    return _checked("orthogonal", draw, seed)

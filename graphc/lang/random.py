"""Random numbers that follow from a seed, a draw and a count of calls: `gc.random`.

    noise = gc.random.normal(("N", 3), sigma=0.1, seed=0)         # a tensor, new numbers at each call of what reads it
    rng = gc.random.Generator(seed=0)                             # several draws, one seed, one counter
    mask, shift = rng.bernoulli((64,), 0.5), rng.uniform((2,), -1, 1)

A draw is a node of the graph like any other: used twice, forward or backward, it is the same numbers. Its numbers are
a function of three things alone:

    the generator's key   from the seed, through NumPy's SeedSequence
    the draw              its number among the draws written with this generator: no two give the same numbers
    the counter           a state (int64, `Generator.counter`) that starts at 0 and is one more after each call of a
                          compiled function that reaches a draw of the generator

and of the element's place: the first k elements in row-major order do not depend on how many follow. So whoever
restores the counter's value goes on with the same numbers; `gc.evaluate` draws for the counter as it stands and
changes nothing; all functions compiled from a generator's draws share its counter. A draw inside `gc.checkpoint` is
the same when it is computed again.

Seeds. A seed is a whole number from 0 up or a sequence of them. The functions `uniform`, `normal`, `bernoulli` and
`randint` make a generator of their own at each call: the same seed given twice gives the same numbers twice (under
two counters), as with NumPy. Draws that are to differ need different seeds, one generator, or no seed. `seed=None` is
repeatable too, as in `gc.init`: nothing is drawn from the clock or the system, and a generator without a seed is keyed
by its name and by how many of that name this process has made without a seed before.

Bits. uniform, bernoulli and randint give the same bits on every backend, processor and thread count, and exported.
normal computes log, sqrt and cos, so that backends, which round them in their own ways, may differ by a few units in
the last place; each gives the same bits for every thread count, and exported.
"""

from __future__ import annotations

import itertools
import math
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from graphc.errors import ArgumentError, ArgumentTypeError, DTypeError
from graphc.ir import scalar as sc
from graphc.ir.dtypes import as_dtype, is_float
from graphc.ir.extent import Shape
from graphc.ir.node import scalar_map
from graphc.ir.origin import Origin, originating
from graphc.lang.source import named_op, user_line
from graphc.lang.tensor import ShapeLike, Tensor, Variable, parse_shape, state
from graphc.lang.threefry import Words, block_of_element, key_of_call, key_of_draw, reads_of_key

Seed: TypeAlias = int | Sequence[int] | None

_unseeded: Counter[str] = Counter()  # how often each name was given to a generator without a seed


class Generator:
    """A source of draws with one seed and one counter; see `graphc.lang.random` for what a draw's numbers depend on.

    seed: a whole number from 0 up, a sequence of them, or None (repeatable too). name: the counter is the state
    `name.counter`; without a seed the name is part of the key. Errors: `ArgumentError` for another seed.

    >>> import graphc as gc
    >>> rng = gc.random.Generator(seed=0)
    >>> x = rng.uniform((2,))
    >>> step = gc.compile([], x, backend="numpy")
    >>> step(), step()
    (array([0.6549635 , 0.34795475], dtype=float32), array([0.29434454, 0.7166556 ], dtype=float32))
    >>> int(rng.counter.value)
    2
    """

    counter: Variable

    def __init__(self, seed: Seed = None, name: str = "random") -> None:
        entropy = numbers_of_seed("Generator", seed)
        if entropy is None:
            _unseeded[name] += 1
            entropy = zlib.crc32(name.encode()), _unseeded[name]
        # How many numbers is a number more: SeedSequence itself takes 1, (1, 0) and (1, 0, 0) for the same.
        first, second = np.random.SeedSequence((*entropy, len(entropy))).generate_state(2, np.uint32)
        self._key = int(first), int(second)
        self._draws = itertools.count()
        self.counter = state(f"{name}.counter", (), init=0, dtype="int64")
        with originating((Origin("generator"),)):  # of no line: a variable there names what the user wrote
            self.counter.set_next((self.counter + 1).named("next_counter"))

    @named_op
    def uniform(self, shape: ShapeLike, low: float = 0.0, high: float = 1.0, dtype: Any = "float32") -> Tensor:
        """Numbers spread evenly over [low, high): 2^24 different ones in float32, 2^53 in float64.

        Errors: `ArgumentError` when low is above high, or one of them or their difference is not finite.
        """
        dtype = _float_dtype("uniform", dtype)
        low, high = (_rounded("uniform", what, value, dtype) for what, value in (("low", low), ("high", high)))
        if not low <= high:
            raise ArgumentError(f"uniform: low must not be above high, not {low!r} and {high!r}")
        scale = _rounded("uniform", "high - low", high - low, dtype)
        return self._draw(
            "uniform", shape, lambda extents: _uniform(block_of_element(extents), low, high, scale, dtype)
        )

    @named_op
    def normal(self, shape: ShapeLike, mean: float = 0.0, sigma: float = 1.0, dtype: Any = "float32") -> Tensor:
        """Normal numbers of this mean and standard deviation, by the method of Box and Muller.

        The tails end at 6.76 sigma in float32, beyond which one of 7e10 exact draws would lie, at 8.65 in float64.
        Errors: `ArgumentError` for a negative sigma or numbers that are not finite.
        Source: G. Box, M. Muller, A note on the generation of random normal deviates, 1958.
        """
        dtype = _float_dtype("normal", dtype)
        mean, sigma = (_rounded("normal", what, value, dtype) for what, value in (("mean", mean), ("sigma", sigma)))
        if sigma < 0:
            raise ArgumentError(f"normal: sigma must be from 0 up, not {sigma!r}")
        return self._draw("normal", shape, lambda extents: _normal(extents, mean, sigma, dtype))

    @named_op
    def bernoulli(self, shape: ShapeLike, p: float = 0.5) -> Tensor:
        """bool: True with probability p, rounded to a multiple of 2^-32.

        For probabilities that are a tensor, compare: `rng.uniform(p.shape) < p`. Errors: `ArgumentError` for p outside
        [0, 1].
        """
        chance = _number("bernoulli", "p", p)
        if not 0 <= chance <= 1:
            raise ArgumentError(f"bernoulli: p must be from 0 to 1, not {p!r}")
        return self._draw("bernoulli", shape, lambda extents: _bernoulli(block_of_element(extents), chance))

    @named_op
    def randint(self, shape: ShapeLike, low: int, high: int, dtype: Any = "int64") -> Tensor:
        """Whole numbers from low up to but without high, each with the same probability to (high - low) / 2^64.

        Errors: `ArgumentError` when low is not below high, or they are no numbers of the dtype, int32 or int64.
        """
        name = as_dtype(dtype, "randint")
        if name not in ("int32", "int64"):
            raise DTypeError(f"randint: the dtype is int32 or int64, not {name}")
        for what, value in (("low", low), ("high", high)):
            if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
                raise ArgumentTypeError(f"randint: {what} must be a whole number, not {value!r}")
        low, high = int(low), int(high)
        limits = np.iinfo(name)
        if not limits.min <= low < high <= int(limits.max) + 1:
            raise ArgumentError(f"randint: low must be below high, and both within {name}, not {low} and {high}")
        if high - low > 1 << 63:
            raise ArgumentError(f"randint: from {low} to {high} is wider than 2^63")
        return self._draw("randint", shape, lambda extents: _randint(block_of_element(extents), low, high - low, name))

    def _draw(self, op: str, shape: ShapeLike, body: Callable[[Shape], sc.Scalar]) -> Tensor:
        extents = parse_shape(op, shape)
        key = key_of_call(key_of_draw(self._key, next(self._draws)), self.counter.node)
        return Tensor(scalar_map(extents, (key, key), reads_of_key(len(extents)), body(extents)))


@named_op
def uniform(shape: ShapeLike, low: float = 0.0, high: float = 1.0, seed: Seed = None, dtype: Any = "float32") -> Tensor:
    """`Generator.uniform` of a generator made for this draw: numbers spread evenly over [low, high).

    >>> import graphc as gc
    >>> gc.random.uniform(("N", 3), seed=0)
    <Tensor float32(N, 3)>
    """
    return Generator(seed).uniform(shape, low, high, dtype)


@named_op
def normal(
    shape: ShapeLike, mean: float = 0.0, sigma: float = 1.0, seed: Seed = None, dtype: Any = "float32"
) -> Tensor:
    """`Generator.normal` of a generator made for this draw: normal numbers of this mean and standard deviation."""
    return Generator(seed).normal(shape, mean, sigma, dtype)


@named_op
def bernoulli(shape: ShapeLike, p: float = 0.5, seed: Seed = None) -> Tensor:
    """`Generator.bernoulli` of a generator made for this draw: True with probability p."""
    return Generator(seed).bernoulli(shape, p)


@named_op
def randint(shape: ShapeLike, low: int, high: int, seed: Seed = None, dtype: Any = "int64") -> Tensor:
    """`Generator.randint` of a generator made for this draw: whole numbers from low up to but without high."""
    return Generator(seed).randint(shape, low, high, dtype)


# --- Words to numbers: bodies ---------------------------------------------------------------------------------------


def _uniform(words: Words, low: float, high: float, scale: float, dtype: str) -> sc.Scalar:
    """low + fraction * scale; below high, which the rounding of the product or the sum could reach."""
    number, bits = _whole(words, dtype)
    value = sc.apply("mul", number, sc.literal(scale * 2.0**-bits, dtype))
    if (low, high) == (0, 1):  # nothing is rounded
        return value
    if low != 0:
        value = sc.apply("add", value, sc.literal(low, dtype))
    below = np.nextafter(np.dtype(dtype).type(high), np.dtype(dtype).type(low))
    return sc.apply("minimum", value, sc.literal(below, dtype))


def _whole(words: Words, dtype: str) -> tuple[sc.Scalar, int]:
    """A whole number in [0, 2^bits) that the dtype holds exactly, and bits."""
    if dtype == "float32":
        return _shifted(words[0], 8, dtype), 24
    high = sc.apply("mul", _shifted(words[0], 5, dtype), sc.literal(2.0**26, dtype))
    return sc.apply("add", high, _shifted(words[1], 6, dtype)), 53


def _shifted(word: sc.Scalar, bits: int, dtype: str) -> sc.Scalar:
    """The upper bits of a word as a float; through int32, which more processors convert."""
    return sc.cast(sc.cast(sc.apply("shr", word, sc.literal(bits, "uint32")), "int32"), dtype)


def _normal(extents: Shape, mean: float, sigma: float, dtype: str) -> sc.Scalar:
    """mean + sigma * sqrt(-2 log u) cos(pi v), with u in (0, 1] and v in [-1, 1)."""

    def number(value: float) -> sc.Scalar:
        return sc.literal(value, dtype)

    words = block_of_element(extents)
    if dtype == "float32":
        # All 32 bits, so that small u, which make the tails, have all their digits.
        u = sc.apply("mul", sc.apply("add", sc.cast(words[0], dtype), number(0.5)), number(2.0**-32))
        v = sc.apply("mul", sc.cast(sc.cast(words[1], "int32"), dtype), number(2.0**-31))
    else:
        first, bits = _whole(words, dtype)
        second, _ = _whole(block_of_element(extents, second=True), dtype)
        u = sc.apply("mul", sc.apply("add", first, number(0.5)), number(2.0**-bits))
        v = sc.apply("sub", sc.apply("mul", second, number(2.0 ** (1 - bits))), number(1))
    radius = sc.apply("sqrt", sc.apply("mul", sc.apply("log", u), number(-2)))
    value = sc.apply("mul", radius, sc.apply("cos", sc.apply("mul", v, number(math.pi))))
    if sigma != 1:
        value = sc.apply("mul", value, number(sigma))
    return value if mean == 0 else sc.apply("add", value, number(mean))


def _bernoulli(words: Words, chance: float) -> sc.Scalar:
    """word < chance * 2^32, in whole numbers."""
    if chance == 1:
        return sc.TRUE
    threshold = min(round(chance * 2**32), 2**32 - 1)
    return sc.apply("lt", words[0], sc.literal(threshold, "uint32"))


def _randint(words: Words, low: int, count: int, dtype: str) -> sc.Scalar:
    """low + floor(word64 * count / 2^64): the upper half of a product of 128 bits, from products of 32-bit halves.

    Sums of such products stay below 2^64; int64 holds them as it wraps around.
    """
    high, deep = (sc.cast(word, "int64") for word in words)
    upper, lower = divmod(count, 1 << 32)
    if upper == 0:
        value = _upper(_plus(_times(high, lower), _upper(_times(deep, lower))))
    else:
        middle = _plus(_times(deep, upper), _upper(_times(deep, lower)))
        rest = _plus(_times(high, lower), _lower(middle))
        value = _plus(_times(high, upper), _plus(_upper(middle), _upper(rest)))
    return sc.cast(_plus(value, sc.literal(low, "int64")), dtype)


def _times(word: sc.Scalar, factor: int) -> sc.Scalar:
    return sc.apply("mul", word, sc.literal(factor, "int64"))


def _plus(one: sc.Scalar, other: sc.Scalar) -> sc.Scalar:
    return sc.apply("add", one, other)


def _lower(number: sc.Scalar) -> sc.Scalar:
    return sc.apply("and", number, sc.literal(2**32 - 1, "int64"))


def _upper(number: sc.Scalar) -> sc.Scalar:
    """The upper 32 bits; those that the shift fills with the sign go."""
    return _lower(sc.apply("shr", number, sc.literal(32, "int64")))


# --- Arguments ------------------------------------------------------------------------------------------------------


def numbers_of_seed(op: str, seed: Seed) -> tuple[int, ...] | None:
    """A seed as whole numbers; None stays None. Errors: `ArgumentError`."""
    if seed is None:
        return None
    numbers = tuple(seed) if isinstance(seed, Sequence) else (seed,)
    if not numbers or any(not isinstance(n, (int, np.integer)) or isinstance(n, bool) or n < 0 for n in numbers):
        raise ArgumentError(
            f"{op}: seed must be a whole number from 0 up, a sequence of them or None, not {seed!r}", user_line()
        )
    return tuple(int(number) for number in numbers)


def _float_dtype(op: str, dtype: Any) -> str:
    name = as_dtype(dtype, op)
    if not is_float(name):
        raise DTypeError(f"{op}: the dtype is float32 or float64, not {name}")
    return name


def _number(op: str, what: str, value: Any) -> float:
    if isinstance(value, (Tensor, str)) or np.ndim(value) or not hasattr(value, "__float__"):
        raise ArgumentTypeError(f"{op}: {what} must be a number, not {value!r}")
    return float(value)


def _rounded(op: str, what: str, value: Any, dtype: str) -> float:
    with np.errstate(over="ignore"):
        number = float(np.dtype(dtype).type(_number(op, what, value)))
    if not math.isfinite(number):
        raise ArgumentError(f"{op}: {what} must be a finite {dtype}, not {value!r}")
    return number

"""Dropout: a random part of what passes is zero in training, and the rest is scaled up.

Source: N. Srivastava et al., Dropout: a simple way to prevent neural networks from overfitting, 2014. Scaled in
training, by 1/(1-p), as in PyTorch, so that the expected value is the input and nothing is done afterwards.

The numbers are those of `gc.random`: a mask is a draw, new at each call of a compiled step, and the same forward,
backward and where `gc.checkpoint` computes again. It is kept for the backward pass as one byte an element.
"""

from __future__ import annotations

import zlib
from typing import Any, ClassVar

from graphc.errors import ArgumentError, ArgumentTypeError, DTypeError
from graphc.ir.dtypes import is_float
from graphc.lang import arrays, elementwise
from graphc.lang.random import Generator, Seed, numbers_of_seed
from graphc.lang.source import named_op, user_line
from graphc.lang.tensor import Tensor, TensorLike, Variable, as_tensor
from graphc.nn.layers import Layer, check_rank, float_tensor


def dropout(x: TensorLike, p: float = 0.5, training: bool = True, seed: Seed | Generator = None) -> Tensor:
    """x with each element 0 with probability p, the others divided by 1 - p; x itself when not training.

    seed: as in `gc.random`, or a generator, of which the mask is one draw. What is dropped is 0 even where x is NaN or
    infinite. Errors: `ArgumentError` for p outside [0, 1], `DTypeError` for an x that is not float.

    >>> import graphc as gc
    >>> gc.evaluate(gc.nn.dropout(gc.ones((6,)), 0.5, seed=0))
    array([0., 2., 0., 0., 2., 2.], dtype=float32)
    """
    tensor = as_tensor(x, "dropout")
    if not is_float(tensor.dtype):
        raise DTypeError(f"dropout: the input must have a float dtype, not {tensor.dtype}", user_line())
    chance = _probability("dropout", p)
    source = seed if isinstance(seed, Generator) else numbers_of_seed("dropout", seed)
    if not training or chance == 0:
        return tensor
    return _dropout(tensor, chance, source if isinstance(source, Generator) else Generator(source, "dropout"), 0)


@named_op
def _dropout(x: Tensor, p: float, generator: Generator, shared: int) -> Tensor:
    """Dropout of whole slices along the last `shared` axes, for a p above 0."""
    if p == 1:
        return arrays.zeros_like(x)
    shape = (*x.shape[: x.ndim - shared], *(1,) * shared)
    return elementwise.where(generator.bernoulli(shape, 1 - p), x * (1 / (1 - p)), 0.0)


def _probability(op: str, p: Any) -> float:
    if isinstance(p, (Tensor, bool, str)) or not hasattr(p, "__float__"):
        raise ArgumentTypeError(f"{op}: p must be a number from 0 to 1, not {p!r}", user_line())
    if not 0 <= float(p) <= 1:
        raise ArgumentError(f"{op}: p must be from 0 to 1, not {p!r}", user_line())
    return float(p)


class Dropout(Layer):
    """Each element is 0 with probability p, the others are divided by 1 - p; in training alone (`training=`).

    Each call of the layer that trains is a draw of its own, from the layer's generator, whose counter is the state
    `counter`. seed: a number or several, from which, together with the layer's full name, the generator is made, so
    that layers of one seed differ; None (repeatable too, see `gc.random`); or a `gc.random.Generator`, to be shared.
    Errors: `ArgumentError` for p outside [0, 1] or another seed, `DTypeError` for an input that is not float.

    >>> import graphc as gc
    >>> model = gc.nn.Sequential(gc.nn.Linear(784, 128), gc.nn.ReLU(), gc.nn.Dropout(0.2), gc.nn.Linear(128, 10))
    >>> model(gc.input("x", ("N", 784)), training=True)
    <Tensor float32(N, 10)>
    """

    counters = ("counter",)

    counter: Variable
    seed: tuple[int, ...] | Generator | None  # a generator once one was needed
    _axes: ClassVar[str | None] = None  # of the input; any for Dropout itself
    _shared: ClassVar[int] = 0  # of the last axes: along them one number is drawn

    def __init__(self, p: float = 0.5, seed: Seed | Generator = None) -> None:
        name = type(self).__name__
        self.p = _probability(name, p)
        self._members.setdefault("counter")  # a member that is made when it is first asked for
        if isinstance(seed, Generator):
            self.seed, self.counter = seed, seed.counter
        else:
            self.seed = numbers_of_seed(name, seed)

    @property
    def generator(self) -> Generator:
        """Where the masks come from; made when it is first asked for, when the layer's full name is settled."""
        if not isinstance(self.seed, Generator):
            path = self._path()
            seed = None if self.seed is None else (*self.seed, zlib.crc32(path.encode()))
            self.seed = Generator(seed, path or "dropout")
            self.counter = self.seed.counter
        return self.seed

    def __getattr__(self, name: str) -> Any:
        return self.generator.counter if name == "counter" else super().__getattr__(name)

    def forward(self, x: Tensor, training: bool = False) -> Tensor:
        """The input's shape."""
        x = float_tensor(type(self).__name__, x)
        if self._axes is not None:
            check_rank(x, self._axes)
        if not training or self.p == 0:
            return x
        return _dropout(x, self.p, self.generator, self._shared)

    def describe(self) -> str:
        return f"p={self.p:g}"


class Dropout1d(Dropout):
    """Dropout of whole channels of (N, C, L). Errors: also `ShapeError`.

    Source: J. Tompson et al., Efficient object localization using convolutional networks, arXiv:1411.4280.
    """

    _axes, _shared = "N, C, L", 1


class Dropout2d(Dropout):
    """Dropout of whole channels of (N, C, H, W). Errors: also `ShapeError`.

    Source: J. Tompson et al., Efficient object localization using convolutional networks, arXiv:1411.4280.
    """

    _axes, _shared = "N, C, H, W", 2

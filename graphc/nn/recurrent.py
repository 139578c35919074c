"""Recurrent cells: one step in time, with PyTorch's parameter names, order of gates and first values.

All parameters are uniform over +-1/sqrt(hidden_size) at first. The input is (N, input_size) or (input_size,), a state
(N, hidden_size) or (hidden_size,); a state that is not given is zeros.
"""

from __future__ import annotations

from typing import ClassVar

from graphc.errors import ArgumentError, ShapeError
from graphc.ir.extent import Shape
from graphc.lang import activations, arrays, elementwise
from graphc.lang.source import user_line
from graphc.lang.tensor import Tensor, Variable, as_tensor
from graphc.nn.init import Seed
from graphc.nn.layers import Layer, bounded, check_extent, float_tensor, seeds, whole
from graphc.nn.linear import matmul_transposed

_NONLINEARITIES = {"tanh": elementwise.tanh, "relu": activations.relu}


class _Cell(Layer):
    """weight_ih: (gates * hidden_size, input_size), weight_hh: (gates * hidden_size, hidden_size), and two biases."""

    gates: ClassVar[int]
    weight_ih: Variable
    weight_hh: Variable
    bias_ih: Variable | None
    bias_hh: Variable | None

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, seed: Seed = None, dtype: str = "float32"
    ) -> None:
        name = type(self).__name__
        self.input_size = whole(name, "input_size", input_size)
        self.hidden_size = whole(name, "hidden_size", hidden_size)
        self.has_bias = bool(bias)
        rows = self.gates * hidden_size
        shapes = {
            "weight_ih": (rows, input_size),
            "weight_hh": (rows, hidden_size),
            "bias_ih": (rows,),
            "bias_hh": (rows,),
        }
        for (label, shape), own in zip(shapes.items(), seeds(seed, len(shapes)), strict=True):
            if bias or label.startswith("weight"):
                self.declare(label, shape, bounded(hidden_size, own), dtype)
            else:
                setattr(self, label, None)

    def _input(self, x: Tensor) -> Tensor:
        x = float_tensor(type(self).__name__, x)
        if x.ndim not in (1, 2):
            raise ShapeError(
                f"the input has {x.ndim} axes, 2 are expected (N, {self.input_size}) or 1; its shape is {x.shape}",
                user_line(),
            )
        check_extent(x, -1, self.input_size, "features", "its last axis")
        return x

    def _state(self, what: str, h: Tensor | None, x: Tensor) -> Tensor:
        shape: Shape = (*x.shape[:-1], self.hidden_size)
        if h is None:
            return arrays.zeros(shape, x.dtype)
        h = as_tensor(h, type(self).__name__)
        if h.shape != shape:
            raise ShapeError(f"the {what} must have shape {shape}, not {h.shape}", user_line())
        return h

    def _from_input(self, x: Tensor) -> Tensor:
        y = matmul_transposed(x, self.weight_ih)
        return y if self.bias_ih is None else y + self.bias_ih

    def _from_hidden(self, h: Tensor) -> Tensor:
        y = matmul_transposed(h, self.weight_hh)
        return y if self.bias_hh is None else y + self.bias_hh

    def _parts(self, y: Tensor) -> list[Tensor]:
        return arrays.split(y, self.gates, axis=-1)

    def describe(self) -> str:
        return f"{self.input_size}, {self.hidden_size}" + ("" if self.has_bias else ", bias=False")


class RNNCell(_Cell):
    """h' = tanh(weight_ih x + bias_ih + weight_hh h + bias_hh), or with relu: nonlinearity="relu".

    Errors: `ShapeError`, `ArgumentError`.

    >>> import graphc as gc
    >>> cell = gc.nn.RNNCell(10, 20)
    >>> cell(gc.input("x", ("N", 10)), gc.input("h", ("N", 20)))
    <Tensor float32(N, 20)>
    """

    gates = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        seed: Seed = None,
        dtype: str = "float32",
    ) -> None:
        super().__init__(input_size, hidden_size, bias, seed, dtype)
        if nonlinearity not in _NONLINEARITIES:
            raise ArgumentError(f'RNNCell: nonlinearity is "tanh" or "relu", not {nonlinearity!r}', user_line())
        self.nonlinearity = nonlinearity

    def forward(self, x: Tensor, h: Tensor | None = None) -> Tensor:
        """(N, input_size) and (N, hidden_size) to (N, hidden_size)."""
        x = self._input(x)
        h = self._state("hidden state", h, x)
        return _NONLINEARITIES[self.nonlinearity](self._from_input(x) + self._from_hidden(h))

    def describe(self) -> str:
        return super().describe() + ("" if self.nonlinearity == "tanh" else f", nonlinearity={self.nonlinearity!r}")


class LSTMCell(_Cell):
    """c' = f c + i g and h' = o tanh(c'), with the gates i, f, g, o (the rows of the weights, in this order):

        i, f, o = sigmoid(weight_ih x + bias_ih + weight_hh h + bias_hh),   g = tanh(the same with its own rows)

    Returns (h', c'). Source: S. Hochreiter, J. Schmidhuber, Long short-term memory, 1997, with the forget gate of
    F. Gers et al., 2000. Errors: `ShapeError`, `ArgumentError`.

    >>> import graphc as gc
    >>> h, c = gc.nn.LSTMCell(10, 20)(gc.input("x", ("N", 10)))
    >>> h, c
    (<Tensor float32(N, 20)>, <Tensor float32(N, 20)>)
    """

    gates = 4

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """(N, input_size) and ((N, hidden_size), (N, hidden_size)) to two of (N, hidden_size)."""
        x = self._input(x)
        if state is not None and (isinstance(state, Tensor) or len(state) != 2):
            raise ArgumentError("the state must be a pair (hidden state, cell state)", user_line())
        h, c = state if state is not None else (None, None)
        h, c = self._state("hidden state", h, x), self._state("cell state", c, x)
        i, f, g, o = self._parts(self._from_input(x) + self._from_hidden(h))
        cell = elementwise.sigmoid(f) * c + elementwise.sigmoid(i) * elementwise.tanh(g)
        return elementwise.sigmoid(o) * elementwise.tanh(cell), cell


class GRUCell(_Cell):
    """h' = (1 - z) n + z h, with the gates r, z, n (the rows of the weights, in this order):

        r, z = sigmoid(weight_ih x + bias_ih + weight_hh h + bias_hh)
        n = tanh(weight_ih x + bias_ih + r (weight_hh h + bias_hh)),   each with its own rows

    Source: K. Cho et al., Learning phrase representations using RNN encoder-decoder, arXiv:1406.1078, with r outside
    of the product, as in PyTorch. Errors: `ShapeError`, `ArgumentError`.

    >>> import graphc as gc
    >>> gc.nn.GRUCell(10, 20)(gc.input("x", ("N", 10)), gc.input("h", ("N", 20)))
    <Tensor float32(N, 20)>
    """

    gates = 3

    def forward(self, x: Tensor, h: Tensor | None = None) -> Tensor:
        """(N, input_size) and (N, hidden_size) to (N, hidden_size)."""
        x = self._input(x)
        h = self._state("hidden state", h, x)
        (r_x, z_x, n_x), (r_h, z_h, n_h) = self._parts(self._from_input(x)), self._parts(self._from_hidden(h))
        r, z = elementwise.sigmoid(r_x + r_h), elementwise.sigmoid(z_x + z_h)
        n = elementwise.tanh(n_x + r * n_h)
        return n + z * (h - n)

"""Recurrent layers over whole sequences: a loop in the graph (`gc.scan`) around the step of a cell.

The part of a step that depends on the input alone is one product over all steps, outside of the loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from graphc.errors import ArgumentError, ShapeError
from graphc.lang import arrays
from graphc.lang.scan import scan
from graphc.lang.source import user_line
from graphc.lang.tensor import Tensor, Variable, as_tensor
from graphc.nn.dropout import dropout
from graphc.nn.gates import NONLINEARITIES, gru_step, lstm_step, rnn_step
from graphc.nn.init import Seed
from graphc.nn.layers import Layer, bounded, check_extent, float_tensor, number, options, seeds, whole
from graphc.nn.linear import matmul_transposed


class _Recurrent(Layer):
    """Layers in time. With `num_layers` above 1 each reads the one below; with `bidirectional` each is two, of which
    the second reads the sequence backwards, and whose outputs stand side by side."""

    gates: ClassVar[int]
    carried: ClassVar[int] = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        seed: Seed = None,
        dtype: str = "float32",
    ) -> None:
        name = type(self).__name__
        self.input_size = whole(name, "input_size", input_size)
        self.hidden_size = whole(name, "hidden_size", hidden_size)
        self.num_layers = whole(name, "num_layers", num_layers)
        self.bias, self.batch_first, self.bidirectional = bool(bias), bool(batch_first), bool(bidirectional)
        self.dropout = number(name, "dropout", dropout, below=1.0)
        self.dtype = dtype
        streams = iter(seeds(seed, 4 * self.num_layers * self._directions + self.num_layers))
        for layer in range(self.num_layers):
            for suffix in self._suffixes(layer):
                self._declare_direction(suffix, self._width(layer), streams)
        self._seeds = [next(streams) for _ in range(self.num_layers)]  # of the dropout behind each layer

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    def _suffixes(self, layer: int) -> list[str]:
        return [f"l{layer}", f"l{layer}_reverse"][: self._directions]

    def _width(self, layer: int) -> int:
        return self.input_size if layer == 0 else self.hidden_size * self._directions

    def _declare_direction(self, suffix: str, width: int, streams: Any) -> None:
        rows = self.gates * self.hidden_size
        shapes = {
            "weight_ih": (rows, width),
            "weight_hh": (rows, self.hidden_size),
            "bias_ih": (rows,),
            "bias_hh": (rows,),
        }
        for label, shape in shapes.items():
            stream = next(streams)
            if self.bias or label.startswith("weight"):
                self.declare(f"{label}_{suffix}", shape, bounded(self.hidden_size, stream), self.dtype)

    def _step(self, x: Tensor, h: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The following state, from the parts of x and of the hidden state, whose first member is that hidden state."""
        raise NotImplementedError

    def forward(self, x: Tensor, state: Any = None, training: bool = False) -> tuple[Tensor, Any]:
        """(L, N, input_size), or (N, L, input_size) with batch_first, or (L, input_size) without a batch; and the first
        state, zeros when it is None. Gives (outputs, last state): outputs (L, N, directions * hidden_size)."""
        x = float_tensor(type(self).__name__, x)
        if x.ndim not in (2, 3):
            raise ShapeError(
                f"the input has {x.ndim} axes, 3 are expected "
                f"({'N, L' if self.batch_first else 'L, N'}, {self.input_size}) or 2; its shape is {x.shape}",
                user_line(),
            )
        check_extent(x, -1, self.input_size, "features", "its last axis")
        has_batch = x.ndim == 3
        if has_batch and self.batch_first:
            x = arrays.swapaxes(x, 0, 1)
        first = self._first(x, state)
        last: list[list[Tensor]] = [[] for _ in range(self.carried)]
        for layer in range(self.num_layers):
            outputs: list[Tensor] = []
            for direction, suffix in enumerate(self._suffixes(layer)):
                place = layer * self._directions + direction
                begin = tuple(one[place] for one in first)
                end, y = self._run(x, begin, suffix, reverse=direction == 1)
                outputs.append(y)
                for kept, one in zip(last, end, strict=True):
                    kept.append(one)
            x = outputs[0] if len(outputs) == 1 else arrays.concatenate(outputs, axis=-1)
            if self.dropout and training and layer + 1 < self.num_layers:
                x = dropout(x, self.dropout, seed=self._seeds[layer])
        stacked = [arrays.stack(one) for one in last]
        y = arrays.swapaxes(x, 0, 1) if has_batch and self.batch_first else x
        return y, stacked[0] if self.carried == 1 else tuple(stacked)

    def _first(self, x: Tensor, state: Any) -> list[Tensor]:
        shape = (self.num_layers * self._directions, *x.shape[1:-1], self.hidden_size)
        if state is None:
            return [arrays.zeros(shape, x.dtype)] * self.carried
        given: Sequence[Any] = [state] if self.carried == 1 else state
        if isinstance(given, Tensor) or len(given) != self.carried:
            raise ArgumentError("the state must be a pair (hidden state, cell state)", user_line())
        tensors = [as_tensor(one, type(self).__name__) for one in given]
        for tensor in tensors:
            if tensor.shape != shape:
                raise ShapeError(f"the state must have shape {shape}, not {tensor.shape}", user_line())
        return tensors

    def _run(
        self, x: Tensor, first: tuple[Tensor, ...], suffix: str, reverse: bool
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        def weight(label: str) -> Variable:
            found: Variable = getattr(self, f"{label}_{suffix}")
            return found

        from_x = matmul_transposed(x, weight("weight_ih"))
        if self.bias:
            from_x = from_x + weight("bias_ih")

        def step(state: tuple[Tensor, ...], from_x: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
            from_h = matmul_transposed(state[0], weight("weight_hh"))
            if self.bias:
                from_h = from_h + weight("bias_hh")
            state = self._step(from_x, from_h, state)
            return state, state[0]

        end, y = scan(step, first, from_x, reverse=reverse)
        return end, y

    def describe(self) -> str:
        defaults = {"num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0, "bidirectional": False}
        return f"{self.input_size}, {self.hidden_size}" + options(self, defaults)


class RNN(_Recurrent):
    """h_t = tanh(weight_ih x_t + bias_ih + weight_hh h_(t-1) + bias_hh), or with relu: nonlinearity="relu".

    Parameters weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0, ... as in PyTorch, uniform over +-1/sqrt(hidden_size)
    at first. Gives (outputs, last hidden states): (L, N, directions * hidden_size) and (num_layers * directions, N,
    hidden_size). The length and the batch may be symbolic. dropout: of the outputs of each layer but the last, in
    training. Errors: `ShapeError`, `ArgumentError`.

    >>> import graphc as gc
    >>> y, h = gc.nn.RNN(10, 20)(gc.input("x", ("L", "N", 10)))
    >>> y, h
    (<Tensor float32(L, N, 20)>, <Tensor float32(1, N, 20)>)
    """

    gates = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        seed: Seed = None,
        dtype: str = "float32",
    ) -> None:
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, seed, dtype
        )
        if nonlinearity not in NONLINEARITIES:
            raise ArgumentError(f'RNN: nonlinearity is "tanh" or "relu", not {nonlinearity!r}', user_line())
        self.nonlinearity = nonlinearity

    def _step(self, x: Tensor, h: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (rnn_step(x, h, self.nonlinearity),)

    def describe(self) -> str:
        return super().describe() + options(self, {"nonlinearity": "tanh"})


class LSTM(_Recurrent):
    """`LSTMCell` over a sequence; parameters, shapes and options as in `RNN`.

    Gives (outputs, (last hidden states, last cell states)); the first state is such a pair, too.

    >>> import graphc as gc
    >>> y, (h, c) = gc.nn.LSTM(10, 20, num_layers=2)(gc.input("x", (5, "N", 10)))
    >>> y, c
    (<Tensor float32(5, N, 20)>, <Tensor float32(2, N, 20)>)
    """

    gates, carried = 4, 2

    def _step(self, x: Tensor, h: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return lstm_step(x, h, state[1])


class GRU(_Recurrent):
    """`GRUCell` over a sequence; parameters, shapes and options as in `RNN`.

    >>> import graphc as gc
    >>> y, h = gc.nn.GRU(10, 20, bidirectional=True)(gc.input("x", ("L", "N", 10)))
    >>> y, h
    (<Tensor float32(L, N, 40)>, <Tensor float32(2, N, 20)>)
    """

    gates = 3

    def _step(self, x: Tensor, h: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (gru_step(x, h, state[0]),)

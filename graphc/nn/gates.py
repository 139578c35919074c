"""One step of the recurrent nets, from what the input and the hidden state contribute to its gates."""

from __future__ import annotations

from graphc.lang import activations, arrays, elementwise
from graphc.lang.elementwise import sigmoid, tanh
from graphc.lang.tensor import Tensor

NONLINEARITIES = {"tanh": elementwise.tanh, "relu": activations.relu}


def rnn_step(from_x: Tensor, from_h: Tensor, nonlinearity: str) -> Tensor:
    """The next hidden state."""
    return NONLINEARITIES[nonlinearity](from_x + from_h)


def lstm_step(from_x: Tensor, from_h: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """The next hidden state and the next cell state."""
    i, f, g, o = arrays.split(from_x + from_h, 4, axis=-1)
    following = sigmoid(f) * cell + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(following), following


def gru_step(from_x: Tensor, from_h: Tensor, h: Tensor) -> Tensor:
    """The next hidden state."""
    (r_x, z_x, n_x), (r_h, z_h, n_h) = arrays.split(from_x, 3, axis=-1), arrays.split(from_h, 3, axis=-1)
    r, z = sigmoid(r_x + r_h), sigmoid(z_x + z_h)
    n = tanh(n_x + r * n_h)
    return n + z * (h - n)

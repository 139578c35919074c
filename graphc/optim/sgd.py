"""Stochastic gradient descent, with momentum."""

from __future__ import annotations

from typing import Unpack

from graphc.errors import ArgumentError
from graphc.lang.elementwise import equal, where
from graphc.lang.source import user_line
from graphc.lang.tensor import Tensor, Variable
from graphc.optim.base import Common, Optimiser
from graphc.optim.options import at_least, share


class SGD(Optimiser):
    """p - lr * g, with PyTorch's formulas for the options:

        g = gradient + weight_decay * p
        buffer = momentum * buffer + (1 - dampening) * g        (the first step: buffer = g)
        p = p - lr * buffer,  with nesterov  p - lr * (g + momentum * buffer)

    States: `momentum/<parameter>`, with dampening also `step`. Errors: `ArgumentError` for a negative lr, momentum or
    weight_decay, and for nesterov without momentum or with dampening. The other options are in `Optimiser`.
    Source: I. Sutskever et al., On the importance of initialization and momentum in deep learning, 2013.

    >>> import graphc as gc
    >>> w = gc.param("w", (), init=3.0)
    >>> updates = gc.optim.SGD(lr=0.5).updates(w * w, [w])
    >>> float(gc.evaluate(updates[w], {}))
    0.0
    """

    def __init__(
        self,
        lr: float = 1e-3,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        dampening: float = 0.0,
        **common: Unpack[Common],
    ) -> None:
        super().__init__(lr, **common)
        self.momentum = at_least("SGD", "momentum", momentum)
        self.weight_decay = at_least("SGD", "weight_decay", weight_decay)
        self.dampening = share("SGD", "dampening", dampening)
        self.nesterov = nesterov
        if nesterov and (momentum == 0 or dampening != 0):
            raise ArgumentError(
                f"SGD: nesterov needs a momentum above 0 and no dampening, not momentum={momentum!r} and "
                f"dampening={dampening!r}",
                user_line(),
            )

    def rule(self, parameter: Variable, gradient: Tensor, states: dict[Variable, Tensor]) -> Tensor:
        """See the class."""
        if self.weight_decay:
            gradient = gradient + self.weight_decay * parameter
        if not self.momentum:
            return parameter - self._rate(parameter) * gradient
        buffer = self._slot("momentum", parameter)
        kept = self.momentum * buffer
        if self.dampening:
            moved = where(equal(self._count(), 0), gradient, kept + (1 - self.dampening) * gradient)
        else:
            moved = kept + gradient
        states[buffer] = moved
        direction = gradient + self.momentum * moved if self.nesterov else moved
        return parameter - self._rate(parameter) * direction

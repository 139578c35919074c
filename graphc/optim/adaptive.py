"""Optimisers that divide by the size of the gradients so far: RMSprop, Adagrad, Adadelta."""

from __future__ import annotations

from typing import Unpack

from graphc.lang.elementwise import sqrt, square
from graphc.lang.tensor import Tensor, Variable
from graphc.optim.base import Common, Optimiser
from graphc.optim.options import at_least, fraction, share


class RMSprop(Optimiser):
    """p - lr * g / (sqrt(v) + eps) with the running mean v = alpha * v + (1 - alpha) * g^2.

        g = gradient + weight_decay * p
        centered: sqrt(v - a^2) in place of sqrt(v), with a = alpha * a + (1 - alpha) * g
        momentum: buffer = momentum * buffer + g / (sqrt(v) + eps),  p - lr * buffer

    States: `square_avg/<parameter>`, `grad_avg/<parameter>`, `momentum/<parameter>`, those that the options need.
    Errors: `ArgumentError` for a negative option or an alpha outside [0, 1). The other options are in `Optimiser`.
    Source: T. Hinton, Neural networks for machine learning, lecture 6e, 2012; options as in PyTorch.
    """

    def __init__(
        self,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        **common: Unpack[Common],
    ) -> None:
        super().__init__(lr, **common)
        self.alpha = fraction("RMSprop", "alpha", alpha)
        self.eps = at_least("RMSprop", "eps", eps)
        self.weight_decay = at_least("RMSprop", "weight_decay", weight_decay)
        self.momentum = at_least("RMSprop", "momentum", momentum)
        self.centered = bool(centered)

    def rule(self, parameter: Variable, gradient: Tensor, states: dict[Variable, Tensor]) -> Tensor:
        """See the class."""
        if self.weight_decay:
            gradient = gradient + self.weight_decay * parameter
        size = self._slot("square_avg", parameter)
        states[size] = v = self.alpha * size + (1 - self.alpha) * square(gradient)
        if self.centered:
            average = self._slot("grad_avg", parameter)
            states[average] = a = self.alpha * average + (1 - self.alpha) * gradient
            v = v - square(a)
        direction = gradient / (sqrt(v) + self.eps)
        if self.momentum:
            buffer = self._slot("momentum", parameter)
            states[buffer] = direction = self.momentum * buffer + direction
        return parameter - self._rate(parameter) * direction


class Adagrad(Optimiser):
    """p - lr / (1 + (t - 1) * lr_decay) * g / (sqrt(s) + eps) with the sum s = s + g^2 over the steps t = 1, 2, ...

        g = gradient + weight_decay * p,   s at first: initial_accumulator_value

    States: `sum/<parameter>`, with lr_decay `step`. Errors: `ArgumentError` for a negative option. The other options
    are in `Optimiser`. Source: J. Duchi et al., Adaptive subgradient methods, JMLR 12, 2011; options as in PyTorch.
    """

    def __init__(
        self,
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        **common: Unpack[Common],
    ) -> None:
        super().__init__(lr, **common)
        self.lr_decay = at_least("Adagrad", "lr_decay", lr_decay)
        self.weight_decay = at_least("Adagrad", "weight_decay", weight_decay)
        self.initial_accumulator_value = at_least("Adagrad", "initial_accumulator_value", initial_accumulator_value)
        self.eps = at_least("Adagrad", "eps", eps)

    def rule(self, parameter: Variable, gradient: Tensor, states: dict[Variable, Tensor]) -> Tensor:
        """See the class."""
        if self.weight_decay:
            gradient = gradient + self.weight_decay * parameter
        total = self._slot("sum", parameter, self.initial_accumulator_value)
        states[total] = s = total + square(gradient)
        rate = self._now / (1 + self._count() * self.lr_decay) if self.lr_decay else self._now
        return parameter - rate.astype(parameter.dtype) * gradient / (sqrt(s) + self.eps)


class Adadelta(Optimiser):
    """p - lr * d with d = sqrt(u + eps) / sqrt(v + eps) * g, and running means v of g^2 and u of d^2:

        g = gradient + weight_decay * p
        v = rho * v + (1 - rho) * g^2,   u = rho * u + (1 - rho) * d^2 after d

    States: `square_avg/<parameter>` (v), `acc_delta/<parameter>` (u). Errors: `ArgumentError` for a negative option or
    a rho outside [0, 1]. The other options are in `Optimiser`. Source: M. Zeiler, Adadelta, arXiv:1212.5701.
    """

    def __init__(
        self,
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        **common: Unpack[Common],
    ) -> None:
        super().__init__(lr, **common)
        self.rho = share("Adadelta", "rho", rho)
        self.eps = at_least("Adadelta", "eps", eps)
        self.weight_decay = at_least("Adadelta", "weight_decay", weight_decay)

    def rule(self, parameter: Variable, gradient: Tensor, states: dict[Variable, Tensor]) -> Tensor:
        """See the class."""
        if self.weight_decay:
            gradient = gradient + self.weight_decay * parameter
        size, moved = self._slot("square_avg", parameter), self._slot("acc_delta", parameter)
        states[size] = v = self.rho * size + (1 - self.rho) * square(gradient)
        delta = sqrt(moved + self.eps) / sqrt(v + self.eps) * gradient
        states[moved] = self.rho * moved + (1 - self.rho) * square(delta)
        return parameter - self._rate(parameter) * delta

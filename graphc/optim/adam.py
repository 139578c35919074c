"""Optimisers that divide by a running size of the gradient: Adam, AdamW, RMSprop."""

from __future__ import annotations

import math
from collections.abc import Sequence

from graphc.errors import ArgumentError
from graphc.lang.elementwise import expm1, negative, sqrt, square
from graphc.lang.source import user_line
from graphc.lang.tensor import Tensor, Variable
from graphc.optim.base import Optimiser


class Adam(Optimiser):
    """p - lr * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps), with running means m of g and v of g^2:

        g = gradient + weight_decay * p
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g^2,   t = 1, 2, ...

    States: `exp_avg/<parameter>` (m), `exp_avg_sq/<parameter>` (v) and `step`. 1 - beta^t is computed as
    -expm1(t * log(beta)): in float32, 1 - 0.999^t loses four digits at the first steps.
    Errors: `ArgumentError` for a negative lr, eps or weight_decay, or a beta outside [0, 1).
    Source: D. Kingma, J. Ba, Adam, arXiv:1412.6980, in the order of operations of PyTorch.

    >>> import graphc as gc
    >>> w = gc.param("w", (), init=3.0)
    >>> updates = gc.optim.Adam(lr=0.5).updates(w * w, [w])
    >>> float(gc.evaluate(updates[w], {}))
    2.5
    """

    def __init__(
        self,
        lr: float = 1e-3,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        dtype: str = "float32",
    ) -> None:
        super().__init__(lr, dtype)
        if not isinstance(betas, Sequence) or len(betas) != 2:
            raise ArgumentError(f"{self._name}: betas are two numbers in [0, 1), not {betas!r}", user_line())
        self.betas = tuple(self._fraction(f"betas[{n}]", beta) for n, beta in enumerate(betas))
        self.eps = self._at_least("eps", eps)
        self.weight_decay = self._at_least("weight_decay", weight_decay)

    def _build(self, pairs: list[tuple[Variable, Tensor]]) -> dict[Variable, Tensor]:
        updates = super()._build(pairs)
        updates[self._count()] = self._count() + 1
        return updates

    def rule(self, parameter: Variable, gradient: Tensor, states: dict[Variable, Tensor]) -> Tensor:
        """See the class."""
        start, gradient = self._decayed(parameter, gradient)
        beta1, beta2 = self.betas
        mean, size = self._slot("exp_avg", parameter), self._slot("exp_avg_sq", parameter)
        states[mean] = m = beta1 * mean + (1 - beta1) * gradient
        states[size] = v = beta2 * size + (1 - beta2) * square(gradient)
        # Scalars in the optimiser's dtype: computed once for all parameters, then rounded to each one's dtype.
        rate = (self.lr / self._correction(beta1)).astype(parameter.dtype)
        root = sqrt(self._correction(beta2)).astype(parameter.dtype)
        return start - rate * m / (sqrt(v) / root + self.eps)

    def _decayed(self, parameter: Variable, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Where the step starts from, and the gradient with the penalty's."""
        if not self.weight_decay:
            return parameter, gradient
        return parameter, gradient + self.weight_decay * parameter

    def _correction(self, beta: float) -> Tensor:
        """1 - beta^t for the step that is being made."""
        steps = self._count() + 1
        if beta == 0:
            return steps / steps  # 1 from the first step on
        return negative(expm1(steps * math.log(beta)))


class AdamW(Adam):
    """Adam with the weight decay taken off the parameter itself: p (1 - lr * weight_decay) before the step.

    Source: I. Loshchilov, F. Hutter, Decoupled weight decay regularization, arXiv:1711.05101.
    """

    def __init__(
        self,
        lr: float = 1e-3,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        dtype: str = "float32",
    ) -> None:
        super().__init__(lr, betas, eps, weight_decay, dtype)

    def _decayed(self, parameter: Variable, gradient: Tensor) -> tuple[Tensor, Tensor]:
        if not self.weight_decay:
            return parameter, gradient
        return parameter * (1 - self._rate(parameter) * self.weight_decay), gradient


class RMSprop(Optimiser):
    """p - lr * g / (sqrt(v) + eps) with the running mean v = alpha * v + (1 - alpha) * g^2.

        g = gradient + weight_decay * p
        centered: sqrt(v - a^2) in place of sqrt(v), with a = alpha * a + (1 - alpha) * g
        momentum: buffer = momentum * buffer + g / (sqrt(v) + eps),  p - lr * buffer

    States: `square_avg/<parameter>`, `grad_avg/<parameter>`, `momentum/<parameter>`, those that the options need.
    Errors: `ArgumentError` for a negative option or an alpha outside [0, 1).
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
        dtype: str = "float32",
    ) -> None:
        super().__init__(lr, dtype)
        self.alpha = self._fraction("alpha", alpha)
        self.eps = self._at_least("eps", eps)
        self.weight_decay = self._at_least("weight_decay", weight_decay)
        self.momentum = self._at_least("momentum", momentum)
        self.centered = centered

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

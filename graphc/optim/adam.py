"""Optimisers with running means of the gradient and of its square: Adam, AdamW, NAdam."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Unpack

from graphc.lang.elementwise import expm1, maximum, negative, power, sqrt, square
from graphc.lang.tensor import Tensor, Variable
from graphc.optim.base import Common, Optimiser
from graphc.optim.options import at_least, two_fractions


class Adam(Optimiser):
    """p - lr * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps), with running means m of g and v of g^2:

        g = gradient + weight_decay * p
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g^2,   t = 1, 2, ...
        amsgrad: the greatest v so far in place of v

    States: `exp_avg/<parameter>` (m), `exp_avg_sq/<parameter>` (v), with amsgrad `max_exp_avg_sq/<parameter>`, and
    `step`. 1 - beta^t is computed as -expm1(t * log(beta)): in float32, 1 - 0.999^t loses four digits at first.
    Errors: `ArgumentError` for a negative lr, eps or weight_decay, or a beta outside [0, 1). The other options are in
    `Optimiser`. Sources: D. Kingma, J. Ba, Adam, arXiv:1412.6980; S. Reddi et al., On the convergence of Adam and
    beyond, arXiv:1904.09237 (amsgrad); in the order of operations of PyTorch.

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
        amsgrad: bool = False,
        **common: Unpack[Common],
    ) -> None:
        super().__init__(lr, **common)
        self.betas = two_fractions(self._name, "betas", betas)
        self.eps = at_least(self._name, "eps", eps)
        self.weight_decay = at_least(self._name, "weight_decay", weight_decay)
        self.amsgrad = bool(amsgrad)

    def rule(self, parameter: Variable, gradient: Tensor, states: dict[Variable, Tensor]) -> Tensor:
        """See the class."""
        start, gradient = self._decayed(parameter, gradient)
        m, size = self._means(parameter, gradient, states)
        return start - self._scaled(self._now / self._correction(self.betas[0]), parameter) * m / size

    def _means(
        self, parameter: Variable, gradient: Tensor, states: dict[Variable, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """m, and the divisor sqrt(v / (1 - beta2^t)) + eps times the root that `_scaled` multiplies rates by.

        What all elements share is then in scalars that are known before m and v: m, v and the step are one sweep.
        """
        beta1, beta2 = self.betas
        mean, square_mean = self._slot("exp_avg", parameter), self._slot("exp_avg_sq", parameter)
        states[mean] = m = beta1 * mean + (1 - beta1) * gradient
        states[square_mean] = v = beta2 * square_mean + (1 - beta2) * square(gradient)
        if self.amsgrad:
            greatest = self._slot("max_exp_avg_sq", parameter)
            states[greatest] = v = maximum(greatest, v)
        return m, sqrt(v) + self.eps * self._root().astype(parameter.dtype)

    def _root(self) -> Tensor:
        return sqrt(self._correction(self.betas[1]))

    def _scaled(self, rate: Tensor, parameter: Variable) -> Tensor:
        """A scalar in the optimiser's dtype, computed once for all parameters, rounded to this one's dtype."""
        return (rate * self._root()).astype(parameter.dtype)

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
        amsgrad: bool = False,
        **common: Unpack[Common],
    ) -> None:
        super().__init__(lr, betas, eps, weight_decay, amsgrad, **common)

    def _decayed(self, parameter: Variable, gradient: Tensor) -> tuple[Tensor, Tensor]:
        if not self.weight_decay:
            return parameter, gradient
        return parameter * (1 - self._rate(parameter) * self.weight_decay), gradient


class NAdam(Adam):
    """Adam with Nesterov's momentum, whose strength mu grows from beta1 / 2 towards beta1:

        mu_t = beta1 * (1 - 0.96^(t * momentum_decay) / 2),   M_t = mu_1 * ... * mu_t
        p - lr * ((1 - mu_t) / (1 - M_t) * g + mu_(t+1) / (1 - M_(t+1)) * m) / (sqrt(v / (1 - beta2^t)) + eps)

    with g, m and v as in Adam. A further state is `mu_product` (M). Source: T. Dozat, Incorporating Nesterov momentum
    into Adam, 2016, with the constants 0.96 and 1/2 of that paper and PyTorch's defaults.
    """

    def __init__(
        self,
        lr: float = 2e-3,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 4e-3,
        **common: Unpack[Common],
    ) -> None:
        super().__init__(lr, betas, eps, weight_decay, **common)
        self.momentum_decay = at_least(self._name, "momentum_decay", momentum_decay)

    def rule(self, parameter: Variable, gradient: Tensor, states: dict[Variable, Tensor]) -> Tensor:
        """See the class."""
        start, gradient = self._decayed(parameter, gradient)
        m, size = self._means(parameter, gradient, states)
        product = self._scalar("mu_product", init=1)
        mu, mu_next = self._strength(1), self._strength(2)
        states[product] = reached = product * mu
        of_gradient = self._scaled(self._now * (1 - mu) / (1 - reached), parameter)
        of_mean = self._scaled(self._now * mu_next / (1 - reached * mu_next), parameter)
        return start - (of_gradient * gradient + of_mean * m) / size

    def _strength(self, ahead: int) -> Tensor:
        return self.betas[0] * (1 - 0.5 * power(0.96, (self._count() + ahead) * self.momentum_decay))

"""The losses as modules, for those who keep a loss together with its options."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar

from graphc.errors import ArgumentError
from graphc.lang.source import user_line
from graphc.lang.tensor import Tensor, TensorLike
from graphc.nn import classification, losses
from graphc.nn.layers import Layer


class Loss(Layer):
    """A loss with its options; each class below names a function of `gc.nn`, whose keywords it takes.

    Called with predictions and targets it returns what the function does.

    >>> import graphc as gc
    >>> gc.nn.CrossEntropyLoss(label_smoothing=0.1)(gc.input("z", ("N", 10)), gc.input("t", ("N",), dtype="int64"))
    <Tensor float32()>
    """

    function: ClassVar[Callable[..., Tensor]]

    def __init__(self, **options: Any) -> None:
        arguments = inspect.signature(self.function).parameters
        known = [name for name, one in arguments.items() if one.default is not one.empty]
        for name in options:
            if name not in known:
                raise ArgumentError(
                    f"{type(self).__name__}: there is no option {name!r}; there are {', '.join(known)}", user_line()
                )
        self.options = options

    def forward(self, prediction: TensorLike, target: TensorLike, *more: TensorLike) -> Tensor:
        """The function with the options."""
        return type(self).function(prediction, target, *more, **self.options)

    def describe(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self.options.items())


class CrossEntropyLoss(Loss):
    """`cross_entropy`."""

    function = staticmethod(classification.cross_entropy)


class NLLLoss(Loss):
    """`nll_loss`."""

    function = staticmethod(classification.nll_loss)


class BCELoss(Loss):
    """`binary_cross_entropy`."""

    function = staticmethod(classification.binary_cross_entropy)


class BCEWithLogitsLoss(Loss):
    """`binary_cross_entropy_with_logits`."""

    function = staticmethod(classification.binary_cross_entropy_with_logits)


class MultiMarginLoss(Loss):
    """`multi_margin_loss`."""

    function = staticmethod(classification.multi_margin_loss)


class MSELoss(Loss):
    """`mse_loss`."""

    function = staticmethod(losses.mse_loss)


class L1Loss(Loss):
    """`l1_loss`."""

    function = staticmethod(losses.l1_loss)


class HuberLoss(Loss):
    """`huber_loss`."""

    function = staticmethod(losses.huber_loss)


class SmoothL1Loss(Loss):
    """`smooth_l1_loss`."""

    function = staticmethod(losses.smooth_l1_loss)


class KLDivLoss(Loss):
    """`kl_div`."""

    function = staticmethod(losses.kl_div)


class GaussianNLLLoss(Loss):
    """`gaussian_nll_loss`, called with predictions, targets and variances."""

    function = staticmethod(losses.gaussian_nll_loss)

"""Layers, losses and initialisers, written in the language alone.

>>> import graphc as gc
>>> model = gc.nn.Sequential(gc.nn.Linear(784, 128), gc.nn.ReLU(), gc.nn.Linear(128, 10))
>>> x, t = gc.input("x", ("N", 784)), gc.input("t", ("N",), dtype="int64")
>>> gc.nn.cross_entropy(model(x), t)
<Tensor float32()>
"""

from graphc.nn import init
from graphc.nn.activations import (
    ELU,
    GELU,
    Activation,
    LeakyReLU,
    LogSoftmax,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from graphc.nn.layers import AvgPool2d, Conv2d, Flatten, Layer, LayerNorm, Linear, MaxPool2d
from graphc.nn.losses import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    gaussian_nll_loss,
    kl_div,
    l1_loss,
    mse_loss,
    multi_margin_loss,
    nll_loss,
)
from graphc.nn.module import Module, Sequential

__all__ = [
    "Activation",
    "AvgPool2d",
    "Conv2d",
    "ELU",
    "Flatten",
    "GELU",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LogSoftmax",
    "MaxPool2d",
    "Module",
    "ReLU",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Tanh",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "gaussian_nll_loss",
    "init",
    "kl_div",
    "l1_loss",
    "mse_loss",
    "multi_margin_loss",
    "nll_loss",
]

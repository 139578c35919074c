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
    Hardsigmoid,
    Hardswish,
    Hardtanh,
    LeakyReLU,
    LogSoftmax,
    PReLU,
    ReLU,
    ReLU6,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from graphc.nn.attention import MultiheadAttention, TransformerEncoderLayer
from graphc.nn.batchnorm import BatchNorm1d, BatchNorm2d
from graphc.nn.blocks import DenseConnection, Residual, ResidualBlock
from graphc.nn.classification import (
    accuracy,
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    multi_margin_loss,
    multiclass_hinge_loss,
    nll_loss,
)
from graphc.nn.containers import ModuleDict, ModuleList
from graphc.nn.conv import Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d
from graphc.nn.criteria import (
    BCELoss,
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    GaussianNLLLoss,
    HuberLoss,
    KLDivLoss,
    L1Loss,
    Loss,
    MSELoss,
    MultiMarginLoss,
    NLLLoss,
    SmoothL1Loss,
)
from graphc.nn.dropout import Dropout, Dropout1d, Dropout2d, dropout
from graphc.nn.embedding import Embedding
from graphc.nn.graph import GraphConv, normalised_adjacency
from graphc.nn.layers import Layer
from graphc.nn.linear import Flatten, Identity, Linear, Maxout
from graphc.nn.losses import (
    gaussian_nll_loss,
    huber_loss,
    kl_div,
    l1_loss,
    l1_penalty,
    l2_penalty,
    mse_loss,
    smooth_l1_loss,
    squared_error,
)
from graphc.nn.module import Module, Sequential
from graphc.nn.norm import GroupNorm, LayerNorm, RMSNorm
from graphc.nn.pooling import (
    AdaptiveAvgPool2d,
    AvgPool1d,
    AvgPool2d,
    GlobalAvgPool,
    GlobalMaxPool,
    MaxPool1d,
    MaxPool2d,
)
from graphc.nn.recurrent import GRUCell, LSTMCell, RNNCell
from graphc.nn.sequence import GRU, LSTM, RNN

__all__ = [
    "Activation",
    "AdaptiveAvgPool2d",
    "AvgPool1d",
    "AvgPool2d",
    "BCELoss",
    "BCEWithLogitsLoss",
    "BatchNorm1d",
    "BatchNorm2d",
    "Conv1d",
    "Conv2d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "CrossEntropyLoss",
    "DenseConnection",
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "ELU",
    "Embedding",
    "Flatten",
    "GELU",
    "GRU",
    "GRUCell",
    "GaussianNLLLoss",
    "GlobalAvgPool",
    "GlobalMaxPool",
    "GraphConv",
    "GroupNorm",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "HuberLoss",
    "Identity",
    "KLDivLoss",
    "L1Loss",
    "LSTM",
    "LSTMCell",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LogSoftmax",
    "Loss",
    "MSELoss",
    "MaxPool1d",
    "MaxPool2d",
    "Maxout",
    "Module",
    "ModuleDict",
    "ModuleList",
    "MultiMarginLoss",
    "MultiheadAttention",
    "NLLLoss",
    "PReLU",
    "RMSNorm",
    "RNN",
    "RNNCell",
    "ReLU",
    "ReLU6",
    "Residual",
    "ResidualBlock",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "SmoothL1Loss",
    "Softmax",
    "Softplus",
    "Tanh",
    "TransformerEncoderLayer",
    "accuracy",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "dropout",
    "gaussian_nll_loss",
    "huber_loss",
    "init",
    "kl_div",
    "l1_loss",
    "l1_penalty",
    "l2_penalty",
    "mse_loss",
    "multi_margin_loss",
    "multiclass_hinge_loss",
    "nll_loss",
    "normalised_adjacency",
    "smooth_l1_loss",
    "squared_error",
]

"""Optimisers, written in the language alone: each turns a loss into the next values of parameters and of its states.

    step = gc.compile([x, t], [loss], updates=gc.optim.Adam(lr=1e-3).updates(loss, model.parameters()))

Schedules and clipping are options of each of them, and part of the graph that they make.
"""

from graphc.optim.adam import Adam, AdamW, NAdam
from graphc.optim.adaptive import Adadelta, Adagrad, RMSprop
from graphc.optim.base import Optimiser
from graphc.optim.clipping import clip_by_norm, clip_by_value, global_norm
from graphc.optim.schedules import (
    CosineAnnealingLR,
    ExponentialLR,
    LinearWarmup,
    MultiStepLR,
    OneCycleLR,
    PolynomialLR,
    Schedule,
    SequentialLR,
    StepLR,
)
from graphc.optim.sgd import SGD

__all__ = [
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "CosineAnnealingLR",
    "ExponentialLR",
    "LinearWarmup",
    "MultiStepLR",
    "NAdam",
    "OneCycleLR",
    "Optimiser",
    "PolynomialLR",
    "RMSprop",
    "SGD",
    "Schedule",
    "SequentialLR",
    "StepLR",
    "clip_by_norm",
    "clip_by_value",
    "global_norm",
]

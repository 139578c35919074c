"""Optimisers, written in the language alone: each turns a loss into the next values of parameters and of its states.

    step = gc.compile([x, t], [loss], updates=gc.optim.Adam(lr=1e-3).updates(loss, model.parameters()))
"""

from graphc.optim.adam import Adam, AdamW, RMSprop
from graphc.optim.base import Optimiser
from graphc.optim.sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "Optimiser", "RMSprop"]

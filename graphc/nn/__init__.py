"""Layers, losses and initialisers, written in the language alone."""
from graphc.nn import init as init

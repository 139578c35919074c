"""compile() and what it returns: the step from expressions to functions that can be called."""

from graphc.compiler.compile import compile, evaluate
from graphc.compiler.function import Function, Specialisation, Stats

__all__ = ["Function", "Specialisation", "Stats", "compile", "evaluate"]

"""compile() and what it returns: the step from expressions to functions that can be called."""

from graphc.compiler.compile import compile, evaluate
from graphc.compiler.function import Function
from graphc.compiler.memory import Memory
from graphc.compiler.specialise import Specialisation, Stats

__all__ = ["Function", "Memory", "Specialisation", "Stats", "compile", "evaluate"]

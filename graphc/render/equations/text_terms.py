"""Terms (`formula.py`) as plain text, in the words of NumPy where mathematics needs more than letters."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from graphc.ir.extent import Extent
from graphc.ir.node import Node
from graphc.render.equations import formula as fm
from graphc.render.equations.formula import Term
from graphc.render.equations.latex_scalar import ADD, ATOM, COMPARE, LOGIC, MUL
from graphc.render.equations.matrix import unit_axes_only

Part = tuple[str, int]
_POWER = ATOM - 1
_COMPARISONS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_LOGIC = {"and": "&", "or": "|", "xor": "^"}
_INFIX = {"mod": ("%", MUL), "floordiv": ("//", MUL), "shl": ("<<", ADD - 1), "shr": (">>", ADD - 1)}
_WINDOWS = {"forward": "conv", "input": "conv_transposed", "weight": "correlate"}


def bracketed(part: Part, level: int) -> str:
    return part[0] if part[1] >= level else f"({part[0]})"


class TextTerms:
    """name, gradient: how a value and a gradient that have equations of their own are written."""

    def __init__(self, name: Callable[[Node], str], gradient: Callable[[Node], str]) -> None:
        self.name, self.gradient = name, gradient

    def __call__(self, term: Term) -> str:
        """The whole right side."""
        return self.part(fm.shown(term))[0]

    def part(self, term: Term) -> Part:
        method: Callable[[Term], Part] = getattr(self, f"_{term.op}")
        return method(term)

    def at_least(self, term: Term, level: int) -> str:
        return bracketed(self.part(term), level)

    def inside(self, term: Term) -> str:
        return ", ".join(self.part(arg)[0] for arg in term.args)

    def _value(self, term: Term) -> Part:
        return self.name(term.value), ATOM

    def _delta(self, term: Term) -> Part:
        return self.gradient(term.value), ATOM

    def _number(self, term: Term) -> Part:
        text = decimal(term.value)
        return text, ADD if text.startswith("-") else ATOM

    def _size(self, term: Term) -> Part:
        text = str(term.value)
        return text, ATOM if text.isidentifier() else ADD

    # --- Element by element ----------------------------------------------------------------------------------------

    def _add(self, term: Term) -> Part:
        text = ""
        for part in term.args:
            written = self.at_least(part, ADD)
            text += written if not text else (f" - {written[1:]}" if written.startswith("-") else f" + {written}")
        return text, ADD

    def _mul(self, term: Term) -> Part:
        first, *factors = term.args
        sign = "-" if fm.is_negative(first) else ""
        if not fm.is_number(first, -1):
            factors.insert(0, fm.number(-first.value) if sign else first)
        text = " * ".join([self.at_least(factors[0], MUL), *(self.at_least(f, MUL + 1) for f in factors[1:])])
        return sign + text, ADD if sign else MUL

    def _div(self, term: Term) -> Part:
        return f"{self.at_least(term.args[0], MUL)} / {self.at_least(term.args[1], MUL + 1)}", MUL

    def _pow(self, term: Term) -> Part:
        return f"{self.at_least(term.args[0], ATOM)}^{self.at_least(term.args[1], ATOM)}", _POWER

    def _call(self, term: Term) -> Part:
        if term.value in _INFIX:
            symbol, level = _INFIX[term.value]
            left, right = (self.at_least(arg, level + 1) for arg in term.args)
            return f"{left} {symbol} {right}", level
        return f"{term.value}({self.inside(term)})", ATOM

    def _prime(self, term: Term) -> Part:
        return f"{term.value}'({self.inside(term)})", ATOM

    def _compare(self, term: Term) -> Part:
        left, right = (self.at_least(arg, COMPARE + 1) for arg in term.args)
        return f"{left} {_COMPARISONS[term.value]} {right}", COMPARE

    def _logic(self, term: Term) -> Part:
        if term.value == "not":
            return f"~{self.at_least(term.args[0], ATOM)}", ATOM
        left, right = (self.at_least(arg, ATOM) for arg in term.args)
        return f"{left} {_LOGIC[term.value]} {right}", LOGIC

    def _select(self, term: Term) -> Part:
        return f"where({self.inside(term)})", ATOM

    def _iverson(self, term: Term) -> Part:
        return f"[{self.inside(term)}]", ATOM

    # --- Matrices --------------------------------------------------------------------------------------------------

    def _matmul(self, term: Term) -> Part:
        left, right = term.args
        return f"{self.at_least(left, MUL if left.op == 'matmul' else MUL + 1)} @ {self.at_least(right, MUL + 1)}", MUL

    def _transpose(self, term: Term) -> Part:
        return f"{self.at_least(term.args[0], ATOM)}^T", _POWER

    def _outer(self, term: Term) -> Part:
        return f"outer({self.inside(term)})", ATOM

    def _column(self, term: Term) -> Part:
        return f"{self.at_least(term.args[0], ATOM)}[{':' if len(term.shape) == 2 else '...'}, None]", ATOM

    def _full(self, term: Term) -> Part:
        inner = self.at_least(term.args[0], MUL)
        if inner == "0":
            return inner, ATOM
        return ("ones" if inner == "1" else f"{inner} * ones"), MUL

    def _reduce(self, term: Term) -> Part:
        reducer, axes = term.value
        (inner,) = term.args
        over = "" if len(axes) == len(inner.shape) else f", axis={axes[0] if len(axes) == 1 else axes}"
        return f"{reducer}({self.part(inner)[0]}{over})", ATOM

    def _reshape(self, term: Term) -> Part:
        inner = term.args[0]
        if unit_axes_only(inner.shape, term.shape):
            return self.part(inner)
        sizes = ", ".join(map(str, term.shape))
        return f"reshape({self.part(inner)[0]}, ({sizes}))", ATOM

    def _slice(self, term: Term) -> Part:
        return f"{self.at_least(term.args[0], ATOM)}[{', '.join(map(self._range, term.value))}]", ATOM

    def _range(self, part: tuple[Extent, Extent, int] | None) -> str:
        """One axis of a slice."""
        if part is None:
            return ":"
        start, stop, step = part
        text = f"{'' if start == 0 else self.extent(start)}:{self.extent(stop)}"
        return text if step == 1 else f"{text}:{step}"

    def extent(self, extent: Extent) -> str:
        return str(extent)

    def _permute(self, term: Term) -> Part:
        return f"transpose({self.part(term.args[0])[0]}, {term.value})", ATOM

    def _window(self, term: Term) -> Part:
        return f"{_WINDOWS[term.value[0]]}({self.inside(term)})", ATOM

    def _onehot(self, term: Term) -> Part:
        return f"onehot({self.inside(term)})", ATOM

    def _crossentropy(self, term: Term) -> Part:
        return f"cross_entropy({self.inside(term)})", ATOM

    def _apply(self, term: Term) -> Part:
        name, attributes = term.value
        shown = ", ".join([*(self.part(arg)[0] for arg in term.args), *(f"{key}={value}" for key, value in attributes)])
        return f"{name}({shown})", ATOM


def decimal(value: float | int | bool) -> str:
    """A number in as few digits as identify it, as a float32 where it is one."""
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(np.float32(value)) if isinstance(value, float) and float(np.float32(value)) == value else str(value)

"""Terms (`graphc.render.equations.formula`) as Python expressions over NumPy arrays."""

from __future__ import annotations

import math
from collections.abc import Callable

from graphc.errors import BackendError
from graphc.ir.extent import Extent, Polynomial, Shape
from graphc.ir.node import Node
from graphc.render.equations import text_terms
from graphc.render.equations.formula import Term
from graphc.render.equations.latex_scalar import ADD, ATOM, MUL
from graphc.render.equations.text_terms import Part, TextTerms

_POWER = ATOM - 1
_FUNCTIONS = {
    "abs": "np.abs({0})",
    "sign": "np.sign({0})",
    "floor": "np.floor({0})",
    "ceil": "np.ceil({0})",
    "rint": "np.rint({0})",
    "sqrt": "np.sqrt({0})",
    "exp": "np.exp({0})",
    "expm1": "np.expm1({0})",
    "log": "np.log({0})",
    "log1p": "np.log1p({0})",
    "sin": "np.sin({0})",
    "cos": "np.cos({0})",
    "tan": "np.tan({0})",
    "tanh": "np.tanh({0})",
    "relu": "np.maximum({0}, 0)",
    "sigmoid": "sigmoid({0})",
    "softplus": "np.logaddexp(0, {0})",
    "erf": "erf({0})",
    "ndtr": "ndtr({0})",
    "isnan": "np.isnan({0})",
    "trunc": "np.trunc({0}).astype(np.int64)",
    "maximum": "np.maximum({0}, {1})",
    "minimum": "np.minimum({0}, {1})",
    "atan2": "np.arctan2({0}, {1})",
}


class CodeTerms(TextTerms):
    """name, gradient: the identifiers of values. `written` holds terms that a line before has assigned to a name."""

    def __init__(self, name: Callable[[Node], str], gradient: Callable[[Node], str]) -> None:
        super().__init__(name, gradient)
        self.written: dict[Term, str] = {}

    def __call__(self, term: Term) -> str:
        return self.part(term)[0]

    def _raw(self, term: Term) -> Part:
        text, level = term.value
        return text, level

    def _number(self, term: Term) -> Part:
        number = term.value
        if isinstance(number, float) and not math.isfinite(number):
            text = "np.nan" if math.isnan(number) else ("np.inf" if number > 0 else "-np.inf")
        else:
            text = text_terms.decimal(number)
        return text, ADD if text.startswith("-") else ATOM

    def _size(self, term: Term) -> Part:
        text = extent_code(term.value)
        return text, ATOM if text.isidentifier() else ADD

    def _pow(self, term: Term) -> Part:
        return f"{self.at_least(term.args[0], ATOM)} ** {self.at_least(term.args[1], _POWER + 1)}", _POWER

    def _call(self, term: Term) -> Part:
        arguments = [self.part(arg)[0] for arg in term.args]
        if term.value == "rsqrt":
            return f"1 / np.sqrt({arguments[0]})", MUL
        if term.value in _FUNCTIONS:
            return _FUNCTIONS[term.value].format(*arguments), ATOM
        return super()._call(term)

    def _select(self, term: Term) -> Part:
        return f"np.where({self.inside(term)})", ATOM

    def _iverson(self, term: Term) -> Part:
        return f"np.where({self.inside(term)}, 1.0, 0.0)", ATOM

    def _compare(self, term: Term) -> Part:
        text, _ = super()._compare(term)
        return text, 0  # brackets wherever it is an operand: Python's & binds more tightly

    def _logic(self, term: Term) -> Part:
        text, _ = super()._logic(term)
        return text, 0

    def _transpose(self, term: Term) -> Part:
        inner = term.args[0]
        if len(inner.shape) == 2:
            return f"{self.at_least(inner, ATOM)}.T", ATOM
        return f"np.swapaxes({self.part(inner)[0]}, -1, -2)", ATOM

    def _outer(self, term: Term) -> Part:
        return f"np.outer({self.inside(term)})", ATOM

    def _full(self, term: Term) -> Part:
        inner = term.args[0]
        function = "np.broadcast_to" if inner.shape else "np.full"
        shape = shape_code(term.shape)
        arguments = f"{self.part(inner)[0]}, {shape}" if inner.shape else f"{shape}, {self.part(inner)[0]}"
        return f"{function}({arguments})", ATOM

    def _reduce(self, term: Term) -> Part:
        return f"np.{super()._reduce(term)[0]}", ATOM

    def _reshape(self, term: Term) -> Part:
        return f"np.reshape({self.part(term.args[0])[0]}, {shape_code(term.shape)})", ATOM

    def extent(self, extent: Extent) -> str:
        return extent_code(extent)

    def _permute(self, term: Term) -> Part:
        return f"np.transpose({self.part(term.args[0])[0]}, {term.value})", ATOM

    def _window(self, term: Term) -> Part:
        return self.written[term], ATOM

    def _apply(self, term: Term) -> Part:
        name, attributes = term.value
        first, *others = (self.part(arg)[0] for arg in term.args)
        axis = dict(attributes).get("axis", 0)
        match name:
            case "take":
                return f"np.take({first}, {others[0]}, axis={axis})", ATOM
            case "cumsum" if dict(attributes).get("reverse"):
                return f"np.flip(np.cumsum(np.flip({first}, {axis}), axis={axis}), {axis})", ATOM
            case "cumsum":
                return f"np.cumsum({first}, axis={axis})", ATOM
            case "scatter_add":
                return f"scatter_add({shape_code(term.shape)}, {first}, {others[0]}, axis={axis})", ATOM
        raise BackendError(f"show --as code: {name} has no plain NumPy form; --as numpy prints the compiled one")


def extent_code(extent: Extent) -> str:
    """An extent as a Python expression over the named dimensions."""
    if not isinstance(extent, Polynomial):
        return str(extent)
    parts: list[str] = []
    for monomial, coefficient in extent.terms:
        factors = [] if coefficient == 1 and monomial else [str(coefficient)]
        for atom, power in monomial:
            base = atom if isinstance(atom, str) else f"(({extent_code(atom.dividend)}) // {atom.divisor})"
            factors += [base] * power
        parts.append(" * ".join(factors))
    return " + ".join(parts).replace("+ -", "- ")


def shape_code(shape: Shape) -> str:
    """A shape as a Python tuple."""
    return f"({', '.join(map(extent_code, shape))}{',' if len(shape) == 1 else ''})"

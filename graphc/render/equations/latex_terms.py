"""Terms (`graphc.render.equations.formula`) in LaTeX's mathematics; only commands that KaTeX has as well."""

from __future__ import annotations

import re
from collections.abc import Callable

from graphc.ir.affine import axis_name
from graphc.ir.extent import product
from graphc.ir.node import Node
from graphc.render.equations import formula as fm
from graphc.render.equations import latex_scalar as tex
from graphc.render.equations.formula import Term
from graphc.render.equations.latex_scalar import ADD, ATOM, COMPARE, FRACTION, LOGIC, MUL, bracketed
from graphc.render.equations.matrix import unit_axes_only

Part = tuple[str, int]  # a text and how tightly it binds
_MATRIX = FRACTION  # a factor of an elementwise product of arrays binds at least like this
_ONE_LINE = 16  # leaves and functions of a sum that a page is wide enough for
_TOP, _ONES = r"^{\top}", r"\mathbf{1}"
_REDUCERS = {"sum": r"\sum", "prod": r"\prod", "max": r"\max", "min": r"\min"}
_WINDOWS = {"forward": r"{} \ast {}", "input": r"{} \mathbin{{\ast^{{\top}}}} {}", "weight": r"{} \star {}"}


class LatexTerms:
    """name, gradient: how a value and a gradient that have equations of their own are written."""

    def __init__(self, name: Callable[[Node], str], gradient: Callable[[Node], str]) -> None:
        self.name, self.gradient = name, gradient

    def __call__(self, term: Term) -> str:
        """The whole right side."""
        return self._part(fm.shown(term))[0]

    def lines(self, term: Term) -> list[str]:
        """The whole right side; a long sum in several lines, of which all but the first begin with a sign."""
        term = fm.shown(term)
        if term.op != "add" or term.weight <= _ONE_LINE:
            return [self._part(term)[0]]
        lines: list[str] = []
        for part in term.args:
            text = self._at_least(part, ADD)
            lines.append(text if text.startswith("-") or not lines else f"+ {text}")
        return lines

    def _part(self, term: Term) -> Part:
        method: Callable[[Term], Part] = getattr(self, f"_{term.op}")
        return method(term)

    def _at_least(self, term: Term, level: int) -> str:
        return bracketed(self._part(term), level)

    # --- Leaves ----------------------------------------------------------------------------------------------------

    def _value(self, term: Term) -> Part:
        return self.name(term.value), ATOM

    def _delta(self, term: Term) -> Part:
        return self.gradient(term.value), ATOM

    def _number(self, term: Term) -> Part:
        return tex.literal(term.value)

    def _size(self, term: Term) -> Part:
        text = tex.extent(term.value)
        return text, ATOM if text.isalnum() else ADD

    # --- Element by element ----------------------------------------------------------------------------------------

    def _add(self, term: Term) -> Part:
        text = ""
        for part in term.args:
            written = self._at_least(part, ADD)
            text += written if not text else (f" - {written[1:]}" if written.startswith("-") else f" + {written}")
        return text, ADD

    def _mul(self, term: Term) -> Part:
        first, factors = term.args[0], list(term.args)
        sign, text, before = "", "", None
        if fm.is_negative(first):
            sign = "-"
            factors = factors[1:] if first.value == -1 else [fm.number(-first.value), *factors[1:]]
        for factor in factors:
            is_array = bool(factor.shape)
            binding = _MATRIX if is_array and len(factors) > 1 else MUL
            written = self._at_least(factor, binding)
            if before is None:
                text = written
            elif before.shape and is_array:
                text += rf" \odot {written}"
            elif written[:1].isdigit():
                text += rf" \cdot {written}"
            else:
                text += (" " if before.op == "number" else r" \, ") + written
            before = factor
        return sign + text, ADD if sign else MUL

    def _div(self, term: Term) -> Part:
        if term.args[0].op == "reduce" and not term.args[1].shape:
            part = self._part(term.args[0])[0]
            return rf"\frac{{1}}{{{self._part(term.args[1])[0]}}} {part}", MUL
        return rf"\frac{{{self._part(term.args[0])[0]}}}{{{self._part(term.args[1])[0]}}}", FRACTION

    def _pow(self, term: Term) -> Part:
        base = self._part(term.args[0])
        text = bracketed(base, ATOM)
        if base[1] >= ATOM and not text.isalnum():
            text = f"{{{text}}}" if not text.startswith(r"\frac") else tex.brackets(text)
        sign = r"\odot " if term.shape else ""  # of an array, element by element
        return f"{text}^{{{sign}{self._part(term.args[1])[0]}}}", FRACTION

    def _call(self, term: Term) -> Part:
        return tex.call(term.value, [self._part(arg)[0] for arg in term.args])

    def _prime(self, term: Term) -> Part:
        return rf"\operatorname{{{term.value}}}'" + tex.brackets(self._part(term.args[0])[0]), ATOM

    def _compare(self, term: Term) -> Part:
        left, right = (self._at_least(arg, COMPARE + 1) for arg in term.args)
        return f"{left} {tex.INFIX[term.value][0]} {right}", COMPARE

    def _logic(self, term: Term) -> Part:
        if term.value == "not":
            return rf"\lnot {self._at_least(term.args[0], ATOM)}", LOGIC
        left, right = (self._at_least(arg, LOGIC + 1) for arg in term.args)
        return f"{left} {tex.INFIX[term.value][0]} {right}", LOGIC

    def _select(self, term: Term) -> Part:
        return tex.cases(*(self._part(arg)[0] for arg in term.args))

    def _iverson(self, term: Term) -> Part:
        return tex.square(self._part(term.args[0])[0]), ATOM

    # --- Matrices --------------------------------------------------------------------------------------------------

    def _matmul(self, term: Term) -> Part:
        left, right = term.args
        first = self._transposed(left) if len(left.shape) == 1 else self._factor(left)
        if len(left.shape) == 1 and len(right.shape) > 1:  # v^T W is W^T v, a vector like every other
            turned = right.args[0] if right.op == "transpose" else fm.transpose(right)
            return rf"{self._factor(turned)} \, {self._factor(left)}", MUL
        return rf"{first} \, {self._factor(right)}", MUL

    def _transpose(self, term: Term) -> Part:
        return self._transposed(term.args[0]), ATOM

    def _transposed(self, term: Term) -> str:
        text = self._at_least(term, ATOM)
        if term.op in ("value", "delta") and re.fullmatch(r"[^^]*\^\{\([^^]*\)\}", text):
            return rf"{text[:-1]} \top}}"  # the layer's place and the sign in one superscript
        return f"{{{text}}}{_TOP}" if "^" in re.sub(r"_\{.*\}$", "", text) else f"{text}{_TOP}"

    def _factor(self, term: Term) -> str:
        """A factor of a product of matrices."""
        return self._at_least(term, MUL if term.op in ("matmul", "outer") else FRACTION)

    def _outer(self, term: Term) -> Part:
        return rf"{self._at_least(term.args[0], FRACTION)} \, {self._transposed(term.args[1])}", MUL

    def _column(self, term: Term) -> Part:
        return rf"{self._factor(term.args[0])} \, {_ONES}{_TOP}", MUL

    def _full(self, term: Term) -> Part:
        inner = term.args[0]
        if not inner.shape:
            text = self._at_least(inner, MUL)
            if text == "0":
                return text, ATOM
            return (_ONES if text == "1" else rf"{text} \, {_ONES}"), MUL
        if len(term.shape) == 2 and len(inner.shape) == 1:
            return rf"{_ONES} \, {self._transposed(inner)}", MUL
        if len(term.shape) == 2 and inner.shape[-1] == 1:
            if inner.op == "column":
                return self._part(inner)
            return rf"{self._at_least(inner, FRACTION)} \, {_ONES}{_TOP}", MUL
        return r"\operatorname{broadcast}" + tex.brackets(self._part(inner)[0]), ATOM

    def _reduce(self, term: Term) -> Part:
        reducer, axes = term.value
        (inner,) = term.args
        rank = len(inner.shape)
        if reducer == "sum" and rank == 2 and len(axes) == 1:
            text = self._factor(inner)
            return (rf"{_ONES}{_TOP} {text}" if axes == (0,) else rf"{text} \, {_ONES}"), MUL
        over = ",".join(axis_name(axis) for axis in axes)
        letters = "".join(axis_name(axis) if axis in axes else ":" for axis in range(rank))
        text = self._at_least(inner, ATOM)
        if "_" in text and not text.startswith(("(", r"\left(")):
            text = tex.brackets(text)
        return rf"{_REDUCERS[reducer]}_{{{over}}} {text}_{{{letters}}}", MUL

    def _reshape(self, term: Term) -> Part:
        inner = term.args[0]
        if unit_axes_only(inner.shape, term.shape):
            return self._part(inner)
        text = self._part(inner)[0]
        return rf"\operatorname{{reshape}}_{{{tex.shape(term.shape)}}}{tex.brackets(text)}", ATOM

    def _slice(self, term: Term) -> Part:
        ranges: list[str] = []
        for part in term.value:
            if part is None:
                ranges.append("{:}")
                continue
            start, stop, step = part
            text = f"{'' if start == 0 else tex.extent(start)}{{:}}{tex.extent(stop)}"
            ranges.append(text if step == 1 else f"{text}{{:}}{step}")
        return f"{self._at_least(term.args[0], ATOM)}[{', '.join(ranges)}]", ATOM

    def _permute(self, term: Term) -> Part:
        order = ",".join(map(str, term.value))
        return rf"\operatorname{{permute}}_{{{order}}}{tex.brackets(self._part(term.args[0])[0])}", ATOM

    def _window(self, term: Term) -> Part:
        left, right = (self._at_least(arg, FRACTION) for arg in term.args)
        return _WINDOWS[term.value[0]].format(left, right), MUL

    def _onehot(self, term: Term) -> Part:
        return f"E_{{{self._part(term.args[0])[0]}}}", ATOM

    def _crossentropy(self, term: Term) -> Part:
        scores, labels = (self._part(arg)[0] for arg in term.args)
        rows = tex.extent(product(term.args[1].shape))
        label = f"({labels})" if "_" in labels else labels
        softmax = rf"\operatorname{{softmax}}{tex.brackets(scores)}_{{i, {label}_{{i}}}}"
        return rf"-\frac{{1}}{{{rows}}} \sum_{{i}} \log {softmax}", ADD

    def _apply(self, term: Term) -> Part:
        name, attributes = term.value
        inside = ", ".join(
            [
                *(self._part(arg)[0] for arg in term.args),
                *(rf"\mathrm{{{tex.escape(key)}}} = {value}" for key, value in attributes),
            ]
        )
        return rf"\operatorname{{{tex.word(name)}}}{tex.brackets(inside)}", ATOM

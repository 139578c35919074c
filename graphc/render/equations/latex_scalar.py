"""Bodies, extents and names in LaTeX's mathematics; only commands that KaTeX has as well."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence

import numpy as np

from graphc.ir import scalar as sc
from graphc.ir.affine import Affine, AffineMap, axis_name
from graphc.ir.extent import Extent, Polynomial, Shape

# How tightly a text binds, as in graphc.ir.printer: a part that binds less than its place asks for gets brackets.
LOGIC, COMPARE, SHIFT, ADD, MUL, FRACTION, ATOM = 1, 4, 5, 6, 7, 8, 10

_GREEK_NAMES = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi psi "
    "omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega"
)
GREEK = frozenset(_GREEK_NAMES.split())
_SPECIAL = {
    "\\": r"\backslash ",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\hat{\ }",
    "~": r"\sim ",
    " ": r"\ ",
}
INFIX = {
    "eq": ("=", COMPARE),
    "ne": (r"\ne", COMPARE),
    "lt": ("<", COMPARE),
    "le": (r"\le", COMPARE),
    "gt": (">", COMPARE),
    "ge": (r"\ge", COMPARE),
    "and": (r"\wedge", LOGIC),
    "or": (r"\vee", LOGIC),
    "xor": (r"\oplus", LOGIC),
    "shl": (r"\ll", SHIFT),
    "shr": (r"\gg", SHIFT),
    "mod": (r"\bmod", MUL),
}
_FUNCTIONS = {
    "exp": r"\exp",
    "log": r"\log",
    "sin": r"\sin",
    "cos": r"\cos",
    "tan": r"\tan",
    "tanh": r"\tanh",
    "sigmoid": r"\sigma",
    "ndtr": r"\Phi",
    "maximum": r"\max",
    "minimum": r"\min",
}


_LATIN_1 = 0xFF  # the letters that pdflatex has without further packages
_TALL = re.compile(r"\\(frac|sum|prod|max|min|sqrt|begin|left|operatorname\*)")
_COMMANDS = re.compile(r"\\[A-Za-z]+|[{}\\,]+")  # what takes no room, or that of one letter


def word(text: str) -> str:
    """The name of an op."""
    return escape(text)


def place(text: str) -> str:
    """A layer's place such as 0, 3.conv or fc1."""
    return text if text.isdecimal() else rf"\mathrm{{{escape(text)}}}"


def escape(text: str) -> str:
    """Any text as an upright word: what LaTeX would read as a command is written out."""
    return "".join(_letter(letter) for letter in text)


def _letter(letter: str) -> str:
    if letter.isascii() and letter.isprintable():
        return _SPECIAL.get(letter, letter)
    _, _, greek = unicodedata.name(letter, "").partition(" LETTER ")
    greek = greek.capitalize() if letter.isupper() else greek.lower()
    if greek in GREEK and unicodedata.name(letter).startswith("GREEK"):
        return rf"\{greek} "
    if letter.isalpha() and ord(letter) <= _LATIN_1:
        return rf"\text{{{letter}}}"
    return rf"\text{{U+{ord(letter):04X}}}"


def name_parts(name: str) -> tuple[str, str]:
    """A name as (base, index): "W1" and "W_1" are W with index 1, Greek letters are spelt, words are upright."""
    matched = re.fullmatch(r"([A-Za-z]+)_?(\d+)", name)
    base, index = (matched.group(1), matched.group(2)) if matched else (name, "")
    if not matched and re.fullmatch(r"[A-Za-z]_[A-Za-z0-9]+|[A-Za-z]{2,}_[A-Za-z]", name) and name.count("_") == 1:
        base, word = name.split("_")
        index = word if len(word) == 1 else rf"\mathrm{{{escape(word)}}}"
    if len(base) == 1 and base.isascii() and base.isalpha():
        return base, index
    if base in GREEK:
        return rf"\{base}", index
    return rf"\mathrm{{{escape(base)}}}", index


def extent(value: Extent) -> str:
    """An extent such as 2 N - 3."""
    if not isinstance(value, Polynomial):
        return str(value)
    parts: list[str] = []
    for monomial, coefficient in value.terms:
        factors = [] if abs(coefficient) == 1 and monomial else [str(abs(coefficient))]
        for atom, power in monomial:
            if isinstance(atom, str):
                base, index = name_parts(atom)
                text = f"{base}_{{{index}}}" if index else base
            else:
                text = rf"\lfloor ({extent(atom.dividend)}) / {atom.divisor} \rfloor"
            factors.append(text if power == 1 else f"{{{text}}}^{{{power}}}")
        sign = ("- " if coefficient < 0 else "+ ") if parts else ("-" if coefficient < 0 else "")
        parts.append(sign + r"\,".join(factors))
    return " ".join(parts)


def shape(value: Shape) -> str:
    return r" \times ".join(extent(one) for one in value)


def index(row: Affine) -> str:
    """An affine index such as 2i + j - 1."""
    parts: list[str] = []
    for axis, coefficient in row.terms:
        sign = ("- " if coefficient < 0 else "+ ") if parts else ("-" if coefficient < 0 else "")
        parts.append(sign + ("" if abs(coefficient) == 1 else str(abs(coefficient))) + axis_name(axis))
    if isinstance(row.const, int):
        if row.const or not parts:
            parts.append(f"{'- ' if row.const < 0 else '+ '}{abs(row.const)}" if parts else str(row.const))
    else:
        parts.append(f"+ {extent(row.const)}" if parts else extent(row.const))
    return " ".join(parts)


def indices(index_map: AffineMap) -> str:
    """The indices of a read; without commas where each is one letter."""
    rows = [index(row) for row in index_map.rows]
    return "".join(rows) if all(len(row) == 1 for row in rows) else ",".join(rows)


def number(value: float | int | bool, dtype: str) -> str:
    """A number in as few digits as identify it."""
    if dtype == "bool":
        return r"\text{true}" if value else r"\text{false}"
    if not math.isfinite(value):
        return r"\text{NaN}" if math.isnan(value) else (r"\infty" if value > 0 else r"-\infty")
    if float(value).is_integer() and abs(value) < 1e15:
        return str(int(value))
    text = str(np.float32(value)) if dtype == "float32" else repr(value)
    if "e" not in text:
        return text
    digits, power = text.split("e")
    scale = f"10^{{{int(power)}}}"
    return scale if digits in ("1", "1.0") else rf"{digits} \cdot {scale}"


def square(text: str) -> str:
    """Iverson's bracket: 1 where something holds, else 0."""
    return rf"\left[{text}\right]" if _TALL.search(text) else f"[{text}]"


def body(root: sc.Scalar, reads: Sequence[str]) -> tuple[str, int, list[str]]:
    r"""A body as text, how tightly it binds, and definitions `\tau_{0} = ...` of long terms that occur repeatedly."""
    order = sc.postorder(root)
    uses = sc.use_counts(order)
    texts: dict[sc.Scalar, tuple[str, int]] = {}
    named: list[str] = []
    for node in order:
        text, level = _one(node, texts, reads)
        if isinstance(node, sc.Apply) and uses.get(node, 0) > 1 and len(_COMMANDS.sub("x", text)) > 24:
            name = rf"\tau_{{{len(named)}}}"
            named.append(f"{name} = {text}")
            text, level = name, ATOM
        texts[node] = (text, level)
    return (*texts[root], named)


def bracketed(part: tuple[str, int], level: int) -> str:
    return part[0] if part[1] >= level else brackets(part[0])


def brackets(text: str) -> str:
    """Round brackets, which grow around what is more than a line high."""
    return rf"\left({text}\right)" if _TALL.search(text) else f"({text})"


def _one(node: sc.Scalar, texts: Mapping[sc.Scalar, tuple[str, int]], reads: Sequence[str]) -> tuple[str, int]:
    match node:
        case sc.Arg():
            return reads[node.index], ATOM
        case sc.Index():
            return axis_name(node.axis), ATOM
        case sc.Size():
            text = extent(node.extent)
            return text, ATOM if text.isalnum() else ADD
        case sc.InBounds():
            inside = [
                rf"0 \le {index(row)} < {extent(size)}" for row, size in zip(node.map.rows, node.shape, strict=True)
            ]
            return r" \wedge ".join(inside) or r"\text{true}", LOGIC
        case sc.Literal():
            text = number(node.value, node.dtype)
            return text, ADD if text.startswith("-") else (MUL if "cdot" in text else ATOM)
        case sc.Apply():
            return _apply(node, [texts[arg] for arg in node.args])


def _apply(node: sc.Apply, args: list[tuple[str, int]]) -> tuple[str, int]:
    op = node.op
    plain = [text for text, _ in args]
    if op in INFIX:
        symbol, level = INFIX[op]
        return f"{bracketed(args[0], level + 1)} {symbol} {bracketed(args[1], level + 1)}", level
    match op:
        case "add":
            right = bracketed(args[1], ADD)
            return (f"{plain[0]} - {right[1:]}" if right.startswith("-") else f"{plain[0]} + {right}"), ADD
        case "sub":
            return f"{bracketed(args[0], ADD)} - {bracketed(args[1], MUL)}", ADD
        case "neg":
            return f"-{bracketed(args[0], MUL)}", ADD
        case "mul":
            if isinstance(node.args[1], sc.Literal):
                args = args[::-1]
            left, right = bracketed(args[0], MUL), bracketed(args[1], MUL)
            return left + (rf" \cdot {right}" if right[:1].isdigit() else rf" \, {right}"), MUL
        case "div":
            return rf"\frac{{{plain[0]}}}{{{plain[1]}}}", FRACTION
        case "floordiv":
            return rf"\left\lfloor \frac{{{plain[0]}}}{{{plain[1]}}} \right\rfloor", ATOM
        case "pow":
            return rf"{{{bracketed(args[0], ATOM)}}}^{{{plain[1]}}}", FRACTION
        case "not":
            return rf"\lnot {bracketed(args[0], ATOM)}", LOGIC
        case "select":
            return cases(*plain)
        case "cast":
            return _cast(node, args[0])
    return call(op, plain)


def call(name: str, args: Sequence[str]) -> tuple[str, int]:
    """A scalar function of arguments, and how tightly it binds."""
    match name:
        case "sqrt":
            return rf"\sqrt{{{args[0]}}}", ATOM
        case "rsqrt":
            return rf"\frac{{1}}{{\sqrt{{{args[0]}}}}}", FRACTION
        case "abs":
            return rf"\left|{args[0]}\right|", ATOM
        case "floor":
            return rf"\left\lfloor {args[0]} \right\rfloor", ATOM
        case "ceil":
            return rf"\left\lceil {args[0]} \right\rceil", ATOM
    function = _FUNCTIONS.get(name) or rf"\operatorname{{{word(name)}}}"
    return function + brackets(", ".join(args)), ATOM


def cases(condition: str, then: str, other: str) -> tuple[str, int]:
    """One of two values."""
    rows = rf"{then} & \text{{if }} {condition} \\ {other} & \text{{otherwise}}"
    return rf"\begin{{cases}} {rows} \end{{cases}}", COMPARE


def literal(value: float | int | bool) -> tuple[str, int]:
    """A number of a body, and how tightly it binds."""
    kind = "int64"
    if isinstance(value, float):
        kind = "float32" if not math.isfinite(value) or float(np.float32(value)) == value else "float64"
    text = number(value, "bool" if isinstance(value, bool) else kind)
    return text, ADD if text.startswith("-") else (MUL if "cdot" in text else ATOM)


def _cast(node: sc.Apply, arg: tuple[str, int]) -> tuple[str, int]:
    """A conversion: of a truth value Iverson's bracket, of a float to an integer a truncation, else nothing."""
    source = node.args[0].dtype
    if source == "bool":
        return square(arg[0]), ATOM
    if source.startswith("float") and not node.dtype.startswith("float"):
        return r"\operatorname{trunc}" + brackets(arg[0]), ATOM
    return arg

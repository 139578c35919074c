"""Write the table of partial derivatives with SymPy: `python -m graphc.rules.generate_partials [--write]`.

Each op is defined in elementary functions and differentiated. Besides the derivative as SymPy gives it, two more kinds
of candidates are found, not typed in:

* another op of the table, or its negative, that equals the derivative (softplus' = sigmoid);
* the derivative in the op's own output. With u for exp(x), sigmoid is out = u/(1+u) and d = u/(1+u)**2; a Groebner
  basis that eliminates u holds the relation d = out - out**2. Every set of unknowns is tried, x and y among them.

Each candidate is written in several ways (expanded, factored, ...) and the cheapest is kept. The cost of an expression:
a function call 20, a quotient 4, a product, sum or difference 1, a change of sign 0.5. At equal cost a product goes
before a sum: out*(1 - out) keeps its digits where out is near 1, as 1 - out is exact there and out - out*out is not.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import sympy as sp

Expr: TypeAlias = Any  # SymPy has no types

x, y = sp.symbols("x y", positive=True)  # positive: roots and logarithms then simplify
out, slope = sp.symbols("out slope")

# The ops with a derivative wherever they are defined, in elementary functions.
DEFINITIONS: Mapping[str, Expr] = {
    "add": x + y,
    "sub": x - y,
    "mul": x * y,
    "div": x / y,
    "neg": -x,
    "exp": sp.exp(x),
    "expm1": sp.exp(x) - 1,
    "log": sp.log(x),
    "log1p": sp.log(1 + x),
    "sqrt": sp.sqrt(x),
    "rsqrt": 1 / sp.sqrt(x),
    "sin": sp.sin(x),
    "cos": sp.cos(x),
    "tan": sp.tan(x),
    "tanh": sp.tanh(x),
    "sigmoid": 1 / (1 + sp.exp(-x)),
    "softplus": sp.log(1 + sp.exp(x)),
    "erf": sp.erf(x),
    "ndtr": (1 + sp.erf(x / sp.sqrt(2))) / 2,
    "atan2": sp.atan2(x, y),
}
BEGIN, END = "# --- generated: begin ---", "# --- generated: end ---"
_CALL, _QUOTIENT, _STEP, _SIGN = 20.0, 4.0, 1.0, 0.5


def block() -> str:
    """The generated block, without its markers.

    >>> '"sigmoid": ("out*(1 - out)",),' in block()
    True
    """
    rows = ["PARTIALS: Mapping[str, tuple[str, ...]] = {"]
    for name, value in DEFINITIONS.items():
        forms = ", ".join(f'"{cheapest(name, value, by)}"' for by in arguments(value))
        rows.append(f'    "{name}": ({forms}{"," if len(arguments(value)) == 1 else ""}),')
    return "\n".join([*rows, "}"]) + "\n"


def arguments(value: Expr) -> tuple[Expr, ...]:
    return tuple(symbol for symbol in (x, y) if value.has(symbol))


def cheapest(name: str, value: Expr, by: Expr) -> str:
    """The best form of d(value)/d(by), as a pattern."""
    direct = sp.diff(value, by)
    found: dict[tuple[float, bool, str], str] = {}
    for candidate in (direct, *known_ops(name, direct), *eliminated(value, direct)):
        for form in written(candidate):
            text, cost = pattern(form)
            found[(cost, form.is_Add, text)] = text
    return found[min(found)]


def known_ops(name: str, direct: Expr) -> Iterator[Expr]:
    """Other ops of one argument that equal the derivative, up to its sign."""
    for other, value in DEFINITIONS.items():
        if other == name or arguments(value) != (x,) or not value.has(sp.Function, sp.exp) or direct.has(y):
            continue
        for sign in (1, -1):
            if abs((direct - sign * value).subs(x, 0.7).evalf()) < 1e-9 and sp.simplify(direct - sign * value) == 0:
                yield sign * sp.Function(other)(x)


def eliminated(value: Expr, direct: Expr) -> Iterator[Expr]:
    """The derivative as a rational function of `out` and what is left of x and y."""
    (value, direct), unknowns, relations = algebraic([value, direct])
    symbols = [*unknowns, *(symbol for symbol in (x, y) if any(e.has(symbol) for e in (value, direct, *relations)))]
    equations = [sp.numer(sp.together(out - value)), sp.numer(sp.together(slope - direct)), *relations]
    if not all(equation.is_polynomial(*symbols, out, slope) for equation in equations):
        return
    for size in range(1, len(symbols) + 1):
        for gone in itertools.combinations(symbols, size):
            kept = [symbol for symbol in symbols if symbol not in gone]
            basis = sp.groebner(equations, *gone, slope, *kept, out, order="lex")
            for relation in basis.exprs:
                relation = sp.expand(relation)
                if not relation.has(*gone) and sp.degree(relation, slope) == 1:
                    solution = -relation.coeff(slope, 0) / relation.coeff(slope, 1)
                    if not any(solution.has(unknown) for unknown in unknowns):
                        yield solution


def algebraic(expressions: list[Expr]) -> tuple[list[Expr], list[Expr], list[Expr]]:
    """The expressions with unknowns for what is not rational in x and y; the unknowns; relations among them."""
    expressions = [e.rewrite(sp.tanh, sp.exp).rewrite(sp.exp) if e.has(sp.tanh) else e for e in expressions]
    u, root = sp.Symbol("u", positive=True), sp.Symbol("root", positive=True)
    unknowns: list[Expr] = []
    relations: list[Expr] = []
    exponentials = {f for e in expressions for f in e.atoms(sp.exp) if f.args[0] / x in (1, -1, 2, -2)}
    if exponentials:
        expressions = [e.subs({f: u ** (f.args[0] / x) for f in exponentials}) for e in expressions]
        unknowns.append(u)
    if any(power.exp.is_Rational and power.exp.q == 2 for e in expressions for power in e.atoms(sp.Pow)):
        expressions = [sp.simplify(e.subs(x, root**2)) for e in expressions]
        unknowns.append(root)
        relations.append(x - root**2)
    functions = sorted({f for e in expressions for f in e.atoms(sp.Function)}, key=sp.default_sort_key)
    for position, function in enumerate(functions):
        unknown = sp.Symbol(f"f{position}")
        expressions = [e.subs(function, unknown) for e in expressions]
        unknowns.append(unknown)
    return expressions, unknowns, relations


def written(expression: Expr) -> list[Expr]:
    """An expression in several ways."""
    ways = (lambda e: e, sp.expand, sp.factor, sp.together, sp.cancel, lambda e: -sp.factor(-e), sp.simplify)
    return list(dict.fromkeys(way(expression) for way in ways))


# --- Patterns ---------------------------------------------------------------------------------------------------------

_SUM, _PRODUCT, _ATOM = 0, 1, 2


def pattern(expression: Expr) -> tuple[str, float]:
    """An expression as the text of a pattern, and its cost."""
    text, _, cost = _write(expression)
    return text, cost


def _write(e: Expr) -> tuple[str, int, float]:
    """Text, how tightly it binds, and cost."""
    if e.is_Symbol:
        return str(e), _ATOM, 0.0
    if e.is_number:
        value = float(e)
        text = str(int(value)) if value.is_integer() else repr(value)
        return text, _ATOM if value >= 0 else _PRODUCT, 0.0
    if e.is_Add:
        return _write_sum(e)
    if e.is_Mul or e.is_Pow:
        return _write_product(e)
    inner = [_write(arg) for arg in e.args]
    name = type(e).__name__ if not hasattr(e.func, "name") else e.func.name
    return f"{name}({', '.join(text for text, _, _ in inner)})", _ATOM, _CALL + sum(cost for _, _, cost in inner)


def _write_sum(e: Expr) -> tuple[str, int, float]:
    """Positive terms first; a number goes last after a positive term: `out + 1`, but `1 - out`."""

    def order(term: Expr) -> Any:
        return term.could_extract_minus_sign(), term.is_number, sp.default_sort_key(term)

    terms = sorted(e.args, key=order)
    text, cost = "", 0.0
    for term in terms:
        is_negative = bool(text) and term.could_extract_minus_sign()
        part, binds, own = _write(-term if is_negative else term)
        part = f"({part})" if binds == _SUM else part
        text += f" {'-' if is_negative else '+'} {part}" if text else part
        cost += own + (_STEP if cost or text != part else 0.0)
    return text, _SUM, cost


def _write_product(e: Expr) -> tuple[str, int, float]:
    number, rest = e.as_coeff_Mul()
    above: list[Expr] = []
    below: list[Expr] = []
    for factor in sp.Mul.make_args(rest):
        base, power = factor.as_base_exp() if factor.is_Pow else (factor, sp.Integer(1))
        if factor.is_number:
            number *= factor
        elif power.is_Integer:
            (above if power > 0 else below).extend([base] * abs(int(power)))
        elif power == sp.Rational(1, 2):
            above.append(sp.Function("sqrt")(base))
        elif power == -sp.Rational(1, 2):
            above.append(sp.Function("rsqrt")(base))
        else:
            above.append(sp.Function("pow")(base, power))
    above.sort(key=lambda factor: (factor.is_Add, bool(factor.is_Function), str(factor)))
    below.sort(key=str)
    is_negated = number == -1 and bool(above)
    top, cost = _factors(above, number if not is_negated and (number != 1 or not above) else None)
    if is_negated:
        top, cost = (f"-({top})" if len(above) > 1 and not below else f"-{top}"), cost + _SIGN
    if not below:
        return top, _PRODUCT, cost
    bottom, own = _factors(below, None)
    return f"{top}/{f'({bottom})' if len(below) > 1 else bottom}", _PRODUCT, cost + own + _QUOTIENT


def _factors(factors: list[Expr], number: Expr | None) -> tuple[str, float]:
    parts: list[str] = [] if number is None else [_write(number)[0]]
    cost = 0.0
    for factor in factors:
        text, binds, own = _write(factor)
        parts.append(text if binds == _ATOM else f"({text})")
        cost += own
    return "*".join(parts), cost + _STEP * (len(parts) - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the table of partial derivatives with SymPy.")
    parser.add_argument("--write", action="store_true", help="put the block between the markers of partials.py")
    text = block()
    if not parser.parse_args().write:
        print(text, end="")
        return
    path = Path(__file__).with_name("partials.py")
    before, rest = path.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    path.write_text(f"{before}{BEGIN}\n{text}{END}{after}", encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()

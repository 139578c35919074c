"""Fit the minimax polynomials of `graphc_llvm.coefficients` and print them as that module's rows.

    python tools/fit_polynomials.py                 every row
    python tools/fit_polynomials.py exp_f32 atan_f64

Method: weighted Remez exchange (E. W. Cheney, Introduction to Approximation Theory, chapter 3) on a Chebyshev
grid in mpmath. The coefficients are then rounded to the target format one at a time, lowest power first,
each time fitting the remaining ones again; where plain rounding of the minimax coefficients is better, that
is kept. Rows with `least_squares` fit the remaining ones by weighted least squares: where the interval has 0 inside,
no later coefficient mends at 0 what rounding the first one did there, and the exchange does not converge.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import mpmath as mp
from mpmath import mpf

Function = Callable[[mpf], mpf]
DIGITS = 45
GRID_POINTS_PER_COEFFICIENT = 40


@dataclass(frozen=True)
class Fit:
    """One row: p(x) with `count` coefficients on [low, high] that minimises max |weight(x) * (function(x) -
    p(x))|.
    """

    name: str
    meaning: str
    count: int
    bits: int
    function: Function
    weight: Function
    low: mpf
    high: mpf
    weight_text: str
    least_squares: bool = False


def _guarded(function: Function) -> Function:
    """Evaluate away from 0 and with eighty digits more: the remainders of series cancel there."""

    def evaluate(x: mpf) -> mpf:
        with mp.workdps(DIGITS + 80):
            return function(mpf(x) if x else mpf(10) ** -30)

    return evaluate


def rounded(value: mpf, bits: int) -> mpf:
    """The nearest number with that many significant bits."""
    if value == 0:
        return mpf(0)
    mantissa, exponent = mp.frexp(value)
    return mp.ldexp(mp.nint(mp.ldexp(mantissa, bits)), exponent - bits)


def _extrema(errors: Sequence[mpf], wanted: int) -> list[int]:
    """Indices of `wanted` extrema of alternating sign, the largest; fewer when there are fewer."""
    found: list[int] = []
    for i, error in enumerate(errors):
        if found and (error > 0) == (errors[found[-1]] > 0):
            if abs(error) > abs(errors[found[-1]]):
                found[-1] = i
        else:
            found.append(i)
    while len(found) > wanted:
        if len(found) == wanted + 1:
            del found[0 if abs(errors[found[0]]) < abs(errors[found[-1]]) else -1]
            continue
        k = min(range(len(found)), key=lambda k: abs(errors[found[k]]))
        if k in (0, len(found) - 1):
            del found[k]
        else:  # drop the weakest with its weaker neighbour, so that signs still alternate
            neighbour = k - 1 if abs(errors[found[k - 1]]) < abs(errors[found[k + 1]]) else k + 1
            for index in sorted((k, neighbour), reverse=True):
                del found[index]
    return found


def remez(values: Sequence[mpf], weights: Sequence[mpf], powers: Sequence[Sequence[mpf]]) -> list[mpf]:
    """Minimax coefficients for samples on a grid; `powers[i]` are the basis functions at point i."""
    count, last = len(powers[0]), len(values) - 1
    reference = [round(i * last / count) for i in range(count + 1)]
    solution: list[mpf] = []
    for _ in range(14):
        matrix, right = mp.matrix(count + 1, count + 1), mp.matrix(count + 1, 1)
        for row, i in enumerate(reference):
            for column in range(count):
                matrix[row, column] = powers[i][column] * weights[i]
            matrix[row, count] = (-1) ** row
            right[row] = values[i] * weights[i]
        solved = mp.lu_solve(matrix, right)
        solution = [solved[k] for k in range(count)]
        errors = [
            weight * (value - mp.fdot(solution, basis))
            for value, weight, basis in zip(values, weights, powers, strict=True)
        ]
        extrema = _extrema(errors, count + 1)
        if len(extrema) < count + 1 or extrema == reference:
            break
        reference = extrema
    return solution


def least_squares(values: Sequence[mpf], weights: Sequence[mpf], powers: Sequence[Sequence[mpf]]) -> list[mpf]:
    """Coefficients of the least weighted squared error over the grid, by the normal equations in twice the digits."""
    with mp.workdps(2 * DIGITS):
        rows = [[weight * power for power in basis] for weight, basis in zip(weights, powers, strict=True)]
        right = [weight * value for weight, value in zip(weights, values, strict=True)]
        columns = list(zip(*rows, strict=True))
        normal = mp.matrix([[mp.fdot(a, b) for b in columns] for a in columns])
        solved = mp.lu_solve(normal, mp.matrix([mp.fdot(a, right) for a in columns]))
        return [solved[k] for k in range(len(columns))]


def fit(row: Fit) -> tuple[list[float], float]:
    """The rounded coefficients, lowest power first, and the largest weighted error over the grid."""
    mp.mp.dps = DIGITS
    points = GRID_POINTS_PER_COEFFICIENT * row.count
    middle, radius = (row.low + row.high) / 2, (row.high - row.low) / 2
    grid = [middle - radius * mp.cos(mp.pi * i / points) for i in range(points + 1)]
    function, weight = _guarded(row.function), _guarded(row.weight)
    values, weights = [+function(x) for x in grid], [+weight(x) for x in grid]
    powers = [[x**k for k in range(row.count)] for x in grid]

    def error(coefficients: Sequence[mpf]) -> mpf:
        return max(
            abs(w * (v - mp.fdot(coefficients, basis))) for v, w, basis in zip(values, weights, powers, strict=True)
        )

    minimax = remez(values, weights, powers)
    plain = [rounded(c, row.bits) for c in minimax]
    refitted: list[mpf] = []
    remaining, current = list(values), minimax
    for k in range(row.count):
        refitted.append(rounded(current[0], row.bits))
        remaining = [v - refitted[k] * basis[k] for v, basis in zip(remaining, powers, strict=True)]
        if k + 1 < row.count:
            again = least_squares if row.least_squares else remez
            current = again(remaining, weights, [basis[k + 1:] for basis in powers])
    best, worst = min(((c, error(c)) for c in (plain, refitted)), key=lambda pair: pair[1])
    return [float(c) for c in best], float(worst)


def _rows() -> tuple[Fit, ...]:
    mp.mp.dps = DIGITS
    sqrt = mp.sqrt
    half_ln2 = mp.log(2) / 2 * mpf("1.0005")
    eighth_turn = (mp.pi / 4 * mpf("1.0005")) ** 2
    octant = (sqrt(mpf(2)) - 1) ** 2 * mpf("1.0005")
    atanh_high = mpf("0.2001") ** 2

    def exponential(r: mpf) -> mpf:
        return (mp.exp(r) - 1 - r) / r**2

    def logarithm(f: mpf) -> mpf:
        return (mp.log1p(f) - f + f * f / 2) / f**3

    def sine(z: mpf) -> mpf:
        return (mp.sin(sqrt(z)) - sqrt(z)) / sqrt(z) ** 3

    def cosine(z: mpf) -> mpf:
        return (mp.cos(sqrt(z)) - 1 + z / 2) / z**2

    def arctangent(z: mpf) -> mpf:
        return (mp.atan(sqrt(z)) - sqrt(z)) / sqrt(z) ** 3

    def log_erfc(x: mpf) -> mpf:
        return -mp.log(mp.erfc(x))

    def tail_of(shift: int, centre: mpf) -> Function:
        def tail(w: mpf) -> mpf:
            t = 1 / (w + centre) - shift
            return mp.erfc(t / sqrt(mpf(2))) / 2 * mp.exp(t * t / 2) * (t + shift)

        return tail

    def inverse_of(function: Function) -> Function:
        return lambda x: 1 / function(x)

    def row(
        name: str, meaning: str, count: int, bits: int, function: Function, weight: Function, low: mpf, high: mpf,
        weight_text: str,
    ) -> Fit:
        return Fit(name, meaning, count, bits, function, weight, mpf(low), mpf(high), weight_text)

    exp_text, expm1_text = "exp(r) = 1 + r + r^2 q(r)", "expm1(r) = r + r^2 q(r)"
    sin_text, cos_text = "sin(r) = r + r^3 S(r^2)", "cos(r) = 1 - r^2/2 + r^4 C(r^2)"
    wide = "; for float32 results computed in float64"
    atan_text = "atan(t) = t + t^3 A(t^2)"
    made: list[Fit] = []
    for name, bits, counts in (("f32", 24, (5, 6)), ("f64", 53, (10, 11))):
        made.append(row(f"exp_{name}", exp_text, counts[0], bits, exponential,
                        lambda r: r**2 / mp.exp(r), -half_ln2, half_ln2, "relative to exp(r)"))
        made.append(row(f"expm1_{name}", expm1_text, counts[1], bits, exponential,
                        lambda r: r**2 / mp.expm1(r), -half_ln2, half_ln2, "relative to expm1(r)"))
    made.append(row("log_f32", "log(1+f) = f + f^2 (-1/2 + f P(f))", 8, 24, logarithm,
                    lambda f: f**3 / mp.log1p(f), mpf("-0.25"), mpf("0.5"), "relative to log(1+f)"))
    made.append(row("log_f64", "2 atanh(s) = 2s + s^3 R(s^2), s = f/(2+f)", 8, 53,
                    lambda z: (2 * mp.atanh(sqrt(z)) - 2 * sqrt(z)) / sqrt(z) ** 3,
                    lambda z: sqrt(z) ** 3 / (2 * mp.atanh(sqrt(z))), mpf(0), atanh_high, "relative to log(1+f)"))
    made.append(row("log_tail_f64", "2 atanh(s) = 2s + 2/3 s^3 + s^5 T(s^2): for the double-double log of pow",
                    9, 53, lambda z: (2 * mp.atanh(sqrt(z)) - 2 * sqrt(z) - 2 * sqrt(z)**3 / 3) / sqrt(z) ** 5,
                    lambda z: sqrt(z) ** 5 / (2 * mp.atanh(sqrt(z))), mpf(0), atanh_high, "relative to log(1+f)"))
    for name, bits, sin_count, cos_count, what in (
        ("f32", 24, 3, 3, ""), ("f32_wide", 53, 4, 3, wide), ("f64", 53, 6, 6, ""),
    ):
        made.append(row(f"sin_{name}", sin_text + what, sin_count, bits, sine,
                        lambda z: sqrt(z) ** 3 / mp.sin(sqrt(z)), mpf(0), eighth_turn, "relative to sin(r)"))
        made.append(row(f"cos_{name}", cos_text + what, cos_count, bits, cosine,
                        lambda z: z**2 / mp.cos(sqrt(z)), mpf(0), eighth_turn, "relative to cos(r)"))
    for name, count in (("f32_wide", 6), ("f64", 11)):
        made.append(row(f"atan_{name}", atan_text, count, 53, arctangent,
                        lambda z: sqrt(z) ** 3 / mp.atan(sqrt(z)), mpf(0), octant, "relative to atan(t)"))
    made.append(row("tanh_f32", "tanh(x) = x + x^3 T(x^2)", 5, 24,
                    lambda z: (mp.tanh(sqrt(z)) - sqrt(z)) / sqrt(z) ** 3,
                    lambda z: sqrt(z) ** 3 / mp.tanh(sqrt(z)), mpf(0), mpf("0.626") ** 2, "relative to tanh(x)"))
    log1p_centre = mpf(49) / 64
    made.append(Fit("softplus_f32", "log1p(e) = e + e^2 P(e - 49/64), 0 <= e <= 1", 10, 24,
                    lambda w: (mp.log1p(w + log1p_centre) - w - log1p_centre) / (w + log1p_centre) ** 2,
                    lambda w: (w + log1p_centre) ** 2 / mp.log1p(w + log1p_centre),
                    mpf("1e-20") - log1p_centre, 1 - log1p_centre, "relative to log1p(e)", least_squares=True))
    made.append(row("exp2_f32_wide", "2^r, for float32 results computed in float64", 7, 53,
                    lambda r: mp.power(2, r), lambda r: mp.power(2, -r), mpf("-0.5"), mpf("0.5"), "relative to 2^r"))
    made.append(row("log2_f32_wide", "log2(1+f) = f L(f), for float32 results computed in float64", 13, 53,
                    lambda f: mp.log1p(f) / f / mp.log(2), lambda f: f * mp.log(2) / mp.log1p(f),
                    mpf("-0.25"), mpf("0.5"), "relative to log2(1+f)"))
    for name, bits, small, tail, split, end in (
        ("f32", 24, 6, 8, mpf("0.93"), mpf("3.95")), ("f64", 53, 13, 19, mpf("1.01"), mpf("5.95")),
    ):
        made.append(row(f"erf_small_{name}", "erf(x) = x + x P(x^2)", small, bits,
                        lambda z: mp.erf(sqrt(z)) / sqrt(z) - 1, lambda z: sqrt(z) / mp.erf(sqrt(z)),
                        mpf(0), split**2, "relative to erf(x)"))
        shift = ERF_TAIL_CENTRE[name]
        made.append(row(f"erf_tail_{name}", f"erf(x) = 1 - exp(-g(x - {shift})), x > 0", tail, bits,
                        lambda t, shift=shift: log_erfc(t + shift),  # type: ignore[misc]
                        lambda t, shift=shift: mp.erfc(t + shift) / mp.erf(t + shift),  # type: ignore[misc]
                        split - mpf("0.01") - shift, end - shift, "erfc/erf: the error of g as it reaches erf"))
    for name, bits, count, shift, centre, end in (
        ("f32", 24, 11, 3, mpf(29) / 128, mpf("14.3")), ("f64", 53, 24, 4, mpf(101) / 1024, mpf("38.7")),
    ):
        meaning = f"Phi(-t) = exp(-t^2/2) v H(v - {float(centre)!r}), v = 1/(t + {shift}), t >= 0"
        tail = tail_of(shift, centre)
        made.append(Fit(f"ndtr_{name}", meaning, count, bits, tail, inverse_of(tail), 1 / (end + shift) - centre,
                        1 / mpf(shift) - centre, "relative to H", least_squares=True))
    return tuple(made)


# The tail polynomial of erf is in x - centre: for float64 about the middle, to keep the coefficients small.
ERF_TAIL_CENTRE = {"f32": 0.0, "f64": 2.5}
ROWS = {row.name: row for row in _rows()}


def row_source(row: Fit) -> str:
    """The row as it stands in coefficients.py."""
    coefficients, worst = fit(row)
    exponent = float(mp.log(worst, 2))
    words = [f'"{c.hex()}",' for c in coefficients]
    listed = "\n".join(" " * 12 + " ".join(words[i:i + 3]) for i in range(0, len(words), 3))
    return (
        f'    "{row.name}": Polynomial(\n        meaning="{row.meaning}",\n'
        f"        interval=({float(row.low)!r}, {float(row.high)!r}),\n"
        f'        weight="{row.weight_text}",\n        log2_error={exponent:.2f},\n'
        f"        coefficients=_hex(\n{listed}\n"
        f"        ),\n    ),"
    )


if __name__ == "__main__":
    for wanted in sys.argv[1:] or ROWS:
        print(row_source(ROWS[wanted]), flush=True)

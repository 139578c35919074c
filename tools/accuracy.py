"""Measure the vector functions and write the tables of docs/accuracy.md: `make accuracy`.

    python tools/accuracy.py                      everything: an hour or two of one core
    python tools/accuracy.py exp gelu             these functions' rows; the others stay
    python tools/accuracy.py --only float64 exp   one of the tables: native, x86-64-v3, x86-64, float64

Exits with 1 where a function is above its bound.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from vecmath_exhaustive import BINARY, FUNCTIONS, GELU_TAIL, Sweep, cores, hexadecimal, idle, sweep
from vecmath_float64 import POINTS, compare

from graphc_llvm.target import host_target

PAGE = Path(__file__).parents[1] / "docs" / "accuracy.md"
SAMPLED = 16  # on processors other than the one at hand, every 16th block of 4096 inputs
TABLES = ("native", "x86-64-v3", "x86-64", "float64")
HEADER = "| function | method | bound | largest error | at | inputs | measured |\n|---|---|---|---|---|---|---|\n"
INFINITY = float("inf")


@dataclass(frozen=True)
class Row:
    """A line of the float32 tables: a function, or a part of its domain."""

    title: str
    function: str
    bound: float
    low: float = -INFINITY
    high: float = INFINITY


# The largest errors allowed, in units in the last place. Below GELU_TAIL the results are small, and their last places
# too; there Phi and gelu keep their relative accuracy down to denormal results.
_JUST_BELOW = -1.0000001192092896  # the float32 after -1
FLOAT32 = (
    *(Row(name, name, 2.0 if name in BINARY else 1.5) for name in sorted(set(FUNCTIONS) - {"ndtr"})),
    Row("ndtr, x >= -1", "ndtr", 1.5, low=GELU_TAIL),
    Row("ndtr, x < -1", "ndtr", 4.0, high=_JUST_BELOW),
    Row("gelu, x >= -1", "gelu", 1.5, low=GELU_TAIL),
    Row("gelu, x < -1", "gelu", 4.0, high=_JUST_BELOW),
    Row("gelu', x >= 0", "gelu_slope", 2.0, low=0.0),
    Row("gelu', -13 <= x < -1", "gelu_slope", 8.0, low=-13.0, high=_JUST_BELOW),
)
FLOAT64 = tuple(Row(name, name, 2.0) for name in [*sorted(FUNCTIONS), "gelu"])

# In a few words, for float32 and float64.
METHODS: Mapping[str, tuple[str, str]] = {
    "atan2": ("float64 lanes; quotient, turned by pi/4; odd polynomial", "quotient, turned by pi/4; odd polynomial"),
    "cos": ("pi/2 in three parts; float64 lanes without FMA", "pi/2 in three parts, r in two"),
    "erf": ("odd polynomial; 1 - exp(-g) beyond 0.925", "odd polynomial; 1 - exp(-g) beyond 1"),
    "exp": ("ln 2 in two parts, degree 6", "ln 2 in two parts, degree 11"),
    "expm1": ("as exp, the last sum compensated", "as exp, the last sum compensated"),
    "gelu": ("as ndtr, times x before 2^n", "as ndtr, times x before 2^n"),
    "gelu_slope": ("Phi + x phi, phi with the error of x^2", "Phi + x phi, phi with the error of x^2"),
    "log": ("k ln 2 + f - f^2/2 + f^3 P(f)", "k ln 2 + 2 atanh(f/(2+f))"),
    "log1p": ("log of 1 + x, with its rounding error", "log of 1 + x, with its rounding error"),
    "ndtr": ("exp(-t^2/2) v H(v), v = 1/(t+3), errors carried", "exp(-t^2/2) v H(v), v = 1/(t+4), errors carried"),
    "pow": ("float64 lanes: 2^(y log2 x)", "exp of y times a double-double logarithm"),
    "rsqrt": ("AVX-512: Newton from 14 bits; else 1/sqrt", "AVX-512: Newton twice from 14 bits; else 1/sqrt"),
    "sigmoid": ("exp(-abs x) and the quotient with their low parts",) * 2,
    "sin": ("pi/2 in three parts, r with its error; float64 lanes without FMA", "pi/2 in three parts, r in two"),
    "softplus": ("max(x, 0) + log1p(exp(-abs x)), compensated", "max(x, 0) + log1p(exp(-abs x))"),
    "sqrt": ("the instruction", "the instruction"),
    "tan": ("float64 lanes: sine over cosine", "sine over cosine, with their low parts"),
    "tanh": ("odd polynomial; 1 - 2/(exp(2 abs x) + 1) beyond 0.625", "E/(E + 2), E = expm1(2 abs x), with low parts"),
}
_ROW = re.compile(r"^\| `([^`]+)` \|.*\|$", re.MULTILINE)


def title_of(table: str) -> str:
    """The heading of a table; the native one names the processor."""
    if table == "float64":
        return f"float64 on {host_target().cpu}, {POINTS:,} stratified points against mpmath"
    if table == "native":
        return f"float32 on {host_target().cpu}, every input (2^32; or 2^32 random pairs)"
    return f"float32 on {table}, every {SAMPLED}th block of 4,096 inputs"


def measure(table: str, row: Row, jobs: int) -> Sweep:
    """The largest error of a row."""
    if table == "float64":
        return compare(row.function, POINTS, jobs)
    every = 1 if table == "native" else SAMPLED
    return sweep(row.function, every, table, jobs, row.low, row.high)


def line_of(table: str, row: Row, found: Sweep) -> str:
    """The line of the page."""
    method = METHODS[row.function][table == "float64"]
    return (
        f"| `{row.title}` | {method} | {row.bound:g} | {found.error:.3f} | {hexadecimal(found.where)} | "
        f"{found.count:,} | {date.today().isoformat()} |"
    )


def replaced(page: str, table: str, lines: Mapping[str, str]) -> str:
    """The page with these lines, by title, in the table; its other lines stay, in the order of the rows."""
    heading = f"## {title_of(table)}\n\n"
    before, found, rest = page.partition(heading)
    body, following = "", ""
    if found:
        body, mark, following = rest.partition("\n## ")
        following = mark + following
    else:
        before = before.rstrip("\n") + "\n\n"
    known = {match[1]: match[0] for match in _ROW.finditer(body)} | dict(lines)
    order = [row.title for row in (FLOAT64 if table == "float64" else FLOAT32)]
    listed = "".join(known[title] + "\n" for title in order if title in known)
    return f"{before}{heading}{HEADER}{listed}{following}"


def main() -> None:
    """Read the command line, measure, and write each row as it is found."""
    parser = argparse.ArgumentParser(description="measure the vector functions and write docs/accuracy.md")
    parser.add_argument("names", nargs="*", help="functions; all by default")
    parser.add_argument("--only", choices=TABLES, action="append", help="the tables to measure; all by default")
    parser.add_argument("--jobs", type=int, default=cores(), help="threads or processes")
    options = parser.parse_args()
    idle()
    above = 0
    for table in options.only or TABLES:
        for row in FLOAT64 if table == "float64" else FLOAT32:
            if options.names and row.function not in options.names:
                continue
            found = measure(table, row, options.jobs)
            line = line_of(table, row, found)
            PAGE.write_text(replaced(PAGE.read_text(encoding="utf-8"), table, {row.title: line}), encoding="utf-8")
            print(table, line, flush=True)
            above += found.error > row.bound
    sys.exit(1 if above else 0)


if __name__ == "__main__":
    main()

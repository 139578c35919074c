"""The vector functions: one table from a function's name to the emitter of its IR.

Each emitter takes the builder and operands of one float type (f32 or f64, scalar or any number of lanes) and
returns a value of that type. All code is inlined polynomials: no library call, no undefined symbol;
trigonometric functions may add one internal helper function and one table to the module. The result of a
lane depends on that lane alone and is bit for bit the same at every lane count. NaN, infinities and signed
zeros follow C99's Annex F and NumPy.

    y = FUNCTIONS["exp"](b, x)
    angle = FUNCTIONS["atan2"](b, y, x)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from graphc_llvm import vecmath_exponential as exponential
from graphc_llvm import vecmath_logarithm as logarithm
from graphc_llvm import vecmath_normal as normal
from graphc_llvm import vecmath_trigonometry as trigonometry
from graphc_llvm.emit import Builder, Value
from graphc_llvm.vecmath_avx512 import rsqrt14

Emitter = Callable[..., Value]


def sqrt(b: Builder, x: Value) -> Value:
    """The square root, correctly rounded."""
    return b.sqrt(x)


def rsqrt(b: Builder, x: Value) -> Value:
    """1 / sqrt(x): rounded twice, or on AVX-512, where that takes long, by Newton's iteration from 14 bits."""
    if not b.module.has_avx512:
        return b.div(1.0, b.sqrt(x))
    start = y = rsqrt14(b, x)
    if x.type.kind == "f64":
        rest = b.fma(b.neg(b.mul(x, y)), y, 1.0)
        y = b.fma(b.mul(y, rest), b.fma(rest, 0.375, 0.5), y)
    rest = b.fma(b.neg(b.mul(x, y)), y, 1.0)
    y = b.fma(b.mul(y, 0.5), rest, y)
    return b.select(b.fcmp("uno", y, y), start, y)  # 0 * infinity, at 0 and at infinity, where the start is exact


FUNCTIONS: Final[Mapping[str, Emitter]] = {
    "exp": exponential.exp,
    "expm1": exponential.expm1,
    "log": logarithm.log,
    "log1p": logarithm.log1p,
    "sin": trigonometry.sin,
    "cos": trigonometry.cos,
    "tan": trigonometry.tan,
    "tanh": exponential.tanh,
    "sigmoid": exponential.sigmoid,
    "softplus": exponential.softplus,
    "erf": exponential.erf,
    "ndtr": normal.ndtr,
    "sqrt": sqrt,
    "rsqrt": rsqrt,
    "pow": logarithm.pow,
    "atan2": trigonometry.atan2,
}
BINARY: Final = frozenset({"pow", "atan2"})

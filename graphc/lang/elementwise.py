"""Elementwise ops under NumPy's names: arithmetic, comparison, transcendental functions, where and clip."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.errors import DTypeError
from graphc.ir import build
from graphc.ir import scalar as sc
from graphc.ir.dtypes import as_dtype, is_float, promote, promote_weak
from graphc.ir.node import Node
from graphc.lang.source import named_op
from graphc.lang.tensor import Tensor, TensorLike, as_tensor, constant

Body = Callable[..., sc.Scalar]


def is_weak(value: Any) -> bool:
    """Python and NumPy scalars take the dtype of what they meet."""
    return isinstance(value, (bool, int, float, np.generic)) or (isinstance(value, np.ndarray) and value.ndim == 0)


def combine(op: str, values: tuple[TensorLike, ...], body: Body, floating: bool = False) -> Tensor:
    """body over the values, broadcast and promoted to one dtype (a float one when `floating`)."""
    nodes: list[Node] = []
    dtype: str | None = None
    for value in values:
        if not is_weak(value):
            tensor = as_tensor(value, op)
            nodes.append(tensor.node)
            dtype = tensor.dtype if dtype is None else promote(dtype, tensor.dtype)
    weak = [
        value.item() if isinstance(value, (np.generic, np.ndarray)) else value for value in values if is_weak(value)
    ]
    if dtype is None:
        dtype = constant(weak[0]).dtype
    for value in weak:
        dtype = promote_weak(dtype, value)
    if floating and not is_float(dtype):
        dtype = "float32"
    reads = iter(range(len(nodes)))
    numbers = iter(weak)
    args: list[sc.Scalar] = []
    for value in values:
        if is_weak(value):
            args.append(sc.literal(next(numbers), dtype))
        else:
            j = next(reads)
            args.append(sc.cast(sc.Arg(j, nodes[j].dtype), dtype))
    if not nodes:
        return Tensor(build.fill((), _literal_value(body(*args)), dtype))
    return Tensor(build.elementwise(op, nodes, body(*args)))


def _literal_value(node: sc.Scalar) -> Any:
    if not isinstance(node, sc.Literal):
        raise DTypeError("an op on plain numbers: use Python's math, or make one of them a tensor")
    return node.value


def _apply(name: str) -> Body:
    return lambda *args: sc.apply(name, *args)


def _float_op(name: str, numpy_name: str, text: str) -> Callable[[TensorLike], Tensor]:
    def function(x: TensorLike) -> Tensor:
        return combine(numpy_name, (x,), _apply(name), floating=True)

    function.__name__ = function.__qualname__ = numpy_name
    function.__doc__ = f"{text}, elementwise. Integers become float32; the shape is x's."
    return named_op(function)


sqrt = _float_op("sqrt", "sqrt", "Square root (NaN below 0)")
rsqrt = _float_op("rsqrt", "rsqrt", "1 / sqrt(x)")
exp = _float_op("exp", "exp", "Exponential")
expm1 = _float_op("expm1", "expm1", "exp(x) - 1, accurate near 0")
log = _float_op("log", "log", "Natural logarithm")
log1p = _float_op("log1p", "log1p", "log(1 + x), accurate near 0")
sin = _float_op("sin", "sin", "Sine of radians")
cos = _float_op("cos", "cos", "Cosine of radians")
tan = _float_op("tan", "tan", "Tangent of radians")
tanh = _float_op("tanh", "tanh", "Hyperbolic tangent")
sigmoid = _float_op("sigmoid", "sigmoid", "1 / (1 + exp(-x))")
softplus = _float_op("softplus", "softplus", "log(1 + exp(x)), without overflow")
erf = _float_op("erf", "erf", "Error function")
ndtr = _float_op("ndtr", "ndtr", "Standard normal distribution function, with small relative error in both tails")
floor = _float_op("floor", "floor", "Greatest whole number not above x (derivative 0)")
ceil = _float_op("ceil", "ceil", "Least whole number not below x (derivative 0)")
rint = _float_op("rint", "rint", "Nearest whole number, ties to even (derivative 0)")


@named_op
def negative(x: TensorLike) -> Tensor:
    """-x."""
    return combine("negative", (x,), _apply("neg"))


@named_op
def absolute(x: TensorLike) -> Tensor:
    """|x|; its derivative at 0 is 0."""
    return combine("absolute", (x,), _apply("abs"))


abs = absolute


@named_op
def sign(x: TensorLike) -> Tensor:
    """-1, 0 or 1 (derivative 0)."""
    return combine("sign", (x,), _apply("sign"))


@named_op
def square(x: TensorLike) -> Tensor:
    """x * x."""
    return combine("square", (x,), lambda a: sc.apply("mul", a, a))


@named_op
def reciprocal(x: TensorLike) -> Tensor:
    """1 / x."""
    return combine("reciprocal", (x,), lambda a: sc.apply("div", sc.literal(1, a.dtype), a), floating=True)


@named_op
def log2(x: TensorLike) -> Tensor:
    """Logarithm to base 2."""
    return combine("log2", (x,), lambda a: _scaled("log", a, 1 / math.log(2)), floating=True)


@named_op
def log10(x: TensorLike) -> Tensor:
    """Logarithm to base 10."""
    return combine("log10", (x,), lambda a: _scaled("log", a, 1 / math.log(10)), floating=True)


def _scaled(op: str, a: sc.Scalar, factor: float) -> sc.Scalar:
    return sc.apply("mul", sc.apply(op, a), sc.literal(factor, a.dtype))


@named_op
def exp2(x: TensorLike) -> Tensor:
    """2 ** x."""
    return combine("exp2", (x,), lambda a: sc.apply("pow", sc.literal(2, a.dtype), a), floating=True)


@named_op
def sinh(x: TensorLike) -> Tensor:
    """Hyperbolic sine, by expm1: with e = expm1(|x|), sign(x) (e + e/(e+1)) / 2."""

    def body(a: sc.Scalar) -> sc.Scalar:
        e = sc.apply("expm1", sc.apply("abs", a))
        one, half = sc.literal(1, a.dtype), sc.literal(0.5, a.dtype)
        quotient = sc.apply("div", one, sc.apply("add", one, sc.apply("div", one, e)))
        magnitude = sc.apply("add", sc.apply("mul", half, e), sc.apply("mul", half, quotient))
        small = sc.apply("eq", e, sc.literal(0, a.dtype))
        return sc.apply("select", small, a, sc.apply("mul", sc.apply("sign", a), magnitude))

    return combine("sinh", (x,), body, floating=True)


@named_op
def cosh(x: TensorLike) -> Tensor:
    """Hyperbolic cosine: exp(|x|)/2 + exp(-|x|)/2."""

    def body(a: sc.Scalar) -> sc.Scalar:
        half = sc.literal(0.5, a.dtype)
        size = sc.apply("abs", a)
        up, down = sc.apply("exp", size), sc.apply("exp", sc.apply("neg", size))
        return sc.apply("add", sc.apply("mul", half, up), sc.apply("mul", half, down))

    return combine("cosh", (x,), body, floating=True)


@named_op
def arctan2(y: TensorLike, x: TensorLike) -> Tensor:
    """The angle of the point (x, y), in (-pi, pi]."""
    return combine("arctan2", (y, x), _apply("atan2"), floating=True)


@named_op
def arctan(x: TensorLike) -> Tensor:
    """Inverse tangent."""
    return combine("arctan", (x,), lambda a: sc.apply("atan2", a, sc.literal(1, a.dtype)), floating=True)


def _root_of_complement(a: sc.Scalar) -> sc.Scalar:
    """sqrt((1 - a)(1 + a))"""
    one = sc.literal(1, a.dtype)
    return sc.apply("sqrt", sc.apply("mul", sc.apply("sub", one, a), sc.apply("add", one, a)))


@named_op
def arcsin(x: TensorLike) -> Tensor:
    """Inverse sine: atan2(x, sqrt((1-x)(1+x)))."""
    return combine("arcsin", (x,), lambda a: sc.apply("atan2", a, _root_of_complement(a)), floating=True)


@named_op
def arccos(x: TensorLike) -> Tensor:
    """Inverse cosine: atan2(sqrt((1-x)(1+x)), x)."""
    return combine("arccos", (x,), lambda a: sc.apply("atan2", _root_of_complement(a), a), floating=True)


@named_op
def isnan(x: TensorLike) -> Tensor:
    """Where x is not a number, as bool."""
    return combine("isnan", (x,), _apply("isnan"), floating=True)


@named_op
def add(x: TensorLike, y: TensorLike) -> Tensor:
    """x + y (or, for two bools)."""
    return combine("add", (x, y), lambda a, b: sc.apply("or" if a.dtype == "bool" else "add", a, b))


@named_op
def subtract(x: TensorLike, y: TensorLike) -> Tensor:
    """x - y."""
    return combine("subtract", (x, y), _no_bools("subtract", "sub"))


@named_op
def multiply(x: TensorLike, y: TensorLike) -> Tensor:
    """x * y (and, for two bools)."""
    return combine("multiply", (x, y), lambda a, b: sc.apply("and" if a.dtype == "bool" else "mul", a, b))


@named_op
def divide(x: TensorLike, y: TensorLike) -> Tensor:
    """x / y; integers become float32."""
    return combine("divide", (x, y), _apply("div"), floating=True)


@named_op
def floor_divide(x: TensorLike, y: TensorLike) -> Tensor:
    """floor(x / y); an integer divided by 0 is 0."""
    return combine("floor_divide", (x, y), _no_bools("floor_divide", "floordiv"))


@named_op
def remainder(x: TensorLike, y: TensorLike) -> Tensor:
    """x - y * floor(x / y), with the sign of y."""
    return combine("remainder", (x, y), _no_bools("remainder", "mod"))


@named_op
def power(x: TensorLike, y: TensorLike) -> Tensor:
    """x ** y."""
    return combine("power", (x, y), _no_bools("power", "pow"))


def _no_bools(name: str, op: str) -> Body:
    def body(a: sc.Scalar, b: sc.Scalar) -> sc.Scalar:
        if a.dtype == "bool":
            raise DTypeError(f"{name} of two bools is not defined; cast one with astype")
        return sc.apply(op, a, b)

    return body


@named_op
def maximum(x: TensorLike, y: TensorLike) -> Tensor:
    """The greater of two; NaN where either is. Of two equal arguments each gets half of the gradient."""
    return combine("maximum", (x, y), _apply("maximum"))


@named_op
def minimum(x: TensorLike, y: TensorLike) -> Tensor:
    """The lesser of two; NaN where either is. Of two equal arguments each gets half of the gradient."""
    return combine("minimum", (x, y), _apply("minimum"))


def _comparison(name: str, op: str, swap: bool, text: str) -> Callable[[TensorLike, TensorLike], Tensor]:
    def function(x: TensorLike, y: TensorLike) -> Tensor:
        return combine(name, (y, x) if swap else (x, y), _apply(op))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"{text}, elementwise, as bool (derivative 0)."
    return named_op(function)


equal = _comparison("equal", "eq", False, "x == y")
not_equal = _comparison("not_equal", "ne", False, "x != y")
less = _comparison("less", "lt", False, "x < y")
less_equal = _comparison("less_equal", "le", False, "x <= y")
greater = _comparison("greater", "lt", True, "x > y")
greater_equal = _comparison("greater_equal", "le", True, "x >= y")


def _as_bool(a: sc.Scalar) -> sc.Scalar:
    return a if a.dtype == "bool" else sc.apply("ne", a, sc.literal(0, a.dtype))


def _logical(name: str, op: str) -> Callable[[TensorLike, TensorLike], Tensor]:
    def function(x: TensorLike, y: TensorLike) -> Tensor:
        return combine(name, (x, y), lambda a, b: sc.apply(op, _as_bool(a), _as_bool(b)))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"Logical {op}, elementwise; a number counts as true when it is not 0."
    return named_op(function)


logical_and = _logical("logical_and", "and")
logical_or = _logical("logical_or", "or")
logical_xor = _logical("logical_xor", "xor")


@named_op
def logical_not(x: TensorLike) -> Tensor:
    """Logical not, elementwise."""
    return combine("logical_not", (x,), lambda a: sc.apply("not", _as_bool(a)))


@named_op
def where(condition: TensorLike, x: TensorLike, y: TensorLike) -> Tensor:
    """x where the condition holds, y elsewhere; only the side that is taken gets a gradient."""
    mask = as_tensor(condition, "where")
    if mask.dtype != "bool":
        mask = not_equal(mask, 0)

    nodes = [mask.node, *(as_tensor(v, "where").node for v in (x, y) if not is_weak(v))]
    dtypes = [node.dtype for node in nodes[1:]]
    weak = [v.item() if isinstance(v, (np.generic, np.ndarray)) else v for v in (x, y) if is_weak(v)]
    dtype = promote(*dtypes) if dtypes else constant(weak[0]).dtype
    for value in weak:
        dtype = promote_weak(dtype, value)
    args: list[sc.Scalar] = []
    position = 1
    for value in (x, y):
        if is_weak(value):
            args.append(sc.literal(value, dtype))
        else:
            args.append(sc.cast(sc.Arg(position, nodes[position].dtype), dtype))
            position += 1
    return Tensor(build.elementwise("where", nodes, sc.apply("select", sc.Arg(0, "bool"), *args)))


@named_op
def clip(x: TensorLike, low: TensorLike | None = None, high: TensorLike | None = None) -> Tensor:
    """x limited to [low, high]; the gradient passes where low <= x <= high, the bounds included."""
    result = as_tensor(x, "clip")
    if low is not None:
        result = where(less(result, low), low, result)
    if high is not None:
        result = where(less(high, result), high, result)
    return result


@named_op
def astype(x: TensorLike, dtype: Any) -> Tensor:
    """x converted to another dtype; floats are truncated towards zero to become integers."""
    return Tensor(build.cast_node(as_tensor(x).node, as_dtype(dtype, "astype")))

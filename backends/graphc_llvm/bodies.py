"""Scalar bodies as vector IR: one expression DAG over values of equal lanes.

Values are f32, f64, i32 (int32 and uint32), i64 and i1 (bool). In memory a bool is one byte, 0 or 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from graphc.ir import scalar as sc
from graphc_llvm.emit import F64, Builder, Type, Value
from graphc_llvm.vecmath import FUNCTIONS
from graphc_llvm.vecmath_normal import exp_of_square, gelu
from graphc_llvm.vecmath_trigonometry import sine_and_cosine

KINDS: Mapping[str, str] = {
    "float32": "f32",
    "float64": "f64",
    "int32": "i32",
    "uint32": "i32",
    "int64": "i64",
    "bool": "i1",
}


def memory_kind(dtype: str) -> str:
    """The kind of an element in memory."""
    return "i8" if dtype == "bool" else KINDS[dtype]


def value_type(dtype: str, lanes: int) -> Type:
    """The type of a value of this dtype."""
    return Type(KINDS[dtype], lanes)


def emit_map_body(b: Builder, body: sc.Scalar, lanes: int, reads: Mapping[int, Value]) -> Value:
    """Emit a body that only reads operands, whose values are given by number: a stage of an epilogue."""

    def index(axis: int) -> Value:
        raise ValueError(f"an epilogue cannot use the loop index {axis}")

    def inside(test: sc.InBounds) -> Value:
        raise ValueError(f"an epilogue cannot test bounds: {test.map}")

    return emit_body(b, body, lanes, lambda arg: reads[arg.index], index, inside)


def emit_body(
    b: Builder,
    body: sc.Scalar,
    lanes: int,
    read: Callable[[sc.Arg], Value],
    index: Callable[[int], Value],
    inside: Callable[[sc.InBounds], Value],
) -> Value:
    """Emit a body. `read` gives the value of an operand, `index` a loop index (i64) and `inside` the outcome of a
    bounds test (i1), each with `lanes` lanes."""
    return emit_bodies(b, [body], lanes, read, index, inside)[0]


def emit_bodies(
    b: Builder,
    bodies: Sequence[sc.Scalar],
    lanes: int,
    read: Callable[[sc.Arg], Value],
    index: Callable[[int], Value],
    inside: Callable[[sc.InBounds], Value],
) -> list[Value]:
    """Emit several bodies as `emit_body` does one; their common terms are computed once."""
    done: dict[sc.Scalar, Value] = {}
    order = sc.postorder(*bodies)
    fused: dict[sc.Scalar, Fused] = {
        node: found for node in order if isinstance(node, sc.Apply) and (found := _fused(node))
    }
    needed = _needed(order, bodies, fused) if fused else order
    both = _both(needed)
    for node in needed:
        match node:
            case sc.Arg():
                done[node] = read(node)
            case sc.Index():
                done[node] = index(node.axis)
            case sc.InBounds():
                done[node] = inside(node)
            case sc.Literal():
                done[node] = b.const(value_type(node.dtype, lanes), node.value)
            case sc.Apply(op="cast"):
                done[node] = _cast(b, done[node.args[0]], node.args[0].dtype, node.dtype, lanes)
            case sc.Apply() if node in fused:
                emit, x = fused[node]
                done[node] = emit(b, done[x])
            case sc.Apply() if node in both:
                if node not in done:
                    sine, cosine = both[node]
                    done[sine], done[cosine] = sine_and_cosine(b, done[node.args[0]])
            case sc.Apply():
                done[node] = _apply(b, node, [done[arg] for arg in node.args])
            case sc.Size():
                raise ValueError(f"the extent {node.extent} is not known")
    return [done[body] for body in bodies]


Fused = tuple[Callable[[Builder, Value], Value], sc.Scalar]


def _fused(node: sc.Apply) -> Fused | None:
    """The emitter of a node and its argument in one, and what it takes, where a rounding between the two would cost
    digits: x ndtr(x), and exp(c x^2)."""
    if node.op == "mul":
        for x, other in (node.args, node.args[::-1]):
            if isinstance(other, sc.Apply) and other.op == "ndtr" and other.args[0] is x:
                return gelu, x
    if node.op == "exp":
        square = _scaled_square(node.args[0])
        if square is not None:
            x, factor = square
            return lambda b, value: exp_of_square(b, value, factor), x
    return None


def _both(nodes: Sequence[sc.Scalar]) -> dict[sc.Scalar, tuple[sc.Scalar, sc.Scalar]]:
    """(sine, cosine) by either, where there are both of one angle."""
    found: dict[str, dict[sc.Scalar, sc.Scalar]] = {"sin": {}, "cos": {}}
    for node in nodes:
        if isinstance(node, sc.Apply) and node.op in found:
            found[node.op][node.args[0]] = node
    pairs = [(sine, found["cos"][angle]) for angle, sine in found["sin"].items() if angle in found["cos"]]
    return {node: pair for pair in pairs for node in pair}


def _needed(
    order: Sequence[sc.Scalar], roots: Sequence[sc.Scalar], fused: Mapping[sc.Scalar, Fused]
) -> list[sc.Scalar]:
    """The nodes of a postorder that its roots still need."""
    needed = set(roots)
    for node in reversed(order):
        if node in needed and isinstance(node, sc.Apply):
            needed.update((fused[node][1],) if node in fused else node.args)
    return [node for node in order if node in needed]


def _scaled_square(node: sc.Scalar) -> tuple[sc.Scalar, float] | None:
    """(x, c) where the node is c * x * x, with a number c that is not 0."""
    if not isinstance(node, sc.Apply) or node.op not in ("neg", "mul", "div"):
        return None
    first, last = node.args[0], node.args[-1]
    if node.op == "mul" and first is last:
        return first, 1.0
    if node.op == "neg":
        factor = -1.0
    elif isinstance(last, sc.Literal) and math.isfinite(last.value) and last.value:
        factor = last.value if node.op == "mul" else 1 / last.value
    elif node.op == "mul" and isinstance(last, sc.Apply) and last.op == "mul" and last.args[0] is first:
        number = last.args[1]  # x * (x * c)
        return (first, number.value) if isinstance(number, sc.Literal) and number.value else None
    else:
        return None
    inner = _scaled_square(first)
    return None if inner is None else (inner[0], inner[1] * factor)


def _apply(b: Builder, node: sc.Apply, args: list[Value]) -> Value:
    dtype = node.args[-1].dtype
    is_float = dtype.startswith("float")
    table = _FLOAT if is_float else _INTEGER
    if node.op in FUNCTIONS and is_float:
        return FUNCTIONS[node.op](b, *args)
    if node.op in _COMPARE:
        return _compare(b, node.op, args, dtype)
    if node.op in _SHARED:
        return _SHARED[node.op](b, *args)
    if dtype == "uint32" and node.op in _UNSIGNED:
        return _UNSIGNED[node.op](b, *args)
    return table[node.op](b, *args)


_COMPARE = {"eq": ("oeq", "eq"), "ne": ("une", "ne"), "lt": ("olt", "slt"), "le": ("ole", "sle")}


def _compare(b: Builder, op: str, args: list[Value], dtype: str) -> Value:
    floating, integer = _COMPARE[op]
    if dtype.startswith("float"):
        return b.fcmp(floating, *args)
    if dtype in ("uint32", "bool") and op in ("lt", "le"):
        integer = "u" + integer[1:]
    return b.icmp(integer, *args)


def _float_sign(b: Builder, x: Value) -> Value:
    """-1, 0, 1; NaN and signed zeros as they are."""
    one = b.copysign(b.const(x.type, 1.0), x)
    return b.select(b.fcmp("one", x, 0.0), one, x)


def _float_mod(b: Builder, x: Value, y: Value) -> Value:
    """x - y*floor(x/y), with the sign of y; exact while the quotient has fewer digits than the significand."""
    rest = b.fma(b.neg(b.floor(b.div(x, y))), y, x)
    low = b.and_(b.fcmp("one", rest, 0.0), b.xor(b.fcmp("olt", rest, 0.0), b.fcmp("olt", y, 0.0)))
    rest = b.select(low, b.add(rest, y), rest)
    return b.select(b.fcmp("oeq", rest, 0.0), b.copysign(rest, y), rest)


def _integer_pow(b: Builder, x: Value, y: Value) -> Value:
    """Square and multiply over all bits of the exponent; a negative exponent gives 1/x truncated: 0, 1 or -1."""
    result, power = b.const(x.type, 1), x
    bits = x.type.bits - 1
    for bit in range(bits):
        has = b.icmp("ne", b.and_(y, 1 << bit), 0)
        result = b.select(has, b.mul(result, power), result)
        if bit + 1 < bits:
            power = b.mul(power, power)
    return result


def _guarded(b: Builder, y: Value) -> tuple[Value, Value, Value]:
    """(whether y is 0, whether it is -1, y with 1 in place of both): division by either traps or overflows."""
    zero, minus = b.icmp("eq", y, 0), b.icmp("eq", y, -1)
    return zero, minus, b.select(b.or_(zero, minus), b.const(y.type, 1), y)


def _integer_floordiv(b: Builder, x: Value, y: Value) -> Value:
    zero, minus, safe = _guarded(b, y)
    quotient, rest = b.div(x, safe), b.rem(x, safe)
    wrong = b.and_(b.icmp("ne", rest, 0), b.icmp("slt", b.xor(rest, safe), 0))
    quotient = b.select(wrong, b.sub(quotient, 1), quotient)
    return b.select(zero, 0, b.select(minus, b.neg(x), quotient))


def _integer_mod(b: Builder, x: Value, y: Value) -> Value:
    zero, minus, safe = _guarded(b, y)
    rest = b.rem(x, safe)
    wrong = b.and_(b.icmp("ne", rest, 0), b.icmp("slt", b.xor(rest, safe), 0))
    return b.select(b.or_(zero, minus), 0, b.select(wrong, b.add(rest, safe), rest))


def _unsigned_divide(opcode: str) -> Callable[[Builder, Value, Value], Value]:
    def emit(b: Builder, x: Value, y: Value) -> Value:
        zero = b.icmp("eq", y, 0)
        safe = b.select(zero, b.const(y.type, 1), y)
        quotient = b.emit(f"{opcode} {x.type.text} {x.text}, {safe.text}", x.type)
        return b.select(zero, 0, quotient)

    return emit


_SHARED: Mapping[str, Callable[..., Value]] = {
    "add": lambda b, x, y: b.add(x, y),
    "sub": lambda b, x, y: b.sub(x, y),
    "mul": lambda b, x, y: b.mul(x, y),
    "neg": lambda b, x: b.neg(x),
    "and": lambda b, x, y: b.and_(x, y),
    "or": lambda b, x, y: b.or_(x, y),
    "xor": lambda b, x, y: b.xor(x, y),
    "not": lambda b, x: b.not_(x),
    "select": lambda b, c, x, y: b.select(c, x, y),
}
_FLOAT: Mapping[str, Callable[..., Value]] = {
    "div": lambda b, x, y: b.div(x, y),
    "maximum": lambda b, x, y: b.maximum(x, y),
    "minimum": lambda b, x, y: b.minimum(x, y),
    "abs": lambda b, x: b.abs(x),
    "sign": _float_sign,
    "floor": lambda b, x: b.floor(x),
    "ceil": lambda b, x: b.ceil(x),
    "rint": lambda b, x: b.rint(x),
    "isnan": lambda b, x: b.fcmp("uno", x, x),
    "floordiv": lambda b, x, y: b.floor(b.div(x, y)),
    "mod": _float_mod,
}
_INTEGER: Mapping[str, Callable[..., Value]] = {
    "maximum": lambda b, x, y: b.select(b.icmp("sgt", x, y), x, y),
    "minimum": lambda b, x, y: b.select(b.icmp("slt", x, y), x, y),
    "abs": lambda b, x: b.select(b.icmp("slt", x, 0), b.neg(x), x),
    "sign": lambda b, x: b.sub(b.zext(b.icmp("sgt", x, 0), x.type), b.zext(b.icmp("slt", x, 0), x.type)),
    "floordiv": _integer_floordiv,
    "mod": _integer_mod,
    "pow": _integer_pow,
    "shl": lambda b, x, y: b.select(b.icmp("ult", y, x.type.bits), b.shl(x, b.and_(y, x.type.bits - 1)), 0),
    "shr": lambda b, x, y: b.ashr(x, b.select(b.icmp("ult", y, x.type.bits), y, b.const(x.type, x.type.bits - 1))),
}
_UNSIGNED: Mapping[str, Callable[..., Value]] = {
    "maximum": lambda b, x, y: b.select(b.icmp("ugt", x, y), x, y),
    "minimum": lambda b, x, y: b.select(b.icmp("ult", x, y), x, y),
    "abs": lambda b, x: x,
    "sign": lambda b, x: b.zext(b.icmp("ne", x, 0), x.type),
    "floordiv": _unsigned_divide("udiv"),
    "mod": _unsigned_divide("urem"),
    "shr": lambda b, x, y: b.select(b.icmp("ult", y, x.type.bits), b.lshr(x, b.and_(y, x.type.bits - 1)), 0),
}


def _cast(b: Builder, x: Value, source: str, target: str, lanes: int) -> Value:
    to = value_type(target, lanes)
    if target == "bool":
        return b.fcmp("une", x, 0.0) if source.startswith("float") else b.icmp("ne", x, 0)
    if target.startswith("float"):
        if source in ("bool", "uint32"):
            return b.uitofp(x, to)
        if source.startswith("int"):
            return b.sitofp(x, to)
        return b.fpext(x, to) if to.kind == F64.kind else b.fptrunc(x, to)
    if source.startswith("float"):
        wide = b.fptosi(x, value_type("int64", lanes)) if target == "uint32" else b.fptosi(x, to)
        return b.trunc(wide, to) if target == "uint32" else wide
    if source in ("bool", "uint32"):
        return x if to is x.type else b.zext(x, to)
    return b.sext(x, to) if to.bits > x.type.bits else (x if to is x.type else b.trunc(x, to))

"""Bodies: a scalar DAG as ufunc lines over whole arrays, each shared term once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from graphc.errors import BackendError
from graphc.ir import scalar as sc
from graphc.ir.affine import affine
from graphc.ir.extent import ints
from graphc_numpy.access import Read, inside, read_at, row_ref
from graphc_numpy.code import Code, Frame, Ref
from graphc_numpy.literals import dtype_text, number, typed

# op: the ufunc, and the infix operator that says the same
UFUNCS: Mapping[str, tuple[str, str | None]] = {
    "add": ("np.add", "+"),
    "sub": ("np.subtract", "-"),
    "mul": ("np.multiply", "*"),
    "div": ("np.divide", "/"),
    "floordiv": ("np.floor_divide", "//"),
    "mod": ("np.remainder", "%"),
    "pow": ("np.power", "**"),
    "maximum": ("np.maximum", None),
    "minimum": ("np.minimum", None),
    "atan2": ("np.arctan2", None),
    "neg": ("np.negative", "-"),
    "abs": ("np.abs", None),
    "sign": ("np.sign", None),
    "floor": ("np.floor", None),
    "ceil": ("np.ceil", None),
    "rint": ("np.rint", None),
    "sqrt": ("np.sqrt", None),
    "exp": ("np.exp", None),
    "expm1": ("np.expm1", None),
    "log": ("np.log", None),
    "log1p": ("np.log1p", None),
    "sin": ("np.sin", None),
    "cos": ("np.cos", None),
    "tan": ("np.tan", None),
    "tanh": ("np.tanh", None),
    "isnan": ("np.isnan", None),
    "eq": ("np.equal", "=="),
    "ne": ("np.not_equal", "!="),
    "lt": ("np.less", "<"),
    "le": ("np.less_equal", "<="),
    "and": ("np.bitwise_and", "&"),
    "or": ("np.bitwise_or", "|"),
    "xor": ("np.bitwise_xor", "^"),
    "shl": ("np.left_shift", "<<"),
    "shr": ("np.right_shift", ">>"),
    "not": ("np.logical_not", None),
}
_LEAST_MASKED = 1 << 10  # elements from which masking by bits is faster than np.where
_MIRRORED = {"lt": ("np.greater", ">"), "le": ("np.greater_equal", ">=")}


def evaluate(
    code: Code, body: sc.Scalar, reads: Sequence[Read], frame: Frame, target: str | None = None, fill: str = "0"
) -> Ref:
    """The body at every point of the frame. The last line defines `target` when it defines anything of full shape.

    `fill` is what a read outside its array gives: 0, unless the caller masks those points or wants an identity.
    """
    clamps = _clamps(body)
    done: dict[sc.Scalar, Ref] = {}
    for node in _needed(body, clamps):
        hint: str | None = None
        if node is body and isinstance(node, sc.Apply):
            args = clamps[node][1:] if node in clamps else node.args
            hint = target if spans([done[arg] for arg in args], frame) else None
        match node:
            case sc.Arg():
                done[node] = read_at(code, reads[node.index], frame, fill)
            case sc.Index():
                done[node] = row_ref(affine({node.axis: 1}), frame)
            case sc.Literal():
                done[node] = _literal(node, frame)
            case sc.Size():
                raise BackendError(f"numpy: the extent {node.extent} is not known")
            case sc.InBounds():
                mask = inside(code, node.map.rows, ints(node.shape), frame)
                done[node] = mask if isinstance(mask, Ref) else _literal(sc.literal(mask, "bool"), frame)
            case sc.Apply() if node in clamps:
                op, value, limit = clamps[node]
                done[node] = code.ufunc(UFUNCS[op][0], None, [done[value], done[limit]], node.dtype, hint)
            case sc.Apply():
                done[node] = _apply(code, node, [done[arg] for arg in node.args], hint)
    return done[body]


def axes_of(body: sc.Scalar, reads: Sequence[Read]) -> frozenset[int]:
    """The axes on which a body depends, through its reads too."""
    axes = set(sc.axes_of(body))
    for position in sc.args_of(body):
        axes |= reads[position].axes
    return frozenset(axes)


def spans(refs: Sequence[Ref], frame: Frame) -> bool:
    """An elementwise op on these has every extent of the frame, so that its result can be the final array."""
    if not frame.axes:
        return True
    shape = tuple(max(extents) for extents in zip(*(ref.shape for ref in refs), strict=True))
    return shape == frame.extents and min(ref.lead for ref in refs) == 0


Clamp = tuple[str, sc.Scalar, sc.Scalar]


def _clamps(body: sc.Scalar) -> dict[sc.Scalar, Clamp]:
    """select(x <= c, c, x) is maximum(x, c), a NaN included; with the comparison mirrored it is minimum(x, c)."""
    found: dict[sc.Scalar, Clamp] = {}
    for node in sc.postorder(body):
        if not isinstance(node, sc.Apply) or node.op != "select":
            continue
        test, limit, value = node.args
        if not isinstance(test, sc.Apply) or test.op not in ("lt", "le") or not isinstance(limit, sc.Literal):
            continue
        if math.isnan(limit.value) or {test.args[0], test.args[1]} != {value, limit}:
            continue
        found[node] = ("maximum" if test.args[0] is value else "minimum", value, limit)
    return found


def _needed(body: sc.Scalar, clamps: Mapping[sc.Scalar, Clamp]) -> list[sc.Scalar]:
    """The nodes to compute, arguments first: a clamp needs no comparison."""
    order: list[sc.Scalar] = []
    seen: set[sc.Scalar] = set()
    stack: list[tuple[sc.Scalar, bool]] = [(body, False)]
    while stack:
        node, is_done = stack.pop()
        if is_done:
            order.append(node)
            continue
        if node in seen:
            continue
        seen.add(node)
        stack.append((node, True))
        if node in clamps:
            stack.extend((arg, False) for arg in reversed(clamps[node][1:]))
        elif isinstance(node, sc.Apply):
            stack.extend((arg, False) for arg in reversed(node.args))
    return order


def _literal(node: sc.Literal, frame: Frame) -> Ref:
    text = number(node.value, node.dtype)
    shape = (1,) * len(frame.axes)
    return Ref(text, frame.axes, shape, node.dtype, (), len(shape), literal=True)


def as_typed(ref: Ref, node: sc.Scalar) -> Ref:
    """A number with its dtype, where no array beside it gives one."""
    if not ref.literal:
        return ref
    if isinstance(node, sc.Literal):
        return replace(ref, text=typed(node.value, node.dtype), atomic=True)
    return replace(ref, text=f"np.{ref.dtype}({ref.text})", atomic=True)


def _apply(code: Code, node: sc.Apply, args: list[Ref], target: str | None) -> Ref:
    if node.op == "cast":
        return _cast(code, node.dtype, as_typed(args[0], node.args[0]), target)
    if node.op == "select":
        return _select(code, node, args, target)
    if all(arg.literal for arg in args):
        args = [as_typed(args[0], node.args[0]), *args[1:]]
    if node.op in _COMPOSED:
        return _COMPOSED[node.op](code, args[0], target)
    function, symbol = UFUNCS[node.op]
    if node.op in _MIRRORED and args[0].literal:  # 0 < x reads better as x > 0
        (function, symbol), args = _MIRRORED[node.op], args[::-1]
    elif node.op in ("add", "mul") and (args[0].literal or len(args[0].array_shape) < len(args[1].array_shape)):
        args = args[::-1]  # x * 2, h + b
    return code.ufunc(function, symbol, args, node.dtype, target)


def _cast(code: Code, dtype: str, x: Ref, target: str | None) -> Ref:
    order = "" if x.in_order else ', order="C"'
    text = f"{x.operand}.astype({dtype_text(dtype)}{order})"
    if not x.array_shape and x.text in ("True", "False"):
        text = f"{dtype_text(dtype)}({x.text})"
    name = code.assign(text, x.reads, (x.array_shape, dtype), target)
    return replace(x, text=name, dtype=dtype, reads=(name,), in_order=True, atomic=True, literal=False, fresh=True)


def _select(code: Code, node: sc.Apply, args: list[Ref], target: str | None) -> Ref:
    if args[1].literal and args[2].literal:
        args[1] = as_typed(args[1], node.args[1])
    return where(code, args[0], args[1], args[2], target)


def where(code: Code, test: Ref, then: Ref, other: Ref, target: str | None = None) -> Ref:
    """np.where, contiguous."""
    refs = (test, then, other)
    shape = tuple(max(extents) for extents in zip(*(ref.shape for ref in refs), strict=True)) if test.axes else ()
    lead = min(ref.lead for ref in refs)
    text = f"np.where({test.text}, {then.text}, {other.text})"
    if _is_mask(test, then, other):
        text = f"{code.helper('zero_where')}({test.text}, {other.text})"
    elif _is_mask(test, other, then):
        text = f"{code.helper('zero_unless')}({test.text}, {then.text})"
    elif not all(ref.in_order for ref in refs):
        text = f"np.ascontiguousarray({text})"
    reads = tuple(read for ref in refs for read in ref.reads)
    name = code.assign(text, reads, (shape[lead:], then.dtype), target)
    return Ref(name, test.axes, shape, then.dtype, (name,), lead, fresh=True)


def _is_mask(test: Ref, zero: Ref, value: Ref) -> bool:
    """Large arrays of one shape, and 0 for the elements that are not taken."""
    return (
        zero.literal
        and zero.text == "0"
        and test.array_shape == value.array_shape
        and test.in_order
        and value.in_order
        and math.prod(value.array_shape) >= _LEAST_MASKED
    )


def _small(like: Ref, value: int) -> Ref:
    return Ref(str(value), like.axes, (1,) * len(like.axes), like.dtype, (), len(like.axes), literal=True)


def _rsqrt(code: Code, x: Ref, target: str | None) -> Ref:
    root = code.ufunc("np.sqrt", None, [x], x.dtype)
    return code.ufunc("np.divide", "/", [_small(x, 1), root], x.dtype, target)


def _sigmoid(code: Code, x: Ref, target: str | None) -> Ref:
    """1 / (1 + exp(-x)): where exp overflows, 1 / inf is the 0 that is meant."""
    minus = code.ufunc("np.negative", "-", [x], x.dtype)
    power = code.ufunc("np.exp", None, [minus], x.dtype)
    below = code.ufunc("np.add", "+", [power, _small(x, 1)], x.dtype)
    return code.ufunc("np.divide", "/", [_small(x, 1), below], x.dtype, target)


def _softplus(code: Code, x: Ref, target: str | None) -> Ref:
    """max(x, 0) + log1p(exp(-|x|))."""
    size = code.ufunc("np.abs", None, [x], x.dtype)
    minus = code.ufunc("np.negative", "-", [size], x.dtype)
    power = code.ufunc("np.exp", None, [minus], x.dtype)
    rest = code.ufunc("np.log1p", None, [power], x.dtype)
    top = code.ufunc("np.maximum", None, [x, _small(x, 0)], x.dtype)
    return code.ufunc("np.add", "+", [top, rest], x.dtype, target)


def _printed(function: str) -> Callable[[Code, Ref, str | None], Ref]:
    """A call of a printed function, which calls the approximations of the error function."""

    def emit(code: Code, x: Ref, target: str | None) -> Ref:
        for part in ("erf_near_zero", "scaled_erfc"):
            code.helper(part)
        text = f"{code.helper(function)}({x.text})"
        if not x.in_order:
            text = f"np.ascontiguousarray({text})"
        name = code.assign(text, x.reads, (x.array_shape, x.dtype), target)
        return replace(x, text=name, reads=(name,), in_order=True, atomic=True, literal=False, fresh=True)

    return emit


_COMPOSED: Mapping[str, Callable[[Code, Ref, str | None], Ref]] = {
    "rsqrt": _rsqrt,
    "sigmoid": _sigmoid,
    "softplus": _softplus,
    "erf": _printed("erf"),
    "ndtr": _printed("ndtr"),
}

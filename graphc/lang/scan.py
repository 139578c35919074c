"""scan: a loop in the graph, whose length may be symbolic and whose compile time does not grow with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from graphc.errors import ArgumentError, ArgumentTypeError, DTypeError, ShapeError
from graphc.ir.extent import Extent, format_shape
from graphc.ir.graph import Graph, replace, topological
from graphc.ir.loop import Loop, depends
from graphc.ir.node import Const, Input, Node, leaf
from graphc.ir.origin import originating
from graphc.lang.arrays import arange, stack
from graphc.lang.source import new_origin, user_line
from graphc.lang.tensor import Tensor, as_tensor, parse_shape


def scan(
    step: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Any = None,
    length: int | str | Extent | None = None,
    *,
    reverse: bool = False,
    unroll: bool = False,
) -> tuple[Any, Any]:
    """Apply a step T times, each time to what it gave before and to the next slice of some arrays.

        carry = init
        for t in range(T):
            carry, y[t] = step(carry, x[t])

    step: a function (carry, x) -> (carry, y) of tensors. It is called once. What else it reads (params, other
        expressions) is read whole at each step.
    init: the first carry: a tensor, a number, or a tuple, list or dict of such, which may be nested. The step gives a
        carry of the same structure, shapes and dtypes.
    xs: a tensor, or such a structure of tensors, with equal first extents T, which may be symbolic; None: the step gets
        None.
    length: T, where there are no xs.
    reverse: go from the last slice to the first; y[t] still belongs to x[t].
    unroll: write the steps one after another into the graph instead; T must be known. The numbers are the same.

    Returns (the last carry, y), where y has the structure that the step gives, each tensor with T in front of its
    shape (None stays None). Derivatives of any order and mode exist: the gradient is a loop backwards, for which the
    forward loop keeps what it needs of each step; use `gc.checkpoint` inside the step to compute that again instead.
    A random number drawn inside a step is one number, the same at all steps: draw T of them outside and pass them as
    xs.

    Errors: `ShapeError` or `DTypeError` when the step changes the carry's shape or dtype, `ArgumentError` when its
    structure changes, when the first extents of xs differ, or when T is not known.

    >>> import graphc as gc
    >>> x = gc.input("x", ("T",))
    >>> total, sums = gc.scan(lambda total, x: (total + x, total + x), 0.0, x)
    >>> gc.evaluate(sums, {x: [1.0, 2.0, 3.0]})
    array([1., 3., 6.], dtype=float32)
    """
    origin = new_origin("scan")
    with originating((origin,)):
        carry = [_carry(item) for item in _flatten(init)]
        arrays = [as_tensor(item, "scan") for item in _flatten(xs)]
        count = _length(arrays, length)
    if unroll:
        return _unrolled(step, init, carry, xs, arrays, count, reverse)
    if not arrays:
        arrays = [arange(count)]
    own = [leaf(one.name or "carry", one.shape, one.dtype, "input") for one in carry]
    slices = [leaf(f"{one.name or 'x'}_t", one.shape[1:], one.dtype, "input") for one in arrays]
    given = _unflatten(xs, list(map(Tensor, slices))) if xs is not None else None
    following, y = _applied(step, init, carry, _unflatten(init, list(map(Tensor, own))), given)
    values = [as_tensor(item, "scan") for item in _flatten(y)]
    roots = [tensor.node for tensor in (*following, *values)]
    captured = _captured(roots, [*own, *slices])
    constants = [leaf(_name(node), node.shape, node.dtype, "input") for node in captured]
    steps = replace(Graph(tuple(roots)), dict(zip(captured, constants, strict=True))).outputs
    loop = Loop(
        (*own, *slices, *constants),
        steps[: len(own)],
        (*(tensor.node for tensor in (*carry, *arrays)), *captured),
        len(arrays),
        reverse,
    )
    with originating((origin,)):
        last = [Tensor(loop.final(place)) for place in range(len(own))]
        stacked = [Tensor(loop.stack(value)) for value in steps[len(own) :]]
    return _unflatten(init, last), _unflatten(y, stacked)


def _carry(item: Any) -> Tensor:
    tensor = as_tensor(item, "scan")
    return tensor if isinstance(item, Tensor) or tensor.dtype != "float64" else tensor.astype("float32")


def _name(node: Node) -> str:
    return node.name if isinstance(node, Input) else "constant"


def _length(arrays: Sequence[Tensor], length: Any) -> Extent:
    for tensor in arrays:
        if tensor.ndim == 0:
            raise ShapeError("scan: xs are read slice by slice, but one of them is a scalar", user_line())
    extents = list(dict.fromkeys(tensor.shape[0] for tensor in arrays))
    if length is not None:
        extents = list(dict.fromkeys([*extents, *parse_shape("scan", (length,))]))
    if len(extents) > 1:
        found = ", ".join(map(str, extents))
        raise ArgumentError(f"scan: the first extents of xs (and the length) differ: {found}", user_line())
    if not extents:
        raise ArgumentError("scan: without xs, length= must say how many steps there are", user_line())
    return extents[0]


def _applied(
    step: Callable[[Any, Any], tuple[Any, Any]], init: Any, first: Sequence[Tensor], carry: Any, x: Any
) -> tuple[list[Tensor], Any]:
    """What one step gives: the following carry as a list, checked against the first one, and y."""
    result = step(carry, x)
    if not isinstance(result, tuple) or len(result) != 2:
        raise ArgumentTypeError(
            f"scan: the step must give a pair (carry, y), not {type(result).__name__}; y may be None", user_line()
        )
    if _structure(result[0]) != _structure(init):
        raise ArgumentError(
            f"scan: the step gives a carry {_structure(result[0])}, but it began as {_structure(init)}", user_line()
        )
    following: list[Tensor] = []
    for item, before in zip(_flatten(result[0]), first, strict=True):
        tensor = as_tensor(item, "scan")
        if not isinstance(item, Tensor):
            tensor = tensor.astype(before.dtype)
        label = f"the carry {before.name}" if before.name else "the carry"
        if tensor.shape != before.shape:
            raise ShapeError(
                f"scan: the step gives {label} with shape {format_shape(tensor.shape)}, "
                f"but it began with {format_shape(before.shape)}",
                user_line(),
            )
        if tensor.dtype != before.dtype:
            raise DTypeError(
                f"scan: the step gives {label} as {tensor.dtype}, but it began as {before.dtype}; use astype",
                user_line(),
            )
        following.append(tensor)
    return following, result[1]


def _captured(roots: Sequence[Node], own: Sequence[Input]) -> list[Node]:
    """The largest expressions below the roots that no step changes, and that are more than a number."""
    changing = depends(roots, own)
    edge: dict[Node, None] = {}
    for node in topological(roots):
        if node in changing:
            edge.update(dict.fromkeys(operand for operand in node.operands if operand not in changing))
    edge.update(dict.fromkeys(root for root in roots if root not in changing))
    return [node for node in edge if not _is_number(node)]


def _is_number(node: Node) -> bool:
    """A constant of one element, or an array that is made of nothing: as cheap inside the loop."""
    if isinstance(node, Const):
        return node.value.size <= 1
    return not isinstance(node, Input) and not node.operands


def _unrolled(
    step: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    first: Sequence[Tensor],
    xs: Any,
    arrays: Sequence[Tensor],
    length: Extent,
    reverse: bool,
) -> tuple[Any, Any]:
    if not isinstance(length, int) or length == 0:
        raise ArgumentError(f"scan: only a known length from 1 up can be unrolled, not {length}", user_line())
    carry: Sequence[Tensor] = list(first)
    found: dict[int, list[Tensor]] = {}
    y: Any = None
    for t in reversed(range(length)) if reverse else range(length):
        x = _unflatten(xs, [array[t] for array in arrays]) if xs is not None else None
        carry, y = _applied(step, init, first, _unflatten(init, list(carry)), x)
        found[t] = [as_tensor(item, "scan") for item in _flatten(y)]
    columns = zip(*(found[t] for t in range(length)), strict=True)
    return _unflatten(init, list(carry)), _unflatten(y, [stack(column) for column in map(list, columns)])


# --- Structures -----------------------------------------------------------------------------------------------------


def _flatten(value: Any) -> list[Any]:
    """The tensors and numbers of nested tuples, lists and dicts, in order; None holds nothing."""
    if value is None:
        return []
    if isinstance(value, dict):
        return [item for part in value.values() for item in _flatten(part)]
    if isinstance(value, (tuple, list)):
        return [item for part in value for item in _flatten(part)]
    return [value]


def _unflatten(like: Any, items: list[Any]) -> Any:
    """The structure of `like` with these items, which are used up."""
    if like is None:
        return None
    if isinstance(like, dict):
        return {key: _unflatten(part, items) for key, part in like.items()}
    if isinstance(like, tuple) and hasattr(like, "_fields"):
        return type(like)(*(_unflatten(part, items) for part in like))
    if isinstance(like, (tuple, list)):
        return type(like)(_unflatten(part, items) for part in like)
    return items.pop(0)


def _structure(value: Any) -> str:
    """The structure in words, for comparing and for errors."""
    if value is None:
        return "None"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {_structure(part)}" for key, part in value.items()) + "}"
    if isinstance(value, (tuple, list)):
        inside = ", ".join(map(_structure, value))
        return f"({inside})" if isinstance(value, tuple) else f"[{inside}]"
    return "tensor"

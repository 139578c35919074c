"""checkpoint: less memory for a gradient, for computing a part of the forward pass twice."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, TypeVar

from graphc.errors import ArgumentError, ArgumentTypeError
from graphc.ir.dtypes import is_float
from graphc.ir.node import opaque
from graphc.ir.origin import originating
from graphc.lang.source import new_origin, user_line
from graphc.lang.tensor import Tensor

_R = TypeVar("_R")
_keys = itertools.count(1)  # checkpoints on one input are told apart


def checkpoint(function: Callable[..., _R], *inputs: Any, **options: Any) -> _R:
    """function(*inputs, **options), whose inner values a gradient computes again instead of keeping them.

    function: any callable that gives a tensor, or a tuple or list of tensors: a `gc.nn.Module`, or a function of one's
        own. It is called once. What it reads besides its inputs (params, states, other expressions) has gradients as
        ever.
    inputs: at least one tensor among them. Inputs and results are kept for the backward pass, what lies between them
        is not: the gradient computes it once more, from the inputs and the same states (a random mask is the same
        mask), when it gets there. Values that depend neither on the inputs nor on states alone are kept.

    In a chain of n layers of one size, a checkpoint for each sqrt(n) of them keeps about 2 sqrt(n) arrays instead of n.
    Checkpoints may be nested; each level computes what it holds once more. A derivative of any order or mode is that
    of the plain function. Errors: `ArgumentError`, `ArgumentTypeError`.

    Source: T. Chen, B. Xu, C. Zhang, C. Guestrin, Training Deep Nets with Sublinear Memory Cost, arXiv:1604.06174.

    >>> import graphc as gc
    >>> x = gc.input("x", (3,))
    >>> y = gc.checkpoint(lambda x: gc.exp(gc.sin(x)), x)
    >>> gc.grad(gc.sum(y), x)
    <Tensor float32(3,)>
    """
    if not callable(function):
        raise ArgumentTypeError(f"checkpoint: a function comes first, not {type(function).__name__}", user_line())
    if not any(isinstance(value, Tensor) for value in inputs):
        raise ArgumentError(
            "checkpoint: no tensor is given as an input, and what the function reads by itself is kept; "
            "write gc.checkpoint(f, x) instead of gc.checkpoint(lambda: f(x))",
            user_line(),
        )
    key = next(_keys)
    with originating((new_origin("checkpoint"),)):
        entries = [_marked("checkpoint_in", (value,), key) if isinstance(value, Tensor) else value for value in inputs]
    result: Any = function(*entries, **options)
    items = list(result) if isinstance(result, (tuple, list)) else [result]
    for item in items:
        if not isinstance(item, Tensor):
            raise ArgumentTypeError(
                "checkpoint: the function must give a tensor, or a tuple or list of tensors; "
                f"it gave {type(item).__name__}",
                user_line(),
            )
    floats = [item for item in items if is_float(item.dtype)]
    with originating((new_origin("checkpoint"),)):
        marked = [_marked("checkpoint_out", (i, *floats), key) if is_float(i.dtype) else i for i in items]
    found: Any = marked[0] if isinstance(result, Tensor) else marked if isinstance(result, list) else tuple(marked)
    given: _R = found
    return given


def _marked(op: str, tensors: tuple[Tensor, ...], key: int) -> Tensor:
    first = tensors[0]
    return Tensor(opaque(op, [tensor.node for tensor in tensors], first.shape, first.dtype, key=key))

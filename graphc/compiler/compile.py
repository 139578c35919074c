"""compile() and evaluate(): expressions to a callable, or to a value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias, overload

from numpy.typing import NDArray

from graphc.backend import Options
from graphc.compiler.function import Function
from graphc.config import config
from graphc.errors import ArgumentError, BackendError, DTypeError, ShapeError
from graphc.ir.dtypes import is_float
from graphc.ir.extent import format_shape
from graphc.ir.graph import topological
from graphc.ir.node import Input
from graphc.lang.moving import marks_among, moved
from graphc.lang.source import user_line
from graphc.lang.tensor import Tensor, Variable, variables

Array: TypeAlias = NDArray[Any]


@overload
def compile(
    inputs: Sequence[Tensor],
    outputs: Tensor,
    updates: Mapping[Variable, Tensor] | None = None,
    *,
    backend: str | None = None,
    threads: int | None = None,
    cpu: str = "native",
    winograd: bool | None = None,
    dynamic: Sequence[str] = (),
    name: str = "function",
) -> Function: ...
@overload
def compile(
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    updates: Mapping[Variable, Tensor] | None = None,
    *,
    backend: str | None = None,
    threads: int | None = None,
    cpu: str = "native",
    winograd: bool | None = None,
    dynamic: Sequence[str] = (),
    name: str = "function",
) -> Function: ...
def compile(
    inputs: Sequence[Tensor],
    outputs: Tensor | Sequence[Tensor],
    updates: Mapping[Variable, Tensor] | None = None,
    *,
    backend: str | None = None,
    threads: int | None = None,
    cpu: str = "native",
    winograd: bool | None = None,
    dynamic: Sequence[str] = (),
    name: str = "function",
) -> Function:
    """Compile expressions to a Function.

    inputs: leaves made by `gc.input`, in the order of a call's arguments; unused ones are allowed.
    outputs: one expression (a call returns one array) or a list (a call returns a tuple).
    updates: {param or state: its value after the call}, applied in place after all outputs are computed. The next
        values of states that the outputs or updates reach (`State.set_next`) are added.
    backend: the name of an installed backend; threads: how many it may use (None: all CPUs); cpu: "native" or a name.
    winograd: whether 3x3 convolutions may be computed by Winograd's algorithm where it is faster (None: yes, unless the
        environment's GRAPHC_WINOGRAD is 0). In the mean it is more exact than the direct sum, but an infinity or NaN
        reaches up to three more outputs on each side.
    dynamic: named dimensions that the code leaves open: it is compiled once for any number of rows, which it takes in
        blocks of fixed lengths. Such a dimension must be the first axis of inputs and outputs that have it; rows may be
        combined by sums, products, maxima and minima over all of them, and by nothing else. Without it each size that a
        call brings is compiled for itself.

    Errors: `ArgumentError`, `CompileError`, `BackendError`, `ShapeError`, `DTypeError`.

    >>> import graphc as gc, numpy as np
    >>> x = gc.input("x", ("N",))
    >>> double = gc.compile([x], 2 * x, backend="numpy")
    >>> double(np.arange(3, dtype=np.float32))
    array([0., 2., 4.], dtype=float32)
    """
    single = isinstance(outputs, Tensor)
    for what, given in (("inputs", inputs), ("outputs", [outputs] if isinstance(outputs, Tensor) else outputs)):
        if isinstance(given, (Tensor, str)) or not isinstance(given, Iterable):
            raise ArgumentError(f"compile: the {what} must be a list of tensors, not {given!r}", user_line())
    results = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    for tensor in inputs:
        if not isinstance(tensor, Tensor) or not isinstance(tensor.node, Input) or tensor.node.kind != "input":
            raise ArgumentError(f"compile: {tensor!r} is not an input made by gc.input", user_line())
    repeated = [str(t.name) for position, t in enumerate(inputs) if t.node in [u.node for u in inputs[:position]]]
    if repeated:
        raise ArgumentError(f"compile: the input {repeated[0]!r} is given twice", user_line())
    for result in results:
        if not isinstance(result, Tensor):
            raise ArgumentError(f"compile: an output must be a tensor, not {type(result).__name__}", user_line())
    changes = all_updates(results, dict(updates or {}))
    if threads is not None and (not isinstance(threads, int) or threads < 1):
        raise ArgumentError(f"compile: threads must be a whole number from 1 up, not {threads!r}", user_line())
    options = Options(
        threads if threads is not None else config.threads, cpu, config.winograd if winograd is None else winograd
    )
    try:
        return Function(inputs, results, changes, single, backend or config.backend, options, name, dynamic)
    except BackendError as error:
        if error.where is None:
            raise BackendError(error.message, user_line()) from error
        raise


def all_updates(results: Sequence[Tensor], updates: dict[Variable, Tensor]) -> dict[Variable, Tensor]:
    """The given updates, checked, with the next values of all states reached from what is computed."""
    for target, value in updates.items():
        if not isinstance(target, Variable):
            raise ArgumentError(f"compile: only params and states can be updated, not {target!r}", user_line())
        if not isinstance(value, Tensor):
            raise ArgumentError(f"compile: the update of {target.name!r} must be a tensor", user_line())
        if value.shape != target.shape:
            raise ShapeError(
                f"compile: {target.name!r} has shape {format_shape(target.shape)}, "
                f"its update {format_shape(value.shape)}",
                user_line(),
            )
        if value.dtype != target.dtype and not (is_float(value.dtype) and is_float(target.dtype)):
            raise DTypeError(f"compile: {target.name!r} is {target.dtype}, its update {value.dtype}", user_line())
    done = {
        target: value if value.dtype == target.dtype else value.astype(target.dtype)
        for target, value in updates.items()
    }
    given = frozenset(done)
    marks: frozenset[int] = frozenset()
    while True:
        reached = topological(tensor.node for tensor in (*results, *done.values()))
        marks, before = marks | marks_among(reached), marks
        if marks != before:  # of all marks together, in the order in which they were made
            done.update((state, value) for state, value in moved(marks).items() if state not in given)
            continue
        more = {
            variables[node]: following
            for node in reached
            if node in variables
            and variables[node] not in done
            and (following := variables[node].next_value) is not None
        }
        if not more:
            return done
        done.update(more)


@overload
def evaluate(expression: Tensor, values: Mapping[Tensor, Any] | None = None, *, backend: str = ...) -> Array: ...
@overload
def evaluate(
    expression: Sequence[Tensor], values: Mapping[Tensor, Any] | None = None, *, backend: str = ...
) -> tuple[Array, ...]: ...
def evaluate(
    expression: Tensor | Sequence[Tensor], values: Mapping[Tensor, Any] | None = None, *, backend: str = "numpy"
) -> Array | tuple[Array, ...]:
    """The value of an expression (or of several) for given inputs; params and states have their current values.

    Nothing is updated. For more than a few calls, compile.

    >>> import graphc as gc
    >>> x = gc.input("x", (2,))
    >>> gc.evaluate(x + 1, {x: [1.0, 2.0]})
    array([2., 3.], dtype=float32)
    """
    given = dict(values or {})
    results = [expression] if isinstance(expression, Tensor) else list(expression)
    inputs = [tensor for tensor in given if not isinstance(tensor, Variable)]
    for tensor in given:
        if isinstance(tensor, Variable):
            raise ArgumentError(f"evaluate: set {tensor.name}.value instead of passing it", user_line())
    function = Function(inputs, results, {}, False, backend, Options(), "evaluate")
    found: tuple[Array, ...] = function(*(given[tensor] for tensor in inputs))
    return found[0] if isinstance(expression, Tensor) else found

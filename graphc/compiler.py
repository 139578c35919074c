"""compile(): expressions to a callable. Function: what it returns.

A Function checks its arguments, finds the sizes of named dimensions, compiles the graph for them once (passes, plan,
backend) and calls the result; params and states are shared by all functions that read them.
"""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from graphc import backend as backends
from graphc.backend import Executable, Options
from graphc.config import config
from graphc.errors import ArgumentError, ArgumentTypeError, BackendError, CompileError, DTypeError, ShapeError
from graphc.ir.dtypes import is_float
from graphc.ir.extent import dimension_names, format_shape
from graphc.ir.extent import evaluate as evaluate_extent
from graphc.ir.graph import Graph, specialise, topological
from graphc.ir.node import Input, Node
from graphc.ir.origin import where
from graphc.lang.requirements import requirements_of
from graphc.lang.source import user_line
from graphc.lang.tensor import Tensor, Variable, variables
from graphc.passes.pipeline import run_passes
from graphc.passes.plan import plan
from graphc.program import Program

Array = NDArray[Any]


@dataclass(frozen=True)
class Stats:
    """Facts of one compiled program: kernels, nodes before and after the passes, bytes of temporaries."""

    kernels: int
    nodes: int
    nodes_after_passes: int
    arena_bytes: int


@dataclass(frozen=True)
class Specialisation:
    """A program for known sizes, compiled."""

    program: Program
    executable: Executable
    graph: Graph
    stats: Stats


class Function:
    """A compiled function; made by `compile`.

    Called with one array for each declared input it returns one array, or a tuple when a list of outputs was given.
    """

    def __init__(
        self,
        inputs: Sequence[Tensor],
        outputs: Sequence[Tensor],
        updates: Mapping[Variable, Tensor],
        single: bool,
        backend: str,
        options: Options,
        name: str,
    ) -> None:
        self.name = name
        self.inputs = tuple(inputs)
        self.backend = backend
        self.options = options
        self._single = single
        self._outputs = tuple(outputs)
        self._targets = tuple(updates)
        nodes = [tensor.node for tensor in (*outputs, *updates.values())]
        names = tuple(tensor.name or "" for tensor in outputs)
        self.graph = Graph(tuple(nodes), names)
        self._backend = backends.load(backend)
        self._variables = self._reachable_variables()
        self._specialisations: dict[tuple[int, ...], Specialisation] = {}
        self._lock = threading.Lock()
        self._warned: set[str] = set()
        self._dimensions = self._find_dimensions()
        self._requirements = requirements_of(self.graph.nodes)
        if not self._dimensions:
            self._specialise(())

    def _reachable_variables(self) -> tuple[Variable, ...]:
        declared = {tensor.node for tensor in self.inputs}
        found: dict[Variable, None] = {}  # a dict, because == between tensors builds an expression
        for leaf in self.graph.inputs:
            if leaf in declared:
                continue
            if leaf not in variables:
                raise CompileError(
                    f"compile: the outputs depend on the input {leaf.name!r}, which is not among the inputs",
                    user_line(),
                )
            found[variables[leaf]] = None
        found.update(dict.fromkeys(self._targets))
        return tuple(found)

    def _find_dimensions(self) -> tuple[str, ...]:
        """Named dimensions in order; each must be a whole axis of some input, so that a call tells its size."""
        given: dict[str, None] = {}
        for tensor in self.inputs:
            for extent in tensor.shape:
                if not isinstance(extent, int) and str(extent).isidentifier():
                    given.setdefault(str(extent))
        asked = [name for tensor in self.inputs for e in tensor.shape for name in sorted(dimension_names(e))]
        for name in (*self.graph.dimensions, *asked):
            if name not in given:
                raise CompileError(
                    f"compile: no input has an axis of extent {name}, so a call cannot tell it", user_line()
                )
        return tuple(given)

    # --- Calling ----------------------------------------------------------------------------------------------------

    def __call__(self, *arguments: Any) -> Any:
        if len(arguments) != len(self.inputs):
            names = ", ".join(str(tensor.name) for tensor in self.inputs)
            raise ArgumentError(
                f"{self.name}: {len(self.inputs)} arguments are expected ({names}), {len(arguments)} came", user_line()
            )
        arrays = list(map(self._array, self.inputs, arguments))
        sizes = self._sizes(arrays) if self._dimensions else ()
        self._check_shapes(arrays, dict(zip(self._dimensions, sizes, strict=True)))
        found = self._specialisations.get(sizes) or self._specialise(sizes)
        arrays.extend(variable.storage for variable in self._variables)
        try:
            results = found.executable.run(arrays)
        except IndexError as error:
            raise ArgumentError(f"{self.name}: {error}", user_line()) from None
        return results[0] if self._single else tuple(results)

    def _array(self, tensor: Tensor, value: Any) -> Array:
        """An argument as a C-contiguous array of the input's dtype and rank, when that loses nothing."""
        dtype = tensor.dtype
        if type(value) is np.ndarray and value.dtype == dtype and value.flags.c_contiguous and value.flags.aligned:
            array = value
        else:
            array = self._convert(tensor, value)
        if array.ndim != tensor.ndim:
            raise ArgumentError(
                f"{self.name}: input {tensor.name!r} has rank {tensor.ndim}, shape {format_shape(tensor.shape)}; "
                f"an array of shape {array.shape} came",
                user_line(),
            )
        return array

    def _convert(self, tensor: Tensor, value: Any) -> Array:
        if isinstance(value, Tensor):
            raise ArgumentTypeError(
                f"{self.name}: input {tensor.name!r} needs an array, a symbolic tensor came", user_line()
            )
        try:
            array = np.asarray(value)
        except (ValueError, TypeError) as error:
            raise ArgumentTypeError(
                f"{self.name}: input {tensor.name!r} needs an array of {tensor.dtype}: {error}", user_line()
            ) from None
        weak = not isinstance(value, (np.ndarray, np.generic)) and not hasattr(value, "__array__")
        if array.dtype != tensor.dtype:
            array = self._cast(tensor, array, weak)
        return np.require(array, requirements=["C", "A"]) if array.ndim else np.array(array)

    def _cast(self, tensor: Tensor, array: Array, weak: bool) -> Array:
        """To the input's dtype: integers that fit, floats to a wider float; a narrower float with one warning."""
        source, target = array.dtype, np.dtype(tensor.dtype)
        label = f"{self.name}: input {tensor.name!r}"
        if source.kind not in "fiub":
            raise ArgumentTypeError(f"{label} needs an array of {target}, an array of {source} came", user_line())
        if array.size == 0 or np.can_cast(source, target, "safe"):
            return array.astype(target)
        if target.kind == "f":
            if source.kind == "f" and not weak and tensor.name not in self._warned:
                self._warned.add(str(tensor.name))
                warnings.warn(f"{label} is {target}; an array of {source} is converted at each call", stacklevel=5)
            return array.astype(target)
        if target.kind == "i" and source.kind in "iu":
            limits = np.iinfo(tensor.dtype)
            if array.min() >= limits.min and array.max() <= limits.max:
                return array.astype(target)
            raise ArgumentError(f"{label} is {target}; {array.min()}..{array.max()} does not fit", user_line())
        raise ArgumentTypeError(f"{label} needs an array of {target}, an array of {source} came", user_line())

    def _sizes(self, arrays: Sequence[Array]) -> tuple[int, ...]:
        """The size of each named dimension, agreed by all arguments."""
        sizes: dict[str, int] = {}
        source: dict[str, str] = {}
        for tensor, array in zip(self.inputs, arrays, strict=True):
            for axis, extent in enumerate(tensor.shape):
                name = str(extent)
                if isinstance(extent, int) or not name.isidentifier():
                    continue
                size = array.shape[axis]
                if sizes.setdefault(name, size) != size:
                    raise ArgumentError(
                        f"{self.name}: the dimension {name} is {sizes[name]} in {source[name]!r} "
                        f"and {size} in {tensor.name!r} (shape {array.shape})",
                        user_line(),
                    )
                source.setdefault(name, str(tensor.name))
        return tuple(sizes[name] for name in self._dimensions)

    def _check_shapes(self, arrays: Sequence[Array], sizes: Mapping[str, int]) -> None:
        for tensor, array in zip(self.inputs, arrays, strict=True):
            wanted = tuple(evaluate_extent(extent, sizes) for extent in tensor.shape)
            if array.shape != wanted:
                given = "" if wanted == tensor.shape else f", here {format_shape(wanted)}"
                raise ArgumentError(
                    f"{self.name}: input {tensor.name!r} has shape {format_shape(tensor.shape)}{given}; "
                    f"an array of shape {array.shape} came",
                    user_line(),
                )

    # --- Compiling --------------------------------------------------------------------------------------------------

    def _specialise(self, sizes: tuple[int, ...]) -> Specialisation:
        with self._lock:
            found = self._specialisations.get(sizes)
            if found is None:
                found = self._compile(dict(zip(self._dimensions, sizes, strict=True)))
                self._specialisations[sizes] = found
        return found

    def _compile(self, sizes: Mapping[str, int]) -> Specialisation:
        for extent, least, message, line in self._requirements:
            value = evaluate_extent(extent, sizes)
            if isinstance(value, int) and value < least:
                raise ArgumentError(f"{self.name}: {message}", line)
        leaves: dict[Node, Node] = {}
        graph = self.graph
        if sizes:
            graph = specialise(graph, sizes, leaves)
            for node in graph.nodes:
                if any(isinstance(extent, int) and extent < 0 for extent in node.shape):
                    raise ShapeError(
                        f"{self.name}: with {dict(sizes)} an expression has shape {format_shape(node.shape)}",
                        where(node),
                    )
        before = len(graph.nodes)
        graph = run_passes(graph)
        order: list[Input] = []
        for tensor in (*self.inputs, *self._variables):
            node = leaves.get(tensor.node, tensor.node)
            if node is tensor.node and sizes and not all(isinstance(extent, int) for extent in node.shape):
                shape = tuple(evaluate_extent(extent, sizes) for extent in node.shape)
                assert isinstance(node, Input)
                node = Input(node.name, shape, node.dtype, node.kind, node.serial)
            assert isinstance(node, Input)
            order.append(node)
        place = {variable: position for position, variable in enumerate(self._variables, len(self.inputs))}
        targets = [order[place[target]] for target in self._targets]
        program = plan(graph, self.name, order, len(self._outputs), targets)
        if config.debug > 2:
            print(program, file=sys.stderr)
        executable = self._backend.compile(program, self.options)
        stats = Stats(len(program.kernels), before, len(graph.nodes), program.arena_bytes)
        return Specialisation(program, executable, graph, stats)

    # --- Looking ----------------------------------------------------------------------------------------------------

    def specialised(self, **sizes: int) -> Specialisation:
        """The compiled form for these sizes of the named dimensions (compiled now, if need be).

        Left out, each named dimension is as in the last compiled form, or 1 when there is none.
        """
        unknown = set(sizes) - set(self._dimensions)
        if unknown:
            raise ArgumentError(f"{self.name}: there is no dimension {', '.join(sorted(unknown))}", user_line())
        last = next(reversed(self._specialisations), None)
        default = last if last is not None else (1,) * len(self._dimensions)
        key = tuple(sizes.get(name, size) for name, size in zip(self._dimensions, default, strict=True))
        return self._specialisations.get(key) or self._specialise(key)

    @property
    def program(self) -> Program:
        """The program of the last compiled form."""
        return self.specialised().program

    @property
    def stats(self) -> Stats:
        """Facts of the last compiled form."""
        return self.specialised().stats

    def source(self, kind: str = "numpy", **sizes: int) -> str:
        """Generated text: "program", "graph", "numpy", "llvm", "asm" or "latex", for the given sizes.

        "numpy" and "llvm" are generated by the backends of those names, whichever this function runs on.
        """
        found = self.specialised(**sizes)
        if kind == "program":
            return str(found.program)
        if kind == "graph":
            return str(found.graph)
        if kind == "latex":
            from graphc.render.latex import latex_of_graph  # drawing is above the compiler, loaded when asked for

            return latex_of_graph(self.graph)
        try:
            return found.executable.source(kind)
        except BackendError as error:
            for name in backends.available():
                if name == self.backend:
                    continue
                try:
                    return backends.load(name).compile(found.program, self.options).source(kind)
                except BackendError:
                    continue
            raise BackendError(error.message, user_line()) from None

    def export(self, path: str, **options: Any) -> list[str]:
        """Write an object file and a header; see the backend's documentation for the options.

        Returns the paths written. Errors: `ExportError`.
        """
        exporter = getattr(self._backend, "export", None)
        if exporter is None:
            raise BackendError(f"the backend {self.backend!r} cannot export", user_line())
        sizes = options.pop("sizes", {})
        found = self.specialised(**sizes)
        names = found.program.inputs[len(self.inputs) :]
        values = {name: variable.value for name, variable in zip(names, self._variables, strict=True)}
        written: list[str] = exporter(found.program, path, values, self.options, **options)
        return written

    def __repr__(self) -> str:
        inputs = ", ".join(f"{t.name}: {t.dtype}{format_shape(t.shape)}" for t in self.inputs)
        return f"<Function {self.name}({inputs}) on {self.backend}>"


@overload
def compile(
    inputs: Sequence[Tensor],
    outputs: Tensor,
    updates: Mapping[Variable, Tensor] | None = None,
    *,
    backend: str | None = None,
    threads: int | None = None,
    cpu: str = "native",
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
    name: str = "function",
) -> Function:
    """Compile expressions to a Function.

    inputs: leaves made by `gc.input`, in the order of a call's arguments; unused ones are allowed.
    outputs: one expression (a call returns one array) or a list (a call returns a tuple).
    updates: {param or state: its value after the call}, applied in place after all outputs are computed. The next
        values of states that the outputs or updates reach (`State.set_next`) are added.
    backend: the name of an installed backend; threads: how many it may use (None: all CPUs); cpu: "native" or a name.

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
    changes = _all_updates(results, dict(updates or {}))
    if threads is not None and (not isinstance(threads, int) or threads < 1):
        raise ArgumentError(f"compile: threads must be a whole number from 1 up, not {threads!r}", user_line())
    options = Options(threads if threads is not None else config.threads, cpu)
    try:
        return Function(inputs, results, changes, single, backend or config.backend, options, name)
    except BackendError as error:
        if error.where is None:
            raise BackendError(error.message, user_line()) from error
        raise


def _all_updates(results: Sequence[Tensor], updates: dict[Variable, Tensor]) -> dict[Variable, Tensor]:
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
    while True:
        reached = topological(tensor.node for tensor in (*results, *done.values()))
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

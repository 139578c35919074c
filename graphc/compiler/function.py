"""Function: what `compile` returns.

A Function checks its arguments, finds the sizes of named dimensions, compiles the graph for them once (passes, plan,
backend) and calls the result; params and states are shared by all functions that read them.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graphc import backend as backends
from graphc.backend import Executable, Options
from graphc.compiler.arguments import Arguments
from graphc.config import config
from graphc.errors import ArgumentError, BackendError, CompileError, ShapeError
from graphc.ir.extent import dimension_names, format_shape
from graphc.ir.extent import evaluate as evaluate_extent
from graphc.ir.graph import Graph, specialise
from graphc.ir.node import Input, Node
from graphc.ir.origin import where
from graphc.lang.requirements import requirements_of
from graphc.lang.source import user_line
from graphc.lang.tensor import Tensor, Variable, variables
from graphc.passes.pipeline import run_passes
from graphc.passes.plan import plan
from graphc.program import Program


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
        self._dimensions = self._find_dimensions()
        self._arguments = Arguments(name, self.inputs, self._dimensions)
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
        arrays, sizes = self._arguments.check(arguments)
        found = self._specialisations.get(sizes) or self._specialise(sizes)
        arrays.extend(variable.storage for variable in self._variables)
        try:
            results = found.executable.run(arrays)
        except IndexError as error:
            raise ArgumentError(f"{self.name}: {error}", user_line()) from None
        return results[0] if self._single else tuple(results)

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

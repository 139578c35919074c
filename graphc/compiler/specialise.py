"""The compiled forms of a function: one for each combination of sizes of its named dimensions."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from graphc import backend as backends
from graphc.backend import Executable, Options
from graphc.compiler.memory import bytes_of, memory_of
from graphc.config import config
from graphc.errors import ArgumentError, CompileError, ShapeError
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
    """Facts of one compiled program.

    kernels: how many. nodes, nodes_after_passes: of its graph, before and after the passes.
    arena_bytes: the arena, in which all temporaries live. peak_bytes: the most of them that are alive at once, in whole
        cache lines; no arena can be smaller. `Function.memory` shows when and where.
    input_bytes, param_bytes, state_bytes, constant_bytes, output_bytes: the arrays beside the arena, by kind.

    A backend may take more: the workspace of a contraction, NumPy's intermediate arrays.
    """

    kernels: int
    nodes: int
    nodes_after_passes: int
    arena_bytes: int
    peak_bytes: int
    input_bytes: int
    param_bytes: int
    state_bytes: int
    constant_bytes: int
    output_bytes: int


@dataclass(frozen=True)
class Specialisation:
    """A program for known sizes, compiled."""

    program: Program
    executable: Executable
    graph: Graph
    stats: Stats


class Specialisations:
    """The graph of `outputs` and `updates`, compiled for the sizes that are asked for."""

    def __init__(
        self,
        name: str,
        inputs: Sequence[Tensor],
        outputs: Sequence[Tensor],
        updates: Mapping[Variable, Tensor],
        backend: str,
        options: Options,
    ) -> None:
        self.name = name
        self.inputs = tuple(inputs)
        self.options = options
        self._outputs = tuple(outputs)
        self.targets = tuple(updates)
        nodes = [tensor.node for tensor in (*outputs, *updates.values())]
        names = tuple(tensor.name or "" for tensor in outputs)
        self.graph = Graph(tuple(nodes), names)
        self.backend = backends.load(backend)
        self.variables = self._reachable_variables()
        self.dimensions = self._find_dimensions()
        self._requirements = requirements_of(self.graph.nodes)
        self._found: dict[tuple[int, ...], Specialisation] = {}
        self._lock = threading.Lock()

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
        found.update(dict.fromkeys(self.targets))
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

    def find(self, sizes: tuple[int, ...]) -> Specialisation:
        """The compiled form for these sizes of `dimensions`, compiled now if need be."""
        found = self._found.get(sizes)
        if found is None:
            with self._lock:
                found = self._found.get(sizes)
                if found is None:
                    found = self._compile(dict(zip(self.dimensions, sizes, strict=True)))
                    self._found[sizes] = found
        return found

    def last(self) -> tuple[int, ...]:
        """The sizes of the last compiled form, or 1 each when there is none."""
        return next(reversed(self._found), (1,) * len(self.dimensions))

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
        for tensor in (*self.inputs, *self.variables):
            node = leaves.get(tensor.node, tensor.node)
            if node is tensor.node and sizes and not all(isinstance(extent, int) for extent in node.shape):
                shape = tuple(evaluate_extent(extent, sizes) for extent in node.shape)
                assert isinstance(node, Input)
                node = Input(node.name, shape, node.dtype, node.kind, node.serial)
            assert isinstance(node, Input)
            order.append(node)
        place = {variable: position for position, variable in enumerate(self.variables, len(self.inputs))}
        targets = [order[place[target]] for target in self.targets]
        program = plan(graph, self.name, order, len(self._outputs), targets)
        if config.debug > 2:
            print(program, file=sys.stderr)
        executable = self.backend.compile(program, self.options)
        stats = Stats(
            kernels=len(program.kernels),
            nodes=before,
            nodes_after_passes=len(graph.nodes),
            arena_bytes=program.arena_bytes,
            peak_bytes=memory_of(program).peak_bytes,
            input_bytes=bytes_of(program, "input"),
            param_bytes=bytes_of(program, "param"),
            state_bytes=bytes_of(program, "state"),
            constant_bytes=bytes_of(program, "constant"),
            output_bytes=bytes_of(program, "output"),
        )
        return Specialisation(program, executable, graph, stats)

"""The compiled forms of a function: one for each combination of sizes of its named dimensions."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from graphc import backend as backends
from graphc.backend import Executable, Options
from graphc.compiler.memory import bytes_of, memory_of
from graphc.compiler.phases import compile_phased
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
from graphc.passes.phases import plan_phases
from graphc.passes.pipeline import run_passes
from graphc.passes.plan import plan
from graphc.phased import PhasedProgram
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


MOST_SIZES = 8
"""Sizes of dynamic dimensions for which a function keeps what a call needs; any other is soon made again."""

TEST_ROWS = 6
"""Rows for which the self-test of an exported function records what it should compute."""

LEAST_TRIED = 4096
"""Sizes that are tried to find the least one with which everything is defined."""


class _Open(NamedTuple):
    """What is compiled once for all sizes of the dynamic dimensions."""

    graph: Graph
    program: PhasedProgram
    executable: Callable[[PhasedProgram], Executable]
    stats: Stats  # without the arrays, whose bytes the sizes tell


@dataclass(frozen=True)
class Specialisation:
    """A program for known sizes, compiled."""

    program: Program | PhasedProgram
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
        dynamic: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.inputs = tuple(inputs)
        self.options = options
        self._outputs, self._updates = tuple(outputs), dict(updates)
        self.targets = tuple(updates)
        nodes = [tensor.node for tensor in (*outputs, *updates.values())]
        names = tuple(tensor.name or "" for tensor in outputs)
        self.graph = Graph(tuple(nodes), names)
        self.backend = backends.load(backend)
        self.variables = self._reachable_variables()
        self.dimensions = self._find_dimensions()
        self.dynamic = self._known_dimensions(dynamic)
        self._requirements = requirements_of(self.graph.nodes)
        self._found: dict[tuple[int, ...], Specialisation] = {}
        self._open: dict[tuple[int, ...], _Open] = {}
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

    def _known_dimensions(self, dynamic: Sequence[str]) -> tuple[str, ...]:
        """The names of `dynamic`, checked."""
        is_list = isinstance(dynamic, Iterable) and not isinstance(dynamic, str)
        if not is_list or not all(isinstance(name, str) for name in dynamic):
            raise ArgumentError(f"compile: dynamic is a list of names, such as [\"N\"], not {dynamic!r}", user_line())
        for name in dynamic:
            if name not in self.dimensions:
                known = ", ".join(self.dimensions) or "none"
                message = f"compile: dynamic: there is no dimension {name!r}; there are: {known}"
                raise ArgumentError(message, user_line())
        return tuple(dict.fromkeys(dynamic))

    def prepare(self) -> None:
        """Compile now what depends on no size that a call brings."""
        if not self.dimensions:
            self.find(())
        elif len(self.dynamic) == len(self.dimensions):
            self._without_sizes({})

    def opened(self, dynamic: Sequence[str]) -> Specialisations:
        """The same with other dynamic dimensions."""
        return Specialisations(
            self.name, self.inputs, self._outputs, self._updates, self.backend.name, self.options, dynamic
        )

    def for_test(self, sizes: Mapping[str, int]) -> Specialisation:
        """The form for these sizes, with a few rows of each dynamic dimension: enough for blocks of two lengths."""
        fixed = {name: sizes[name] for name in self.dimensions if name not in self.dynamic}
        least = {name: size for name, _, size in self._without_sizes(fixed).program.dimensions}
        tested = {name: max(TEST_ROWS, size) for name, size in least.items()}
        return self.find(tuple({**fixed, **tested}[name] for name in self.dimensions))

    def find(self, sizes: tuple[int, ...]) -> Specialisation:
        """The compiled form for these sizes of `dimensions`, compiled now if need be."""
        found = self._found.get(sizes)
        if found is None:
            with self._lock:
                found = self._found.get(sizes)
                if found is None:
                    named = dict(zip(self.dimensions, sizes, strict=True))
                    if self.dynamic and len(self._found) >= MOST_SIZES:
                        del self._found[next(iter(self._found))]
                    found = self._sized(named) if self.dynamic else self._compile(named)
                    self._found[sizes] = found
        return found

    def _sized(self, sizes: Mapping[str, int]) -> Specialisation:
        """The form for these sizes where some are dynamic: what is compiled knows the others alone."""
        self._check(sizes)
        known = self._without_sizes({name: size for name, size in sizes.items() if name not in self.dynamic})
        for name, _, least_size in known.program.dimensions:
            if sizes[name] < least_size:
                raise ArgumentError(f"{self.name}: {name} must be {least_size} or more, not {sizes[name]}", user_line())
        program = known.program.at(sizes)
        stats = _with_arrays(known.stats, program)
        return Specialisation(program, known.executable(program), known.graph, stats)

    def _without_sizes(self, fixed: Mapping[str, int]) -> _Open:
        """What is compiled for these sizes of the other dimensions."""
        key = tuple(fixed.values())
        known = self._open.get(key)
        if known is None:
            graph, leaves = self._with_sizes(fixed)
            order, targets = self._order(leaves, fixed)
            least = {name: self._least(name, fixed) for name in self.dynamic}
            program = plan_phases(graph, self.name, order, len(self._outputs), targets, least)
            if config.debug > 2:
                print(program, file=sys.stderr)
            executable = compile_phased(self.backend, program, self.options)
            known = self._open[key] = _Open(graph, program, executable, _stats_of_phases(program, graph))
        return known

    def _least(self, name: str, fixed: Mapping[str, int]) -> int:
        """The least size of a dynamic dimension that meets all that is required of it."""
        required = [
            (extent, least) for extent, least, _, _ in self._requirements if name in dimension_names(extent)
        ]
        for size in range(LEAST_TRIED):
            values = [(evaluate_extent(extent, {**fixed, name: size}), least) for extent, least in required]
            if all(not isinstance(value, int) or value >= least for value, least in values):
                return size
        return LEAST_TRIED

    def last(self) -> tuple[int, ...]:
        """The sizes of the last compiled form, or 1 each when there is none."""
        return next(reversed(self._found), (1,) * len(self.dimensions))

    def _check(self, sizes: Mapping[str, int]) -> None:
        """`ArgumentError` for sizes with which something is not defined, such as the mean of no numbers."""
        for extent, least, message, line in self._requirements:
            value = evaluate_extent(extent, sizes)
            if isinstance(value, int) and value < least:
                raise ArgumentError(f"{self.name}: {message}", line)

    def _with_sizes(self, sizes: Mapping[str, int]) -> tuple[Graph, dict[Node, Node]]:
        """The graph with these sizes, and the new leaf of each old one."""
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
        return graph, leaves

    def _order(self, leaves: Mapping[Node, Node], sizes: Mapping[str, int]) -> tuple[list[Input], list[Input]]:
        """The leaves of a program in the order of a call, and those among them that are updated."""
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
        return order, [order[place[target]] for target in self.targets]

    def _compile(self, sizes: Mapping[str, int]) -> Specialisation:
        self._check(sizes)
        graph, leaves = self._with_sizes(sizes)
        before = len(graph.nodes)
        graph = run_passes(graph)
        order, targets = self._order(leaves, sizes)
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


def _stats_of_phases(program: PhasedProgram, graph: Graph) -> Stats:
    parts = [part for phase in program.all_phases() for _, part in phase.programs]
    longest = [phase.programs[0][1] for phase in program.phases]
    return Stats(
        kernels=sum(len(part.kernels) for part in longest),
        nodes=len(graph.nodes),
        nodes_after_passes=sum(len(list(part.stages())) for part in longest),
        arena_bytes=max((part.arena_bytes for part in parts), default=0),
        peak_bytes=max((memory_of(part).peak_bytes for part in parts), default=0),
        input_bytes=0,
        param_bytes=0,
        state_bytes=0,
        constant_bytes=0,
        output_bytes=0,
    )


def _with_arrays(stats: Stats, program: PhasedProgram) -> Stats:
    """The stats of a phased program, with its arrays for known sizes."""
    kinds = dict.fromkeys(("input", "param", "state", "constant", "output", "temporary"), 0)
    for buffer in program.buffers:
        kinds[buffer.kind] += buffer.nbytes
    return replace(
        stats,
        arena_bytes=stats.arena_bytes + kinds["temporary"],
        peak_bytes=stats.peak_bytes + kinds["temporary"],
        input_bytes=kinds["input"],
        param_bytes=kinds["param"],
        state_bytes=kinds["state"],
        constant_bytes=kinds["constant"],
        output_bytes=kinds["output"],
    )


def one_program(found: Specialisation, name: str) -> Program:
    """The program of a form; `CompileError` where a dimension is dynamic, so that there is one for each block."""
    if isinstance(found.program, PhasedProgram):
        names = ", ".join(found.program.sizes)
        raise CompileError(
            f"{name}: {names} is dynamic, so that there is no one program; compile without dynamic= to look at it, to "
            'profile it or to draw it (source("program") prints what there is)',
            user_line(),
        )
    return found.program

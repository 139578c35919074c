"""Graph to PhasedProgram: phases over blocks of rows, each planned as a program of its own (`graphc.phased`).

A node without rows is known after as many phases as there are sums over rows, one behind the other, on the longest way
down to the leaves; that is its level. Phase (level, N) computes the nodes with rows of N whose operands are known by
then, and what they are summed to, which is known one level later. Before the phases of a level stands one without rows,
of what these read of totals and params; the last one of all gives the other outputs and all new values of params.

What a later phase needs of an earlier one is stored, but for what costs nothing to compute again: changes of shape and
order, and what follows from no leaf.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from graphc.ir import scalar as sc
from graphc.ir.affine import AffineMap, axis_row
from graphc.ir.build import elementwise
from graphc.ir.extent import evaluate, ints
from graphc.ir.graph import Graph, rebuild, specialise
from graphc.ir.node import Const, Generic, Input, Node, View, leaf, scalar_map
from graphc.ir.origin import originating, origins_of
from graphc.ir.walk import postorder, unique_name
from graphc.passes.blocks import block_lengths, whole_lengths
from graphc.passes.pipeline import ONCE, PIPELINE, run_passes
from graphc.passes.plan import plan
from graphc.passes.positions import places_of_extremes
from graphc.passes.row_numbers import Numbers
from graphc.passes.rows import Combining, RowAnalysis
from graphc.passes.waits import wait_in_rows
from graphc.phased import FIRST_ROW, Phase, PhasedProgram
from graphc.program import Buffer, Program

_LATER = PIPELINE[len(ONCE) :]


def plan_phases(
    graph: Graph,
    name: str,
    leaves: Sequence[Input],
    results: int,
    targets: Sequence[Input],
    dimensions: Mapping[str, int],
) -> PhasedProgram:
    """The program of a graph, as `plan` makes it, for any size of `dimensions`, which have a least size each.

    Every other extent is known. `CompileError` where rows mix (`graphc.passes.rows`).
    """
    for once in ONCE:
        graph = once(graph)
    return _Planner(graph, name, leaves, results, targets, dimensions).program()


@dataclass
class _Levels:
    """For each node the dimension of its rows (of a sum, of those that it sums), how it combines rows, and the level at
    which it is computed."""

    rows: dict[Node, str | None] = field(default_factory=dict)
    sums: dict[Node, Combining] = field(default_factory=dict)
    at: dict[Node, int] = field(default_factory=dict)

    def known(self, node: Node) -> int:
        """The level at which something else than the rows of the same phase may read the node."""
        return self.at[node] + (node in self.sums)

    def rows_of(self, node: Node) -> str | None:
        """The dimension of the node's own rows."""
        return None if node in self.sums else self.rows[node]


class _Work(NamedTuple):
    """What a phase computes, as a graph over `given`, which are the buffers `reads`: first the buffers `writes`, then
    the new values of `targets`, which are those of `sums` where there are any."""

    graph: Graph
    given: Sequence[Input]
    reads: Sequence[str]
    writes: Sequence[str]
    targets: Sequence[Input]
    sums: Sequence[tuple[str, str]] = ()


class _Planner:
    def __init__(
        self,
        graph: Graph,
        name: str,
        leaves: Sequence[Input],
        results: int,
        targets: Sequence[Input],
        dimensions: Mapping[str, int],
    ) -> None:
        self.name, self.results = name, results
        self.leaves, self.targets, self.least = leaves, targets, dict(dimensions)
        self.one_each = dict.fromkeys(dimensions, 1)
        self.analysis = RowAnalysis(list(dimensions))
        self.graph = graph = wait_in_rows(places_of_extremes(graph, self.analysis), self._dimension_of)
        self.numbers = Numbers(self.analysis)
        self.levels = self._levels()
        self.users = graph.users()
        self.taken: set[str] = set()
        self.buffers: dict[str, Buffer] = {}
        self.rows: dict[str, str] = {}
        self.stored: dict[Node, tuple[Input, str]] = {}
        """What later phases find in memory: the leaf that stands for a node there, and its buffer."""
        self.turned: dict[Node, tuple[Node, Node]] = {}
        """For a node whose rows are not its first axis: what is stored, with that axis first, and the way back."""
        self.size_buffers: dict[str, str] = {}
        self.constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self.phases: list[Phase] = []

    def program(self) -> PhasedProgram:
        for one in self.leaves:
            self._store(one, one.name, one.kind)
        inputs = tuple(self.stored[one][1] for one in self.leaves)
        for dimension in self.least:
            name = self.size_buffers[dimension] = unique_name(f"size_{dimension}", self.taken)
            self.buffers[name] = Buffer(name, (), "int64", "constant", value=np.array(1, np.int64))
        names = [*self.graph.names, *[""] * self.results]
        self.outputs = [
            (node, self._buffer(node, name or "output", "output"))
            for node, name in zip(self.graph.outputs[: self.results], names, strict=False)
        ]
        last = max(map(self.levels.known, self.graph.nodes), default=0)
        for level in range(last + 1):
            self._between(level)
            for dimension in self.least:
                self._over_rows(level, dimension)
        self._at_last()
        return PhasedProgram(
            self.name,
            tuple(self.buffers.values()),
            tuple(self.phases),
            inputs,
            tuple(name for _, name in self.outputs),
            tuple(self.stored[target][1] for target in self.targets),
            self._whole(),
            self.rows,
            tuple((dimension, self.size_buffers[dimension], least) for dimension, least in self.least.items()),
            self.one_each,
        )

    def _dimension_of(self, node: Node) -> str | None:
        rows = self.analysis.rows_of(node.shape, node)
        return rows.dimension if rows else None

    def _levels(self) -> _Levels:
        levels = _Levels()
        for node in self.graph.nodes:
            combining = self.analysis.check(node)
            levels.rows[node] = combining.dimension if combining else self._dimension_of(node)
            if combining is not None:
                levels.sums[node] = combining
            levels.at[node] = max(map(levels.known, node.operands), default=0)
        return levels

    def _buffer(self, node: Node, stem: str, kind: str) -> str:
        """A buffer for a node's value."""
        name = unique_name(stem, self.taken)
        rows = self.analysis.rows_of(node.shape, node)
        if rows is not None:
            self.analysis.require_first(rows, node, kind)
            self.rows[name] = rows.dimension
        shape = ints(tuple(evaluate(extent, self.one_each) for extent in node.shape))
        self.buffers[name] = Buffer(name, shape, node.dtype, kind)
        return name

    def _store(self, node: Node, stem: str = "", kind: str = "temporary") -> str:
        """A buffer in which later phases find the node's value."""
        stem = stem or next((origin.op for origin in origins_of(node)), "value")
        name = self._buffer(node, stem, kind)
        stands_for = node if isinstance(node, Input) else leaf(stem, node.shape, node.dtype, "input")
        self.stored[node] = stands_for, name
        return name

    def _rows_first(self, node: Node) -> Node:
        """The node with its rows as the first axis, as memory holds it."""
        rows = self.analysis.rows_of(node.shape, node)
        if rows is None or rows.axis == 0:
            return node
        order = [rows.axis, *(axis for axis in range(len(node.shape)) if axis != rows.axis)]
        with originating(origins_of(node)):
            first = _transposed(node, order)
            self.turned[node] = first, _transposed(first, [order.index(axis) for axis in range(len(order))])
        return first

    def _between(self, level: int) -> None:
        """The phase of what rows of this level read of values without rows."""
        before = dict(self.stored)
        roots = [
            (node, self._store(node))
            for node in self.graph.nodes
            if self.levels.rows[node] is None
            and self.levels.at[node] == level
            and self._is_needed(node, lambda user: self.levels.rows[user] is not None)
        ]
        if roots:
            self._add(self._work(roots, before), None, (0,))

    def _at_last(self) -> None:
        """The phase of all outputs without rows, and of all new values of params."""
        roots = [(node, name) for node, name in self.outputs if self.levels.rows_of(node) is None]
        updates = self.graph.outputs[self.results :]
        if roots or updates:
            self._add(self._work(roots, self.stored, updates, self.targets), None, (0,))

    def _over_rows(self, level: int, dimension: str) -> None:
        """The phase of the rows of a dimension at a level."""
        mine = [
            node for node in self.graph.nodes if self.levels.rows[node] == dimension and self.levels.at[node] == level
        ]
        before = dict(self.stored)
        sums = [(node, self._store(node)) for node in mine if node in self.levels.sums]
        roots = [(node, name) for node, name in self.outputs if node in mine and node not in self.levels.sums]
        roots += [
            (first := self._rows_first(node), self._store(first))
            for node in mine
            if node not in self.levels.sums and self._is_needed(node, lambda user: self.levels.at[user] > level)
        ]
        if roots or sums:
            work = self._work(roots, before, [node for node, _ in sums])
            work = self._adding(work, [(self.stored[node][0], name, self.levels.sums[node]) for node, name in sums])
            blocks = block_lengths(mine, self.least, self.levels.rows_of)
            self._add(work, dimension, blocks.lengths, () if sums else blocks.again)

    def _is_needed(self, node: Node, by: Callable[[Node], bool]) -> bool:
        """Whether the node must be in memory for some user, which may read it through what is computed again."""
        if node in self.stored or self._is_free(node):
            return False
        seen: set[Node] = set()
        todo = [node]
        while todo:
            for user in self.users[todo.pop()]:
                if by(user):
                    return True
                if self._is_free(user) and user not in seen:
                    seen.add(user)
                    todo.append(user)
        return False

    def _is_free(self, node: Node) -> bool:
        """Whether a node is computed where it is read: another order or shape of elements, or from no leaf."""
        if isinstance(node, (Const, View)):
            return True
        if not isinstance(node, Generic) or node.reducer is not None:
            return False
        return isinstance(node.body, sc.Arg) or all(map(_is_number, node.operands))

    def _work(
        self,
        roots: Sequence[tuple[Node, str]],
        stored: Mapping[Node, tuple[Input, str]],
        updates: Sequence[Node] = (),
        targets: Sequence[Input] = (),
    ) -> _Work:
        """The roots and the updates over leaves: those of what is stored, sizes, and the number of the first row."""
        wanted = [*(node for node, _ in roots), *updates]
        back = {node: way for node, (first, way) in self.turned.items() if first in stored}

        def below(node: Node) -> Sequence[Node]:
            return () if node in stored else (back[node],) if node in back else node.operands

        done: dict[Node, Node] = {}
        for node in postorder(wanted, below):
            if node in stored or node in back:
                done[node] = stored[node][0] if node in stored else done[back[node]]
                continue
            with originating(origins_of(node)):
                done[node] = self.numbers.read_by(rebuild(node, [done[operand] for operand in node.operands]))
        graph = Graph(tuple(done[node] for node in wanted))
        buffers = dict(self.stored.values())
        buffers |= {one: self.size_buffers[dimension] for dimension, one in self.numbers.sizes.items()}
        buffers[self.numbers.first_row] = FIRST_ROW
        given = tuple(dict.fromkeys((*graph.inputs, *targets)))
        return _Work(graph, given, [buffers[one] for one in given], [name for _, name in roots], targets)

    def _adding(self, work: _Work, sums: Sequence[tuple[Input, str, Combining]]) -> _Work:
        """The work with its updates, results over one block, added to the buffers of what is summed."""
        totals: list[Node] = []
        targets: list[Input] = []
        outputs = work.graph.outputs
        for part, (total, _, combining) in zip(outputs[len(work.writes) :], sums, strict=True):
            target = Input(total.name, total.shape, total.dtype, "state", total.serial)
            targets.append(target)
            totals.append(_combined(combining.reducer, target, part))
        return _Work(
            Graph((*outputs[: len(work.writes)], *totals)),
            (*work.given, *targets),
            [*work.reads, *(name for _, name, _ in sums)],
            work.writes,
            targets,
            [(name, combining.reducer) for _, name, combining in sums],
        )

    def _whole(self) -> Phase | None:
        """The programs for sizes that are one block, where rows are combined."""
        if len(self.least) != 1 or not self.levels.sums:
            return None
        dimension, least = next(iter(self.least.items()))
        lengths = {length for phase in self.phases for length, _ in phase.programs if length >= max(least, 1)}
        nodes = [node for node in self.graph.nodes if self.levels.rows[node] is not None]
        paying = whole_lengths(nodes, list(self.levels.sums), lengths, self.least)
        reads = [self.stored[one][1] for one in self.leaves]
        work = _Work(self.graph, self.leaves, reads, [name for _, name in self.outputs], self.targets)
        return self._phase(work, dimension, paying) if paying else None

    def _add(
        self, work: _Work, dimension: str | None, lengths: Sequence[int], again: Sequence[int] = ()
    ) -> None:
        self.phases.append(self._phase(work, dimension, lengths, again))

    def _phase(
        self, work: _Work, dimension: str | None, lengths: Sequence[int], again: Sequence[int] = ()
    ) -> Phase:
        programs: list[tuple[int, Program]] = []
        for length in lengths:
            graph, given = work.graph, list(work.given)
            if dimension is not None:
                graph = specialise(graph, {dimension: length}, {})
                given = [_sized(one, {dimension: length}) for one in given]
            name = f"{self.name}_{len(self.phases)}" + (f"_{length}" if length else "")
            graph = run_passes(graph, passes=_LATER)
            programs.append((length, plan(graph, name, given, len(work.writes), work.targets)))
        constants = tuple(self._constants(program) for _, program in programs)
        reads, writes, sums = tuple(work.reads), tuple(work.writes), tuple(work.sums)
        return Phase(dimension, tuple(programs), reads, writes, sums, constants, tuple(again or [0] * len(programs)))

    def _constants(self, program: Program) -> tuple[str, ...]:
        """The buffers of a program's constants; programs share what is equal."""
        names: list[str] = []
        for buffer in program.buffers:
            if buffer.kind == "constant" and buffer.alias is None:
                assert buffer.value is not None
                key = buffer.dtype, buffer.shape, buffer.value.tobytes()
                if key not in self.constants:
                    name = self.constants[key] = unique_name(buffer.name, self.taken)
                    self.buffers[name] = replace(buffer, name=name)
                names.append(self.constants[key])
        return tuple(names)


def _transposed(node: Node, order: Sequence[int]) -> Node:
    """The node with its axes in another order."""
    read = AffineMap(len(order), tuple(axis_row(order.index(axis)) for axis in range(len(order))))
    return scalar_map(tuple(node.shape[axis] for axis in order), (node,), (read,), sc.Arg(0, node.dtype))


def _sized(one: Input, sizes: Mapping[str, int]) -> Input:
    """The leaf that `specialise` makes of a leaf."""
    shape = tuple(evaluate(extent, sizes) for extent in one.shape)
    return Input(one.name, shape, one.dtype, one.kind, one.serial)


def _is_number(node: Node) -> bool:
    """Whether a node follows from no leaf, and soon."""
    return isinstance(node, Const) or (isinstance(node, Generic) and not node.operands)


def _combined(reducer: str, total: Node, part: Node) -> Node:
    """What is known so far with the result over one more block."""
    if total.dtype == "bool":
        op = "or" if reducer in ("sum", "max") else "and"
    else:
        op = {"sum": "add", "prod": "mul", "max": "maximum", "min": "minimum"}[reducer]
    return elementwise(op, (total, part), sc.apply(op, sc.Arg(0, total.dtype), sc.Arg(1, part.dtype)))

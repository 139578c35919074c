"""Graph to Program: kernels from groups, a buffer for each value, names from the user's graph."""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from graphc.ir import scalar as sc
from graphc.ir.affine import identity
from graphc.ir.extent import ints
from graphc.ir.graph import Graph
from graphc.ir.loop import loop_of, value_of
from graphc.ir.node import INSIDE, Const, Generic, Input, Join, Node, Opaque, alias_of
from graphc.ir.origin import origins_of
from graphc.ir.printer import node_names
from graphc.ir.walk import unique_name
from graphc.passes.buffers import place
from graphc.passes.group import group
from graphc.passes.in_place import in_place
from graphc.passes.order import execution_order
from graphc.passes.together import Group, covers
from graphc.program import Buffer, Kernel, Loop, Program, Stage


def plan(graph: Graph, name: str, leaves: Sequence[Input], results: int, targets: Sequence[Input]) -> Program:
    """The program of a graph in gather form whose extents are known.

    `leaves` are the inputs in the order of a call; the first `results` outputs of the graph are returned, the others
    are the new values of `targets`, in order.
    """
    return _Planner(graph, name, leaves, results, targets).program()


class _Planner:
    def __init__(
        self, graph: Graph, name: str, leaves: Sequence[Input], results: int, targets: Sequence[Input]
    ) -> None:
        self.graph, self.name = graph, name
        self.leaves, self.targets = leaves, targets
        self.results = results
        self.names = _identifiers(graph, leaves)
        self.taken = set(self.names.values())
        self.buffers: dict[str, Buffer] = {}
        self.kernels: list[Kernel] = []

    def program(self) -> Program:
        groups = group(self.graph, execution_order(self.graph, self.results, self.targets))
        home: dict[Node, int] = {
            member.node: place
            for place, one in enumerate(groups)
            for member in one.members
            if member.target is member.node
        }
        returned = [_owner(node) for node in self.graph.outputs]
        own = self._claim(returned)
        private = self._private(groups, home, set(returned))
        for leaf in self.leaves:
            self._buffer(leaf, leaf.kind)
        for node in self.graph.nodes:
            match node:
                case Const():
                    name = self.names[node]
                    self.buffers[name] = Buffer(name, node.shape, node.dtype, "constant", value=node.value)
                case Generic() | Opaque() if node in home:
                    self._buffer(node, "output" if node in own else "scratch" if node in private else "temporary")
                case Join():
                    self._buffer(node, "output" if node in own else "temporary")
                case _ if (shown := alias_of(node)) is not None:
                    name, source = self.names[node], self.names[shown]
                    kind = self.buffers[source].kind
                    self.buffers[name] = Buffer(name, ints(node.shape), node.dtype, kind, alias=source)
        for one in groups:
            self.kernels.append(self._kernel(one))
        outputs = self._outputs(own)
        updates = self._updates()
        for source in in_place(self.buffers, self.kernels, outputs, updates):
            self.buffers[source] = replace(self.buffers[source], kind="update")
        buffers, arena = place(
            list(self.buffers.values()), self.kernels, [*outputs, *(source for source, _ in updates)]
        )
        return Program(
            self.name,
            buffers,
            tuple(self.kernels),
            tuple(self.names[leaf] for leaf in self.leaves),
            tuple(outputs),
            tuple(updates),
            arena,
        )

    def _buffer(self, node: Node, kind: str) -> None:
        name = self.names[node]
        self.buffers[name] = Buffer(name, ints(node.shape), node.dtype, kind)

    def _claim(self, returned: Sequence[Node]) -> dict[Node, int]:
        """Nodes whose own buffer is returned: computed ones, each for the first output that is it."""
        claimed: dict[Node, int] = {}
        for position, node in enumerate(returned[: self.results]):
            if not isinstance(node, (Input, Const)):
                claimed.setdefault(node, position)
        return claimed

    def _private(self, groups: Sequence[Group], home: Mapping[Node, int], returned: set[Node]) -> set[Node]:
        """Nodes that nothing outside their kernel reads."""
        users = self.graph.readers()
        places: dict[Node, set[int]] = {}
        for number, one in enumerate(groups):
            for node in one.nodes:
                places.setdefault(node, set()).add(number)
        return {
            node
            for node, place in home.items()
            if node not in returned and users[node] and all(places.get(user) == {place} for user in users[node])
        }

    def _kernel(self, one: Group) -> Kernel:
        stages = tuple(self._stage(member.node, member.target) for member in one.members)
        name = self.names[one.nodes[-1]]
        return Kernel(name, one.kind, one.outer, stages, _loop(f"{name}_step", one) if one.kind == "scan" else None)

    def _stage(self, node: Generic | Opaque, target: Node) -> Stage:
        reads = tuple(self.names[operand] for operand in node.operands)
        initialise = isinstance(node, Generic) and target is node and not covers(node)
        origin = next(iter(origins_of(node)), None)
        where = next((o.where for o in origins_of(node) if o.line), None)
        scope, op = (origin.scope, origin.op) if origin else ("", "")
        return Stage(node, reads, self.names[target], initialise, where, scope, op)

    def _outputs(self, own: Mapping[Node, int]) -> list[str]:
        names: list[str] = []
        for position, node in enumerate(self.graph.outputs[: self.results]):
            if own.get(_owner(node)) == position:
                names.append(self.names[node])
            else:
                names.append(self._copy(node, "output"))
        return names

    def _updates(self) -> list[tuple[str, str]]:
        updates: list[tuple[str, str]] = []
        for node, target in zip(self.graph.outputs[self.results :], self.targets, strict=True):
            source = self.names[node]
            if isinstance(_owner(node), Input):  # the old value of another variable: read it before it is written
                source = self._copy(node, "temporary")
            updates.append((source, self.names[target]))
        return updates

    def _copy(self, node: Node, kind: str) -> str:
        name = unique_name(f"{self.names[node]}_copy", self.taken)
        shape = ints(node.shape)
        self.buffers[name] = Buffer(name, shape, node.dtype, kind)
        rank = identity(len(shape))
        copy = Generic(shape, shape, rank, (node,), (rank,), (INSIDE,), sc.Arg(0, node.dtype), None)
        stage = Stage(copy, (self.names[node],), name, op="copy")
        self.kernels.append(Kernel(name, "loops", len(shape), (stage,)))
        return name


def _loop(name: str, one: Group) -> Loop:
    """What the kernel of a loop's results does; each output of a step is computed once."""
    results = [node for node in one.nodes if isinstance(node, Opaque)]
    loop = loop_of(results[0])
    assert loop is not None and isinstance(loop.length, int)
    outputs = list(dict.fromkeys((*loop.following, *map(value_of, results))))
    return Loop(
        plan(Graph(tuple(outputs)), name, loop.leaves, len(outputs), ()),
        loop.length,
        loop.reverse,
        loop.carried,
        loop.sliced,
        tuple(outputs.index(node) for node in loop.following),
        tuple(outputs.index(value_of(node)) for node in results),
        tuple(node.attribute("final") for node in results),
    )


def _owner(node: Node) -> Node:
    """The node whose memory an output shows."""
    while (shown := alias_of(node)) is not None:
        node = shown
    return node


def _identifiers(graph: Graph, leaves: Sequence[Input]) -> dict[Node, str]:
    """The printer's names as identifiers of Python, unique; leaves that the graph does not read are named too."""
    names = node_names(graph)
    result: dict[Node, str] = {}
    taken: set[str] = set()
    numbers: dict[str, int] = {}
    given = set(leaves)
    for node in (*leaves, *(node for node in graph.nodes if node not in given)):
        stem = re.sub(r"\W", "_", names.get(node) or str(getattr(node, "name", ""))) or "value"
        if stem[0].isdigit() or keyword.iskeyword(stem):
            stem = f"_{stem}"
        result[node] = unique_name(stem, taken, numbers)
    return result

"""Graph: some output nodes and everything below them, in an order in which operands come first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from graphc.ir import scalar as sc
from graphc.ir.changes import Reason, carried, note
from graphc.ir.extent import dimension_names, evaluate
from graphc.ir.node import (
    Const,
    Generic,
    Input,
    Join,
    Node,
    Opaque,
    Step,
    View,
    generic,
    join,
    opaque,
    view,
)
from graphc.ir.origin import originating, origins_of
from graphc.ir.walk import postorder

if TYPE_CHECKING:
    import networkx


ADDED_PARTS = Reason("rewritten", "parts that add up", "join(a, b) -> a + b", "a part is no part of an array any more")


def topological(roots: Iterable[Node]) -> list[Node]:
    """Every node below the roots, operands first, each once; iterative, so depth is no limit."""
    return postorder(roots, _operands)


def _operands(node: Node) -> tuple[Node, ...]:
    return node.operands


@dataclass(frozen=True, eq=False)
class Graph:
    """Output nodes with what they are computed from. `names` are the outputs' names, for printing."""

    outputs: tuple[Node, ...]
    names: tuple[str, ...] = ()
    nodes: tuple[Node, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "nodes", tuple(topological(self.outputs)))

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The leaves in the order in which they were declared."""
        return tuple(sorted((n for n in self.nodes if isinstance(n, Input)), key=lambda n: n.serial))

    @property
    def dimensions(self) -> tuple[str, ...]:
        """The named dimensions that some leaf has, sorted."""
        names: set[str] = set()
        for node in self.nodes:
            for extent in node.shape:
                names |= dimension_names(extent)
        return tuple(sorted(names))

    def users(self) -> dict[Node, list[Node]]:
        """For each node the nodes that read it, in order, each once."""
        users: dict[Node, list[Node]] = {node: [] for node in self.nodes}
        for node in self.nodes:
            for operand in dict.fromkeys(node.operands):
                users[operand].append(node)
        return users

    def readers(self) -> dict[Node, list[Node]]:
        """The users of each node that read its value: an Opaque `again` only waits for its operands but the first."""
        readers = self.users()
        for node in self.nodes:
            if isinstance(node, Opaque) and node.op == "again":
                for operand in {*node.operands[1:]} - {node.operands[0]}:
                    readers[operand].remove(node)
        return readers

    def to_networkx(self) -> networkx.MultiDiGraph[Any]:
        """The graph for analysis: a node per node (attributes `node`, `label`, `shape`, `dtype`), an edge per read."""
        import networkx  # heavy, and only for those who ask

        from graphc.ir.printer import node_names

        names = node_names(self)
        out: networkx.MultiDiGraph[Any] = networkx.MultiDiGraph()
        for node in self.nodes:
            out.add_node(names[node], node=node, label=kind_of(node), shape=node.shape, dtype=node.dtype)
            for position, operand in enumerate(node.operands):
                out.add_edge(names[operand], names[node], position=position)
        return out

    def __str__(self) -> str:
        from graphc.ir.printer import format_graph  # the printer reads graphs: imported when used

        return format_graph(self)


def kind_of(node: Node) -> str:
    """The name of the op that the user wrote, or of the kind of node."""
    for origin in origins_of(node):
        return origin.op
    return type(node).__name__.lower()


def rebuild(node: Node, operands: Sequence[Node]) -> Node:
    """The same node over other operands of the same shapes; itself when nothing changed."""
    if tuple(operands) == node.operands:
        return node
    match node:
        case Generic():
            return generic(
                node.domain, node.shape, node.out_map, operands, node.maps, node.modes, node.body, node.reducer
            )
        case View():
            return view(operands[0], node.shape)
        case Join():
            parts = [part for part in operands if isinstance(part, Generic)]
            return join(parts) if len(parts) == len(operands) else note(ADDED_PARTS, node, _sum_of(operands))
        case Opaque():
            return opaque(node.op, operands, node.shape, node.dtype, node.step, **dict(node.attributes))
    return node


def _sum_of(parts: Sequence[Node]) -> Node:
    """A Join with a part that is no Generic any more: unwritten elements are 0, so the parts add up."""
    from graphc.ir.build import add_nodes

    return add_nodes(parts)


def rewrite(graph: Graph, step: Callable[[Node], Node], part_step: Callable[[Node], Node] | None = None) -> Graph:
    """Rebuild the graph from the leaves up, passing each rebuilt node through `step`; origins are carried over.

    The parts of Joins, which must go on writing just their part, pass through `part_step` instead where it is given.
    """
    parts: set[Node] = set()
    if part_step is not None:
        parts = {part for node in graph.nodes if isinstance(node, Join) for part in node.parts}
    done: dict[Node, Node] = {}
    for node in graph.nodes:
        with originating(origins_of(node)):
            new = rebuild(node, [done[operand] for operand in node.operands])
            done[node] = part_step(new) if part_step is not None and node in parts else step(new)
    carried(done)
    return Graph(tuple(done[node] for node in graph.outputs), graph.names)


def replace(graph: Graph, new: Mapping[Node, Node]) -> Graph:
    """Put other nodes in place of some."""
    done: dict[Node, Node] = dict(new)
    for node in graph.nodes:
        if node not in done:
            with originating(origins_of(node)):
                done[node] = rebuild(node, [done[operand] for operand in node.operands])
    return Graph(tuple(done[node] for node in graph.outputs), graph.names)


def specialise(graph: Graph, sizes: Mapping[str, int], leaves: dict[Node, Node]) -> Graph:
    """The graph with numbers for the named dimensions; `leaves` receives the new leaf of each old one."""
    done: dict[Node, Node] = {}
    for node in graph.nodes:
        with originating(origins_of(node)):
            operands = [done[operand] for operand in node.operands]
            shape = tuple(evaluate(extent, sizes) for extent in node.shape)
            match node:
                case Input():
                    if shape == node.shape:
                        done[node] = node
                    else:
                        done[node] = leaves.get(node) or Input(node.name, shape, node.dtype, node.kind, node.serial)
                    leaves[node] = done[node]
                case Const():
                    done[node] = node
                case Generic():
                    done[node] = generic(
                        tuple(evaluate(extent, sizes) for extent in node.domain),
                        shape,
                        node.out_map.evaluate(sizes),
                        operands,
                        [m.evaluate(sizes) for m in node.maps],
                        node.modes,
                        sc.specialise(node.body, sizes),
                        node.reducer,
                    )
                case View():
                    done[node] = view(operands[0], shape)
                case Join():
                    done[node] = rebuild(node, operands)
                case Opaque():
                    step = None if node.step is None else _step_for(node.step, sizes)
                    done[node] = opaque(node.op, operands, shape, node.dtype, step, **dict(node.attributes))
    return Graph(tuple(done[node] for node in graph.outputs), graph.names)


def _step_for(step: Step, sizes: Mapping[str, int]) -> Step:
    """A loop's step for known sizes; equal leaves become equal leaves, so that the parts of one loop stay together."""
    leaves: dict[Node, Node] = {}
    for leaf in step.leaves:
        shape = tuple(evaluate(extent, sizes) for extent in leaf.shape)
        leaves[leaf] = leaf if shape == leaf.shape else Input(leaf.name, shape, leaf.dtype, leaf.kind, leaf.serial)
    found = specialise(Graph((*step.following, step.value)), sizes, leaves).outputs
    inputs = [leaves[leaf] for leaf in step.leaves]
    return Step(tuple(leaf for leaf in inputs if isinstance(leaf, Input)), found[:-1], found[-1])

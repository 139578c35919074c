"""The steps of loops, which go through the same passes as the graph around them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from graphc.ir.build import fill
from graphc.ir.graph import Graph, rebuild, replace, rewrite
from graphc.ir.loop import Loop, loop_of, loops_of, map_steps, value_of
from graphc.ir.node import Const, Input, Node, Opaque, leaf
from graphc.ir.origin import originating, origins_of


def run_in_steps(graph: Graph, passes: Callable[[Graph], Graph]) -> Graph:
    """After: each step has been through `passes`, all results of its loop at once; it holds no arrays, which are
    constants of its loop instead; its loop reads nothing that no step uses; and no loop has length 0."""
    if not loops_of(graph.nodes):
        return graph
    return _read_what_is_used(map_steps(_without_empty(graph), passes))


def _without_empty(graph: Graph) -> Graph:
    return rewrite(graph, _without_steps)


def _without_steps(node: Node) -> Node:
    """What a loop of length 0 gives: the first values, and stacks of nothing."""
    loop = loop_of(node)
    if loop is None or loop.length != 0 or not isinstance(node, Opaque):
        return node
    final = node.attribute("final")
    return loop.operands[final] if final >= 0 else fill(node.shape, 0, node.dtype)


@dataclass(frozen=True)
class _Reads:
    """What a step is to read: these of its leaves, and these arrays, which become leaves."""

    kept: tuple[int, ...]
    sliced: int
    arrays: Mapping[Node, Input]


def _reads(loop: Loop, results: Sequence[Opaque]) -> _Reads:
    inside = Graph((*loop.following, *map(value_of, results)))
    used = {node for node in inside.nodes if isinstance(node, Input)}
    slices = [place for place in range(loop.carried, loop.first_constant) if loop.leaves[place] in used]
    slices = slices or [loop.carried]  # one must tell the length
    constants = [place for place in range(loop.first_constant, len(loop.leaves)) if loop.leaves[place] in used]
    arrays = [node for node in inside.nodes if isinstance(node, Const)]
    leaves: dict[Node, Input] = {node: leaf("constant", node.shape, node.dtype, "input") for node in arrays}
    return _Reads((*range(loop.carried), *slices, *constants), len(slices), leaves)


def _read_what_is_used(graph: Graph) -> Graph:
    reads = {loop: _reads(loop, results) for loop, results in loops_of(graph.nodes).items()}
    done: dict[Node, Node] = {}
    for node in graph.nodes:
        with originating(origins_of(node)):
            new = rebuild(node, [done[operand] for operand in node.operands])
            before = loop_of(node)
            done[node] = new if before is None else _reading(node, new, reads[before])
    return Graph(tuple(done[node] for node in graph.outputs), graph.names)


def _reading(node: Node, new: Node, reads: _Reads) -> Node:
    loop = loop_of(new)
    assert loop is not None and isinstance(node, Opaque)
    *following, value = replace(Graph((*loop.following, value_of(node))), {**reads.arrays}).outputs
    leaves = (*(loop.leaves[place] for place in reads.kept), *reads.arrays.values())
    operands = (*(loop.operands[place] for place in reads.kept), *reads.arrays)
    other = Loop(leaves, tuple(following), operands, reads.sliced, loop.reverse)
    return other.result(node.attribute("final"), value)

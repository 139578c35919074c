"""Loops: what `gc.scan` makes, and what its derivatives are made of.

A loop goes over T steps. Some values are carried from step to step, some arrays are read slice by slice along their
first axis, others (constants of the loop) are read whole at each step. Its leaves and operands stand in this order:

    leaves    carried_0, ..., slice_0, ..., constant_0, ...       what one step computes from
    operands  first_0,   ..., array_0, ..., constant_0, ...       where they come from; array_j has T slices

    carried_i = first_i
    for t in 0, 1, ..., T-1 (with reverse: T-1, ..., 0):
        slice_j = array_j[t]
        value[t] = step's value
        carried_i = step's following_i

An Opaque `scan` is one result of a loop: the last carried_i (attribute final = i) or the stack of a value (final = -1),
in the order of the slices, whatever the direction. Results whose leaves, following values and operands are equal belong
to one loop, which is run once. There is at least one array, which tells T. A step of no leaves but its own: whatever
else its user's function read has become a constant of the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from graphc.ir.extent import Extent, Shape, ints
from graphc.ir.graph import Graph, rebuild, topological
from graphc.ir.node import Input, Node, Opaque, Step, opaque
from graphc.ir.origin import originating, origins_of

SCAN = "scan"


@dataclass(frozen=True)
class Loop:
    """What the results of one loop have in common; two loops are equal when it is."""

    leaves: tuple[Input, ...]
    following: tuple[Node, ...]
    operands: tuple[Node, ...]
    sliced: int
    reverse: bool

    @property
    def carried(self) -> int:
        """How many values are carried."""
        return len(self.following)

    @property
    def length(self) -> Extent:
        """T."""
        return self.operands[self.carried].shape[0]

    @property
    def first_constant(self) -> int:
        """The place of the first constant among leaves and operands."""
        return self.carried + self.sliced

    def final(self, place: int) -> Node:
        """The last value of a carried one."""
        leaf = self.leaves[place]
        return self._result(self.following[place], place, leaf.shape, leaf.dtype)

    def stack(self, value: Node) -> Node:
        """A value of each step, along a new first axis."""
        return self._result(value, -1, (self.length, *value.shape), value.dtype)

    def result(self, final: int, value: Node) -> Node:
        """One of these, as the attribute `final` says."""
        return self.final(final) if final >= 0 else self.stack(value)

    def _result(self, value: Node, final: int, shape: Shape, dtype: str) -> Node:
        step: Step = Step(self.leaves, self.following, value)
        flags = {"final": final, "sliced": self.sliced, "reverse": int(self.reverse)}
        return opaque(SCAN, self.operands, shape, dtype, step, **flags)


def loop_of(node: Node) -> Loop | None:
    """The loop of which a node is a result."""
    if not isinstance(node, Opaque) or node.step is None:
        return None
    reverse = bool(node.attribute("reverse"))
    return Loop(node.step.leaves, node.step.following, node.operands, node.attribute("sliced"), reverse)


def loops_of(nodes: Iterable[Node]) -> dict[Loop, list[Opaque]]:
    """The loops among some nodes, each with its results, in order."""
    found: dict[Loop, list[Opaque]] = {}
    for node in nodes:
        loop = loop_of(node)
        if loop is not None and isinstance(node, Opaque):
            found.setdefault(loop, []).append(node)
    return found


def value_of(node: Opaque) -> Node:
    """The node of the step that a result gives: stacked, or as it is after the last step."""
    assert node.step is not None
    return node.step.value


def map_steps(graph: Graph, change: Callable[[Graph], Graph]) -> Graph:
    """The graph with the steps of its loops changed, all results of a loop at once.

    `change` gets the following values and the values asked for as one graph, and gives as many outputs, over the same
    leaves.
    """
    loops = loops_of(graph.nodes)
    if not loops:
        return graph
    steps: dict[Node, Step] = {}
    for loop, results in loops.items():
        values = list(dict.fromkeys(map(value_of, results)))
        before = Graph((*loop.following, *values))
        after = change(before).outputs
        following = after[: loop.carried]
        now = dict(zip(values, after[loop.carried :], strict=True))
        for result in results:
            steps[result] = Step(loop.leaves, following, now[value_of(result)])
    done: dict[Node, Node] = {}
    for node in graph.nodes:
        with originating(origins_of(node)):
            operands = [done[operand] for operand in node.operands]
            done[node] = _with_step(node, operands, steps[node]) if node in steps else rebuild(node, operands)
    return Graph(tuple(done[node] for node in graph.outputs), graph.names)


def _with_step(node: Node, operands: Sequence[Node], step: Step) -> Node:
    assert isinstance(node, Opaque)
    return opaque(SCAN, operands, node.shape, node.dtype, step, **dict(node.attributes))


def run(
    node: Opaque,
    arrays: Sequence[NDArray[np.generic]],
    interpret: Callable[[Graph, Mapping[Node, NDArray[np.generic]]], Sequence[NDArray[np.generic]]],
) -> NDArray[np.generic]:
    """The meaning of one result, given how a step's graph is evaluated."""
    loop = loop_of(node)
    assert loop is not None and isinstance(loop.length, int)
    step = Graph((*loop.following, value_of(node)))
    carried = list(arrays[: loop.carried])
    stacked = np.zeros((loop.length, *ints(value_of(node).shape)), value_of(node).dtype)
    for t in reversed(range(loop.length)) if loop.reverse else range(loop.length):
        slices = [array[t] for array in arrays[loop.carried : loop.first_constant]]
        values = [*carried, *slices, *arrays[loop.first_constant :]]
        *carried, stacked[t] = interpret(step, dict(zip(loop.leaves, values, strict=True)))
    final = node.attribute("final")
    return stacked if final < 0 else carried[final]


def depends(outputs: Sequence[Node], leaves: Iterable[Node]) -> set[Node]:
    """The nodes below the outputs that are, or are computed from, one of the leaves."""
    found = set(leaves)
    for node in topological(outputs):
        if any(operand in found for operand in node.operands):
            found.add(node)
    return found

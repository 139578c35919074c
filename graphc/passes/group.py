"""Which nodes share a kernel.

Nodes are taken in order. A node joins the latest kernel that it reads from when

* that kernel is a contraction and the node is a map over exactly its result (an epilogue), or
* both are loops that can share outer axes: every value handed from one to the other is read at the outer indices at
  which it was written, so that one outer iteration needs nothing of another (softmax, layer norm: the rows).

It joins no earlier kernel: the order of kernels is then an order of execution.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from graphc.ir.affine import AffineMap
from graphc.ir.classify import Contraction, Scatter, classify
from graphc.ir.graph import Graph
from graphc.ir.node import INSIDE, Generic, Join, Node, Opaque, View

MOST_STAGES = 64  # of one kernel: a longer one gains nothing and compiles slowly


@dataclass
class Group:
    """A kernel under construction. `target` is the Join of which its one node is a part."""

    kind: str
    outer: int
    nodes: list[Generic | Opaque] = field(default_factory=list)
    target: Join | None = None


def group(graph: Graph) -> list[Group]:
    """The kernels of a graph in gather form, in order of execution."""
    users = graph.users()
    outputs = set(graph.outputs)
    groups: list[Group] = []
    home: dict[Node, int] = {}
    for node in graph.nodes:
        match node:
            case Join():  # each part is a kernel of its own, for each Join that has it
                groups.extend(Group(_kind(part), _own_outer(part), [part], node) for part in node.parts)
                home[node] = len(groups) - 1
            case Generic() | Opaque():
                if node not in outputs and users[node] and all(isinstance(user, Join) for user in users[node]):
                    continue
                place = _join_latest(node, groups, home) if isinstance(node, Generic) else None
                if place is None:
                    groups.append(Group(_kind(node), _own_outer(node), [node]))
                    place = len(groups) - 1
                else:
                    groups[place].nodes.append(node)
                home[node] = place
            case _:
                below = [home[operand] for operand in node.operands if operand in home]
                if below:
                    home[node] = max(below)
    return groups


def covers(node: Generic) -> bool:
    """Every element of the output is written by some visited point, or combined from the identity by the loop."""
    order = node.out_map.projection
    if order is None:
        return False
    same = all(node.domain[axis] == extent for axis, extent in zip(order, node.shape, strict=True))
    if not same:
        return False
    return node.reducer is not None or "skip" not in node.modes


def _kind(node: Generic | Opaque) -> str:
    if isinstance(node, Opaque):
        return "opaque"
    return "contraction" if isinstance(classify(node), Contraction) else "loops"


def _own_outer(node: Generic | Opaque) -> int:
    """How many leading axes of the domain are the output's leading axes."""
    if isinstance(node, Opaque) or isinstance(classify(node), Scatter):
        return 0
    return leading_axes(node.out_map)


def leading_axes(index_map: AffineMap) -> int:
    """How many of the first rows are the axes 0, 1, 2, ... in order."""
    count = 0
    for axis, row in enumerate(index_map.rows):
        if row.single_axis != axis:
            break
        count += 1
    return count


def _join_latest(node: Generic, groups: list[Group], home: dict[Node, int]) -> int | None:
    below = [home[operand] for operand in node.operands if operand in home]
    if not below:
        return None
    place = max(below)
    target = groups[place]
    if len(target.nodes) >= MOST_STAGES or target.target is not None or not covers(node):
        return None
    if not all(isinstance(one, Generic) and covers(one) for one in target.nodes):
        return None
    inside = [j for j, operand in enumerate(node.operands) if home.get(operand) == place]
    if any(isinstance(node.operands[j], (View, Join)) for j in inside):
        return None
    if target.kind == "contraction":
        return place if _is_epilogue(node, target, inside) else None
    if target.kind != "loops" or isinstance(classify(node), (Contraction, Scatter)):
        return None
    outer = min(target.outer, _own_outer(node), _shared(node, inside))
    first = target.nodes[0]
    assert isinstance(first, Generic)
    same = 0
    while same < outer and node.domain[same] == first.domain[same]:
        same += 1
    scalars = not node.domain and all(isinstance(n, Generic) and not n.domain for n in target.nodes)
    if same == 0 and not scalars:
        return None
    target.outer = same
    return place


def _is_epilogue(node: Generic, target: Group, inside: Iterable[int]) -> bool:
    first = target.nodes[0]
    assert isinstance(first, Generic)
    if not node.is_map or node.domain != first.shape or not first.out_map.projection:
        return False
    return all(node.maps[j].is_identity and node.modes[j] == INSIDE for j in inside)


def _shared(node: Generic, inside: Iterable[int]) -> int:
    """How many outer axes every read of the kernel's own values keeps."""
    return min((leading_axes(node.maps[j]) if node.modes[j] == INSIDE else 0 for j in inside), default=0)

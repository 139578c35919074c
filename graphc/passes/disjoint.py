"""A sum of arrays that are 0 but for parts of their own is those parts, joined.

    g[i, j + 0] += a[i,j],  h[i, j + 8] += b[i,j],  g + h    ->    join of a and b

The gradient of what was split into pieces (the gates of a recurrent cell, queries, keys and values) comes so: a padded
array for each piece, and their sum. Joined, each element is computed once, and no zeros are added. What is added
besides, if it is one array, is added to the whole: to each element the same two numbers are added as before.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from math import prod

from graphc.ir import scalar as sc
from graphc.ir.build import add_nodes
from graphc.ir.changes import Reason, carried, note
from graphc.ir.graph import Graph, rebuild
from graphc.ir.node import SKIP, Generic, Node, join
from graphc.ir.origin import originating, origins_of

MOST_PARTS = 256  # each is compared with each
JOINED = Reason("joined", "disjoint parts", "a + b -> join(a, b), where a is 0 wherever b is not", "no zeros are added")

Box = tuple[tuple[int, int], ...]  # for each axis the first place and the one behind the last


def join_parts(graph: Graph) -> Graph:
    """Before: extents are known. After: no sum of disjoint parts of an array, which cover it together, is left."""
    users = graph.users()
    alone = {node for node in graph.nodes if len(users[node]) == 1} - set(graph.outputs)
    inner = {node for node in alone if _is_add(node) and _is_add(users[node][0])}
    done: dict[Node, Node] = {}
    for node in graph.nodes:
        found = _joined(node, alone, inner) if _is_add(node) and node not in inner else None
        with originating(origins_of(node)):
            if found is None:
                done[node] = rebuild(node, [done[operand] for operand in node.operands])
            else:
                whole = join([_part(part, done) for part in found[0]])
                done[node] = note(JOINED, node, add_nodes([*(done[other] for other in found[1]), whole]))
    carried(done)
    return Graph(tuple(done[node] for node in graph.outputs), graph.names)


def _is_add(node: Node) -> bool:
    if not isinstance(node, Generic) or not node.is_map or len(node.operands) != 2:
        return False
    is_add = isinstance(node.body, sc.Apply) and node.body.op == "add" and len(sc.postorder(node.body)) == 3
    return is_add and all(index_map.is_identity for index_map in node.maps)


def _joined(
    root: Node, alone: Collection[Node], inner: Collection[Node]
) -> tuple[Sequence[Generic], Sequence[Node]] | None:
    """The parts that a tree of additions joins, in order, and what else it adds; None when they do not fit."""
    parts: list[tuple[Box, Generic]] = []
    others: list[Node] = []
    stack = [root]
    while stack:
        node = stack.pop()
        if node is root or node in inner:
            stack += reversed(node.operands)
            continue
        box = _box(node) if node in alone else None
        if box is not None and isinstance(node, Generic):
            parts.append((box, node))
        else:
            others.append(node)
        if len(parts) > MOST_PARTS or len(others) > 1:
            return None
    volume = sum(prod(stop - start for start, stop in box) for box, _ in parts)
    if len(parts) < 2 or volume != prod(extent for extent in root.shape if isinstance(extent, int)):
        return None
    parts.sort(key=lambda part: part[0])
    if any(_overlap(one, other) for n, (one, _) in enumerate(parts) for other, _ in parts[:n]):
        return None
    return [part for _, part in parts], others


def _box(node: Node) -> Box | None:
    """Where a node writes, each element once and all of a box; None for other nodes, and for whole arrays."""
    if not isinstance(node, Generic) or node.is_map or node.reducer is not None:
        return None
    if SKIP in node.modes or 0 in node.domain:
        return None
    box: list[tuple[int, int]] = []
    seen: list[int] = []
    for row, extent in zip(node.out_map.rows, node.shape, strict=True):
        if not isinstance(row.const, int) or not isinstance(extent, int) or len(row.terms) > 1:
            return None
        length: int = 1
        if row.terms:
            axis, coefficient = row.terms[0]
            size = node.domain[axis]
            if coefficient != 1 or not isinstance(size, int):
                return None
            seen.append(axis)
            length = size
        if row.const < 0 or row.const + length > extent:
            return None
        box.append((row.const, row.const + length))
    return tuple(box) if sorted(seen) == list(range(len(node.domain))) else None


def _overlap(one: Box, other: Box) -> bool:
    return all(a < d and c < b for (a, b), (c, d) in zip(one, other, strict=True))


def _part(part: Generic, done: Mapping[Node, Node]) -> Generic:
    """The part over what its operands have become; it stays a Generic that writes its part alone."""
    operands = tuple(done[operand] for operand in part.operands)
    made: Generic = Generic(
        part.domain, part.shape, part.out_map, operands, part.maps, part.modes, part.body, part.reducer
    )
    return made

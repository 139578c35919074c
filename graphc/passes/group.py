"""Which nodes share a kernel.

Nodes are taken in order. A node joins the latest kernel that it reads from when

* that kernel is a contraction and the node is a map over exactly its result (an epilogue), or
* both are loops that can share outer axes: every value handed from one to the other is read at the outer indices at
  which it was written, so that one outer iteration needs nothing of another (softmax, layer norm: the rows), or
* both are loops over one domain, of which each point is visited once: maps, and reductions over all of it.

It joins no earlier kernel: the order of kernels is then an order of execution. Failing that, it joins the first later
one, of loops over the same domain, that reads one of its arrays in the same way.

The parts of a Join that are maps over one domain share a kernel, too: together they write one array.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from graphc.ir.affine import AffineMap
from graphc.ir.classify import Scatter, classify, is_product
from graphc.ir.extent import Shape
from graphc.ir.graph import Graph
from graphc.ir.node import INSIDE, Generic, Join, Node, Opaque, alias_of

MOST_STAGES = 64  # of one kernel: a longer one gains nothing and compiles slowly


@dataclass(frozen=True)
class Member:
    """A node of a kernel, and the node whose memory it writes: itself, or the Join of which it is a part."""

    node: Generic | Opaque
    target: Node


@dataclass
class Group:
    """A kernel under construction."""

    kind: str
    outer: int
    members: list[Member] = field(default_factory=list)

    @property
    def nodes(self) -> list[Generic | Opaque]:
        """What it computes, in order."""
        return [member.node for member in self.members]


def group(graph: Graph, order: Sequence[Node]) -> list[Group]:
    """The kernels of a graph in gather form, in order of execution; its nodes are taken in the given order."""
    grouping = _Grouping(graph)
    for node in order:
        grouping.add(node)
    return [one for one in grouping.groups if one.members]


class _Grouping:
    def __init__(self, graph: Graph) -> None:
        self.users = graph.users()
        self.outputs = set(graph.outputs)
        self.groups: list[Group] = []
        self.moved: dict[int, int] = {}  # kernels that went up into others
        self.placed: dict[int, list[Node]] = {}  # by kernel: the targets of its members, and what shows their memory
        self.readers: dict[tuple[object, ...], list[int]] = {}  # kernels by what they read
        self.home: dict[Node, int] = {}  # the kernel after which a node's memory is complete

    def add(self, node: Node) -> None:
        """Find the kernel of a node."""
        match node:
            case Join():
                places: dict[Shape, int] = {}
                for part in node.parts:  # for each Join that has it
                    places[part.domain] = self._place(Member(part, node), places.get(part.domain))
                    places = {domain: self._now(place) for domain, place in places.items()}
                self.home[node] = max(places.values())
            case Generic() | Opaque() if alias_of(node) is None:
                users = self.users[node]
                if node not in self.outputs and users and all(isinstance(user, Join) for user in users):
                    return
                self.home[node] = self._place(Member(node, node), None)
            case _:
                below = self._below(node)
                if below:
                    self.home[node] = max(below)
                    self.placed.setdefault(max(below), []).append(node)

    def _now(self, place: int) -> int:
        """Where a kernel has gone."""
        while place in self.moved:
            place = self.moved[place]
        return place

    def _below(self, node: Node) -> list[int]:
        return [self.home[operand] for operand in node.operands if operand in self.home]

    def _place(self, member: Member, known: int | None) -> int:
        """The kernel of a member. `known`: that of another part of the same Join."""
        node = member.node
        below = max(self._below(node), default=-1)
        if isinstance(node, Generic):
            first = max(below, -1 if known is None else known)
            for place in self._candidates(node, first):
                target = self.groups[place]
                inside = [j for j, operand in enumerate(node.operands) if self.home.get(operand) == place]
                outer = _outer_together(member, target, inside)
                if outer is not None:
                    target.members.append(member)
                    target.outer = outer
                    self._note(member, place)
                    return self._merged(place)
        self.groups.append(Group(_kind(node), _own_outer(member), [member]))
        self._note(member, len(self.groups) - 1)
        return len(self.groups) - 1

    def _note(self, member: Member, place: int) -> None:
        self.placed.setdefault(place, []).append(member.target)
        for read in _array_reads(member.node):
            self.readers.setdefault(read, []).append(place)

    def _candidates(self, node: Generic, first: int) -> list[int]:
        """The kernel `first`, if there is one, and later ones of loops in which a node over the same domain reads one
        of this node's arrays in the same way."""
        alike = {self._now(place) for read in _array_reads(node) for place in self.readers.get(read, ())}
        later = sorted(place for place in alike if place > first and self.groups[place].kind == "loops")
        return [first, *later] if first >= 0 else later

    def _merged(self, place: int) -> int:
        """The kernel in which that of `place` went up, the latest that its last member reads from beside it, if all
        that it reads is there by then; else `place`."""
        moving = self.groups[place]
        below = {self.home[o] for node in moving.nodes for o in node.operands if o in self.home} - {place}
        first = max(below, default=place)
        target = self.groups[first]
        if first == place or moving.kind != "loops" or target.kind != "loops":
            return place
        merged = Group(target.kind, target.outer, list(target.members))
        for member in moving.members:
            operands = member.node.operands
            inside = [j for j, operand in enumerate(operands) if self.home.get(operand) in (first, place)]
            outer = _outer_together(member, merged, inside)
            if outer is None or outer < moving.outer:
                return place
            merged.members.append(member)
            merged.outer = outer
        self.groups[first] = merged
        self.groups[place] = Group("loops", 0)
        self.moved[place] = first
        moved = self.placed.pop(place, [])
        self.placed.setdefault(first, []).extend(moved)
        self.home.update({node: first for node in moved if self.home.get(node) == place})
        return first


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
    return "contraction" if is_product(node) else "loops"


def _own_outer(member: Member) -> int:
    """How many leading axes of the domain can be outer ones: points that differ in them write different elements."""
    node = member.node
    if isinstance(node, Opaque) or isinstance(classify(node), Scatter):
        return 0
    return len(node.domain) if _is_map_of_join(member) else leading_axes(node.out_map)


def _is_map_of_join(member: Member) -> bool:
    """A part of a Join, each of whose points writes an element."""
    node = member.node
    if member.target is node or not isinstance(node, Generic) or node.reducer is not None or "skip" in node.modes:
        return False
    axes = [axis for row in node.out_map.rows for axis, _ in row.terms]
    return sorted(axes) == list(range(len(node.domain)))


def leading_axes(index_map: AffineMap) -> int:
    """How many of the first rows are the axes 0, 1, 2, ... in order."""
    count = 0
    for axis, row in enumerate(index_map.rows):
        if row.single_axis != axis:
            break
        count += 1
    return count


def _array_reads(node: Generic | Opaque) -> set[tuple[object, ...]]:
    """What a node reads of arrays that are no single numbers, as far as others may share it: the array, how, where."""
    if isinstance(node, Opaque):
        return set()
    return {(o, index_map, node.domain) for o, index_map in zip(node.operands, node.maps, strict=True) if o.shape}


def _outer_together(member: Member, target: Group, inside: Sequence[int]) -> int | None:
    """The outer axes of a kernel with one more member, whose operands `inside` the kernel computes; None: it does not
    fit."""
    node = member.node
    assert isinstance(node, Generic)
    if len(target.members) >= MOST_STAGES:
        return None
    if not all(_is_map_of_join(one) or _is_whole(one) for one in (*target.members, member)):
        return None
    if any(isinstance(node.operands[j], Join) or alias_of(node.operands[j]) is not None for j in inside):
        return None
    if target.kind == "contraction":
        return target.outer if _is_epilogue(member, target, inside) else None
    if target.kind != "loops" or _kind(node) != "loops" or isinstance(classify(node), Scatter):
        return None
    outer = min(target.outer, _own_outer(member), _shared(node, inside))
    first = target.nodes[0]
    assert isinstance(first, Generic)
    same = 0
    while same < outer and node.domain[same] == first.domain[same]:
        same += 1
    if same == 0 and not _is_flat([*target.members, member]):
        return None
    return same


def _is_whole(member: Member) -> bool:
    return member.target is member.node and isinstance(member.node, Generic) and covers(member.node)


def _is_flat(members: Sequence[Member]) -> bool:
    """Maps over one domain, and reductions over all of it, that hand on values at the point where they are."""
    nodes = [member.node for member in members]
    domain = nodes[0].domain if isinstance(nodes[0], Generic) else ()
    maps: set[Node] = set()
    for node in nodes:
        assert isinstance(node, Generic)
        if node.domain != domain or (not node.is_map and node.out_map.rows):
            return False
        for operand, index_map in zip(node.operands, node.maps, strict=True):
            if operand in maps and not index_map.is_identity:
                return False
            if operand in nodes and operand not in maps:
                return False
        if node.is_map:
            maps.add(node)
    return True


def _is_epilogue(member: Member, target: Group, inside: Iterable[int]) -> bool:
    node, first = member.node, target.nodes[0]
    assert isinstance(first, Generic) and isinstance(node, Generic)
    if member.target is not node or not node.is_map or node.domain != first.shape or not first.out_map.projection:
        return False
    return all(node.maps[j].is_identity and node.modes[j] == INSIDE for j in inside)


def _shared(node: Generic, inside: Iterable[int]) -> int:
    """How many outer axes every read of the kernel's own values keeps."""
    return min((leading_axes(node.maps[j]) if node.modes[j] == INSIDE else 0 for j in inside), default=len(node.domain))

"""Which nodes share a kernel.

Nodes are taken in order. A node joins the latest kernel that it reads from when

* that kernel is a contraction and the node is a map over exactly its result (an epilogue), or
* both are loops that can share outer axes: every value handed from one to the other is read at the outer indices at
  which it was written, so that one outer iteration needs nothing of another (softmax, layer norm: the rows), or
* both are loops over one domain, of which each point is visited once: maps, and reductions over all of it.

It joins no earlier kernel: the order of kernels is then an order of execution. Failing that, it joins the first later
one, of loops over the same domain, that reads one of its arrays in the same way. At the end, sums go down into a later
kernel that reads all their arrays in the same way, when nothing reads the sums before.

The results of one loop share a kernel. The parts of a Join that are maps over one domain share a kernel, too: together
they write one array.
"""

from __future__ import annotations

from collections.abc import Container, Sequence

from graphc.ir.extent import Shape
from graphc.ir.graph import Graph
from graphc.ir.loop import Loop, loop_of
from graphc.ir.node import Generic, Join, Node, Opaque, alias_of
from graphc.passes.together import Group, Member, array_reads, kind_of, outer_together, own_outer


def group(graph: Graph, order: Sequence[Node]) -> list[Group]:
    """The kernels of a graph in gather form, in order of execution; its nodes are taken in the given order."""
    grouping = _Grouping(graph)
    for node in order:
        grouping.add(node)
    grouping.sink()
    return [one for one in grouping.groups if one.members]


class _Grouping:
    def __init__(self, graph: Graph) -> None:
        self.users = graph.users()
        self.outputs = set(graph.outputs)
        self.groups: list[Group] = []
        self.loops: dict[Loop, int] = {}
        self.moved: dict[int, int] = {}  # kernels that went up into others
        self.placed: dict[int, list[Node]] = {}  # by kernel: the targets of its members, and what shows their memory
        self.readers: dict[tuple[object, ...], list[int]] = {}  # kernels by what they read
        self.home: dict[Node, int] = {}  # the kernel after which a node's memory is complete

    def add(self, node: Node) -> None:
        """Find the kernel of a node."""
        match node:
            case Join():
                places: dict[Shape, int] = {}
                # For each Join that has it. What reads more fits into fewer kernels: where it goes, others can follow.
                for part in sorted(node.parts, key=lambda part: -len(part.operands)):
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
        loop = loop_of(node)
        if loop is not None and loop in self.loops:
            place = self.loops[loop]
            self.groups[place].members.append(member)
            self._note(member, place)
            return place
        below = max(self._below(node), default=-1)
        if isinstance(node, Generic):
            first = max(below, -1 if known is None else known)
            for place in self._candidates(node, first):
                target = self.groups[place]
                inside = [j for j, operand in enumerate(node.operands) if self.home.get(operand) == place]
                outer = outer_together(member, target, inside)
                if outer is not None:
                    target.members.append(member)
                    target.outer = outer
                    self._note(member, place)
                    return self._merged(place)
        self.groups.append(Group(kind_of(node), own_outer(member), [member]))
        self._note(member, len(self.groups) - 1)
        if loop is not None:
            self.loops[loop] = len(self.groups) - 1
        return len(self.groups) - 1

    def _note(self, member: Member, place: int) -> None:
        self.placed.setdefault(place, []).append(member.target)
        for read in array_reads(member.node):
            self.readers.setdefault(read, []).append(place)

    def _candidates(self, node: Generic, first: int) -> list[int]:
        """The kernel `first`, if there is one, and later ones of loops in which a node over the same domain reads one
        of this node's arrays in the same way."""
        alike = {self._now(place) for read in array_reads(node) for place in self.readers.get(read, ())}
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
        merged = self._together(target, moving, {first, place})
        if merged is None or merged.outer < moving.outer:
            return place
        self.groups[first] = merged
        self.groups[place] = Group("loops", 0)
        self.moved[place] = first
        moved = self.placed.pop(place, [])
        self.placed.setdefault(first, []).extend(moved)
        self.home.update({node: first for node in moved if self.home.get(node) == place})
        return first

    def _together(self, first: Group, second: Group, places: Container[int]) -> Group | None:
        """One kernel from two, whose places are given, with the members of the first before the others."""
        merged = Group(first.kind, first.outer, list(first.members))
        for member in second.members:
            operands = member.node.operands
            inside = [j for j, operand in enumerate(operands) if operand in self.home and self.home[operand] in places]
            outer = outer_together(member, merged, inside)
            if outer is None:
                return None
            merged.members.append(member)
            merged.outer = outer
        return merged

    def sink(self) -> None:
        """See the module's text; done once, when all nodes have a kernel."""
        own = {node: place for place, one in enumerate(self.groups) for node in one.nodes}
        for place, moving in enumerate(self.groups):
            if moving.kind != "loops" or not moving.members or not all(map(_is_sum, moving.members)):
                continue
            results = self.placed.get(place, [])
            needed = min((self._now(own[u]) for n in results for u in self.users[n] if u in own), default=len(own))
            reads = [{self._now(p) for p in self.readers[read]} for node in moving.nodes for read in array_reads(node)]
            for later in sorted(set.intersection(*reads) if reads else ()):
                target = self.groups[later]
                if not place < later <= needed or target.kind != "loops" or not target.members:
                    continue
                merged = self._together(moving, target, {place, later})
                if merged is not None and merged.outer >= target.outer:
                    self.groups[later], self.groups[place] = merged, Group("loops", 0)
                    self.moved[place] = later
                    self.placed.setdefault(later, []).extend(self.placed.pop(place, []))
                    self.home.update(dict.fromkeys(results, later))
                    break


def _is_sum(member: Member) -> bool:
    return isinstance(member.node, Generic) and member.node.reducer is not None and member.target is member.node

"""Whether nodes can share a kernel: what `graphc.passes.group` asks.

Loops share outer axes when every value handed from one to the other is read at the outer indices at which it was
written, so that one outer iteration needs nothing of another; or they are flat, loops over one domain of which each
point is visited once. A contraction takes the maps over exactly its result.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from graphc.ir.affine import AffineMap
from graphc.ir.classify import Scatter, classify, is_product
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


def covers(node: Generic) -> bool:
    """Every element of the output is written by some visited point, or combined from the identity by the loop."""
    order = node.out_map.projection
    if order is None:
        return False
    same = all(node.domain[axis] == extent for axis, extent in zip(order, node.shape, strict=True))
    if not same:
        return False
    return node.reducer is not None or "skip" not in node.modes


def kind_of(node: Generic | Opaque) -> str:
    if isinstance(node, Opaque):
        return "opaque" if node.step is None else "scan"
    return "contraction" if is_product(node) else "loops"


def own_outer(member: Member) -> int:
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


def array_reads(node: Generic | Opaque) -> set[tuple[object, ...]]:
    """What a node reads of arrays that are no single numbers, as far as others may share it: the array, how, where."""
    if isinstance(node, Opaque):
        return set()
    return {(o, index_map, node.domain) for o, index_map in zip(node.operands, node.maps, strict=True) if o.shape}


def outer_together(member: Member, target: Group, inside: Sequence[int]) -> int | None:
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
    if target.kind != "loops" or kind_of(node) != "loops":
        return None
    if isinstance(classify(node), Scatter) and not _is_map_of_join(member):
        return None
    outer = min(target.outer, own_outer(member), _shared(node, inside))
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
    for member in members:
        node = member.node
        assert isinstance(node, Generic)
        is_element = not domain and _is_map_of_join(member)
        if node.domain != domain or (not node.is_map and node.out_map.rows and not is_element):
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

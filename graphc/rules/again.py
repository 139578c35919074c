"""Checkpoints: what a reverse sweep computes again from the inputs of a part of the graph, instead of keeping it.

`gc.checkpoint` puts a part between markers,  y = checkpoint_out(f(checkpoint_in(x))).  The sweep goes over the nodes of
f as they are; but where a rule reads values of f, it is given copies, which are computed from again(x, g): x, once the
cotangents g of all outputs of f are known. The copies are other nodes than those of f, whose values need not live on.

What depends on states alone, such as the random draws of dropout, is computed again too: from the same states, so with
the same result. Other values that f reads but does not compute from x are read where they are. A part inside another
one is copied twice: from the copy of its inputs when the sweep gets to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from graphc.ir.graph import rebuild
from graphc.ir.node import Generic, Input, Join, Node, Opaque, opaque
from graphc.ir.origin import originating, origins_of, record
from graphc.ir.walk import postorder


@dataclass(eq=False)
class _Part:
    """A checkpoint: the nodes between its markers, operands first; which of them, and which states, are computed from
    states alone; the cotangents of its outputs."""

    key: int
    nodes: dict[Node, None]
    drawn: set[Node]
    cotangents: list[Node] = field(default_factory=list)


class Again:
    """The values that one reverse sweep reads; it asks for them in its own order."""

    def __init__(self) -> None:
        self._copies: dict[Node, Node] = {}
        self._open: dict[tuple[Node, ...], _Part] = {}  # by its outputs; those whose copies have not been asked for

    def value(self, node: Node, cotangent: Node) -> Node:
        """What stands for a node where its derivative is taken, given its whole cotangent: with as many operands."""
        for outputs in [outputs for outputs, part in self._open.items() if node in part.nodes]:
            self._copy(self._open.pop(outputs))
        if isinstance(node, Opaque) and node.op == "checkpoint_out":
            outputs = node.operands[1:]
            if outputs not in self._open:
                self._open[outputs] = _part_of(outputs, node.attribute("key"))
            self._open[outputs].cotangents.append(cotangent)
        return self._now(node)

    def _now(self, node: Node) -> Node:
        return self._copies.get(node, node)

    def _copy(self, part: _Part) -> None:
        waits = tuple(dict.fromkeys(filter(_has_leaf, part.cotangents)))
        if not waits:  # the cotangents are known from the start: there is nothing to wait for, and nothing to save
            return
        new: dict[Node, Node] = {}
        for node in part.nodes:
            with originating(tuple(replace(origin, role="again") for origin in origins_of(node)[:1])):
                if _is_entry(node, part.key):
                    new[node] = opaque("again", (self._now(node.operands[0]), *waits), node.shape, node.dtype)
                    continue
                operands = [new.get(operand) or self._now(operand) for operand in node.operands]
                if node in part.drawn:
                    operands = [
                        opaque("again", (one, *waits), one.shape, one.dtype) if isinstance(one, Input) else one
                        for one in operands
                    ]
                new[node] = _over(node, operands)
        self._copies.update(new)


def _over(node: Node, operands: Sequence[Node]) -> Node:
    """The node over other operands, in the same order: `rebuild` may change it."""
    match node:
        case Generic():
            new: Node = Generic(
                node.domain,
                node.shape,
                node.out_map,
                tuple(operands),
                node.maps,
                node.modes,
                node.body,
                node.reducer,
            )
        case Join():
            new = Join(tuple(part for part in operands if isinstance(part, Generic)))
        case _:
            return rebuild(node, operands)
    record(new)
    return new


def _is_entry(node: Node, key: int) -> bool:
    return isinstance(node, Opaque) and node.op == "checkpoint_in" and node.attribute("key") == key


def _part_of(outputs: tuple[Node, ...], key: int) -> _Part:
    inside: dict[Node, None] = {}
    drawn: set[Node] = set()
    for node in postorder(outputs, lambda node: () if _is_entry(node, key) else node.operands):
        if _is_entry(node, key) or any(operand in inside and operand not in drawn for operand in node.operands):
            inside[node] = None
        elif isinstance(node, Input):
            if node.kind == "state":
                drawn.add(node)
        elif any(operand in drawn for operand in node.operands):
            if all(operand in drawn or not _has_leaf(operand) for operand in node.operands):
                drawn.add(node)
                inside[node] = None
    return _Part(key, inside, drawn)


def _has_leaf(node: Node) -> bool:
    """Whether a node depends on some leaf."""
    seen, stack = {node}, [node]
    while stack:
        one = stack.pop()
        if isinstance(one, Input):
            return True
        more = [operand for operand in one.operands if operand not in seen]
        seen.update(more)
        stack += more
    return False

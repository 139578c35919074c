"""What must hold of extents that are not known yet: checked by a compiled function before it computes anything."""

from __future__ import annotations

from collections.abc import Iterable
from weakref import WeakKeyDictionary

from graphc.errors import ArgumentError
from graphc.ir.extent import Extent, evaluate
from graphc.ir.node import Node
from graphc.lang.source import user_line

Requirement = tuple[Extent, int, str, str | None]
_table: WeakKeyDictionary[Node, tuple[Requirement, ...]] = WeakKeyDictionary()


def require_at_least(node: Node, extent: Extent, least: int, message: str) -> None:
    """`extent` must be `least` or more wherever `node` is computed; a known extent is checked now."""
    value = evaluate(extent, {})
    where = user_line()
    if isinstance(value, int):
        if value < least:
            raise ArgumentError(message, where)
        return
    known, new = _table.get(node, ()), (extent, least, message, where)
    if new not in known:
        _table[node] = (*known, new)


def requirements_of(nodes: Iterable[Node]) -> list[Requirement]:
    """All requirements of the nodes, in order."""
    return [requirement for node in nodes for requirement in _table.get(node, ())]

"""Where a node came from: the op and line that the user wrote, kept beside the graph.

Origins live in a side table keyed by the node, weakly. A node made while `originating(...)` is in force gets the
current origins; a rewrite runs under `originating(origins_of(old))`, so that what it makes points to the same lines.
When interning finds that a node exists already, the new origin is added to it: that is the record of the merge.
"""

from __future__ import annotations

import linecache
import re
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from graphc.ir.node import Node

_MOST_ORIGINS = 8  # lines kept for one node; a term shared more often than that needs no longer list


class Frame(NamedTuple):
    """A part of a model, or a call of an op, that nodes were made in. Two calls differ in their serial number, which is
    0 for a part that is only named. title: what a reader is told it is, such as "Linear(4, 3)"."""

    name: str
    serial: int = 0
    title: str = ""
    is_op: bool = False


@dataclass(frozen=True, slots=True)
class Origin:
    """The op's name, the user's file and line, the scope such as "encoder/layer2", and a role such as "grad".

    frames: the parts of the scope, then the op itself: two calls on one line are two origins.
    """

    op: str
    file: str = ""
    line: int = 0
    scope: str = ""
    name: str | None = None
    role: str = ""
    frames: tuple[Frame, ...] = field(default=(), repr=False)

    @property
    def where(self) -> str | None:
        """file:line, or None when the node was not written by a user."""
        return f"{self.file}:{self.line}" if self.line else None

    @property
    def assigned_name(self) -> str | None:
        """The name given, or the variable that the user's line assigns to, when it is a plain one."""
        if self.name or not self.line:
            return self.name
        if self.file == "<string>":  # python -c: only newer versions know its lines, and output must not depend on that
            return None
        found = _ASSIGNMENT.match(linecache.getline(self.file, self.line))
        return found.group(1) if found else None


_ASSIGNMENT = re.compile(r"\s*([A-Za-z_]\w*)\s*(?::[^=]+)?=(?!=)(?!.*\b(?:compile|evaluate|render)\()")
_table: WeakKeyDictionary[Node, tuple[Origin, ...]] = WeakKeyDictionary()
_results: WeakKeyDictionary[Node, set[tuple[str, int]]] = WeakKeyDictionary()
_current: ContextVar[tuple[Origin, ...]] = ContextVar("origins", default=())


class originating:  # noqa: N801  # used as a function; a class is faster than a generator, and it runs for each node
    """Nodes made inside the block come from these origins."""

    __slots__ = ("_origins", "_token")

    def __init__(self, origins: tuple[Origin, ...]) -> None:
        self._origins = origins

    def __enter__(self) -> None:
        self._token = _current.set(self._origins)

    def __exit__(self, *_: object) -> None:
        _current.reset(self._token)


def current_origins() -> tuple[Origin, ...]:
    """The origins in force."""
    return _current.get()


def origins_of(node: Node) -> tuple[Origin, ...]:
    """All lines that asked for a node, the first one first."""
    return _table.get(node, ())


def add_result(node: Node, place: tuple[str, int]) -> None:
    """Say that a line of the user's, as (file, number), got the node from an op."""
    _results.setdefault(node, set()).add(place)


def consume(node: Node, place: tuple[str, int]) -> None:
    """Say that the line went on to another op with it: what the line assigns is not this node."""
    if node in _results:
        _results[node].discard(place)


def results_of(node: Node) -> set[tuple[str, int]]:
    """The lines of the user's whose last op gave the node."""
    return _results.get(node, set())


def where(node: Node) -> str | None:
    """The first user's file:line of a node."""
    for origin in origins_of(node):
        if origin.line:
            return origin.where
    return None


def record(node: Node) -> None:
    """Add the current origins to a node."""
    now = _current.get()
    if now:
        add_origins(node, now)


def add_origins(node: Node, origins: tuple[Origin, ...]) -> None:
    """Add origins to a node; those it has already are not repeated."""
    known = _table.get(node)
    if known is None:
        _table[node] = origins
    elif known is not origins and len(known) < _MOST_ORIGINS:
        new = tuple(origin for origin in origins if origin not in known)
        if new:
            _table[node] = known + new[: _MOST_ORIGINS - len(known)]

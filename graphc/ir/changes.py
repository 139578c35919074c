"""What rewrites did to a graph, and why: kept while somebody records, for those who want to see a pass at work.

A rewrite says `return note(REASON, before, after)` where it is done, and a pass says `carried(done)` at its end.
Nothing is kept outside `recording()`: a note then costs a look at a context variable.

>>> from graphc.ir.build import fill
>>> FLIPPED = Reason("rewritten", "flip", "0 -> 1", "an example")
>>> zero, one = fill((), 0, "float32"), fill((), 1, "float32")
>>> with recording() as changes:
...     note(FLIPPED, zero, one) is one
True
>>> [str(change.reason) for change in changes.notes]
['rewritten: flip']
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from graphc.ir.node import Node
    from graphc.ir.scalar import Scalar

_N = TypeVar("_N", bound="Node")
_S = TypeVar("_S", bound="Scalar")


@dataclass(frozen=True)
class Reason:
    """A rule. kind: what it does, in the word that stands before the row ("rewritten", "folded", "fused", ...). name:
    unique. text: what becomes of what. why: what is gained, or which failure is prevented."""

    kind: str
    name: str
    text: str
    why: str = ""

    def __str__(self) -> str:
        return f"{self.kind}: {self.name}"


@dataclass(frozen=True, eq=False)
class Note:
    """A rewrite by one rule: `after` took the place of `before`, which read `through`."""

    reason: Reason
    before: Node
    after: Node
    through: tuple[Node, ...] = ()


@dataclass(eq=False)
class Changes:
    """notes: the rewrites of nodes, in order. applied: the rules that rewrote bodies. images: for each node of the
    graph before a pass the one that took its place, itself where nothing did."""

    notes: list[Note] = field(default_factory=list)
    applied: list[Reason] = field(default_factory=list)
    images: dict[Node, Node] = field(default_factory=dict)


_changes: ContextVar[Changes | None] = ContextVar("changes", default=None)


@contextmanager
def recording() -> Iterator[Changes]:
    """Keep what is noted inside the block."""
    changes = Changes()
    token = _changes.set(changes)
    try:
        yield changes
    finally:
        _changes.reset(token)


def note(reason: Reason, before: Node, after: _N, *through: Node) -> _N:
    """`after`, which takes the place of `before`. through: operands of `before` that are computed in place or read
    through. Where the two are the same, nothing has happened."""
    changes = _changes.get()
    if changes is not None and after is not before:
        changes.notes.append(Note(reason, before, after, through))
    return after


def applied(reason: Reason, after: _S) -> _S:
    """`after`, which the rule put in the place of a scalar expression."""
    changes = _changes.get()
    if changes is not None:
        changes.applied.append(reason)
    return after


def carried(done: Mapping[Node, Node]) -> None:
    """A pass is through: each node of its graph, and what took its place."""
    changes = _changes.get()
    if changes is not None:
        changes.images.update(done)

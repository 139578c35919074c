"""A pass in words: the graph before and after it, what was merged, folded or rewritten, by which rule and where.

>>> import graphc as gc
>>> from graphc.ir.graph import Graph
>>> x = gc.input("x")
>>> print(difference_of(Graph((gc.log(1 + gc.exp(x)).node,)), "stabilise"))  # doctest: +ELLIPSIS
stabilise: 4 nodes before, 2 after
rewritten: log1p: log(1 + x) -> log1p(x)  log...  (1 + x loses a small x)
rewritten: softplus: log1p(exp(x)) -> softplus(x)  log...  (exp overflows from 89 on in float32)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from graphc.errors import ArgumentError
from graphc.ir.changes import Reason
from graphc.ir.graph import Graph, specialise
from graphc.ir.node import Node
from graphc.passes.compare import ALL, Comparison, Row, compare
from graphc.render.difference.picture import picture_of, title_of
from graphc.render.difference.words import Words, asking_places, places_of
from graphc.render.picture import Picture

MOST_ROWS = 6  # of one rule, that the text shows
SHARED = Reason("shared", "several lines", "a term that several lines asked for is one node", "it is computed once")


@dataclass(frozen=True)
class Entry:
    """A row in words. text: what happened to which nodes; after a rule that says so itself, which node it was. places:
    the user's lines, as file:line."""

    reason: Reason
    text: str
    places: tuple[str, ...]


class Difference:
    """What a pass does to a graph. `before` and `after` are the graphs, `rows` what happened as nodes, `entries` the
    same in words; `str()` is the whole text, `picture()` the drawing of both graphs."""

    def __init__(self, name: str, comparison: Comparison, shared: Mapping[Node, tuple[str, ...]]) -> None:
        self.name = name
        self.comparison = comparison
        self.before = comparison.before
        self.after = comparison.after
        self.rows: tuple[Row, ...] = comparison.rows
        self.shared = {node: shared[node] for node in comparison.before.nodes if node in shared}
        self.words = Words(comparison)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The rows in words, then the terms that several lines of the user's share."""
        found = [Entry(row.reason, self.words.text(row), places_of(row)) for row in self.rows]
        found += [Entry(SHARED, self.words.label(node), places) for node, places in self.shared.items()]
        return tuple(found)

    def __str__(self) -> str:
        groups: dict[Reason, list[Entry]] = {}
        for entry in self.entries:
            groups.setdefault(entry.reason, []).append(entry)
        lines = [title_of(self.name, self.comparison)]
        if not self.rows:
            lines.append(f"{self.name} changes nothing here")
        for reason, entries in groups.items():
            lines += _group(reason, entries)
        return "\n".join(lines)

    def picture(self) -> Picture:
        """The graph before and the graph after, one below the other."""
        return picture_of(self.name, self.comparison, self.words, self.shared)


def difference_of(graph: Graph, pass_name: str, sizes: Mapping[str, int] | None = None) -> Difference:
    """What a pass does to a graph that has been through the passes before it.

    pass_name: as in `graphc.passes.pipeline`; the second `simplify` is "simplify-2", and "all" compares the graph as
        it is given with what the last pass leaves.
    sizes: a number for each named dimension of the graph.

    The steps of loops are not compared. Errors: `ArgumentError` for an unknown pass, or a dimension without a size.
    """
    missing = [name for name in graph.dimensions if name not in (sizes or {})]
    if missing:
        raise ArgumentError(f"difference: passes work on known extents: give sizes for {', '.join(missing)}")
    if sizes and graph.dimensions:
        graph = specialise(graph, sizes, {})
    shared = {node: places for node in graph.nodes if len(places := asking_places(node)) > 1}
    comparison = compare(graph, pass_name)
    name = "all passes" if pass_name == ALL else pass_name
    numbers = ", ".join(f"{dimension} = {size}" for dimension, size in (sizes or {}).items())
    return Difference(f"{name} ({numbers})" if numbers else name, comparison, shared)


def _group(reason: Reason, entries: Sequence[Entry]) -> list[str]:
    """The lines of one rule: one where it did one thing; else a title with the count, and what it did below."""
    says_itself = reason.kind in ("merged", "fused", "reordered", "shared") or reason.name == "constants"
    rule = reason.kind if says_itself else f"{reason.kind}: {reason.name}: {reason.text}"
    why = f"  ({reason.why})" if reason.why and not says_itself else ""
    if len(entries) == 1:
        return [f"{rule}{': ' if says_itself else '  '}{_words(entries[0])}{why}"]
    title = f"{reason.kind}, {len(entries)} times: {reason.name}: {reason.text}"
    lines = [f"{title}  ({reason.why})" if reason.why else title]
    counts = Counter(_words(entry) for entry in entries)
    for words, times in [*counts.items()][:MOST_ROWS]:
        lines.append(f"    {words}  ({times} times)" if times > 1 else f"    {words}")
    rest = len(entries) - sum([*counts.values()][:MOST_ROWS])
    return [*lines, f"    … and {rest} more"] if rest else lines


def _words(entry: Entry) -> str:
    if entry.reason is SHARED:
        return f"{entry.text}  asked for by {', '.join(entry.places)}"
    return f"{entry.text}  {', '.join(entry.places)}".rstrip()

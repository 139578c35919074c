"""The graph before and after a pass: what was kept, what is gone, what is new, and by which rule.

A pass says what took the place of each node (`carried`), and each rule says what it rewrote (`note`); both stand in
`graphc.ir.changes`. A node is kept when it is there afterwards, or when it is the same op over operands that took the
place of its own. Every other one is explained by a chain of notes that leads from it to what took its place; what
nobody reads any more, by what changed its readers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from graphc.errors import ArgumentError
from graphc.ir.changes import Changes, Note, Reason, recording
from graphc.ir.graph import Graph, rebuild
from graphc.ir.node import Generic, Node
from graphc.passes.pipeline import PIPELINE, Pass
from graphc.rules.simplify import ALGEBRA
from graphc.rules.simplify_scalar import reasons_for

ALL = "all"
MERGED = Reason("merged", "equal terms", "the same op over the same operands is one node", "it is computed once")
NORMAL_FORM = Reason("rewritten", "normal form", "what shows a node as it is, is that node")


@dataclass(eq=False)
class Row:
    """A rewrite. before: the node that it rewrote, then those that it read through. result: what took its place, where
    that is still there. made: what else was made. unread: what nobody reads any more because of it."""

    reason: Reason
    before: tuple[Node, ...]
    result: Node | None
    made: tuple[Node, ...] = ()
    unread: tuple[Node, ...] = ()

    @property
    def after(self) -> tuple[Node, ...]:
        """The result, and what else was made."""
        return self.made if self.result is None else (self.result, *self.made)


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two graphs. kept: the nodes of `before` that have a counterpart in `after`; no two have the same."""

    before: Graph
    after: Graph
    kept: Mapping[Node, Node]
    rows: tuple[Row, ...]
    gone: tuple[Node, ...] = field(init=False)
    new: tuple[Node, ...] = field(init=False)

    def __post_init__(self) -> None:
        counterparts = set(self.kept.values())
        object.__setattr__(self, "gone", tuple(node for node in self.before.nodes if node not in self.kept))
        object.__setattr__(self, "new", tuple(node for node in self.after.nodes if node not in counterparts))

    def rows_of(self) -> dict[Node, list[Row]]:
        """By node of either graph: the rows that explain it."""
        found: dict[Node, list[Row]] = {}
        for row in self.rows:
            for node in dict.fromkeys((*row.before, *row.unread, *row.after)):
                found.setdefault(node, []).append(row)
        return found


def pass_names() -> tuple[str, ...]:
    """The names of the passes in their order; one that occurs again has a number."""
    names: list[str] = []
    for step in PIPELINE:
        times = sum(1 for name in names if name.partition("-")[0] == step.__name__)
        names.append(f"{step.__name__}-{times + 1}" if times else step.__name__)
    return tuple(names)


def compare(graph: Graph, name: str) -> Comparison:
    """What the pass of this name does to a graph that has been through those before it; "all": all of them together.

    The extents of the graph are known. The steps of loops are not compared. Errors: `ArgumentError` lists the passes.
    """
    names = pass_names()
    if name == ALL:
        return compare_all(graph)
    if name not in names:
        raise ArgumentError(f"there is no pass {name!r}; the passes are {', '.join(names)}, and {ALL} for all together")
    place = names.index(name)
    for step in PIPELINE[:place]:
        graph = step(graph)
    return compare_pass(graph, PIPELINE[place])


def compare_all(graph: Graph) -> Comparison:
    """The first graph with the last."""
    total = Comparison(graph, graph, {node: node for node in graph.nodes}, ())
    for step in PIPELINE:
        total = _composed(total, compare_pass(total.after, step))
    return total


def compare_pass(graph: Graph, step: Pass) -> Comparison:
    """What one pass does to a graph."""
    with recording() as changes:
        after = step(graph)
    return _Explanation(graph, after, changes).comparison()


class _Explanation:
    """A pass, and what it has noted."""

    def __init__(self, before: Graph, after: Graph, changes: Changes) -> None:
        self.before = before
        self.after = after
        self.there = set(after.nodes)
        self.images = {node: changes.images.get(node, node) for node in before.nodes}
        # For each image the node whose place it took: itself where it was there, else the first one.
        self.owners = {node: node for node, image in self.images.items() if node is image}
        for node, image in self.images.items():
            self.owners.setdefault(image, node)
        self.notes: dict[Node, list[Note]] = {}
        for one in changes.notes:
            self.notes.setdefault(one.before, []).append(one)

    def comparison(self) -> Comparison:
        kept = {node: node for node in self.before.nodes if node in self.there}
        taken = set(kept)
        rows: list[Row] = []
        for node in self.before.nodes:
            image = self.images[node]
            rebuilt = rebuild(node, [self.images[operand] for operand in node.operands])
            if image is node or (image is rebuilt and type(image) is type(node)):
                if image in taken and node not in kept:
                    rows.append(Row(MERGED, (node, self.owners[image]), image))
                elif image in self.there:
                    kept[node] = image
                    taken.add(image)
            else:
                path = self._path([start for start in (rebuilt, node) if start is not image], image)
                if not path and image is rebuilt:
                    path = [Note(NORMAL_FORM, node, image)]
                rows += self._rows(node, image, path)
        self._explain_unread(kept, rows)
        return Comparison(self.before, self.after, kept, tuple(rows))

    def _path(self, starts: Iterable[Node], end: Node) -> list[Note]:
        """The notes that lead from one of the starts to the end; none where they do not lead there."""
        came: dict[Node, Note | None] = dict.fromkeys(starts)
        waiting = list(came)
        for node in waiting:
            for one in self.notes.get(node, ()):
                if one.after not in came:
                    came[one.after] = one
                    waiting.append(one.after)
        path: list[Note] = []
        last = came.get(end)
        while last is not None:
            path += [one for one in reversed(self.notes[last.before]) if one.after is last.after]
            last = came[last.before]
        return path[::-1]

    def _rows(self, node: Node, image: Node, path: Sequence[Note]) -> list[Row]:
        result, made = image if image in self.there else None, tuple(self._made(image))
        found: dict[tuple[Reason, tuple[Node, ...]], None] = {}  # each once, though equal terms note the same twice
        for one in path:
            through = [self.owners[operand] for operand in one.through if operand in self.owners]
            before = tuple(dict.fromkeys((node, *through)))
            found.update(dict.fromkeys((reason, before) for reason in _reasons(one)))
        return [Row(reason, before, result, made) for reason, before in found]

    def _made(self, image: Node) -> list[Node]:
        """What is new below a node, down to what took the place of something."""
        found: dict[Node, None] = {}
        stack = [*image.operands]
        while stack:
            node = stack.pop()
            if node not in self.owners and node not in self.images and node not in found:
                found[node] = None
                stack += node.operands
        return [node for node in found if node in self.there]

    def _explain_unread(self, kept: Mapping[Node, Node], rows: Sequence[Row]) -> None:
        """What is gone without a row of its own belongs to the rows of its readers."""
        explained: dict[Node, list[Row]] = {}
        for row in rows:
            for node in row.before:
                explained.setdefault(node, []).append(row)
        users = self.before.users()
        for node in reversed(self.before.nodes):
            if node in kept or node in explained:
                continue
            found = dict.fromkeys(row for user in users[node] for row in explained.get(user, ()))
            explained[node] = list(found)
            for row in found:
                row.unread += (node,)


def _reasons(one: Note) -> Sequence[Reason]:
    """The rule; of algebra on a body, the rows that did it."""
    if one.reason is ALGEBRA and isinstance(one.before, Generic):
        return reasons_for(one.before.body)
    return (one.reason,)


def _composed(first: Comparison, second: Comparison) -> Comparison:
    """What one pass did and then another, as one change of the first graph."""
    there = set(second.after.nodes)
    kept = {node: node for node in first.before.nodes if node in there}
    taken = set(kept)
    for node, middle in first.kept.items():
        last = second.kept.get(middle)
        if last is not None and last not in taken and node not in kept:
            kept[node] = last
            taken.add(last)
    back = _sources(first)
    forth = _results(second)
    rows: list[Row] = []
    for row in first.rows:
        result = next(iter(forth.get(row.result, ())), None) if row.result is not None else None
        made = tuple(node for node in _all(forth, row.after) if node is not result)
        rows.append(Row(row.reason, row.before, result, made, row.unread))
    for row in second.rows:
        before = _all(back, row.before)
        if before or row.after:
            rows.append(Row(row.reason, before, row.result, row.made, _all(back, row.unread)))
    return Comparison(first.before, second.after, kept, _each_once(rows))


def _each_once(rows: Iterable[Row]) -> tuple[Row, ...]:
    """The rows; those that say the same, of nodes that come from one, are one."""
    found: dict[tuple[Reason, tuple[Node, ...], Node | None, tuple[Node, ...]], Row] = {}
    for row in rows:
        first = found.setdefault((row.reason, row.before, row.result, row.made), row)
        first.unread = tuple(dict.fromkeys((*first.unread, *row.unread)))
    return tuple(found.values())


def _sources(one: Comparison) -> dict[Node, list[Node]]:
    """For each node of the graph after, those of the graph before that it comes from."""
    found = {image: [node] for node, image in one.kept.items()}
    for row in one.rows:
        if row.result is not None:
            found.setdefault(row.result, []).extend(row.before[:1])
    for row in one.rows:
        for node in row.made:
            found.setdefault(node, [*row.before[:1]])
    return found


def _results(one: Comparison) -> dict[Node, list[Node]]:
    """For each node of the graph before, those of the graph after that took its place."""
    found = {node: [image] for node, image in one.kept.items()}
    for row in one.rows:
        for node in (*row.before, *row.unread):
            found.setdefault(node, []).extend(row.after)
    return found


def _all(places: Mapping[Node, Sequence[Node]], nodes: Sequence[Node]) -> tuple[Node, ...]:
    return tuple(dict.fromkeys(place for node in nodes for place in places.get(node, ())))

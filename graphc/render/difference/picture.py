"""A Difference as a Picture: the graph before a pass and the graph after it, each a group, what corresponds aligned.

What is gone is a box of the kind "removed", what is new one of the kind "added"; both name their rule. Of a large graph
only what changed is drawn, and what is next to it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter

from graphc.ir.changes import Reason
from graphc.ir.extent import format_shape
from graphc.ir.node import Input, Join, Node
from graphc.ir.origin import origins_of
from graphc.ir.printer import format_node, node_names
from graphc.passes.compare import Comparison, Row
from graphc.render.difference.words import Words, number_text
from graphc.render.names import formula, is_constant, is_derived, is_recomputed, op_label
from graphc.render.picture import Arrow, Box, Group, Line, Picture

LARGEST = 60  # nodes of a graph that is drawn as a whole; a page holds no more that can be read
MOST_CHANGED = 30  # nodes of a larger graph that are drawn as changed, beside those next to them
MOST_RULES = 3  # that a box names


def picture_of(name: str, comparison: Comparison, words: Words, shared: Mapping[Node, Sequence[str]]) -> Picture:
    """The drawing. name: of the pass. shared: the nodes of the graph before that several lines of the user's made."""
    return _Maker(name, comparison, words, shared).picture()


def title_of(name: str, comparison: Comparison) -> str:
    """How many nodes there are before and after."""
    return f"{name}: {_nodes(len(comparison.before.nodes))} before, {len(comparison.after.nodes)} after"


class _Maker:
    def __init__(self, name: str, comparison: Comparison, words: Words, shared: Mapping[Node, Sequence[str]]) -> None:
        self.name = name
        self.comparison = comparison
        self.words = words
        self.shared = shared
        self.graphs = {"before": comparison.before, "after": comparison.after}
        self.changed = {"before": set(comparison.gone), "after": set(comparison.new)}
        self.rows = comparison.rows_of()
        self.drawn = self._drawn()
        self.ids = {
            key: {node: f"{key[0]}{number}" for number, node in enumerate(graph.nodes)}
            for key, graph in self.graphs.items()
        }
        self.counterparts = {image: node for node, image in comparison.kept.items()}

    def picture(self) -> Picture:
        groups = (  # Graphviz puts what comes first lowest
            Group("after", f"after {self.name}: {_nodes(len(self.graphs['after'].nodes))}"),
            Group("before", f"before: {_nodes(len(self.graphs['before'].nodes))}"),
        )
        boxes: list[Box] = []
        arrows: list[Arrow] = []
        for key, graph in self.graphs.items():
            names = node_names(graph)
            for node in graph.nodes:
                if node in self.drawn[key]:
                    boxes.append(self._box(key, node, format_node(node, names)))
                    arrows += self._arrows(key, node)
        return Picture(title_of(self.name, self.comparison), tuple(boxes), tuple(arrows), groups, notes=self._notes())

    def _drawn(self) -> dict[str, set[Node]]:
        """All of small graphs; of larger ones what changed and what is next to it. Where much changed, each rule is
        shown at work once, then twice, and so on."""
        if max(len(graph.nodes) for graph in self.graphs.values()) <= LARGEST:
            return {key: set(graph.nodes) for key, graph in self.graphs.items()}
        times: Counter[Reason] = Counter()
        turns: list[tuple[int, Row]] = []
        for row in self.comparison.rows:
            turns.append((times[row.reason], row))
            times[row.reason] += 1
        chosen: dict[str, set[Node]] = {key: set() for key in self.graphs}
        for _, row in sorted(turns, key=itemgetter(0)):
            if max(map(len, chosen.values())) < MOST_CHANGED:
                chosen["before"] |= {*row.before, *row.unread} & self.changed["before"]
                chosen["after"] |= {*row.after} & self.changed["after"]
        return {key: self._near(key, nodes) for key, nodes in chosen.items()}

    def _near(self, key: str, nodes: set[Node]) -> set[Node]:
        users = self.graphs[key].users()
        return {near for node in nodes for near in (node, *node.operands, *users[node])}

    def _notes(self) -> tuple[Line, ...]:
        notes: list[Line] = []
        if not self.comparison.rows:
            notes.append(Line(f"{self.name} changes nothing here"))
        for key, graph in self.graphs.items():
            unchanged = len({*graph.nodes} - self.drawn[key] - self.changed[key])
            hidden = len(self.changed[key] - self.drawn[key])
            if unchanged:
                notes.append(Line(f"… {key}: {unchanged} unchanged nodes are not drawn", "quiet"))
            if hidden:
                notes.append(Line(f"… {key}: {hidden} more changed nodes are not drawn", "quiet"))
        return tuple(notes)

    # --- Boxes ------------------------------------------------------------------------------------------------------

    def _box(self, key: str, node: Node, equation: str) -> Box:
        rows = self._rows(key, node)
        details: dict[str, tuple[str, ...]] = {"equation": (equation,)}
        if rows:
            reasons = list(dict.fromkeys(row.reason for row in rows))
            details["rule"] = tuple(f"{reason}: {reason.text}" for reason in reasons)
            details["why"] = tuple(dict.fromkeys(reason.why for reason in reasons if reason.why))
        lines = [origin.where for origin in origins_of(node) if origin.where]
        details["source"] = tuple(dict.fromkeys(lines))
        return Box(
            self.ids[key][node],
            self._kind(key, node),
            tuple(self._lines(key, node, rows)),
            group=key,
            owner=self._owner(node, rows) if key == "after" else None,
            nodes=(node,),
            is_shared=key == "before" and node in self.shared,
            details={heading: texts for heading, texts in details.items() if texts},
        )

    def _rows(self, key: str, node: Node) -> list[Row]:
        """What a box says of rules: why it is gone; by which it was made, or took the place of another."""
        found = self.rows.get(node, [])
        if key == "before":
            return found if node in self.changed[key] else []
        return [row for row in found if node in row.after]

    def _kind(self, key: str, node: Node) -> str:
        if node in self.changed[key]:
            return "removed" if key == "before" else "added"
        if isinstance(node, Input):
            return node.kind
        if is_constant(node):
            return "constant"
        if is_derived(node):
            return "gradient"
        return "output" if node in self.graphs[key].outputs else "op"

    def _lines(self, key: str, node: Node, rows: Sequence[Row]) -> Iterable[Line]:
        if isinstance(node, Input):
            yield Line(node.name, "bold")
            return
        is_made = key == "after" and bool(rows)
        title = number_text(node) or (self.words.body(node) if is_made else None)
        yield Line(title or ("join" if isinstance(node, Join) else op_label(node)), "bold")
        arithmetic = None if title else formula(node)
        if arithmetic:
            yield Line(arithmetic)
        name = self.words.names.get(node)
        if name:
            yield Line(name, "italic")
        if is_derived(node) and not is_constant(node):
            yield Line("again" if is_recomputed(node) else "backward", "italic")
        reasons = dict.fromkeys(row.reason for row in rows)
        names = [reason.name if reason.kind == "rewritten" else str(reason) for reason in reasons]
        if names:
            more = f", {len(names) - MOST_RULES} more" if len(names) > MOST_RULES else ""
            yield Line(", ".join(names[:MOST_RULES]) + more, "quiet")

    def _owner(self, node: Node, rows: Sequence[Row]) -> str | None:
        """The box before the pass of which this one took the place; what else was made with it stands where it may."""
        source = self.counterparts.get(node)
        if source is None:
            source = next((row.before[0] for row in rows if row.before and row.result is node), None)
        return self.ids["before"][source] if source is not None and source in self.drawn["before"] else None

    def _arrows(self, key: str, node: Node) -> Iterable[Arrow]:
        ids = self.ids[key]
        for operand in dict.fromkeys(node.operands):
            if operand in self.drawn[key]:
                shape = [Line(format_shape(operand.shape), "quiet")] if operand.shape else []
                yield Arrow(ids[operand], ids[node], above=tuple(shape), reads=((operand, node),))


def _nodes(count: int) -> str:
    return "1 node" if count == 1 else f"{count} nodes"

"""Which parts of a model the nodes of a graph belong to: layers and scopes, calls of ops made of others, equal blocks.

A group is what a drawing can fold into one box. `Parts` finds them from the frames of the nodes' origins: every scope
or layer that holds two values or more, and every call of an op that is made of others, such as a cross-entropy. What
stands in the gradient half belongs to the part whose gradient it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from graphc.ir.affine import AffineMap
from graphc.ir.graph import kind_of
from graphc.ir.node import Const, Generic, Input, Node, Opaque
from graphc.ir.origin import Frame, origins_of
from graphc.render.names import is_constant

LONGEST_PERIOD = 6  # parts of a block that repeats


@dataclass(eq=False)
class Part:
    """A scope, a call of an op, or a run of equal blocks; `members` are the nodes that no part inside it holds.

    key: unique in a drawing. depth: how many scopes it stands in, itself included; calls of ops are deeper than all
    scopes. times: how often a run repeats its first block; `rest` holds its other blocks.
    """

    key: str
    frame: Frame
    parent: Part | None
    depth: int
    members: list[Node] = field(default_factory=list)
    inner: list[Part] = field(default_factory=list)
    times: int = 1
    is_rest: bool = False

    @property
    def is_op(self) -> bool:
        return self.frame.is_op

    @property
    def is_run(self) -> bool:
        """A run of equal blocks, or those of it that are not drawn."""
        return self.times > 1 or self.is_rest

    @property
    def title(self) -> str:
        """What the user calls it: its layer and its name."""
        name, title = self.frame.name, self.frame.title
        return f"{name}: {title}" if title and name != title else name or title

    def all_members(self) -> list[Node]:
        """The nodes in it, however deep."""
        found = list(self.members)
        for part in self.inner:
            found.extend(part.all_members())
        return found

    def all_inner(self) -> list[Part]:
        """The parts in it, however deep, each after the one around it."""
        found: list[Part] = []
        for part in self.inner:
            found += [part, *part.all_inner()]
        return found


class Parts:
    """The parts of the nodes of a drawing; `of[node]` is the innermost one, `root` holds what is in none."""

    def __init__(
        self, nodes: Sequence[Node], forward: set[Node], updates: Mapping[Node, tuple[Node | None, Frame]] | None = None
    ) -> None:
        """updates: for what only computes new values, the param that it is for, or None, and its part within the
        part of that param."""
        self.nodes = nodes
        self.places = {node: place for place, node in enumerate(nodes)}
        self.forward = forward
        self.updates = updates or {}
        self.root = Part("", Frame(""), None, 0)
        self.of: dict[Node, Part] = {}
        paths = self._paths()
        deepest = max((sum(not frame.is_op for frame in path) for path in paths.values()), default=0)
        known: dict[tuple[Frame, ...], Part] = {(): self.root}
        for node in nodes:
            part = self.root
            for length in range(1, len(paths[node]) + 1):
                chain = paths[node][:length]
                if chain not in known:
                    depth = max(part.depth, deepest if chain[-1].is_op else 0) + 1
                    known[chain] = Part(f"g{len(known)}", chain[-1], part, depth)
                    part.inner.append(known[chain])
                part = known[chain]
            self.of[node] = part
            part.members.append(node)

    def _paths(self) -> dict[Node, tuple[Frame, ...]]:
        """For each node the frames that are worth a part: an op's that makes two nodes, a scope's that holds two."""
        full = self._written_paths()
        work = [node for node in self.nodes if node in self.forward and not _is_leaf(node)]
        calls = Counter(prefix for node in work for prefix in _prefixes(full[node]))
        loops = [node for node in work if isinstance(node, Opaque) and node.step is not None]
        calls.update(full[node] for node in loops)  # a loop is many ops
        for node in self.nodes:
            kept = zip(full[node], _prefixes(full[node]), strict=True)
            full[node] = tuple(frame for frame, prefix in kept if not frame.is_op or calls[prefix] > 1)
        readers: dict[Node, list[tuple[Frame, ...]]] = {}
        for node in self.nodes:
            for operand in node.operands if node in self.forward else ():
                readers.setdefault(operand, []).append(full[node])
        for node in self.nodes:  # a leaf stands in the innermost scope that holds all its readers
            if node in readers and node in self.forward and _is_leaf(node) and not _is_input(node):
                path = _common(readers[node])
                full[node] = path if is_constant(node) else tuple(frame for frame in path if not frame.is_op)
        for node, (param, frame) in self.updates.items():
            full[node] = (*(full[param] if param is not None else ()), frame)
        held = [node for node in self.nodes if node in self.forward and not _is_input(node)]
        counts = Counter(prefix for node in held for prefix in _prefixes(full[node]))
        worth = {prefix for prefix, count in counts.items() if count > 1}
        worth |= {full[node] for node in (*self.updates, *loops)}
        found: dict[Node, tuple[Frame, ...]] = {}
        for node in self.nodes:
            chain = zip(full[node], _prefixes(full[node]), strict=True)
            found[node] = tuple(frame for frame, prefix in chain if prefix in worth)
        return found

    def _written_paths(self) -> dict[Node, tuple[Frame, ...]]:
        """The frames that each node was made in, its own call last; of several the ones that it shares with a reader.

        A node has several where other expressions, perhaps not drawn here, asked for it as well.
        """
        full: dict[Node, tuple[Frame, ...]] = {}
        readers: dict[Node, list[Node]] = {}
        for node in reversed(self.nodes):
            found = [origin.frames for origin in origins_of(node)]
            if len(found) > 1:
                around = [full[reader] for reader in readers.get(node, ())]
                found.sort(key=lambda frames: -max((len(_common((frames, path))) for path in around), default=0))
            full[node] = found[0] if found else ()
            for operand in node.operands:
                readers.setdefault(operand, []).append(node)
        known = {prefix for node in self.forward for prefix in _prefixes(full[node])}
        return {node: path if node in self.forward else _among(known, path) for node, path in full.items()}

    def find_runs(self) -> None:
        """Put equal blocks that follow one another, each reading the one before, into a run."""
        for part in [self.root, *self.root.all_inner()]:
            if not part.is_op and not part.is_run:
                self._find_runs_in(part)

    def _find_runs_in(self, part: Part) -> None:
        items = self._items(part)
        signatures = [self._signature(item) for item in items]
        start = 0
        while start < len(items):
            best = (1, 1)  # times, period
            for period in range(1, min(LONGEST_PERIOD, (len(items) - start) // 2) + 1):
                times = 1
                while self._repeats(items, signatures, start, period, times):
                    times += 1
                if times * period > max(best[0] * best[1], period):
                    best = (times, period)
            times, period = best
            if times > 1 and self._repeats(items, signatures, start + 1, period, times - 1):
                if isinstance(items[start + 1], Part) and not isinstance(items[start], Part):
                    times, period = 1, 1  # the same run begins one later, with a layer
            if times > 1:
                self._make_run(part, items[start : start + times * period], times)
            start += times * period

    def _items(self, part: Part) -> list[Part | Node]:
        """The parts and single values of the forward half right inside a part, in the order of computation."""
        top: dict[Node, Part | Node] = {}
        for inner in part.inner:
            for node in inner.all_members():
                top[node] = inner
        for node in part.members:
            top[node] = node
        found = [top[node] for node in self.nodes if node in top and node in self.forward and not _is_leaf(node)]
        return list(dict.fromkeys(reversed(found)))[::-1]  # by the last value of each

    def _repeats(
        self, items: list[Part | Node], signatures: list[object], start: int, period: int, times: int
    ) -> bool:
        """Whether the block after `times` blocks is equal to the first one, and reads the one before it."""
        at = start + times * period
        if at + period > len(items) or signatures[at : at + period] != signatures[start : start + period]:
            return False
        before = {node for item in items[at - period : at] for node in _nodes(item)}
        block = [node for item in items[at : at + period] for node in _nodes(item)]
        return any(operand in before for node in block for operand in node.operands)

    def _make_run(self, part: Part, items: list[Part | Node], times: int) -> None:
        period = len(items) // times
        names = " → ".join(_short(item) for item in items[:period])
        depth = part.depth
        run = Part(f"{part.key}r{len(part.inner)}", Frame(names), part, depth, times=times)
        rest = Part(f"{run.key}s", Frame(f"the same {_times(times - 1)} more"), run, depth, is_rest=True)
        for number, item in enumerate(items):
            self._move(item, run if number < period else rest)
        run.inner.append(rest)
        part.inner.append(run)

    def _move(self, item: Part | Node, target: Part) -> None:
        if isinstance(item, Part):
            assert item.parent is not None
            item.parent.inner.remove(item)
            item.parent = target
            target.inner.append(item)
        else:
            self.of[item].members.remove(item)
            self.of[item] = target
            target.members.append(item)
            own = frames_of(item)
            for node in [n for n in self.nodes if n not in self.forward and own and frames_of(n) == own]:
                self.of[node].members.remove(node)  # the gradient of a single value goes with it
                self.of[node] = target
                target.members.append(node)

    def _signature(self, item: Part | Node) -> object:
        """What equal blocks have in common: all but their leaves' names and the nodes that they read from outside."""
        nodes = sorted(_nodes(item), key=self.places.__getitem__)
        places: dict[Node, int] = {}
        found: list[object] = []
        for node in nodes:
            if node in self.forward:
                reads = [places.get(operand, (operand.shape, operand.dtype)) for operand in node.operands]
                found.append((_structure(node), tuple(reads)))
                places[node] = len(places)
        return tuple(found)


def frames_of(node: Node) -> tuple[Frame, ...]:
    """The frames that a node was first made in, its own call last."""
    found = origins_of(node)
    return found[0].frames if found else ()


def _nodes(item: Part | Node) -> list[Node]:
    return item.all_members() if isinstance(item, Part) else [item]


def _is_leaf(node: Node) -> bool:
    return isinstance(node, Input) or is_constant(node)


def _is_input(node: Node) -> bool:
    return isinstance(node, Input) and node.kind == "input"


def _among(known: set[tuple[Frame, ...]], path: tuple[Frame, ...]) -> tuple[Frame, ...]:
    """The path among those of the forward half. A gradient that needs no value of its op's, such as that of a mean, is
    one node for all calls of the op in a process: it goes with the call that is drawn."""
    found: tuple[Frame, ...] = ()
    for frame in path:
        chain = (*found, frame)
        if chain not in known:
            alike = [one for one in known if one[:-1] == found and one[-1][0::2] == frame[0::2]]
            chain = max(alike, key=lambda one: one[-1].serial, default=chain)
        found = chain
    return found


def _prefixes(path: tuple[Frame, ...]) -> list[tuple[Frame, ...]]:
    return [path[:length] for length in range(1, len(path) + 1)]


def _common(paths: Iterable[tuple[Frame, ...]]) -> tuple[Frame, ...]:
    """What the paths begin with, all of them."""
    shared: list[Frame] = []
    for level in zip(*paths, strict=False):
        if any(frame != level[0] for frame in level):
            break
        shared.append(level[0])
    return tuple(shared)


def _short(item: Part | Node) -> str:
    if isinstance(item, Part):
        return item.frame.title or item.frame.name
    return kind_of(item)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _structure(node: Node) -> object:
    """What two nodes of equal blocks agree in."""
    match node:
        case Generic():
            maps: tuple[AffineMap, ...] = (node.out_map, *node.maps)
            return "generic", node.domain, node.shape, maps, node.modes, node.body, node.reducer
        case Opaque():
            return node.op, node.shape, node.dtype, node.attributes
        case Const():
            return "const", node.shape, node.dtype, node.value.tobytes()
        case Input():
            return node.kind, node.shape, node.dtype
    return type(node).__name__, node.shape, node.dtype


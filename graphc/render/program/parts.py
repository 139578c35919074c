"""Which kernels of a program are drawn as one: those of one part of the model, forward and backward apart.

A part never waits for what waits for itself: with each part drawn as one box the arrows still run one way. Where
joining a kernel to the part of its scope would break that, a further part of the same name begins.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

BACKWARD = "backward"

Half: TypeAlias = tuple[str, bool]  # one part of a scope, and whether it is its backward half


@dataclass(frozen=True)
class Item:
    """A kernel to be put into a part: the scope that it works for, in parts, and the kernels and leaves it reads."""

    name: str
    scope: tuple[str, ...]
    is_backward: bool
    reads: tuple[str, ...]


@dataclass(eq=False)
class Part:
    """The boxes of one scope in one half. level: 1 for the outermost parts. names: the scope's within the parent."""

    key: str
    names: tuple[str, ...]
    is_backward: bool
    level: int
    parent: Part | None
    members: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return "/".join(self.names)

    @property
    def title(self) -> str:
        return f"{self.name}, {BACKWARD}" if self.is_backward else self.name


def parts_of(kernels: Sequence[Item], leaves: Mapping[str, bool]) -> tuple[list[Part], dict[str, Part]]:
    """The parts, each after the one around it, and for each box that is in one the innermost.

    kernels: in an order in which each comes after what it reads. leaves: each stands beside its first reader; one that
    is False only where all its readers are of that scope.
    """
    readers: dict[str, list[str]] = {leaf: [] for leaf in leaves}
    for kernel in kernels:
        for name in kernel.reads:
            if name in readers:
                readers[name].append(kernel.name)
    found: list[Part] = []
    innermost: dict[str, Part] = {}
    for level in range(1, max((len(kernel.scope) for kernel in kernels), default=0) + 1):
        whole = _Level(kernels, level, innermost)
        for leaf, may_be_apart in leaves.items():
            whole.put_leaf(leaf, may_be_apart, readers[leaf])
        made = [part for part in whole.parts if len(part.members) > 1]
        found += made
        for part in made:
            innermost.update(dict.fromkeys(part.members, part))
    return _without_shells(found), innermost


class _Level:
    """The parts of one level, inside those of the level above."""

    def __init__(self, kernels: Sequence[Item], level: int, outer: Mapping[str, Part]) -> None:
        self.outer = dict(outer)
        self.parts: list[Part] = []
        self.reads = {kernel.name: kernel.reads for kernel in kernels}
        self.of: dict[str, Part] = {}
        latest: dict[tuple[Part | None, Half], Part] = {}
        for kernel in kernels:
            around = self.outer.get(kernel.name)
            if len(kernel.scope) < level or (level > 1 and (around is None or around.level < level - 1)):
                continue
            key = (around, (kernel.scope[level - 1], kernel.is_backward))
            part = latest.get(key)
            if part is None or self._waits(kernel.reads, part):
                name = key[1][:1]
                part = Part(f"s{level}_{len(self.parts)}", name, kernel.is_backward, level, around)
                latest[key] = part
                self.parts.append(part)
            self._put(kernel.name, part)

    def put_leaf(self, leaf: str, may_be_apart: bool, readers: Sequence[str]) -> None:
        """Put a leaf beside its first reader, unless that part needs another that reads it."""
        part = self.of.get(readers[0]) if readers else None
        if part is None or self.outer.get(leaf) is not part.parent:
            return
        others = [name for name in readers if self.of.get(name) is not part]
        if (may_be_apart or self._scopes(others) <= {part.names}) and not self._needs(part, others):
            self._put(leaf, part)

    def _scopes(self, names: Iterable[str]) -> set[tuple[str, ...]]:
        """The names of the parts that these boxes are in; () where one is in none."""
        found = [self.of.get(name) for name in names]
        return {() if part is None else part.names for part in found}

    def _put(self, name: str, part: Part) -> None:
        self.of[name] = part
        part.members.append(name)

    def _needs(self, part: Part, others: Iterable[str]) -> bool:
        """Whether the part needs any of the other boxes, or what is in a part with them."""
        nodes = {self.of.get(name, name) for name in others}
        return bool(nodes & self._needed(name for member in part.members for name in self.reads.get(member, ())))

    def _waits(self, reads: Iterable[str], part: Part) -> bool:
        """Whether something outside the part that is read needs the part."""
        outside = [name for name in reads if self.of.get(name) is not part]
        return part in self._needed(outside)

    def _needed(self, names: Iterable[str]) -> set[Part | str]:
        """All boxes and parts that these need, themselves included; parts are needed as a whole."""
        found: set[Part | str] = set()
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            node = self.of.get(name, name)
            if node not in found:
                found.add(node)
                for member in node.members if isinstance(node, Part) else (name,):
                    waiting.extend(self.reads.get(member, ()))
        return found


def _without_shells(parts: Sequence[Part]) -> list[Part]:
    """The parts without those that hold but one other part and nothing else, whose names that one takes."""
    kept: list[Part] = []
    for part in parts:
        part.level = 1 if part.parent is None else part.parent.level + 1
        inner = [other for other in parts if other.parent is part]
        if len(inner) == 1 and len(inner[0].members) == len(part.members):
            inner[0].names = (*part.names, *inner[0].names)
            inner[0].parent = part.parent
        else:
            kept.append(part)
    return kept

"""Where results go: dead arrays are reused through `out=`, and updates are computed in place at the end."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from graphc_numpy.code import Line, Memory, shape_text
from graphc_numpy.literals import dtype_text

_ITEM_SIZES = {"bool": 1, "int32": 4, "uint32": 4, "float32": 4, "int64": 8, "float64": 8}
_LEAST_BYTES = 1024  # NumPy keeps smaller blocks at hand itself


@dataclass(frozen=True)
class Update:
    """`target[...] = source` after everything else."""

    source: str
    target: str
    memory: Memory


def finish(
    lines: Sequence[Line], returned: Sequence[str], updates: Sequence[Update], kernels: int
) -> list[tuple[int, str]]:
    """The text of all lines, updates last, each with the number of its kernel; what is of none has the number `kernels`
    itself."""
    body, tail = _split(lines, returned, updates)
    plan = _Plan([*body, *tail], returned, updates, len(body))
    return plan.statements(kernels)


def _split(
    lines: Sequence[Line], returned: Sequence[str], updates: Sequence[Update]
) -> tuple[list[Line], list[Line]]:
    """The body, and the tail: the ufuncs that only updates need, which can be computed in place after everything else.

    A line is in the tail when it is a ufunc whose result is read by the tail and by updates alone.
    """
    body: list[Line] = []
    tail: list[Line] = []
    needed = set(returned)  # variables that the body reads
    wanted = {update.source for update in updates}  # variables that the tail or an update reads
    for line in reversed(lines):
        if line.call is not None and line.call.is_ordered and line.target in wanted and line.target not in needed:
            tail.append(line)
            wanted.update(line.reads)
        else:
            body.append(line)
            needed.update(line.reads)
            needed.update([line.view_of] if line.view_of is not None else [])
    return body[::-1], tail[::-1]


class _Plan:
    """Chooses the memory of each result.

    A large result goes into an array of its shape and dtype that nothing reads any more: an operand first. In the tail
    nothing is allocated, since it may no longer fail: a param or state is overwritten by its new value as soon as
    nothing reads its old one, and holds steps on the way to that value; other arrays are made before the tail starts.
    """

    def __init__(self, lines: list[Line], returned: Sequence[str], updates: Sequence[Update], start: int) -> None:
        self.lines, self.updates, self.start = lines, updates, start
        self.roots = _roots(lines)
        self.last: dict[str, int] = {}
        for position, line in enumerate(lines):
            for name in line.reads:
                self.last[self.root(name)] = position
        for name in (*returned, *(update.source for update in updates)):
            self.last[self.root(name)] = len(lines)
        self.uses = Counter(name for line in lines for name in line.reads)
        self.uses.update(update.source for update in updates)
        self.owned: dict[str, Memory] = {}  # roots made so far, with their own memory
        self.pool: dict[Memory, list[str]] = {}  # variables whose memory nothing reads any more
        self.early: list[str] = []  # arrays made before the tail
        self.commits = self._commits()
        self.lent: dict[str, Update] = {}  # roots that lie in the memory of an update's target
        self.done: set[Update] = set()

    def root(self, name: str) -> str:
        return self.roots.get(name, name)

    def _commits(self) -> dict[int, Update]:
        """By line of the tail: the update whose new value the line makes, when it may go there directly."""
        made = {line.target: position for position, line in enumerate(self.lines) if position >= self.start}
        commits: dict[int, Update] = {}
        for update in self.updates:
            position = made.get(update.source)
            if position is None or position in commits or self.last.get(update.target, -1) > position:
                continue
            if (self.lines[position].memory or ((), update.memory[1])) == update.memory:
                commits[position] = update
        return commits

    def statements(self, kernels: int) -> list[tuple[int, str]]:
        """Pairs (number of the kernel, text); see `finish`."""
        numbered = [(line.kernel, self._line(position)) for position, line in enumerate(self.lines)]
        early = [(kernels, text) for text in self.early]
        rest = [(kernels, f"{u.target}[...] = {u.source}") for u in self.updates if u not in self.done]
        return [*numbered[: self.start], *early, *numbered[self.start :], *rest]

    def _line(self, position: int) -> str:
        line = self.lines[position]
        read = dict.fromkeys(self.root(name) for name in line.reads)
        dying = [root for root in read if self.last[root] == position]
        chosen = self._memory(position, line, dying)
        if line.target is not None and line.memory is not None and line.target not in self.lent:
            self.owned[line.target] = line.memory
        for root in dying:
            if root != chosen and root in self.owned:
                self.pool.setdefault(self.owned[root], []).append(root)
        right = line.text if line.call is None else line.call.text(chosen)
        if line.target is None or (position in self.commits and self.uses[line.target] == 1):
            return right
        return f"{line.target} = {right}"

    def _memory(self, position: int, line: Line, dying: Sequence[str]) -> str | None:
        """The variable whose memory the result takes; None for new memory."""
        if line.call is None or line.target is None:
            return None
        if position in self.commits:
            update = self.commits[position]
            self.done.add(update)
            self.lent[line.target] = update
            return update.target
        if line.memory is None or not _is_large(line.memory):
            return None
        if position >= self.start and (found := self._target(position, line, dying)) is not None:
            return found
        for name in line.call.whole:
            if name is not None and name in dying and self.owned.get(name) == line.memory:
                return name
        free = self.pool.get(line.memory)
        if free:
            return free.pop()
        if position < self.start:
            return None
        shape, dtype = line.memory
        self.early.append(f"{line.target} = np.empty({shape_text(shape)}, {dtype_text(dtype)})")
        return line.target

    def _target(self, position: int, line: Line, dying: Sequence[str]) -> str | None:
        """The target of an update that is read last by this line, for a step that is over when the new value comes."""
        assert line.call is not None and line.target is not None
        for name in line.call.whole:
            if name is None or name not in dying:
                continue
            for commit, update in self.commits.items():
                holds = name == update.target or self.lent.get(name) is update
                if holds and commit > position and self.last[line.target] <= commit and line.memory == update.memory:
                    self.lent[line.target] = update
                    return update.target
        return None


def _is_large(memory: Memory) -> bool:
    return math.prod(memory[0]) * _ITEM_SIZES[memory[1]] >= _LEAST_BYTES


def _roots(lines: Sequence[Line]) -> dict[str, str]:
    """For each view the variable that owns its memory."""
    roots: dict[str, str] = {}
    for line in lines:
        if line.target is not None and line.view_of is not None:
            roots[line.target] = roots.get(line.view_of, line.view_of)
    return roots

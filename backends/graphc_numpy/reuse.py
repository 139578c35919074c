"""Where results go: updates in place, and dead arrays reused through `out=`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from graphc_numpy.code import Call, Line, Memory

_ITEM_SIZES = {"bool": 1, "int32": 4, "uint32": 4, "float32": 4, "int64": 8, "float64": 8}
_LEAST_BYTES = 1024  # NumPy keeps smaller blocks at hand itself


@dataclass(frozen=True)
class Update:
    """`target[...] = source` after everything else."""

    source: str
    target: str
    memory: Memory


def finish(lines: Sequence[Line], returned: Sequence[str], updates: Sequence[Update]) -> list[str]:
    """The text of all lines, updates last."""
    everything = _sink(lines, returned, updates)
    roots = _roots(everything)
    last: dict[str, int] = {}
    for position, line in enumerate(everything):
        for name in line.reads:
            last[roots.get(name, name)] = position
    for name in returned:
        last[roots.get(name, name)] = len(everything)
    owned: dict[str, Memory] = {}  # roots made so far, with their own memory
    pool: dict[Memory, list[str]] = {}  # roots that nothing reads any more
    text: list[str] = []
    for position, line in enumerate(everything):
        read = dict.fromkeys(roots.get(name, name) for name in line.reads)
        dying = [root for root in read if root in owned and last[root] == position]
        chosen: str | None = None
        if line.call is not None and line.memory is not None and _is_large(line.memory):
            chosen = _choose(line.call, line.memory, [root for root in dying if owned[root] == line.memory], pool)
        right = line.text if line.call is None else line.call.text(chosen)
        text.append(f"{line.target} = {right}" if line.target is not None else right)
        if line.target is not None and line.memory is not None:
            owned[line.target] = line.memory
        for root in dying:
            if root != chosen:
                pool.setdefault(owned[root], []).append(root)
    return text


def _is_large(memory: Memory) -> bool:
    return math.prod(memory[0]) * _ITEM_SIZES[memory[1]] >= _LEAST_BYTES


def _choose(call: Call, memory: Memory, dying: Sequence[str], pool: dict[Memory, list[str]]) -> str | None:
    """An array of this shape and dtype that nothing reads after this line: an operand first."""
    for name in call.whole:
        if name is not None and name in dying:
            return name
    free = pool.get(memory)
    return free.pop() if free else None


def _roots(lines: Sequence[Line]) -> dict[str, str]:
    """For each view the variable that owns its memory."""
    roots: dict[str, str] = {}
    for line in lines:
        if line.target is not None and line.view_of is not None:
            roots[line.target] = roots.get(line.view_of, line.view_of)
    return roots


def _sink(lines: Sequence[Line], returned: Sequence[str], updates: Sequence[Update]) -> list[Line]:
    """The lines, and the updates after them. One whose value is the result of a ufunc that nothing else reads is
    computed in place, at the end, where nothing can fail any more; it may read the array that it writes, and else only
    arrays that the function made."""
    made = {line.target: line for line in lines if line.target is not None}
    uses = Counter(name for line in lines for name in set(line.reads))
    uses.update([*returned, *(update.source for update in updates)])
    tail: list[Line] = []
    gone: set[str] = set()
    for update in updates:
        line = made.get(update.source)
        call = line.call if line is not None else None
        if (
            line is not None
            and call is not None
            and call.is_ordered
            and uses[update.source] == 1
            and (line.memory or ((), update.memory[1])) == update.memory
            and all(name == update.target or (name in made and made[name].view_of is None) for name in line.reads)
        ):
            gone.add(update.source)
            tail.append(Line(call.text(update.target), (*line.reads, update.target)))
        else:
            tail.append(Line(f"{update.target}[...] = {update.source}", (update.source, update.target)))
    return [line for line in lines if line.target not in gone] + tail

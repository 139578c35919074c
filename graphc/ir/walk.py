"""Two small steps that graphs, bodies and names share: a walk over a DAG, and names that do not repeat."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

_T = TypeVar("_T")


def postorder(roots: Iterable[_T], below: Callable[[_T], Sequence[_T]]) -> list[_T]:
    """Everything reached from the roots, what is below a node before it, each once; iterative, so depth is no limit."""
    done: dict[_T, None] = {}
    for root in roots:
        stack = [root]
        while stack:
            node = stack[-1]
            if node not in done:
                missing = [one for one in below(node) if one not in done]
                if missing:
                    missing.reverse()
                    stack += missing
                    continue
                done[node] = None
            stack.pop()
    return list(done)


def unique_name(stem: str, taken: set[str], numbers: dict[str, int] | None = None) -> str:
    """`stem`, or `stem_2`, `stem_3`, ... where that is taken; the result is taken from then on. `numbers`: the last one
    of each stem so far, so that a thousandth name is found as soon as a second."""
    number = 1 if numbers is None else numbers.get(stem, 1)
    name = stem if number == 1 else f"{stem}_{number}"
    while name in taken:
        number += 1
        name = f"{stem}_{number}"
    taken.add(name)
    if numbers is not None:
        numbers[stem] = number
    return name

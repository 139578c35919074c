"""Loops (`gc.scan`) as recurrences: h[0] = h0; for t = 0, ..., T-1: h[t+1] = tanh(U @ x[t] + V @ h[t]).

A loop backwards goes the other way: h[T] = ..., for t = T-1, ..., 0: h[t] = ... h[t+1] ... Text and LaTeX say how a
name with an index is written; this module says what is written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from graphc.ir.loop import loop_of, value_of
from graphc.ir.node import Node
from graphc.render.equations.derivation import GIVEN, Recurrence
from graphc.render.equations.stacks import plain_stack

LETTERS = "tsrq"  # the step's number, in a loop and in loops inside of it


@dataclass(frozen=True)
class Times:
    """The indices of a step's values: `now` of what is carried into it, `after` of what it carries on; `last` is that
    of the final values, `first` of the first."""

    letter: str
    now: str
    after: str
    first: str
    last: str
    order: tuple[str, str]


def times_of(line: Recurrence, depth: int, length: str) -> Times:
    """The indices in a loop of that length, at that depth."""
    letter = LETTERS[min(depth, len(LETTERS) - 1)]
    last = str(int(length) - 1) if length.isdecimal() else f"{length} - 1"
    if line.loop.reverse:
        return Times(letter, f"{letter} + 1", letter, length, "0", (last, "0"))
    return Times(letter, letter, f"{letter} + 1", "0", length, ("0", last))


def names_of(
    line: Recurrence,
    times: Times,
    outer: Callable[[Node], str],
    own: Callable[[Node], str],
    at: Callable[[str, str], str],
) -> dict[Node, str]:
    """What the step's values are called. outer: of what stands around the loop; own: a value of the step, without an
    index; at: a name with an index."""
    loop = line.loop
    names: dict[Node, str] = {}
    for place, (leaf, operand) in enumerate(zip(loop.leaves, loop.operands, strict=True)):
        if place < loop.carried:
            names[leaf] = at(outer(leaf), times.now)
        elif place < loop.first_constant:
            names[leaf] = _slice(operand, times.letter, outer, at)
        else:
            names[leaf] = outer(operand)
    for leaf, node in zip(loop.leaves, loop.following, strict=False):
        if node not in names:
            names[node] = at(outer(leaf), times.after)
    for result in line.stacks:
        if value_of(result) not in names:
            names[value_of(result)] = at(outer(result), times.letter)
    for step_line in line.step.lines:
        if step_line.part != GIVEN and step_line.node not in names:
            names[step_line.node] = at(own(step_line.node), times.letter)
    return names


def _slice(operand: Node, letter: str, outer: Callable[[Node], str], at: Callable[[str, str], str]) -> str:
    """One slice of an array, by the shortest name that it has."""
    plain, loop = plain_stack(operand), loop_of(operand)
    if plain is None or loop is None:
        return at(outer(operand), letter)
    node, is_after = plain
    if node not in loop.leaves:
        return _slice(node, letter, outer, at)
    return at(outer(node), f"{letter} + 1" if is_after != loop.reverse else letter)


def begins(line: Recurrence, times: Times, outer: Callable[[Node], str], at: Callable[[str, str], str]) -> list[str]:
    """The left sides of the first values, in the order in which the loop carries them."""
    return [at(outer(leaf), times.first) for leaf in line.loop.leaves[: line.loop.carried]]


def repeated(
    line: Recurrence,
    times: Times,
    names: dict[Node, str],
    outer: Callable[[Node], str],
    at: Callable[[str, str], str],
) -> list[tuple[str, str]]:
    """What a step says in one name of what it has in another: left and right sides."""
    lines: list[tuple[str, str]] = []
    for leaf, node in zip(line.loop.leaves, line.loop.following, strict=False):
        left = at(outer(leaf), times.after)
        if names.get(node, left) != left:
            lines.append((left, names[node]))
    for result in line.stacks:
        left = at(outer(result), times.letter)
        if names[value_of(result)] != left:
            lines.append((left, names[value_of(result)]))
    return lines

"""States that move with a value: running statistics, which a function that trains writes and one that predicts reads.

`Variable.set_next` gives a state one next value, which every function that reaches the state writes. Here the value of
one call of a layer is marked instead: a function that computes it, or its gradient, moves the states by that call's
rule, and by the rules of several calls one after another, in the order in which they were built.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from graphc.ir.node import Node, Opaque
from graphc.lang.calculus import custom_vjp
from graphc.lang.tensor import Tensor, Variable

Rule: TypeAlias = Callable[[Sequence[Tensor]], Sequence[Tensor]]
_rules: dict[int, tuple[tuple[Variable, ...], Rule]] = {}  # by the key of the mark; keys count up


def moving(value: Tensor, states: Sequence[Variable], rule: Rule) -> Tensor:
    """`value`, marked: a function that computes it, or its gradient, gives the states what `rule` makes of them.

    The mark is a custom gradient that changes nothing; like all such marks it is gone before a program is planned.
    """
    marked = custom_vjp(lambda one: one, lambda cotangent, output, one: [cotangent])(value)
    assert isinstance(marked.node, Opaque)
    _rules[marked.node.attribute("key")] = tuple(states), rule
    return marked


def marks_among(nodes: Iterable[Node]) -> frozenset[int]:
    """The marks that a graph of these nodes has."""
    keys = (node.attribute("key") for node in nodes if isinstance(node, Opaque) and node.op == "custom_vjp")
    return frozenset(key for key in keys if key in _rules)


def moved(marks: Iterable[int]) -> dict[Variable, Tensor]:
    """The next values of the states of these marks."""
    found: dict[Variable, Tensor] = {}
    for key in sorted(marks):
        states, rule = _rules[key]
        following = rule([found.get(state, state) for state in states])
        found.update(zip(states, following, strict=True))
    return found

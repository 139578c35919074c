"""Backpropagation as a sequence: what is given, then each value, then each gradient, one a step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from graphc.ir.graph import topological
from graphc.ir.node import Input, Node
from graphc.render.names import is_constant
from graphc.render.picture import Step

MOST_GIVEN = 8  # leaves that the first caption names


def steps_of(
    nodes: Sequence[Node],
    ids: Mapping[Node, str],
    forward: set[Node],
    of: Mapping[Node, Node],
    name: Callable[[Node], str],
    caption: Callable[[Node], str],
) -> tuple[Step, ...]:
    """The steps of a drawing.

    nodes: all that are drawn, with their ids; those of the forward half stand in `forward`. of: the gradient of each
    value, whether it is drawn or only written below an edge. name: of a leaf, with its value. caption: of what is
    computed.
    """
    ahead = [node for node in nodes if node in forward]
    leaves = [node for node in ahead if isinstance(node, Input) or is_constant(node)]
    told = [name(node) for node in leaves if isinstance(node, Input)]
    given = ", ".join(told if len(told) <= MOST_GIVEN else [*told[:MOST_GIVEN], f"and {len(told) - MOST_GIVEN} more"])
    steps = [Step(tuple(ids[node] for node in leaves), f"given: {given}" if given else "given")] if leaves else []
    steps += [Step((ids[node],), caption(node)) for node in ahead if node not in leaves]
    owners: dict[Node, list[Node]] = {}
    for value in reversed(ahead):
        if value in of:
            owners.setdefault(of[value], []).append(value)
    drawn = [node for node in nodes if node not in forward]
    for node in drawn or topological(owners):
        served = tuple(ids[value] for value in owners.get(node, ()))
        if drawn:
            steps.append(Step((ids[node],), caption(node), served))
        elif served:
            steps.append(Step((), caption(node), served))
    return tuple(steps)

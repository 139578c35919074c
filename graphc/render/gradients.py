"""The derivative of every value in a drawing: one reverse sweep over the graph as the user wrote it.

`gc.grad` rewrites for stability before it differentiates, so that its graph no longer has a node for each of the
user's. A drawing wants the chain rule itself, one gradient for each value, and gets it here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphc.errors import GradientError
from graphc.ir.build import fill
from graphc.ir.dtypes import is_float
from graphc.ir.extent import format_shape
from graphc.ir.graph import Graph, topological
from graphc.ir.node import Input, Node
from graphc.ir.origin import Origin, originating
from graphc.render.names import is_derived
from graphc.rules.grad import backward, depends_on
from graphc.rules.stable import stabilise


@dataclass(frozen=True, eq=False)
class Gradients:
    """The derivatives of `loss`: `of[v]` is the node of dloss/dv for every value v that has one."""

    loss: Node
    wrt: tuple[Node, ...]
    of: dict[Node, Node]

    @property
    def graph(self) -> Graph:
        """The loss and the gradients asked for, with all that they need."""
        return Graph((self.loss, *dict.fromkeys(self.of[leaf] for leaf in self.wrt if leaf in self.of)))

    def owners(self) -> dict[Node, list[Node]]:
        """For each gradient node the values that it is the gradient of, the one nearest to the loss first."""
        owners: dict[Node, list[Node]] = {}
        for value in reversed(topological((self.loss,))):
            if value in self.of:
                owners.setdefault(self.of[value], []).append(value)
        return owners


def scalar_loss(outputs: Sequence[Node]) -> Node | None:
    """The one float scalar among the outputs, or None when there is none or are several."""
    found = [node for node in dict.fromkeys(outputs) if node.shape == () and is_float(node.dtype)]
    return found[0] if len(found) == 1 else None


def float_leaves(outputs: Sequence[Node]) -> tuple[Node, ...]:
    """The float leaves below the outputs, as declared."""
    return tuple(leaf for leaf in Graph(tuple(outputs)).inputs if is_float(leaf.dtype) and leaf.kind != "state")


def gradients_of(outputs: Sequence[Node], wrt: Sequence[Node] | None = None) -> Gradients:
    """The gradients of the outputs' one scalar, by default with respect to every float leaf below it.

    Errors: `GradientError` when the outputs do not have exactly one float scalar.
    """
    loss = scalar_loss(outputs)
    if loss is None:
        shapes = ", ".join(f"{node.dtype}{format_shape(node.shape)}" for node in outputs)
        raise GradientError(f"gradients need exactly one float scalar among the outputs, which are {shapes}")
    leaves = tuple(wrt) if wrt is not None else float_leaves((loss,))
    for leaf in leaves:
        if not is_float(leaf.dtype):
            label = leaf.name if isinstance(leaf, Input) else "a tensor"
            raise GradientError(f"{label} has dtype {leaf.dtype}; only floats have gradients")
    live = depends_on((loss,), leaves)
    with originating((Origin("one", role="grad"),)):
        seed = fill((), 1, loss.dtype)
    found = backward([loss], [seed], list(live)) if loss in live else {}
    return Gradients(loss, leaves, found)


def recovered(graph: Graph) -> dict[Node, Node]:
    """Which nodes of a graph are the derivatives of which others, where `gc.grad` made them from one scalar output.

    The derivation is done again; since nodes are interned, it finds the nodes that are there already. Rewriting may
    have changed some: those are not found.
    """
    named = graph.outputs[: len(graph.names)] or graph.outputs  # without a function's updates
    losses = [node for node in named if not is_derived(node)]
    loss = scalar_loss(losses)
    if loss is None or not any(is_derived(node) for node in graph.nodes):
        return {}
    leaves = float_leaves((loss,))
    present = set(graph.nodes)
    with originating((Origin("one", role="grad"),)):
        (stable,) = stabilise([loss], keep=leaves)
        live = list(depends_on((stable,), leaves))
        if stable not in live:
            return {}
        found = backward([stable], [fill((), 1, loss.dtype)], live)
    values = [value for value in found if value in present]
    final = stabilise([found[value] for value in values], keep=leaves)
    pairs = [(value, node) for value, node in zip(values, final, strict=True) if node in present]
    return {value: node for value, node in pairs if is_derived(node)}

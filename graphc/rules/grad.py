"""Differentiation of graphs: reverse and forward sweeps over nodes.

The sweeps see nodes only; `graphc.lang.calculus` is the public face with tensors, checks and words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from graphc.ir.build import add_nodes
from graphc.ir.dtypes import is_float
from graphc.ir.graph import topological
from graphc.ir.loop import loop_of
from graphc.ir.node import Join, Node, Opaque
from graphc.ir.origin import Origin, originating, origins_of
from graphc.rules.again import Again
from graphc.rules.loop import Sweeps, Tangents
from graphc.rules.vjp import jvp_node, vjp_node


def depends_on(roots: Sequence[Node], leaves: Sequence[Node]) -> set[Node]:
    """The nodes below the roots through which a leaf's derivative can flow."""
    live: set[Node] = {leaf for leaf in leaves if is_float(leaf.dtype)}
    for node in topological(roots):
        if node in live or not is_float(node.dtype) or (isinstance(node, Opaque) and node.op == "stop_gradient"):
            continue
        if any(operand in live for operand in node.operands):
            live.add(node)
    return live


def backward(outputs: Sequence[Node], cotangents: Sequence[Node], leaves: Sequence[Node]) -> dict[Node, Node]:
    """The cotangent of each leaf that the outputs depend on, given those of the outputs (one reverse sweep).

    Values of a checkpoint are computed again where they are read.
    """
    live = depends_on(outputs, leaves)
    pending: dict[Node, list[Node]] = {}
    for output, cotangent in zip(outputs, cotangents, strict=True):
        pending.setdefault(output, []).append(cotangent)
    asked = set(leaves)
    found: dict[Node, Node] = {}
    again = Again()
    order = topological(outputs)
    loops = Sweeps(order)
    for node in reversed(order):
        total: Node | None = None
        if node in live and node in pending:
            with originating(_gradient_origins(node)):
                total = add_nodes(pending.pop(node))
            if node in asked:
                found[node] = total
        if node in loops:
            with originating(_gradient_origins(node)):
                source = node if total is None else again.value(node, total)
                for operand, contribution in loops.reached(node, source, total, live, backward):
                    pending.setdefault(operand, []).append(contribution)
            continue
        if total is None:
            continue
        with originating(_gradient_origins(node)):
            wanted = [j for j, operand in enumerate(node.operands) if operand in live]
            contributions = vjp_node(again.value(node, total), total, wanted) if wanted else {}
            for j, contribution in contributions.items():
                pending.setdefault(node.operands[j], []).append(contribution)
    return found


def forward(outputs: Sequence[Node], tangents: Mapping[Node, Node]) -> dict[Node, Node]:
    """The tangent of each output that depends on the leaves, given those of the leaves (one forward sweep)."""
    live = depends_on(outputs, list(tangents))
    done: dict[Node, Node] = dict(tangents)
    loops = Tangents()
    for node in topological(outputs):
        if node not in live or node in done:
            continue
        own = {j: done[operand] for j, operand in enumerate(node.operands) if operand in done}
        if not own:
            continue
        with originating(_gradient_origins(node, "tangent")):
            tangent = jvp_node(node, own) if loop_of(node) is None else loops.of(node, own, forward)
        if tangent is not None:
            done[node] = tangent
    return {output: done[output] for output in outputs if output in done}


def _gradient_origins(node: Node, role: str = "grad") -> tuple[Origin, ...]:
    origins = origins_of(node)
    if not origins and isinstance(node, Join):
        origins = origins_of(node.parts[0])
    return tuple(Origin(o.op, o.file, o.line, o.scope, o.name, role, o.frames) for o in origins[:1])

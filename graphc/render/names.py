"""The names that a reader sees: the user's own, each on the one node that it means."""

from __future__ import annotations

import re
from collections.abc import Sequence

from graphc.ir.graph import Graph, kind_of, topological
from graphc.ir.node import Const, Generic, Input, Node, View
from graphc.ir.origin import Origin, origins_of, results_of
from graphc.ir.printer import format_scalar
from graphc.ir.scalar import Literal, postorder
from graphc.lang.source import registry

LONGEST_FORMULA = 28  # letters of a formula in a box


def user_names(graph: Graph) -> dict[Node, str]:
    """The nodes that have a name of the user's: leaves, those named by `named`, and what a line assigns.

    Of the nodes that one line `h = relu(x @ W + b)` makes, only the last is h. A name may occur twice, as in a loop.
    """
    users = graph.users()
    named = graph.outputs[: len(graph.names)] or graph.outputs  # a function's updates have no name of their own
    written = set(topological(node for node in named if not is_derived(node))) or set(graph.nodes)
    names: dict[Node, str] = {}
    for node, name in zip(graph.outputs, graph.names, strict=False):
        if name:
            names[node] = name
    for node in graph.nodes:
        if isinstance(node, Input):
            names[node] = node.name
            continue
        own = _naming_origin(node)
        if own is None or node in names:
            continue
        called = next((origin.name for origin in origins_of(node) if origin.name and not origin.role), None)
        if called:
            names[node] = called
        elif own.assigned_name and node in written:
            if any(_same_line(own, _own_origin(user)) for user in users[node]):
                continue
            names[node] = own.assigned_name
    return names


def _own_origin(node: Node) -> Origin | None:
    """The first origin, when the user wrote this node rather than derived it."""
    found = origins_of(node)
    return found[0] if found and not found[0].role and found[0].op != "grad" else None


def _naming_origin(node: Node) -> Origin | None:
    """The origin whose line may assign the node: of several lines one that went no further than to this node."""
    own = _own_origin(node)
    if own is None or len({(origin.file, origin.line) for origin in origins_of(node)}) == 1:
        return own
    ends = results_of(node)
    found = [one for one in origins_of(node) if not one.role and (one.file, one.line) in ends]
    return next((one for one in found if one.assigned_name), next(iter(found), Origin(own.op)))


def _same_line(one: Origin, other: Origin | None) -> bool:
    return other is not None and (one.file, one.line) == (other.file, other.line)


def is_derived(node: Node) -> bool:
    """Whether a derivative made the node."""
    found = origins_of(node)
    return bool(found) and (bool(found[0].role) or found[0].op in ("grad", "vjp", "jvp"))


def is_recomputed(node: Node) -> bool:
    """Whether the node is a value of the forward graph that a gradient computes again (`gc.checkpoint`)."""
    found = origins_of(node)
    return bool(found) and found[0].role == "again"


def is_constant(node: Node) -> bool:
    """A node without leaves of its own: an array, a fill, a range."""
    return isinstance(node, Const) or (isinstance(node, Generic) and not node.operands)


def scope_of(node: Node) -> tuple[str, ...]:
    """The parts of the user's scope of a node; ops that are made of other ops are no scopes."""
    found = origins_of(node)
    parts = [part for part in found[0].scope.split("/") if part] if found else []
    while parts and parts[-1] in registry:
        parts.pop()
    return tuple(parts)


def op_label(node: Node) -> str:
    """What the node does, in the user's word."""
    if isinstance(node, View):
        return "reshape"
    return kind_of(node)


def formula(node: Node) -> str | None:
    """The scalar formula where the op's name does not say all, because a number takes part: "1 / □"."""
    if not isinstance(node, Generic) or node.reducer is not None or len(node.operands) != 1:
        return None
    literals = [part for part in postorder(node.body) if isinstance(part, Literal)]
    if len(literals) != 1:
        return None
    text = re.sub(r"(\d)\.0\b", r"\1", format_scalar(node.body, ["□"]))
    return text if len(text) <= 16 and "(" not in text else None


def body_text(node: Node) -> str | None:
    """What a node computes of its operands, with a sum in front where it sums; None where that is long."""
    if not isinstance(node, Generic) or not node.operands:
        return None
    text = re.sub(r"(\d)\.0\b", r"\1", format_scalar(node.body, ["□"] * len(node.operands)))
    text = f"{node.reducer} {text}" if node.reducer is not None else text
    return text if 1 < len(text) <= LONGEST_FORMULA else None


def constant_text(node: Node) -> str | None:
    """The number or the few numbers of a constant; None when there are more than four."""
    if isinstance(node, Const):
        return str(node.value.tolist()) if node.value.size <= 4 else None
    if isinstance(node, Generic) and not node.operands:
        text = re.sub(r"(\d)\.0\b", r"\1", format_scalar(node.body, []))
        return text if len(text) <= 24 else None
    return None


def asking_lines(node: Node) -> list[str]:
    """The user's lines that asked for a node, as file:line."""
    return list(dict.fromkeys(origin.where for origin in origins_of(node) if origin.where))


def short_places(places: Sequence[str], most: int) -> str:
    """model.py:3, :7, :9: each file once, without its folder."""
    found: list[str] = []
    last = ""
    for place in places[:most]:
        file, _, line = place.rpartition(":")
        short = file.replace("\\", "/").rpartition("/")[2]
        found.append(f":{line}" if file == last else f"{short}:{line}")
        last = file
    if len(places) > most:
        found.append("…")
    return ", ".join(found)

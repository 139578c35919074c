"""Graphs as text, in index notation: one line a node, the same text whenever the graph is the same."""

from __future__ import annotations

import re
from collections.abc import Sequence

from graphc.ir import scalar as sc
from graphc.ir.affine import AffineMap, axis_name
from graphc.ir.extent import format_shape
from graphc.ir.graph import Graph, kind_of
from graphc.ir.node import INSIDE, Const, Generic, Input, Join, Node, Opaque, Step, View
from graphc.ir.origin import origins_of
from graphc.ir.walk import unique_name

_PRECEDENCE = {"|": 1, "^": 2, "&": 3, "==": 4, "!=": 4, "<": 4, "<=": 4, "<<": 5, ">>": 5, "+": 6, "-": 6}
_PRECEDENCE |= {"*": 7, "/": 7, "//": 7, "%": 7, "**": 9}
_ATOM = 10


def node_names(graph: Graph) -> dict[Node, str]:
    """A short unique identifier for each node: the user's name where there is one, else the op's with a number.

    The variable that a line assigns to names the last node that the line made.
    """
    last: dict[tuple[str, int], Node] = {}
    for node in graph.nodes:
        for origin in origins_of(node)[:1]:
            if not origin.role:
                last[origin.file, origin.line] = node
    names: dict[Node, str] = {}
    taken: set[str] = set()
    numbers: dict[str, int] = {}
    for node in graph.nodes:
        stem = node.name if isinstance(node, Input) else _stem(node, last)
        names[node] = unique_name(stem, taken, numbers)
    return names


def _stem(node: Node, last: dict[tuple[str, int], Node]) -> str:
    origins = origins_of(node)
    given = next((origin.name for origin in origins if origin.name and not origin.role), None)
    if given or not origins:
        return given or kind_of(node)
    origin = origins[0]
    final = last.get((origin.file, origin.line))
    means_final = final is node or (final is not None and bool(origin.role) and origins_of(final)[0].op == origin.op)
    stem = (origin.assigned_name if means_final else None) or origin.op
    return re.sub(r"\W", "_", f"{origin.role}_{stem}" if origin.role else stem)


def format_graph(graph: Graph) -> str:
    """The whole graph, one line a node, then the outputs."""
    names = node_names(graph)
    lines = [format_node(node, names) for node in graph.nodes]
    lines.append("return " + ", ".join(names[node] for node in graph.outputs))
    return "\n".join(lines)


def format_node(node: Node, names: dict[Node, str]) -> str:
    """One node: `name: dtype(shape) = definition`."""
    head = f"{names[node]}: {node.dtype}{format_shape(node.shape)} = "
    match node:
        case Input():
            return head + node.kind
        case Const():
            return head + ("constant" if node.value.size > 4 else f"constant {node.value.tolist()}")
        case View():
            return head + f"view {names[node.operand]}"
        case Join():
            return head + f"join({', '.join(names[part] for part in node.parts)})"
        case Opaque():
            attributes = "".join(f", {key}={value}" for key, value in node.attributes)
            text = head + f"{node.op}({', '.join(names[operand] for operand in node.operands)}{attributes})"
            return text if node.step is None else text + ":\n    " + _format_step(node.step).replace("\n", "\n    ")
        case Generic():
            return head + format_generic(node, [names[operand] for operand in node.operands])


def _format_step(step: Step) -> str:
    """A step of a loop: its leaves in order, then its graph, which returns what follows and the value."""
    graph = Graph((*step.following, step.value))
    names = node_names(graph)
    leaves = ", ".join(names.get(leaf, leaf.name) for leaf in step.leaves)
    return f"step({leaves})\n{format_graph(graph)}"


def format_generic(node: Generic, operands: Sequence[str]) -> str:
    """A Generic as a line of index notation: `[i,j<4] sum[j] x[i,j] * w[j]`; an invalid one as far as it goes."""
    reads = [_read(name, m, mode) for name, m, mode in zip(operands, node.maps, node.modes, strict=False)]
    body = format_scalar(node.body, reads)
    reduced = ",".join(f"{axis_name(a)}<{node.domain[a]}" for a in node.reduced_axes)
    if node.reducer is not None:
        body = f"{node.reducer}[{reduced}] {body}"
    if node.out_map.is_identity and node.domain == node.shape:
        axes = ",".join(axis_name(axis) for axis in range(len(node.domain)))
        return f"[{axes}] {body}" if axes else body
    kept = ",".join(f"{axis_name(a)}<{e}" for a, e in enumerate(node.domain) if a not in node.reduced_axes)
    return f"[{_indices(node.out_map)} for {kept}] {body}" if kept else body


def _read(name: str, index_map: AffineMap, mode: str) -> str:
    text = f"{name}[{_indices(index_map)}]" if index_map.rows else name
    return text if mode == INSIDE else f"{text}?{mode}"


def _indices(index_map: AffineMap) -> str:
    return ",".join(str(row) for row in index_map.rows)


def format_scalar(body: sc.Scalar, reads: Sequence[str]) -> str:
    """A body with the operands' reads as text; terms used more than once are named in a `with` clause."""
    order = sc.postorder(body)
    uses = sc.use_counts(order)
    texts: dict[sc.Scalar, tuple[str, int]] = {}
    named: list[str] = []
    for node in order:
        text, level = _format_one(node, texts, reads)
        if isinstance(node, sc.Apply) and uses.get(node, 0) > 1 and len(text) > 8:
            name = f"t{len(named)}"
            named.append(f"{name} = {text}")
            text, level = name, _ATOM
        texts[node] = (text, level)
    return texts[body][0] + (f" with {'; '.join(named)}" if named else "")


def _format_one(node: sc.Scalar, texts: dict[sc.Scalar, tuple[str, int]], reads: Sequence[str]) -> tuple[str, int]:
    match node:
        case sc.Arg():
            return reads[node.index] if node.index < len(reads) else f"operand{node.index}", _ATOM
        case sc.Index():
            return axis_name(node.axis), _ATOM
        case sc.Size():
            return f"({node.extent})", _ATOM
        case sc.InBounds():
            return f"inside({_indices(node.map)}; {format_shape(node.shape)})", _ATOM
        case sc.Literal():
            text = repr(node.value) if node.dtype != "float32" else _short(node.value)
            return text, _ATOM if not text.startswith("-") else 6
        case sc.Apply(op="cast"):
            return f"{node.dtype}({texts[node.args[0]][0]})", _ATOM
        case sc.Apply():
            symbol = sc.OPS[node.op].symbol if node.op in sc.OPS else None
            if symbol is None or len(node.args) != 2:
                return f"{node.op}({', '.join(texts[arg][0] for arg in node.args)})", _ATOM
            level = _PRECEDENCE[symbol]
            left, right = (texts[arg] for arg in node.args)
            left_text = left[0] if left[1] >= level and symbol != "**" else _parenthesised(left, level + 1)
            return f"{left_text} {symbol} {_parenthesised(right, level + 1)}", level


def _parenthesised(part: tuple[str, int], level: int) -> str:
    return part[0] if part[1] >= level else f"({part[0]})"


def _short(value: float | int | bool) -> str:
    """A float32 in as few digits as identify it."""
    import numpy as np

    return str(np.float32(value))

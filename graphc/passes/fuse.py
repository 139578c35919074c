"""Elementwise fusion: a map is computed where it is read, when it is read once or costs next to nothing."""

from __future__ import annotations

from functools import lru_cache

from graphc.ir import scalar as sc
from graphc.ir.classify import Contraction, classify
from graphc.ir.graph import Graph, rebuild
from graphc.ir.node import Generic, Node
from graphc.ir.origin import add_origins, originating, origins_of
from graphc.rules.inline import Draft, can_inline, inline_into
from graphc.rules.simplify_scalar import simplify_scalar

LARGEST_BODY = 64  # scalar nodes of a fused body; longer chains become stages of one kernel, which costs no more
CHEAP_OPS = frozenset({"add", "sub", "mul", "neg", "abs", "cast", "select", "eq", "ne", "lt", "le", "not", "and", "or"})
CHEAP_BODY = 2  # ops that are computed again rather than stored


def fuse(graph: Graph) -> Graph:
    """Before: gather form. After: no map with one reader is left, but where its reader is a contraction (which reads
    each element many times), would compute it again for many points, or would grow too large."""
    counts = {node: len(users) for node, users in graph.users().items()}
    outputs = set(graph.outputs)
    done: dict[Node, Node] = {}
    single: dict[Node, bool] = {}
    for node in graph.nodes:
        with originating(origins_of(node)):
            new = rebuild(node, [done[operand] for operand in node.operands])
            if isinstance(new, Generic):
                new = _absorb(new, single)
        done[node] = new
        single[new] = counts[node] <= 1 and node not in outputs and single.get(new, True)
    return Graph(tuple(done[node] for node in graph.outputs), graph.names)


def _absorb(node: Generic, single: dict[Node, bool]) -> Node:
    while True:
        draft = Draft.of(node)
        size, names = _size(node.body), origins_of(node)
        for j, producer in enumerate(node.operands):
            if isinstance(producer, Generic) and _worth(node, j, producer, single.get(producer, False), size):
                inline_into(draft, node, j)
                size += _size(producer.body)
                names += origins_of(producer)
        if size == _size(node.body):
            return node
        new = draft.finish(node)
        if not isinstance(new, Generic):
            return new
        node = _simplified(new)
        add_origins(node, names)


@lru_cache(maxsize=4096)
def _size(body: sc.Scalar) -> int:
    return len(sc.postorder(body))


def _simplified(node: Generic) -> Generic:
    body = simplify_scalar(node.body)
    if body is node.body:
        return node
    return Generic(node.domain, node.shape, node.out_map, node.operands, node.maps, node.modes, body, node.reducer)


def _worth(node: Generic, j: int, producer: Generic, single: bool, size: int) -> bool:
    if not can_inline(node, j) or isinstance(classify(node), Contraction):
        return False
    cheap = is_cheap(producer)
    if not (single or cheap):
        return False
    if not cheap and not _read_once(node, j):
        return False
    return size + _size(producer.body) <= LARGEST_BODY


def is_cheap(producer: Generic) -> bool:
    """At most two simple ops on one array (and scalars): storing the result would cost more than computing it."""
    arrays = [operand for operand in producer.operands if operand.shape]
    if len(arrays) > 1:
        return False
    ops = [part.op for part in sc.postorder(producer.body) if isinstance(part, sc.Apply)]
    return len(ops) <= CHEAP_BODY and all(op in CHEAP_OPS for op in ops)


def _read_once(node: Generic, j: int) -> bool:
    """No element of the operand is read by two points of the domain."""
    seen: set[int] = set()
    for row in node.maps[j].rows:
        if len(row.terms) == 1:
            seen.add(row.terms[0][0])
    return all(axis in seen or extent == 1 for axis, extent in enumerate(node.domain))

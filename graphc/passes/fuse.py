"""Elementwise fusion: a map is computed where it is read, when it is read once or costs next to nothing."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from functools import lru_cache
from math import prod

from graphc.ir import scalar as sc
from graphc.ir.changes import Reason, carried, note
from graphc.ir.classify import is_product
from graphc.ir.graph import Graph, rebuild
from graphc.ir.node import SKIP, Generic, Join, Node, generic, join
from graphc.ir.origin import add_origins, originating, origins_of
from graphc.rules.inline import Draft, can_inline, inline_into
from graphc.rules.simplify import ALGEBRA
from graphc.rules.simplify_scalar import simplify_scalar

LARGEST_BODY = 64  # scalar nodes of a fused body; longer chains become stages of one kernel, which costs no more
CHEAP_OPS = frozenset({"add", "sub", "mul", "neg", "abs", "cast", "select", "eq", "ne", "lt", "le", "not", "and", "or"})
CHEAP_BODY = 2  # ops that are computed again rather than stored
LIGHT_BODY = 16  # such ops that are computed again where storing the result would serve loops in another order
LIGHT_ARRAYS = 3  # that a light body reads: as much as writing its result and reading it once
MUCH_SMALLER = 8  # times: a row's mean beside the row, say, whose reading again costs nothing
FUSED = Reason("fused", "read once", "a map is computed where it is read", "its result needs no array")
CHEAP = Reason("fused", "computed again", "a map of few ops is computed where it is read", "storing it costs more")
INTO_PARTS = Reason("fused", "map of parts", "f(join(a, b)) -> join(f(a), f(b))", "no array is needed in between")


def fuse(graph: Graph) -> Graph:
    """Before: gather form. After: no map with one reader is left, but where its reader is a contraction (which reads
    each element many times), would compute it again for many points, or would grow too large."""
    users = graph.users()
    counts = {node: len(readers) for node, readers in users.items()}
    outputs = set(graph.outputs)
    done: dict[Node, Node] = {}
    single: dict[Node, bool] = {}
    crossed = _crossed(graph, users)
    for node in graph.nodes:
        with originating(origins_of(node)):
            new = rebuild(node, [done[operand] for operand in node.operands])
            if isinstance(new, Generic):
                new = _into_parts(_absorb(new, single, crossed), single)
        done[node] = new
        single[new] = counts[node] <= 1 and node not in outputs and single.get(new, True)
        if node in crossed:
            crossed.add(new)
    carried(done)
    return Graph(tuple(done[node] for node in graph.outputs), graph.names)


def _crossed(graph: Graph, users: Mapping[Node, Sequence[Node]]) -> set[Node]:
    """Maps that loops alone read, and that are summed, at once or after other maps, over their first axis (a batch's,
    for each channel's statistics), but never for each place on it: no kernel of theirs could hold such a sum, so that
    their results would be written and read again as a whole. Rows that are summed, too, are at hand in any case."""
    sums: dict[Node, set[str]] = {}
    crossed: set[Node] = set()
    for node in reversed(graph.nodes):
        if not isinstance(node, Generic) or not node.is_map or not node.shape:
            continue
        readers = [user for user in users[node] if isinstance(user, Generic)]
        found = sums[node] = {_sum_of(user, node) for user in readers if user.reducer is not None}
        for user in readers:
            found |= sums.get(user, set()) if user.shape == node.shape else set()
        if "columns" in found and "rows" not in found and len(readers) == len(users[node]):
            if not any(map(is_product, readers)):
                crossed.add(node)
    return crossed - set(graph.outputs)


def _sum_of(user: Generic, node: Node) -> str:
    """Whether a reduction keeps the first axis of what it reads ("rows"), or others only ("columns"), or none."""
    for operand, index_map in zip(user.operands, user.maps, strict=True):
        if operand is node:
            if index_map.rows[0].single_axis in user.out_map.axes:
                return "rows"
            if not user.out_map.axes:
                return "all"
    return "columns"


def _absorb(node: Generic, single: dict[Node, bool], crossed: Container[Node]) -> Node:
    while True:
        draft = Draft.of(node)
        size, names = _size(node.body), origins_of(node)
        read: list[tuple[Reason, Node]] = []
        for j, producer in enumerate(node.operands):
            if isinstance(producer, Generic) and _worth(
                node, j, producer, single.get(producer, False), producer in crossed, size
            ):
                inline_into(draft, node, j)
                size += _size(producer.body)
                names += origins_of(producer)
                read.append((FUSED if single.get(producer, False) else CHEAP, producer))
        if size == _size(node.body):
            return node
        new = draft.finish(node)
        for reason, operand in read:
            note(reason, node, new, operand)
        if not isinstance(new, Generic):
            return new
        node = _simplified(new)
        add_origins(node, names)


def _into_parts(node: Node, single: dict[Node, bool]) -> Node:
    """A map of a Join of maps is a Join of maps, and needs no array in between."""
    if not isinstance(node, Generic) or not node.is_map:
        return node
    for j, operand in enumerate(node.operands):
        if not isinstance(operand, Join) or not single.get(operand, False) or node.operands.count(operand) > 1:
            continue
        if any(part.reducer is not None or SKIP in part.modes for part in operand.parts):
            continue
        if not node.maps[j].is_identity:
            continue
        parts = [_on_part(node, j, part) for part in operand.parts]
        found = [part for part in parts if isinstance(part, Generic) and _size(part.body) <= LARGEST_BODY]
        if len(found) == len(parts):
            for part in found:
                add_origins(part, origins_of(node))
            return note(INTO_PARTS, node, join(found), operand)
    return node


def _on_part(node: Generic, j: int, part: Generic) -> Node:
    """A map where it reads one part of its operand j, a Join."""
    rows, rank = part.out_map.rows, len(part.domain)
    draft = Draft.of(node)
    draft.maps = [index_map.compose(part.out_map) for index_map in draft.maps]
    first = len(draft.operands)
    value = sc.renumber_args(part.body, [first + i for i in range(len(part.operands))])
    draft.body = sc.substitute(sc.move_axes(node.body, rows, rank), {sc.Arg(j, part.dtype): value})
    draft.operands += part.operands
    draft.maps += part.maps
    draft.modes += part.modes
    draft.compact()
    body = simplify_scalar(draft.body)
    return generic(part.domain, node.shape, part.out_map, draft.operands, draft.maps, draft.modes, body, None)


@lru_cache(maxsize=4096)
def _size(body: sc.Scalar) -> int:
    return len(sc.postorder(body))


def _simplified(node: Generic) -> Generic:
    body = simplify_scalar(node.body)
    if body is node.body:
        return node
    simple: Generic = Generic(
        node.domain, node.shape, node.out_map, node.operands, node.maps, node.modes, body, node.reducer
    )
    return note(ALGEBRA, node, simple)


def _worth(node: Generic, j: int, producer: Generic, single: bool, crossed: bool, size: int) -> bool:
    if not can_inline(node, j) or is_product(node):
        return False
    cheap = is_cheap(producer) or (crossed and _is_simple(producer, LIGHT_BODY, LIGHT_ARRAYS))
    if not (single or cheap):
        return False
    if not cheap and not _read_once(node, j):
        return False
    return size + _size(producer.body) <= LARGEST_BODY


def is_cheap(producer: Generic) -> bool:
    """At most two simple ops on one array (and on what is much smaller): storing the result would cost more than
    computing it. Not so where the array is a contraction's result, of which an epilogue is free."""
    return _is_simple(producer, CHEAP_BODY, 1)


def _is_simple(producer: Generic, most_ops: int, most_arrays: int) -> bool:
    size = prod(extent for extent in producer.domain if isinstance(extent, int))
    arrays = [
        operand
        for operand in producer.operands
        if prod(extent for extent in operand.shape if isinstance(extent, int)) * MUCH_SMALLER > size
    ]
    if len(arrays) > most_arrays or any(isinstance(array, Generic) and is_product(array) for array in arrays):
        return False
    ops = [part.op for part in sc.postorder(producer.body) if isinstance(part, sc.Apply)]
    return len(ops) <= most_ops and all(op in CHEAP_OPS for op in ops)


def _read_once(node: Generic, j: int) -> bool:
    """No element of the operand is read by two points of the domain."""
    seen: set[int] = set()
    for row in node.maps[j].rows:
        if len(row.terms) == 1:
            seen.add(row.terms[0][0])
    return all(axis in seen or extent == 1 for axis, extent in enumerate(node.domain))

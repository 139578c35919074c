"""The verifier: the rules that every graph obeys, checked between passes. A failure is a defect of graphc."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from graphc.errors import VerifyError
from graphc.ir import scalar as sc
from graphc.ir.dtypes import DTYPES, is_float
from graphc.ir.extent import format_shape, ints, product
from graphc.ir.graph import Graph, topological
from graphc.ir.loop import loop_of, value_of
from graphc.ir.node import INSIDE, REDUCERS, SKIP, ZERO, Const, Generic, Input, Join, Node, Opaque, View
from graphc.ir.opaque import REFERENCE
from graphc.ir.origin import where
from graphc.ir.printer import format_node, node_names

_LARGEST_COVERAGE_CHECK = 1 << 16  # elements of a Join that the coverage check enumerates


def verify(graph: Graph, after: str = "construction") -> None:
    """Raise `VerifyError` naming the pass, the node, its neighbours and the user's line at the first broken rule."""
    for node in graph.nodes:
        for complaint in _complaints(node):
            names = node_names(graph)
            lines = [format_node(operand, names) for operand in node.operands] + [format_node(node, names)]
            text = "\n  ".join(lines)
            raise VerifyError(f"after {after}: {complaint}\n  {text}", where(node))


def _complaints(node: Node) -> Iterator[str]:
    if node.dtype not in DTYPES:
        yield f"unknown dtype {node.dtype}"
    match node:
        case Generic():
            yield from _generic(node)
        case View():
            if product(node.shape) != product(node.operand.shape):
                yield f"a view of {format_shape(node.operand.shape)} as {format_shape(node.shape)}"
        case Join():
            yield from _join(node)
        case Const():
            if node.value.shape != node.shape:
                yield "a constant whose shape is not its array's"
        case Opaque(op="scan"):
            yield from _loop(node)
        case _:
            if node.operands and getattr(node, "op", None) not in REFERENCE:
                yield "an unknown opaque op"


def _generic(node: Generic) -> Iterator[str]:
    rank = len(node.domain)
    if len(node.out_map.rows) != len(node.shape) or node.out_map.rank != rank:
        yield "the output map does not fit the domain and the shape"
        return
    if not len(node.operands) == len(node.maps) == len(node.modes):
        yield "operands, maps and modes differ in number"
        return
    for operand, index_map, mode in zip(node.operands, node.maps, node.modes, strict=True):
        if index_map.rank != rank or len(index_map.rows) != len(operand.shape):
            shape = format_shape(operand.shape)
            yield f"the map {index_map} does not fit a domain of rank {rank} and an operand {shape}"
        elif mode not in (INSIDE, ZERO, SKIP):
            yield f"unknown mode {mode}"
        elif mode == INSIDE and all(isinstance(e, int) for e in (*node.domain, *operand.shape)):
            if not index_map.stays_inside(node.domain, operand.shape):
                yield f"the read {index_map} leaves {format_shape(operand.shape)}"
    if node.reducer is not None and node.reducer not in REDUCERS:
        yield f"unknown reducer {node.reducer}"
    if node.reducer not in (None, "sum") and node.out_map.projection is None:
        yield f"{node.reducer} needs an output map that selects axes"
    yield from _body(node)


def _body(node: Generic) -> Iterator[str]:
    for part in sc.postorder(node.body):
        match part:
            case sc.Arg():
                if part.index >= len(node.operands):
                    yield f"the body reads operand {part.index}, which does not exist"
                elif part.dtype != node.operands[part.index].dtype:
                    yield f"the body reads operand {part.index} as {part.dtype}"
            case sc.Index():
                if part.axis >= len(node.domain):
                    yield f"the body reads axis {part.axis}, which does not exist"
            case sc.InBounds():
                if part.map.rank != len(node.domain) or len(part.map.rows) != len(part.shape):
                    yield "a bounds test that does not fit the domain"
            case sc.Apply():
                yield from _application(part)


def _application(part: sc.Apply) -> Iterator[str]:
    row = sc.OPS.get(part.op)
    if row is None or len(part.args) != row.arity:
        yield f"{part.op} with {len(part.args)} arguments"
        return
    kinds = [arg.dtype for arg in part.args]
    if part.op == "select":
        if kinds[0] != "bool" or kinds[1] != kinds[2]:
            yield f"select of {kinds}"
    elif len(set(kinds)) != 1:
        yield f"{part.op} of {kinds}"
    elif row.accepts == "float" and not is_float(kinds[0]):
        yield f"{part.op} of {kinds[0]}"


def _loop(node: Opaque) -> Iterator[str]:
    loop = loop_of(node)
    if loop is None:
        yield "a loop without a step"
        return
    if len(loop.leaves) != len(loop.operands) or loop.sliced < 1 or loop.first_constant > len(loop.leaves):
        yield "a loop whose leaves do not fit its operands"
        return
    for place, (leaf, operand) in enumerate(zip(loop.leaves, loop.operands, strict=True)):
        is_slice = loop.carried <= place < loop.first_constant
        if (loop.length, *leaf.shape) != operand.shape if is_slice else leaf.shape != operand.shape:
            yield f"a loop reads {format_shape(operand.shape)} as {format_shape(leaf.shape)}"
        if leaf.dtype != operand.dtype:
            yield f"a loop reads {operand.dtype} as {leaf.dtype}"
    for leaf, following in zip(loop.leaves, loop.following, strict=False):
        if (leaf.shape, leaf.dtype) != (following.shape, following.dtype):
            yield f"a loop carries {format_shape(leaf.shape)} on as {format_shape(following.shape)}"
    value, final = value_of(node), node.attribute("final")
    if node.dtype != value.dtype or node.shape != ((loop.length, *value.shape) if final < 0 else value.shape):
        yield f"a loop gives {format_shape(value.shape)} as {format_shape(node.shape)}"
    if final >= 0 and value is not loop.following[final]:
        yield "the last value of a loop is not what it carries"
    for inner in topological((*loop.following, value)):
        if isinstance(inner, Input) and inner not in loop.leaves:
            yield f"a step of a loop reads {inner.name}, which is no leaf of its own"
        yield from _complaints(inner)


def _join(node: Join) -> Iterator[str]:
    for part in node.parts:
        if part.shape != node.shape or part.dtype != node.dtype:
            yield "parts of different shapes or dtypes"
            return
        if part.reducer not in (None, "sum"):
            yield f"a part that reduces with {part.reducer}"
    if not all(isinstance(extent, int) for part in node.parts for extent in (*part.domain, *part.shape)):
        return
    shape = ints(node.shape)
    if math.prod(shape) > _LARGEST_COVERAGE_CHECK:
        return
    written = np.zeros(shape, dtype=np.int64)
    for part in node.parts:
        written += _writes(part)
    if (written != 1).any():
        at = tuple(int(index) for index in np.argwhere(written != 1)[0])
        yield f"element {at} is written {int(written[at])} times"


def _writes(part: Generic) -> NDArray[np.int64]:
    """1 where the part writes (its reduced axes aside), 0 elsewhere."""
    shape, domain = ints(part.shape), ints(part.domain)
    out = np.zeros(shape, dtype=np.int64)
    if 0 in domain:
        return out
    reduced = set(part.reduced_axes)
    ranges = [range(1 if axis in reduced else extent) for axis, extent in enumerate(domain)]
    starts = ints(tuple(row.const for row in part.out_map.rows))
    for point in itertools.product(*ranges):
        moved = (sum(c * point[a] for a, c in row.terms) for row in part.out_map.rows)
        at = tuple(start + move for start, move in zip(starts, moved, strict=True))
        if all(0 <= index < extent for index, extent in zip(at, shape, strict=True)):
            out[at] = 1
    return out

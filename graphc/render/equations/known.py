"""Ops that are made of other ops, and that lectures write as one: softmax, its logarithm, the cross-entropy.

A row of the table holds an op's equation, the equation of its gradient, and both as NumPy functions. A call of the op
is written so only when the functions agree with the graph on numbers: whatever its options made of it, what is printed
is what the graph computes. All other calls, and code, are printed with their inner equations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphc.ir.dtypes import is_float
from graphc.ir.extent import Extent, Polynomial, Shape, ints, product
from graphc.ir.graph import Graph, replace, specialise
from graphc.ir.interp import interpret
from graphc.ir.node import Generic, Node, leaf
from graphc.ir.origin import originating, origins_of
from graphc.render.equations import formula as fm
from graphc.render.equations.formula import Term
from graphc.rules.grad import backward

_SIZE = 3  # of a named dimension when a call is tried on numbers
_MOST_NUMBERS = 1 << 14  # a call on larger arrays is not tried, and so not written as one
_CLOSE = 1e-4  # of float32 numbers of size 1

Array = NDArray[Any]


@dataclass(frozen=True)
class Known:
    """operands: what the op reads, by kind: "f" floats, "i" integers. equation: of the operands' terms. gradient: of
    the first operand, from the operands' terms, the op's own and its gradient's. value, slope: the same in NumPy."""

    operands: str
    equation: Callable[[Sequence[Term], Shape], Term]
    gradient: Callable[[Sequence[Term], Term, Term], Term]
    value: Callable[[Sequence[Array]], Array]
    slope: Callable[[Sequence[Array], Array], Array]


@dataclass(frozen=True)
class Call:
    """One call of an op: its result, what it reads, and everything between."""

    row: Known
    result: Node
    operands: tuple[Node, ...]
    inner: frozenset[Node]


def calls_of(graph: Graph) -> Iterator[Call]:
    """The calls in a graph that are what the table says."""
    groups: dict[tuple[str, int], list[Node]] = {}
    for node in graph.nodes:
        for origin in origins_of(node):  # several where calls share a node
            frames = () if origin.role else origin.frames
            called = next((frame for frame in frames if frame.is_op and frame.name in TABLE), None)
            if called is not None and node not in groups.setdefault((called.name, called.serial), []):
                groups[called.name, called.serial].append(node)
    for (name, _), nodes in groups.items():
        call = _call(TABLE[name], nodes, graph)
        if call is not None and _agrees(call):
            yield call


def _call(row: Known, nodes: Sequence[Node], graph: Graph) -> Call | None:
    inner = frozenset(nodes)
    users = graph.users()
    derived = {node for node in graph.nodes if origins_of(node) and origins_of(node)[0].role}
    results = [n for n in nodes if n in graph.outputs or any(u not in inner and u not in derived for u in users[n])]
    read = dict.fromkeys(operand for node in nodes for operand in node.operands if operand not in inner)
    operands = sorted((node for node in read if node.operands or not isinstance(node, Generic)), key=_is_integer)
    kinds = "".join("i" if _is_integer(node) else "f" for node in operands)
    if len(results) != 1 or kinds != row.operands or any(node.shape != operands[0].shape[:-1] for node in operands[1:]):
        return None
    return Call(row, results[0], tuple(operands), inner)


def _is_integer(node: Node) -> bool:
    return not is_float(node.dtype)


def _agrees(call: Call) -> bool:
    """Whether graph and table agree, in value and in gradient, on random numbers."""
    leaves = [leaf(f"x{place}", node.shape, node.dtype, "input") for place, node in enumerate(call.operands)]
    seed = leaf("seed", call.result.shape, call.result.dtype, "input")
    with originating(()):
        (result,) = replace(Graph((call.result,)), dict(zip(call.operands, leaves, strict=True))).outputs
        gradient = backward([result], [seed], leaves[:1]).get(leaves[0])
    if gradient is None:
        return False
    graph, new = Graph((result, gradient)), dict[Node, Node]()
    known = specialise(graph, dict.fromkeys(graph.dimensions, _SIZE), new)
    if any(math.prod(ints(node.shape)) > _MOST_NUMBERS for node in known.nodes):
        return False
    rng = np.random.default_rng(0)
    tried = [new.get(node, node) for node in (*leaves, seed)]
    if any(isinstance(extent, Polynomial) for node in tried for extent in node.shape):
        return False  # neither the value nor the gradient reads it: this is another op
    classes = ints(tried[0].shape)[-1] if tried[0].shape else 1
    arrays = [
        rng.standard_normal(ints(node.shape)) if is_float(node.dtype) else rng.integers(0, classes, ints(node.shape))
        for node in tried
    ]
    value, slope = interpret(known, dict(zip(tried, arrays, strict=True)))
    *operands, upstream = arrays
    return _close(value, call.row.value(operands)) and _close(slope, call.row.slope(operands, upstream))


def _close(found: Array, expected: Array) -> bool:
    return found.shape == np.shape(expected) and np.allclose(found, expected, atol=_CLOSE)


# --- The table ------------------------------------------------------------------------------------------------------


def _softmax(x: Array) -> Array:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))


def _row_sums(term: Term, shape: Shape) -> Term:
    """The sums over the last axis, over the whole array again."""
    axis = len(shape) - 1
    return Term("column", (fm.reduce("sum", (axis,), fm.spread(term, shape), shape[:-1]),), (*shape[:-1], 1))


def _minus(left: Term, right: Term) -> Term:
    return fm.elementwise("add", (left, fm.negative(right)))


def _called(name: str) -> Callable[[Sequence[Term], Shape], Term]:
    return lambda args, shape: Term("call", (args[0],), shape, name)


def _softmax_gradient(args: Sequence[Term], own: Term, gradient: Term) -> Term:
    product = fm.elementwise("mul", (gradient, own))
    return fm.elementwise("mul", (own, _minus(gradient, _row_sums(product, own.shape))))


def _log_softmax_gradient(args: Sequence[Term], own: Term, gradient: Term) -> Term:
    softmax = Term("call", (args[0],), own.shape, "softmax")
    return _minus(gradient, fm.elementwise("mul", (_row_sums(gradient, own.shape), softmax)))


def _count(extent: Extent) -> Term:
    return Term("size", (), (), extent) if isinstance(extent, Polynomial) else fm.number(extent)


def _cross_entropy_gradient(args: Sequence[Term], own: Term, gradient: Term) -> Term:
    scores, labels = args
    difference = _minus(Term("call", (scores,), scores.shape, "softmax"), Term("onehot", (labels,), scores.shape))
    rows = fm.elementwise("div", (fm.number(1), _count(product(labels.shape))))
    return fm.elementwise("mul", (rows, gradient, difference))


def _cross_entropy(arrays: Sequence[Array]) -> Array:
    scores, labels = arrays
    return np.asarray(-np.log(np.take_along_axis(_softmax(scores), labels[..., None], -1)).mean())


TABLE: Mapping[str, Known] = {
    "softmax": Known(
        "f",
        _called("softmax"),
        _softmax_gradient,
        lambda arrays: _softmax(arrays[0]),
        lambda arrays, g: (s := _softmax(arrays[0])) * (g - (g * s).sum(axis=-1, keepdims=True)),
    ),
    "log_softmax": Known(
        "f",
        _called("log_softmax"),
        _log_softmax_gradient,
        lambda arrays: np.log(_softmax(arrays[0])),
        lambda arrays, g: g - _softmax(arrays[0]) * g.sum(axis=-1, keepdims=True),
    ),
    "cross_entropy": Known(
        "fi",
        lambda args, shape: Term("crossentropy", tuple(args), shape),
        _cross_entropy_gradient,
        _cross_entropy,
        lambda arrays, g: g * (_softmax(arrays[0]) - np.eye(arrays[0].shape[-1])[arrays[1]]) / arrays[1].size,
    ),
}

"""What a Generic computes, told from its maps, body and reducer alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from graphc.ir import scalar as sc
from graphc.ir.node import Generic


@dataclass(frozen=True)
class Map:
    """Each point writes an element of its own; nothing is combined."""


@dataclass(frozen=True)
class Reduction:
    """Points are combined over the axes that the output does not have."""

    axes: tuple[int, ...]


@dataclass(frozen=True)
class Contraction:
    """A sum of products of two operands. Axes of the domain: batch (in both operands and the output), m (operand 0 and
    the output), n (operand 1 and the output), k (summed)."""

    batch: tuple[int, ...]
    m: tuple[int, ...]
    n: tuple[int, ...]
    k: tuple[int, ...]


@dataclass(frozen=True)
class Window:
    """A reduction that reads an operand through a sliding window: a row of its map has several axes."""

    axes: tuple[int, ...]


@dataclass(frozen=True)
class Scatter:
    """Different points may write one element through a row of several axes."""


Class: TypeAlias = Map | Reduction | Contraction | Window | Scatter


def classify(node: Generic) -> Class:
    """The class of a Generic.

    A Contraction needs a sum of the product of exactly two reads, at least one summed axis that both share, and an
    output map whose rows are single axes (with any stride and offset, so that a strided part of a Join qualifies).
    """
    if any(len(row.terms) > 1 for row in node.out_map.rows):
        return Scatter()
    if node.reducer is None:
        return Map()
    contraction = _contraction(node)
    if contraction is not None:
        return contraction
    if any(len(row.terms) > 1 for index_map in node.maps for row in index_map.rows):
        return Window(node.reduced_axes)
    return Reduction(node.reduced_axes)


def is_product(node: Generic) -> bool:
    """A contraction that is more than a dot product (or several): its operands are read many times."""
    classes = classify(node)
    return isinstance(classes, Contraction) and bool(classes.m or classes.n)


def _contraction(node: Generic) -> Contraction | None:
    if node.reducer != "sum" or len(node.operands) != 2:
        return None
    body = node.body
    if not (isinstance(body, sc.Apply) and body.op == "mul" and all(isinstance(a, sc.Arg) for a in body.args)):
        return None
    left, right, out = node.maps[0].axes, node.maps[1].axes, node.out_map.axes
    every = range(len(node.domain))
    k = tuple(axis for axis in every if axis not in out)
    if not k or not any(axis in left and axis in right for axis in k):
        return None
    return Contraction(
        batch=tuple(axis for axis in every if axis in out and axis in left and axis in right),
        m=tuple(axis for axis in every if axis in out and axis in left and axis not in right),
        n=tuple(axis for axis in every if axis in out and axis in right and axis not in left),
        k=k,
    )

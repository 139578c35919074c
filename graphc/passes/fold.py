"""Compute what depends on constants alone."""

from __future__ import annotations

import numpy as np

from graphc.ir.changes import Reason, note
from graphc.ir.extent import ints, product
from graphc.ir.graph import Graph, rewrite
from graphc.ir.interp import evaluate_generic
from graphc.ir.node import Const, Generic, Node, View, const

LARGEST_DOMAIN = 1 << 20  # points: a few hundredths of a second in the interpreter

FOLDED = Reason("folded", "constants", "what depends on constants alone is a constant", "it is computed once, now")


def fold_constants(graph: Graph) -> Graph:
    """After: a Generic or View whose operands are all constants is a constant, unless it has too many points."""
    return rewrite(graph, _fold)


def _fold(node: Node) -> Node:
    if not node.operands or not all(isinstance(operand, Const) for operand in node.operands):
        return node
    values = [operand.value for operand in node.operands if isinstance(operand, Const)]
    if isinstance(node, View):
        return note(FOLDED, node, const(values[0].reshape(ints(node.shape))))
    if isinstance(node, Generic):
        points = product(node.domain)
        if isinstance(points, int) and points <= LARGEST_DOMAIN:
            with np.errstate(all="ignore"):
                return note(FOLDED, node, const(evaluate_generic(node, values)))
    return node

"""Matrix chains: A (B (C x)) or ((A B) C) x, whichever multiplies less.

The order is found by the dynamic programme of S. S. Godbole, "On efficient computation of matrix chain products",
IEEE Transactions on Computers C-22 (1973). The result of a product may change in the last digits: reassociation of
matrix products is one of the two that graphc permits itself (the other is sums within one reduction).
"""

from __future__ import annotations

from dataclasses import dataclass

from graphc.ir import scalar as sc
from graphc.ir.affine import AffineMap, axis_row
from graphc.ir.changes import Reason, carried, note
from graphc.ir.extent import ints
from graphc.ir.graph import Graph, rebuild
from graphc.ir.node import INSIDE, Generic, Node, generic
from graphc.ir.origin import originating, origins_of

LONGEST_CHAIN = 100  # factors: the search takes the cube of their number; a longer chain is left as it is written
REORDERED = Reason("reordered", "matrix chain", "(A B) x -> A (B x), or the other way round", "fewer multiply-adds")


@dataclass(frozen=True)
class Factor:
    """A matrix, or its transpose; a vector is a column, transposed a row."""

    node: Node
    transposed: bool

    @property
    def rows(self) -> int:
        return (*ints(self.node.shape), 1)[1 if self.transposed else 0]

    @property
    def columns(self) -> int:
        return (*ints(self.node.shape), 1)[0 if self.transposed else 1]


def order_chains(graph: Graph) -> Graph:
    """Before: extents are known. After: each chain of plain matrix products is multiplied in the cheapest order."""
    users = graph.users()
    outputs = set(graph.outputs)
    inner = {
        operand
        for node in graph.nodes
        if matrix_product(node) is not None
        for operand in node.operands
        if matrix_product(operand) is not None and len(users[operand]) == 1 and operand not in outputs
    }
    done: dict[Node, Node] = {}
    for node in graph.nodes:
        with originating(origins_of(node)):
            new = rebuild(node, [done[operand] for operand in node.operands])
            if node not in inner and matrix_product(node) is not None and any(o in inner for o in node.operands):
                new = note(REORDERED, new, _reorder(node, inner, done) or new)
        done[node] = new
    carried(done)
    return Graph(tuple(done[node] for node in graph.outputs), graph.names)


def matrix_product(node: Node) -> tuple[Factor, Factor] | None:
    """(L, R) when the node is the matrix product L R of two matrices or their transposes."""
    if not isinstance(node, Generic) or node.reducer != "sum" or len(node.operands) != 2 or len(node.domain) != 3:
        return None
    if node.out_map.projection != (0, 1) or node.body is not _MUL.get(node.dtype):
        return None
    if node.modes != (INSIDE, INSIDE):
        return None
    found: dict[str, Factor] = {}
    for operand, index_map in zip(node.operands, node.maps, strict=True):
        axes = index_map.projection
        if (
            axes is None
            or not axes
            or any(node.domain[axis] != extent for axis, extent in zip(axes, operand.shape, strict=True))
        ):
            return None
        if set(axes) == {0, 2} or (axes == (2,) and node.domain[0] == 1 and "left" not in found):
            found["left"] = Factor(operand, axes[0] == 2)
        elif set(axes) == {1, 2} or (axes == (2,) and node.domain[1] == 1):
            found["right"] = Factor(operand, axes[0] == 1)
    return (found["left"], found["right"]) if len(found) == 2 else None


_MUL = {dtype: sc.apply("mul", sc.Arg(0, dtype), sc.Arg(1, dtype)) for dtype in ("float32", "float64")}


def _factors(node: Node, inner: set[Node]) -> list[Factor]:
    """The chain below a product, from left to right; empty when it is too long."""
    chain: list[Factor] = []
    stack = [Factor(node, False)]
    while stack:
        factor = stack.pop()
        product = matrix_product(factor.node) if factor.node is node or factor.node in inner else None
        if product is None:
            chain.append(factor)
            continue
        left, right = product
        if factor.transposed:  # (L R)' = R' L'
            left, right = Factor(right.node, not right.transposed), Factor(left.node, not left.transposed)
        stack += [right, left]
        if len(chain) + len(stack) > LONGEST_CHAIN:
            return []
    return chain


def _reorder(node: Node, inner: set[Node], done: dict[Node, Node]) -> Node | None:
    chain = _factors(node, inner)
    if not chain:
        return None
    best, split = _cheapest(chain)
    if best >= _cost(node, inner):
        return None
    return _build(chain, split, 0, len(chain) - 1, done).node


def _cost(node: Node, inner: set[Node]) -> int:
    product = matrix_product(node)
    if product is None:
        return 0
    left, right = product
    own = left.rows * left.columns * right.columns
    return own + sum(_cost(part.node, inner) for part in product if part.node in inner)


def _cheapest(chain: list[Factor]) -> tuple[int, dict[tuple[int, int], int]]:
    """Multiplications of the best order, and where it splits each stretch of the chain."""
    count = len(chain)
    cost = {(i, i): 0 for i in range(count)}
    split: dict[tuple[int, int], int] = {}
    for length in range(2, count + 1):
        for i in range(count - length + 1):
            j = i + length - 1
            options = [
                (cost[i, k] + cost[k + 1, j] + chain[i].rows * chain[k].columns * chain[j].columns, k)
                for k in range(i, j)
            ]
            cost[i, j], split[i, j] = min(options)
    return cost[0, count - 1], split


def _build(chain: list[Factor], split: dict[tuple[int, int], int], i: int, j: int, done: dict[Node, Node]) -> Factor:
    if i == j:
        return Factor(done[chain[i].node], chain[i].transposed)
    k = split[i, j]
    left, right = _build(chain, split, i, k, done), _build(chain, split, k + 1, j, done)
    maps = []
    for factor, one, two in ((left, 0, 2), (right, 2, 1)):
        axes = ((two, one) if factor.transposed else (one, two))[: len(factor.node.shape)]
        maps.append(AffineMap(3, tuple(axis_row(axis) for axis in axes)))
    domain = (left.rows, right.columns, left.columns)
    out_map = AffineMap(3, (axis_row(0), axis_row(1)))
    body = _MUL[left.node.dtype]
    operands = (left.node, right.node)
    return Factor(generic(domain, domain[:2], out_map, operands, maps, (INSIDE, INSIDE), body, "sum"), False)

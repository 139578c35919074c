"""What a node has to do at least: operations on floats, and multiply-adds, counted from its index notation alone.

Each point of a domain counts, also one whose read falls outside its array: a convolution with padding counts as one
over a larger image does, which is the custom where such figures are published.
"""

from __future__ import annotations

from functools import lru_cache

from graphc.ir import scalar as sc
from graphc.ir.dtypes import is_float
from graphc.ir.extent import Extent, product
from graphc.ir.node import Generic, Node, Opaque


@lru_cache(maxsize=1 << 12)  # bodies: most graphs have few different ones
def operations_per_point(body: sc.Scalar, reducer: str | None) -> tuple[tuple[str, int], ...]:
    """(dtype, count): each op of the body that takes floats counts one, and what is combined by the reducer one more.

    A select, a conversion and work on integers count nothing; a term that occurs twice counts once.
    """
    counts: dict[str, int] = {}
    for scalar in sc.postorder(body):
        if isinstance(scalar, sc.Apply) and scalar.op != "cast" and is_float(scalar.args[0].dtype):  # select's: a bool
            dtype = scalar.args[0].dtype
            counts[dtype] = counts.get(dtype, 0) + 1
    if reducer is not None and is_float(body.dtype):
        counts[body.dtype] = counts.get(body.dtype, 0) + 1
    return tuple(counts.items())


def operations(node: Node) -> Extent:
    """The float operations of one node, of whatever dtype; of a symbolic domain a polynomial."""
    if isinstance(node, Generic):
        return product(node.domain) * sum(count for _, count in operations_per_point(node.body, node.reducer))
    if isinstance(node, Opaque) and node.op in ("scatter_add", "cumsum") and is_float(node.dtype):
        return product(node.operands[0].shape)  # each element is added once
    return 0


def multiply_adds(node: Node) -> Extent:
    """The points of a sum of products of two reads, which may be a node of their own below the sum; otherwise 0.

    A sum of squares is none: where such figures are published, normalisations have no multiply-adds.
    """
    if not isinstance(node, Generic) or not is_float(node.dtype):
        return 0
    # A sum of one term each is a plain map, but it has the axis.
    if node.reducer != "sum" and not (node.reducer is None and node.reduced_axes):
        return 0
    body = node.body
    if isinstance(body, sc.Arg):
        below = node.operands[body.index]
        if not isinstance(below, Generic) or below.reducer is not None:
            return 0
        body = below.body
    if not isinstance(body, sc.Apply) or body.op != "mul" or body.args[0] is body.args[1]:
        return 0
    return product(node.domain) if all(sc.args_of(factor) for factor in body.args) else 0

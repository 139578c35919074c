"""How long the blocks of rows are in which a phase of a phased program goes over a dimension (`graphc.phased`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from graphc.ir.extent import Extent, evaluate, product
from graphc.ir.node import Generic, Node
from graphc.program import ITEM_SIZES

LONGEST: Final = (64, 256, 1024, 4096)
"""Blocks that are tried as the longest, from the shortest on. From 64 rows on a product of matrices runs as fast as it
does with any number of rows, for weights are in the cache."""

STEP: Final = 4
"""Each block is followed by those a quarter as long, down to 1: with eighths, the blocks for what is left over are so
short that a call for 100 rows of a perceptron takes half as long again."""

ENOUGH_WORK: Final = 1 << 20
"""Points of loops in the longest block: at some ten a nanosecond 0.1 ms, beside which a block costs nothing."""

READ_AGAIN: Final = 128 << 10
LONG: Final = 256
"""A block that reads more bytes of weights and sums than READ_AGAIN is at least so LONG: each block reads them again.
A perceptron 784-128-10 takes 18% longer for 1000 rows in blocks of 64, and 4% in blocks of 256."""

FREE_WORK: Final = 1024
"""Points of loops that may be computed twice rather than to call shorter blocks for what is left over."""

MOST_BYTES: Final = 64 << 20
"""Of the values in a block; longer blocks would leave the caches, and need too large a workspace."""


class Blocks(NamedTuple):
    """The lengths, from the longest down to 1, and for each how many rows must be left over to take the last ones in one
    more block as long (0: never)."""

    lengths: list[int]
    again: list[int]


def block_lengths(
    nodes: Sequence[Node], dimensions: Mapping[str, int], rows_of: Callable[[Node], str | None]
) -> Blocks:
    """The blocks for a phase that computes these nodes. `rows_of` says which dimension the rows of a node are of, None
    of a node without."""
    one = dict.fromkeys(dimensions, 1)
    points = nbytes = 0
    others: dict[Node, int] = {}
    for node in nodes:
        points += _count(node.domain if isinstance(node, Generic) else node.shape, one)
        nbytes += _count(node.shape, one) * ITEM_SIZES[node.dtype]
        for without in (node, *node.operands):
            if rows_of(without) is None:
                others[without] = _count(without.shape, one) * ITEM_SIZES[without.dtype]
    longest = next((length for length in LONGEST if length * points >= ENOUGH_WORK), LONGEST[-1])
    if sum(others.values()) > READ_AGAIN:
        longest = max(longest, LONG)
    while longest > 1 and longest * nbytes > MOST_BYTES:
        longest //= STEP
    lengths = [longest]
    while lengths[-1] > 1:
        lengths.append(lengths[-1] // STEP)
    twice = FREE_WORK // max(points, 1)
    return Blocks(lengths, [max(length - twice, 1) if 1 < length and twice else 0 for length in lengths])


def _count(shape: Sequence[Extent], sizes: Mapping[str, int]) -> int:
    count = evaluate(product(tuple(shape)), sizes)
    assert isinstance(count, int)
    return count

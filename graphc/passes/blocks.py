"""How long the blocks of rows are in which a phase of a phased program goes over a dimension (`graphc.phased`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from graphc.ir.extent import Extent, evaluate, product
from graphc.ir.node import Generic, Node
from graphc.program import ITEM_SIZES

STEP: Final = 4
"""Each block is followed by those a quarter as long, down to 1: with eighths, the blocks for what is left over are so
short that a call for 100 rows of a perceptron takes half as long again."""

LONGEST: Final = STEP**6

ENOUGH_WORK: Final = 1 << 19
"""Points of loops in the longest block: at some ten a nanosecond 50 us, enough for threads, and beside which a block
costs nothing."""

READ_AGAIN: Final = 40
"""Points of loops in the longest block for each byte of weights and sums, which every block reads again. A perceptron
784-128-10 takes 18% longer for 1000 rows in blocks of 64 than all at once, and 4% in blocks of 256."""

ADDED_UP: Final = 4 * READ_AGAIN
"""Points of loops in a call for each byte of sums from which on it does not matter that these are added in memory."""

FREE_WORK: Final = 1024
"""Points of loops that may be computed twice rather than to call shorter blocks for what is left over."""

MOST_BYTES: Final = 64 << 20
"""Of the values in a block; longer blocks would leave the caches, and need too large a workspace."""


class Blocks(NamedTuple):
    """The lengths, from the longest down to 1, and for each how many rows must be left over to take the last ones in
    one more block as long (0: never)."""

    lengths: list[int]
    again: list[int]


def block_lengths(
    nodes: Sequence[Node], dimensions: Mapping[str, int], rows_of: Callable[[Node], str | None]
) -> Blocks:
    """The blocks for a phase that computes these nodes. `rows_of` says which dimension the rows of a node are of, None
    of a node without."""
    cost = _cost(nodes, dimensions, rows_of)
    enough = max(ENOUGH_WORK, READ_AGAIN * cost.others)
    longest = 1
    while longest < LONGEST and longest * cost.points < enough:
        longest *= STEP
    while longest > 1 and longest * cost.nbytes > MOST_BYTES:
        longest //= STEP
    lengths = [longest]
    while lengths[-1] > 1:
        lengths.append(lengths[-1] // STEP)
    twice = FREE_WORK // max(cost.points, 1)
    return Blocks(lengths, [max(length - twice, 1) if length > 1 and twice else 0 for length in lengths])


def whole_lengths(
    nodes: Sequence[Node], sums: Sequence[Node], lengths: Iterable[int], dimensions: Mapping[str, int]
) -> list[int]:
    """Those of the lengths for which a program of the whole pays: a call with so few rows would spend its time on
    adding up the sums in memory. nodes: all with rows, or that sum them."""
    points = _cost(nodes, dimensions, lambda node: None).points
    nbytes = sum(_count(node.shape, dict.fromkeys(dimensions, 1)) * ITEM_SIZES[node.dtype] for node in sums)
    return sorted(length for length in lengths if length * points < ADDED_UP * nbytes)


class _Cost(NamedTuple):
    """Of one row: points of loops, bytes of the values; and the bytes that do not depend on rows."""

    points: int
    nbytes: int
    others: int


def _cost(nodes: Iterable[Node], dimensions: Mapping[str, int], rows_of: Callable[[Node], str | None]) -> _Cost:
    one = dict.fromkeys(dimensions, 1)
    points = nbytes = 0
    others: dict[Node, int] = {}
    for node in nodes:
        points += _count(node.domain if isinstance(node, Generic) else node.shape, one)
        nbytes += _count(node.shape, one) * ITEM_SIZES[node.dtype]
        for without in (node, *node.operands):
            if rows_of(without) is None:
                others[without] = _count(without.shape, one) * ITEM_SIZES[without.dtype]
    return _Cost(points, nbytes, sum(others.values()))


def _count(shape: Sequence[Extent], sizes: Mapping[str, int]) -> int:
    count = evaluate(product(tuple(shape)), sizes)
    assert isinstance(count, int)
    return count

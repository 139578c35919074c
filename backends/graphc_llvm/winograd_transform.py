"""The transforms of Winograd's F(2x2, 3x3), on vectors of one element for each of several tiles or channels.

    Y = A^T [ (G g G^T) * (B^T d B) ] A        (* element by element; d 4x4, g 3x3, Y 2x2)

          | 1  0 -1  0 |         | 1    0    0  |
    B^T = | 0  1  1  0 |    G =  | 1/2  1/2  1/2 |    A^T = | 1  1  1  0 |
          | 0 -1  1  0 |         | 1/2 -1/2  1/2 |          | 0  1 -1 -1 |
          | 0  1  0 -1 |         | 0    0    1  |

The matrices are those of A. Lavin, S. Gray, "Fast Algorithms for Convolutional Neural Networks" (2015),
arXiv:1509.09308, section 4.1. Points are numbered row by row, from 0 to 15.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from graphc_llvm.emit import Builder, Value

Vectors = Sequence[Value]
Transform = Callable[[Builder, Vectors], list[Value]]


def _input(b: Builder, d: Vectors) -> list[Value]:
    """B^T d."""
    return [b.sub(d[0], d[2]), b.add(d[1], d[2]), b.sub(d[2], d[1]), b.sub(d[1], d[3])]


def _weights(b: Builder, g: Vectors) -> list[Value]:
    """G g; halving is exact, so both middle rows are rounded as one sum of halves is."""
    even = b.mul(b.add(g[0], g[2]), 0.5)
    odd = b.mul(g[1], 0.5)
    return [g[0], b.add(even, odd), b.sub(even, odd), g[2]]


def _output(b: Builder, m: Vectors) -> list[Value]:
    """A^T m."""
    return [b.add(b.add(m[0], m[1]), m[2]), b.sub(b.sub(m[1], m[2]), m[3])]


def _both_sides(b: Builder, one: Transform, elements: Vectors, size: int) -> list[Value]:
    """T x T^T of a square x of `size` rows: T on the columns, then on the rows."""
    columns = [one(b, [elements[i * size + j] for i in range(size)]) for j in range(size)]
    rows = len(columns[0])
    return [value for i in range(rows) for value in one(b, [column[i] for column in columns])]


def transform_input(b: Builder, d: Vectors) -> list[Value]:
    """B^T d B: 16 from 16."""
    return _both_sides(b, _input, d, 4)


def transform_weights(b: Builder, g: Vectors) -> list[Value]:
    """G g G^T: 16 from 9."""
    return _both_sides(b, _weights, g, 3)


def transform_output(b: Builder, m: Vectors) -> list[Value]:
    """A^T m A: 4 from 16."""
    return _both_sides(b, _output, m, 4)


def every_second(b: Builder, low: Value, high: Value, first: int) -> Value:
    """The even (first 0) or odd (1) elements of two vectors side by side."""
    return b.shuffle(low, high, range(first, 2 * low.type.lanes, 2))


def interleaved(b: Builder, even: Value, odd: Value) -> tuple[Value, Value]:
    """The inverse: both halves of even[0], odd[0], even[1], ..."""
    lanes = even.type.lanes
    picks = [lane // 2 + lanes * (lane % 2) for lane in range(2 * lanes)]
    return b.shuffle(even, odd, picks[:lanes]), b.shuffle(even, odd, picks[lanes:])

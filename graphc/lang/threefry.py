"""Threefry-2x32: random words as scalar expressions, from a key and a counter, in the uint32 ops of any body.

The function is a bijection of 64-bit counters for each 64-bit key, so that no two counters of one key give the same
block, and every word can be computed by itself, in any order. Twenty rounds, as the paper advises (13 already pass
its tests). On numbers (`Literal`s) it is computed at once, by folding.

A key is derived in two steps, each a Threefry block: the generator's key and the number of a draw give the draw's key,
when the graph is built; that and the state that counts calls give the key of a call, two words that are computed once
a call. An element's block is that of its row-major position, 64 bits wide: positions beyond 2^32 do not repeat.

Source: J. Salmon, M. Moraes, R. Dror, D. Shaw, Parallel random numbers: as easy as 1, 2, 3, SC11; rotations and
known answers from the authors' library Random123.
"""

from __future__ import annotations

from typing import TypeAlias

from graphc.ir import scalar as sc
from graphc.ir.affine import Affine, AffineMap
from graphc.ir.extent import Shape, product
from graphc.ir.node import Node, scalar_map

Words: TypeAlias = tuple[sc.Scalar, sc.Scalar]

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))  # of the paper's table 4, 2x32: alternately, four rounds each
PARITY = 0x1BD11BDA  # the third word of a key is the xor of the two and this: the upper half of Skein's constant C240
INJECTIONS = 5  # of the key: one after each four rounds, 20 in all
SECOND = 1 << 31  # in a counter's high word: a second block for an element (no array has 2^63 elements)


def block(key: Words, counter: Words) -> Words:
    """Two random words."""
    keys = (*key, _xor(_xor(*key), _word(PARITY)))
    x, y = _add(counter[0], keys[0]), _add(counter[1], keys[1])
    for injection in range(INJECTIONS):
        for bits in ROTATIONS[injection % 2]:
            x = _add(x, y)
            y = _xor(_rotated(y, bits), x)
        x = _add(x, keys[(injection + 1) % 3])
        y = _add(y, _add(keys[(injection + 2) % 3], _word(injection + 1)))
    return x, y


def key_of_draw(words: tuple[int, int], draw: int) -> Words:
    """The key of a generator's draw of this number, from the generator's own key."""
    return block((_word(words[0]), _word(words[1])), (_word(draw), _word(draw >> 32)))


def key_of_call(key: Words, calls: Node) -> Node:
    """The key of a call, uint32 (2,), from the key of a draw and an int64 scalar that counts calls."""
    first, second = block(key, words_of(sc.Arg(0, "int64")))
    is_first = sc.apply("eq", sc.Index(0), sc.literal(0, "int64"))
    return scalar_map((2,), (calls,), (AffineMap(1, ()),), sc.apply("select", is_first, first, second))


def reads_of_key(rank: int) -> tuple[AffineMap, AffineMap]:
    """The maps by which a body over `rank` axes reads the two words of a key, its operands 0 and 1."""
    return AffineMap(rank, (Affine((), 0),)), AffineMap(rank, (Affine((), 1),))


def block_of_element(shape: Shape, second: bool = False) -> Words:
    """The words of the element at the loop indices, in a body over `shape` whose operands 0 and 1 are a key."""
    counter = _position(shape)
    if second:
        counter = counter[0], _xor(counter[1], _word(SECOND))
    return block((sc.Arg(0, "uint32"), sc.Arg(1, "uint32")), counter)


def _position(shape: Shape) -> Words:
    """The row-major position of the loop indices: in 32 bits where that is known to be enough."""
    elements = product(shape)
    dtype = "uint32" if isinstance(elements, int) and elements <= 1 << 32 else "int64"
    position: sc.Scalar = sc.literal(0, dtype)
    for axis, extent in enumerate(shape):
        index = sc.cast(sc.Index(axis), dtype)
        size = sc.cast(sc.size_of(extent), dtype)
        position = index if axis == 0 else _add(sc.apply("mul", position, size), index)
    return words_of(position) if dtype == "int64" else (position, _word(0))


def words_of(number: sc.Scalar) -> Words:
    """The low and the high word of an int64."""
    high = sc.apply("shr", number, sc.literal(32, "int64"))
    return sc.cast(number, "uint32"), sc.cast(high, "uint32")


def _word(value: int) -> sc.Literal:
    return sc.literal(value & 0xFFFFFFFF, "uint32")


def _add(x: sc.Scalar, y: sc.Scalar) -> sc.Scalar:
    return sc.apply("add", x, y)


def _xor(x: sc.Scalar, y: sc.Scalar) -> sc.Scalar:
    return sc.apply("xor", x, y)


def _rotated(x: sc.Scalar, bits: int) -> sc.Scalar:
    return sc.apply("or", sc.apply("shl", x, _word(bits)), sc.apply("shr", x, _word(32 - bits)))

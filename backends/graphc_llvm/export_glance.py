"""Whether a call's arguments are right, at a glance: all addresses in a vector, two instructions for each array that is
written.

Only whether: what is wrong, if anything is, the checks of `export_entry` find, which take one argument after another.
The glance sees the low halves of addresses alone, and now and then asks for these checks where nothing is wrong, as for
two arrays 4 GiB apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from graphc.program import ALIGNMENT
from graphc_llvm.emit import I1, I32, I64, Builder, Type, Value
from graphc_llvm.export_interface import Field
from graphc_llvm.target import Target

LANES: Final = 8  # low halves of addresses
# In which VSHUFPS takes them from two registers: two of each for the lower 128 bits, then for the upper ones.
_ORDER: Final = (0, 1, 4, 5, 2, 3, 6, 7)
_REGISTER_BITS: Final = 256
_LEAST_ARGUMENTS: Final = 3  # two are checked as fast one by one
_MOST_COMPARISONS: Final = 32  # of an array that is written with a vector of others; more are made faster in a loop
_MOST_BYTES: Final = 2**31  # of an array: the sum of two fits into 32 bits


@dataclass(frozen=True)
class Argument:
    """An array that the caller passes: its address (an i64), and where that stands in memory."""

    field: Field
    address: Value
    place: Value


@dataclass(frozen=True)
class _Range:
    address: Value
    nbytes: int
    alignment: int
    first: int  # of the lanes that have this address
    place: Value | None = None


def can_glance(target: Target, arguments: Sequence[Argument], workspace_bytes: int) -> bool:
    """Whether the target has the registers for it, and there are enough arguments, but not too many, none huge."""
    comparisons = (1 + sum(one.field.is_written for one in arguments)) * (len(arguments) // LANES + 1)
    if len(arguments) < _LEAST_ARGUMENTS or comparisons > _MOST_COMPARISONS:
        return False
    sizes = [*(argument.field.buffer.nbytes for argument in arguments), workspace_bytes]
    has_registers = target.triple.startswith("x86_64") and target.vector_bits >= _REGISTER_BITS
    return has_registers and max(sizes) < _MOST_BYTES


def are_right(b: Builder, arguments: Sequence[Argument], workspace: Value, workspace_bytes: int) -> Value:
    """i1: surely no address is null or misaligned, and nothing that is written overlaps anything else.

    The first lanes have the workspace's address, as many as make the last vector whole; then come arrays that are
    written, then those that are read.
    """
    ordered = sorted(arguments, key=lambda argument: not argument.field.is_written)
    spare = LANES - len(ordered) % LANES
    own = _Range(workspace, workspace_bytes, ALIGNMENT, 0)
    ranges = [own] * spare
    for number, one in enumerate(ordered, spare):
        ranges.append(_Range(one.address, one.field.buffer.nbytes, one.field.item_size, number, one.place))
    written = [own, *ranges[spare : spare + sum(one.field.is_written for one in ordered)]]
    right = b.const(I1.with_lanes(LANES), 1)
    for start in range(0, len(ranges), LANES):
        addresses, lanes = _low_halves(b, ranges[start : start + LANES])
        odd = b.and_(addresses, _numbers([one.alignment - 1 for one in lanes]))
        right = b.and_(right, b.and_(b.icmp("ne", addresses, 0), b.icmp("eq", odd, 0)))
        ends = b.add(addresses, _numbers([one.nbytes - 1 for one in lanes]))
        for this in written:
            # Of two that overlap one ends in the other: 0 <= end - start of the other < the sum of their bytes - 1.
            least = [this.nbytes + one.nbytes - 1 if one.first != this.first else 0 for one in lanes]
            first = b.trunc(this.address, I32) if this.place is None else b.load(this.place, I32)
            right = b.and_(right, b.icmp("uge", b.sub(ends, b.splat(first, LANES)), _numbers(least)))
    return b.not_(b.any_(b.not_(right)))


def _low_halves(b: Builder, ranges: Sequence[_Range]) -> tuple[Value, list[_Range]]:
    """The low halves of addresses, and whose they are."""
    registers: list[Value] = []
    for start in (0, LANES // 2):
        addresses = Value("poison", I64.with_lanes(LANES // 2))
        for lane in range(LANES // 2):
            addresses = b.insert(addresses, ranges[start + lane].address, lane)
        registers.append(b.bitcast(addresses, Type("i32", LANES)))
    low = b.shuffle(registers[0], registers[1], [2 * place for place in _ORDER])
    return low, [ranges[place] for place in _ORDER]


def _numbers(values: Sequence[int]) -> Value:
    return Value(f"<{', '.join(f'i32 {value}' for value in values)}>", Type("i32", len(values)))

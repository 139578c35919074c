"""Small pieces of vector code: offset tables, masks of lanes, multiply-add."""

from __future__ import annotations

from collections.abc import Sequence

from graphc_llvm.emit import I32, I64, Builder, Type, Value


def step_of(offsets: Sequence[int]) -> int:
    """The distance of the first two offsets."""
    return offsets[1] - offsets[0] if len(offsets) > 1 else 0


def is_regular(offsets: Sequence[int]) -> bool:
    """Whether the offsets are the multiples of one step."""
    step = step_of(offsets)
    return all(offset == i * step for i, offset in enumerate(offsets))


def lane_mask(lanes: int, valid: int) -> Value:
    """The first `valid` lanes."""
    return Value(f"<{', '.join(f'i1 {str(lane < valid).lower()}' for lane in range(lanes))}>", Type("i1", lanes))


def multiply_add(b: Builder, x: Value, y: Value, total: Value) -> Value:
    """total + x*y."""
    return b.fma(x, y, total) if x.type.is_float else b.add(b.mul(x, y), total)


def table_entry(b: Builder, table: Value, index: Value) -> Value:
    """An offset of a table of i32, as i64."""
    return b.sext(b.load(b.gep(table, index, "i32"), I32), I64)

"""Loop bounds that are known when code is emitted, or only when it runs."""

from __future__ import annotations

from typing import TypeAlias

from graphc_llvm.emit import I64, Builder, Value

Bound: TypeAlias = Value | int


def least(b: Builder, x: Bound, y: Bound) -> Bound:
    """The smaller one."""
    if isinstance(x, int) and isinstance(y, int):
        return min(x, y)
    return b.select(b.icmp("slt", x, y), x, y, I64) if isinstance(x, Value) else least(b, y, x)


def most(b: Builder, x: Bound, y: Bound) -> Bound:
    """The larger one."""
    if isinstance(x, int) and isinstance(y, int):
        return max(x, y)
    return b.select(b.icmp("sgt", x, y), x, y, I64) if isinstance(x, Value) else most(b, y, x)

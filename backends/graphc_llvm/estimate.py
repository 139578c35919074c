"""How long a program takes, of which only the order of magnitude matters."""

from __future__ import annotations

from math import prod
from typing import Final

from graphc.ir.extent import ints
from graphc.ir.node import Generic
from graphc.program import Program

# What a core does in a nanosecond. Tiles of float32 reach 125 multiply-adds with AVX-512; other loops, from a few
# elements to some twenty; a sort needs 20 ns for one.
_PER_NANOSECOND: Final = {"contraction": 50.0, "loops": 4.0, "opaque": 0.1}


def nanoseconds(program: Program) -> float:
    """On one thread."""
    total = 0.0
    for kernel in program.kernels:
        if kernel.loop is not None:
            total += kernel.loop.length * nanoseconds(kernel.loop.program)
            continue
        speed = _PER_NANOSECOND[kernel.kind]
        for stage in kernel.stages:
            node = stage.node
            total += prod(ints(node.domain if isinstance(node, Generic) else node.shape)) / speed
            speed = min(speed, _PER_NANOSECOND["loops"])  # after a contraction's first stage come maps
    return total

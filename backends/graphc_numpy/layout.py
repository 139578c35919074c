"""The order in which memory holds a product's axes: as its readers want them, where they agree.

The gradient of a weight comes as  x.T @ g  and is then read transposed by the update; computed as  g.T @ x  it is read
as it lies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from graphc.ir.node import Generic
from graphc.program import Program, Stage
from graphc_numpy.task import Task

Layouts = Mapping[str, tuple[int, ...]]  # by buffer: the axes in the order in which memory holds them


def layouts(program: Program) -> dict[str, tuple[int, ...]]:
    """The buffers that are held in another order than their own: sums that one stage writes, that only Generics read,
    and all of these in that order."""
    aliased = {buffer.alias for buffer in program.buffers}
    kept = {*program.outputs, *(source for source, _ in program.updates)}
    written: dict[str, list[Stage]] = {}
    votes: dict[str, set[tuple[int, ...] | None]] = {}
    for stage in program.stages():
        written.setdefault(stage.write, []).append(stage)
        for position, name in enumerate(stage.reads):
            if not isinstance(stage.node, Generic):
                votes.setdefault(name, set()).add(None)
            elif stage.node.reducer is None:
                votes.setdefault(name, set()).add(_order(stage.node, position))
    result: dict[str, tuple[int, ...]] = {}
    for buffer in program.buffers:
        found = votes.get(buffer.name, set())
        stages = written.get(buffer.name, [])
        if len(found) != 1 or len(stages) != 1 or buffer.alias is not None or buffer.name in aliased | kept:
            continue
        node, (order,) = stages[0].node, found
        if isinstance(node, Generic) and node.reducer == "sum" and order not in (None, tuple(range(len(buffer.shape)))):
            assert order is not None
            result[buffer.name] = order
    return result


def _order(node: Generic, position: int) -> tuple[int, ...] | None:
    """The axes of an operand in the order in which the output has them; None where they are not plain axes."""
    read = node.maps[position].projection
    out = node.out_map.projection
    if read is None or out is None or not set(read) <= set(out):
        return None
    return tuple(sorted(range(len(read)), key=lambda row: out.index(read[row])))


def in_layout(task: Task, stage: Stage, chosen: Layouts) -> Task:
    """The task over arrays as memory holds them."""
    reads = tuple(
        replace(
            read,
            rows=tuple(read.rows[axis] for axis in chosen[name]),
            shape=tuple(read.shape[axis] for axis in chosen[name]),
        )
        if name in chosen
        else read
        for name, read in zip(stage.reads, task.reads, strict=True)
    )
    order = chosen.get(stage.write, tuple(range(len(task.out_rows))))
    return replace(
        task,
        reads=reads,
        out_rows=tuple(task.out_rows[axis] for axis in order),
        out_shape=tuple(task.out_shape[axis] for axis in order),
    )

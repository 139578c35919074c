"""An index outside its axis, found while a program ran, in the user's words."""

from __future__ import annotations

import re

from graphc.ir.extent import ints
from graphc.ir.node import Opaque
from graphc.phased import PhasedProgram
from graphc.program import Program, Stage

_FOUND = re.compile(r"index (-?\d+) is outside an axis of (\d+)")  # what `Executable.run` says


def in_words(error: IndexError, program: Program | PhasedProgram) -> str:
    """The error with the layer or op that was asked for the index, and the line that made it, where one can tell: more
    than one axis may have the extent."""
    match = _FOUND.search(str(error))
    if match is None:
        return str(error)
    index, extent = map(int, match.groups())
    stages = [stage for stage in program.all_stages() if _extent(stage) == extent]
    places = list(dict.fromkeys(filter(None, map(_place, stages))))
    is_label = bool(stages) and all(isinstance(s.node, Opaque) and s.node.op == "checked" for s in stages)
    if is_label:
        text = f"label {index} is outside the {extent} classes, 0 to {extent - 1}"
    else:
        text = f"index {index} is outside an axis of {extent}"
    return f"{' or '.join(places)}: {text}" if places else str(error)


def _extent(stage: Stage) -> int | None:
    """The extent of the axis in which a stage's indices must lie."""
    node = stage.node
    if isinstance(node, Opaque) and node.op == "checked":
        return node.attribute("extent")
    if isinstance(node, Opaque) and node.op in ("take", "scatter_add"):
        shape = node.operands[0].shape if node.op == "take" else node.shape
        return ints(shape)[node.attribute("axis")]
    return None


def _place(stage: Stage) -> str:
    """"encoder.embedding, take at model.py:12"; the gradient of an op has the op's."""
    parts = [stage.scope.replace("/", "."), stage.op]
    name = ", ".join(part for part in dict.fromkeys(parts) if part)
    return f"{name} at {stage.where}" if name and stage.where else name

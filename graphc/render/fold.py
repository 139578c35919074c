"""Folding: the boxes of a folded group become one, on each side, and the arrows between two boxes become one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain

from graphc.render.picture import Arrow, Box, Group, Half, Line, Picture, Role, Step

MOST_MEMBERS = 12  # of a folded box, that are told on hovering
MOST_NUMBERS = 4  # lines of numbers in a folded box


def fold(picture: Picture) -> Picture:
    """The picture as it is drawn: no group in it is folded any more. What is in no folded group stays as it is."""
    groups = {group.key: group for group in picture.groups}
    stands: dict[str, str] = {}
    members: dict[str, list[Box]] = {}
    for box in picture.boxes:
        outer = _folded(groups, box.group)
        stands[box.id] = box.id if outer is None else f"{outer.key}_{box.half}"
        members.setdefault(stands[box.id], []).append(box)
    has_blocks = any(group.is_folded and group.kind == "block" for group in picture.groups)
    boxes: list[Box] = []
    for name, held in _by_last(members, picture.boxes):
        outer = _folded(groups, held[0].group)
        box = held[0] if outer is None else _folded_box(name, outer, held)
        owner = _owner(held, outer, has_blocks, stands)
        boxes.append(replace(box, owner=owner if owner != name else None))
    hidden = {group.key for group in picture.groups if _folded(groups, group.key) is not None}
    return replace(
        picture,
        boxes=tuple(boxes),
        arrows=_merged(picture.arrows, stands),
        groups=tuple(group for group in picture.groups if group.key not in hidden),
        steps=_steps(picture.steps, stands),
    )


def _by_last(members: Mapping[str, list[Box]], order: Sequence[Box]) -> list[tuple[str, list[Box]]]:
    """In the order of the last of what each box holds: so it comes after what it reads, unless boxes form a circle."""
    place = {box: number for number, box in enumerate(order)}
    return sorted(members.items(), key=lambda item: place[item[1][-1]])


def _folded(groups: Mapping[str, Group], key: str | None) -> Group | None:
    """The outermost folded group among a group and those around it."""
    found: Group | None = None
    while key is not None:
        if groups[key].is_folded:
            found = groups[key]
        key = groups[key].parent
    return found


def _folded_box(name: str, group: Group, held: Sequence[Box]) -> Box:
    half: Half = held[0].half
    outputs = [box for box in held if box.kind == "output"]
    if half == "gradient":
        kind = "gradients" if any(box.kind == "gradient" for box in held) else group.kind
    else:
        kind = "output" if outputs else group.kind
    lines = list(group.gradient_lines if half == "gradient" else group.lines)
    named = chain.from_iterable(box.lines for box in outputs)
    said = {line.text for line in lines}
    lines += [line for line in named if line.style == "italic" and line.text not in said]
    numbers = [line for box in held for line in box.lines if line.style in ("value", "gradient")]
    if half == "forward" or len(numbers) <= MOST_NUMBERS:
        lines += numbers[:MOST_NUMBERS]
    equations = [text for box in held for text in box.details.get("equation", ())]
    if len(equations) > MOST_MEMBERS:
        equations = [*equations[:MOST_MEMBERS], f"and {len(equations) - MOST_MEMBERS} more"]
    sources = dict.fromkeys(text for box in held for text in box.details.get("source", ()))
    details = {"holds": (f"{group.title}: {len(held)} nodes",), "equation": tuple(equations), "source": tuple(sources)}
    return Box(
        name,
        kind,
        tuple(lines),
        half,
        group.parent,
        None,
        None,
        tuple(node for box in held for node in box.nodes),
        any(box.is_shared for box in held),
        {key: texts for key, texts in details.items() if texts},
    )


def _owner(held: Sequence[Box], outer: Group | None, has_blocks: bool, stands: Mapping[str, str]) -> str | None:
    """The box in whose column a box stands: that of its value; among blocks, that of the op whose backward it is."""
    by_op = has_blocks or outer is not None
    wanted = [(box.beside or box.owner) if by_op else (box.owner or box.beside) for box in held]
    found = [stands[name] for name in wanted if name is not None and name in stands]
    return found[0] if found else None


def _merged(arrows: Sequence[Arrow], stands: Mapping[str, str]) -> tuple[Arrow, ...]:
    found: dict[tuple[str, str, Role], list[Arrow]] = {}
    for arrow in arrows:
        source, target = stands[arrow.source], stands[arrow.target]
        if source != target:
            found.setdefault((source, target, arrow.role), []).append(arrow)
    return tuple(_one(source, target, role, several) for (source, target, role), several in found.items())


def _one(source: str, target: str, role: Role, several: Sequence[Arrow]) -> Arrow:
    """One arrow for several; what is written on it is what all of them say."""
    above, below = _agreed([arrow.above for arrow in several]), _agreed([arrow.below for arrow in several])
    reads = tuple(read for arrow in several for read in arrow.reads)
    return Arrow(source, target, role, above, below, reads)


def _agreed(texts: Sequence[tuple[Line, ...]]) -> tuple[Line, ...]:
    return texts[0] if all(text == texts[0] for text in texts) else ()


def _steps(steps: Sequence[Step], stands: Mapping[str, str]) -> tuple[Step, ...]:
    """A folded box gets its values with the last of what it holds, and is told of then."""
    last: dict[tuple[str, bool], int] = {}
    for number, step in enumerate(steps):
        for is_gradient, names in ((False, step.boxes), (True, step.gradients)):
            for name in names:
                last[stands[name], is_gradient] = number
    found: list[Step] = []
    for number, step in enumerate(steps):
        boxes = tuple(dict.fromkeys(stands[name] for name in step.boxes if last[stands[name], False] == number))
        gradients = tuple(dict.fromkeys(stands[name] for name in step.gradients if last[stands[name], True] == number))
        if boxes or gradients:
            found.append(Step(boxes, step.caption, gradients))
    return tuple(found)

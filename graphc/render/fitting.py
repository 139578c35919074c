"""How much of a picture is drawn: groups are folded to the depth that is asked for, or until they fit on a page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from graphc.render.fold import fold
from graphc.render.groups import Part, Parts
from graphc.render.picture import Group, Picture

MOST_BOXES = 48  # that are drawn unless a depth is asked for: more are hard to read on a page
FEWEST_BOXES = 16  # that tell enough; where folding leaves fewer, a page may be fuller than that:
MOST_BOXES_IF_FEW = 96
RUNS_FROM = 24  # boxes, from which on equal blocks that follow one another are drawn once
LONGEST_ROW = 12  # boxes from left to right; a longer picture runs from top to bottom
LONGEST_ROW_OF_VALUES = 20  # ... where there are values, which stand best above arrows that lie


def fit(whole: Picture, parts: Parts, runs: Parts, group: Callable[[Part], Group], depth: int | None) -> Picture:
    """The picture with its groups, folded as deep as is asked for, or as a page has room.

    parts: of the picture's nodes. runs: the same, in which this puts equal blocks together. group: what is drawn of a
    part.
    """
    runs.find_runs()
    deepest = max((part.depth for part in parts.root.all_inner() if not part.is_op), default=0)
    tried: list[tuple[Picture, int]] = []
    for level in range(deepest, -1, -1) if depth is None else (depth,):
        found = _at_level(whole, parts, group, level)
        drawn = fold(found)
        is_long = len(drawn.boxes) > RUNS_FROM
        if level <= deepest and (is_long or depth is not None):
            with_runs = _at_level(whole, runs, group, level)
            drawn_runs = fold(with_runs)
            if is_long or not _opens_run(runs, drawn_runs):
                found, drawn = with_runs, drawn_runs
        tried.append((found, len(drawn.boxes)))
        if len(drawn.boxes) <= MOST_BOXES:
            break
    if len(tried) > 1 and tried[-1][1] < FEWEST_BOXES and tried[-2][1] <= MOST_BOXES_IF_FEW:
        return tried[-2][0]
    return tried[-1][0]


def _at_level(whole: Picture, parts: Parts, group: Callable[[Part], Group], level: int) -> Picture:
    inner = parts.root.all_inner()
    groups = {node: part.key or None for part in [parts.root, *inner] for node in part.members}
    closed = _closed(inner, level)
    return replace(
        whole,
        boxes=tuple(replace(box, group=groups[box.nodes[0]]) for box in whole.boxes),
        groups=tuple(replace(group(part), is_folded=part in closed) for part in inner),
    )


def _closed(parts: Sequence[Part], level: int) -> set[Part]:
    """The parts that are folded when those deeper than `level` are; calls of ops are deeper than all scopes. A run of
    blocks is folded where its blocks are."""
    closed: set[Part] = set()
    for part in reversed(parts):
        if part.is_rest:
            closed.add(part)
        elif part.times > 1:
            blocks = [inner for inner in part.inner if not inner.is_rest]
            if all(inner in closed for inner in blocks):
                closed.add(part)
        elif part.depth > level:
            closed.add(part)
    return closed


def _opens_run(parts: Parts, folded: Picture) -> bool:
    """Whether one block of a run is drawn, and the rest beside it."""
    left = {group.key for group in folded.groups}
    return any(part.times > 1 and part.key in left for part in parts.root.all_inner())


def longest_row(picture: Picture) -> int:
    """The number of boxes on the longest way through the forward half."""
    readers: dict[str, list[str]] = {box.id: [] for box in picture.boxes}
    waits = Counter(arrow.target for arrow in picture.arrows if arrow.role == "forward")
    for arrow in picture.arrows:
        if arrow.role == "forward":
            readers[arrow.source].append(arrow.target)
    length = {box.id: 1 for box in picture.boxes}
    ready = [name for name in length if not waits[name]]
    for name in ready:  # boxes in a circle, which folding can make, are never ready
        for reader in readers[name]:
            length[reader] = max(length[reader], length[name] + 1)
            waits[reader] -= 1
            if not waits[reader]:
                ready.append(reader)
    return max(length.values(), default=0)



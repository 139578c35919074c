"""A program as a picture: fused kernels as boxes with their members, and the buffers that go from one to the next.

Every arrow is a buffer that a kernel writes, or the caller gives, and another kernel reads. A param or state that gets
a new value has an arrow back from the kernel that computes it. The kernels of a loop stand in a group, with what is
carried from one step to the next; those of a large program in groups by the parts of the model (`program_parts.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from textwrap import wrap
from typing import TYPE_CHECKING, TypeAlias

from graphc.compiler.cost import cost_of, stage_operations
from graphc.errors import ArgumentError
from graphc.ir.extent import format_shape
from graphc.lang.source import user_line
from graphc.program import Buffer, Kernel, Loop, Program, Stage
from graphc.render.fold import fold
from graphc.render.labels import byte_count
from graphc.render.names import is_derived
from graphc.render.picture import Arrow, Box, Group, Line, Picture, Style
from graphc.render.program.parts import BACKWARD, Item, Part, parts_of
from graphc.render.program.times import time_words

if TYPE_CHECKING:
    from graphc.compiler.profile import Profile, Row

MOST_MEMBERS = 5  # lines in a box on what it computes
LONGEST_MEMBER = 44  # letters of such a line
MOST_BOXES = 40  # that are drawn unless a depth is asked for: of more, the arrows cannot be followed on a page
LEAVES = ("input", "param", "state", "constant")
GETS = ":="  # on an arrow to a param or state


def picture_of_program(program: Program, profile: Profile | None = None, *, depth: int | None = None) -> Picture:
    """The picture of a program, with every box; `fold` leaves those that are to be drawn.

    profile: of the same program, a row for each kernel: each box says its time and share of all. depth: parts of the
    model deeper than this are folded, forward and backward apart; None folds as much as a page needs, and groups
    nothing where there is room for all. Errors: `ArgumentError` where the profile is of scopes, or of another program,
    and for a negative depth.
    """
    if depth is not None and depth < 0:
        raise ArgumentError(f"depth: a number from 0 up is needed, not {depth}", user_line())
    times = {} if profile is None else rows_of_kernels(program, profile)
    whole = _Drawing(program, times, is_grouped=False).picture()
    if depth is None and len(fold(whole).boxes) <= MOST_BOXES:
        return whole
    grouped = _Drawing(program, times, is_grouped=True)
    return _folded(grouped.picture(), grouped.parts, depth)


def rows_of_kernels(program: Program, profile: Profile) -> dict[str, list[Row]]:
    """The rows of a profile by the names of the program's kernels.

    A backend may time a kernel in parts, of which the last bears its name: the rows before it belong to it, too.
    """
    if profile.per != "kernel":
        raise ArgumentError("render: a profile of kernels is needed, not one by scope", user_line())
    found: dict[str, list[Row]] = {}
    rows = iter(profile.rows)
    for kernel in program.kernels:
        own = found.setdefault(kernel.name, [])
        while not own or own[-1].name != kernel.name:
            row = next(rows, None)
            if row is None:
                message = f"the profile of {profile.name} has no time of its kernel {kernel.name}: is it of another?"
                raise ArgumentError(f"render: {program.name}: {message}", user_line())
            own.append(row)
    return found


Writers: TypeAlias = dict[str, dict[str, None]]
"""By the name of a root buffer the ids of the boxes that give it its content, in order."""


class _Drawing:
    def __init__(self, program: Program, times: Mapping[str, Sequence[Row]], *, is_grouped: bool) -> None:
        self.program = program
        self.times = times
        self.boxes: list[Box] = []
        self.arrows: list[Arrow] = []
        self.groups: list[Group] = []
        self.parts: list[Part] = []
        self.part_of: dict[str, Part] = {}
        if is_grouped:
            held = [buffer for buffer in self._leaves() if buffer.kind != "input"]
            leaves = {f"b_{buffer.name}": buffer.kind == "param" for buffer in held}
            self.parts, self.part_of = parts_of(self._items(), leaves)

    def picture(self) -> Picture:
        program = self.program
        self.groups = [self._part(part) for part in self.parts]
        writers: Writers = {}
        for buffer in self._leaves():
            box = Box(f"b_{buffer.name}", buffer.kind, _buffer_lines(buffer), details=_buffer_details(buffer))
            self.boxes.append(replace(box, group=self._group_of(box.id)))
            writers[buffer.name] = {box.id: None}
        self._kernels(program, "", None, writers)
        for output in dict.fromkeys(program.outputs):
            buffer = program.by_name[output]
            self.boxes.append(Box(f"o_{output}", "output", _buffer_lines(buffer), details=_buffer_details(buffer)))
            for writer in writers.get(program.root(output).name, ()):
                self.arrows.append(Arrow(writer, f"o_{output}"))
        for source, target in program.updates:
            for writer in writers.get(program.root(source).name, ()):
                self.arrows.append(Arrow(writer, f"b_{target}", "update", (Line(GETS),)))
        drawn = tuple(self.boxes), tuple(self.arrows), tuple(self.groups)
        return Picture(program.name, *drawn, notes=self._notes(), direction="TB")

    def _notes(self) -> tuple[Line, ...]:
        has_updates = any(arrow.role == "update" for arrow in self.arrows)
        return (Line("dotted: the new value of a param or state", "quiet"),) if has_updates else ()

    def _leaves(self) -> list[Buffer]:
        """What the caller gives, and constants, as far as anything has to do with them."""
        program = self.program
        used = [name for kernel in program.kernels for name in kernel.reads]
        used += [*program.outputs, *(name for update in program.updates for name in update)]
        roots = {program.root(name).name for name in used}
        return [b for b in program.buffers if b.alias is None and b.kind in LEAVES and b.name in roots]

    # --- Kernels ----------------------------------------------------------------------------------------------------

    def _kernels(self, program: Program, prefix: str, group: str | None, writers: Writers) -> None:
        """The boxes of a program's kernels, and the arrows to them; `writers` then knows what they write."""
        for number, kernel in enumerate(program.kernels):
            own = f"{prefix}k{number}"
            around = group if prefix else self._group_of(own)
            rows = () if prefix else self.times.get(kernel.name, ())
            if kernel.loop is not None:
                title = f"{kernel.name}: {_kind(kernel)}"
                self.groups.append(Group(own, title, around, _kernel_lines(kernel, rows), (), "kernel", True))
                self._loop(program, kernel, kernel.loop, own, writers)
                continue
            kind = "contraction" if kernel.kind == "contraction" else "kernel"
            details = _details(program, kernel, rows)
            self.boxes.append(Box(own, kind, _kernel_lines(kernel, rows), group=around, details=details))
            for root in dict.fromkeys(program.root(name).name for name in kernel.reads):
                self._reads(program.by_name[root], own, writers)
            for name in kernel.writes:
                writers.setdefault(program.root(name).name, {})[own] = None

    def _reads(self, buffer: Buffer, reader: str, writers: Writers) -> None:
        """Arrows from all that write a buffer to who reads it. A leaf says itself what it is."""
        label = () if buffer.kind in LEAVES else _buffer_lines(buffer, "plain")
        self.arrows += [Arrow(writer, reader, above=label) for writer in writers.get(buffer.name, ())]

    def _loop(self, program: Program, kernel: Kernel, loop: Loop, own: str, writers: Writers) -> None:
        """The boxes in the group of a loop: for what each step begins with, and for each of its kernels."""
        step, inner = loop.program, Writers()
        for position, (name, read) in enumerate(zip(step.inputs, kernel.stages[0].reads, strict=True)):
            buffer, leaf = step.by_name[name], f"{own}_b_{name}"
            kind, about = "input", "the same in each step"
            if position < loop.carried:
                kind, about = "state", "carried from step to step"
            elif position < loop.carried + loop.sliced:
                about = "a slice each step"
            lines = (*_buffer_lines(buffer), Line(about, "quiet"))
            self.boxes.append(Box(leaf, kind, lines, group=own, details=_buffer_details(buffer)))
            self._reads(program.root(read), leaf, writers)
            inner[name] = {leaf: None}
        self._kernels(step, f"{own}_", own, inner)
        for position, output in enumerate(loop.following):
            for writer in inner.get(step.root(step.outputs[output]).name, ()):
                target = f"{own}_b_{step.inputs[position]}"
                self.arrows.append(Arrow(writer, target, "update", (Line(GETS),)))
        for stage, output in zip(kernel.stages, loop.results, strict=True):
            made = inner.get(step.root(step.outputs[output]).name, {})
            writers.setdefault(program.root(stage.write).name, {}).update(made)

    # --- Parts of the model -----------------------------------------------------------------------------------------

    def _items(self) -> list[Item]:
        """What decides to which part each kernel belongs: its stage with the most operations.

        A kernel that does nothing but give params their new values belongs to the backward half of their part.
        """
        program = self.program
        leaves = {buffer.name for buffer in self._leaves()}
        params = {program.root(source).name: target for source, target in program.updates}
        params = {source: target for source, target in params.items() if program.by_name[target].kind == "param"}
        updates = {program.root(source).name for source, _ in program.updates}
        writers: dict[str, list[str]] = {}
        homes: dict[str, str] = {}
        found: list[Item] = []
        for number, kernel in enumerate(program.kernels):
            stage = _main_stage(program, kernel)
            scope, is_backward = stage.scope, is_derived(stage.node)
            reads = dict.fromkeys(program.root(name).name for name in kernel.reads)
            writes = {program.root(name).name for name in kernel.writes}
            given = sorted(params[root] for root in writes if root in params)
            if given and writes <= updates and not is_backward:
                scope, is_backward = homes.get(given[0], scope), True
            for root in reads if scope else ():
                homes.setdefault(root, scope)
            names = [own for root in reads for own in writers.get(root, ())]
            names += [f"b_{root}" for root in reads if root in leaves]
            found.append(Item(f"k{number}", tuple(scope.split("/")) if scope else (), is_backward, tuple(names)))
            for root in writes:
                writers.setdefault(root, []).append(f"k{number}")
        return found

    def _group_of(self, box: str) -> str | None:
        part = self.part_of.get(box)
        return part.key if part is not None else None

    def _part(self, part: Part) -> Group:
        kernels = [self.program.kernels[int(name[1:])] for name in part.members if name.startswith("k")]
        params = [self.program.by_name[name[2:]] for name in part.members if name.startswith("b_")]
        size = sum(buffer.size for buffer in params if buffer.kind == "param")
        rows = [row for kernel in kernels for row in self.times.get(kernel.name, ())]
        lines = [Line(part.name, "bold")]
        lines += [Line(BACKWARD, "italic")] if part.is_backward else []
        lines += [Line(time_words(*_sums(rows)))] if rows else []
        lines.append(Line("1 kernel" if len(kernels) == 1 else f"{len(kernels)} kernels", "quiet"))
        lines += [Line(f"{size:,} parameters", "quiet")] if size else []
        ops = dict.fromkeys(stage.op for kernel in kernels for stage in kernel.stages if stage.op)
        lines += [Line(text, "quiet") for text in _few(wrap(", ".join(ops), LONGEST_MEMBER))]
        return Group(part.key, part.title, part.parent.key if part.parent else None, tuple(lines))


def _folded(whole: Picture, parts: Sequence[Part], depth: int | None) -> Picture:
    """Fold the parts deeper than a depth, or, where none is given, those of the deepest level that gives a page."""
    levels = {part.key: part.level for part in parts}
    deepest = max(levels.values(), default=0)
    tried = whole
    for level in range(deepest + 1, 0, -1) if depth is None else (depth + 1,):
        groups = [replace(group, is_folded=group.is_folded or levels.get(group.key) == level) for group in whole.groups]
        tried = replace(whole, groups=tuple(groups))
        if len(fold(tried).boxes) <= MOST_BOXES:
            break
    return tried


def _kernel_lines(kernel: Kernel, rows: Sequence[Row]) -> tuple[Line, ...]:
    """The kernel's name, kind and time, and what the user wrote of what it computes."""
    members = _few([line for text in _members(kernel) for line in wrap(text, LONGEST_MEMBER)])
    time = [Line(time_words(*_sums(rows)))] if rows else []
    return (Line(kernel.name, "bold"), Line(_kind(kernel), "italic"), *time, *(Line(m, "quiet") for m in members))


def _details(program: Program, kernel: Kernel, rows: Sequence[Row]) -> Mapping[str, tuple[str, ...]]:
    cost = cost_of(program, kernel)
    found = {
        "": (f"{kernel.name}: {_kind(kernel)}",),
        "time": tuple(text for row in rows for text in _time_details(row, len(rows) > 1)),
        "bytes": (f"reads {byte_count(cost.read)}, writes {byte_count(cost.written)}",),
        "members": tuple(_members(kernel)),
        "equation": tuple(line.strip() for line in str(kernel).splitlines()),
        "source": tuple(dict.fromkeys(stage.where for stage in kernel.stages if stage.where)),
    }
    return {heading: texts for heading, texts in found.items() if texts}


def _few(lines: list[str]) -> list[str]:
    """The lines, or as many as a box has room for."""
    return lines if len(lines) <= MOST_MEMBERS else [*lines[: MOST_MEMBERS - 1], "…"]


def _main_stage(program: Program, kernel: Kernel) -> Stage:
    """The stage with the most operations; the first of those with equally many."""
    return max(kernel.stages, key=lambda stage: sum(stage_operations(program, stage).values()))


def _kind(kernel: Kernel) -> str:
    if kernel.loop is not None:
        count = len(kernel.loop.program.kernels)
        kernels = "1 kernel" if count == 1 else f"{count} kernels"
        return f"{kernel.loop.length} steps of {kernels}{', backwards' if kernel.loop.reverse else ''}"
    stages = len(kernel.stages)
    return kernel.kind if stages == 1 else f"{kernel.kind}, {stages} stages"


def _members(kernel: Kernel) -> list[str]:
    """The user's ops in a kernel: a line for each part of the model, forward and backward."""
    stages: Iterable[Stage] = kernel.stages if kernel.loop is None else kernel.loop.program.all_stages()
    found: dict[str, dict[str, None]] = {}
    for stage in stages:
        half = BACKWARD if is_derived(stage.node) else ""
        head = ", ".join(filter(None, (stage.scope, half)))
        if stage.op:
            found.setdefault(head, {})[stage.op] = None
    return [f"{head}: {', '.join(ops)}" if head else ", ".join(ops) for head, ops in found.items()]


def _buffer_lines(buffer: Buffer, style: Style = "bold") -> tuple[Line, ...]:
    return Line(buffer.name, style), Line(f"{_type(buffer)} {byte_count(buffer.nbytes)}", "quiet")


def _buffer_details(buffer: Buffer) -> Mapping[str, tuple[str, ...]]:
    return {"": (buffer.name,), "type": (_type(buffer),), "bytes": (f"{buffer.nbytes:,} bytes",)}


def _type(buffer: Buffer) -> str:
    return f"{buffer.dtype}{format_shape(buffer.shape)}"


def _sums(rows: Sequence[Row]) -> tuple[float, float]:
    """Seconds and share of several rows."""
    return sum(row.seconds for row in rows), sum(row.share for row in rows)


def _time_details(row: Row, is_part: bool) -> list[str]:
    """The time of a row, what it did in it, and how near it came to the roof."""
    found = [f"{row.name}: {time_words(row.seconds, row.share)}" if is_part else time_words(row.seconds, row.share)]
    if row.gflops is not None and row.gigabytes is not None:
        found.append(f"{row.gflops:.1f} GFLOP/s, {row.gigabytes:.1f} GB/s")
    if row.roofline is not None:
        found.append(f"{row.roofline:.0%} of the roofline ({row.bound})")
    elif row.bound == "cache":
        found.append("faster than memory: from a cache")
    return found

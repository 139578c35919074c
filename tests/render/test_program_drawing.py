"""Programs drawn: each arrow is a buffer that one kernel writes, or the caller gives, and another reads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import graphc as gc
from graphc.cli import main
from graphc.compiler.profile import Profile, Row
from graphc.errors import ArgumentError
from graphc.program import Program
from graphc.render.dot import dot_of_picture
from graphc.render.fold import fold
from graphc.render.picture import Picture
from graphc.render.program.parts import Item, parts_of
from graphc.render.program.picture import LEAVES, MOST_BOXES, picture_of_program, rows_of_kernels
from graphc.render.program.times import time_words


def training():
    x, t = gc.input("x", (16, 8)), gc.input("t", (16,), dtype="int64")
    model = gc.nn.Sequential(gc.nn.Linear(8, 6, seed=0), gc.nn.ReLU(), gc.nn.Linear(6, 3, seed=1))
    loss = gc.nn.cross_entropy(model(x), t)
    return gc.compile([x, t], loss, gc.optim.Adam(0.1).updates(loss, model.parameters()), backend="numpy")


def deep(batch=4):
    """Three blocks of four layers: more than a page has room for."""
    x, t = gc.input("x", (batch, 8)), gc.input("t", (batch,), dtype="int64")
    layers = [[part for k in range(4) for part in (gc.nn.Linear(8, 8, seed=k), gc.nn.Tanh())] for _ in range(3)]
    model = gc.nn.Sequential(*(gc.nn.Sequential(*block) for block in layers))
    loss = gc.nn.cross_entropy(model(x), t)
    updates = gc.optim.SGD(lr=0.1, momentum=0.9).updates(loss, model.parameters())
    return gc.compile([x, t], loss, updates, backend="numpy")


def loop():
    x, w = gc.input("x", (5, 4)), gc.param("w", (4, 4), init=0.1)
    last, y = gc.scan(lambda h, v: (gc.tanh(h @ w + v), h), gc.zeros((4,)), x)
    return gc.compile([x], [last, gc.grad(gc.sum(y), w)], backend="numpy")


def nested():
    """A loop in which each step is a loop."""
    x = gc.input("x", (3, 4))

    def outer(h, row):
        inner, _ = gc.scan(lambda g, v: (gc.sin(g + v), g), h, row)
        return inner, inner * 2

    last, y = gc.scan(outer, gc.zeros(()), x)
    return gc.compile([x], [last, y], backend="numpy")


def joined():
    x = gc.input("x", (4, 6))
    return gc.compile([x], gc.concatenate([gc.exp(x), gc.sin(x @ gc.transpose(x)) @ x, x]), backend="numpy")


def reads_of(program: Program) -> set[tuple[str, str]]:
    """(who has written or given it, who reads it), kernels by number, computed anew from the program's text alone."""
    found = set()
    for number, kernel in enumerate(program.kernels):
        for name in kernel.reads:
            root = program.root(name)
            if root.kind in ("input", "param", "state", "constant"):
                found.add((f"b_{root.name}", f"k{number}"))
            for other in range(number):
                if root.name in {program.root(written).name for written in program.kernels[other].writes}:
                    found.add((f"k{other}", f"k{number}"))
    for output in program.outputs:
        for number, kernel in enumerate(program.kernels):
            if program.root(output).name in {program.root(written).name for written in kernel.writes}:
                found.add((f"k{number}", f"o_{output}"))
    return found


def kernel_of(box: str) -> str:
    """The kernel of the program that a box stands for, or a part of which it is; else the box."""
    return box.split("_")[0] if box.startswith("k") else box


def arrows_of(picture: Picture, *, inside: bool = False) -> set[tuple[str, str]]:
    """The arrows that are reads; of a loop those between its own boxes, or all others."""
    ends = [(arrow.source, arrow.target) for arrow in picture.arrows if arrow.role == "forward"]
    if inside:
        return {pair for pair in ends if kernel_of(pair[0]) == kernel_of(pair[1])}
    pairs = [(kernel_of(source), kernel_of(target)) for source, target in ends]
    return {pair for pair in pairs if pair[0] != pair[1]}


def is_acyclic(picture: Picture) -> bool:
    waiting = {box.id: {a.source for a in picture.arrows if a.target == box.id} for box in picture.boxes}
    for arrow in picture.arrows:
        if arrow.role == "update":
            waiting[arrow.target].discard(arrow.source)
    while waiting:
        ready = {name for name, needs in waiting.items() if not needs & waiting.keys()}
        if not ready:
            return False
        waiting = {name: needs for name, needs in waiting.items() if name not in ready}
    return True


def profile_of(program: Program) -> Profile:
    """Invented times: the first kernel takes 10 us, the second 20 us, and so on."""
    timed = [(kernel, 1e-5 * number) for number, kernel in enumerate(program.kernels, 1)]
    times = [time for _, time in timed]
    rows = [Row(k.name, k.kind, (), (), None, s, s, s / sum(times), 2000, 4000, "fma", 0.5) for k, s in timed]
    return Profile(program.name, "numpy", 3, sum(times), sum(times), tuple(rows), None)


@pytest.mark.parametrize("make", [training, deep, loop, nested, joined])
def test_every_arrow_is_a_read_and_every_read_an_arrow(make):
    program = make().program
    for depth in (None, 0, 1, 9):
        picture = picture_of_program(program, depth=depth)
        assert arrows_of(picture) == reads_of(program)
        updates = [arrow for arrow in picture.arrows if arrow.role == "update" and "_" not in arrow.source]
        assert {arrow.target for arrow in updates} == {f"b_{target}" for _, target in program.updates}
        assert [box.id for box in picture.boxes] == list(dict.fromkeys(box.id for box in picture.boxes))
        assert is_acyclic(picture)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=9))
def test_random_programs_are_drawn_whole(steps):
    x, w = gc.input("x", (3, 3)), gc.param("w", (3, 3), init=0.5)
    values = [x, w]
    for op, left, right in steps:
        a, b = values[left % len(values)], values[right % len(values)]
        values.append([a @ b, a + b, gc.exp(a), gc.sum(a, 0) * b, gc.concatenate([a, b])[1:4], gc.transpose(a)][op])
    program = gc.compile([x], values[2:], {w: values[-1]}, backend="numpy").program
    picture = picture_of_program(program)
    assert arrows_of(picture) == reads_of(program) | {
        (f"b_{program.root(o).name}", f"o_{o}") for o in program.outputs if program.root(o).kind in LEAVES
    }


def test_boxes_tell_kind_members_and_sizes():
    program = training().program
    picture = picture_of_program(program)
    said = {box.id: [line.text for line in box.lines] for box in picture.boxes}
    number = next(n for n, kernel in enumerate(program.kernels) if kernel.name == "relu")
    assert said[f"k{number}"] == ["relu", "contraction, 2 stages", "0: matmul_transposed", "1: relu"]
    assert said["b_x"] == ["x", "float32(16, 8) 512 B"]
    (arrow,) = [a for a in picture.arrows if a.source == f"k{number}" and a.role == "forward"][:1]
    assert [line.text for line in arrow.above] == ["relu", "float32(16, 6) 384 B"]
    kinds = {box.id: box.kind for box in picture.boxes}
    assert kinds[f"k{number}"] == "contraction" and kinds["b_x"] == "input" and kinds["o_loss"] == "output"
    assert picture.direction == "TB"


def test_details_hold_the_kernels_text_and_its_bytes():
    program = training().program
    picture = picture_of_program(program)
    boxes = {box.id: box for box in picture.boxes}
    for number, kernel in enumerate(program.kernels):
        details = boxes[f"k{number}"].details
        assert [line.strip() for line in str(kernel).splitlines()] == list(details["equation"])
        assert all(__file__ in place for place in details["source"])
    number = next(n for n, kernel in enumerate(program.kernels) if kernel.name == "relu")
    assert boxes[f"k{number}"].details["bytes"] == (f"reads {4 * (16 * 8 + 6 * 8 + 6)} B, writes {4 * 16 * 6} B",)


# ---- Loops ---------------------------------------------------------------------------------------------------------


def test_a_loop_is_one_box_until_it_is_opened():
    program = loop().program
    picture = picture_of_program(program)
    scans = [(n, kernel) for n, kernel in enumerate(program.kernels) if kernel.loop is not None]
    groups = {group.key: group for group in picture.groups}
    assert set(groups) == {f"k{number}" for number, _ in scans} and all(group.is_folded for group in groups.values())
    folded = {box.id: box for box in fold(picture).boxes}
    for number, kernel in scans:
        step = kernel.loop.program
        inside = [box.id for box in picture.boxes if box.group == f"k{number}"]
        assert inside == [f"k{number}_b_{name}" for name in step.inputs] + [
            f"k{number}_k{n}" for n in range(len(step.kernels))
        ]
        lines = [line.text for line in folded[f"k{number}_forward"].lines]
        assert lines[0] == kernel.name and lines[1].startswith(f"5 steps of {len(step.kernels)} kernel")
        assert lines[1].endswith(", backwards") == kernel.loop.reverse
        assert folded[f"k{number}_forward"].kind == "kernel"
        own = {(f"k{number}_{a}", f"k{number}_{b}") for a, b in reads_of(step) if not b.startswith("o_")}
        assert {p for p in arrows_of(picture, inside=True) if p[0].startswith(f"k{number}_")} == own
        carried = [a.target for a in picture.arrows if a.role == "update" and a.source.startswith(f"k{number}_")]
        assert set(carried) == {f"k{number}_b_{name}" for name in step.inputs[: kernel.loop.carried]}


def test_what_a_step_begins_with_and_what_a_loop_gives():
    program = loop().program
    picture = picture_of_program(program)
    kinds = {box.id: (box.kind, box.lines[-1].text) for box in picture.boxes}
    for number, kernel in enumerate(program.kernels):
        if kernel.loop is None:
            continue
        found, step = kernel.loop, kernel.loop.program
        for position, name in enumerate(step.inputs):
            expected = ("state", "carried from step to step")
            if position >= found.carried:
                is_sliced = position < found.carried + found.sliced
                expected = ("input", "a slice each step" if is_sliced else "the same in each step")
            assert kinds[f"k{number}_b_{name}"] == expected
        for stage, place, final in zip(kernel.stages, found.results, found.finals, strict=True):
            made = step.outputs[place if final < 0 else found.following[final]]
            writers = {f"k{number}_k{n}" for n, inner in enumerate(step.kernels) if made in inner.writes}
            given = {a.source for a in picture.arrows if [line.text for line in a.above][:1] == [stage.write]}
            given |= {a.source for a in picture.arrows if a.target == f"o_{stage.write}"}
            assert writers and given == writers


def test_a_loop_within_a_loop_is_a_group_in_its_group():
    picture = picture_of_program(nested().program)
    parents = {group.key: group.parent for group in picture.groups}
    inner = [key for key, parent in parents.items() if parent is not None]
    assert inner and all(parents[key] in parents and key.startswith(f"{parents[key]}_k") for key in inner)


# ---- Times ---------------------------------------------------------------------------------------------------------


def test_a_profile_gives_times_to_boxes_and_to_what_they_fold_into():
    program = deep().program
    profile = profile_of(program)
    picture = picture_of_program(program, profile)
    boxes = {box.id: box for box in picture.boxes}
    share = 1 / sum(range(1, len(program.kernels) + 1))
    assert f"10.0 us, {share:.1%}" in [line.text for line in boxes["k0"].lines]
    details = boxes["k0"].details["time"]
    assert details == (f"10.0 us, {share:.1%}", "0.2 GFLOP/s, 0.4 GB/s", "50% of the roofline (fma)")
    parents = {group.key: group.parent for group in picture.groups}
    assert parents
    for group in picture.groups:
        around = {group.key, *(key for key, parent in parents.items() if parent == group.key)}  # there are two levels
        held = [int(box.id[1:]) for box in picture.boxes if box.group in around and box.id.startswith("k")]
        total, part = (sum(getattr(profile.rows[n], name) for n in held) for name in ("seconds", "share"))
        assert time_words(total, part) in [line.text for line in group.lines]


def test_a_loop_says_its_time():
    program = loop().program
    picture = picture_of_program(program, profile_of(program))
    assert all(any(" us, " in line.text for line in group.lines) for group in picture.groups)
    inner = [box for box in picture.boxes if "_k" in box.id]
    assert inner and not any("time" in box.details for box in inner)


def test_a_kernel_that_was_timed_in_parts_has_the_sum():
    program = training().program
    profile = profile_of(program)
    first = profile.rows[0]
    rows = (replace(first, name=f"{first.name}_sum"), *profile.rows)
    split = replace(profile, rows=(*rows, replace(first, name="updates", kind="copies")))
    assert [len(found) for found in rows_of_kernels(program, split).values()] == [2] + [1] * (len(program.kernels) - 1)
    (box,) = [box for box in picture_of_program(program, split).boxes if box.id == "k0"]
    assert any(line.text.startswith("20.0 us, ") for line in box.lines)


def test_a_profile_of_something_else_is_refused():
    program = training().program
    with pytest.raises(ArgumentError, match="not one by scope"):
        picture_of_program(program, profile_of(program).by_scope())
    with pytest.raises(ArgumentError, match="has no time of its kernel"):
        picture_of_program(program, profile_of(joined().program))
    with pytest.raises(ArgumentError, match="from 0 up"):
        picture_of_program(program, depth=-1)


def test_a_measured_profile_fits_its_program():
    step = training()
    profile = step.profile(np.ones((16, 8), "float32"), np.arange(16) % 3, repeats=1)
    found = rows_of_kernels(step.program, profile)
    assert [rows[-1].name for rows in found.values()] == [kernel.name for kernel in step.program.kernels]


# ---- Parts of the model --------------------------------------------------------------------------------------------


def test_a_large_program_is_folded_to_a_page():
    program = deep().program
    picture = picture_of_program(program)
    folded = fold(picture)
    assert len(picture.boxes) > MOST_BOXES >= len(folded.boxes)
    titles = [group.title for group in picture.groups if group.parent is None]
    assert {"0", "1", "2", "0, backward", "1, backward", "2, backward"} <= set(titles)
    assert is_acyclic(folded)
    blocks = [group for group in picture.groups if group.parent is None and group.title in ("0", "1", "2")]
    params = 4 * (8 * 8 + 8)  # of the four layers of a block
    assert all(f"{params} parameters" in [line.text for line in group.lines] for group in blocks)


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_the_depth_says_what_is_folded(depth):
    picture = picture_of_program(deep().program, depth=depth)
    groups = {group.key: group for group in picture.groups}

    def depth_of(key):
        return 0 if key is None else 1 + depth_of(groups[key].parent)

    assert all(group.is_folded == (depth_of(key) == depth + 1) for key, group in groups.items())
    assert is_acyclic(fold(picture))


def test_a_small_program_has_no_parts():
    assert not picture_of_program(training().program).groups


def test_inputs_stand_outside_and_params_with_their_first_reader():
    picture = picture_of_program(deep().program)
    groups = {box.id: box.group for box in picture.boxes}
    titles = {group.key: group.title for group in picture.groups}
    assert groups["b_x"] is None and groups["b_t"] is None and groups["b_lr"] is None
    held = {box.id: titles[box.group] for box in picture.boxes if box.kind == "param"}
    assert held and not any("backward" in title for title in held.values())


def test_a_kernel_that_only_updates_params_is_in_the_backward_half_of_their_part():
    program = deep(batch=1).program  # a product of two vectors is no contraction, and the update a kernel by itself
    picture = picture_of_program(program)
    titles = {group.key: group.title for group in picture.groups}
    groups = {box.id: titles.get(box.group) for box in picture.boxes}
    layers = {f"{block}_{layer}_weight": f"{layer}, backward" for block in range(3) for layer in (0, 2, 4, 6)}
    seen = 0
    for number, kernel in enumerate(program.kernels):
        targets = [target for source, target in program.updates if source in kernel.writes]
        if kernel.kind != "contraction" and len(targets) == len(kernel.writes):
            seen += 1
            weights = [target.lstrip("_") for target in targets if target.lstrip("_") in layers]
            assert all(groups[f"k{number}"] == layers[weight] for weight in weights)
    assert seen and not any("SGD" in title for title in titles.values())


def test_a_part_that_holds_only_another_is_that():
    kernels = [Item(f"k{n}", scope, False, ()) for n, scope in enumerate([("a", "c"), ("a", "c"), ("b", "d"), ("b",)])]
    parts, innermost = parts_of(kernels, {})
    found = [(part.title, part.level, part.members) for part in parts]
    assert found == [("b", 1, ["k2", "k3"]), ("a/c", 1, ["k0", "k1"])]
    assert innermost["k0"] is parts[1] and innermost["k2"] is parts[0] and parts[1].parent is None


@settings(max_examples=60, deadline=None)
@example([("a", False, set()), ("b", False, {1, 6}), ("a", False, {6}), ("b", False, {2})])
@given(
    st.lists(
        st.tuples(st.sampled_from(["", "a", "b", "a/c", "a/d", "b/c/e"]), st.booleans(), st.sets(st.integers(1, 6))),
        max_size=14,
    )
)
def test_parts_never_wait_for_each_other(drawn):
    """The parts of any level, each as one node, with the leaves that they hold, are read in one direction."""
    kernels = []
    for number, (scope, is_backward, back) in enumerate(drawn):
        reads = tuple(f"k{number - step}" if number >= step else f"b_{step}" for step in sorted(back))
        kernels.append(Item(f"k{number}", tuple(filter(None, scope.split("/"))), is_backward, reads))
    parts, innermost = parts_of(kernels, {f"b_{step}": step % 2 == 0 for step in range(1, 7)})

    def at(level, name):
        part = innermost.get(name)
        while part is not None and part.level > level:
            part = part.parent
        return name if part is None or part.level < level else part

    assert all(len(part.members) > 1 and (part.parent is None or part.parent in parts) for part in parts)
    for level in range(1, 4):
        needs: dict = {}
        for kernel in kernels:
            own = at(level, kernel.name)
            needs.setdefault(own, set()).update({at(level, name) for name in kernel.reads} - {own})
        while needs:
            ready = [node for node, others in needs.items() if not others & needs.keys()]
            assert ready, f"level {level} waits for itself"
            for node in ready:
                del needs[node]


# ---- Text and files ------------------------------------------------------------------------------------------------


def test_the_same_text_twice():
    assert len({dot_of_picture(fold(picture_of_program(deep().program))) for _ in range(2)}) == 1


def test_the_command(tmp_path: Path, monkeypatch, capsys):
    (tmp_path / "model.py").write_text(
        "import graphc as gc\nx = gc.input('x', ('N', 4))\nloss = gc.sum(gc.exp(x @ gc.param('w', (4, 2), init=0.5)))\n"
    )
    monkeypatch.chdir(tmp_path)
    arguments = ["render", "model.py:loss", "--level", "program", "--backward", "--size", "N=3", "-o"]
    assert main([*arguments, "p.dot"]) == 0 and capsys.readouterr().out == "p.dot\n"
    assert "float32(3, 2)" in (tmp_path / "p.dot").read_text(encoding="utf-8")
    assert main([*arguments, "p.tiff"]) == 2 and "'p.tiff' ends in none of" in capsys.readouterr().err
    assert main([*arguments, "p.dot", "--values", "x=1"]) == 2 and "not program" in capsys.readouterr().err

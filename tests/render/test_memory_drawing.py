"""The drawing of a program's memory: its rectangles are the plan's."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

import graphc as gc
from graphc.compiler.memory import Block, Memory
from graphc.errors import ArgumentError
from graphc.render.program.memory import HEIGHT, LEFT, WIDTH, svg_of_memory

SVG = "{http://www.w3.org/2000/svg}"
ROUNDING = 0.011  # coordinates are written with two digits


def step(layers: int = 3) -> gc.compiler.Function:
    x, t = gc.input("x", (32, 16)), gc.input("t", (32,), "int64")
    stack = [part for k in range(layers) for part in (gc.nn.Linear(16, 16, seed=k), gc.nn.Tanh())]
    model = gc.nn.Sequential(*stack, gc.nn.Linear(16, 4, seed=99))
    loss = gc.nn.cross_entropy(model(x), t)
    return gc.compile([x, t], [loss], gc.optim.Adam().updates(loss, model.parameters()), backend="numpy", name="step")


def rectangles(svg: str, kind: str) -> list[tuple[str, float, float, float, float]]:
    """(title, left, top, right, bottom) of the rectangles of one class."""
    found = []
    for rect in ET.fromstring(svg).iter(f"{SVG}rect"):
        if rect.get("class") == kind:
            x, y, width, height = (float(rect.get(name, "nan")) for name in ("x", "y", "width", "height"))
            title = rect.find(f"{SVG}title")
            found.append((str(title.text) if title is not None else "", x, y, x + width, y + height))
    return found


@pytest.mark.parametrize("layers", [1, 3, 40])
def test_every_temporary_is_a_rectangle_and_none_overlap(layers: int) -> None:
    memory = step(layers).memory()
    found = rectangles(memory.svg(), "block")
    assert [title.partition(":")[0] for title, *_ in found] == [block.name for block in memory.blocks]
    assert all(left < right and top < bottom for _, left, top, right, bottom in found)
    for number, (_, left, top, right, bottom) in enumerate(found):
        for _, left_2, top_2, right_2, bottom_2 in found[:number]:
            across = min(right, right_2) - max(left, left_2)
            along = min(bottom, bottom_2) - max(top, top_2)
            assert across <= ROUNDING or along <= ROUNDING


def test_rectangles_are_where_the_plan_says() -> None:
    memory = step().memory()
    svg = memory.svg()
    ((_, left, _, right, floor),) = rectangles(svg, "peak")
    column = WIDTH / len(memory.steps)
    assert left == pytest.approx(LEFT + memory.peak_step * column, abs=0.01)
    assert right == pytest.approx(LEFT + (memory.peak_step + 1) * column, abs=0.02)
    for block, (_, x, top, end, bottom) in zip(memory.blocks, rectangles(svg, "block"), strict=True):
        assert x == pytest.approx(LEFT + block.first * column, abs=0.02)
        assert end == pytest.approx(LEFT + (block.last + 1) * column, abs=0.02)
        assert bottom == pytest.approx(floor - HEIGHT * block.offset / memory.arena_bytes, abs=0.02)
        assert bottom - top == pytest.approx(HEIGHT * block.size / memory.arena_bytes, abs=0.02)
    path = next(p for p in ET.fromstring(svg).iter(f"{SVG}path") if p.get("class") == "live")
    heights = [float(part.partition("H")[0]) for part in str(path.get("d")).split("V")[1:]]
    expected = [floor - HEIGHT * live / memory.arena_bytes for live in memory.live_bytes]
    assert heights == pytest.approx(expected, abs=0.01)
    assert f"peak: {memory.peak_bytes:,} bytes in {memory.steps[memory.peak_step]}" in svg


def test_names_stand_where_there_is_room() -> None:
    wide = Block("a_name", 0, 640, 0, 9)
    narrow = Block("other", 640, 640, 0, 0)
    flat = Block("flat", 1280, 1, 0, 9)
    svg = svg_of_memory(Memory("plan", tuple(f"kernel_{k}" for k in range(10)), (wide, narrow, flat), 1281))
    texts = [text.text for text in ET.fromstring(svg).iter(f"{SVG}text")]
    assert "a_name" in texts and "other" in texts and "flat" not in texts
    squeezed = svg_of_memory(Memory("plan", tuple(f"kernel_{k}" for k in range(200)), (wide, narrow, flat), 1281))
    texts = [text.text for text in ET.fromstring(squeezed).iter(f"{SVG}text")]
    assert "other" not in texts and "0 kernel_0" in texts and "1 kernel_1" not in texts


def test_any_name_is_legal_xml() -> None:
    name = "<&\"'\x00\x1b☃ " + "long" * 40
    svg = svg_of_memory(Memory(name, (name,), (Block(name, 0, 64, 0, 0), Block("<&>", 64, 64, 0, 0)), 128))
    assert "<&>" in [text.text for text in ET.fromstring(svg).iter(f"{SVG}text")]
    assert "\x00" not in svg and "<&" not in svg


def test_no_number_is_cut_off() -> None:
    name = "a_name_of_a_function_that_is_quite_long"
    memory = Memory(name, (name, "b"), (Block(name, 0, 123456789, 0, 1),), 123456789)
    texts = [text.text for text in ET.fromstring(svg_of_memory(memory)).iter(f"{SVG}text")]
    assert f"{name}: arena 123,456,789 bytes; dashed: the bytes that are alive" in texts
    assert f"peak: 123,456,789 bytes in {name}" in texts
    ((title, *_),) = rectangles(svg_of_memory(memory), "block")
    assert title == f"{name}: 123,456,789 bytes at 0, {name} to b"


def test_a_program_without_temporaries_says_so() -> None:
    x = gc.input("x", (3,))
    svg = gc.compile([x], x * 2, backend="numpy").memory().svg()
    assert "no temporaries" in svg and not rectangles(svg, "block") and not rectangles(svg, "peak")
    ET.fromstring(svg)


def test_saved_and_shown(tmp_path: Path) -> None:
    memory = step(1).memory()
    path = memory.save(tmp_path / "step.SVG")
    assert Path(path).read_text(encoding="utf-8") == memory.svg() == memory._repr_svg_()
    with pytest.raises(ArgumentError, match=r"does not end in \.svg"):
        memory.save(tmp_path / "step.png")
    with pytest.raises(OSError):
        memory.save(tmp_path / "nowhere" / "step.svg")


def test_the_same_program_gives_the_same_text() -> None:
    assert step(2).memory().svg() == step(2).memory().svg()


def test_a_graph_with_a_checkpoint_says_what_is_computed_again() -> None:
    x = gc.input("x", (4,))
    loss = gc.mean(gc.checkpoint(lambda h: gc.sin(gc.exp(h)), x) ** 2)
    dot = gc.render.dot_of([loss, gc.grad(loss, x)])
    assert "exp, again" in dot and "sin, backward" in dot and "exp, backward" in dot
    assert np.isfinite(gc.evaluate(loss, {x: np.ones(4, "float32")}))

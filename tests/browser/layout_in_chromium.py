"""What the HTML page draws, in headless Chromium: any text, every kind of box, random graphs, and where things stand.
`make test-browser` runs this file; its name keeps it out of `make test`, which needs no browser.
"""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from graphc.render.picture import KINDS, Arrow, Box, Group, Line, Picture, Step
from tests.browser.support import gates, shown

NASTY = [
    "</script><script>alert(1)</script>",
    "\"quoted\" & 'so'",
    "<b>bold</b>",
    "a\x00b\nc\x1b",
    "🧮 ∂ ﷽",
    "\ud800",
    "${x}",
]


def test_any_text_is_shown_as_text(browser: Any, tmp_path: Path):
    boxes = tuple(
        Box(f"n{number}", "op", (Line(text),), group="g", is_shared=True, details={"source": (text,)})
        for number, text in enumerate(NASTY)
    )
    arrows = tuple(Arrow(one.id, other.id, above=one.lines) for one, other in pairwise(boxes))
    groups = (Group("g", NASTY[0], lines=(Line(NASTY[0]),)),)
    nasty = Picture(NASTY[0], boxes, arrows, groups, (Step(("n0",), NASTY[0]),), (Line(NASTY[0]),))
    with shown(browser, nasty, tmp_path) as page:
        assert page.page.title() == NASTY[0]
        assert [text for text in page.texts(".box tspan") if text in NASTY] == [NASTY[at] for at in (0, 1, 2, 4, 6)]
        assert "a\\x00b\\nc\\x1b" in page.texts(".box tspan")
        assert "\\ud800" in page.texts(".box tspan")
        page.box(NASTY[2]).hover()
        assert page.page.locator("#panel dd").text_content() == NASTY[2]
        page.page.locator("#step").fill("1")
        assert page.page.locator("#caption").text_content() == NASTY[0]
        page.page.click("#fold-all")
        assert page.texts(".box tspan")[0] == NASTY[0]


def test_every_kind_of_box_is_drawn_and_told_by_its_shape(browser: Any, tmp_path: Path):
    boxes = tuple(Box(kind, kind, (Line(kind),)) for kind in KINDS)
    with shown(browser, Picture("kinds", boxes, ()), tmp_path) as page:
        page.assert_nothing_overlaps()
        looks = page.page.locator(".box").evaluate_all(
            """all => all.map(one => {
              const shapes = [...one.children].filter(child => child.tagName !== "text");
              const style = getComputedStyle(shapes[0]);
              const points = (shapes[0].getAttribute("points") ?? "").split(" ").map(one => one.split(","));
              const corners = [points.length, new Set(points.map(([x]) => x)).size];
              const lines = [style.strokeDasharray, style.strokeWidth, shapes[0].getAttribute("rx"), corners];
              return [...shapes.map(shape => shape.tagName), ...lines].join(" ");
            })"""  # and no colour
        )
        assert len(set(looks)) == len(KINDS)
        assert page.page.locator("#samples li").all_text_contents() == list(KINDS.values())


@pytest.mark.parametrize("seed", range(6))
def test_in_any_graph_no_boxes_or_labels_overlap_and_frames_hold_their_own(browser: Any, tmp_path: Path, seed: int):
    chance = random.Random(seed)
    with shown(browser, random_picture(chance), tmp_path) as page:
        for _ in range(4):
            page.assert_nothing_overlaps()
            foldable = page.page.locator("[data-group]:not(.frame)")
            if foldable.count():
                foldable.nth(chance.randrange(foldable.count())).evaluate("drawn => toggle(drawn, true)")


def random_picture(chance: random.Random) -> Picture:
    """A directed acyclic graph in groups that need not be convex, its gradients beside it, labels here and there."""

    def label() -> tuple[Line, ...]:
        return (Line("1.25", "value"),) if chance.random() < 0.4 else ()

    parents = [f"g{chance.randrange(number)}" if number and chance.random() < 0.5 else None for number in range(5)]
    groups = [Group(f"g{number}", f"group {number}", parent) for number, parent in enumerate(parents)]
    boxes: list[Box] = []
    arrows: list[Arrow] = []
    for number in range(chance.randint(3, 40)):
        group = f"g{chance.randrange(5)}" if chance.random() < 0.7 else None
        kind = chance.choice(["op", "op", "param", "input"])
        boxes.append(Box(f"v{number}", kind, (Line(f"value {number}"),) * chance.randint(1, 3), group=group))
        for source in {chance.randrange(number) for _ in range(chance.randint(0, 2))} if number else ():
            arrows.append(Arrow(f"v{source}", f"v{number}", above=label(), below=label()))
    for box in reversed(tuple(boxes)):
        boxes.append(Box(f"d{box.id}", "gradient", (Line(f"d {box.id}"),), "gradient", box.group, box.id))
    for arrow in tuple(arrows):
        arrows.append(Arrow(f"d{arrow.target}", f"d{arrow.source}", "gradient", label()))
        if chance.random() < 0.3:
            arrows.append(Arrow(arrow.source, f"d{arrow.target}", "reuse"))
    return Picture("random", tuple(boxes), tuple(arrows), tuple(groups), direction=chance.choice(["LR", "TB"]))


@pytest.mark.parametrize("direction", ["LR", "TB"])
def test_each_gradient_stands_beside_its_value_and_the_halves_are_apart(browser: Any, tmp_path: Path, direction: Any):
    along, across = ("x", "y") if direction == "LR" else ("y", "x")
    with shown(browser, gates(direction=direction), tmp_path) as page:
        places = page.page.evaluate("Object.fromEntries([...scene.places].map(([id, {x, y}]) => [id, {x, y}]))")
        boxes = page.picture.boxes
        owned = [box for box in boxes if box.owner]
        assert len(owned) == 3
        for box in owned:
            assert places[box.id][along] == pytest.approx(places[box.owner][along], abs=0.2)
        lowest = max(places[box.id][across] for box in boxes if box.half == "forward")
        assert lowest < min(places[box.id][across] for box in boxes if box.half == "gradient")
        for arrow in page.picture.arrows:
            if arrow.role != "reuse":
                sign = 1 if arrow.role == "forward" else -1
                assert sign * places[arrow.source][along] < sign * places[arrow.target][along]


@pytest.mark.parametrize("direction", ["LR", "TB"])
def test_arrows_run_from_side_to_side_gradients_back_and_every_label_is_written(
    browser: Any, tmp_path: Path, direction: Any
):
    side, size = (0, "width") if direction == "LR" else (1, "height")
    with shown(browser, gates(direction=direction), tmp_path) as page:
        drawn = page.page.evaluate(
            """() => {
              const ends = (path) => [0, path.getTotalLength()].map((at) => path.getPointAtLength(at));
              const boxes = [...scene.boxes.keys()].map((box) => {
                const {x, y} = scene.places.get(box.id);
                return [box.id, {at: [x, y], width: box.width, height: box.height}];
              });
              const arrows = [...scene.arrows].map(([arrow, made]) => ({
                ends: ends(made.querySelector("path")).map(({x, y}) => [x, y]),
                role: arrow.role, source: arrow.source, target: arrow.target,
                texts: [...made.querySelectorAll("tspan")].map((line) => line.textContent),
              }));
              return {boxes: Object.fromEntries(boxes), arrows};
            }"""
        )
        for arrow, made in zip(page.picture.arrows, drawn["arrows"], strict=True):
            assert (made["source"], made["target"]) == (arrow.source, arrow.target)
            assert made["texts"] == [line.text for line in (*arrow.above, *arrow.below)]
            if arrow.role != "reuse":
                sign = 1 if arrow.role == "forward" else -1
                for name, end, way in ((arrow.source, made["ends"][0], sign), (arrow.target, made["ends"][1], -sign)):
                    box = drawn["boxes"][name]
                    assert end[side] == pytest.approx(box["at"][side] + way * box[size] / 2, abs=0.2)
                    assert end[1 - side] == pytest.approx(box["at"][1 - side], abs=0.2)

"""What a reader does with the HTML page, in headless Chromium: zoom, pan, fold, point, search and step.
`make test-browser` runs this file; its name keeps it out of `make test`, which needs no browser.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from graphc.render.picture import Arrow, Box, Group, Line, Picture
from tests.browser.support import Shown, convolutional_net, gates, shown


@pytest.fixture(scope="module")
def net() -> Picture:
    return convolutional_net()


@pytest.fixture
def net_page(browser: Any, net: Picture, tmp_path: Path) -> Iterator[Shown]:
    with shown(browser, net, tmp_path) as page:
        yield page


@pytest.fixture
def gate_page(browser: Any, tmp_path: Path) -> Iterator[Shown]:
    with shown(browser, gates(), tmp_path) as page:
        yield page


# --- The view -------------------------------------------------------------------------------------------------------


def test_the_wheel_zooms_about_the_pointer_and_buttons_and_keys_about_the_middle(gate_page: Shown):
    page = gate_page.page
    before = gate_page.box("z").bounding_box()
    x, y = before["x"] + before["width"] / 2, before["y"] + before["height"] / 2
    page.mouse.move(x, y)
    page.mouse.wheel(0, -400)
    page.wait_for_function("before => camera.zoom > before", arg=1.5)
    after = gate_page.box("z").bounding_box()
    assert after["width"] > 1.4 * before["width"]
    assert after["x"] + after["width"] / 2 == pytest.approx(x, abs=1)
    assert after["y"] + after["height"] / 2 == pytest.approx(y, abs=1)
    zooms = [gate_page.camera()["zoom"]]
    for key in "+-":
        page.keyboard.press(key)
        zooms.append(gate_page.camera()["zoom"])
    page.click("#zoom-in")
    zooms.append(gate_page.camera()["zoom"])
    assert zooms[2] == pytest.approx(zooms[0])
    assert zooms[0] < zooms[1]
    assert zooms[2] < zooms[3]
    page.keyboard.press("0")
    whole = page.locator("#drawing").bounding_box()
    for box in page.locator(".box").all():
        assert inside(box.bounding_box(), whole)


def inside(box: dict[str, float], whole: dict[str, float]) -> bool:
    return (
        whole["x"] <= box["x"]
        and whole["y"] <= box["y"]
        and box["x"] + box["width"] <= whole["x"] + whole["width"]
        and box["y"] + box["height"] <= whole["y"] + whole["height"]
    )


def test_dragging_and_arrow_keys_move_the_picture_and_a_drag_folds_nothing(net_page: Shown):
    page = net_page.page
    boxes = net_page.count(".box")
    before = net_page.camera()
    start = page.locator(".box[data-group]").first.bounding_box()
    page.mouse.move(start["x"] + 20, start["y"] + 20)
    page.mouse.down()
    page.mouse.move(start["x"] + 70, start["y"] - 10, steps=4)
    page.mouse.up()
    after = net_page.camera()
    assert (after["x"] - before["x"], after["y"] - before["y"]) == pytest.approx((50, -30))
    assert after["zoom"] == before["zoom"]
    assert net_page.count(".box") == boxes
    page.keyboard.press("Escape")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert net_page.camera()["x"] < after["x"]
    assert net_page.camera()["y"] < after["y"]


def test_two_fingers_zoom(gate_page: Shown):
    before = gate_page.camera()["zoom"]
    gate_page.page.evaluate(
        """() => {
          const send = (name, id, x, y) => drawing.dispatchEvent(new PointerEvent(name,
            {pointerId: id, clientX: x, clientY: y, button: 0, bubbles: true, pointerType: "touch"}));
          drawing.setPointerCapture = () => {};  // made events have no pointer to capture
          send("pointerdown", 11, 500, 400); send("pointerdown", 12, 600, 400);
          send("pointermove", 11, 450, 400); send("pointermove", 12, 650, 400);
          send("pointerup", 11, 450, 400); send("pointerup", 12, 650, 400);
        }"""
    )
    assert gate_page.camera()["zoom"] == pytest.approx(2 * before)


# --- Folding --------------------------------------------------------------------------------------------------------


def test_a_click_unfolds_a_layer_in_place_in_both_halves_and_a_click_on_its_title_folds_it(net_page: Shown):
    page = net_page.page
    before = net_page.count(".box"), net_page.count(".frame"), net_page.count(".arrow")
    net_page.assert_nothing_overlaps()
    block = net_page.box("Conv2d(1, 4, 5, padding=2)")
    key = block.get_attribute("data-group")
    at = block.bounding_box()
    block.click()
    assert net_page.count(f'.box[data-group="{key}"]') == 0
    assert net_page.count(f'.frame[data-group="{key}"]') == 2
    assert net_page.count(".box") > before[0]
    frame = page.locator(f'.frame.forward[data-group="{key}"]').bounding_box()
    for axis, size in (("x", "width"), ("y", "height")):
        assert frame[axis] + frame[size] / 2 == pytest.approx(at[axis] + at[size] / 2, abs=1)
    net_page.assert_nothing_overlaps()
    page.locator(f'.title[data-group="{key}"]').first.click(force=True)
    assert (net_page.count(".box"), net_page.count(".frame"), net_page.count(".arrow")) == before


def test_enter_and_space_unfold_and_fold_and_keep_the_focus(net_page: Shown):
    page = net_page.page
    before = net_page.count(".box")
    block = net_page.box("Conv2d(1, 4, 5, padding=2)")
    key = block.get_attribute("data-group")
    focused = "document.activeElement.dataset.group + ' ' + document.activeElement.getAttribute('aria-expanded')"
    for press in ("Enter", "Space"):
        net_page.box("Conv2d(1, 4, 5, padding=2)").focus()
        page.keyboard.press(press)
        assert net_page.count(".box") > before
        assert page.evaluate(focused) == f"{key} true"
        page.keyboard.press(press)
        assert net_page.count(".box") == before
        assert page.evaluate(focused) == f"{key} false"


def test_fold_all_and_unfold_one_level_go_down_to_every_box_and_nothing_overlaps_on_the_way(net_page: Shown):
    page = net_page.page
    page.click("#fold-all")
    counts = [net_page.count(".box")]
    net_page.assert_nothing_overlaps()
    while net_page.count(".box[data-group]"):
        page.click("#unfold-level")
        counts.append(net_page.count(".box"))
        net_page.assert_nothing_overlaps()
    assert counts == sorted(counts)
    assert counts[-1] == len(net_page.picture.boxes)
    assert net_page.count(".arrow") == len(net_page.picture.arrows)
    page.click("#fold-all")
    assert net_page.count(".box") == counts[0]


def test_arrows_that_folding_makes_one_keep_a_label_only_where_all_say_the_same(browser: Any, tmp_path: Path):
    boxes = tuple(Box(name, "op", (Line(name),), group="g" if name in "cd" else None) for name in "abcd")
    same, other = (Line("1", "value"),), (Line("2", "value"),)
    arrows = (
        Arrow("a", "c", above=same),
        Arrow("a", "d", above=same),
        Arrow("b", "c", above=same),
        Arrow("b", "d", above=other),
        Arrow("c", "d", above=other),
    )
    folded = Picture("folded", boxes, arrows, (Group("g", "two", is_folded=True),))
    with shown(browser, folded, tmp_path) as page:
        assert page.count(".arrow") == 2
        assert page.texts(".arrow tspan") == ["1"]


# --- Hover, focus, search -------------------------------------------------------------------------------------------


def test_hover_and_focus_show_value_gradient_equation_and_source_and_escape_closes(gate_page: Shown):
    page = gate_page.page
    panel = page.locator("#panel")
    assert panel.is_hidden()
    gate_page.box("add").hover()
    details = gate_page.picture.boxes[[box.lines[0].text for box in gate_page.picture.boxes].index("add")].details
    assert panel.locator("dt").all_text_contents() == [name for name in details if name]
    told = dict(zip(panel.locator("dt").all_text_contents(), panel.locator("dd").all_text_contents(), strict=True))
    assert told["value"] == "3"
    assert told["gradient"] == "-4"
    assert "x + y" in told["equation"]
    assert "support.py:" in told["source"]
    assert gate_page.count(".box.active") == 1
    assert gate_page.count(".box.near") >= 3  # x, y and the product
    page.mouse.move(3, 300)
    assert panel.is_hidden()
    gate_page.box("add").focus()
    assert panel.locator("dd.value").text_content() == "3"
    page.keyboard.press("Escape")
    assert panel.is_hidden()


def test_a_value_and_its_gradient_mark_each_other(gate_page: Shown):
    gate_page.box("z").hover()
    assert gate_page.texts(".box.pair tspan")[0] == "∂f/∂z"
    gate_page.box("∂f/∂z").hover()
    assert gate_page.texts(".box.pair tspan")[0] == "z"


def test_tab_goes_through_the_boxes_in_reading_order_and_back_from_the_loss(gate_page: Shown):
    page = gate_page.page
    page.locator("#query").focus()
    seen = []
    for _ in gate_page.picture.boxes:
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.querySelector('tspan').textContent"))
        assert page.locator("#panel h2").text_content() == seen[-1]
    assert seen[4] == "multiply"
    assert set(seen[:2]) == {"x", "y"}
    assert seen[5] == "∂f/∂f"
    box = gate_page.box("add")
    assert box.get_attribute("role") == "button"
    assert box.get_attribute("aria-label") == "operation: add, q"


def test_search_counts_the_hits_unfolds_what_holds_them_and_enter_goes_on(net_page: Shown):
    page = net_page.page
    before = net_page.count(".box")
    page.keyboard.press("/")
    page.keyboard.type("0.weight")
    wanted = [
        box
        for box in net_page.picture.boxes
        if any("0.weight" in text for text in [*(line.text for line in box.lines), *sum(box.details.values(), ())])
    ]
    assert page.locator("#hits").text_content() == f"{len(wanted)} found"
    whole = page.locator("#drawing").bounding_box()
    for number, box in enumerate(wanted, 1):
        page.keyboard.press("Enter")
        assert page.locator("#hits").text_content() == f"{number} / {len(wanted)}"
        active = page.locator(".box.active")
        assert active.get_attribute("data-id") == box.id
        assert inside(active.bounding_box(), whole)
    assert net_page.count(".box") > before
    page.keyboard.press("Shift+Enter")
    assert page.locator("#hits").text_content() == f"{max(1, len(wanted) - 1)} / {len(wanted)}"


# --- Steps ----------------------------------------------------------------------------------------------------------


def test_the_slider_reveals_the_numbers_step_by_step(gate_page: Shown):
    page = gate_page.page
    steps = gate_page.picture.steps
    everything = gate_page.texts("#view .value, #view tspan.gradient")
    assert gate_page.count(".later") == 0
    slider = page.locator("#step")
    counts = []
    for number, step in enumerate(steps, 1):
        slider.fill(str(number))
        counts.append(len(gate_page.texts("#view .value, #view tspan.gradient")))
        assert page.locator("#count").text_content() == f"{number} / {len(steps)}"
        assert page.locator("#caption").text_content() == step.caption
        now = page.locator(".box.now").evaluate_all("all => all.map(one => one.dataset.id)")
        assert sorted(now) == sorted(step.boxes)
        later = page.locator(".box.later").evaluate_all("all => all.map(one => one.dataset.id)")
        assert sorted(later) == sorted(id for after in steps[number:] for id in after.boxes)
    assert counts == sorted(counts)
    assert counts[0] == 3  # x, y and z are given
    assert counts[-1] == len(everything)
    slider.fill("2")
    assert sorted(gate_page.texts("#view tspan.value")) == ["-2", "-4", "3", "5"]
    assert gate_page.texts("#view tspan.gradient") == []
    gate_page.box("multiply").hover()
    assert page.locator("#panel dd.value, #panel dd.gradient").count() == 0
    page.click("#all-steps")
    assert gate_page.texts("#view .value, #view tspan.gradient") == everything


def test_a_page_for_the_sequence_begins_with_its_first_step(browser: Any, tmp_path: Path):
    with shown(browser, gates(), tmp_path, is_sequence=True) as page:
        assert page.page.locator("#count").text_content().startswith("1 /")
        assert len(page.texts("#view tspan.value")) == 3


def test_keys_and_play_go_through_the_steps(gate_page: Shown):
    page = gate_page.page
    count = len(gate_page.picture.steps)
    page.keyboard.press(".")
    assert page.locator("#count").text_content() == f"1 / {count}"
    page.keyboard.press("PageDown")
    page.keyboard.press("PageDown")
    page.keyboard.press(",")
    assert page.locator("#count").text_content() == f"2 / {count}"
    page.clock.install()
    page.click("#play")
    assert page.locator("#play").text_content() == "Pause"
    page.clock.run_for(60_000)  # of the page's clock
    assert page.locator("#count").text_content() == f"{count} / {count}"
    assert page.locator("#play").text_content() == "Play"


def test_a_folded_layer_is_reached_with_its_first_box_and_the_step_stays_while_it_is_unfolded(net_page: Shown):
    page = net_page.page
    title = "Conv2d(1, 4, 5, padding=2)"
    key = net_page.box(title).get_attribute("data-group")
    parents = {group.key: group.parent for group in net_page.picture.groups}
    held = set()
    for box in net_page.picture.boxes:
        group = box.group
        while group is not None and group != key:
            group = parents[group]
        if group == key and box.half == "forward":
            held.add(box.id)
    first = next(number for number, step in enumerate(net_page.picture.steps, 1) if held & set(step.boxes))
    later = "node => node.classList.contains('later')"
    page.locator("#step").fill(str(first))
    assert not net_page.box(title).evaluate(later)
    last = net_page.box("cross_entropy")
    assert last.evaluate(later)
    net_page.box(title).click()
    assert page.locator("#count").text_content().startswith(f"{first} /")
    assert net_page.count(".box.later") > 0


def test_without_steps_and_groups_their_controls_are_hidden(browser: Any, tmp_path: Path):
    with shown(browser, Picture("one", (Box("n0", "op", (Line("one"),)),), ()), tmp_path) as page:
        assert page.page.locator("#sequence").is_hidden()
        assert page.page.locator("#folding").is_hidden()
        assert page.count(".box") == 1

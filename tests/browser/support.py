"""Pictures to open in a browser, and a page that is watched: what it asks for, and what it complains of."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc.ir.graph import topological
from graphc.render import graph_of
from graphc.render.drawing import picture_of_graph
from graphc.render.gradients import gradients_of
from graphc.render.page import page_of
from graphc.render.picture import Picture
from graphc.render.values import values_of
from tests.examples.support import load

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")
TOLERANCE = 1.0  # pixels by which rounded boxes may meet


def picture_with_numbers(output: gc.Tensor, values: dict[str, Any], **options: Any) -> Picture:
    """The picture of a scalar with its gradients, and the numbers of both."""
    graph = graph_of(output)
    gradients = gradients_of(graph.outputs)
    numbers = values_of(topological([*graph.outputs, *gradients.of.values()]), values)
    picture = picture_of_graph(graph, gradients, numbers, backward=True, **options)
    # Without the nodes, which a page does not need: pytest would print them, with all that they read, on a failure.
    boxes = tuple(replace(box, nodes=()) for box in picture.boxes)
    return replace(picture, boxes=boxes, arrows=tuple(replace(arrow, reads=()) for arrow in picture.arrows))


def gates(**options: Any) -> Picture:
    x, y, z = gc.input("x"), gc.input("y"), gc.input("z")
    q = x + y
    return picture_with_numbers((q * z).named("f"), {"x": -2, "y": 5, "z": -4}, title="Gates", **options)


def convolutional_net(**options: Any) -> Picture:
    """The training graph of D9's convolutional net, small."""
    model = load("D9").lenet(12, (4, 8), 2, 0)
    x, t = gc.input("x", (2, 1, 12, 12)), gc.input("t", (2,), dtype="int64")
    loss = gc.nn.cross_entropy(model(x, training=True), t).named("loss")
    values = {"x": np.random.default_rng(0).normal(size=(2, 1, 12, 12)), "t": [3, 1]}
    return picture_with_numbers(loss, values, title="A convolutional net", **options)


def chromium() -> str:
    """The browser that CHROMIUM names, or one that is installed."""
    named = os.environ.get("CHROMIUM")
    found = shutil.which(named) if named else next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if found is None:
        wanted = f"CHROMIUM={named} is no program" if named else f"there is none of {', '.join(CHROMIUMS)}"
        pytest.fail(
            f"{wanted}: install Chromium (on Debian and Ubuntu the package chromium), or name one: "
            "make CHROMIUM=/path/to/chromium test-browser",
            pytrace=False,
        )
    return found


@contextmanager
def running_browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright  # which `make test-browser` installs, and `make test` does not

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium())
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Shown:
    """A picture's page in a browser."""

    page: Any
    picture: Picture

    def count(self, selector: str) -> int:
        return int(self.page.locator(selector).count())

    def box(self, title: str) -> Any:
        """The one box whose first line is `title`."""
        found = [box for box in self.page.locator(".box").all() if box.locator("tspan").first.text_content() == title]
        assert len(found) == 1, f"{len(found)} boxes called {title}"
        return found[0]

    def camera(self) -> dict[str, float]:
        found: dict[str, float] = self.page.evaluate("({...camera})")
        return found

    def texts(self, selector: str) -> list[str]:
        """The texts that are not hidden."""
        script = "all => all.filter(one => getComputedStyle(one).visibility === 'visible').map(one => one.textContent)"
        found: list[str] = self.page.locator(selector).evaluate_all(script)
        return found

    def shapes(self) -> list[dict[str, Any]]:
        """The rectangles, in the picture's own pixels, of boxes, of what is written on arrows, and of frames."""
        found: list[dict[str, Any]] = self.page.evaluate(
            """() => {
              const zoom = camera.zoom;
              const shapes = [];
              const add = (kind, drawn, name) => {
                const {left, right, top, bottom} = drawn.getBoundingClientRect();
                if (right > left) shapes.push({kind, name, sides: [left, right, top, bottom].map(one => one / zoom)});
              };
              for (const drawn of view.querySelectorAll(".box")) add("box", drawn, drawn.dataset.id);
              for (const drawn of view.querySelectorAll(".arrow text")) add("label", drawn, drawn.textContent);
              for (const drawn of view.querySelectorAll(".frame")) {
                add("frame", drawn, `${drawn.dataset.half} ${drawn.dataset.group}`);
              }
              return shapes;
            }"""
        )
        return found

    def assert_nothing_overlaps(self) -> None:
        """No box covers another or a label, and a frame holds the boxes of its group and half, whole, and no others."""
        shapes = self.shapes()
        for number, one in enumerate(shapes):
            for other in shapes[:number]:
                if "frame" not in (one["kind"], other["kind"]):
                    assert not meet(one["sides"], other["sides"]), f"{one} and {other}"
        parents = {group.key: group.parent for group in self.picture.groups}
        groups: dict[str, tuple[str, str | None]] = {box.id: (box.half, box.group) for box in self.picture.boxes}
        for half in ("forward", "gradient"):
            groups |= {f"{half} {key}": (half, parent) for key, parent in parents.items()}
        for frame in (shape for shape in shapes if shape["kind"] == "frame"):
            for box in (shape for shape in shapes if shape["kind"] == "box"):
                half, group = groups[box["name"]]
                while group is not None and frame["name"] != f"{half} {group}":
                    group = parents[group]
                if group is None:
                    assert not meet(frame["sides"], box["sides"]), f"{box} is in {frame}"
                else:
                    assert holds(frame["sides"], box["sides"]), f"{box} is not in {frame}"


def meet(one: list[float], other: list[float]) -> bool:
    """Whether two rectangles (left, right, top, bottom) share more than a border."""
    return (
        one[0] < other[1] - TOLERANCE
        and other[0] < one[1] - TOLERANCE
        and one[2] < other[3] - TOLERANCE
        and other[2] < one[3] - TOLERANCE
    )


def holds(one: list[float], other: list[float]) -> bool:
    return (
        one[0] <= other[0] + TOLERANCE
        and other[1] <= one[1] + TOLERANCE
        and one[2] <= other[2] + TOLERANCE
        and other[3] <= one[3] + TOLERANCE
    )


@contextmanager
def shown(browser: Any, picture: Picture, folder: Path, **options: Any) -> Iterator[Shown]:
    """The picture's page from a file, with no network; it must ask for nothing else and have nothing to complain of."""
    path = folder / "page.html"
    path.write_text(page_of(picture, **options), encoding="utf-8", newline="\n")
    context = browser.new_context(viewport={"width": 1280, "height": 800}, offline=True, reduced_motion="reduce")
    context.set_default_timeout(5_000)
    page = context.new_page()
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(path.as_uri())
    try:
        yield Shown(page, picture)
    finally:
        context.close()
    assert asked == [path.as_uri()]
    assert not complaints

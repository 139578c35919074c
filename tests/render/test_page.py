"""The HTML page as text: one file that asks for nothing, in which any name stays text. `make test-browser` opens it."""

from __future__ import annotations

import html
import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphc as gc
from graphc.render import graph_of
from graphc.render.drawing import picture_of_graph
from graphc.render.gradients import gradients_of
from graphc.render.page import page_of, visible
from graphc.render.picture import Arrow, Box, Group, Line, Picture, Step

NASTY = "</script><!--<script> \"q\" 'a' & <b> 🧮\x00\x1b\n\u2028\ud800 ${x} $title"


class Reader(HTMLParser):
    """The elements of a page with their attributes, and the text of each script, style and title."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.open: str | None = None
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.open = tag if tag in ("script", "style", "title") else self.open

    def handle_endtag(self, tag: str) -> None:
        self.open = None if tag == self.open else self.open

    def handle_data(self, data: str) -> None:
        if self.open is not None:
            if self.texts and self.texts[-1][0] == self.open and self.open != "script":
                data = self.texts.pop()[1] + data
            self.texts.append((self.open, data))


def picture_with(text: str) -> Picture:
    line = (Line(text),)
    boxes = (
        Box("n0", "input", line, group="g", details={text: (text,)}),
        Box("n1", "output", line),
        Box("n2", "gradient", line, "gradient", owner="n0", is_shared=True),
    )
    arrows = (Arrow("n0", "n1", above=line, below=line), Arrow("n0", "n2", "reuse"))
    groups = (Group("g", text, lines=line, gradient_lines=line, is_folded=True),)
    return Picture(text, boxes, arrows, groups, (Step(("n0",), text, ("n1",)),), line, "TB")


def data_of(page: str) -> Any:
    found = re.findall(r'<script type="application/json" id="picture">(.*?)</script>', page, re.DOTALL)
    assert len(found) == 1
    return json.loads(found[0])


def training_graph() -> Picture:
    model = gc.nn.Sequential(gc.nn.Linear(4, 8, seed=0), gc.nn.ReLU(), gc.nn.Linear(8, 3, seed=1))
    x, t = gc.input("x", (5, 4)), gc.input("t", (5,), dtype="int64")
    graph = graph_of(gc.nn.cross_entropy(model(x), t))
    return picture_of_graph(graph, gradients_of(graph.outputs), backward=True)


def test_a_page_is_one_file_that_loads_nothing():
    page = page_of(training_graph())
    elements = Reader(page).elements
    loading = {"src", "href", "srcset", "data", "action", "poster", "background", "xlink:href"}
    assert not [(tag, found) for tag, attributes in elements if (found := loading & set(attributes))]
    assert not {tag for tag, _ in elements} & {"link", "iframe", "object", "embed", "img", "base"}
    assert set(re.findall(r"\b\w+://[^\s\"'`<>)]*", page)) == {"http://www.w3.org/2000/svg"}
    assert not re.findall(r"url\((?!#)|@import|\bimport\s*\(|\bfetch\(|XMLHttpRequest|WebSocket|sendBeacon", page)


def test_its_policy_forbids_the_network_and_no_handler_is_inline():
    elements = Reader(page_of(training_graph())).elements
    policies = [found["content"] for _, found in elements if found.get("http-equiv") == "Content-Security-Policy"]
    assert len(policies) == 1
    rules = dict(rule.split(" ", 1) for rule in policies[0].split("; "))
    assert rules.pop("default-src") == "'none'"
    assert set(rules.values()) == {"'unsafe-inline'", "'none'"}
    assert not [name for _, attributes in elements for name in attributes if name.startswith("on")]


def test_any_text_stays_text():
    page = page_of(picture_with(NASTY))
    plain = page_of(picture_with("name"))
    reader = Reader(page)
    assert [tag for tag, _ in reader.elements] == [tag for tag, _ in Reader(plain).elements]
    told = visible(NASTY)
    assert told == NASTY.translate(
        {ord(letter): letter.encode("unicode_escape").decode() for letter in "\x00\x1b\n\ud800"}
    )
    assert dict(reader.texts)["title"] == told
    data = data_of(page)
    assert data["title"] == told
    assert data["boxes"][0]["lines"] == [[told, "plain"]]
    assert data["boxes"][0]["details"] == [[told, [told]]]
    assert data["arrows"][0]["above"] == data["arrows"][0]["below"] == data["notes"] == [[told, "plain"]]
    assert data["groups"][0]["title"] == data["steps"][0]["caption"] == told
    page.encode("utf-8")
    assert html.escape(told) in page


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet=st.characters()))
def test_any_name_can_be_read_back(name: str):
    page = page_of(picture_with(name))
    page.encode("utf-8")
    assert data_of(page)["boxes"][1]["lines"] == [[visible(name), "plain"]]
    assert not re.findall(r"[\x00-\x08\x0b-\x1f\x7f]", page)


def test_the_data_says_what_the_picture_says():
    picture = training_graph()
    data = data_of(page_of(picture))
    assert [box["id"] for box in data["boxes"]] == [box.id for box in picture.boxes]
    assert [(one["source"], one["target"], one["role"]) for one in data["arrows"]] == [
        (arrow.source, arrow.target, arrow.role) for arrow in picture.arrows
    ]
    assert [(one["key"], one["parent"], one["isFolded"]) for one in data["groups"]] == [
        (group.key, group.parent, group.is_folded) for group in picture.groups
    ]
    assert [(one["owner"], one["beside"], one["isShared"]) for one in data["boxes"]] == [
        (box.owner, box.beside, box.is_shared) for box in picture.boxes
    ]
    small = data_of(page_of(picture_with("x")))
    assert small["steps"] == [{"boxes": ["n0"], "gradients": ["n1"], "caption": "x"}]
    assert small["direction"] == "TB"
    assert not small["isSequence"]
    assert data_of(page_of(picture_with("x"), is_sequence=True))["isSequence"]
    assert [box["isShared"] for box in small["boxes"]] == [False, False, True]
    assert small["groups"][0]["gradientLines"] == [["x", "plain"]]


def test_the_same_picture_gives_the_same_text():
    assert page_of(picture_with("a")) == page_of(picture_with("a"))
    picture = training_graph()
    assert page_of(picture) == page_of(picture)


@pytest.mark.parametrize("kind", ["forward", "empty"])
def test_a_page_of_little_or_nothing_is_whole(kind: str):
    boxes = (Box("n0", "op", (Line("one"),)),) if kind == "forward" else ()
    page = page_of(Picture("", boxes, ()))
    assert page.startswith("<!DOCTYPE html>")
    assert page.rstrip().endswith("</html>")
    assert len(data_of(page)["boxes"]) == len(boxes)

"""What notebooks show."""

from __future__ import annotations

import sys
from html.parser import HTMLParser

import pytest

import graphc as gc

VOID = {"br", "ellipse", "polygon", "path", "polyline"}


class Balanced(HTMLParser):
    """Checks that elements nest, and keeps the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.said = ""
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        return

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.said += data


def tensor() -> gc.Tensor:
    x = gc.input("</pre><b>x", (3,))
    return gc.sum(gc.exp(x)).named("total & more")


def test_a_tensor_shows_its_graph_and_its_equations() -> None:
    page = tensor()._repr_html_()
    said = Balanced(page).said
    assert "<svg" in page and "<?xml" not in page and "<details>" in page
    assert "exp" in said and "</pre><b>x" in said and "total & more" in said
    assert tensor()._repr_latex_().startswith("$$\n\\begin{")


def test_a_function_shows_its_signature_its_graph_and_its_program() -> None:
    x = gc.input("x", (3,))
    said = Balanced(gc.compile([x], gc.exp(x), backend="numpy", name="double")._repr_html_()).said
    assert "<Function double(x: float32(3,))" in said and "exp" in said and "loops" in said


def test_without_graphviz_the_equations_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(sys.modules, "pygraphviz", None)
    page = tensor()._repr_html_()
    assert "<svg" not in page and "exp" in Balanced(page).said
    assert tensor()._repr_svg_() is None

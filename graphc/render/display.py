"""What a notebook shows of a tensor or a compiled function, without being asked."""

from __future__ import annotations

import html
import re

from graphc.compiler import Function
from graphc.lang.tensor import Tensor
from graphc.render.equations.latex import latex_of_graph
from graphc.render.equations.text import text_of_graph
from graphc.render.layout import DrawingError
from graphc.render.levels import Drawable, graph_of, picture_of
from graphc.render.output import write


def svg_for_display(drawn: Drawable) -> str | None:
    """The forward graph; None where nothing can lay it out."""
    try:
        return write(picture_of(drawn), None)
    except DrawingError:
        return None


def latex_for_display(drawn: Drawable) -> str:
    """The defining equations."""
    return f"$$\n{latex_of_graph(graph_of(drawn))}\n$$"


def html_of_tensor(tensor: Tensor) -> str:
    """The forward graph, and below it, folded, the defining equations."""
    return _drawing(tensor) + _folded("equations", text_of_graph(graph_of(tensor)))


def html_of_function(function: Function) -> str:
    """Its signature and graph, and below it, folded, its program."""
    signature = f"<p><code>{html.escape(repr(function))}</code></p>"
    return signature + _drawing(function) + _folded("program", function.source("program"))


def _drawing(drawn: Drawable) -> str:
    """The picture as a part of a page, which scrolls where it is wide."""
    svg = svg_for_display(drawn)
    if svg is None:
        return ""
    start = re.search(r"<svg\b", svg)
    return f'<div style="overflow-x: auto">{svg[start.start() if start else 0 :]}</div>'


def _folded(title: str, text: str) -> str:
    return f"<details><summary>{html.escape(title)}</summary><pre>{html.escape(text)}</pre></details>"

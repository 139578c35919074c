"""DOT to SVG, PNG or PDF: through the Graphviz library that pygraphviz carries, else through `dot` on the PATH."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from graphc.errors import GraphcError

PICTURES = ("svg", "png", "pdf")


class DrawingError(GraphcError):
    """A picture that cannot be made: nothing on this machine lays it out, or the format is unknown."""


MISSING = (
    "a picture needs Graphviz: install pygraphviz (pip install pygraphviz; its wheels carry the library), "
    "or put Graphviz's dot on the PATH"
)


def lay_out(dot: str, picture: str) -> bytes:
    """The picture of a DOT text in one of the formats of PICTURES. Errors: `DrawingError`."""
    try:
        import pygraphviz  # an optional dependency, and a binary library: loaded when a picture is made
    except ImportError:
        program = shutil.which("dot")
        if program is None:
            raise DrawingError(MISSING) from None
        return _run(program, dot, picture)
    with warnings.catch_warnings(), _quiet_libraries():
        warnings.simplefilter("ignore")  # Graphviz's remarks on labels a little too wide
        graph = pygraphviz.AGraph(string=dot)
        graph.layout(prog="dot")
        _centre_labels(graph)
        # nop2 draws with the positions that are there.
        found: bytes = graph.draw(format=picture, prog="nop2")
    return found


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Keep the remarks of C libraries (fontconfig's on the system's configuration) off stderr."""
    try:
        kept = os.dup(2)
    except OSError:  # there is no stderr
        yield
        return
    sink = os.open(os.devnull, os.O_WRONLY)
    try:
        sys.stderr.flush()
        os.dup2(sink, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(sink)


def _run(program: str, dot: str, picture: str) -> bytes:
    result = subprocess.run([program, f"-T{picture}"], input=dot.encode(), capture_output=True, check=False)
    if result.returncode:
        last = result.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
        raise DrawingError(f"dot failed: {last[0]}")
    return result.stdout


def _centre_labels(graph: Any) -> None:
    """Move each label of the class `numbers` up or down onto its edge: the value above the line, its gradient below.

    Graphviz puts a label beside the edge; such a label has its middle where the edge is to go through. It keeps its
    column, where Graphviz has made room for it.
    """
    for edge in graph.edges(keys=True):
        attributes = graph.get_edge(*edge).attr
        if attributes["class"] != "numbers" or not attributes["pos"] or not attributes["lp"]:
            continue
        x = float(attributes["lp"].split(",")[0])
        attributes["lp"] = f"{x:.2f},{_height_at(attributes['pos'], x):.2f}"


def _height_at(spline: str, x: float) -> float:
    """The y of the point of a spline, as Graphviz writes it ("e,x,y x0,y0 x1,y1 ..."), whose x is nearest."""
    text = spline.replace("\\\n", "").replace("\n", "")
    pairs = [piece.split(",") for piece in text.split(";")[0].split()]
    points = [(float(piece[0]), float(piece[1])) for piece in pairs if len(piece) == 2]
    samples: list[tuple[float, float]] = []
    for start in range(0, len(points) - 3, 3):
        piece = points[start : start + 4]
        for step in range(17):
            t = step / 16
            weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
            samples.append(
                (
                    sum(w * p[0] for w, p in zip(weights, piece, strict=True)),
                    sum(w * p[1] for w, p in zip(weights, piece, strict=True)),
                )
            )
    return min(samples, key=lambda sample: abs(sample[0] - x))[1]

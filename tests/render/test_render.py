"""Drawings: formats, labels, numbers on the edges, and that their edges are the graph's."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphc as gc
from graphc.errors import ArgumentError, GradientError
from graphc.ir.graph import Graph
from graphc.render import DrawingError, dot_of, picture_of
from graphc.render.dot import dot_of_picture
from graphc.render.fold import fold
from graphc.render.labels import plain
from graphc.render.layout import lay_out
from graphc.render.page import page_of
from graphc.render.values import number

pygraphviz = pytest.importorskip("pygraphviz")

def gate_graph() -> gc.Tensor:
    x, y, z = gc.input("x"), gc.input("y"), gc.input("z")
    q = x + y
    return (q * z).named("f")


def neuron() -> gc.Tensor:
    w0, x0, w1, x1, w2 = (gc.input(name) for name in ("w0", "x0", "w1", "x1", "w2"))
    return (1 / (1 + gc.exp(-(w0 * x0 + w1 * x1 + w2)))).named("f")


GATES = {"x": -2, "y": 5, "z": -4}
WEIGHTS = {"w0": 2, "x0": -1, "w1": -3, "x1": -2, "w2": -3}


def texts(svg: str) -> list[str]:
    return ["".join(part.itertext()).strip() for part in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.feature("A1")
def test_gate_graph_has_values_and_gradients_on_its_edges() -> None:
    svg = gc.render(gate_graph(), values=GATES)
    found = texts(svg)
    for expected in ("-2", "5", "3", "-12", "1"):
        assert expected in found
    assert found.count("-4") == 4  # the value of z, and the gradients of x, y and q
    assert found.count("3") == 2  # the value of q, and the gradient of z


@pytest.mark.feature("A2")
def test_neuron_has_values_and_gradients_on_its_edges() -> None:
    dot = dot_of(neuron(), values=WEIGHTS)
    for expected in ("0.368", "1.37", "0.731", "0.197", "-0.197", "0.393", "-0.393", "-0.59"):
        assert f">{expected}<" in dot


def test_golden_dot(golden: Callable[[str, str], None]) -> None:
    """In a process of its own: the order of equal operands follows the numbers of all leaves made before."""
    for name, dot in json.loads(run_python(GOLDEN_SCRIPT)).items():
        golden(f"render/{name}.dot", dot)


GOLDEN_SCRIPT = """
import json
import graphc as gc
from graphc.render import dot_of

x, y, z = gc.input("x"), gc.input("y"), gc.input("z")
a1 = ((x + y).named("q") * z).named("f")
w0, x0, w1, x1, w2 = (gc.input(name) for name in ("w0", "x0", "w1", "x1", "w2"))
a2 = (1 / (1 + gc.exp(-(w0 * x0 + w1 * x1 + w2)))).named("f")
single = gc.sigmoid(w0 * x0 + w1 * x1 + w2).named("f")
x, y = gc.input("x"), gc.input("y")
b0, b1, b2, b3, w0, w1, w2, w3 = (gc.input(name) for name in ("b0", "b1", "b2", "b3", "w0", "w1", "w2", "w3"))
f0 = (b0 + w0 * x).named("f0")
h1 = gc.sin(f0).named("h1")
f1 = (b1 + w1 * h1).named("f1")
h2 = gc.exp(f1).named("h2")
f2 = (b2 + w2 * h2).named("f2")
h3 = gc.cos(f2).named("h3")
f3 = (b3 + w3 * h3).named("f3")
l = ((f3 - y) ** 2).named("l")
composed = {"x": 2.3, "y": 2, "b0": 1, "b1": 2, "b2": 3, "b3": 0.4, "w0": 0.1, "w1": -0.7, "w2": 0.6, "w3": -1.3}
gates = {"x": -2, "y": 5, "z": -4}
weights = {"w0": 2, "x0": -1, "w1": -3, "x1": -2, "w2": -3}
print(json.dumps({
    "a1": dot_of(a1, values=gates),
    "a1-backward": dot_of(a1, values=gates, backward=True),
    "a2": dot_of(a2, values=weights),
    "a2-backward": dot_of(a2, values=weights, backward=True),
    "a2-sigmoid": dot_of(single, values=weights),
    "a5": dot_of(l, values=composed),
    "a5-backward": dot_of(l, backward=True),
}))
"""


def run_python(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stderr == ""
    return result.stdout


def test_values_lie_above_and_gradients_below_the_edge() -> None:
    svg = gc.render(gate_graph(), values=GATES)
    places: dict[str, list[tuple[float, float]]] = {}
    for part in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text"):
        place = float(part.get("x", 0)), float(part.get("y", 0))
        places.setdefault("".join(part.itertext()).strip(), []).append(place)
    ((x, y),) = places["-2"]
    below = [(px, py) for px, py in places["-4"] if abs(px - x) < 12 and 0 < py - y < 30]
    assert below  # SVG's y grows downwards


@pytest.mark.parametrize(
    ("suffix", "magic"),
    [("svg", b"<?xml"), ("png", b"\x89PNG"), ("pdf", b"%PDF"), ("dot", b"digraph"), ("gv", b"digraph")],
)
def test_every_format_without_a_path(
    suffix: str, magic: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    path = tmp_path / f"f.{suffix}"
    assert gc.render(neuron(), path, backward=True, values=WEIGHTS) == str(path)
    assert path.read_bytes().lstrip().startswith(magic)


def test_without_graphviz_dot_is_written_and_one_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(sys.modules, "pygraphviz", None)
    with pytest.raises(DrawingError, match="pip install pygraphviz") as caught:
        gc.render(gate_graph(), tmp_path / "f.svg")
    assert "\n" not in str(caught.value)
    assert (tmp_path / "f.dot").read_text().startswith("digraph")
    assert gate_graph()._repr_svg_() is None
    gc.render(gate_graph(), tmp_path / "plain.dot")


def test_unknown_suffix_lists_the_formats() -> None:
    with pytest.raises(ArgumentError, match=r"\.svg, \.png, \.pdf, \.dot, \.gv, \.html"):
        gc.render(gate_graph(), "f.jpeg")


def test_backward_needs_a_scalar() -> None:
    x = gc.input("x", (3,))
    with pytest.raises(GradientError, match="exactly one float scalar"):
        gc.render(gc.exp(x), backward=True)


def test_bad_values_are_named() -> None:
    with pytest.raises(ArgumentError, match=r"'k' is not a leaf.*x, y, z"):
        gc.render(gate_graph(), values={"k": 1})
    with pytest.raises(ArgumentError, match="no value for y, z"):
        gc.render(gate_graph(), values={"x": 1})
    x = gc.input("x", (2,))
    with pytest.raises(ArgumentError, match=r"shape \(2,\)"):
        gc.render(gc.sum(x), values={x: [1, 2, 3]})


def test_scopes_are_nested_clusters_and_ops_are_not_open() -> None:
    x = gc.input("x", ("N", 4))
    with gc.scope("encoder"), gc.scope("layer1"):
        h = gc.softmax(x) + 1
    dot = dot_of(gc.sum(gc.sin(h)), backward=True)
    assert "label=<encoder>" in dot and "label=<layer1>" in dot and "label=<gradients of layer1>" in dot
    assert "label=<softmax>" not in dot and "<b>softmax</b>" in dot


def test_arrays_get_shape_and_statistics() -> None:
    x = gc.input("x", ("N", 3))
    found = texts(gc.render(gc.sum(x * x), values={x: np.arange(6.0).reshape(2, 3)}))
    assert {"(2, 3)", "mean 2.5, std 1.71", "min 0, max 5", "min 0, max 10"} <= set(found)


def test_kinds_differ_in_shape() -> None:
    x = gc.input("x", (2,))
    s = gc.state("s", (2,))
    w = gc.param("w", (2,))
    dot = dot_of(gc.sum(w * x + s * gc.constant(np.arange(2, dtype=np.float32))), backward=True)
    shapes = set(re.findall(r"shape=(\w+)", dot))
    assert {"ellipse", "house", "cylinder", "note", "box", "hexagon"} <= shapes
    for word in ("input", "parameter", "state", "constant", "operation", "gradient"):
        assert f"label={word} " in dot


HOSTILE = [
    '"', "'", "<b>&amp;</b>", "a\\nb\\", "\\N\\G", "\\\\", "x]; evil [", "<", "new\nline", "a&b", "{r|s}", "日本",
    "\x00\x1b",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_shown_as_they_are(name: str, tmp_path: Path) -> None:
    x = gc.input(name)
    with gc.scope(name.replace("/", "|")):
        y = gc.exp(x).named(name)
    loss = gc.sin(y)
    dot = dot_of(loss, backward=True, values={name: 1.0})
    pygraphviz.AGraph(string=dot)
    found = texts(gc.render(loss, backward=True, values={x: 1.0}))
    visible = name if name.isprintable() else name.encode("unicode_escape").decode()
    assert any(visible in text for text in found)
    for suffix in ("png", "pdf"):
        gc.render(loss, tmp_path / f"x.{suffix}", backward=True)


@given(st.text(min_size=1, max_size=12).filter(lambda name: name.strip()))
@settings(max_examples=40)
def test_any_text_is_a_label(name: str) -> None:
    x = gc.input(name)
    loss = gc.sin(gc.exp(x).named(name))
    drawn = picture_of(loss, backward=True, values={name: 1.0})
    pygraphviz.AGraph(string=dot_of_picture(fold(drawn)))
    found = texts(lay_out(dot_of_picture(fold(drawn)), "svg").decode())
    assert any("".join(plain(name).split()) in "".join(text.split()) for text in found)  # Graphviz draws other spaces
    data = page_of(drawn)
    assert data.count("<script") == page_of(picture_of(gc.exp(gc.input("x")))).count("<script")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.367879, "0.368"), (-12.0, "-12"), (-0.0, "0"), (1e-9, "1e-09"), (np.nan, "nan"), (True, "True")],
)
def test_numbers(value: float, text: str) -> None:
    assert number(value) == text


def test_functions_lists_and_graphs_are_drawn() -> None:
    x = gc.input("x")
    y = gc.sin(x)
    assert "<b>sin</b>" in dot_of(gc.compile([x], y))
    assert "<b>cos</b>" in dot_of([y, gc.cos(x)])
    assert "<b>sin</b>" in dot_of(Graph((y.node,)))
    with pytest.raises(TypeError, match="not int"):
        gc.render(3)


def test_render_is_callable_after_its_module_was_imported() -> None:
    code = "import graphc as gc, graphc.render.equations.latex; print(gc.render(gc.input('x') + 1)[:5])"
    assert run_python(code).strip() == "<?xml"


def test_dot_on_the_path_is_used_without_pygraphviz(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "dot"
    program.write_text("#!/bin/sh\necho \"drawn with $1\"\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "pygraphviz", None)
    gc.render(gate_graph(), tmp_path / "f.pdf")
    assert (tmp_path / "f.pdf").read_text() == "drawn with -Tpdf\n"
    program.write_text("#!/bin/sh\necho 'no such font' >&2\nexit 3\n")
    with pytest.raises(DrawingError, match="dot failed: no such font"):
        gc.render(gate_graph(), tmp_path / "f.pdf")

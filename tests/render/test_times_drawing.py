"""The drawing of a profile: its bars are the rows' times, its marks what the roofline allows."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import graphc as gc
from graphc.backend import Machine
from graphc.compiler.profile import Profile, Row
from graphc.errors import ArgumentError
from graphc.render.program.times import (
    BARS,
    CONTRACTION,
    MOST_BARS,
    NARROWEST,
    OTHER,
    duration,
    svg_of_times,
    time_words,
)

SVG = "{http://www.w3.org/2000/svg}"
ROUNDING = 0.011  # coordinates are written with two digits
MACHINE = Machine(2, {"float32": 100e9}, 10e9, 400, "by decree")


def row(name: str, seconds: float, whole: float, kind: str = "loops", roofline: float | None = None) -> Row:
    share = seconds / whole if whole else 0.0
    return Row(name, kind, ("exp", "add"), ("encoder",), "model.py:3", seconds, seconds, share, 10, 40, "fma", roofline)


def profile(seconds: list[float], rooflines: list[float | None] | None = None) -> Profile:
    rooflines = rooflines or [None] * len(seconds)
    rows = [
        row(f"k{n}", s, sum(seconds), "contraction" if n % 2 else "loops", roofline)
        for n, (s, roofline) in enumerate(zip(seconds, rooflines, strict=True))
    ]
    return Profile("step", "llvm", 7, sum(seconds), sum(seconds), tuple(rows), MACHINE)


def bars(svg: str) -> list[tuple[str, float, float, float, str]]:
    """(name, left, top, width, shade) of each bar."""
    found = []
    for rect in ET.fromstring(svg).iter(f"{SVG}rect"):
        if rect.get("class") == "bar":
            x, y, width = (float(rect.get(name, "nan")) for name in ("x", "y", "width"))
            title = str(rect.findtext(f"{SVG}title"))
            found.append((title.split("\n")[0], x, y, width, str(rect.get("fill"))))
    return found


def marks(svg: str) -> list[float]:
    paths = [path for path in ET.fromstring(svg).iter(f"{SVG}path") if path.get("class") == "allowed"]
    return [float(str(path.get("d")).split()[0][1:]) for path in paths]


def texts(svg: str) -> list[str]:
    return [str(text.text) for text in ET.fromstring(svg).iter(f"{SVG}text")]


@given(st.lists(st.floats(0, 10, allow_subnormal=False), min_size=1, max_size=MOST_BARS))
def test_bars_are_as_long_as_their_times(seconds: list[float]) -> None:
    found = bars(svg_of_times(profile(seconds)))
    assert [name for name, *_ in found] == [f"k{n}" for n in range(len(seconds))]
    longest = max(seconds) or 1.0
    for (_, left, _, width, _), time in zip(found, seconds, strict=True):
        assert left == found[0][1] and width == pytest.approx(BARS * time / longest, abs=ROUNDING)
    tops = [top for _, _, top, _, _ in found]
    assert tops == sorted(set(tops))


def test_marks_are_where_the_roofline_says() -> None:
    seconds, rooflines = [4e-5, 2e-5, 1e-5, 1e-8], [0.5, 1.25, None, 0.5]
    svg = svg_of_times(profile(seconds, rooflines))
    left = bars(svg)[0][1]
    expected = [left + BARS * 0.5, left + BARS * 0.5 * 1.25]  # the last bar is too narrow: it says it on hovering
    assert BARS * 1e-8 / 4e-5 < NARROWEST and marks(svg) == pytest.approx(expected, abs=ROUNDING)
    assert "the fma roof allows 20.0 us: 50%" in svg and "black mark" in svg
    assert "black mark" not in svg_of_times(profile(seconds))


def test_a_mark_beyond_the_longest_bar_is_in_the_picture() -> None:
    svg = svg_of_times(profile([1e-3, 1e-5], [2.0, None]))
    (_, left, _, width, _), _ = bars(svg)
    assert width == pytest.approx(BARS / 2, abs=ROUNDING) and marks(svg) == pytest.approx([left + BARS], abs=ROUNDING)


def test_kinds_are_told_apart_in_grey() -> None:
    assert [shade for *_, shade in bars(svg_of_times(profile([1.0, 1.0])))] == [OTHER, CONTRACTION]

    def grey(colour: str) -> float:
        red, green, blue = (int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5))
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue  # luma of ITU-R BT.709

    assert grey(OTHER) - grey(CONTRACTION) > 0.2


def test_labels_and_title() -> None:
    found = profile([3e-6, 1e-6])
    updates = replace(row("updates", 2e-6, 6e-6, "copies"), ops=(), scopes=())
    said = texts(svg_of_times(replace(found, seconds=6e-6, rows=(*found.rows, updates))))
    assert said[0] == "step on llvm, 2 threads: 6.0 us a run, of which 2.0 us outside kernels (median of 7)"
    assert "k0" in said and "encoder: exp, add" in said and "copies" in said and "3.0 us, 75%" in said
    assert texts(svg_of_times(replace(found, machine=None)))[0] == "step on llvm: 4.0 us a run (median of 7)"


def test_the_order_is_the_programs_or_that_of_time() -> None:
    found = profile([1.0, 3.0, 2.0])
    assert [name for name, *_ in bars(found.svg())] == ["k0", "k1", "k2"]
    assert [name for name, *_ in bars(found.svg("time"))] == ["k1", "k2", "k0"]
    with pytest.raises(ArgumentError, match="sort must be one of program, time, not 'name'"):
        found.svg("name")


@pytest.mark.parametrize("sort", ["program", "time"])
def test_the_fastest_of_many_are_one_bar(sort: str) -> None:
    seconds = [1e-3 * (1 + (7 * n) % 200) for n in range(200)]  # each of 1 to 200 ms once
    svg = svg_of_times(profile(seconds), sort)
    found = bars(svg)
    assert len(found) == MOST_BARS
    rest = sorted(seconds)[: 200 - (MOST_BARS - 1)]
    assert found[-1][0] == f"and {len(rest)} more: {duration(sum(rest))}" in texts(svg)
    assert found[-1][3] == pytest.approx(BARS, abs=ROUNDING)  # it is the longest here
    times = {f"k{n}": time for n, time in enumerate(seconds)}
    shown = [name for name, *_ in found[:-1]]
    assert min(times[name] for name in shown) > max(rest)
    key = (lambda name: -times[name]) if sort == "time" else (lambda name: int(name[1:]))
    assert shown == sorted(shown, key=key)
    assert len(bars(svg_of_times(profile(seconds[:MOST_BARS])))) == MOST_BARS


def test_by_scope_there_is_a_bar_for_each_part_and_no_mark() -> None:
    svg = profile([1.0, 2.0], [0.5, 0.5]).by_scope().svg()
    assert [(name, width) for name, _, _, width, _ in bars(svg)] == [("encoder", BARS)]
    assert "2 kernels" in texts(svg) and not marks(svg)


def test_any_name_is_legal_xml() -> None:
    name = "<&\"'\x00\x1b☃ " + "long" * 40
    one = replace(row(name, 1.0, 1.0), ops=(name,), scopes=("]]>",), where=name)
    svg = svg_of_times(Profile(name, "<b>", 1, 1.0, 1.0, (one, replace(one, name="<&>")), None))
    assert "<&>" in texts(svg) and "\x00" not in svg and "<&" not in svg and "<b>" not in svg


def test_nothing_to_draw_is_drawn() -> None:
    empty = Profile("step", "numpy", 1, 0.0, 0.0, (), None)
    assert bars(empty.svg()) == [] and texts(empty.svg())[0].startswith("step on numpy: 0.00 us")
    assert [width for _, _, _, width, _ in bars(profile([0.0, 0.0]).svg())] == [0.0, 0.0]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.00 us"),
        (4e-8, "0.04 us"),
        (1.234e-6, "1.2 us"),
        (9.999e-4, "999.9 us"),
        (0.0123, "12.30 ms"),
        (75, "75.00 s"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_shares() -> None:
    assert time_words(1e-6, 0.4148) == "1.0 us, 41%" and time_words(1e-6, 0.0123) == "1.0 us, 1.2%"
    assert time_words(1e-6, 0.0949) == "1.0 us, 9.5%" and time_words(1e-6, 0.0951) == "1.0 us, 10%"


def test_saved_and_shown(tmp_path: Path) -> None:
    x = gc.input("x", (3, 4))
    step = gc.compile([x], gc.exp(x @ gc.param("w", (4, 2), init=0.5)), backend="numpy", name="step")
    found = step.profile(np.ones((3, 4), "float32"), repeats=1)
    path = found.save(tmp_path / "times.SVG")
    assert Path(path).read_text(encoding="utf-8") == found.svg() == found._repr_svg_()
    found.save(tmp_path / "slowest.svg", "time")
    assert [name for name, *_ in bars(found.svg())] == [kernel.name for kernel in step.program.kernels]
    with pytest.raises(ArgumentError, match=r"profile: the drawing is SVG; .* does not end in \.svg"):
        found.save(tmp_path / "times.png")
    with pytest.raises(OSError):
        found.save(tmp_path / "nowhere" / "times.svg")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["slowest.svg", "times.SVG"]

"""The program of docs/embedding.md builds without a warning and prints what the page says; its tables are complete."""

from __future__ import annotations

import re
from pathlib import Path

from graphc_llvm.export_interface import STATUS
from tests.backends.llvm.export_support import compiled, output_of

PAGE = Path(__file__).parents[2] / "docs" / "embedding.md"


def test_the_page_shows_what_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text(encoding="utf-8")
    code = re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL)
    python, c, said = (next(body for kind, body in code if kind == wanted) for wanted in ("python", "c", "text"))
    names: dict = {}
    exec(python, names)
    assert [Path(path).name for path in names["files"]] == ["tiny.o", "tiny.h", "tiny.a", "libtiny.so"]
    program = compiled(tmp_path, c, "-std=c99", "-Ibuild", objects=["build/tiny.o"])
    assert output_of([program]).decode() == said


def test_the_page_names_every_status_and_function(tmp_path):
    text = PAGE.read_text(encoding="utf-8")
    for name, _ in STATUS[1:]:
        assert f"P_{name}" in text or f"`{name.removeprefix('WORKSPACE')}`" in text, name

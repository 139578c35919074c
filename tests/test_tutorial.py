"""The tutorial: each chapter is run from its first block to its last, and prints what stands in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools.tutorial import FOLDER, chapters, run, shape_of

# What a chapter's training must reach, by the name that its code gives it. The figures in the text are of one run.
BOUNDS: dict[str, dict[str, float]] = {}


@pytest.mark.parametrize("path", chapters(), ids=lambda path: path.stem)
def test_chapter_prints_what_stands_in_it(path: Path, tmp_path: Path) -> None:
    chapter = run(path, tmp_path)
    different = chapter.differences()
    assert not different, "\n\n".join([*different, "If the change is meant: python -m tools.tutorial --update"])
    for name, least in BOUNDS.get(path.stem, {}).items():
        assert chapter.names[name] >= least, name


def test_numbers_of_a_training_stand_for_any_numbers() -> None:
    assert shape_of("epoch 1  loss 0.31,  1,234 rows") == shape_of("epoch 12 loss 3e-05, 9 rows")
    assert shape_of("loss 0.31") != shape_of("loss nan")


def test_every_chapter_is_on_the_page_of_contents_and_leads_to_the_next() -> None:
    contents = (FOLDER / "README.md").read_text(encoding="utf-8")
    names = [path.name for path in chapters()]
    assert re.findall(r"\((\d-[\w-]+\.md)\)", contents) == names
    for path, following in zip(chapters(), names[1:], strict=False):
        assert f"]({following})" in path.read_text(encoding="utf-8"), path.name


def test_every_file_is_shown_by_a_chapter() -> None:
    shown = {name for path in chapters() for name in re.findall(r"^# (\w+\.py)$", path.read_text(encoding="utf-8"), re.M)}
    assert {path.name for path in FOLDER.glob("*.py")} == shown

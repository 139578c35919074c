"""The tutorial: each chapter is run from its first block to its last, and prints what stands in it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tools.tutorial import FOLDER, ROOT, chapters, shape_of

FILE = re.compile(r"^(?:# |/\* )(\w+\.(?:py|c))(?: \*/)?$", re.M)


def run(number: str, folder: Path) -> None:
    """Run a chapter in a folder, in a process of its own: a node has the name that it got first."""
    command = [sys.executable, "-m", "tools.tutorial", "--folder", str(folder), number]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{result.stdout}\n{result.stderr}\nIf the change is meant: make tutorial"


@pytest.mark.parametrize("path", chapters()[:-1], ids=lambda path: path.stem)
def test_chapter_prints_what_stands_in_it(path: Path, tmp_path: Path) -> None:
    run(path.name[0], tmp_path)


def test_last_chapter_prints_what_stands_in_it_and_leaves_a_program_that_reads_digits(
    tmp_path: Path, requires_tool: Callable[..., str]
) -> None:
    run("6", tmp_path)
    compiler = requires_tool("cc", "the chapter has run")
    options = ["-std=c11", "-Wall", "-Werror", "read.c", "digits.o", "-lm", "-o", "read"]
    subprocess.run([compiler, *options], cwd=tmp_path, check=True)
    image = (tmp_path / "image.txt").read_text()
    read = subprocess.run(["./read"], input=image, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    page = (FOLDER / "6-cnn.md").read_text(encoding="utf-8")
    assert f"argmax())\n```\n\n```text\n{read}```" in page


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
    shown = {name for path in chapters() for name in FILE.findall(path.read_text(encoding="utf-8"))}
    assert {path.name for path in FOLDER.iterdir() if path.suffix in (".py", ".c")} == shown

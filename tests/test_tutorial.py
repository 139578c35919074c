"""The tutorial: each chapter is run from its first block to its last, and prints what stands in it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable

import pytest

from tools.tutorial import FOLDER, Chapter, chapters, run, shape_of

# What a chapter's training must reach, by the name that its code gives it. The figures in the text are of one run.
BOUNDS = {"5-training": {"by_hand": 0.95, "fitted": 0.97}, "6-cnn": {"accuracy": 0.985}}


@pytest.fixture(scope="module")
def chapter(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Chapter:
    """A chapter that was run, with its folder."""
    return run(FOLDER / f"{request.param}.md", tmp_path_factory.mktemp(request.param))


@pytest.mark.parametrize("chapter", [path.stem for path in chapters()], indirect=True)
def test_chapter_prints_what_stands_in_it(chapter: Chapter) -> None:
    different = chapter.differences()
    assert not different, "\n\n".join([*different, "If the change is meant: make tutorial"])
    for name, least in BOUNDS.get(chapter.path.stem, {}).items():
        assert chapter.names[name] >= least, name


@pytest.mark.parametrize("chapter", ["6-cnn"], indirect=True)
def test_the_c_program_reads_digits_as_python_does(chapter: Chapter, requires_tool: Callable[..., str]) -> None:
    compiler = requires_tool("cc")
    options = ["-std=c11", "-Wall", "-Werror", "read.c", "digits.o", "-lm", "-o", "read"]
    subprocess.run([compiler, *options], cwd=chapter.folder, check=True)
    images = chapter.names["test_x"][:5]
    for image, scores in zip(images, chapter.names["predict"](images), strict=True):
        pixels = " ".join(map(str, image.ravel()))
        result = subprocess.run(["./read"], input=pixels, cwd=chapter.folder, capture_output=True, text=True, check=True)
        assert int(result.stdout) == scores.argmax()


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
    shown = {name for path in chapters() for name in re.findall(r"^(?:# |/\* )(\w+\.(?:py|c))(?: \*/)?$", path.read_text(encoding="utf-8"), re.M)}
    assert {path.name for path in FOLDER.iterdir() if path.suffix in (".py", ".c")} == shown

"""The pictures of docs/: those that pages name exist, each is made by the table, and none is out of date."""

from __future__ import annotations

import re
import shlex

import pytest

from tools.pictures import DOCS, FOLDER, SOURCES, TUTORIAL, Row, hash_of, known_hashes, rows

LARGEST = 3 * 2**20  # bytes of the whole folder: a clone should not be large for pictures
STEP = re.compile(r"-\d+(?=\.\w+$)")  # the number before the suffix, of a picture of one step


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.file)
def test_picture_is_of_what_the_tool_draws_today(row: Row) -> None:
    assert known_hashes().get(row.file) == hash_of(row), f"{row.file} is out of date: make pictures"


def test_pages_and_folder_hold_the_same_pictures() -> None:
    linked = {
        (page.parent / target).resolve()
        for page in DOCS.rglob("*.md")
        for target in re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    }
    held = {path for path in FOLDER.iterdir() if path != SOURCES}
    assert linked == held
    assert {STEP.sub("", path.name) if "-step-" in path.name else path.name for path in held} == {
        row.file for row in rows()
    }
    assert [line.split(maxsplit=1)[1].split() for line in SOURCES.read_text(encoding="utf-8").splitlines()] == [
        [row.file, *row.arguments] for row in rows()
    ]


def test_chapters_show_the_commands_of_the_table() -> None:
    shown = [
        shlex.split(command)
        for page in sorted(TUTORIAL.glob("*.md"))
        for command in re.findall(r"^\$ (graphc render .*)$", page.read_text(encoding="utf-8"), re.M)
    ]
    # `-o FILE` may stand anywhere in a command.
    made = {tuple(sorted(words)) for words in shown}
    assert [row.file for row in rows() if tuple(sorted(row.command)) not in made] == []


def test_pictures_tell_no_folders_and_are_small() -> None:
    held = list(FOLDER.iterdir())
    assert sum(path.stat().st_size for path in held) < LARGEST
    texts = {path.name: path.read_text(encoding="utf-8") for path in held if path.suffix == ".svg"}
    # A tooltip tells the line where a node was made; its file must be named without a folder.
    places = {place for text in texts.values() for place in re.findall(r"([^\s;>]*):\d+\"", text)}
    assert places and not [place for place in places if not re.fullmatch(r"\w+\.py", place)]
    assert not [name for name, text in texts.items() if "/tmp" in text]

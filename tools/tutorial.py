"""Run the chapters of docs/tutorial and compare what they print with what stands in them: `make tutorial`.

    python -m tools.tutorial                       compare all chapters
    python -m tools.tutorial --update              write what was printed into them
    python -m tools.tutorial --update 1 3          chapters 1 and 3 alone
    python -m tools.tutorial --folder FOLDER 6     run chapter 6 in FOLDER, and leave there what it writes

A chapter is run in a folder that has the files of all chapters, from its first block to its last, in a process of its
own, and each command in one of its own: names and drawings are those that a reader gets.

    ```python      is run; all such blocks of a chapter share their names. One whose first line is a comment with the
                   name of a file, `# gate.py`, is that file: it is written into the folder, and stands beside the
                   chapter.
    ```c           is such a file, `/* read.c */`.
    ```console     has lines `$ graphc ...`, which are run, each with what it prints below it; `> FILE` sends that
                   into a file.
    ```text        directly after one of these has what the block, or its last command, prints; so have
    ```math        one or more of them, an environment of the equations each; and
    ```python      below the line <!-- printed -->.

Below the line <!-- approximate --> numbers stand for any numbers, as times and losses of a training do.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import io
import linecache
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.commands import graphc

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "tutorial"
# What trainings must reach, by the names that chapters give it; the figures in the text are those of one run.
LEAST = {"5-training": {"by_hand": 0.95, "fitted": 0.97}, "6-cnn": {"accuracy": 0.985}}
_BLOCK = re.compile(r"(?:^<!-- (\w+) -->\n)?^```(\w+)\n(.*?)^```$", re.M | re.S)
_FILE = re.compile(r"(?:# (?=\w+\.py\n)|/\* (?=\w+\.c ))(\w+\.\w+)")
_NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")
_PROMPT = "$ "


@dataclass
class Block:
    """One fenced block, or several of mathematics that hold one output. note: of the comment above it."""

    start: int
    end: int
    note: str
    kind: str
    body: str
    printed: str | None = None  # what should stand there, after the chapter was run

    @property
    def file(self) -> str | None:
        found = None if self.is_output else _FILE.match(self.body)
        return found[1] if found else None

    @property
    def is_output(self) -> bool:
        return self.kind in ("text", "math") or self.note == "printed"

    @property
    def is_good(self) -> bool:
        if self.printed is None or self.printed == self.body:
            return True
        return self.note == "approximate" and shape_of(self.printed) == shape_of(self.body)

    def markdown(self) -> str:
        """The block with what was printed."""
        assert self.printed is not None
        note = f"<!-- {self.note} -->\n" if self.note else ""
        parts = self.printed.split("\n\n") if self.kind == "math" else [self.printed]
        return note + "\n\n".join(f"```{self.kind}\n{part.rstrip()}\n```" for part in parts)


@dataclass
class Chapter:
    """A chapter that was run: its text, its blocks, and the names that its code has defined."""

    path: Path
    text: str
    blocks: list[Block]
    names: dict[str, Any] = field(default_factory=dict)
    code: str = ""  # all that was run, as one script

    def differences(self) -> list[str]:
        """Where something else stands than was printed or a file holds, and what a training has not reached."""
        found = []
        for block in self.blocks:
            line = self.text.count("\n", 0, block.start) + 1
            if not block.is_good and block.printed is not None:
                found.append(_difference(f"{self.path.name}:{line}", block.body, block.printed))
            if block.file is not None:
                copy = self.path.with_name(block.file)
                there = copy.read_text(encoding="utf-8") if copy.is_file() else ""
                if there != block.body:
                    found.append(_difference(str(copy.name), there, block.body))
        for name, least in LEAST.get(self.path.stem, {}).items():
            if not self.names[name] >= least:
                found.append(f"{self.path.name}: {name} is {self.names[name]}, less than {least}")
        return found

    def update(self) -> None:
        """Write what was printed into the chapter, and the files that it shows beside it."""
        text = self.text
        for block in reversed(self.blocks):
            if not block.is_good:
                text = text[: block.start] + block.markdown() + text[block.end :]
            if block.file is not None:
                self.path.with_name(block.file).write_text(block.body, encoding="utf-8", newline="\n")
        self.path.write_text(text, encoding="utf-8", newline="\n")


def shape_of(text: str) -> list[str]:
    """The words of a text, with any number for each number."""
    return _NUMBER.sub("0", text).split()


def chapters() -> list[Path]:
    """The chapters in their order."""
    return sorted(FOLDER.glob("[0-9]-*.md"))


def blocks_of(text: str) -> list[Block]:
    """The fenced blocks; mathematics that follows mathematics is one output with it."""
    found: list[Block] = []
    for match in _BLOCK.finditer(text):
        block = Block(match.start(), match.end(), match[1] or "", match[2], match[3])
        last = found[-1] if found else None
        if last and last.kind == block.kind == "math" and not text[last.end : block.start].strip():
            last.body, last.end = f"{last.body}\n{block.body}", block.end
        else:
            found.append(block)
    return found


def run(path: Path, folder: Path) -> Chapter:
    """Run a chapter in a folder, and stay there. What its code raises, is raised."""
    text = path.read_text(encoding="utf-8")
    chapter = Chapter(path, text, blocks_of(text))
    for model in FOLDER.glob("*.py"):
        shutil.copy(model, folder)
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    for number, block in enumerate(chapter.blocks):
        if block.is_output:
            continue
        follower = chapter.blocks[number + 1] if number + 1 < len(chapter.blocks) else None
        is_told = follower is not None and follower.is_output and not text[block.end : follower.start].strip()
        if block.file is not None:
            (folder / block.file).write_text(block.body, encoding="utf-8")
            continue
        if block.kind == "console":
            printed = _run_commands(block, is_told)
        elif block.kind == "python":
            printed = _run_code(chapter, block.body)
        else:
            raise ValueError(f"{path.name}: a block of {block.kind} cannot be run")
        if is_told and follower is not None:
            follower.printed = printed
        elif printed:
            raise ValueError(f"{path.name}: a block prints, but no block with that follows it:\n{block.body}")
    return chapter


def _run_commands(block: Block, is_told: bool) -> str:
    """Run the commands and note what should stand below each. Returns the output of the last, if it is told apart."""
    commands = [line for line in block.body.splitlines() if line.startswith(_PROMPT)]
    lines: list[str] = []
    for command in commands:
        words = shlex.split(command.removeprefix(_PROMPT), comments=True)
        target = None
        if ">" in words:
            target = words[words.index(">") + 1]
            words = words[: words.index(">")]
        if words[0] != "graphc":
            raise ValueError(f"only graphc is run here: {command}")
        printed = graphc(words[1:], Path.cwd())
        if target is not None:
            Path(target).write_text(printed, encoding="utf-8")
            printed = ""
        lines.append(command + "\n")
        if command is not commands[-1] or not is_told:
            lines.append(printed)
    block.printed = "".join(lines)
    return printed if is_told else ""


def _run_code(chapter: Chapter, code: str) -> str:
    """Run a block as the next lines of a script; its lines name the nodes, and stand in errors."""
    name = f"chapter{chapter.path.name[0]}.py"
    before = chapter.code
    chapter.code += code
    linecache.cache[name] = (len(chapter.code), None, chapter.code.splitlines(True), name)
    with contextlib.redirect_stdout(io.StringIO()) as stream:
        exec(compile("\n" * before.count("\n") + code, name, "exec"), chapter.names)
    return stream.getvalue()


def _difference(name: str, there: str, made: str) -> str:
    lines = difflib.unified_diff(there.splitlines(), made.splitlines(), name, "printed now", lineterm="")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Run the chapters of the tutorial.")
    parser.add_argument("--update", action="store_true", help="write what was printed into the chapters")
    parser.add_argument("--folder", type=Path, help="where one chapter is run (default: a temporary one)")
    parser.add_argument("numbers", nargs="*", metavar="N", help="of chapters (default: all)")
    given = parser.parse_args(arguments)
    numbers = given.numbers or [path.name[0] for path in chapters()]
    if len(numbers) > 1:
        options = ["--update"] if given.update else []
        command = [sys.executable, "-m", "tools.tutorial", *options]
        return max([subprocess.run([*command, number], cwd=ROOT, check=False).returncode for number in numbers])
    (path,) = (path for path in chapters() if path.name.startswith(numbers[0]))
    with tempfile.TemporaryDirectory() as temporary:
        chapter = run(path, (given.folder or Path(temporary)).resolve())
        os.chdir(ROOT)
    found = chapter.differences()
    if given.update:
        chapter.update()
    print("\n".join([f"{path.name}: {len(found)} differences", *found]), flush=True)
    return 1 if found and not given.update else 0


if __name__ == "__main__":
    sys.exit(main())

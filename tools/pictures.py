"""Make the pictures of docs/pictures: `make pictures`.

    python -m tools.pictures               all of them
    python -m tools.pictures gate lenet    those whose names begin so

Each is made by the command `graphc render SPEC -o FILE OPTIONS` in the folder docs/tutorial, which has the files that
the SPECs name; the chapters there show the same commands. Beside the pictures, sources.txt keeps a hash of the DOT text
behind each (of the drawing itself, where it is made without DOT), so that a test can tell a picture that is out of date
without looking at pixels: `tests/test_pictures.py`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tools.commands import graphc

DOCS = Path(__file__).parents[1] / "docs"
TUTORIAL = DOCS / "tutorial"
FOLDER = DOCS / "pictures"
SOURCES = FOLDER / "sources.txt"
MEASURED = "measured"  # in the place of a hash: times are those of one run on one machine

# FILE, SPEC and options, in the order of the chapters. The file of a row with --steps is a picture for each step.
TABLE = """
gate.png              gate.py:f --values x=-2,y=5,z=-4
gate-step.svg         gate.py:f --values x=-2,y=5,z=-4 --steps
gate-backward.png     gate.py:f --backward
patterns.svg          patterns.py:f --values x=3,y=-4,z=2,w=-1
copy.svg              patterns.py:g --values x=3
neuron.png            neuron.py:f --values w0=2,x0=-1,w1=-3,x1=-2,w2=-3
sigmoid.png           neuron.py:s --values w0=2,x0=-1,w1=-3,x1=-2,w2=-3
neuron-backward.png   neuron.py:f --backward
rewrite.svg           rewrite.py:f --diff stabilise
composed.png  composed.py:loss --values x=2.3,y=2,b0=1,b1=2,b2=3,b3=0.4,w0=0.1,w1=-0.7,w2=0.6,w3=-1.3 --direction TB
composed-backward.png composed.py:loss --backward
mlp-forward.svg       mlp.py:loss
mlp.png               mlp.py:loss --backward --direction TB
step.png              steps.py:step --direction TB
step-program.png      steps.py:step --level program --profile --size N=64
step-time.svg         steps.py:step --level time --size N=64
step-memory.svg       steps.py:step --level memory --size N=64
lenet-folded.svg      lenet.py:loss --depth 0 --direction TB
lenet.png             lenet.py:loss --depth 1
lenet-backward.png    lenet.py:loss --backward --direction TB
vgg19.png             vgg19.py:loss --backward
"""


@dataclass(frozen=True)
class Row:
    """A row of the table."""

    file: str
    arguments: tuple[str, ...]

    @property
    def command(self) -> list[str]:
        """The words of the command that makes it."""
        return ["graphc", "render", self.arguments[0], "-o", self.file, *self.arguments[1:]]

    @property
    def is_measured(self) -> bool:
        return "--profile" in self.arguments or "time" in self.arguments

    @property
    def source(self) -> str:
        """The file that the hash is of."""
        return self.file if "memory" in self.arguments else str(Path(self.file).with_suffix(".dot"))


def rows() -> list[Row]:
    """The table."""
    return [Row(file, tuple(words)) for file, *words in (line.split() for line in TABLE.strip().splitlines())]


def make(row: Row, file: str) -> dict[str, bytes]:
    """What the command of a row makes when it writes into `file`: the content of each file by name.

    Tooltips tell the line of a file where a node was made; the folder before the file's name is left out.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        for model in TUTORIAL.glob("*.py"):
            shutil.copy(model, folder)
        models = set(folder.iterdir())
        graphc(["render", row.arguments[0], "-o", file, *row.arguments[1:]], folder)
        prefix = f"{folder}{os.sep}".encode()
        return {
            path.name: path.read_bytes().replace(prefix, b"")
            for path in sorted(set(folder.iterdir()) - models)
            if path.is_file()  # and no __pycache__
        }


def hash_of(row: Row) -> str:
    """Of the DOT text behind a picture, or all its steps."""
    if row.is_measured:
        return MEASURED
    made = make(row, row.source)
    return hashlib.sha256(b"".join(made[name] for name in sorted(made))).hexdigest()[:16]


def known_hashes() -> dict[str, str]:
    """The hash of each row's file, as sources.txt tells it."""
    if not SOURCES.is_file():
        return {}
    return {file: found for found, file, *_ in (line.split() for line in SOURCES.read_text().splitlines())}


def main(names: list[str]) -> int:
    hashes = known_hashes()
    for row in rows():
        if names and not row.file.startswith(tuple(names)):
            continue
        for file, content in make(row, row.file).items():
            (FOLDER / file).write_bytes(content)
            print(f"{file}  {len(content):,} bytes")
        hashes[row.file] = hash_of(row)
    lines = [f"{hashes[row.file]:16}  {row.file}  {' '.join(row.arguments)}\n" for row in rows() if row.file in hashes]
    SOURCES.write_text("".join(lines), encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The page docs/features.md, made of the marks of collected tests."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import pytest

from tests.features.rows import ROWS, SECTIONS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "features.md"
HOW = "python -m tools.features (make features) writes it"

Found = Mapping[str, Collection[str]]
"""For each row that a mark names, the ids of the tests that show it."""

COLLECTED = pytest.StashKey[dict[str, list[str]]]()
"""What the session collected, before -k and -m leave anything out."""
PROPERTY = "feature"
"""The name under which reports carry the rows of a test."""

INTRODUCTION = """\
# What can be expressed, and what shows it

Each row is a piece of the field that graphc serves: it can be declared, compiled on every backend and differentiated.
Beside it stand the tests that show it, as paths below tests/, and how many of them passed. `make features` runs them
and writes this page; a test of the suite compares it with the tests that there are. Figures that take minutes, or data
of one's own, are left to tests/examples/full_size_*.py and are not counted; the rows name the command that runs them.
"""


def note(config: pytest.Config, items: Iterable[pytest.Item]) -> None:
    """Keep in the session, and in each test's reports, which rows the tests show."""
    found: dict[str, list[str]] = {}
    for item in items:
        for row in sorted({row for mark in item.iter_markers("feature") for row in mark.args}):
            found.setdefault(row, []).append(item.nodeid)
            item.user_properties.append((PROPERTY, row))
    config.stash[COLLECTED] = found


def page_of(found: Found, failed: Collection[str] = ()) -> str:
    """The page; `failed`: ids of tests that did not pass. Nothing in it depends on time or machine."""
    parts = [INTRODUCTION]
    for section, title in SECTIONS.items():
        parts.append(f"## {section}. {title}\n")
        lines = ["| row | what | tests | result |", "|---|---|---|---|"]
        for row in (row for row in ROWS if row.section == section):
            what, tests = row.what.replace("|", r"\|"), found.get(row.id, ())
            lines.append(f"| {row.id} | {what} | {_folded(tests)} | {_result(tests, failed)} |")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def problems(found: Found, failed: Collection[str] = ()) -> list[str]:
    """What keeps the page from being all green, in words."""
    known = {row.id for row in ROWS}
    missing = [f"no test shows {row.id}: {row.what}" for row in ROWS if not found.get(row.id)]
    foreign = [f"{test} shows {row!r}, which is no row" for row in found if row not in known for test in found[row]]
    return [*missing, *foreign, *(f"{test} did not pass" for test in sorted(failed))]


def files_on(page: str) -> set[str]:
    """The files of tests that a page names, from the root of the repository."""
    return {f"tests/{name}" for name in re.findall(r"`([\w/]+\.py)::", page)}


def _folded(tests: Iterable[str]) -> str:
    """Functions, each with the number of its parameters: "nn/test_init.py::test_orthogonal (4)"."""
    counts = Counter(test.split("[")[0].removeprefix("tests/") for test in tests)
    return "<br>".join(f"`{name}`" + (f" ({n})" if n > 1 else "") for name, n in sorted(counts.items()))


def _result(tests: Collection[str], failed: Collection[str]) -> str:
    if not tests:
        return "no test"
    count = sum(test in failed for test in tests)
    return f"{count} of {len(tests)} failed" if count else f"{len(tests)} passed"

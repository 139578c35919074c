"""docs/features.md lists the tests that there are: every row has one, and every mark names a row."""

from __future__ import annotations

import difflib

import pytest

from tests.features.rows import IDS, ROWS, SECTIONS
from tests.features.table import COLLECTED, HOW, PAGE, PROPERTY, ROOT, files_on, page_of, problems
from tools.features import Outcomes


@pytest.fixture
def whole(request):
    """What was collected, where nothing that the page names was left out."""
    found = request.config.stash[COLLECTED]
    present = {item.nodeid.split("::")[0] for item in request.session.items}
    named = files_on(PAGE.read_text(encoding="utf-8")) if PAGE.is_file() else set()
    absent = sorted(file for file in named - present if (ROOT / file).is_file())
    if absent:
        # Where all tests are collected nothing is absent, so that the whole suite never skips.
        pytest.skip(f"only a part of the tests was collected, without {absent[0]}, for example")
    return found


def test_rows_have_one_id_each_and_a_section():
    assert len(ROWS) == len(IDS) and {row.section for row in ROWS} == set(SECTIONS)


def test_every_mark_names_a_row(request):
    found = request.config.stash[COLLECTED]
    assert set(found) <= IDS, problems({row: found[row] for row in set(found) - IDS})[-1]


def test_every_row_has_a_test(whole):
    assert problems(whole) == []


def test_the_page_lists_the_tests_that_there_are(whole):
    assert PAGE.is_file(), f"there is no docs/features.md: {HOW}"
    page, now = PAGE.read_text(encoding="utf-8"), page_of(whole)
    if page != now:
        lines = difflib.unified_diff(page.splitlines(), now.splitlines(), "docs/features.md", "now", lineterm="", n=0)
        pytest.fail("\n".join(lines) + f"\n\ndocs/features.md is not of today: {HOW}", pytrace=False)


def test_a_page_folds_parameters_and_tells_what_failed():
    found = {"A1": ["tests/a/test_x.py::test_y[1]", "tests/a/test_x.py::test_y[2]", "tests/b.py::test_z"], "A2": []}
    lines = page_of(found, {"tests/b.py::test_z"}).splitlines()
    [first] = [line for line in lines if line.startswith("| A1 |")]
    assert first.endswith(" | `a/test_x.py::test_y` (2)<br>`b.py::test_z` | 1 of 3 failed |")
    assert next(line for line in lines if line.startswith("| A2 |")).endswith(" |  | no test |")
    assert files_on("\n".join(lines)) == {"tests/a/test_x.py", "tests/b.py"}
    told = problems(found | {"A0": ["tests/c.py::test_c"]}, {"tests/b.py::test_z"})
    assert told[0].startswith("no test shows A2: ") and len(told) == len(ROWS) - 1 + 2
    assert told[-2:] == ["tests/c.py::test_c shows 'A0', which is no row", "tests/b.py::test_z did not pass"]
    assert page_of(found, {"tests/b.py::test_z"}) == page_of(dict(reversed(found.items())), {"tests/b.py::test_z"})


def test_what_is_skipped_or_fails_anywhere_did_not_pass():
    outcomes = Outcomes()
    given = {
        "good": ["passed"] * 3,
        "skipped": ["skipped", None, "passed"],
        "failing": ["passed", "failed", "passed"],
        "untidy": ["passed", "passed", "failed"],
    }
    for name, found in given.items():
        for when, outcome in zip(("setup", "call", "teardown"), found, strict=True):
            if outcome is not None:
                shown = [(PROPERTY, "A1")]
                report = pytest.TestReport(name, (name, 1, name), {}, outcome, None, when, user_properties=shown)
                outcomes.pytest_runtest_logreport(report)
    assert outcomes.found == {"A1": list(given)}
    assert outcomes.failed == {"skipped", "failing", "untidy"}

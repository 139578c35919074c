"""Run the tests that show the rows of docs/features.md and write that page: `make features`.

    python -m tools.features                     all marked tests
    python -m tools.features -n 2                further arguments are pytest's

The page is written whatever happens; exits with 1 where a row has no test, or a test did not pass.
"""

from __future__ import annotations

import sys

import pytest

from tests.features.table import PAGE, PROPERTY, ROOT, page_of, problems


class Outcomes:
    """A plugin of pytest: which rows each test shows, and which tests did not pass."""

    def __init__(self) -> None:
        self.found: dict[str, list[str]] = {}
        self.failed: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "setup":
            for row in (value for name, value in report.user_properties if name == PROPERTY):
                self.found.setdefault(str(row), []).append(report.nodeid)
        if not report.passed:  # a skipped test shows nothing
            self.failed.add(report.nodeid)


def main(arguments: list[str]) -> int:
    outcomes = Outcomes()
    status = pytest.main([str(ROOT / "tests"), "-q", "-m", "feature", *arguments], plugins=[outcomes])
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        return int(status)
    PAGE.write_text(page_of(outcomes.found, outcomes.failed), encoding="utf-8", newline="\n")
    found = problems(outcomes.found, outcomes.failed)
    print("\n".join(found or [f"{PAGE.relative_to(ROOT)}: every row is shown, every test passed"]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

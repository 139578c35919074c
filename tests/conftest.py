"""What all tests share: golden files, tools that may be missing, hypothesis profiles, rows of the features table."""

from __future__ import annotations

import difflib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest

from tests.features import table

# Before graphc is imported, and for the processes that tests start: each test compiles for itself, and none writes to
# the user's cache. Tests of the cache have one of their own.
os.environ["GRAPHC_CACHE"] = "0"

GOLDEN = Path(__file__).parent / "golden"
IN_CI = os.environ.get("CI", "").lower() in {"1", "true"}

collect_ignore = ["golden"]  # goldens may be Python text

# A profile named on the command line (--hypothesis-profile) wins over the one that is loaded here.
hypothesis.settings.register_profile("default", deadline=None, max_examples=50, print_blob=True)
hypothesis.settings.register_profile("ci", hypothesis.settings.get_profile("default"), derandomize=True)
hypothesis.settings.register_profile(
    "thorough", hypothesis.settings.get_profile("default"), max_examples=1000
)
hypothesis.settings.load_profile("ci" if IN_CI else "default")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite the files in tests/golden")


@pytest.hookimpl(tryfirst=True)  # before -k and -m leave tests out
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    table.note(config, items)


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """`golden("matmul.ir", text)` compares text with tests/golden/matmul.ir; --update-golden rewrites it."""
    is_update = bool(request.config.getoption("--update-golden", default=False))

    def compare(name: str, text: str) -> None:
        path = GOLDEN / name
        if is_update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
            return
        if not path.is_file():
            pytest.fail(f"there is no tests/golden/{name}: make it with --update-golden", pytrace=False)
        expected = path.read_text(encoding="utf-8")
        if text != expected:
            diff = difflib.unified_diff(
                expected.splitlines(), text.splitlines(), f"tests/golden/{name}", "now", lineterm=""
            )
            message = "\n".join(diff) or "the texts differ in the ends of their lines"
            pytest.fail(f"{message}\n\nIf the change is meant: pytest --update-golden", pytrace=False)

    return compare


def requires_tool(name: str, reason: str = "") -> str:
    """The full path of a program; skips the test when it is missing, and fails it under CI=true.

    Take it as a fixture, `def test_link(requires_tool): gcc = requires_tool("gcc")`, or import it from
    tests.conftest.
    """
    path = shutil.which(name)
    if path is None:
        message = f"needs {name}, which is not on the PATH" + (f": {reason}" if reason else "")
        if IN_CI:
            pytest.fail(message, pytrace=False)
        pytest.skip(message)
    return path


@pytest.fixture(name="requires_tool")
def _requires_tool() -> Callable[..., str]:
    return requires_tool

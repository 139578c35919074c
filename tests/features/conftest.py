"""The tests of calculus say their row in their names: test_a7_along_a_circle shows A7."""

from __future__ import annotations

import re

import pytest


def pytest_itemcollected(item: pytest.Item) -> None:
    found = re.match(r"test_a(\d+)_", item.name)
    if found and item.path.name == "test_calculus.py":
        item.add_marker(pytest.mark.feature(f"A{found[1]}"))

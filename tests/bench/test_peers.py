"""Programs in the peers' environment (see conftest.py): every peer that is installed agrees with graphc, on tiny sizes
and over fifty steps of training."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from tests.bench.programs import libraries, run
from tests.bench.programs.problems import Training
from tests.bench.programs.table import ROWS, SLOW, Row
from tests.bench.test_programs import TINY


def _installed(names: Iterable[str]) -> list[str]:
    """Those of the peers that are there; skips without one: they have an environment of their own."""
    found, absent = libraries.versions(names)
    if not found:
        pytest.skip("; ".join(absent))  # `make test-peers` has them; `make test` does not collect this file
    return list(found)


@pytest.mark.parametrize("row", [row for row in ROWS if row.name in TINY], ids=lambda row: row.name)
def test_installed_peers_agree(row: Row) -> None:
    names = _installed(name for name in row.peers if name not in SLOW)
    peers, absent = libraries.load(names)
    programs, errors = run.checked(replace(row, problem=TINY[row.name]), peers, 1)
    assert not absent
    assert not errors
    assert list(programs) == ["graphc", *names]


@pytest.mark.parametrize("row", [row for row in ROWS if isinstance(row.problem, Training)], ids=lambda row: row.name)
def test_fifty_losses_agree_with_pytorch(row: Row) -> None:
    peers, _ = libraries.load(_installed(["torch"]))
    _, errors = run.checked(replace(row, peers=("torch",)), peers, 2)
    assert not errors

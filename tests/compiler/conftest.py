"""Fixtures of the tests of dynamic dimensions."""

from __future__ import annotations

import pytest

from graphc.backend import available
from graphc.passes import blocks, phases, pipeline


@pytest.fixture(params=available())
def backend(request):
    return request.param


@pytest.fixture
def verified(monkeypatch):
    """The graph of each block is verified after each pass."""
    monkeypatch.setattr(phases, "run_passes", lambda graph, **given: pipeline.run_passes(graph, check=True, **given))


@pytest.fixture
def short_blocks(monkeypatch):
    """Blocks of 1, 4 and 16 rows: there is less to compile, and few rows make several blocks."""
    monkeypatch.setattr(blocks, "LONGEST", 16)

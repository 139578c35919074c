"""The table of compiling, on processes that only print and on tiny graphs."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from tests.bench import clock, compiling, first, measure
from tests.bench.programs import libraries
from tests.bench.programs.libraries import LIBRARIES, Begin, Program
from tests.bench.programs.problems import Conv, Linear, Network, Problem, Training
from tests.bench.times import Goal

ONCE = measure.Setting(threads=1, rounds=1, least=0.0)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "PAUSE", 0.0)


@pytest.mark.parametrize("row", compiling.COMPILING, ids=lambda row: row.names[0])
def test_each_row_of_compiling_has_peers_and_problems_that_there_are(row: compiling.Row) -> None:
    assert set(row.peers) <= LIBRARIES.keys()
    if isinstance(row, compiling.Processes):
        assert not row.goal.peer or row.goal.peer in set(row.peers) - set(row.aside)
        *_, problem = row.arguments("graphc")
        assert problem in first.PROBLEMS or "import graphc" in problem
    if isinstance(row, compiling.Growth):
        assert {row.first, row.second} <= first.PROBLEMS.keys()


def test_a_process_prints_its_sample() -> None:
    assert compiling.child(["-c", "print('a warning'); print(0.25)"], {})() == 0.25
    assert compiling.child(["-c", "import os; print(os.environ['GRAPHC_CACHE'])"], {"GRAPHC_CACHE": "7"})() == 7.0
    assert 0 <= compiling.child(compiling.import_of("this"), {})() < 60


def test_a_failing_process_is_one_line() -> None:
    row = compiling.Processes("x", Goal(1.0), ("torch", "jax"), lambda name: ["-c", f"print(len('{name}'))"])
    bad = replace(row, arguments=lambda name: ["-c", "print(2.0)" if name == "graphc" else "raise ValueError('no')"])
    assert row.measure({"jax"}, ONCE)[0].record()["seconds"] == {"graphc": 6.0, "jax": 3.0}
    (result,) = bad.measure({"jax"}, ONCE)
    assert result.errors == ["jax: ValueError: no"]
    assert result.graphc == 2.0


def test_the_cached_row_has_a_folder_of_its_own() -> None:
    code = "import os; print(len(os.listdir(os.environ['GRAPHC_CACHE_DIR'])), os.environ['GRAPHC_CACHE'])"
    row = compiling.Processes("x", Goal(1.0), (), lambda name: ["-c", code], cached=True)
    assert row.measure((), ONCE)[0].graphc == 1.0  # GRAPHC_CACHE
    other = replace(row, arguments=lambda name: ["-c", "import os; print(os.environ['GRAPHC_CACHE'])"], cached=False)
    assert other.measure((), ONCE)[0].graphc == 0.0


def test_a_first_result_is_timed_from_the_building_to_the_end_of_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(first.PROBLEMS, "tiny", Training(Network((6,), (Linear(6, 3),)), 4, rate=0.1))
    assert 0 < first.seconds("graphc", "tiny") < 60
    done: list[str] = []

    def prepare(problem: Problem, threads: int) -> Begin:
        def begin() -> Program:
            done.append("built")
            return Program(lambda: done.append("called"), list)

        done.append("prepared")
        return begin

    def now() -> float:
        done.append("now")
        return 0.0

    monkeypatch.setattr(libraries.Library, "load", lambda self: prepare)
    monkeypatch.setattr(first, "time", SimpleNamespace(perf_counter=now))
    first.seconds("torch", "tiny")
    assert done == ["prepared", "now", "built", "called", "now"]


def test_growth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "first_of", lambda problem: lambda name: ["-c", f"print({problem})"])
    row = compiling.Growth("x", Goal(3.0), "growth", 12, "0.5", "2.0")
    time, growth = row.measure((), ONCE)
    assert (time.name, growth.name) == row.names
    assert (time.graphc, growth.graphc) == (2.0, 4.0)
    _, failed = replace(row, second="nothing").measure((), ONCE)
    assert failed.graphc is None


def test_backward_is_what_it_adds(monkeypatch: pytest.MonkeyPatch) -> None:
    row = compiling.Backward("x", 2.2, Network((2, 6, 6), (Conv(2, 3, 3), "relu", "flatten", Linear(48, 3))), 2)
    medians = {"forward": 2.0, "both": 5.0}
    monkeypatch.setattr(compiling, "alternate", lambda samplers, rounds: clock.Taken({
        name: [medians[name]] for name in samplers if samplers[name]() > 0
    }))
    assert row.measure((), ONCE)[0].graphc == 1.5


def test_parts_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    for prepare in (lambda: lambda: compiling.front_end(20), lambda: compiling.all_passes(20)):
        (result,) = compiling.Part("x", prepare).measure((), ONCE)
        assert result.graphc is not None and result.graphc > 0

"""Lines of the tables of programs and of compiling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.bench import __main__ as command
from tests.bench.times import Factor, Goal, Times, duration, summary

GOAL = Goal(1.0, "numpy", 2.0)


def test_a_goal_is_the_same_ratio_elsewhere() -> None:
    times = Times("x", GOAL, {"graphc": 5.0, "numpy": 10.0, "torch": 11.0})
    assert times.ratio == 2.0
    assert times.reached
    assert "numpy" in times.text() and "reached (torch 11.00 s)" in times.text()
    assert not replace(times, seconds={"graphc": 5.0, "numpy": 10.0, "torch": 9.0}).reached  # torch is faster here
    assert not replace(times, others=1.0).reached
    without = replace(times, seconds={"graphc": 5.0, "torch": 20.0})
    assert without.ratio == 4.0
    assert not without.reached
    assert "(asked against numpy)" in without.text()
    aside = replace(times, seconds={"graphc": 5.0, "numpy": 10.0, "torch": 0.1}, aside=("torch",))
    assert aside.reached and "(torch 100.0 ms)" in aside.text()


def test_a_goal_without_a_peer_is_absolute() -> None:
    times = Times("x", Goal(0.05), {"graphc": 0.05})
    assert times.reached
    assert "50.0 ms reached" in times.text()
    assert not replace(times, seconds={"graphc": 0.051}).reached
    assert not Times("x", None, {"graphc": 1.0}).reached
    assert not Times("x", GOAL, {"numpy": 1.0}).reached


def test_a_factor_is_at_most_so_much() -> None:
    assert Factor("x", 12, 12.0).reached
    assert not Factor("x", 12, 12.1).reached
    assert not Factor("x", 12, 11.0, others=1.0).reached
    assert not Factor("x", 12).reached
    assert "<= 12 reached" in Factor("x", 12, 12.0).text()


def test_records_and_summary() -> None:
    times = Times("x", GOAL, {"graphc": 5.0, "numpy": 10.0})
    assert times.record()["goal_ratio"] == 2.0
    assert times.record()["seconds"] == {"graphc": 5.0, "numpy": 10.0}
    assert times.record()["best_peer"] == "numpy"
    assert Factor("y", 2.0, 1.5).record()["factor"] == 1.5
    text = summary([times, Factor("y", 1.0, 1.5), Times("z", None, {"graphc": 1.0})])
    assert text == "1 of 2 goals reached; ahead of the best peer in 1 of 1, median ratio 2.00"


def test_durations() -> None:
    assert [duration(s) for s in (5e-7, 1.25e-5, 0.0123, 2.0)] == ["0.50 us", "12.5 us", "12.3 ms", "2.00 s"]


def test_a_line_that_fails_is_printed_and_the_next_one_measured(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> Sequence[command.Timed]:
        raise RuntimeError("broken")

    results = command.table([(("a", "b"), fail), (["c"], lambda: [Factor("c", 2.0, 1.0)])])
    assert [result.name for result in results] == ["a", "b", "c"]
    assert results[0].graphc is None
    assert capsys.readouterr().out.count("ERROR RuntimeError: broken") == 2

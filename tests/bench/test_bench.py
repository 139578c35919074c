"""The benchmarks' own machinery, on tiny shapes and without peers that must be installed."""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from graphc_llvm.roofline import FACTOR, TERM, accumulators
from graphc_llvm.target import host_target, named_target
from tests.bench import __main__ as command
from tests.bench import clock, environment, measure, scaling
from tests.bench.clock import alternate, sampler
from tests.bench.compiling import COMPILING
from tests.bench.kernels import LINES, Array, Conv, Line, Matmul, Task, compiled
from tests.bench.peak import Peak, loop_text
from tests.bench.peers import NumPy, load
from tests.bench.programs.table import ROWS, SLOW
from tests.bench.reference import disagreement

ONCE = measure.Setting(threads=1, rounds=1, least=0.0)
SMALL = Conv(2, 3, 4, 9, 3, stride=2, padding=1)
TASKS: tuple[Task, ...] = ("fwd", "dgrad", "wgrad")


class StandIn:
    """A peer whose result is whatever it is given."""

    name, version = "other", "0"

    def __init__(self, result: Any) -> None:
        self.result = result

    def prepare(self, line: Line, operands: tuple[Array, Array]) -> Any:
        if isinstance(self.result, Exception):
            raise self.result
        return lambda: self.result


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "PAUSE", 0.0)


@pytest.fixture(scope="module")
def peak() -> Peak:
    return Peak("f32")


# ---- the tables --------------------------------------------------------------------------------------------


def test_names_are_unique() -> None:
    names = [*(line.name for line in LINES), *(row.name for row in ROWS)]
    names += [name for compiling in COMPILING for name in compiling.names]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.name)
def test_each_line_has_a_goal_and_is_one_contraction(line: Line) -> None:
    assert 0.4 < line.goal_share < 2
    kinds = [kernel.kind for kernel in compiled(line, 1, backend="numpy").program.kernels]
    if line.task == "dgrad" and isinstance(line.problem, Conv) and line.problem.stride > 1:
        assert "contraction" in kinds  # its residues may be contractions of their own, or be put in order afterwards
    else:
        assert kinds == ["contraction"]


def test_flops() -> None:
    assert Matmul(10).flops == 2000
    conv = Conv(8, 3, 64, 224, 11, stride=4, padding=2)
    assert conv.out == 55
    assert conv.flops == 2 * math.prod(conv.shape("dy")) * 3 * 121


# ---- references --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("problem", [SMALL, Conv(1, 2, 3, 6, 1), Conv(2, 2, 3, 8, 5), Conv(1, 2, 3, 12, 3, 3, 2)])
@pytest.mark.parametrize("task", TASKS)
def test_the_reference_agrees_with_graphc_and_sees_errors(problem: Conv, task: Task) -> None:
    line = Line("tiny", task, problem, 1.0)
    operands = line.operands()
    result = compiled(line, 1, backend="numpy")(*operands)
    assert disagreement(line, operands, result) == ""
    wrong = result.copy()
    wrong.flat[0] += 0.01
    assert disagreement(line, operands, wrong).startswith("at (0, 0, 0, 0)")
    wrong.flat[0] = np.nan
    assert disagreement(line, operands, wrong)
    assert "not float32" in disagreement(line, operands, result.astype("float64"))
    assert "the result is" in disagreement(line, operands, result[:1, :1])


def test_half_precision_is_an_error() -> None:
    line = Line("tiny", "matmul", Matmul(64), 1.0)
    first, second = line.operands()
    half = first.astype("float16").astype("float32") @ second.astype("float16").astype("float32")
    assert disagreement(line, (first, second), first @ second) == ""
    assert disagreement(line, (first, second), half)


# ---- measuring ---------------------------------------------------------------------------------------------


def test_samples_alternate() -> None:
    order: list[str] = []

    def sample(name: str) -> float:
        order.append(name)
        return float(len(order))

    taken = alternate({name: partial(sample, name) for name in "ab"}, 3, watch=lambda: lambda: 0.0)
    assert "".join(order) == "ababab"
    assert taken.medians == {"a": 3.0, "b": 4.0}


@pytest.mark.parametrize(("busy", "counted"), [
    ([0, 1, 0, 0], [0, 2, 3]),  # the disturbed round does not count
    ([1, 0, 1, 1, 1, 1, 0, 1, 1], range(9)),  # too few quiet ones, after three times as many rounds
])
def test_disturbed_rounds_are_taken_again(busy: list[int], counted: Sequence[int]) -> None:
    figures, others = iter(range(100)), iter(busy)
    taken = alternate({"a": lambda: float(next(figures))}, 3, watch=lambda: lambda: float(next(others)))
    assert next(others, None) is None
    assert taken.medians["a"] == statistics.median(counted)
    assert taken.others == statistics.fmean(busy[number] for number in counted)


def test_a_sample_is_the_time_of_one_call() -> None:
    calls: list[int] = []
    sample = sampler(lambda: calls.append(0), least=0.0)
    before = len(calls)
    assert 0 < sample() < 0.1
    assert len(calls) == before + 2  # one of them untimed


def test_a_line_is_measured(peak: Peak) -> None:
    result = measure.measure(Line("tiny", "matmul", Matmul(16), 1.0), [NumPy(1)], ONCE, peak)
    assert set(result.rates) == {"graphc", "numpy"}
    assert not result.errors
    assert result.best_peer == "numpy"
    assert result.ratio is not None and result.ratio > 0
    assert result.share is not None and 0 < result.share < 1
    assert result.text().startswith("tiny ")
    assert result.record()["gflops"] == result.rates
    assert measure.summary([result]).endswith(f"median ratio {result.ratio:.2f}")


@pytest.mark.parametrize("task", TASKS)
def test_a_line_without_peers(peak: Peak, task: Task) -> None:
    result = measure.measure(Line("tiny", task, SMALL, 1.0), [NumPy(1)], ONCE, peak)
    assert set(result.rates) == {"graphc"}
    assert result.ratio is None
    assert measure.summary([result]).endswith("of 1 goals reached")


def test_a_goal_is_reached_at_the_same_share_of_the_peak() -> None:
    result = measure.Result(Line("tiny", "matmul", Matmul(16), 262.0), 200.0, {"graphc": 100.0})
    assert "reached" in result.text()
    assert "reached" not in replace(result, rates={"graphc": 99.0}).text()
    assert "reached" not in replace(result, others=1.0).text()


@pytest.mark.parametrize("fault", [np.zeros((16, 16), "float32"), RuntimeError("cannot")])
def test_a_wrong_peer_is_an_error_and_is_not_timed(peak: Peak, fault: Any) -> None:
    result = measure.measure(Line("tiny", "matmul", Matmul(16), 1.0), [StandIn(fault)], ONCE, peak)
    assert set(result.rates) == {"graphc"}
    assert len(result.errors) == 1
    assert "\n  ERROR other: " in result.text()


def test_absent_peers_are_one_line_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # as if it were not installed
    peers, absent = load(["torch", "numpy"], 1)
    assert [peer.name for peer in peers] == ["numpy"]
    assert len(absent) == 1
    assert absent[0].startswith("torch is absent: ")
    assert "\n" not in absent[0]


def test_scaling(peak: Peak) -> None:
    result = scaling.scaling(Line("tiny", "fwd", SMALL, 1.0), ONCE, peak)
    assert result.error == ""
    assert result.speed_up > 0
    assert scaling.scaling_of_peak(peak, ONCE).one > 0
    assert "(tiny)" in scaling.summary([result])


def test_options() -> None:
    options = command.parsed(["--threads", "1", "--peers", "none", "--only", "conv"])
    assert (options.threads, options.peers, options.only) == (1, [], "conv")
    assert command.parsed([]).peers == [name for name in command.ALL_PEERS if name not in SLOW]
    assert command.parsed(["--slow-peers"]).peers == list(command.ALL_PEERS)
    assert command.parsed(["--peers", "torch.compile"]).peers == ["torch.compile"]
    for wrong in (["--peers", "matlab"], ["--threads", "0"], ["--threads", "100000"], ["--threads", "1", "--scaling"]):
        with pytest.raises(SystemExit):
            command.parsed(wrong)


def test_others_are_watched() -> None:
    assert environment.available()
    assert 0 <= environment.Load().others() < 1000


def test_processes_that_it_started_are_not_others(monkeypatch: pytest.MonkeyPatch) -> None:
    load = environment.Load()
    monkeypatch.setattr(environment, "_busy_seconds", lambda: 0.0)
    before = load._now()[2]
    monkeypatch.setattr("os.times", lambda: (0.0, 0.0, before + 3.0, 1.0, 0.0))  # the third and fourth: children's
    assert load._now()[2] == pytest.approx(before + 4.0)


# ---- the peak ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["f32", "f64"])
def test_the_loop_of_the_peak_computes_the_right_value(kind: str) -> None:
    peak, rounds = Peak(kind), 6
    want = 0.0
    for start in range(peak.accumulators):
        value = float(start)
        for _ in range(rounds):
            value = value * FACTOR + TERM
        want += value
    assert peak.run(rounds).tolist() == [want] * peak.lanes
    assert peak.gflops(1) > 0.1
    assert peak.gflops(2) > 0.1


def test_a_slow_peak_is_seen(peak: Peak, monkeypatch: pytest.MonkeyPatch) -> None:
    others = peak.watch(2)
    monkeypatch.setattr(peak, "_best", {2: 200.0})
    monkeypatch.setattr(peak, "_latest", {2: 100.0})
    assert others() >= 1.0


@pytest.mark.parametrize("level", ["x86-64-v3", "x86-64-v4", "neon"])
def test_the_loop_of_the_peak_has_enough_accumulators(level: str) -> None:
    target = named_target(level)
    count = accumulators(target)
    assert 12 <= count <= target.vector_registers - 2
    assert loop_text(target, "f32").count("call <") == count


def test_the_loop_of_the_peak_stays_in_registers() -> None:
    from graphc_llvm.jit import compile_assembly

    target = host_target()
    text = compile_assembly(loop_text(target, "f32"), target)
    if not target.triple.startswith("x86_64") or not target.has_fma:
        pytest.skip("reads x86 assembly")
    multiplications = [line for line in text.splitlines() if "vfmadd" in line]
    assert len(multiplications) == accumulators(target)
    assert not any("(" in line for line in multiplications)

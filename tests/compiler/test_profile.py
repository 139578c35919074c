"""Profiles: what is timed and what is left alone, who gets the time, and what the table and the JSON say."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc import backend as backends
from graphc.backend import Machine, TimingBackend
from graphc.compiler import profile as module
from graphc.compiler.cost import Cost
from graphc.compiler.profile import Profile, Row, profile
from graphc.compiler.profile_table import CACHE_REMARK, FAST_REMARK
from graphc.errors import ArgumentError, BackendError
from graphc.ir.origin import where

BACKENDS = [name for name in backends.available() if isinstance(backends.load(name), TimingBackend)]
MACHINE = Machine(2, {"float32": 100e9, "float64": 50e9}, 10e9, 400, "by decree")


@pytest.fixture(autouse=True)
def _no_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    """The roofs of this machine take a third of a second, and no test depends on them; nor on a warm processor."""
    from graphc_llvm.profile import TimedProgram

    monkeypatch.setattr(TimedProgram, "machine", lambda self, dtypes: MACHINE)
    monkeypatch.setattr(module, "WARM_SECONDS", 0.0)


def training(backend: str = "llvm", threads: int = 1) -> tuple[gc.Function, gc.nn.Module, list[np.ndarray]]:
    """A step with params, the states of Adam, and a count of the calls, which is part of the loss."""
    x, t = gc.input("x", ("N", 12)), gc.input("t", ("N",), dtype="int64")
    body = gc.nn.Sequential(gc.nn.Linear(12, 7, seed=0), gc.nn.ReLU())
    model = gc.nn.Sequential(body, gc.nn.Linear(7, 4, seed=2))
    calls = gc.state("calls", (), init=0.5)
    calls.set_next(calls + 1)
    loss = gc.nn.cross_entropy(model(x), t) * calls
    updates = gc.optim.Adam(lr=1e-2).updates(loss, model.parameters())
    step = gc.compile([x, t], loss, updates=updates, backend=backend, threads=threads, name="step")
    arguments = [np.random.default_rng(0).standard_normal((9, 12)).astype("float32"), np.arange(9) % 4]
    return step, model, arguments


# ---- what is measured ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
def test_params_and_states_are_as_before(backend: str) -> None:
    step, _, arguments = training(backend)
    twin, _, _ = training(backend)
    first = step(*arguments)
    np.testing.assert_array_equal(first, twin(*arguments))
    before = [variable.value for variable in step._forms.variables]
    profile(step, arguments, repeats=3)
    after = [variable.value for variable in step._forms.variables]
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)
    np.testing.assert_array_equal(step(*arguments), twin(*arguments))


@pytest.mark.parametrize("backend", BACKENDS)
def test_all_runs_begin_with_the_same_values(backend: str) -> None:
    table, place = gc.param("table", (4, 3)), gc.state("place", (), init=3, dtype="int64")
    place.set_next(place + 1)  # outside the table after one call
    last = gc.compile([], gc.take(table, place, axis=0), backend=backend)
    assert profile(last, [], repeats=3).runs == 3 and place.value == 3


@pytest.mark.feature("F.time")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("backend", BACKENDS)
def test_each_run_does_what_a_call_does_and_its_kernels_take_no_longer(backend: str, threads: int) -> None:
    step, _, arguments = training(backend, threads)
    forms = step._forms
    found = forms.find((9,))
    timed = forms.backend.timed(found.program, forms.options)
    ours, theirs = ([*arguments, *(v.value for v in forms.variables)] for _ in range(2))
    found.executable.run(theirs)
    start = time.perf_counter()
    seconds = timed.run(ours)
    whole = time.perf_counter() - start
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(seconds) == len(timed.program.kernels) + 1
    assert min(seconds) >= 0 and 0 < sum(seconds) <= whole  # one clock, read inside and outside


@pytest.mark.feature("F.time")
@pytest.mark.parametrize("backend", BACKENDS)
def test_rows_and_total(backend: str) -> None:
    step, _, arguments = training(backend)
    found = profile(step, arguments, repeats=4)
    assert (found.name, found.backend, found.runs) == ("step", backend, 4)
    assert [row.name for row in found.rows[:-1]] == [kernel.name for kernel in step.program.kernels]
    assert (found.rows[-1].name, found.rows[-1].kind) == ("updates", "copies")
    assert sum(row.share for row in found.rows) == pytest.approx(1)
    assert sum(row.least for row in found.rows) <= found.least <= found.seconds
    assert all(row.least <= row.seconds for row in found.rows)
    assert found.total.seconds == found.seconds and found.total.operations == sum(r.operations for r in found.rows)


def test_a_function_without_updates_has_no_such_row() -> None:
    x = gc.input("x", (4,))
    found = profile(gc.compile([x], gc.exp(x)), [np.ones(4, np.float32)], repeats=1)
    assert [row.kind for row in found.rows] == ["loops"]


@pytest.mark.feature("F.memory")
def test_kernels_are_those_that_run() -> None:
    """The llvm backend takes a sum of products apart from stages that cannot run on its tile: an index is read here."""
    x, w = gc.input("x", (16, 8)), gc.input("w", (8, 24))
    function = gc.compile([x, w], (x @ w) * gc.arange(24).astype("float32"))
    found = profile(function, [np.ones((16, 8), np.float32), np.ones((8, 24), np.float32)], repeats=1)
    product, scaled = found.rows
    assert len(function.program.kernels) == 1 and (product.kind, scaled.kind) == ("contraction", "loops")
    assert product.operations == 2 * 16 * 8 * 24 and product.bytes == 4 * (16 * 8 + 8 * 24 + 16 * 24)


def test_the_median_and_the_least_of_the_runs_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that claims other times at each run: 1, 2, 3, ... and 10 times that."""
    from graphc_llvm.profile import TimedProgram

    runs = iter(range(-module.WARM_RUNS + 1, 100))
    monkeypatch.setattr(TimedProgram, "run", lambda self, arrays: [(n := next(runs)) * 1.0, n * 10.0, 0.5])
    x = gc.input("x", (4, 4))
    found = profile(gc.compile([x], [gc.exp(x), x @ x], threads=1), [np.ones((4, 4), np.float32)], repeats=5)
    first, second = found.rows[:2]
    assert (first.seconds, first.least, second.seconds, second.least) == (3, 1, 30, 10)
    assert (found.runs, found.seconds, found.least) == (5, 33, 11)  # the times after the last kernel have no row here
    assert first.share == pytest.approx(1 / 11)


@pytest.mark.parametrize(("once", "expected"), [(10.0, 5), (0.05, 10), (1e-6, 1000)])
def test_as_many_runs_as_there_is_time_for(once: float, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(np.arange(100) * once)
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(now))
    assert module.runs_in_time(lambda: None, None) == pytest.approx(expected, abs=1)
    assert module.runs_in_time(lambda: None, 7) == 7


# ---- whose time it is ----------------------------------------------------------------------------------------------


def test_scopes_and_lines() -> None:
    step, _, arguments = training("numpy")
    found = profile(step, arguments, repeats=1)
    scopes = {scope for row in found.rows for scope in row.scopes}
    assert {"0/0", "0/1", "1", "cross_entropy"} <= scopes
    _, product, *_ = found.rows  # after the check of the labels
    assert product.kind == "contraction" and product.scopes[0] == "0/0" and "matmul_transposed" in product.ops
    assert product.where is not None and product.where.startswith(__file__)


def test_the_first_scope_is_that_of_most_operations() -> None:
    x = gc.input("x", (5, 7))
    with gc.scope("model/few"):
        most = gc.max(x, axis=-1, keepdims=True)
    with gc.scope("model/many"):
        y = gc.exp(x - most) * gc.tanh(x)
    (found,) = profile(gc.compile([x], y, backend="numpy"), [np.ones((5, 7), np.float32)], repeats=1).rows
    assert found.scopes == ("model/many", "model/few")
    assert found.where == where(y.node)


def test_time_by_scope() -> None:
    step, _, arguments = training("numpy")
    found = profile(step, arguments, repeats=1)
    scopes = found.by_scope()
    assert {row.name for row in scopes.rows} >= {"0/0", "1", "cross_entropy"}
    assert len({row.name for row in scopes.rows}) == len(scopes.rows)
    for name in ("seconds", "operations", "bytes", "share"):
        sums = [sum(getattr(row, name) for row in one.rows) for one in (scopes, found)]
        assert sums[0] == pytest.approx(sums[1])
    top = {row.name: row for row in found.by_scope(depth=1).rows}
    assert "0/0" not in top and {"0", "1"} <= set(top)
    assert top["0"].operations == sum(row.operations for row in scopes.rows if row.name.split("/")[0] == "0")
    assert "scopes" in scopes.as_dict() and "\nscope  " in str(scopes)


def row(name: str, seconds: float = 1e-6, **changes: Any) -> Row:
    scopes, where = ("encoder/layer2",), "model.py:3"
    made = Row(name, "loops", ("add",), scopes, where, seconds, seconds / 2, 0.25, 2000, 1500, None, None)
    return replace(made, **changes)


def made(*rows: Row, machine: Machine | None = MACHINE) -> Profile:
    return Profile("step", "llvm", 9, 4e-6, 3e-6, rows, machine)


def test_a_kernel_counts_to_its_first_scope() -> None:
    found = made(row("a", scopes=("x/y", "z")), row("b", scopes=("z",)), row("c", scopes=()), row("d", scopes=("x/w",)))
    one = "1 kernel"
    assert [(r.name, r.kind) for r in found.by_scope().rows] == [("x/y", one), ("z", one), ("", one), ("x/w", one)]
    assert [(r.name, r.kind) for r in found.by_scope(1).rows] == [("x", "2 kernels"), ("z", one), ("", one)]


# ---- the roofline --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cost", "seconds", "expected"),
    [
        (Cost({"float32": 1000}, 40, 10), 20e-9, ("fma", 0.5)),  # 10 ns of operations, 5 ns of bytes
        (Cost({"float32": 500, "float64": 500}, 0, 0), 20e-9, ("fma", 0.75)),  # 5 + 10 ns
        (Cost({"float32": 100}, 100, 0), 20e-9, ("memory", 0.5)),  # 1 ns, 10 ns
        (Cost({"float32": 100}, 100, 200), 20e-9, ("cache", None)),  # 30 ns of bytes were moved in 20
        (Cost({"float32": 100}, 201, 200), 20e-9, ("memory", 2.005)),  # as fast, but no cache holds so much
        (Cost({"float32": 4000}, 0, 0), 20e-9, ("fma", 2.0)),  # Winograd
        (Cost({"float32": 1000}, 10, 10), 0.0, (None, None)),  # the clock saw no time
        (Cost({}, 0, 0), 1e-9, (None, None)),  # nothing to do
    ],
)
def test_the_lower_roof_counts(cost: Cost, seconds: float, expected: tuple[str | None, float | None]) -> None:
    bound, share = module._roof(cost, seconds, MACHINE)
    assert bound == expected[0] and share == (None if expected[1] is None else pytest.approx(expected[1]))
    assert module._roof(cost, seconds, None) == (None, None)


def test_the_roofline_of_several_is_the_mean_by_time_of_those_that_have_one() -> None:
    found = made(row("a", 1e-6, roofline=0.2), row("b", 3e-6, roofline=0.6), row("c", 9e-6, bound="cache"))
    assert found.total.roofline == pytest.approx(0.5)
    assert made(row("c")).total.roofline is None


# ---- text and JSON -------------------------------------------------------------------------------------------------

FAST = row("conv", 2e-6, kind="contraction", share=0.5, operations=400_000, bound="fma", roofline=2.0)
CACHED = row("add", 1e-6, share=0.25, bytes=1_234_567, scopes=(), bound="cache")
SLOW = row("sum", 1e-6, share=0.25, operations=0, bytes=999, bound="memory", roofline=0.0999)


def test_the_table() -> None:
    assert str(made(FAST, CACHED, SLOW)).splitlines() == [
        "step on llvm, 2 threads: 4.0 us a run (median of 9; least 3.0)",
        "measured roofs: 100 GFLOP/s float32, 50 GFLOP/s float64, 10.0 GB/s (by decree)",
        "",
        "kernel  kind         scope           where        us   share  bytes  GFLOP/s    GB/s    roofline",
        "conv    contraction  encoder/layer2  model.py:3  2.0   50.0%   1.5k    200.0     0.8    200% fma",
        "add     loops                        model.py:3  1.0   25.0%  1.23M      2.0  1234.6       cache",
        "sum     loops        encoder/layer2  model.py:3  1.0   25.0%    999      0.0     1.0  10% memory",
        "total                                            4.0  100.0%  1.24M    100.5   309.3        137%",
        CACHE_REMARK,
        *FAST_REMARK.splitlines(),
    ]


def test_columns_and_remarks_that_say_nothing_are_left_out() -> None:
    lines = str(made(row("add", scopes=(), where=None), machine=None)).splitlines()
    assert lines[0] == "step on llvm: 4.0 us a run (median of 9; least 3.0)"
    assert lines[2].split() == ["kernel", "kind", "us", "share", "bytes", "GFLOP/s", "GB/s"]
    assert len(lines) == 5


def test_sorted_by_time_and_cut_off() -> None:
    found = made(SLOW, row("exp", 1.5e-6), FAST)
    assert [line.split()[0] for line in found.table("time").splitlines()[4:8]] == ["conv", "exp", "sum", "total"]
    cut = found.table("time", top=1).splitlines()
    assert [line.split()[0] for line in cut[4:6]] == ["conv", "(2"] and cut[5].split() == ["(2", "more)", "2.5"]
    assert cut[6].split()[0] == "total"
    with pytest.raises(ArgumentError, match="sort must be one of program, time, not 'name'"):
        found.table("name")


@pytest.mark.parametrize("backend", BACKENDS)
def test_json(backend: str) -> None:
    step, _, arguments = training(backend)
    found = profile(step, arguments, repeats=2)
    loaded = json.loads(found.to_json(), parse_constant=pytest.fail)  # no NaN, no infinity
    assert (loaded["function"], loaded["backend"], loaded["runs"]) == ("step", backend, 2)
    assert loaded["machine"] == (found.as_dict()["machine"] if found.machine else None)
    assert len(loaded["kernels"]) == len(found.rows)
    first = loaded["kernels"][0]
    assert first["name"] == found.rows[0].name and first["scopes"] == list(found.rows[0].scopes)
    assert first["bytes"] == found.rows[0].bytes and first["gflops"] == found.rows[0].gflops


def test_no_rate_where_no_time_passed() -> None:
    nothing = row("add", 0.0)
    assert nothing.gflops is None and nothing.gigabytes is None
    assert "null" in made(nothing).to_json() and len(str(made(nothing)).splitlines()) == 6


# ---- errors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        [np.ones((9, 11), np.float32), np.zeros(9, np.int64)],
        [np.ones((9, 12), np.float32), np.zeros(8, np.int64)],
        [np.ones((9, 12), np.float32), np.full(9, "a")],
    ],
)
def test_wrong_arguments_give_the_message_of_a_call(arguments: list[Any]) -> None:
    step, _, _ = training("numpy")
    with pytest.raises(ArgumentError) as called:
        step(*arguments)
    with pytest.raises(ArgumentError) as profiled:
        profile(step, arguments)
    assert profiled.value.message == called.value.message and type(profiled.value) is type(called.value)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_index_outside_gives_the_message_of_a_call(backend: str) -> None:
    table, t = gc.param("table", (4, 3)), gc.input("t", (2,), dtype="int64")
    picked = gc.compile([t], gc.take(table, t, axis=0), updates={table: table + 1}, backend=backend)
    with pytest.raises(ArgumentError) as called:
        picked([0, 4])
    with pytest.raises(ArgumentError) as profiled:
        profile(picked, [[0, 4]])
    assert profiled.value.message == called.value.message
    np.testing.assert_array_equal(table.value, 0)


@pytest.mark.parametrize("repeats", [0, -1, 2.5, "3"])
def test_wrong_repeats(repeats: Any) -> None:
    x = gc.input("x", (4,))
    with pytest.raises(ArgumentError, match="repeats must be a whole number from 1 up"):
        profile(gc.compile([x], gc.exp(x), backend="numpy"), [np.ones(4, np.float32)], repeats)


def test_a_backend_that_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    class Plain:
        name = "plain"
        compile = backends.load("numpy").compile

    x = gc.input("x", (4,))
    function = gc.compile([x], gc.exp(x), backend="numpy")
    monkeypatch.setattr(function._forms, "backend", Plain())
    with pytest.raises(BackendError, match="does not time its kernels"):
        profile(function, [np.ones(4, np.float32)])


def test_a_system_without_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    x = gc.input("x", (4,))
    function = gc.compile([x], gc.exp(x))
    monkeypatch.delattr(time, "CLOCK_MONOTONIC")
    with pytest.raises(BackendError, match="clock_gettime"):
        profile(function, [np.ones(4, np.float32)])

"""The table of programs, on tiny sizes, without the peers that must be installed: those are in test_peers.py."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.bench import __main__ as command
from tests.bench import clock, measure
from tests.bench.peak import Peak
from tests.bench.programs import in_graphc, libraries, problems, run
from tests.bench.programs.libraries import LIBRARIES, Begin, Program
from tests.bench.programs.problems import (
    Array,
    Composed,
    Conv,
    Elementwise,
    Inference,
    Linear,
    Network,
    NormLoss,
    Problem,
    Training,
)
from tests.bench.programs.table import ROWS, SLOW, Row
from tests.bench.times import Goal

ONCE = measure.Setting(threads=1, rounds=1, least=0.0)
DENSE = Network((6,), (Linear(6, 5), "relu", Linear(5, 3)))
IMAGES = Network((2, 8, 8), (Conv(2, 3, 3, padding=1), "relu", "pool", Conv(3, 4, 3), "relu", "flatten", Linear(16, 3)))
TINY: dict[str, Problem] = {  # one for each kind of row
    "elem1e6": Elementwise(10),
    "elem1e6_grad": Elementwise(10, gradient=True),
    "seed_scalar": Composed(),
    "seed_1e6": Composed(7),
    "mlp_b64": Training(DENSE, 16, rate=0.3),
    "lenet_b64": Training(IMAGES, 4, rate=0.01, momentum=0.9),
    "cnn_b64_adam": Training(IMAGES, 4, 1e-3, "adam", tolerance=5e-5),
    "ln_ce_512x768": NormLoss(4, 5),
    "lenet_b1 inference": Inference(IMAGES, 2),
}
GOAL = Goal(1.0, "numpy", 2.0)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "PAUSE", 0.0)


@pytest.fixture(scope="module")
def peak() -> Peak:
    return Peak("f32")


def row_of(name: str, *peers: str) -> Row:
    return Row(name, TINY[name], GOAL, peers, backend="numpy")


def stand_in(answer: Any) -> Callable[[Problem, int], Begin]:
    """A library whose result is whatever it is given."""

    def begin() -> Program:
        if isinstance(answer, Exception):
            raise answer
        return Program(lambda: None, lambda: answer)

    return lambda problem, threads: begin


def graphc_answer(name: str, backend: str = "numpy") -> list[Array]:
    return in_graphc.prepare(TINY[name], 1, backend)().answer()


# ---- the tables --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_each_row_has_a_goal_from_one_of_its_peers(row: Row) -> None:
    assert set(row.peers) <= LIBRARIES.keys()
    assert row.goal.peer in row.peers
    assert row.goal.ratio is not None and row.goal.ratio >= 1
    assert set(row.peers) - SLOW


@pytest.mark.parametrize(("network", "parameters"), [
    (problems.MLP, 118_282), (problems.LENET, 61_706), (problems.CNN, 1_199_882), (problems.VGG19, 143_667_240),
    (problems.deep(3, 4), 60),
])
def test_networks_have_as_many_parameters_as_published(network: Network, parameters: int) -> None:
    stages = [stage for stage in network.stages if isinstance(stage, (Linear, Conv))]
    assert sum(math.prod(stage.shape) + stage.outputs for stage in stages) == parameters


def test_data_and_weights_are_the_same_for_everyone() -> None:
    for (first_weight, _), (second_weight, _) in zip(IMAGES.weights(), IMAGES.weights(), strict=True):
        assert first_weight.dtype == np.float32
        np.testing.assert_array_equal(first_weight, second_weight)
    weight, _ = next(Network((1000,), (Linear(1000, 500),)).weights())
    assert weight.std() == pytest.approx(math.sqrt(2 / 1000), rel=0.01)
    training = Training(DENSE, 4, 0.1)
    assert len(training.batches()) == problems.BATCHES
    for (x, t), (x_again, t_again) in zip(training.batches(), training.batches(), strict=True):
        assert (x.dtype.name, t.dtype.name, x.shape) == ("float32", "int64", (4, 6))
        np.testing.assert_array_equal(x, x_again)
        np.testing.assert_array_equal(t, t_again)


# ---- graphc's side -----------------------------------------------------------------------------------------


def test_elementwise_is_what_it_says() -> None:
    x = Elementwise(10).data().astype("float64")

    def y(x: Array) -> Array:
        return np.asarray(np.tanh(1.5 * x + 0.5) / (1 + np.exp(-x)) + np.exp(-(x**2)))

    np.testing.assert_allclose(graphc_answer("elem1e6")[0], y(x), rtol=1e-6)
    slope = (y(x + 1e-6) - y(x - 1e-6)) / 2e-6
    np.testing.assert_allclose(graphc_answer("elem1e6_grad")[0], slope, rtol=1e-5, atol=1e-6)


def test_normalised_losses_are_what_they_say() -> None:
    x, gamma, beta, classes = NormLoss(4, 5).data()

    def loss(x: Array, gamma: Array, beta: Array) -> float:
        y = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5) * gamma + beta
        return float((np.log(np.exp(y).sum(1)) - y[range(4), classes]).mean())

    leaves = [array.astype("float64") for array in (x, gamma, beta)]
    for position, gradient in enumerate(graphc_answer("ln_ce_512x768")):
        for index in np.ndindex(gradient.shape):
            moved = [[array.copy() for array in leaves] for _ in range(2)]
            moved[0][position][index] += 1e-5
            moved[1][position][index] -= 1e-5
            assert gradient[index] == pytest.approx((loss(*moved[0]) - loss(*moved[1])) / 2e-5, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(("name", "peer"), [("mlp_b64", "numpy"), ("seed_scalar", "sympy"), ("seed_1e6", "sympy")])
def test_graphc_agrees_with_peers_that_are_always_there(name: str, peer: str) -> None:
    peers, absent = libraries.load([peer])
    assert not absent
    programs, errors = run.checked(row_of(name, peer), peers, 1)
    assert list(programs) == ["graphc", peer]
    assert not errors


@pytest.mark.parametrize("name", TINY)
def test_both_backends_agree(name: str) -> None:
    assert run.disagreement(graphc_answer(name), graphc_answer(name, "llvm"), 1e-4) == ""


def test_training_learns_and_goes_through_the_batches() -> None:
    losses = [float(loss) for loss in graphc_answer("mlp_b64")]
    assert len(losses) == problems.STEPS
    assert sum(losses[-problems.BATCHES:]) < 0.8 * sum(losses[:problems.BATCHES])
    resting = in_graphc.prepare(Training(DENSE, 4, rate=0.0), 1, "numpy")().answer()
    assert len({float(loss) for loss in resting}) == problems.BATCHES


# ---- comparing ---------------------------------------------------------------------------------------------


def test_disagreement() -> None:
    small, large = np.full(3, 1e-6), np.full(3, 1e6)
    assert run.disagreement([small, large], [small, large], 0.0) == ""
    assert run.disagreement([small * (1 + 1e-5), large], [small, large], 1e-4) == ""
    assert run.disagreement([small * 1.1, large], [small, large], 1e-4).startswith("result 0 differs")
    assert run.disagreement([small], [np.full(3, np.nan)], 1e-4)
    assert run.disagreement([np.full(3, np.nan)], [small], 1e-4)
    assert run.disagreement([small], [small[:2]], 1e-4).startswith("the shapes")
    assert run.disagreement([small], [], 1e-4)


def test_a_row_is_checked_and_timed(peak: Peak) -> None:
    peers, _ = libraries.load(["numpy"])
    result = run.compare(row_of("mlp_b64", "numpy"), peers, ONCE, peak)
    assert list(result.seconds) == ["graphc", "numpy"]
    assert all(seconds > 0 for seconds in result.seconds.values())
    assert result.best_peer == "numpy"
    assert not result.errors


@pytest.mark.parametrize("fault", [[np.zeros(10, np.float32)], RuntimeError("cannot\nat all")])
def test_a_wrong_peer_is_one_line_and_is_not_timed(peak: Peak, fault: Any) -> None:
    peers = {"torch": stand_in(fault), "jax": stand_in(graphc_answer("elem1e6"))}
    result = run.compare(row_of("elem1e6", "torch", "jax"), peers, ONCE, peak)
    assert set(result.seconds) == {"graphc", "jax"}
    assert len(result.errors) == 1
    assert result.errors[0].startswith("torch: ")
    assert "\n" not in result.errors[0]


def test_graphc_is_not_timed_when_all_peers_disagree(peak: Peak) -> None:
    peers = {"torch": stand_in([np.zeros(10, np.float32)])}
    result = run.compare(row_of("elem1e6", "torch"), peers, ONCE, peak)
    assert result.graphc is None
    assert result.errors[-1].startswith("graphc: ")
    failing = run.compare(row_of("elem1e6", "torch"), {"torch": stand_in(RuntimeError())}, ONCE, peak)
    assert set(failing.seconds) == {"graphc"}


def test_a_failing_graphc_is_a_line(peak: Peak, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_graphc, "prepare_numpy", stand_in(RuntimeError("broken")))
    result = run.compare(row_of("elem1e6"), {}, ONCE, peak)
    assert result.seconds == {}
    assert "\n  ERROR graphc: RuntimeError: broken" in result.text()


def test_absent_libraries_are_one_line_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LIBRARIES, "torch", libraries.Library("no-such-library", "in_no_such_library"))
    loaded, absent = libraries.load(["torch", "numpy"])
    assert list(loaded) == ["numpy"]
    assert len(absent) == 1 and absent[0].startswith("torch is absent: ")
    versions, missing = libraries.versions(["torch", "numpy"])
    assert versions == {"numpy": np.__version__}
    assert missing == ["torch is absent: no-such-library is not installed"]


def test_only_the_peers_of_the_chosen_rows_are_loaded(monkeypatch: pytest.MonkeyPatch, peak: Peak) -> None:
    asked: list[str] = []

    def load(names: Any) -> tuple[dict[str, Any], list[str]]:
        asked.extend(names)
        return {}, []

    monkeypatch.setattr(libraries, "load", load)
    command.programs([row_of("seed_scalar", "sympy")], ["torch", "sympy"], ONCE, peak)
    assert asked == ["sympy"]

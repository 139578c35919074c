"""Schedules in the graph: what they add to it, resumption, functions of one's own, errors. Their values against
PyTorch's are in test_recorded.py and test_torch.py."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

import graphc as gc
from graphc.errors import ArgumentError, ArgumentTypeError, ShapeError
from tests.optim.cases import CASES, optimiser_of, run, schedule_of


def factors(schedule, steps, dtype="float64"):
    step = gc.input("step", (), dtype=dtype)
    f = gc.compile([step], schedule(step), backend="numpy")
    return [float(f(np.array(n, dtype=dtype))) for n in steps]


def model_updates(optimiser):
    x, t = gc.input("x", (16, 8)), gc.input("t", (16,), dtype="int64")
    model = gc.nn.Sequential(gc.nn.Linear(8, 32, seed=0), gc.nn.ReLU(), gc.nn.Linear(32, 4, seed=1))
    loss = gc.nn.cross_entropy(model(x), t)
    return [x, t], loss, optimiser.updates(loss, model.parameters())


def test_without_a_schedule_plain_sgd_has_no_step_count():
    inputs, loss, updates = model_updates(gc.optim.SGD(0.1))
    text = gc.compile(inputs, loss, updates, backend="numpy").source("program")
    assert "step" not in text and len(updates) == 4
    _, _, scheduled = model_updates(gc.optim.SGD(0.1, schedule=gc.optim.ExponentialLR(0.5)))
    assert [v.name for v in scheduled if v not in updates][-1] == "step"


def test_a_schedule_costs_one_small_kernel_and_updates_stay_in_one_sweep():
    """Of a step with Adam, schedule and clipping: each parameter is updated by one kernel, with both of its means."""
    warm_up = gc.optim.SequentialLR([gc.optim.LinearWarmup(10), gc.optim.CosineAnnealingLR(100)], [10])
    counts = {}
    for name, options in {"plain": {}, "schedule": {"schedule": warm_up}, "norm": {"clip_norm": 1.0}}.items():
        inputs, loss, updates = model_updates(gc.optim.Adam(**options))
        program = gc.compile(inputs, loss, updates, backend="llvm", threads=1).program
        counts[name] = len(program.kernels)
        writers = {stage.write: kernel for kernel in program.kernels for stage in kernel.stages}
        kernels = {target: writers[source] for source, target in program.updates}
        for parameter in ("_0_weight", "_2_weight", "_0_bias", "_2_bias"):
            its = [kernels[target] for target in (parameter, f"exp_avg{parameter}", f"exp_avg_sq{parameter}")]
            assert its[0] is its[1] is its[2], (name, parameter)
    assert counts["schedule"] == counts["plain"]
    assert counts["norm"] <= counts["plain"] + 9  # four sums, their root, and four gradients that must be there first


def test_setting_lr_scales_what_the_schedule_gives():
    w = gc.param("w", (), init=0.0)
    optimiser = gc.optim.SGD(lr=1.0, schedule=gc.optim.StepLR(1, 0.5))
    step = gc.compile([], [], optimiser.updates(w, [w]), backend="numpy")
    seen = []
    for rate in (1.0, 1.0, 8.0):
        optimiser.lr.value = rate
        before = float(w.value)
        step()
        seen.append(before - float(w.value))
    assert seen == [1.0, 0.5, 2.0]


@pytest.mark.parametrize("name", ["adam amsgrad", "one after another", "all", "sgd dampening", "rmsprop options"])
def test_a_run_goes_on_bit_for_bit_from_its_states(name):
    whole = run(CASES[name], "float32", kept=(12,))

    def step_of(start):
        w = gc.param("w", (3,), init=start)
        optimiser = optimiser_of(CASES[name], "float32")
        updates = optimiser.updates(gc.sum(gc.square(w)), [w])
        return w, optimiser, gc.compile([], [], updates, backend="llvm")

    w, optimiser, step = step_of([1.0, -2.0, 3.0])
    for _ in range(6):
        step()
    kept, states = w.value, optimiser.state_dict()
    for _ in range(6):
        step()
    v, other, again = step_of(kept)
    other.load_state_dict(states)
    for _ in range(6):
        again()
    assert whole.shape == (1, 15)
    assert np.array_equal(w.value, v.value)
    ended, expected = other.state_dict(), optimiser.state_dict()
    assert all(np.array_equal(ended[state], expected[state]) for state in expected)


def test_a_function_of_ones_own():
    w = gc.param("w", (), init=0.0)
    for schedule, expected in (
        (lambda step: gc.rsqrt(step + 1), 1 + 0.5**0.5 + 3**-0.5),
        (lambda step: 0.1, 0.3),
        (lambda step: step.astype("int64"), 3.0),
    ):
        w.value = 0.0
        step = gc.compile([], [], gc.optim.SGD(1.0, schedule=schedule, dtype="float64").updates(w, [w]))
        for _ in range(3):
            step()
        assert -float(w.value) == pytest.approx(expected, rel=1e-6)


def test_epochs_are_steps_divided():
    """The note of graphc.optim.schedules: a rate that changes between epochs only."""
    of_epochs = gc.optim.ExponentialLR(0.5)
    assert factors(lambda step: of_epochs(gc.floor(step / 4)), range(0, 12, 2)) == [1, 1, 0.5, 0.5, 0.25, 0.25]


def test_the_ends_of_schedules():
    assert factors(gc.optim.PolynomialLR(4, 2), [0, 2, 4, 99]) == [1, 0.25, 0, 0]
    assert factors(gc.optim.LinearWarmup(4, start=0), [0, 1, 4, 99]) == [0, 0.25, 1, 1]
    cycle = gc.optim.OneCycleLR(10, pct_start=0.5, div_factor=4, final_div_factor=2)
    assert factors(cycle, [0, 4, 9, 99]) == pytest.approx([0.25, 1, 0.125, 0.125])
    first = 0.5 + 0.5 * math.cos(math.pi / 10)
    assert factors(gc.optim.OneCycleLR(10, pct_start=0.0), [0, 9]) == pytest.approx([first, 4e-6])
    assert factors(gc.optim.ExponentialLR(0), [0, 1]) == [1, 0]
    assert factors(gc.optim.StepLR(3, 0.1), [2.0, 3.0], "float32") == pytest.approx([1, 0.1], rel=1e-6)


def test_steps_near_the_end_of_exact_counting_fall_on_their_side_in_float32():
    edge = 16_777_212
    assert factors(gc.optim.StepLR(edge, 0.5), [edge - 1, edge], "float32") == [1, 0.5]
    assert factors(gc.optim.StepLR(3, 0.999999), [edge - 1, edge], "float32")[0] > 0


def test_schedules_show_themselves():
    schedule = schedule_of(CASES["one after another"]["schedule"])
    assert re.match(r"SequentialLR\(schedules=\(LinearWarmup\(steps=5, start=0.2\), Cosine", repr(schedule))


BAD = [
    (lambda: gc.optim.StepLR(0), "StepLR: step_size must be a whole number from 1 up, not 0"),
    (lambda: gc.optim.StepLR(2.0), "StepLR: step_size must be a whole number from 1 up, not 2.0"),
    (lambda: gc.optim.StepLR(3, gamma=-1), "StepLR: gamma must be from 0 up, not -1"),
    (lambda: gc.optim.StepLR(3, gama=1), r"StepLR: there is no option 'gama' \(did you mean gamma\?\)"),
    (
        lambda: gc.optim.CosineAnnealingLR(10, eta_min=1e-5),
        r"no option 'eta_min' \(did you mean eta_min_ratio\?\); the options are T_max, eta_min_ratio",
    ),
    (lambda: gc.optim.MultiStepLR(3), "MultiStepLR: milestones is a list of steps, not 3"),
    (lambda: gc.optim.MultiStepLR([5, 3]), r"each of the milestones must be above the one before, not \[5, 3\]"),
    (lambda: gc.optim.MultiStepLR([0]), r"milestones\[0\] must be a whole number from 1 up, not 0"),
    (lambda: gc.optim.LinearWarmup(5, start=1.5), r"LinearWarmup: start must be in \[0, 1\], not 1.5"),
    (lambda: gc.optim.OneCycleLR(1), "OneCycleLR: total_steps must be a whole number from 2 up, not 1"),
    (lambda: gc.optim.OneCycleLR(9, pct_start=1), r"OneCycleLR: pct_start must be in \[0, 1\), not 1"),
    (lambda: gc.optim.SequentialLR([], []), r"SequentialLR: schedules is a list of functions of the step, not \[\]"),
    (lambda: gc.optim.SequentialLR([gc.relu], [1]), "1 schedules need 0 milestones between them, not 1"),
]


@pytest.mark.parametrize("make, message", BAD, ids=[message for _, message in BAD])
def test_bad_option(make, message):
    with pytest.raises(ArgumentError, match=message + r".*\(.*test_schedules\.py:\d+\)$"):
        make()


@pytest.mark.parametrize(
    "schedule, error, message",
    [
        (3, ArgumentTypeError, "SGD: schedule must be a function of the step count, not 3"),
        (lambda step: None, ArgumentTypeError, "SGD: the schedule: factor must be a number from 0 up, not None"),
        (lambda step: -1, ArgumentError, "SGD: the schedule: factor must be from 0 up, not -1"),
        (lambda step: gc.constant([1.0]), ShapeError, r"SGD: the schedule gave an array of shape \(1,\)"),
        (lambda step: step > 3, ArgumentTypeError, "SGD: the schedule gave a bool, not a number"),
    ],
)
def test_what_is_no_schedule(schedule, error, message):
    w = gc.param("w", (), init=1.0)
    with pytest.raises(error, match=message + r".*test_schedules\.py:\d+"):
        gc.optim.SGD(1.0, schedule=schedule).updates(w, [w])

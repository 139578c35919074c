"""Optimisers with any options, schedule and clipping against PyTorch, fifty steps (collected where it is installed)."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.optim import in_torch
from tests.optim.cases import run

LIMIT = st.floats(1e-3, 0.2)
SHARE = st.floats(0.0, 0.95)
DECAY = st.sampled_from([0.0, 0.01, 0.2])
MEMORY = st.floats(0.5, 0.999)  # of squares: without it a step is a sign, and rounding decides on signs
BETAS = st.tuples(SHARE, MEMORY)
EPS = st.sampled_from([1e-8, 1e-3])

OPTIONS = {
    "SGD": {"momentum": SHARE, "dampening": SHARE, "nesterov": st.booleans()},
    "Adam": {"betas": BETAS, "eps": EPS, "amsgrad": st.booleans()},
    "AdamW": {"betas": BETAS, "eps": EPS, "amsgrad": st.booleans()},
    "NAdam": {"betas": BETAS, "eps": EPS, "momentum_decay": st.floats(0, 0.5)},
    "RMSprop": {"alpha": MEMORY, "eps": EPS, "momentum": SHARE, "centered": st.booleans()},
    "Adagrad": {"lr_decay": SHARE, "initial_accumulator_value": SHARE, "eps": EPS},
    "Adadelta": {"rho": MEMORY, "eps": EPS},
}

FACTOR = st.floats(0.1, 1.0)
COUNT = st.integers(1, 60)
PLAIN = st.one_of(
    st.tuples(st.just("StepLR"), st.fixed_dictionaries({"step_size": COUNT, "gamma": FACTOR})),
    st.tuples(
        st.just("MultiStepLR"),
        st.fixed_dictionaries({"milestones": st.sets(COUNT, min_size=1).map(sorted), "gamma": FACTOR}),
    ),
    st.tuples(st.just("ExponentialLR"), st.fixed_dictionaries({"gamma": FACTOR})),
    st.tuples(st.just("CosineAnnealingLR"), st.fixed_dictionaries({"T_max": COUNT, "eta_min_ratio": SHARE})),
    st.tuples(st.just("LinearWarmup"), st.fixed_dictionaries({"steps": COUNT, "start": FACTOR})),
    st.tuples(
        st.just("PolynomialLR"), st.fixed_dictionaries({"total_iters": COUNT, "power": st.floats(0.5, 3)})
    ),
)


@st.composite
def schedules(draw):
    if draw(st.booleans()):
        return draw(PLAIN)
    milestones = sorted(draw(st.sets(st.integers(1, 45), min_size=1, max_size=3)))
    return "SequentialLR", {"schedules": [draw(PLAIN) for _ in range(len(milestones) + 1)], "milestones": milestones}


@st.composite
def cases(draw):
    name = draw(st.sampled_from(sorted(OPTIONS)))
    options = draw(st.fixed_dictionaries({"lr": st.floats(1e-3, 0.2), "weight_decay": DECAY}, optional=OPTIONS[name]))
    if name == "SGD":
        options["nesterov"] = options.get("nesterov", False) and options.get("momentum", 0) > 0
        if options["nesterov"]:
            options["dampening"] = 0
    if options.get("centered"):
        options["eps"] = 1e-3  # v - a^2 can be a small difference of rounded numbers, and its root is divided by
    case = {"optimiser": name, "options": options}
    for key, values in (("schedule", schedules()), ("clip_norm", LIMIT), ("clip_value", LIMIT)):
        if draw(st.booleans()):
            case[key] = draw(values)
    return case


@settings(max_examples=40)
@given(cases(), st.sampled_from(["numpy", "llvm"]))
def test_fifty_steps_agree(case, backend):
    kept = range(1, 51, 7)
    found, expected = run(case, "float64", backend, kept, is_given=True), in_torch.run(case, kept, is_given=True)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


@settings(max_examples=20)
@given(cases())
def test_fifty_steps_agree_in_float32(case):
    found, expected = run(case, "float32", is_given=True), in_torch.run(case, is_given=True)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)

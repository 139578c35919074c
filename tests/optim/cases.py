"""What the optimisers are compared on: a case is a dictionary of plain values, read here and by in_torch.py.

    {"optimiser": "Adam", "options": {...}, "schedule": ["StepLR", {...}], "clip_norm": 0.1, "clip_value": 0.02}

Schedules are written as graphc names them. The problem: two parameters, tanh in between, so that no step is trivial.
"""

from __future__ import annotations

import numpy as np

import graphc as gc

RNG = np.random.default_rng(0)
X, T = RNG.normal(size=(8, 4)), RNG.normal(size=(8, 3))
STARTS = {"W": RNG.normal(size=(4, 3)), "b": RNG.normal(size=3)}
STEPS = 50
GIVEN = {name: 0.1 * RNG.normal(size=(STEPS, *start.shape)) for name, start in STARTS.items()}
KEPT = (1, 10, 50)  # steps after which the parameters are compared

STEP = ["StepLR", {"step_size": 7, "gamma": 0.5}]
WARM = ["LinearWarmup", {"steps": 5, "start": 0.2}]
COSINE = ["CosineAnnealingLR", {"T_max": 30, "eta_min_ratio": 0.1}]

CASES = {
    "sgd": {"optimiser": "SGD", "options": {"lr": 0.1}},
    "sgd momentum": {"optimiser": "SGD", "options": {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}},
    "sgd dampening": {"optimiser": "SGD", "options": {"lr": 0.1, "momentum": 0.9, "dampening": 0.3}},
    "sgd nesterov": {"optimiser": "SGD", "options": {"lr": 0.1, "momentum": 0.8, "nesterov": True}},
    "adam": {"optimiser": "Adam", "options": {}},
    "adam options": {
        "optimiser": "Adam",
        "options": {"lr": 0.1, "betas": [0.8, 0.9], "eps": 1e-3, "weight_decay": 0.1},
    },
    "adam amsgrad": {"optimiser": "Adam", "options": {"lr": 0.1, "betas": [0.5, 0.6], "amsgrad": True}},
    "adamw": {"optimiser": "AdamW", "options": {"lr": 0.05}},
    "adamw amsgrad": {"optimiser": "AdamW", "options": {"lr": 0.05, "weight_decay": 0.3, "amsgrad": True}},
    "nadam": {"optimiser": "NAdam", "options": {}},
    "nadam options": {"optimiser": "NAdam", "options": {"lr": 0.05, "momentum_decay": 0.1, "weight_decay": 0.1}},
    "rmsprop": {"optimiser": "RMSprop", "options": {}},
    "rmsprop options": {
        "optimiser": "RMSprop",
        "options": {"lr": 0.05, "alpha": 0.9, "weight_decay": 0.1, "momentum": 0.8, "centered": True},
    },
    "adagrad": {"optimiser": "Adagrad", "options": {}},
    "adagrad options": {
        "optimiser": "Adagrad",
        "options": {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.5, "eps": 1e-3},
    },
    "adadelta": {"optimiser": "Adadelta", "options": {}},
    "adadelta options": {"optimiser": "Adadelta", "options": {"lr": 0.5, "rho": 0.8, "eps": 1e-4, "weight_decay": 0.1}},
    "step": {"optimiser": "SGD", "options": {"lr": 0.2}, "schedule": STEP},
    "milestones": {
        "optimiser": "SGD",
        "options": {"lr": 0.2},
        "schedule": ["MultiStepLR", {"milestones": [3, 9, 30], "gamma": 0.3}],
    },
    "exponential": {"optimiser": "SGD", "options": {"lr": 0.2}, "schedule": ["ExponentialLR", {"gamma": 0.9}]},
    "cosine": {"optimiser": "Adam", "options": {"lr": 0.05}, "schedule": COSINE},
    "warm-up": {"optimiser": "SGD", "options": {"lr": 0.2, "momentum": 0.9}, "schedule": WARM},
    "polynomial": {
        "optimiser": "AdamW",
        "options": {"lr": 0.1},
        "schedule": ["PolynomialLR", {"total_iters": 40, "power": 2.5}],
    },
    "one cycle": {"optimiser": "SGD", "options": {"lr": 0.3}, "schedule": ["OneCycleLR", {"total_steps": 51}]},
    "one after another": {
        "optimiser": "NAdam",
        "options": {"lr": 0.05},
        "schedule": ["SequentialLR", {"schedules": [WARM, COSINE, STEP], "milestones": [5, 20]}],
    },
    "clip norm": {"optimiser": "SGD", "options": {"lr": 0.2}, "clip_norm": 0.3},
    "clip value": {"optimiser": "SGD", "options": {"lr": 0.2, "weight_decay": 0.1}, "clip_value": 0.05},
    "all": {
        "optimiser": "AdamW",
        "options": {"lr": 0.1, "amsgrad": True},
        "schedule": STEP,
        "clip_norm": 0.1,
        "clip_value": 0.05,
    },
}


def schedule_of(described):
    """The schedule that ["StepLR", {...}] describes."""
    name, options = described
    if name == "SequentialLR":
        options = options | {"schedules": [schedule_of(one) for one in options["schedules"]]}
    return getattr(gc.optim, name)(**options)


def optimiser_of(case, dtype):
    options = {key: case[key] for key in ("clip_norm", "clip_value") if key in case}
    if "schedule" in case:
        options["schedule"] = schedule_of(case["schedule"])
    return getattr(gc.optim, case["optimiser"])(**case["options"], **options, dtype=dtype)


def run(case, dtype, backend="llvm", kept=KEPT, is_given=False):
    """The parameters after the steps in `kept`, flat, one row for each. is_given: with gradients from GIVEN, which do
    not depend on the parameters, so that no rounding grows from step to step."""
    W, b = parameters = [gc.param(name, start.shape, init=start, dtype=dtype) for name, start in STARTS.items()]
    inputs = []
    if is_given:
        inputs = [gc.input(f"d{name}", start.shape, dtype=dtype) for name, start in STARTS.items()]
        loss = gc.sum(inputs[0] * W) + gc.sum(inputs[1] * b)
    else:
        loss = gc.mean(gc.square(gc.tanh(gc.constant(X.astype(dtype)) @ W + b) - gc.constant(T.astype(dtype))))
    updates = optimiser_of(case, dtype).updates(loss, parameters)
    step = gc.compile(inputs, loss, updates=updates, backend=backend)
    rows = []
    for number in range(1, STEPS + 1):
        step(*(GIVEN[name][number - 1].astype(dtype) for name in STARTS if is_given))
        if number in kept:
            rows.append(np.concatenate([p.value.reshape(-1) for p in parameters]))
    return np.array(rows)

"""The cases of tests/optim/cases.py in PyTorch, in float64.

    python -m tests.optim.in_torch      writes tests/optim/recorded.json, where PyTorch is installed
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch.optim import lr_scheduler

from tests.optim.cases import CASES, GIVEN, KEPT, STARTS, STEPS, T, X

RECORDED = Path(__file__).with_name("recorded.json")


def scheduler_of(described, optimiser, rate):
    name, options = described
    if name == "SequentialLR":
        parts = [scheduler_of(one, optimiser, rate) for one in options["schedules"]]
        return lr_scheduler.SequentialLR(optimiser, parts, options["milestones"])
    if name == "LinearWarmup":
        return lr_scheduler.LinearLR(optimiser, start_factor=options["start"], total_iters=options["steps"])
    if name == "CosineAnnealingLR":
        return lr_scheduler.CosineAnnealingLR(optimiser, options["T_max"], rate * options.get("eta_min_ratio", 0))
    if name == "OneCycleLR":
        return lr_scheduler.OneCycleLR(optimiser, rate, cycle_momentum=False, **options)
    return getattr(lr_scheduler, name)(optimiser, **options)


def run(case, kept=KEPT, is_given=False):
    """As `cases.run`."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # NAdam keeps a product in the default dtype, whatever its parameters have
    try:
        return _run(case, kept, is_given)
    finally:
        torch.set_default_dtype(before)


def _run(case, kept, is_given):
    parameters = [torch.tensor(start, requires_grad=True) for start in STARTS.values()]
    x, t = torch.tensor(X), torch.tensor(T)
    optimiser = getattr(torch.optim, case["optimiser"])(parameters, **case["options"])
    rate = optimiser.param_groups[0]["lr"]
    scheduler = scheduler_of(case["schedule"], optimiser, rate) if "schedule" in case else None
    rows = []
    for number in range(1, STEPS + 1):
        optimiser.zero_grad()
        if is_given:
            for parameter, gradients in zip(parameters, GIVEN.values(), strict=True):
                parameter.grad = torch.tensor(gradients[number - 1])
        else:
            (torch.tanh(x @ parameters[0] + parameters[1]) - t).square().mean().backward()
        if "clip_value" in case:
            torch.nn.utils.clip_grad_value_(parameters, case["clip_value"])
        if "clip_norm" in case:
            torch.nn.utils.clip_grad_norm_(parameters, case["clip_norm"])
        optimiser.step()
        if scheduler is not None:
            scheduler.step()
        if number in kept:
            rows.append(np.concatenate([p.detach().numpy().reshape(-1) for p in parameters]))
    return np.array(rows)


def main():
    rows = {name: run(case).tolist() for name, case in CASES.items()}
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(values)}" for name, values in rows.items())
    RECORDED.write_text(f'{{\n "torch": {json.dumps(torch.__version__)},\n{lines}\n}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()

"""Fifty steps of every optimiser, with schedules and clipping, against values that PyTorch gave (recorded.json)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from graphc.backend import available
from tests.features.rows import shows
from tests.optim.cases import CASES, run

RECORDED = json.loads(Path(__file__).with_name("recorded.json").read_text(encoding="utf-8"))
TOLERANCES = {"float64": 1e-10, "float32": 1e-4}
ROWS = {  # of the features table
    "sgd": ["E.sgd"],
    "sgd momentum": ["E.momentum", "E.weight_decay"],
    "sgd dampening": ["E.momentum"],
    "sgd nesterov": ["E.nesterov"],
    "adam": ["E.adam"],
    "adam options": ["E.adam", "E.weight_decay"],
    "adam amsgrad": ["E.adam"],
    "adamw": ["E.adamw"],
    "adamw amsgrad": ["E.adamw", "E.weight_decay"],
    "rmsprop": ["E.rmsprop"],
    "rmsprop options": ["E.rmsprop", "E.weight_decay"],
    "step": ["E.step"],
    "milestones": ["E.step"],
    "exponential": ["E.exponential"],
    "cosine": ["E.cosine"],
    "warm-up": ["E.warmup"],
    "clip norm": ["E.clip_norm"],
    "clip value": ["E.clip_value"],
}


@pytest.mark.parametrize("name", [shows(name, ROWS.get(name, [])) for name in CASES])
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_fifty_steps_as_in_pytorch(name, dtype):
    tolerance = TOLERANCES[dtype]
    for backend in available() if dtype == "float64" else ["llvm"]:
        np.testing.assert_allclose(
            run(CASES[name], dtype, backend), RECORDED[name], rtol=tolerance, atol=tolerance, err_msg=backend
        )

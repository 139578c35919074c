"""Fifty steps of every optimiser, with schedules and clipping, against values that PyTorch gave (recorded.json)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from graphc.backend import available
from tests.optim.cases import CASES, run

RECORDED = json.loads(Path(__file__).with_name("recorded.json").read_text(encoding="utf-8"))
TOLERANCES = {"float64": 1e-10, "float32": 1e-4}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_fifty_steps_as_in_pytorch(name, dtype):
    tolerance = TOLERANCES[dtype]
    for backend in available() if dtype == "float64" else ["llvm"]:
        np.testing.assert_allclose(
            run(CASES[name], dtype, backend), RECORDED[name], rtol=tolerance, atol=tolerance, err_msg=backend
        )

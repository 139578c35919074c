"""Layers and losses against values recorded from PyTorch: outputs, gradients in inputs and parameters, statistics."""

from __future__ import annotations

import pytest

from tests.nn.record_torch import recorded
from tests.nn.torch_cases import LAYERS, LOSSES, assert_agree, by_graphc, digest

RECORDED = recorded()


def test_each_case_is_recorded():
    assert {case.name for case in LAYERS + LOSSES} == set(RECORDED), "run python -m tests.nn.record_torch"


@pytest.mark.parametrize("dtype, backend", [("float64", "numpy"), ("float32", "llvm")])
@pytest.mark.parametrize("case", LAYERS + LOSSES, ids=lambda case: case.name)
def test_agrees_with_pytorch(case, dtype, backend):
    found = by_graphc(case, dtype, backend)
    assert all(value.dtype in (dtype, "int64") for value in found.values())
    assert_agree(case, {name: digest(case, name, value) for name, value in found.items()}, RECORDED[case.name], dtype)

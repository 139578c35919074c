"""Layers and losses against values recorded from PyTorch: outputs, gradients in inputs and parameters, statistics."""

from __future__ import annotations

import pytest

from tests.features.rows import shows
from tests.nn.record_torch import recorded
from tests.nn.torch_cases import LAYERS, LOSSES, assert_agree, by_graphc, digest

RECORDED = recorded()
ROWS = {  # of the features table
    "Linear": ["C.linear"],
    "Conv1d": ["C.conv1d"],
    "Conv2d": ["C.conv2d"],
    "ConvTranspose1d": ["C.conv_transpose"],
    "ConvTranspose2d": ["C.conv_transpose"],
    "MaxPool1d": ["C.max_pool"],
    "MaxPool2d": ["C.max_pool"],
    "AvgPool1d": ["C.avg_pool"],
    "AvgPool2d": ["C.avg_pool"],
    "AdaptiveAvgPool2d": ["C.global_pool"],
    "BatchNorm1d": ["C.batch_norm"],
    "BatchNorm2d": ["C.batch_norm"],
    "LayerNorm": ["C.layer_norm"],
    "Embedding": ["C.embedding"],
    "RNNCell": ["C.recurrent"],
    "LSTMCell": ["C.recurrent"],
    "GRUCell": ["C.recurrent"],
    "MultiheadAttention": ["C.attention"],
    "ReLU": ["B.relu"],
    "LeakyReLU": ["B.leaky_relu"],
    "PReLU": ["B.prelu"],
    "ELU": ["B.elu"],
    "Tanh": ["B.tanh"],
    "Sigmoid": ["B.sigmoid"],
    "GELU": ["B.gelu"],
    "Softplus": ["B.softplus"],
    "ReLU6": ["B.hard"],
    "Hardtanh": ["B.hard"],
    "Hardsigmoid": ["B.hard"],
    "Hardswish": ["B.hard"],
    "cross_entropy": ["B.cross_entropy"],
    "mse_loss": ["B.squared_error"],
    "binary_cross_entropy": ["B.bce_probabilities"],
    "binary_cross_entropy_with_logits": ["B.bce_logits"],
    "kl_div": ["B.kl_div"],
    "multi_margin_loss": ["B.hinge"],
}
CASES = [shows(case, ROWS.get(case.layer, []), id=case.name) for case in LAYERS + LOSSES]


def test_each_case_is_recorded():
    assert {case.name for case in LAYERS + LOSSES} == set(RECORDED), "run python -m tests.nn.record_torch"


@pytest.mark.parametrize("dtype, backend", [("float64", "numpy"), ("float32", "llvm")])
@pytest.mark.parametrize("case", CASES)
def test_agrees_with_pytorch(case, dtype, backend):
    found = by_graphc(case, dtype, backend)
    assert all(value.dtype in (dtype, "int64") for value in found.values())
    assert_agree(case, {name: digest(case, name, value) for name, value in found.items()}, RECORDED[case.name], dtype)

"""The rows of whole programs. Goals are ratios to the fastest peer, from times on one machine with two threads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tests.bench.programs.problems import (
    CNN,
    LENET,
    MLP,
    VGG19,
    Composed,
    Elementwise,
    Inference,
    NormLoss,
    Problem,
    Training,
)
from tests.bench.times import Goal

SLOW: Final = frozenset({"torch.compile"})
"""Peers that take seconds before their first result: they run when they are asked for."""


@dataclass(frozen=True)
class Row:
    """A line of the table: peers in the order in which they are printed; the backend of graphc's side."""

    name: str
    problem: Problem
    goal: Goal
    peers: tuple[str, ...]
    backend: str = "llvm"


def _us(seconds: float) -> float:
    return seconds * 1e-6


_TORCH_JAX: Final = ("torch", "torch.compile", "jax")
_INFERENCE: Final = ("onnxruntime", "torch", "torch.compile", "jax")
_MLP_STEP: Final = Training(MLP, 64, rate=0.02)
_LENET_STEP: Final = Training(LENET, 64, rate=0.002, momentum=0.9)
_CNN_STEP: Final = Training(CNN, 64, 1e-4, "adam", tolerance=5e-5)

ROWS: Final = (
    Row("elem1e6", Elementwise(10**6), Goal(_us(170), "jax", _us(524)), (*_TORCH_JAX, "numba")),
    Row("elem1e6_grad", Elementwise(10**6, gradient=True), Goal(_us(230), "jax", _us(654)), (*_TORCH_JAX, "numba")),
    Row("seed_scalar", Composed(), Goal(_us(0.5), "sympy", _us(0.57)), ("sympy", "pytensor", "casadi", *_TORCH_JAX)),
    Row("seed_1e6", Composed(10**6), Goal(_us(320), "torch.compile", _us(2055)), (*_TORCH_JAX, "sympy")),
    Row("mlp_b64", _MLP_STEP, Goal(_us(95), "pytensor", _us(249)), ("pytensor", *_TORCH_JAX)),
    Row("lenet_b64", _LENET_STEP, Goal(_us(750), "torch", _us(4040)), _TORCH_JAX),
    Row("cnn_b64_adam", _CNN_STEP, Goal(_us(10_500), "torch", _us(38_100)), _TORCH_JAX),
    Row("ln_ce_512x768", NormLoss(512, 768), Goal(_us(90), "torch", _us(346)), _TORCH_JAX),
    Row("vgg19_b1 inference", Inference(VGG19, 1), Goal(_us(70_000), "onnxruntime", _us(98_900)), _INFERENCE),
    Row("mlp_b1 inference", Inference(MLP, 1), Goal(_us(2.5), "onnxruntime", _us(7.1)), _INFERENCE),
    Row("lenet_b1 inference", Inference(LENET, 1), Goal(_us(6), "onnxruntime", _us(16)), _INFERENCE),
    Row("lenet_b64 inference", Inference(LENET, 64), Goal(_us(160), "onnxruntime", _us(338)), _INFERENCE),
    Row("mlp_b64 numpy backend", _MLP_STEP, Goal(1.0, "numpy", 1.0), ("numpy",), backend="numpy"),
)

"""compile(dynamic=...) of all that models are made of: layers, losses, steps of training, checkpoints."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc.backend import available
from tests.compiler.dynamic_support import agrees, perceptron, rows

nn = gc.nn

def first_of(output):
    return output[0] if isinstance(output, tuple) else output


LAYERS = {
    "Linear": (lambda: nn.Linear(5, 3, seed=0), (5,)),
    "Conv1d": (lambda: nn.Conv1d(2, 3, 3, seed=0), (2, 6)),
    "Conv2d": (lambda: nn.Conv2d(2, 3, 3, padding=1, seed=0), (2, 4, 4)),
    "ConvTranspose1d": (lambda: nn.ConvTranspose1d(2, 3, 3, seed=0), (2, 6)),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(2, 3, 3, stride=2, seed=0), (2, 3, 3)),
    "BatchNorm1d": (lambda: nn.BatchNorm1d(5), (5,)),
    "BatchNorm1d of sequences": (lambda: nn.BatchNorm1d(5), (5, 3)),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(3), (3, 2, 2)),
    "LayerNorm": (lambda: nn.LayerNorm(5), (5,)),
    "RMSNorm": (lambda: nn.RMSNorm(5), (5,)),
    "GroupNorm": (lambda: nn.GroupNorm(2, 4), (4, 2, 2)),
    "Dropout": (lambda: nn.Dropout(0.5, seed=1), (5,)),
    "Dropout1d": (lambda: nn.Dropout1d(0.5, seed=1), (5, 3)),
    "Dropout2d": (lambda: nn.Dropout2d(0.5, seed=1), (5, 2, 2)),
    "RNN": (lambda: nn.RNN(3, 4, batch_first=True, seed=0), (4, 3)),
    "LSTM": (lambda: nn.LSTM(3, 2, 2, batch_first=True, dropout=0.3, seed=0), (3, 3)),
    "GRU": (lambda: nn.GRU(3, 4, batch_first=True, seed=0), (4, 3)),
    "RNNCell": (lambda: nn.RNNCell(3, 4, seed=0), (3,)),
    "LSTMCell": (lambda: nn.LSTMCell(3, 4, seed=0), (3,)),
    "GRUCell": (lambda: nn.GRUCell(3, 4, seed=0), (3,)),
    "Embedding": (lambda: nn.Embedding(4, 6, padding_idx=1, seed=0), (3, "int64")),
    "Maxout": (lambda: nn.Maxout(5, 3, 2, seed=0), (5,)),
    "PReLU": (lambda: nn.PReLU(), (5,)),
    "TransformerEncoderLayer": (
        lambda: nn.TransformerEncoderLayer(4, 2, 8, dropout=0.2, batch_first=True, seed=0), (3, 4),
    ),
    "AvgPool1d": (lambda: nn.AvgPool1d(2), (3, 6)),
    "AvgPool2d": (lambda: nn.AvgPool2d(2), (3, 4, 4)),
    "AdaptiveAvgPool2d": (lambda: nn.AdaptiveAvgPool2d(2), (3, 4, 4)),
    "MaxPool1d": (lambda: nn.MaxPool1d(2), (3, 6)),
    "MaxPool2d": (lambda: nn.MaxPool2d(2), (3, 4, 4)),
    "GlobalAvgPool": (lambda: nn.GlobalAvgPool(), (3, 4, 4)),
    "GlobalMaxPool": (lambda: nn.GlobalMaxPool(), (3, 4, 4)),
    "Flatten": (lambda: nn.Flatten(), (3, 4)),
    "Softmax": (lambda: nn.Softmax(), (5,)),
    "LogSoftmax": (lambda: nn.LogSoftmax(), (5,)),
    "Softmax over rows": (lambda: nn.Softmax(axis=0), (5,)),
    "LogSoftmax over rows": (lambda: nn.LogSoftmax(axis=0), (5,)),
    "Residual": (lambda: nn.Residual(nn.Linear(5, 5, seed=0)), (5,)),
    "ResidualBlock": (lambda: nn.ResidualBlock(4), (4,)),
    "DenseConnection": (lambda: nn.DenseConnection(nn.Linear(5, 3, seed=0)), (5,)),
}  # fmt: skip
ACTIVATIONS = (
    "ELU GELU Hardsigmoid Hardswish Hardtanh Identity LeakyReLU ReLU ReLU6 SiLU Sigmoid Softplus Tanh"
).split()
NO_BATCH = {"GraphConv", "MultiheadAttention"}  # nodes of one graph; attention is part of the TransformerEncoderLayer
NO_LAYERS = {"Module", "ModuleDict", "ModuleList", "Sequential", "Layer", "Activation"}


def test_every_layer_is_here():
    losses = {name for name in dir(nn) if name.endswith("Loss")}
    classes = {name for name in dir(nn) if isinstance(one := getattr(nn, name), type) and issubclass(one, nn.Module)}
    assert classes - losses <= {*LAYERS, *ACTIVATIONS, *NO_BATCH, *NO_LAYERS}


def activations():
    return nn.Sequential(*(getattr(nn, name)() for name in ACTIVATIONS))


def layer_step(name, training):
    build, others = LAYERS.get(name, (activations, (5,)))
    is_of_indices = others[-1] == "int64"
    layer, x = build(), rows(*others[:-1], dtype="int64") if is_of_indices else rows(*others)
    y = first_of(layer(x, training=training))
    loss = gc.sum(gc.sin(y)) / 7
    parameters = layer.parameters()
    gradients = [] if is_of_indices else [gc.grad(loss, x)]
    return [x], [y, loss, *gradients], gc.optim.SGD(0.1, momentum=0.9).updates(loss, parameters) if parameters else {}


@pytest.mark.parametrize("name", [*LAYERS, "activations"])
def test_layers(name, short_blocks):
    agrees("numpy", *layer_step(name, True), sizes=(2, 23))


@pytest.mark.parametrize("name", [name for name in LAYERS if name.startswith(("BatchNorm", "Dropout"))])
def test_layers_in_evaluation(name, short_blocks):
    agrees("numpy", *layer_step(name, False), sizes=(0, 1, 23))


NATIVE = ["Conv2d", "BatchNorm1d", "Dropout", "Embedding", "RNN", "Softmax over rows"]


@pytest.mark.skipif("llvm" not in available(), reason="the llvm backend is not installed")
@pytest.mark.parametrize("name", NATIVE)
def test_native_layers(name, short_blocks):
    agrees("llvm", *layer_step(name, True), sizes=(2, 23))


LOSSES = {
    "mse_loss": (nn.mse_loss, False),
    "l1_loss": (nn.l1_loss, False),
    "squared_error": (nn.squared_error, False),
    "huber_loss": (nn.huber_loss, False),
    "smooth_l1_loss": (nn.smooth_l1_loss, False),
    "binary_cross_entropy": (lambda y, t, **r: nn.binary_cross_entropy(gc.sigmoid(y), t, **r), False),
    "binary_cross_entropy_with_logits": (nn.binary_cross_entropy_with_logits, False),
    "kl_div": (lambda y, t, **r: nn.kl_div(gc.log_softmax(y), t, **r), False),
    "gaussian_nll_loss": (lambda y, t, **r: nn.gaussian_nll_loss(y, t, gc.exp(y), **r), False),
    "cross_entropy": (nn.cross_entropy, True),
    "cross_entropy of probabilities": (nn.cross_entropy, False),
    "cross_entropy, smoothed": (lambda y, t, **r: nn.cross_entropy(y, t, label_smoothing=0.1, **r), True),
    "cross_entropy, some ignored": (lambda y, t, **r: nn.cross_entropy(y, t, ignore_index=2, **r), True),
    "cross_entropy, weighted": (
        lambda y, t, **r: nn.cross_entropy(y, t, weight=np.arange(1, 5, dtype="float32"), **r), True,
    ),
    "nll_loss": (lambda y, t, **r: nn.nll_loss(gc.log_softmax(y), t, **r), True),
    "multi_margin_loss": (nn.multi_margin_loss, True),
    "multiclass_hinge_loss": (nn.multiclass_hinge_loss, True),
}  # fmt: skip


@pytest.mark.parametrize(
    "name, reduction",
    [(name, "mean") for name in LOSSES]
    + [(name, other) for name in ("mse_loss", "cross_entropy", "multi_margin_loss") for other in ("sum", "none")],
)
def test_losses(name, reduction, short_blocks):
    loss_of, takes_labels = LOSSES[name]
    model, x = nn.Linear(5, 4, seed=0), rows(5)
    t = rows(name="t", dtype="int64") if takes_labels else rows(4, name="t")
    loss = loss_of(model(x), t, reduction=reduction)
    updates = gc.optim.SGD(0.1).updates(gc.sum(loss), model.parameters())
    agrees("numpy", [x, t], loss, updates, sizes=(0, 23))


def test_training_steps(backend, verified):
    model, x, t = perceptron(), rows(5), rows(name="t", dtype="int64")
    scores = model(x)
    loss = nn.cross_entropy(scores, t)
    updates = gc.optim.Adam(0.01).updates(loss, model.parameters())
    outputs = [loss, scores, nn.accuracy(scores, t)]
    agrees(backend, [x, t], outputs, updates, sizes=(0, 1, 4, 17, 64, 255, 256, 1000), rtol=2e-4, calls=3)


@pytest.mark.parametrize(
    "more",
    [(lambda: nn.Dropout(0.5, seed=1),), (lambda: nn.BatchNorm1d(6), lambda: nn.Dropout(0.5, seed=1))],
    ids=["dropout", "batch norm and dropout"],
)
def test_checkpoints(more, backend, short_blocks, verified):
    model, x = perceptron(*(build() for build in more)), rows(5)
    y = gc.checkpoint(lambda x: model(x, training=True), x)
    loss = gc.sum(gc.sin(y)) / 7
    agrees(backend, [x], [loss, y], gc.optim.SGD(0.1).updates(loss, model.parameters()), sizes=(2, 23))


def test_a_checkpoint_of_two_dimensions(backend, short_blocks):
    x, y, w = rows(3), gc.input("y", ("M", 3)), gc.param("w", (3, 4), init=gc.init.he_normal(seed=0))
    dropout = nn.Dropout(0.5, seed=1)
    one, other = gc.checkpoint(
        lambda x, y: (dropout(gc.tanh(x @ w), training=True), dropout(gc.tanh(y @ w), training=True)), x, y
    )
    loss = gc.mean(one**2) * gc.mean(other**3)
    sizes = [{"N": n, "M": m} for n, m in ((1, 1), (5, 23), (17, 2))]
    agrees(backend, [x, y], loss, gc.optim.SGD(0.1).updates(loss, [w]), sizes, ("N", "M"))

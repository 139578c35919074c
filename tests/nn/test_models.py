"""The models of the measured workloads: shapes, parameter counts, gradients as valid graphs."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc.ir.graph import Graph, topological
from graphc.ir.node import Opaque
from graphc.ir.verify import verify


def mlp():
    nn = gc.nn
    return nn.Sequential(
        nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10)
    ), (784,)


def lenet():
    nn = gc.nn
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    ), (1, 28, 28)


def cnn():
    nn = gc.nn
    return nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(9216, 128), nn.ReLU(), nn.Linear(128, 10),
    ), (1, 28, 28)


MODELS = {"mlp": (mlp, 118_282), "lenet": (lenet, 61_706), "cnn": (cnn, 1_199_882)}
OPTIMISERS = {"mlp": gc.optim.SGD, "lenet": lambda lr: gc.optim.SGD(lr, momentum=0.9), "cnn": gc.optim.Adam}


@pytest.mark.parametrize("batch", ["N", 64])
@pytest.mark.parametrize("name", MODELS)
def test_model(name, batch):
    build, count = MODELS[name]
    model, image = build()
    x, t = gc.input("x", (batch, *image)), gc.input("t", (batch,), dtype="int64")
    logits = model(x)
    assert logits.shape[1:] == (10,) and logits.dtype == "float32"
    assert sum(int(np.prod(p.shape)) for p in model.parameters()) == count
    loss = gc.nn.cross_entropy(logits, t)
    gradients = gc.grad(loss, model.parameters())
    assert [g.shape for g in gradients] == [p.shape for p in model.parameters()]
    updates = OPTIMISERS[name](1e-3).updates(loss, model.parameters())
    assert all(new.shape == old.shape and new.dtype == old.dtype for old, new in updates.items())
    outputs = [loss, *gradients, *updates.values()]
    verify(Graph(tuple(tensor.node for tensor in outputs)))
    opaque = {node.op for node in topological([t.node for t in outputs]) if isinstance(node, Opaque)}
    assert opaque <= {"stop_gradient", "checked"}


def test_layer_norm_then_cross_entropy():
    x, t = gc.input("x", (512, 768)), gc.input("t", (512,), dtype="int64")
    norm = gc.nn.LayerNorm(768)
    loss = gc.nn.cross_entropy(norm(x), t)
    gradients = gc.grad(loss, [x, *norm.parameters()])
    assert [g.shape for g in gradients] == [(512, 768), (768,), (768,)]
    verify(Graph((loss.node, *(g.node for g in gradients))))


def test_a_small_model_learns_by_its_updates():
    """Gradient descent by evaluating the update expressions, so that layers, loss and optimiser meet once here."""
    rng = np.random.default_rng(0)
    images, labels = rng.normal(size=(8, 1, 6, 6)).astype("float32"), np.arange(8) % 2
    nn = gc.nn
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3, seed=0), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.LayerNorm(12), nn.Linear(12, 2, seed=1)
    )
    x, t = gc.input("x", (8, 1, 6, 6)), gc.input("t", (8,), dtype="int64")
    loss = nn.cross_entropy(model(x), t)
    updates = gc.optim.Adam(lr=0.05).updates(loss, model.parameters())
    losses = []
    for _ in range(12):
        first, *new = gc.evaluate([loss, *updates.values()], {x: images, t: labels})
        losses.append(float(first))
        for variable, value in zip(updates, new, strict=True):
            variable.value = value
    assert losses[-1] < 0.3 * losses[0]

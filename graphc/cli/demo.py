"""graphc demo: train a network on handwritten digits, and write down what was derived and generated.

The network, its 64-256-10 units, the optimiser and the schedule are those with which each of the seeds 0 to 4 passes
97% of the held-out fifth in a second; seed 0's split is a hard one.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

import graphc as gc
from graphc.compiler import Function
from graphc.ir.graph import Graph
from graphc.lang.tensor import Tensor, Variable
from graphc.render import latex_of_graph
from graphc.render import render as draw
from graphc.train.progress import Progress

HIDDEN = 256
BATCH = 16
LEARNING_RATE = 0.003  # falls to 0 along a line
WEIGHT_DECAY = 0.1


def demo(output: str, epochs: int, seed: int, backend: str) -> int:
    """Train, print the held-out accuracy, write the files and name each."""
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    images, labels, test_images, test_labels = gc.data.split(*gc.data.digits(), held_out=0.2, seed=seed)
    images, test_images = 4 * images - 2, 4 * test_images - 2  # pixels in [-2, 2]

    model = gc.nn.Sequential(
        gc.nn.Linear(64, HIDDEN, seed=(seed, 0)), gc.nn.ReLU(), gc.nn.Linear(HIDDEN, 10, seed=(seed, 1))
    )
    x = gc.input("x", ("N", 64))
    t = gc.input("t", ("N",), dtype="int64")
    logits = model(x)
    loss = gc.nn.cross_entropy(logits, t).named("loss")
    optimiser = gc.optim.AdamW(lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    parameters = model.parameters()
    updates = optimiser.updates(loss, parameters)
    step = gc.compile([x, t], [loss], updates=updates, backend=backend, name="step")
    predict = gc.compile([x], gc.argmax(logits, axis=1), backend=backend, name="predict")

    progress = Progress(epochs * -(-len(labels) // BATCH), "training")
    for epoch in range(epochs):
        optimiser.lr.value = LEARNING_RATE * (1 - epoch / epochs)
        losses: list[float] = []
        for batch_images, batch_labels in gc.data.batches(images, labels, BATCH, seed, epoch):
            losses.append(float(step(batch_images, batch_labels)[0]))
            progress.advance()
        accuracy = float(np.mean(predict(test_images) == test_labels))
        progress.report(f"epoch {epoch + 1:3d}/{epochs}  loss {np.mean(losses):.4f}  held-out {accuracy:.2%}")
    progress.close()

    print(f"held-out accuracy: {accuracy:.2%} of {len(test_labels)} digits, seed {seed}")
    print(f"{len(labels)} training images, {epochs} epochs, {time.perf_counter() - start:.1f} s on {backend}")
    write_files(folder, loss, parameters, step)
    return 0


def write_files(folder: Path, loss: Tensor, parameters: list[Variable], step: Function) -> None:
    """The pictures, the generated code and the equations; each path is printed with what it is."""
    _name(draw(loss, folder / "forward.svg"), "the graph of the loss")
    _name(draw(loss, folder / "backward.svg", backward=True, wrt=parameters), "the graph with its gradients beside it")
    _name(_write(folder / "step.py", step.source("numpy", N=BATCH)), "one training step as NumPy code")
    _name(_write(folder / "step.ll", step.source("llvm", N=BATCH)), "the same as LLVM IR")
    gradients = gc.grad(loss, parameters)
    graph = Graph((loss.node, *(gradient.node for gradient in gradients)), ("loss",))
    equations = latex_of_graph(graph)
    document = "\n".join(
        [
            r"\documentclass[border=1em]{standalone}",
            r"\usepackage{amsmath, amssymb}",
            r"\begin{document}",
            r"$\displaystyle",
            equations,
            r"$",
            r"\end{document}",
        ]
    )
    _name(_write(folder / "gradients.tex", document), "the derived gradients as mathematics")


def _write(path: Path, text: str) -> str:
    path.write_text(text if text.endswith("\n") else text + "\n", encoding="utf-8", newline="\n")
    return str(path)


def _name(path: str, what: str) -> None:
    print(f"{path}: {what}")
    sys.stdout.flush()

"""Pictures of a training and of a diagnosis. matplotlib is optional: pip install graphc[plot]."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from graphc.errors import BackendError
from graphc.lang.source import user_line

if TYPE_CHECKING:
    from graphc.train.history import History
    from graphc.train.report import Report

_PANEL_INCHES = (5.0, 3.2)


def _panels(count: int) -> tuple[Any, list[Any]]:
    """A figure of so many panels side by side; no window is opened, whatever the user's backend is."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise BackendError(
            "drawing this needs matplotlib, which is not installed: pip install graphc[plot]", user_line()
        ) from None
    width, height = _PANEL_INCHES
    figure = Figure(figsize=(width * count, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, count, squeeze=False)
    return figure, list(axes[0])


def plot_history(history: History, path: str | os.PathLike[str]) -> str:
    """One panel for the losses, one for each metric."""
    stems = [name for name in history if name not in ("loss", "seconds") and not name.startswith("validation_")]
    stems += [
        name.removeprefix("validation_")
        for name in history
        if name.startswith("validation_") and name.removeprefix("validation_") not in (*stems, "loss")
    ]
    figure, panels = _panels(1 + len(stems))
    epochs = range(1, history.epochs + 1)
    for panel, stem in zip(panels, ["loss", *stems], strict=True):
        for name, label in ((stem, "training"), (f"validation_{stem}", "validation")):
            if name in history:
                panel.plot(epochs, history[name], marker="." if history.epochs < 30 else None, label=label)
        if history.best_epoch is not None:
            panel.axvline(history.best_epoch, color="grey", linestyle=":", label="best")
        panel.set_xlabel("epoch")
        panel.set_title(stem)
        panel.legend()
    figure.savefig(os.fspath(path))
    return os.fspath(path)


def plot_report(report: Report, path: str | os.PathLike[str]) -> str:
    """The spread of activations and of gradients over the layers, and each parameter's gradient, on logarithms."""
    figure, panels = _panels(3)
    names = [layer.name for layer in report.layers]
    activations = [layer.activation.deviation for layer in report.layers]
    gradients = [layer.gradient.norm for layer in report.layers]
    parameters = [(parameter.name, parameter.gradient.norm) for parameter in report.parameters]
    _points(panels[0], "deviation of activations", names, activations)
    _points(panels[1], "norm of gradients at outputs", names, gradients)
    _points(panels[2], "norm of parameters' gradients", [n for n, _ in parameters], [v for _, v in parameters])
    figure.savefig(os.fspath(path))
    return os.fspath(path)


def _points(panel: Any, title: str, names: Sequence[str], values: Sequence[float]) -> None:
    panel.plot(range(len(names)), values, marker="o", linestyle=":")
    panel.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=7)
    if any(value > 0 for value in values):
        panel.set_yscale("log")  # which has no place for 0
    panel.grid(axis="y", alpha=0.3)
    panel.set_title(title)

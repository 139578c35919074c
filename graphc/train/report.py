"""What a diagnosis found: numbers for each layer and parameter, and findings in words."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphc.train.nan import NanTrace


@dataclass(frozen=True)
class Spread:
    """Mean, standard deviation, extremes and Euclidean norm of an array's elements."""

    mean: float
    deviation: float
    least: float
    greatest: float
    norm: float

    @classmethod
    def of(cls, array: NDArray[Any]) -> Spread:
        """Computed in float64; NaN for an array without elements."""
        if not array.size:
            return cls(np.nan, np.nan, np.nan, np.nan, np.nan)
        wide = np.asarray(array, np.float64)
        with np.errstate(all="ignore"):  # of values that are not finite the spread is not, either
            return cls(
                float(wide.mean()),
                float(wide.std()),
                float(wide.min()),
                float(wide.max()),
                float(np.sqrt(np.sum(wide * wide))),
            )


@dataclass(frozen=True)
class LayerReport:
    """What a layer, or an activation function outside of one, gave, and the loss's gradient with respect to that.

    dead: the share of units that are 0 for the whole batch, of ReLU; saturated: the share of elements on the flat ends
    of sigmoid or tanh. A unit of a (N, C, H, W) array is a channel, of others an element beside the rows.
    """

    name: str
    kind: str
    activation: Spread
    gradient: Spread
    dead: float | None = None
    saturated: float | None = None


@dataclass(frozen=True)
class ParameterReport:
    """A parameter, the loss's gradient with respect to it, and the norm of the optimiser's step over the parameter's
    (None when no optimiser was given, or the parameter is 0)."""

    name: str
    value: Spread
    gradient: Spread
    update_ratio: float | None = None


@dataclass(frozen=True)
class Report:
    """`findings` are in words, and none for a healthy net; print the report for tables, `plot` it for a picture."""

    loss: float
    rows: int
    layers: tuple[LayerReport, ...]
    parameters: tuple[ParameterReport, ...]
    findings: tuple[str, ...]
    nan: NanTrace | None = None

    def __str__(self) -> str:
        layers = [["layer", "kind", "mean", "deviation", "least", "greatest", "gradient", "dead", "saturated"]]
        for layer in self.layers:
            a = layer.activation
            numbers = [a.mean, a.deviation, a.least, a.greatest, layer.gradient.norm]
            shares = [_percent(layer.dead), _percent(layer.saturated)]
            layers.append([layer.name, layer.kind, *map(_short, numbers), *shares])
        parameters = [["parameter", "deviation", "gradient: mean", "deviation", "least", "greatest", "norm", "update"]]
        for one in self.parameters:
            g = one.gradient
            numbers = [one.value.deviation, g.mean, g.deviation, g.least, g.greatest, g.norm]
            ratio = "" if one.update_ratio is None else _short(one.update_ratio)
            parameters.append([one.name, *map(_short, numbers), ratio])
        found = [f"- {finding}" for finding in self.findings] or ["nothing to report"]
        head = f"loss {_short(self.loss)} over {self.rows} rows"
        return "\n".join([head, "", *_table(layers), "", *_table(parameters), "", *found])

    def plot(self, path: str | os.PathLike[str]) -> str:
        """Draw activations and gradients over the layers into a file (.png, .svg, .pdf); returns its path.

        Errors: `BackendError` when matplotlib is not installed.
        """
        from graphc.train.plots import plot_report  # matplotlib takes most of a second to load

        return plot_report(self, path)


def _short(value: float) -> str:
    return f"{value:.3g}"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"


def _table(rows: list[list[str]]) -> list[str]:
    """Texts to the left, numbers to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    texts = sum(1 for name in rows[0] if name in ("layer", "kind", "parameter"))
    return [
        "  ".join(
            cell.ljust(width) if column < texts else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]

"""What the numbers of a diagnosis mean, in words. A healthy net has no findings; each threshold says why it is so."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from graphc.train.report import LayerReport, ParameterReport

VANISHING = 1e-3
"""The gradient's norm at a layer against that at the last one. Under He's initialiser it stays of one order through ten
layers; at a thousandth, the early layers learn a thousand times slower than the late ones, which is not at all."""

EXPLODING = 1e3
"""The same for one that grows: a learning rate that suits the late layers throws the early ones far away."""

DEAD_SHARE = 0.5
"""Of the units of a ReLU layer, 0 for every row: half of its width is lost. In the last of ten layers under He's
initialiser, whose rows have become alike, a third may be so without harm."""

DEAD_ROWS = 16
"""Fewer rows tell nothing about dead units: one that is 0 for half of all rows is so for all of 4 with chance 1/16."""

SATURATED_SLOPE = 0.05
"""An element of a sigmoid or tanh is saturated when the slope there is below this part of the greatest slope."""

SATURATED_SHARE = 0.5
"""Of the elements of a layer. With inputs of deviation 1 it is under a percent for sigmoid and some 3% for tanh; where
half are saturated, half of the gradient's paths are closed."""

LARGE_UPDATE = 0.1
"""The norm of a step over the norm of the weights. About 1e-3 is usual (A. Karpathy, CS231n, "Babysitting the learning
process"); at a tenth, ten steps replace the weights."""

LOST_UPDATE = 2.0**-24
"""Half the distance between float32 numbers around 1: a step that is smaller against the weights is rounded away."""

HE_RANGE = 0.8
"""A deviation below this part of He's initialiser, or above its inverse, may be why gradients vanish or explode."""


def findings_of(
    layers: Sequence[LayerReport],
    parameters: Sequence[ParameterReport],
    rows: int,
    he: Mapping[str, tuple[str, float]],
) -> Iterator[str]:
    """All findings. he: for a layer's name, its weight's name and the deviation that He's initialiser gives it."""
    yield from _flow(layers, {one.name: one for one in parameters}, he)
    for layer in layers:
        if layer.dead is not None and layer.dead > DEAD_SHARE and rows >= DEAD_ROWS:
            yield (
                f"dead: {layer.dead:.0%} of the units of {layer.name} are 0 for all {rows} rows, and learn no more; "
                "the learning rate may have been too high, or a bias is far below 0"
            )
        if layer.saturated is not None and layer.saturated > SATURATED_SHARE:
            yield (
                f"saturated: {layer.saturated:.0%} of the elements of {layer.name} ({layer.kind}) are where its slope "
                f"is below {SATURATED_SLOPE:.0%} of the greatest; the weights or inputs before it are too large"
            )
    for one in parameters:
        yield from _update(one)


def _flow(
    layers: Sequence[LayerReport], parameters: Mapping[str, ParameterReport], he: Mapping[str, tuple[str, float]]
) -> Iterator[str]:
    """How the gradient's norm changes from the last layer to the earlier ones."""
    if len(layers) < 2:
        return
    last = layers[-1]
    reference = last.gradient.norm
    if reference == 0:
        yield f"no gradient: that of {last.name} is 0 everywhere, so nothing is learnt from this batch"
        return
    least = min(layers[:-1], key=lambda layer: layer.gradient.norm)
    most = max(layers[:-1], key=lambda layer: layer.gradient.norm)
    for word, layer, is_far, direction in (
        ("vanishing", least, least.gradient.norm < VANISHING * reference, "small"),
        ("exploding", most, most.gradient.norm > EXPLODING * reference, "large"),
    ):
        if is_far:
            told = _against(layer.gradient.norm, reference, last.name)
            yield f"{word}: the gradient at {layer.name} {told}; {_cause(layers, parameters, he, direction)}"


def _against(norm: float, reference: float, last: str) -> str:
    if norm == 0:
        return f"is 0, at {last} its norm is {reference:.2g}"
    ratio = f"1/{_rounded(reference / norm)} of" if norm < reference else f"{_rounded(norm / reference)} times"
    return f"has norm {norm:.2g}, {ratio} that at {last}"


def _rounded(value: float) -> str:
    """Two digits of it."""
    if value >= 1e9:
        return f"{value:.1e}"
    return f"{round(value, 1 - math.floor(math.log10(value))):,.0f}"


def _cause(
    layers: Sequence[LayerReport],
    parameters: Mapping[str, ParameterReport],
    he: Mapping[str, tuple[str, float]],
    direction: str,
) -> str:
    """What the weights' deviations say, the one furthest off first."""
    is_small = direction == "small"
    if is_small and any((layer.dead or 0) > DEAD_SHARE for layer in layers):
        return "dead units hand on nothing of it"
    if is_small and any((layer.saturated or 0) > SATURATED_SHARE for layer in layers):
        return "saturated units hand on little of it"
    ratios = []
    for name, wanted in (he[layer.name] for layer in layers if layer.name in he):
        ratios.append((parameters[name].value.deviation / wanted, name, wanted))
    ratio, name, wanted = (min if is_small else max)(ratios, default=(1.0, "", 0.0))
    if ratio < HE_RANGE if is_small else ratio > 1 / HE_RANGE:
        return (
            f"sigma of the initialiser may be too {direction}: {name} has deviation {ratio * wanted:.2g}, He's "
            f"initialiser gives {wanted:.2g}"
        )
    if is_small:
        return "each layer hands on a part of it; a normalisation, residual connections or ReLU keep its size"
    return "clip the gradients (clip_norm of the optimiser), or lower the learning rate"


def _update(one: ParameterReport) -> Iterator[str]:
    ratio = one.update_ratio
    if ratio is None:
        return
    if ratio > LARGE_UPDATE:
        yield (
            f"large step: the optimiser's step of {one.name} is {ratio:.2g} of its norm (about 0.001 is usual); the "
            "learning rate may be too high"
        )
    elif 0 < ratio < LOST_UPDATE:
        yield (
            f"lost step: the optimiser's step of {one.name} is {ratio:.2g} of its norm, which rounding takes away; the "
            "learning rate may be too low"
        )

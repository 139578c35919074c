"""diagnose: activations and gradients of each layer for one batch, and what is wrong with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from graphc.ir.dtypes import is_float
from graphc.ir.graph import topological
from graphc.ir.node import Node
from graphc.ir.origin import Origin, origins_of
from graphc.lang.calculus import grad
from graphc.lang.source import registry
from graphc.lang.tensor import Tensor, Variable
from graphc.nn import Conv2d, Linear
from graphc.nn.module import Module, watching
from graphc.train.findings import SATURATED_SLOPE, findings_of
from graphc.train.graphs import Loss, Recipe, leaves_for, rows_of
from graphc.train.nan import trace_nan
from graphc.train.report import LayerReport, ParameterReport, Report, Spread
from graphc.train.sources import converted, parts

Array: TypeAlias = NDArray[Any]

_ACTIVATIONS = ("relu", "sigmoid", "tanh")


@dataclass(frozen=True)
class _Row:
    """A value of the graph that the report has a line for."""

    name: str
    kind: str
    node: Node


def diagnose(
    model: Module,
    loss: Loss,
    batch: Any,
    *,
    optimiser: Any = None,
    backend: str | None = None,
    threads: int | None = None,
) -> Report:
    """Compute the activations and gradients of every layer for one batch, as a training step has them.

    loss: as in `gc.fit`. batch: a pair (inputs, targets), or inputs alone. optimiser: with one, the report has the
    size of its next step against the parameters'. Nothing is updated.

    Findings: gradients that vanish or explode, dead ReLUs, saturated sigmoids and tanhs, steps that are too large or
    lost in rounding, and the first NaN or infinity with its line (`trace_nan`). `graphc.train.findings` names the
    thresholds.

    >>> import graphc as gc, numpy as np
    >>> model = gc.nn.Sequential(gc.nn.Linear(4, 8, seed=0), gc.nn.ReLU(), gc.nn.Linear(8, 1, seed=1))
    >>> x = np.random.default_rng(0).normal(size=(64, 4))
    >>> report = gc.diagnose(model, gc.nn.mse_loss, (x, x[:, :1]))
    >>> [layer.name for layer in report.layers], report.findings
    (['0', '1', '2'], ())
    """
    recipe = Recipe(model, loss, {}, backend, threads)
    inputs, targets = parts("diagnose", batch)
    arrays = tuple(converted(array, recipe.floating) for array in (*inputs, *targets))
    leaves = leaves_for(arrays, len(inputs))
    calls: list[tuple[Module, Any]] = []
    with watching(lambda module, given, output: calls.append((module, output))):
        value = recipe.build(leaves, len(inputs), is_training=True)["loss"]
    rows = _rows(model, value, calls)
    parameters = model.named_parameters()
    shown: list[Tensor] = [Tensor(row.node) for row in rows]
    variables = [variable for _, variable in parameters if is_float(variable.dtype)]
    gradients = grad(value, [*shown, *variables])
    steps = _steps(optimiser, value, model, variables)
    function = recipe.without_updates(leaves, [value, *shown, *gradients, *steps], "diagnose")
    with np.errstate(all="ignore"):
        found = [np.asarray(one) for one in function(*arrays)]
    number = float(found.pop(0))
    values, found = found[: len(shown)], found[len(shown) :]
    slopes, found = found[: len(shown)], found[len(shown) :]
    changes, found = found[: len(variables)], found[len(variables) :]
    layers = tuple(_layer(row, one, slope) for row, one, slope in zip(rows, values, slopes, strict=True))
    names = [name for name, variable in parameters if is_float(variable.dtype)]
    told = tuple(
        _parameter(name, variable, change, found[n] if steps else None)
        for n, (name, variable, change) in enumerate(zip(names, variables, changes, strict=True))
    )
    count = rows_of(arrays)
    if np.isfinite(number) and all(np.isfinite(one).all() for one in (*values, *slopes, *changes)):
        return Report(number, count, layers, told, tuple(findings_of(layers, told, count, _he(model))))
    trace = trace_nan([value, *gradients], dict(zip(leaves, arrays, strict=True)))
    finding = "not finite: " + (str(trace) if trace is not None else "a layer's output, which the loss does not read")
    return Report(number, count, layers, told, (finding,), trace)


def _rows(model: Module, loss: Tensor, calls: Sequence[tuple[Module, Any]]) -> list[_Row]:
    """What the innermost modules gave, and activation functions outside of them, in the order of computation."""
    place = {node: number for number, node in enumerate(topological((loss.node,)))}
    names = {module: name for name, module in _modules(model)}
    rows: dict[Node, _Row] = {}
    counts: Counter[str] = Counter()
    for module, output in calls:
        if next(module.children(), None) is not None:
            continue
        name = names.get(module) or type(module).__name__
        for tensor in output if isinstance(output, (tuple, list)) else (output,):
            if isinstance(tensor, Tensor) and is_float(tensor.dtype) and tensor.node in place:
                counts[name] += 1
                label = name if counts[name] == 1 else f"{name} ({counts[name]})"
                rows.setdefault(tensor.node, _Row(label, type(module).__name__, tensor.node))
    for node in place:
        origin = next(iter(origins_of(node)), Origin(""))
        is_activation = origin.op in _ACTIVATIONS and not origin.role and node.operands
        # An op that is made of others ends the scope of its parts: a loss that calls relu is no layer.
        if is_activation and node not in rows and origin.scope.rsplit("/", 1)[-1] not in registry:
            name = ".".join([*origin.scope.split("/"), origin.op]).lstrip(".")
            counts[name] += 1
            label = name if counts[name] == 1 else f"{name} ({counts[name]})"
            rows[node] = _Row(label, origin.op, node)
    return sorted(rows.values(), key=lambda row: place[row.node])


def _modules(module: Module, name: str = "") -> Iterator[tuple[str, Module]]:
    """The modules with their dotted names; "" is the model's own."""
    yield name, module
    for below, child in module.children():
        yield from _modules(child, f"{name}.{below}" if name else below)


def _layer(row: _Row, value: Array, gradient: Array) -> LayerReport:
    op = origins_of(row.node)[0].op
    dead = saturated = None
    if op == "relu" and value.size:
        axes = (0, *range(2, value.ndim)) if value.ndim == 4 else (0,)
        dead = float(np.mean((value == 0).all(axis=axes)))
    elif op == "sigmoid" and value.size:
        saturated = float(np.mean(4 * value * (1 - value) < SATURATED_SLOPE))
    elif op == "tanh" and value.size:
        saturated = float(np.mean(1 - value * value < SATURATED_SLOPE))
    return LayerReport(row.name, row.kind, Spread.of(value), Spread.of(gradient), dead, saturated)


def _parameter(name: str, variable: Variable, gradient: Array, following: Array | None) -> ParameterReport:
    value = variable.value
    ratio = None
    norm = float(np.linalg.norm(value.astype(np.float64)))
    # A vector may be a bias that starts at 0 and grows many times over: that says nothing.
    if following is not None and norm > 0 and value.ndim > 1:
        ratio = float(np.linalg.norm(following.astype(np.float64) - value)) / norm
    return ParameterReport(name, Spread.of(value), Spread.of(gradient), ratio)


def _steps(optimiser: Any, loss: Tensor, model: Module, variables: Sequence[Variable]) -> list[Tensor]:
    if optimiser is None:
        return []
    updates = optimiser.updates(loss, model.parameters())
    return [updates[variable] for variable in variables]


def _he(model: Module) -> dict[str, tuple[str, float]]:
    """For each Linear and Conv2d the name of its weight and sqrt(2 / fan_in), the deviation of He's initialiser."""
    found = {}
    for name, module in _modules(model):
        if isinstance(module, (Linear, Conv2d)):
            weight = f"{name}.weight" if name else "weight"
            found[name or type(module).__name__] = weight, (2 / module.weight.value[0].size) ** 0.5
    return found

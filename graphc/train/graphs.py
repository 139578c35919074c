"""The graphs of a training, built from a model, a loss and a few rows of data; and its step, compiled."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from graphc.backend import Options
from graphc.compiler import Function, compile
from graphc.compiler.compile import all_updates
from graphc.config import config
from graphc.errors import ArgumentError, ArgumentTypeError
from graphc.ir.dtypes import is_float
from graphc.ir.extent import format_shape
from graphc.ir.graph import topological
from graphc.ir.walk import unique_name
from graphc.lang.elementwise import absolute, where
from graphc.lang.source import user_line
from graphc.lang.tensor import Tensor, Variable, input, variables
from graphc.nn.module import Module, in_training
from graphc.train.sources import Batch

Array: TypeAlias = NDArray[Any]
Loss: TypeAlias = Callable[..., Tensor]
Metrics: TypeAlias = Mapping[str, Callable[..., Tensor]]

BATCH = "N"
"""The named extent of the rows: a short last batch is another size of it, and not another graph."""


@dataclass(frozen=True)
class Recipe:
    """What is trained, and how it is compiled."""

    model: Module
    loss: Loss
    metrics: Metrics
    backend: str | None
    threads: int | None

    @property
    def takes_model(self) -> bool:
        """Whether the loss is a function of (model, *inputs, *targets) instead of (prediction, *targets)."""
        try:
            names = list(inspect.signature(self.loss).parameters)
        except (TypeError, ValueError):  # some built-in callables have no signature
            return False
        return names[:1] == ["model"]

    @property
    def floating(self) -> str:
        """The dtype of float data: that of the model's first parameter with a float dtype."""
        return next((p.dtype for p in self.model.parameters() if is_float(p.dtype)), "float32")

    def build(self, batch: Sequence[Tensor], inputs: int, is_training: bool) -> dict[str, Tensor]:
        """The loss and the metrics of a batch.

        A loss that takes the model calls it itself; another call for the metrics would draw other random numbers, so
        such a training has none.
        """
        given, targets = batch[:inputs], batch[inputs:]
        with in_training(is_training):
            if self.takes_model:
                results = {"loss": self.loss(self.model, *batch)}
                if self.metrics and not is_training:
                    prediction = self.model(*given)
                    results |= {name: metric(prediction, *targets) for name, metric in self.metrics.items()}
            else:
                prediction = self.model(*given)
                results = {"loss": self.loss(prediction, *targets)}
                results |= {name: metric(prediction, *targets) for name, metric in self.metrics.items()}
        for name, result in results.items():
            _check_scalar("the loss" if name == "loss" else f"the metric {name!r}", result)
        if not is_float(results["loss"].dtype):
            raise ArgumentTypeError(f"fit: the loss must be a float, its dtype is {results['loss'].dtype}", user_line())
        return results

    def without_updates(self, leaves: Sequence[Tensor], outputs: Sequence[Tensor], name: str) -> Function:
        """A function that changes nothing, not even states that the graph reaches and that have a next value."""
        options = Options(self.threads if self.threads is not None else config.threads, "native", config.winograd)
        return Function(leaves, outputs, {}, False, self.backend or config.backend, options, name)


def _check_scalar(what: str, result: object) -> None:
    if not isinstance(result, Tensor):
        raise ArgumentTypeError(f"fit: {what} must be a tensor, not {type(result).__name__}", user_line())
    if result.shape != ():
        raise ArgumentError(
            f"fit: {what} must be one number, its shape is {format_shape(result.shape)}; take a mean", user_line()
        )


def signature(batch: Batch) -> tuple[tuple[Any, ...], ...]:
    """What a graph depends on: each array's dtype, and its shape but for the rows."""
    return tuple((array.dtype.name, *array.shape[1:]) for array in batch)


def leaves_for(batch: Batch, inputs: int) -> list[Tensor]:
    """Inputs for arrays like these: x (x0, x1, ... when there are several), then t."""
    targets = len(batch) - inputs
    names = ["x"] if inputs == 1 else [f"x{n}" for n in range(inputs)]
    names += ["t"] if targets == 1 else [f"t{n}" for n in range(targets)]
    return [
        input(name, (BATCH, *array.shape[1:]), array.dtype.name) for name, array in zip(names, batch, strict=True)
    ]


class Step:
    """A training step, compiled; and all variables that it reads or writes, by names that a checkpoint can keep.

    A step whose loss is NaN or infinite changes nothing: every next value is a choice between it and the old one. What
    the choice costs cannot be measured; the loss is known before the first update anyway.
    """

    def __init__(self, recipe: Recipe, optimiser: Any, batch: Batch, inputs: int) -> None:
        self.signature = signature(batch)
        self.leaves = leaves_for(batch, inputs)
        model = recipe.model
        before = {id(state): state.next_value for state in model.states()}
        results = recipe.build(self.leaves, inputs, is_training=True)
        self.names = tuple(results)
        # A module's states count even if the outputs do not read them: a mean that runs beside the batch's, say.
        own = {
            state: state.next_value
            for state in model.states()
            if state.next_value is not None and state.next_value is not before.get(id(state))
        }
        moved = all_updates(list(results.values()), own)
        weights = _variables((*results.values(), *moved.values()), (*model.parameters(), *moved))
        updates = moved | optimiser.updates(results["loss"], model.parameters())
        updates = all_updates(list(results.values()), updates)
        is_good = absolute(results["loss"]) < float("inf")
        guarded = {variable: where(is_good, value, variable) for variable, value in updates.items()}
        self.function = compile(
            self.leaves, list(results.values()), guarded, backend=recipe.backend, threads=recipe.threads, name="fit"
        )
        every = _variables((*results.values(), *updates.values()), (*weights, *updates))
        self.variables = _named(every, model)
        kept = {id(variable) for variable in weights}
        self.weights = {name: variable for name, variable in self.variables.items() if id(variable) in kept}


def put(which: Mapping[str, Variable], values: Mapping[str, Array]) -> None:
    """Set variables to values of their names."""
    for name, variable in which.items():
        variable.storage[...] = values[name]


def _variables(tensors: Sequence[Tensor], others: Sequence[Variable]) -> list[Variable]:
    """The variables that tensors are computed from, with others; each once, in the order of their declaration."""
    reached = topological(tensor.node for tensor in tensors)
    found = {variables[node]: None for node in reached if node in variables} | dict.fromkeys(others)
    return sorted(found, key=lambda variable: getattr(variable.node, "serial", 0))


def _named(every: Sequence[Variable], model: Module) -> dict[str, Variable]:
    """The model's by their names in it, others by their own, numbered where two have one."""
    own = {id(variable): name for name, variable in (*model.named_parameters(), *model.named_states())}
    taken = set(own.values())
    numbers: dict[str, int] = {}
    return {
        own[id(variable)] if id(variable) in own else unique_name(variable.name or "state", taken, numbers): variable
        for variable in every
    }


def rows_of(batch: Batch) -> int:
    """The number of rows of a batch."""
    return int(np.shape(batch[0])[0])

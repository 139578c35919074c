"""A table of what a model is made of: for each layer its output, parameters, operations and receptive field.

Everything is read off the graph that the model builds; no parameter gets its first value and nothing is computed, so
layers that would not fit into memory are summed up as fast as small ones. A layer is credited with the nodes between
its inputs and its outputs that no layer inside it made: layers of one's own are counted as those of `gc.nn` are. What
the model's outputs do not need is not counted; a layer inside the step of a `gc.scan` is, as often as the step is done.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graphc.errors import ArgumentTypeError
from graphc.ir import cost
from graphc.ir.dtypes import is_float
from graphc.ir.extent import Extent, Shape, format_shape, ints, product
from graphc.ir.fields import Fields
from graphc.ir.graph import topological
from graphc.ir.node import Input, Node, Opaque
from graphc.ir.walk import postorder
from graphc.lang.source import user_line
from graphc.lang.tensor import Tensor, input

if TYPE_CHECKING:
    from graphc.nn.module import Module


@dataclass(frozen=True)
class Row:
    """One call of a layer.

    name: dotted, "" for the model itself. output: the shapes of what it returned, none where it was not called.
    parameters: those of its own, counted where they occur first. multiply_adds: points of sums of products of two
    arrays. operations: all on floats, a multiply-add as two (`graphc.ir.cost`). receptive_field: how many places along
    each axis of the model's first input an element of the first output depends on; () where there is no path.
    """

    name: str
    layer: str
    output: tuple[Shape, ...]
    parameters: int
    multiply_adds: Extent
    operations: Extent
    receptive_field: tuple[Extent, ...]


@dataclass(frozen=True)
class Summary:
    """The rows in the order in which the layers are done, and their totals; its text is the table."""

    rows: tuple[Row, ...]
    parameters: int
    parameter_bytes: int
    state_values: int
    multiply_adds: Extent
    operations: Extent

    def __str__(self) -> str:
        return _table(self)

    __repr__ = __str__


@dataclass
class _Work:
    """A node that is computed `times` times, for a loop's step within `loop`; otherwise that is the node itself."""

    node: Node
    times: Extent
    loop: Node

    @property
    def kind(self) -> tuple[object, ...]:
        """What it has in common with the node that a step was made of: all that is counted."""
        return type(self.node), self.node.shape, cost.multiply_adds(self.node), cost.operations(self.node)


@dataclass
class _Call:
    module: Module
    results: list[Tensor]
    parameters: int
    work: list[_Work]


class Recorder:
    """Takes note of each call of a module, and divides the nodes up among them."""

    def __init__(self, model: Module, tensors: Sequence[Tensor]) -> None:
        self._calls: list[_Call] = []
        self._model = model
        self._names = _module_names(model)
        self._parameters = _own_parameters(model, self._names)
        self._fields = Fields(tensors[0].node)
        self._claimed: set[Node] = {tensor.node for tensor in tensors}

    def __call__(self, module: Module, inputs: Any, output: Any) -> None:
        """A module has returned `output` for `inputs`."""
        results = list(_tensors(output))
        work = self._new_work(results, {tensor.node for tensor in _tensors(inputs)})
        parameters = self._parameters.pop(id(module), 0)
        if work or parameters or next(module.children(), None) is None:
            self._calls.append(_Call(module, results, parameters, work))

    def _new_work(self, results: Sequence[Tensor], inputs: set[Node]) -> list[_Work]:
        """What lies between inputs and results and is credited to nobody yet."""

        def below(node: Node) -> Sequence[Node]:
            return () if node in inputs else node.operands

        work: list[_Work] = []
        for node in postorder((tensor.node for tensor in results), below):
            if node not in inputs:
                work += self._work_of(node, 1, node)
        return work

    def _work_of(self, node: Node, times: Extent, loop: Node) -> Iterator[_Work]:
        if node in self._claimed or isinstance(node, Input):
            return
        self._claimed.add(node)
        yield _Work(node, times, loop)
        if isinstance(node, Opaque) and node.step is not None:  # the results of one loop share the nodes of its step
            length = node.operands[len(node.step.following)].shape[0]
            for one in topological((*node.step.following, node.step.value)):
                yield from self._work_of(one, times * length, loop)

    def finished(self, output: Any) -> list[Row]:
        """The rows, after the model has returned `output`; modules that were not called by themselves come last."""
        done = set(topological(tensor.node for tensor in _tensors(output)))
        # `gc.scan` builds its step again, over leaves of the loop: each node of the loop belongs to the call that made
        # one of its kind which nothing else needs.
        models: dict[object, list[_Call]] = {}
        for call in self._calls:
            for work in call.work:
                if work.loop not in done:
                    models.setdefault(work.kind, []).append(call)
            call.work = [work for work in call.work if work.loop in done]
        for call in list(self._calls):
            inside = [work for work in call.work if work.node is not work.loop]
            for work in inside:
                if waiting := models.get(work.kind):
                    call.work.remove(work)
                    waiting.pop(0).work.append(work)
        for module in _modules(self._model):
            if parameters := self._parameters.pop(id(module), 0):
                self._calls.append(_Call(module, [], parameters, []))
        return [self._row(call) for call in self._calls]

    def _row(self, call: _Call) -> Row:
        field = self._fields.sizes(call.results[0].node) if call.results else None
        return Row(
            self._names.get(id(call.module), "?"),
            type(call.module).__name__,
            tuple(tensor.shape for tensor in call.results),
            call.parameters,
            _total(cost.multiply_adds(work.node) * work.times for work in call.work),
            _total(cost.operations(work.node) * work.times for work in call.work),
            field or (),
        )


def inputs_of(model: Module, given: Sequence[Any]) -> list[Tensor]:
    """Tensors as they are; an input for each shape, in the dtype of the model's first float parameter."""
    if not given:
        raise ArgumentTypeError('summary: the shape of an input is needed, such as ("N", 3, 32, 32)', user_line())
    floats = [variable.dtype for variable in model.parameters() if is_float(variable.dtype)]
    tensors: list[Tensor] = []
    for position, one in enumerate(given):
        if not isinstance(one, Tensor):
            if not isinstance(one, (tuple, list)):
                raise ArgumentTypeError(
                    f"summary: input {position} is {one!r}; a shape such as (1, 784) or a tensor is needed", user_line()
                )
            one = input(f"input_{position}", tuple(one), dtype=floats[0] if floats else "float32")
        tensors.append(one)
    return tensors


def made_of(model: Module, rows: Sequence[Row]) -> Summary:
    """The summary of these rows."""
    parameters = model.parameters()
    sizes = [_size(variable.shape) for variable in parameters]
    widths = [8 if variable.dtype in ("float64", "int64") else 4 for variable in parameters]
    return Summary(
        tuple(rows),
        sum(sizes),
        sum(size * width for size, width in zip(sizes, widths, strict=True)),
        sum(_size(state.shape) for state in model.states()),
        _total(row.multiply_adds for row in rows),
        _total(row.operations for row in rows),
    )


def _size(shape: Shape) -> int:
    found = product(ints(shape))
    assert isinstance(found, int)
    return found


def _total(values: Iterator[Extent] | Any) -> Extent:
    total: Extent = 0
    for value in values:
        total = total + value
    return total


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from (tensor for one in value.values() for tensor in _tensors(one))
    elif isinstance(value, (list, tuple)):
        yield from (tensor for one in value for tensor in _tensors(one))


def _modules(model: Module) -> Iterator[Module]:
    """The model and all below it, each once, those above first."""
    done: dict[int, Module] = {}
    waiting = [model]
    while waiting:
        module = waiting.pop()
        if id(module) not in done:
            done[id(module)] = module
            waiting += reversed([child for _, child in module.children()])
    return iter(done.values())


def _module_names(model: Module) -> dict[int, str]:
    names = {id(model): ""}
    for module in _modules(model):
        for label, child in module.children():
            above = names[id(module)]
            names.setdefault(id(child), f"{above}.{label}" if above else label)
    return names


def _own_parameters(model: Module, names: dict[int, str]) -> dict[int, int]:
    """How many parameters each module holds itself, by the module's id; one that is shared belongs to the first."""
    by_name = {name: module for module, name in names.items()}
    counts: dict[int, int] = {}
    for name, variable in model.named_parameters():
        owner = name
        while owner not in by_name:
            owner = owner.rpartition(".")[0]
        counts[by_name[owner]] = counts.get(by_name[owner], 0) + _size(variable.shape)
    return counts


# --- The table --------------------------------------------------------------------------------------------------------

_TITLES = ("layer", "", "output", "parameters", "multiply-adds", "operations", "field")
_IS_LEFT = (True, True, True, False, False, False, False)


def _table(summary: Summary) -> str:
    lines = [
        (
            row.name or "(model)",
            row.layer,
            ", ".join(map(format_shape, row.output)) or "not called",
            _number(row.parameters),
            _number(row.multiply_adds),
            _number(row.operations),
            _field(row.receptive_field),
        )
        for row in summary.rows
    ]
    total = ("total", "", "", _number(summary.parameters), _number(summary.multiply_adds), _number(summary.operations))
    every = [_TITLES, *lines, (*total, "")]
    widths = [max(len(line[column]) for line in every) for column in range(len(_TITLES))]
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))

    def text(line: Sequence[str]) -> str:
        cells = zip(line, widths, _IS_LEFT, strict=True)
        return "  ".join(cell.ljust(width) if left else cell.rjust(width) for cell, width, left in cells).rstrip()

    memory = f"parameters: {_number(summary.parameter_bytes)} bytes"
    if summary.state_values:
        memory += f"; values of states: {_number(summary.state_values)}"
    return "\n".join([text(_TITLES), rule, *map(text, lines), rule, text(every[-1]), memory])


def _number(value: Extent) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _field(sizes: tuple[Extent, ...]) -> str:
    """The axes that a kernel moves along: all but batch and channels, of a matrix the features."""
    shown = sizes[2:] if len(sizes) > 2 else sizes[-1:]
    return "x".join(map(str, shown))

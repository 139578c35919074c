"""Which node made the first NaN or infinity, and of what: a graph is evaluated node by node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from graphc.backend import Options
from graphc.compiler import Function
from graphc.compiler.arguments import Arguments
from graphc.errors import ArgumentError
from graphc.ir import scalar as sc
from graphc.ir.dtypes import is_float
from graphc.ir.extent import dimension_names, ints
from graphc.ir.graph import Graph, kind_of, rebuild, specialise
from graphc.ir.node import Const, Generic, Input, Join, Node, Opaque, View, leaf
from graphc.ir.opaque import REFERENCE
from graphc.ir.origin import Origin, origins_of, where
from graphc.ir.printer import node_names
from graphc.lang.source import user_line
from graphc.lang.tensor import Tensor, Variable, variables
from graphc.passes.markers import drop_markers
from graphc.passes.simplify import stabilise
from graphc.train.culprit import Culprit, look_closer

Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True)
class NanTrace:
    """The node that made the first NaN or infinity.

    op: as the user called it ("log", "gradient of sqrt"); scope: such as "encoder/0"; where: file:line; value: NaN or
    the infinity, at `index` of the node's array. operands: (name, value there) of each, in words; hint: what to do.
    """

    op: str
    scope: str
    where: str | None
    value: float
    index: tuple[int, ...]
    calculation: str
    operands: tuple[tuple[str, str], ...]
    hint: str

    def __str__(self) -> str:
        what = "NaN" if np.isnan(self.value) else "infinity"
        place = f" in {self.scope}" if self.scope else ""
        line = f" ({self.where})" if self.where else ""
        at = f" at {list(self.index)}" if self.index else ""
        lines = [f"the first {what} comes from {self.op}{place}{line}{at}: {self.calculation}"]
        lines += [f"  {name}: {text}" for name, text in self.operands]
        return "\n".join([*lines, f"  {self.hint}"] if self.hint else lines)


def trace_nan(
    expressions: Tensor | Sequence[Tensor], values: Mapping[Tensor, Any] | None = None
) -> NanTrace | None:
    """The first node that made a NaN or infinity, which reaches an expression, out of finite values; None if all of
    the expressions are finite.

    values: arrays for the inputs, as in `gc.evaluate`; params and states have their current values. The graph is the
    one that is compiled, after the rewrites for stability, so that what they repair is not blamed. An infinity that is
    written in the graph, as masks have it, counts as finite; one in an input or a parameter is reported as such.

    >>> import graphc as gc
    >>> x = gc.input("x", (3,))
    >>> print(gc.trace_nan(gc.log(x - 1), {x: [3.0, 1.0, 2.0]}))
    the first infinity comes from log (...) at [1]: log(0.0) = -inf
      subtract: 0.0
      the logarithm of 0: keep its argument above 0 with gc.clip, or use a loss on logits
    """
    results = [expressions] if isinstance(expressions, Tensor) else list(expressions)
    graph, arrays = _concrete(results, dict(values or {}))
    known: dict[Node, Array] = {}
    parts = {part for node in graph.nodes if isinstance(node, Join) for part in node.parts}
    with np.errstate(all="ignore"):
        for node in graph.nodes:
            if node not in parts or node in graph.outputs:
                try:
                    known[node] = _compute(node, known, arrays)
                except IndexError as error:  # an index or a label outside its axis
                    raise ArgumentError(f"trace_nan: {error}", where(node) or user_line()) from None
        found = _first(graph, known)
        return None if found is None else _explained(found, graph, known)


def _concrete(results: Sequence[Tensor], given: dict[Tensor, Any]) -> tuple[Graph, dict[Node, Array]]:
    """The graph for the sizes of the given arrays, and the arrays of its leaves."""
    for tensor in given:
        if isinstance(tensor, Variable):
            raise ArgumentError(f"trace_nan: set {tensor.name}.value instead of passing it", user_line())
    graph = Graph(tuple(tensor.node for tensor in results))
    inputs = list(given)
    nodes = {tensor.node for tensor in inputs}
    for node in graph.inputs:
        if node not in nodes and node not in variables:
            raise ArgumentError(f"trace_nan: no value is given for the input {node.name!r}", user_line())
    named = [
        str(e) for tensor in inputs for e in tensor.shape if not isinstance(e, int) and dimension_names(e) == {str(e)}
    ]
    dimensions = tuple(dict.fromkeys(named))
    checked, sizes = Arguments("trace_nan", inputs, dimensions).check([given[tensor] for tensor in inputs])
    leaves: dict[Node, Node] = {}
    small = specialise(graph, dict(zip(dimensions, sizes, strict=True)), leaves)
    arrays = {leaves.get(tensor.node, tensor.node): array for tensor, array in zip(inputs, checked, strict=True)}
    arrays |= {node: variables[node].storage for node in graph.inputs if node in variables and node not in nodes}
    return drop_markers(stabilise(small)), arrays


def _compute(node: Node, known: Mapping[Node, Array], arrays: Mapping[Node, Array]) -> Array:
    match node:
        case Input():
            return arrays[node]
        case Const():
            return node.value
        case View():
            return known[node.operand].reshape(ints(node.shape))
        case Opaque() if node.op in REFERENCE:
            return np.asarray(REFERENCE[node.op](node, [known[operand] for operand in node.operands]))
        case Generic() | Join() | Opaque():
            return _run(node, known)


def _run(node: Generic | Join | Opaque, known: Mapping[Node, Array]) -> Array:
    """One node, by the NumPy backend: the interpreter would visit each point of a convolution one by one."""
    below = dict.fromkeys(
        operand
        for one in (node.parts if isinstance(node, Join) else (node,))
        for operand in one.operands
    )
    stand_ins: dict[Node, Node] = {
        operand: leaf(f"a{n}", operand.shape, operand.dtype, "input") for n, operand in enumerate(below)
    }
    if isinstance(node, Join):
        parts = [rebuild(part, [stand_ins[operand] for operand in part.operands]) for part in node.parts]
        alone = rebuild(node, parts)
    else:
        alone = rebuild(node, [stand_ins[operand] for operand in node.operands])
    inputs = [Tensor(stand_in) for stand_in in stand_ins.values()]
    function = Function(inputs, [Tensor(alone)], {}, True, "numpy", Options(), "trace_nan")
    return np.asarray(function(*(known[operand] for operand in below)))


def _first(graph: Graph, known: Mapping[Node, Array]) -> Node | None:
    """The first node that is not finite though its operands are, and that reaches an output which is not."""
    bad: set[Node] = set()
    given: set[Node] = set()  # holds infinities that are written in the graph, or that follow from these
    reads = {node: _read_by(node) for node in graph.nodes}
    for node, value in known.items():
        if not is_float(node.dtype) or np.isfinite(value).all():
            continue
        follows = any(operand in given for operand in reads[node]) or _writes_infinity(node)
        if follows and not np.isnan(value).any():
            given.add(node)
        else:
            bad.add(node)
    waiting = [node for node in graph.outputs if node in bad]
    reached: set[Node] = set()
    while waiting:
        node = waiting.pop()
        if node not in reached:
            reached.add(node)
            waiting += [operand for operand in reads[node] if operand in bad]
    return next((node for node in known if node in reached), None)  # in order: its operands were all finite


def _read_by(node: Node) -> tuple[Node, ...]:
    """The operands; of a Join those of its parts."""
    return tuple(o for part in node.parts for o in part.operands) if isinstance(node, Join) else node.operands


def _writes_infinity(node: Node) -> bool:
    match node:
        case Const():
            return True
        case Generic():
            return any(isinstance(one, sc.Literal) and np.isinf(one.value) for one in sc.postorder(node.body))
        case Join():
            return any(_writes_infinity(part) for part in node.parts)
    return False


def _explained(node: Node, graph: Graph, known: Mapping[Node, Array]) -> NanTrace:
    value = known[node]
    wrong = np.isnan(value) if np.isnan(value).any() else np.isinf(value)
    index = tuple(int(axis) for axis in np.argwhere(wrong)[0])
    names = node_names(graph)
    origin = next((one for one in origins_of(node) if one.line), None) or next(iter(origins_of(node)), Origin(""))
    op = origin.op or kind_of(node)
    told = Culprit(str(value[index]), (), "")
    if isinstance(node, Input):
        told = Culprit(f"its value is {value[index]}", (), f"the {node.kind} itself is not finite")
        op = f"the {node.kind} {node.name!r}"
    elif isinstance(node, (Generic, Join)):
        told = look_closer(_part(node, known, index), index, value[index], known, names)
    elif isinstance(node, Opaque) and node.op not in REFERENCE:
        told = Culprit(str(value[index]), (), "it arose inside the loop; with unroll=True its steps can be traced")
    return NanTrace(
        f"the gradient of {op}" if origin.role == "grad" else op,
        origin.scope,
        origin.where,
        float(value[index]),
        index,
        told.calculation,
        told.operands,
        told.hint,
    )


def _part(node: Generic | Join, known: Mapping[Node, Array], index: tuple[int, ...]) -> Generic:
    """The Generic that wrote an element."""
    if isinstance(node, Generic):
        return node
    written = ((part, _run(part, known)[index]) for part in node.parts)  # 0 where a part does not write
    return next((part for part, value in written if not np.isfinite(value)), node.parts[0])

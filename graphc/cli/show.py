"""graphc show SPEC --as KIND: the graph, the equations and the generated code of what a SPEC names."""

from __future__ import annotations

from collections.abc import Sequence

from graphc.cli.options import sizes_of, wrt_tensors
from graphc.cli.spec import Loaded, load
from graphc.compiler import Function, Memory, compile
from graphc.errors import ArgumentError, SpecError
from graphc.ir.graph import Graph
from graphc.lang.tensor import Tensor, variables
from graphc.program import Program
from graphc.render.difference.difference import difference_of
from graphc.render.equations.code import code_of
from graphc.render.equations.derivation import Equations
from graphc.render.equations.derive import equations_of
from graphc.render.equations.latex import latex_document_of
from graphc.render.equations.text import text_of as equations_as_text
from graphc.render.gradients import gradients_of
from graphc.render.levels import with_gradients

# The backend that generates each kind of text; a program is the same for all.
_BACKENDS = {"program": "numpy", "memory": "numpy", "numpy": "numpy", "llvm": "llvm", "asm": "llvm"}


def show(
    spec: str, kind: str, backward: bool, wrt: str | None, sizes: Sequence[str], index: bool, diff: str | None
) -> int:
    """Print one kind of text, or what a pass does."""
    loaded = load(spec)
    if diff is None:
        print(text_of(loaded, kind, backward, wrt, sizes, index))
        return 0
    graph = _graph_of(loaded, backward, wrt_tensors(loaded, wrt))
    try:
        print(difference_of(graph, diff, sizes_of(loaded, sizes, graph.dimensions)))
    except ArgumentError as error:  # the name of the pass
        raise SpecError(error.message) from None
    return 0


def text_of(
    loaded: Loaded, kind: str, backward: bool, wrt: str | None, sizes: Sequence[str], index: bool = False
) -> str:
    """The text that `show` prints."""
    if kind == "memory":
        return str(memory_of(loaded, backward, wrt, sizes))
    if kind in _BACKENDS:
        function = function_of(loaded, kind, backward, wrt)
        return function.source(kind, **sizes_of(loaded, sizes, function.graph.dimensions)).rstrip("\n")
    leaves = wrt_tensors(loaded, wrt)
    if kind == "graph":
        return str(_graph_of(loaded, backward, leaves))
    if kind == "code":
        return code_of(_equations(loaded, backward, leaves, inner=True))
    equations = _equations(loaded, backward, leaves, index)
    return latex_document_of(equations, index) if kind == "latex" else equations_as_text(equations, index)


def _equations(
    loaded: Loaded, backward: bool, leaves: Sequence[Tensor] | None, index: bool = False, inner: bool = False
) -> Equations:
    """The equations of what a SPEC names; with gradients, those of the chain rule on the graph as it was written."""
    if not backward and leaves is None:
        if loaded.function is not None:
            targets = [target.node for target in loaded.function.targets]
            return equations_of(loaded.function.graph, index=index, targets=targets, inner=inner)
        return equations_of(loaded.graph, index=index, inner=inner)
    nodes = [tensor.node for tensor in loaded.tensors]
    gradients = gradients_of(nodes, None if leaves is None else [leaf.node for leaf in leaves])
    asked = dict.fromkeys(gradients.of[leaf] for leaf in gradients.wrt if leaf in gradients.of)
    graph = Graph((*nodes, *asked), (*loaded.graph.names, *("" for _ in asked)))
    return equations_of(graph, gradients, index=index, inner=inner)


def _graph_of(loaded: Loaded, backward: bool, leaves: Sequence[Tensor] | None) -> Graph:
    if not backward and leaves is None:
        return loaded.function.graph if loaded.function is not None else loaded.graph
    outputs = with_gradients(loaded.tensors, leaves, loaded.spec)
    names = (*loaded.graph.names, *("" for _ in outputs[len(loaded.tensors) :]))
    return Graph(tuple(tensor.node for tensor in outputs), names)


def memory_of(loaded: Loaded, backward: bool, wrt: str | None, sizes: Sequence[str]) -> Memory:
    """The plan of the arena of what a SPEC names."""
    function = function_of(loaded, "memory", backward, wrt)
    return function.memory(**sizes_of(loaded, sizes, function.graph.dimensions))


def program_of(loaded: Loaded, backward: bool, wrt: str | None, sizes: Sequence[str]) -> Program:
    """The program of what a SPEC names."""
    function = function_of(loaded, "program", backward, wrt)
    return function.program_for(**sizes_of(loaded, sizes, function.graph.dimensions))


def function_of(loaded: Loaded, kind: str, backward: bool, wrt: str | None) -> Function:
    """The function that a SPEC names, or its tensors compiled, with their gradients where that is asked for."""
    leaves = wrt_tensors(loaded, wrt)
    is_backward = backward or leaves is not None
    if loaded.function is not None and not is_backward:
        return loaded.function
    outputs = with_gradients(loaded.tensors, leaves, loaded.spec) if is_backward else list(loaded.tensors)
    return compiled(outputs, kind, loaded.spec.rpartition(":")[2])


def compiled(outputs: Sequence[Tensor], kind: str, name: str) -> Function:
    """The outputs compiled, their inputs those that the graph has, in the order of their declaration."""
    graph = Graph(tuple(tensor.node for tensor in outputs))
    inputs = [Tensor(leaf) for leaf in graph.inputs if leaf not in variables]
    safe = name if name.isidentifier() else "function"
    return compile(inputs, list(outputs), backend=_BACKENDS[kind], name=safe)

"""What is drawn, and at which level: as the user wrote it, after differentiation and rewriting, or as kernels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from graphc.compiler import Function, compile
from graphc.compiler.profile import Profile
from graphc.errors import ArgumentError, ArgumentTypeError, GradientError
from graphc.ir.extent import format_shape
from graphc.ir.graph import Graph, topological
from graphc.ir.node import Node
from graphc.lang.calculus import grad
from graphc.lang.tensor import Tensor, variables
from graphc.passes.fuse import fuse
from graphc.passes.pipeline import PIPELINE
from graphc.render.drawing import Direction, picture_of_graph
from graphc.render.gradients import Gradients, float_leaves, gradients_of, scalar_loss
from graphc.render.picture import Picture
from graphc.render.program.picture import picture_of_program
from graphc.render.values import values_of

Drawable: TypeAlias = Tensor | Sequence[Tensor] | Graph | Function
LEVELS = ("op", "graph", "program")


def graph_of(drawn: Drawable) -> Graph:
    """What is drawn as a graph. Errors: `ArgumentTypeError`."""
    if isinstance(drawn, Graph):
        return drawn
    if isinstance(drawn, Function):
        return drawn.graph
    tensors = [drawn] if isinstance(drawn, Tensor) else drawn
    if not isinstance(tensors, Sequence) or not tensors or not all(isinstance(item, Tensor) for item in tensors):
        raise ArgumentTypeError(
            f"render: a tensor, a list of tensors, a Graph or a compiled Function is needed, not {type(drawn).__name__}"
        )
    return Graph(tuple(tensor.node for tensor in tensors), tuple(tensor.name or "" for tensor in tensors))


def picture_of(
    drawn: Drawable,
    *,
    level: str = "op",
    backward: bool = False,
    wrt: Sequence[Tensor] | None = None,
    values: Mapping[Any, Any] | None = None,
    depth: int | None = None,
    direction: Direction | None = None,
    profile: Profile | None = None,
    title: str = "",
) -> Picture:
    """The picture that `render` writes, with all its boxes; the arguments are those of `render`."""
    if level not in LEVELS:
        raise ArgumentError(f"level: {', '.join(LEVELS)} are the levels, not {level!r}")
    if level == "program":
        if values is not None:
            raise ArgumentError("values: a program has none; they are drawn at the levels op and graph")
        return picture_of_program(program_function(drawn, backward, wrt).program, profile, depth=depth)
    if profile is not None:
        raise ArgumentError(f"profile: times are those of kernels, at level program, not {level}")
    if level == "graph":
        return _rewritten(drawn, backward, wrt, values, depth, direction, title)
    graph = graph_of(drawn)
    leaves: list[Node] | None = None if wrt is None else [tensor.node for tensor in wrt]
    gradients: Gradients | None = None
    if backward or (values is not None and scalar_loss(graph.outputs) is not None):
        gradients = gradients_of(graph.outputs, leaves)
    numbers = None
    if values is not None:
        numbers = values_of(topological([*graph.outputs, *(gradients.of.values() if gradients else ())]), values)
    return picture_of_graph(
        graph,
        gradients,
        numbers,
        backward=backward,
        targets=_targets(drawn, graph),
        depth=depth,
        direction=direction,
        title=title,
    )


def has_gradients(drawn: Drawable) -> bool:
    """Whether what is drawn has exactly one float scalar, and float leaves to differentiate it by."""
    graph = graph_of(drawn)
    loss = scalar_loss(graph.outputs[: len(graph.names)] or graph.outputs)
    return loss is not None and bool(float_leaves((loss,)))


def with_gradients(outputs: Sequence[Tensor], wrt: Sequence[Tensor] | None, what: str = "render") -> list[Tensor]:
    """The outputs, then the gradients of their one float scalar, by every float leaf unless `wrt` names some.

    Errors: `GradientError` when the outputs do not have exactly one float scalar.
    """
    loss = scalar_loss([tensor.node for tensor in outputs])
    if loss is None:
        shapes = ", ".join(f"{tensor.dtype}{format_shape(tensor.shape)}" for tensor in outputs)
        raise GradientError(f"{what}: gradients need exactly one float scalar among the outputs, which are {shapes}")
    leaves = list(wrt) if wrt is not None else [Tensor(node) for node in float_leaves((loss,))]
    return [*outputs, *grad(Tensor(loss), leaves)]


def program_function(drawn: Drawable, backward: bool, wrt: Sequence[Tensor] | None, name: str = "function") -> Function:
    """A compiled function as it is; anything else compiled, with its gradients where those are asked for."""
    is_backward = backward or wrt is not None
    if isinstance(drawn, Function) and not is_backward:
        return drawn
    graph = graph_of(drawn)
    named = graph.outputs[: len(graph.names)] or graph.outputs
    outputs = [Tensor(node) for node in named]
    outputs = with_gradients(outputs, wrt) if is_backward else outputs
    inputs = [Tensor(leaf) for leaf in Graph(tuple(t.node for t in outputs)).inputs if leaf not in variables]
    return compile(inputs, outputs, backend="numpy", name=name)  # the program is the same for all backends


def rewritten(graph: Graph) -> Graph:
    """The graph after every pass up to fusion, whose result the program shows."""
    for step in PIPELINE[: PIPELINE.index(fuse)]:
        graph = step(graph)
    return graph


def _rewritten(
    drawn: Drawable,
    backward: bool,
    wrt: Sequence[Tensor] | None,
    values: Mapping[Any, Any] | None,
    depth: int | None,
    direction: Direction | None,
    title: str,
) -> Picture:
    """After differentiation and rewriting. The user's values may be gone: a gradient stands beside its op."""
    graph = graph_of(drawn)
    targets = _targets(drawn, graph)
    leaves: Sequence[Node] = ()
    if backward or wrt is not None:
        named = graph.outputs[: len(graph.names)] or graph.outputs
        outputs = with_gradients([Tensor(node) for node in named], wrt)
        leaves = float_leaves(named) if wrt is None else [tensor.node for tensor in wrt]
        graph = Graph(tuple(tensor.node for tensor in outputs), graph.names or ("",) * len(named))
        targets = {}
    after = rewritten(graph)
    moved = dict(zip(graph.outputs, after.outputs, strict=True))
    return picture_of_graph(
        after,
        None,
        values_of(after.nodes, values) if values is not None else None,
        of=dict(zip(leaves, after.outputs[len(after.outputs) - len(leaves) :], strict=True)),
        targets={moved[value]: leaf for value, leaf in targets.items()},
        is_rewritten=True,
        depth=depth,
        direction=direction,
        title=title,
    )


def _targets(drawn: Drawable, graph: Graph) -> dict[Node, Node]:
    """The param or state that each update of a function changes, by its new value."""
    if not isinstance(drawn, Function):
        return {}
    values = graph.outputs[len(graph.names) :]
    return {value: target.node for value, target in zip(values, drawn.targets, strict=True)}

"""Pictures and equations of graphs: `gc.render`, the notebook's displays, and `graphc.render.latex`."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

from graphc.compiler import Function
from graphc.errors import ArgumentError, ArgumentTypeError
from graphc.ir.graph import Graph, topological
from graphc.ir.node import Node
from graphc.lang.tensor import Tensor
from graphc.program import Program
from graphc.render.drawing import Drawing
from graphc.render.gradients import gradients_of, scalar_loss
from graphc.render.latex import latex_of_graph
from graphc.render.layout import PICTURES, DrawingError, lay_out
from graphc.render.program import dot_of_program
from graphc.render.values import values_of

Drawable: TypeAlias = Tensor | Sequence[Tensor] | Graph | Function
DOT_SUFFIXES = ("dot", "gv")

__all__ = ["Drawable", "DrawingError", "dot_of", "graph_of", "latex_of_graph", "render", "render_program"]


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


def dot_of(
    drawn: Drawable,
    *,
    backward: bool = False,
    wrt: Sequence[Tensor] | None = None,
    values: Mapping[Any, Any] | None = None,
) -> str:
    """The drawing as DOT text; the arguments are those of `render`."""
    graph = graph_of(drawn)
    leaves: list[Node] | None = None if wrt is None else [tensor.node for tensor in wrt]
    gradients = None
    if backward or (values is not None and scalar_loss(graph.outputs) is not None):
        gradients = gradients_of(graph.outputs, leaves)
    numbers = None
    if values is not None:
        wanted = [*graph.outputs, *([] if gradients is None else gradients.of.values())]
        nodes = topological(wanted)
        numbers = values_of(nodes, values)
    return Drawing(graph, gradients, numbers, backward).dot()


def render(
    drawn: Drawable,
    path: str | os.PathLike[str] | None = None,
    *,
    backward: bool = False,
    wrt: Sequence[Tensor] | None = None,
    values: Mapping[Any, Any] | None = None,
) -> str:
    """Draw a graph; the format is that of the path's suffix: .svg, .png, .pdf, .dot or .gv.

    drawn: a tensor, a list of tensors, a Graph or a compiled Function.
    backward: draw the gradients as well, mirrored beside the graph; of one float scalar among the outputs.
    wrt: the tensors whose gradients are drawn; every float input and param unless given.
    values: {tensor or name: array or number} for the inputs. Each value is written above its edge and, when there is
        one float scalar to differentiate, its gradient below; params have their current values unless given.

    Returns the path, or the SVG text when path is None. Where nothing can lay a picture out, the DOT text is written
    beside it and a `DrawingError` says what to install. Errors: `ArgumentError`, `ArgumentTypeError`, `GradientError`.

    >>> import graphc as gc
    >>> x, y = gc.input("x"), gc.input("y")
    >>> gc.render(x * y, values={x: 3, y: 4}).lstrip().startswith("<?xml")
    True
    """
    kind = _format(path)
    return _drawn(dot_of(drawn, backward=backward, wrt=wrt, values=values), path, kind)


def render_program(program: Program, path: str | os.PathLike[str] | None = None) -> str:
    """Draw a program: its fused kernels, and the buffers between them. Path, result and errors are those of `render`.

    >>> import graphc as gc
    >>> from graphc.render import render_program
    >>> x = gc.input("x", (3,))
    >>> render_program(gc.compile([x], gc.exp(x), backend="numpy").program).lstrip().startswith("<?xml")
    True
    """
    kind = _format(path)
    return _drawn(dot_of_program(program), path, kind)


def _format(path: str | os.PathLike[str] | None) -> str:
    """The kind of file that a path's suffix names."""
    kind = "svg" if path is None else Path(path).suffix.lower().removeprefix(".")
    if kind not in (*PICTURES, *DOT_SUFFIXES):
        formats = ", ".join(f".{suffix}" for suffix in (*PICTURES, *DOT_SUFFIXES))
        raise ArgumentError(f"render: {os.fspath(path or '')!r} ends in none of {formats}")
    return kind


def _drawn(dot: str, path: str | os.PathLike[str] | None, kind: str) -> str:
    """DOT text laid out and written; the path, or the SVG text where there is none."""
    if path is None:
        return lay_out(dot, "svg").decode()
    target = Path(path)
    if kind in DOT_SUFFIXES:
        target.write_text(dot, encoding="utf-8", newline="\n")
        return str(target)
    try:
        picture = lay_out(dot, kind)
    except DrawingError as error:
        fallback = target.with_suffix(".dot")
        fallback.write_text(dot, encoding="utf-8", newline="\n")
        raise DrawingError(f"{error.message}; the DOT text is in {fallback}") from None
    target.write_bytes(picture)
    return str(target)


def svg_for_display(tensor: Tensor) -> str | None:
    """The forward graph for a notebook; None where nothing can lay it out."""
    try:
        return render(tensor)
    except DrawingError:
        return None


def latex_for_display(tensor: Tensor) -> str | None:
    """The defining equations for a notebook."""
    return f"$$\n{latex_of_graph(graph_of(tensor))}\n$$"


class _CallableModule(ModuleType):
    """Python makes `graphc.render` this module once anything imports it; `gc.render(...)` must work then as well."""

    def __call__(self, *args: Any, **kwargs: Any) -> str:
        return render(*args, **kwargs)


sys.modules[__name__].__class__ = _CallableModule

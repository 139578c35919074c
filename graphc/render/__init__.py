"""Pictures and equations of graphs: `gc.render`, the notebook's displays, and `graphc.render.equations.latex`."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any, Literal, overload

from graphc.compiler.profile import Profile
from graphc.errors import ArgumentError
from graphc.lang.tensor import Tensor
from graphc.program import Program
from graphc.render.difference.difference import difference_of
from graphc.render.dot import dot_of_picture
from graphc.render.drawing import Direction
from graphc.render.equations.latex import latex_of_graph
from graphc.render.fold import fold
from graphc.render.layout import DrawingError
from graphc.render.levels import Drawable, graph_of, has_gradients, picture_of, rewritten, with_gradients
from graphc.render.output import format_of, write, write_steps
from graphc.render.program.picture import picture_of_program

__all__ = [
    "Drawable",
    "DrawingError",
    "dot_of",
    "graph_of",
    "latex_of_graph",
    "picture_of",
    "render",
    "render_program",
    "rewritten",
]


def dot_of(drawn: Drawable, **options: Any) -> str:
    """The drawing as DOT text; the options are those of `render` that say what is drawn."""
    return dot_of_picture(fold(picture_of(drawn, **options)))


@overload
def render(
    drawn: Drawable,
    path: str | os.PathLike[str] | None = None,
    *,
    backward: bool = False,
    wrt: Sequence[Tensor] | None = None,
    values: Mapping[Any, Any] | None = None,
    level: str = "op",
    depth: int | None = None,
    direction: Direction | None = None,
    steps: Literal[False] = False,
    diff: str | None = None,
    sizes: Mapping[str, int] | None = None,
    profile: Profile | None = None,
) -> str: ...
@overload
def render(
    drawn: Drawable,
    path: str | os.PathLike[str],
    *,
    backward: bool = False,
    wrt: Sequence[Tensor] | None = None,
    values: Mapping[Any, Any] | None = None,
    level: str = "op",
    depth: int | None = None,
    direction: Direction | None = None,
    steps: Literal[True],
) -> list[str]: ...
@overload
def render(
    drawn: Drawable,
    path: str | os.PathLike[str] | None = None,
    *,
    backward: bool = False,
    wrt: Sequence[Tensor] | None = None,
    values: Mapping[Any, Any] | None = None,
    level: str = "op",
    depth: int | None = None,
    direction: Direction | None = None,
    steps: bool = False,
    diff: str | None = None,
    sizes: Mapping[str, int] | None = None,
    profile: Profile | None = None,
) -> str | list[str]: ...
def render(
    drawn: Drawable,
    path: str | os.PathLike[str] | None = None,
    *,
    backward: bool = False,
    wrt: Sequence[Tensor] | None = None,
    values: Mapping[Any, Any] | None = None,
    level: str = "op",
    depth: int | None = None,
    direction: Direction | None = None,
    steps: bool = False,
    diff: str | None = None,
    sizes: Mapping[str, int] | None = None,
    profile: Profile | None = None,
) -> str | list[str]:
    """Draw a graph; the format is that of the path's suffix: .svg, .png, .pdf, .dot, .gv or .html.

    drawn: a tensor, a list of tensors, a Graph or a compiled Function.
    backward: draw the gradients as well, mirrored beside the graph; of one float scalar among the outputs.
    wrt: the tensors whose gradients are drawn; every float input and param unless given.
    values: {tensor or name: array or number} for the inputs. Each value is written above its edge and, when there is
        one float scalar to differentiate, its gradient below; params have their current values unless given.
    level: "op", what the user wrote; "graph", after differentiation and all rewrites but fusion; "program", the fused
        kernels and the buffers between them.
    depth: scopes deeper than this many are folded into one box each, 0 folds all. Calls of ops that are made of others
        count below all scopes. None folds as much as a page needs, and equal blocks that follow one another into one.
    direction: "LR" or "TB", left to right or top to bottom; None chooses by the length.
    steps: a file for each step of the computation, forward and then backward, numbered before the suffix; one page
        with a slider for .html.
    diff: the name of a pass, as in `graphc.passes.pipeline`, or "all": the graph before and after it, with what was
        rewritten and by which rule. Passes work on known extents: `sizes` has one for each named dimension.
    profile: of a compiled function (`Function.profile`), for the times of kernels at level program.

    Returns the path, the paths of all steps, or the SVG text when path is None. Where nothing can lay a picture out,
    the DOT text is written beside it and a `DrawingError` says what to install. Errors: `ArgumentError`,
    `ArgumentTypeError`, `GradientError`.

    >>> import graphc as gc
    >>> x, y = gc.input("x"), gc.input("y")
    >>> gc.render(x * y, values={x: 3, y: 4}).lstrip().startswith("<?xml")
    True
    """
    format_of(path)  # before any work
    if diff is not None:
        if steps or values is not None or level != "op":
            raise ArgumentError("diff: a pass is drawn without steps, values and level")
        outputs = graph_of(drawn)
        if backward or wrt is not None:
            named = [Tensor(node) for node in outputs.outputs[: len(outputs.names)] or outputs.outputs]
            outputs = graph_of(with_gradients(named, wrt))
        return write(difference_of(outputs, diff, sizes).picture(), path)
    if sizes is not None:
        raise ArgumentError("sizes: they are for a diff; other drawings have the names of the dimensions")
    if steps and path is None:
        raise ArgumentError("steps: a path is needed, whose stem the numbers of the steps follow")
    if steps and values is None:
        backward = backward or wrt is not None or has_gradients(drawn)
    found = picture_of(
        drawn,
        level=level,
        backward=backward,
        wrt=wrt,
        values=values,
        depth=depth,
        direction=direction,
        profile=profile,
    )
    if steps and path is not None:
        if not found.steps:
            raise ArgumentError(f"steps: there are none at level {level}")
        return write_steps(found, path)
    return write(found, path)


def render_program(
    program: Program,
    path: str | os.PathLike[str] | None = None,
    profile: Profile | None = None,
    depth: int | None = None,
) -> str:
    """Draw a program: its fused kernels, and the buffers between them; with a profile of it their times. Path, depth,
    result and errors are those of `render`.

    >>> import graphc as gc
    >>> from graphc.render import render_program
    >>> x = gc.input("x", (3,))
    >>> render_program(gc.compile([x], gc.exp(x), backend="numpy").program).lstrip().startswith("<?xml")
    True
    """
    return write(picture_of_program(program, profile, depth=depth), path)


class _CallableModule(ModuleType):
    """Python makes `graphc.render` this module once anything imports it; `gc.render(...)` must work then as well."""

    def __call__(self, *args: Any, **kwargs: Any) -> str | list[str]:
        found: str | list[str] = render(*args, **kwargs)
        return found


sys.modules[__name__].__class__ = _CallableModule

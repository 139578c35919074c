"""Which line of the user's code asked for a node: `named_op` wraps every public op, `scope` names a part of a model."""

from __future__ import annotations

import functools
import itertools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeVar

from graphc.errors import GraphcError
from graphc.ir.origin import Frame, Origin, add_result, consume, current_origins, originating

_P = ParamSpec("_P")
_R = TypeVar("_R")
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
registry: dict[str, Callable[..., Any]] = {}  # public ops by name, for operators and NumPy's protocols
_scope: ContextVar[tuple[str, tuple[Frame, ...]]] = ContextVar("scope", default=("", ()))
_serials = itertools.count(1)  # of calls


@contextmanager
def scope(name: str, title: str = "", is_call: bool = False) -> Iterator[None]:
    """Nodes made inside the block belong to `name`, within the scope around it: "encoder/layer2".

    title: what drawings call it, beside its name. is_call: another block of the same name is another part of the model.
    """
    outer, frames = _scope.get()
    *above, own = name.split("/")
    inner = (*frames, *map(Frame, above), Frame(own, next(_serials) if is_call else 0, title))
    token = _scope.set((f"{outer}/{name}" if outer else name, inner))
    try:
        yield
    finally:
        _scope.reset(token)


def user_location() -> tuple[str, int]:
    """File and line of the nearest caller outside graphc."""
    frame = sys._getframe(1)
    while frame.f_code.co_filename.startswith(_PACKAGE):
        if frame.f_back is None:
            return "", 0
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno


def user_line() -> str | None:
    """`file:line` of the nearest caller outside graphc, for an error."""
    file, line = user_location()
    return f"{file}:{line}" if line else None


def new_origin(op: str, name: str | None = None) -> Origin:
    """The origin of a node that is made now by the op called `op`."""
    outer = current_origins()
    if outer:  # an op defined by other ops: they share its line, and its name is their scope
        parent = outer[0]
        scope_name = f"{parent.scope}/{parent.op}" if parent.scope else parent.op
        frames = (*parent.frames, Frame(op, next(_serials), is_op=True))
        return Origin(op, parent.file, parent.line, scope_name, None, parent.role, frames)
    file, line = user_location()
    around, frames = _scope.get()
    return Origin(op, file, line, around, name, "", (*frames, Frame(op, next(_serials), is_op=True)))


def _keep_result(place: tuple[str, int], args: tuple[Any, ...], found: Any) -> None:
    """What a line got from an op, and what it gave to it."""
    for argument in args:
        for item in argument if isinstance(argument, (tuple, list)) else (argument,):
            if hasattr(item, "node"):
                consume(item.node, place)
    for item in found if isinstance(found, (tuple, list)) else (found,):
        if hasattr(item, "node"):
            add_result(item.node, place)


def named_op(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Nodes that the function makes carry its name and the user's line; so do the errors that it raises."""
    name = function.__name__.strip("_")

    @functools.wraps(function)
    def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        is_outermost = not current_origins()
        origin = new_origin(name)
        with originating((origin,)):
            try:
                found = function(*args, **kwargs)
                if is_outermost:
                    _keep_result((origin.file, origin.line), args, found)
                return found
            except GraphcError as error:
                if error.where is not None or origin.where is None:
                    raise
                raise type(error)(error.message, origin.where) from None

    registry.setdefault(name, wrapper)
    return wrapper

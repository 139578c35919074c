"""graphc render SPEC -o FILE: draw a graph."""

from __future__ import annotations

from graphc.cli.options import parse_values, wrt_tensors
from graphc.cli.spec import load
from graphc.errors import ArgumentError, SpecError
from graphc.render import render as draw


def render(spec: str, output: str, backward: bool, wrt: str | None, values: str | None) -> int:
    """Draw what a SPEC names; print the path written."""
    loaded = load(spec)
    leaves = wrt_tensors(loaded, wrt)
    numbers = parse_values(values) if values is not None else None
    drawn = loaded.function.graph if loaded.function is not None and not backward else loaded.graph
    try:
        path = draw(drawn, output, backward=backward or leaves is not None, wrt=leaves, values=numbers)
    except ArgumentError as error:  # a suffix, or a name in --values: the command line is wrong
        raise SpecError(error.message) from None
    print(path)
    return 0

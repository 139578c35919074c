"""graphc render SPEC -o FILE: draw a graph, the kernels of its program, or their memory over time."""

from __future__ import annotations

from collections.abc import Sequence

from graphc.cli.options import parse_values, wrt_tensors
from graphc.cli.show import memory_of, program_of
from graphc.cli.spec import load
from graphc.errors import ArgumentError, SpecError
from graphc.render import render as draw
from graphc.render import render_program


def render(
    spec: str, output: str, level: str, backward: bool, wrt: str | None, values: str | None, sizes: Sequence[str]
) -> int:
    """Draw what a SPEC names; print the path written."""
    loaded = load(spec)
    if level == "memory":
        if values is not None:
            raise SpecError("--values: the memory of a program has none; they are drawn at --level graph")
        try:
            print(memory_of(loaded, backward, wrt, sizes).save(output))
        except ArgumentError as error:  # the suffix
            raise SpecError(error.message) from None
        return 0
    if level == "program":
        if values is not None:
            raise SpecError("--values: a program has none; they are drawn at --level graph")
        try:
            print(render_program(program_of(loaded, backward, wrt, sizes), output))
        except ArgumentError as error:  # the suffix
            raise SpecError(error.message) from None
        return 0
    if sizes:
        raise SpecError(
            "--size: a graph is drawn with the names of its dimensions; sizes are for --level program and memory"
        )
    leaves = wrt_tensors(loaded, wrt)
    numbers = parse_values(values) if values is not None else None
    drawn = loaded.function.graph if loaded.function is not None and not backward else loaded.graph
    try:
        path = draw(drawn, output, backward=backward or leaves is not None, wrt=leaves, values=numbers)
    except ArgumentError as error:  # a suffix, or a name in --values: the command line is wrong
        raise SpecError(error.message) from None
    print(path)
    return 0

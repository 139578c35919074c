"""graphc render SPEC -o FILE: draw a graph, the kernels of its program, their times, or their memory over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphc.cli.bench import inputs_of
from graphc.cli.options import parse_values, sizes_of, wrt_tensors
from graphc.cli.show import function_of, memory_of, program_of
from graphc.cli.spec import Loaded, load
from graphc.compiler import Function
from graphc.compiler.profile import Profile, profile
from graphc.errors import ArgumentError, SpecError
from graphc.render import render as draw
from graphc.render import render_program
from graphc.render.drawing import Direction

PROGRAM_LEVELS = ("program", "memory", "time")


@dataclass(frozen=True)
class Options:
    """What is drawn of a SPEC, as the command line says it."""

    level: str
    backward: bool
    wrt: str | None
    values: str | None
    sizes: Sequence[str]
    depth: int | None
    direction: Direction | None
    steps: bool
    diff: str | None
    is_profiled: bool


def render(spec: str, output: str, options: Options) -> int:
    """Draw what a SPEC names; print the paths written."""
    loaded = load(spec)
    try:
        draw_it = _program if options.level in PROGRAM_LEVELS else _graph
        written = draw_it(loaded, output, options)
    except ArgumentError as error:  # a suffix, a pass, a name in --values: the command line is wrong
        raise SpecError(error.message) from None
    print("\n".join(written))
    return 0


def _graph(loaded: Loaded, output: str, options: Options) -> list[str]:
    if options.sizes and options.diff is None:
        raise SpecError(
            "--size: a graph is drawn with the names of its dimensions; sizes are for --diff and for --level program, "
            "time and memory"
        )
    if options.is_profiled:
        raise SpecError("--profile: times are those of kernels, at --level program")
    leaves = wrt_tensors(loaded, options.wrt)
    drawn = loaded.function if loaded.function is not None and not options.backward else loaded.graph
    dimensions = drawn.graph.dimensions if isinstance(drawn, Function) else drawn.dimensions
    found = draw(
        drawn,
        output,
        level=options.level,
        backward=options.backward or leaves is not None,
        wrt=leaves,
        values=parse_values(options.values) if options.values is not None else None,
        depth=options.depth,
        direction=options.direction,
        steps=options.steps,
        diff=options.diff,
        sizes=sizes_of(loaded, options.sizes, dimensions) if options.diff is not None else None,
    )
    return found if isinstance(found, list) else [found]


def _program(loaded: Loaded, output: str, options: Options) -> list[str]:
    for name, given in (
        ("--values", options.values),
        ("--steps", options.steps or None),
        ("--diff", options.diff),
        ("--direction", options.direction),
    ):
        if given is not None:
            raise SpecError(f"{name}: it is for --level op and graph, not {options.level}")
    backward, wrt, sizes = options.backward, options.wrt, options.sizes
    if options.level == "memory":
        return [memory_of(loaded, backward, wrt, sizes).save(output)]
    if options.level == "time":
        return [_profile(loaded, options).save(output)]
    times = _profile(loaded, options) if options.is_profiled else None
    return [render_program(program_of(loaded, backward, wrt, sizes), output, times, options.depth)]


def _profile(loaded: Loaded, options: Options) -> Profile:
    """The times of the kernels for random inputs."""
    function = function_of(loaded, "llvm", options.backward, options.wrt)
    return profile(function, inputs_of(function, loaded, options.sizes))

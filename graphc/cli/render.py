"""graphc render SPEC -o FILE: draw a graph, the kernels of its program, their times, or their memory over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.cli.bench import inputs_of
from graphc.cli.options import parse_values, random_array, sizes_of, wrt_tensors
from graphc.cli.show import function_of, memory_of, program_of
from graphc.cli.spec import Loaded, load
from graphc.compiler import Function
from graphc.compiler.profile import Profile, profile
from graphc.errors import ArgumentError, SpecError
from graphc.ir.extent import evaluate, ints
from graphc.ir.graph import Graph
from graphc.lang.tensor import Tensor
from graphc.render import render as draw
from graphc.render import render_program
from graphc.render.drawing import Direction

RANDOM = "random"  # --values random
SEED = 0  # of such values
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
    if options.sizes and options.diff is None and options.values != RANDOM:
        raise SpecError(
            "--size: a graph is drawn with the names of its dimensions; sizes are for --diff, --values random, and "
            "--level program, time and memory"
        )
    if options.is_profiled:
        raise SpecError("--profile: times are those of kernels, at --level program")
    leaves = wrt_tensors(loaded, options.wrt)
    drawn = loaded.function if loaded.function is not None and not options.backward else loaded.graph
    graph = drawn.graph if isinstance(drawn, Function) else drawn
    found = draw(
        drawn,
        output,
        level=options.level,
        backward=options.backward or leaves is not None,
        wrt=leaves,
        values=_values(loaded, graph, options),
        depth=options.depth,
        direction=options.direction,
        steps=options.steps,
        diff=options.diff,
        sizes=sizes_of(loaded, options.sizes, graph.dimensions) if options.diff is not None else None,
    )
    return found if isinstance(found, list) else [found]


def _values(loaded: Loaded, graph: Graph, options: Options) -> dict[Any, Any] | None:
    """The values of --values; random ones for every input where it says so."""
    if options.values is None:
        return None
    if options.values != RANDOM:
        return parse_values(options.values)
    sizes = sizes_of(loaded, options.sizes, graph.dimensions)
    rng = np.random.default_rng(SEED)
    inputs = [Tensor(leaf) for leaf in graph.inputs if leaf.kind == "input"]
    shapes = [ints(tuple(evaluate(extent, sizes) for extent in tensor.shape)) for tensor in inputs]
    return {tensor: random_array(shape, tensor.dtype, rng) for tensor, shape in zip(inputs, shapes, strict=True)}


def _program(loaded: Loaded, output: str, options: Options) -> list[str]:
    for name, given in (
        ("--values", options.values),
        ("--steps", options.steps or None),
        ("--diff", options.diff),
        ("--direction", options.direction),
    ):
        if given is not None:
            raise SpecError(f"{name}: it is for --level op and graph, not {options.level}")
    if options.depth is not None and options.level != "program":
        raise SpecError(f"--depth: it is for --level op, graph and program, not {options.level}")
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

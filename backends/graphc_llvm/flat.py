"""The bodies of a run's steps as one DAG over the values that they read, and the stages into which a long one is cut.

Steps that need the same term share it. A chain of functions such as exp and sin, each of the result of the one before,
leaves a processor waiting: the instructions of the next vectors that could fill the gaps lie too far ahead. So the
values of a block of vectors are computed one link of the chain after another, and what a link hands on waits in a
buffer that stays in the first-level cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphc.ir import scalar as sc
from graphc.program import Program
from graphc_llvm.runs import LONG, Access, Run

LEAST_LINKS = 2  # of a chain that is cut
BLOCK = 1024  # elements of a block: 4 KiB for each value that waits, of 32 to 48 KiB


@dataclass(frozen=True)
class Flat:
    """`roots`: the value of each step, over Arg(j) for the read `accesses[j]`."""

    accesses: tuple[Access, ...]
    roots: tuple[sc.Scalar, ...]


@dataclass(frozen=True)
class Stage:
    """One link: `values` over reads, where Arg(number of accesses + n) is value n of the `waiting` ones; the last
    stage's values are the roots. Each value of another stage waits, from place `first` on."""

    values: tuple[sc.Scalar, ...]
    first: int


@dataclass(frozen=True)
class Stages:
    """A run cut into stages, and the dtypes of the values that wait between them."""

    stages: tuple[Stage, ...]
    waiting: tuple[str, ...]


def flatten(program: Program, run: Run) -> Flat | None:
    """The run as one DAG; None where points are skipped, which a value cannot express."""
    if any(read.skips and read.bounds for step in run.steps for read in step.reads):
        return None
    places: dict[object, int] = {}
    accesses: list[Access] = []
    roots: list[sc.Scalar] = []
    values: dict[str, sc.Scalar] = {}
    for step in run.steps:
        replace: dict[sc.Scalar, sc.Scalar] = {}
        for arg in [part for part in sc.postorder(step.node.body) if isinstance(part, sc.Arg)]:
            forwarded, read = step.forwarded[arg.index], step.reads[arg.index]
            if forwarded is not None:
                replace[arg] = values[forwarded]
                continue
            key = (program.root(read.buffer).name, read.offset, read.bounds)
            if key not in places:
                places[key] = len(accesses)
                accesses.append(read)
            replace[arg] = sc.Arg(places[key], arg.dtype)
        root = sc.substitute(step.node.body, {old: new for old, new in replace.items() if old is not new})
        values[step.stage.write] = root
        roots.append(root)
    return Flat(tuple(accesses), tuple(roots))


def cut(flat: Flat) -> Stages | None:
    """The stages of a run, one for each link of its longest chain; None where there is no long chain."""
    order = sc.postorder(*flat.roots)
    level: dict[sc.Scalar, int] = {}
    for node in order:
        below = max((level[arg] for arg in node.args), default=0) if isinstance(node, sc.Apply) else 0
        level[node] = below + _is_link(node)
    last = max(level.values(), default=0)
    if last < LEAST_LINKS:
        return None
    known: dict[sc.Scalar, sc.Scalar] = {}
    stages: list[Stage] = []
    for link in range(1, last):
        found = [node for node in order if _is_link(node) and level[node] == link]
        stages.append(Stage(_over(known, found), len(known)))
        known.update(
            {node: sc.Arg(len(flat.accesses) + len(known) + n, node.dtype) for n, node in enumerate(found)}
        )
    stages.append(Stage(_over(known, flat.roots), len(known)))
    return Stages(tuple(stages), tuple(node.dtype for node in known))


def _is_link(node: sc.Scalar) -> bool:
    return isinstance(node, sc.Apply) and node.op in LONG and node.dtype.startswith("float")


def _over(known: dict[sc.Scalar, sc.Scalar], values: Sequence[sc.Scalar]) -> tuple[sc.Scalar, ...]:
    return tuple(sc.substitute(value, known) for value in values)

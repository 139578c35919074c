"""Where the time of a call goes: seconds, operations and bytes of each kernel, beside what the machine can do.

The backend times the kernels (`graphc.backend.TimedExecutable`), `graphc.compiler.cost` counts what each has to do at
least, and the roofline says how long that takes at best: max(operations / peak, bytes / bandwidth), with both measured
on this machine. A kernel's share of the roofline is that time over its own.

Runs follow each other, so what fits into a cache is found there. A kernel whose bytes fit, and which moved them faster
than memory can, has shown that: the roof of memory does not hold for it, that of the cache is not measured, and it is
marked `cache`.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from graphc.backend import Machine, TimedExecutable, TimingBackend
from graphc.compiler.arguments import Arguments
from graphc.compiler.bounds import in_words
from graphc.compiler.cost import Cost, cost_of, stage_operations, updates_cost
from graphc.compiler.profile_table import table_of
from graphc.compiler.specialise import one_program
from graphc.errors import ArgumentError, BackendError
from graphc.lang.source import user_line
from graphc.program import Kernel, Program

if TYPE_CHECKING:
    from graphc.compiler.function import Function

WARM_RUNS: Final = 3
WARM_SECONDS: Final = 0.05
"""Untimed runs come first: at least so many, and for so long, in which a processor comes up to speed."""

SECONDS: Final = 0.5
LEAST_RUNS: Final = 5
MOST_RUNS: Final = 1000
"""Unless the user says how often: as often as SECONDS allow, within these bounds."""

SORTS: Final = ("program", "time")


@dataclass(frozen=True)
class Row:
    """A kernel, or several added up, which have no `scopes` and `where`.

    kind: contraction, loops or opaque; copies: the updates that follow the last kernel. ops: the user's, which were
    fused into it. scopes: the parts of the model that these belong to; the first, and the line `where`, are those of
    the stage with the most operations. seconds: the median over the runs; least: the shortest; share: of all kernels'
    seconds. operations, bytes: see `graphc.compiler.cost`. bound: the roof that is lower here, "fma" or "memory", or
    "cache" (see above); roofline: the share of it that was reached, None where none is known.
    """

    name: str
    kind: str
    ops: tuple[str, ...]
    scopes: tuple[str, ...]
    where: str | None
    seconds: float
    least: float
    share: float
    operations: int
    bytes: int
    bound: str | None
    roofline: float | None

    @property
    def gflops(self) -> float | None:
        """Operations in a nanosecond; None when the clock saw no time pass."""
        return self.operations / self.seconds / 1e9 if self.seconds else None

    @property
    def gigabytes(self) -> float | None:
        """Bytes in a nanosecond; None when the clock saw no time pass."""
        return self.bytes / self.seconds / 1e9 if self.seconds else None


@dataclass(frozen=True)
class Profile:
    """What `profile` found. seconds: the median over the runs of all rows together; least: the shortest run; per: what
    a row stands for, "kernel" or "scope"."""

    name: str
    backend: str
    runs: int
    seconds: float
    least: float
    rows: tuple[Row, ...]
    machine: Machine | None
    per: str = "kernel"

    @property
    def total(self) -> Row:
        """All rows added up; its roofline is the mean, by time, of the rows that have one."""
        return replace(_added("total", self.rows), seconds=self.seconds, least=self.least)

    def by_scope(self, depth: int | None = None) -> Profile:
        """A row for each part of the model, in program order: the sum of the kernels whose first scope it is.

        depth: how many parts of a scope's name count, so that with 1 `encoder/layer2` is part of `encoder`.
        """
        groups: dict[str, list[Row]] = {}
        for row in self.rows:
            scope = "/".join(row.scopes[0].split("/")[:depth]) if row.scopes else ""
            groups.setdefault(scope, []).append(row)
        return replace(self, rows=tuple(_added(scope, group) for scope, group in groups.items()), per="scope")

    def table(self, sort: str = "program", top: int | None = None) -> str:
        """The rows as text for people, with the total. sort: "program" or "time"; top: so many rows at most."""
        if sort not in SORTS:
            raise ArgumentError(f"profile: sort must be one of {', '.join(SORTS)}, not {sort!r}", user_line())
        rows = list(self.rows) if sort == "program" else sorted(self.rows, key=lambda row: -row.seconds)
        return table_of(self, rows[:top])

    def svg(self, sort: str = "program") -> str:
        """A drawing: a bar for each row, with the time that the roofline allows. sort: as for `table`."""
        from graphc.render.program.times import svg_of_times  # drawing is above the compiler, loaded when asked for

        return svg_of_times(self, sort)

    def _repr_svg_(self) -> str:
        return self.svg()

    def save(self, path: str | os.PathLike[str], sort: str = "program") -> str:
        """Write the drawing to a file whose name ends in .svg; returns its path. Errors: `ArgumentError`, `OSError`."""
        target = Path(path)
        if target.suffix.lower() != ".svg":
            raise ArgumentError(f"profile: the drawing is SVG; {os.fspath(path)!r} does not end in .svg", user_line())
        target.write_text(self.svg(sort), encoding="utf-8", newline="\n")
        return str(target)

    def as_dict(self) -> dict[str, Any]:
        """Numbers, strings, lists and dictionaries: what `to_json` writes."""
        rows = [{**asdict(row), "gflops": row.gflops, "gigabytes_per_second": row.gigabytes} for row in self.rows]
        machine = None
        if self.machine is not None:
            machine = {**asdict(self.machine), "operations": dict(self.machine.operations)}
        return {
            "function": self.name,
            "backend": self.backend,
            "runs": self.runs,
            "seconds": self.seconds,
            "least": self.least,
            "machine": machine,
            f"{self.per}s": rows,
        }

    def to_json(self) -> str:
        """The profile as a JSON object."""
        return json.dumps(self.as_dict(), indent=2)

    def __str__(self) -> str:
        return self.table()


def profile(function: Function, arguments: Sequence[Any], repeats: int | None = None) -> Profile:
    """Time each kernel of a compiled function for these arguments, which are checked as those of a call.

    It is run some times to warm up, then `repeats` times (None: about half a second), from the same params and states
    each time: on copies, so that none is changed. Errors: those of a call; `BackendError` where the backend cannot.

    >>> import graphc as gc, numpy as np
    >>> x = gc.input("x", ("N", 64))
    >>> model = gc.nn.Sequential(gc.nn.Linear(64, 32, seed=0), gc.nn.ReLU(), gc.nn.Linear(32, 10, seed=1))
    >>> found = profile(gc.compile([x], model(x), backend="numpy"), [np.ones((8, 64), np.float32)], repeats=3)
    >>> [(row.kind, row.scopes, row.operations, row.bytes) for row in found.rows]
    [('contraction', ('0', '1'), 33280, 11392), ('contraction', ('2',), 5200, 2664)]
    >>> [(row.name, row.operations) for row in found.by_scope().rows]
    [('0', 33280), ('2', 5200)]
    >>> print(found)                                                                                # doctest: +SKIP
    """
    if repeats is not None and (not isinstance(repeats, int) or repeats < 1):
        raise ArgumentError(f"profile: repeats must be a whole number from 1 up, not {repeats!r}", user_line())
    forms = function._forms
    arrays, sizes = Arguments(forms.name, forms.inputs, forms.dimensions).check(arguments)
    found = forms.find(sizes)
    program = one_program(found, forms.name)
    if not isinstance(forms.backend, TimingBackend):
        raise BackendError(f"profile: the backend {function.backend!r} does not time its kernels", user_line())
    everything = [*arrays, *(variable.storage for variable in forms.variables)]
    try:
        runner = _Runner(program, forms.backend.timed(program, forms.options), everything)
        found.executable.run(runner.restored())  # it says more of an index that is wrong
        seconds = runner.times(repeats)
    except IndexError as error:
        raise ArgumentError(f"{forms.name}: {in_words(error, program)}", user_line()) from None
    return _profile_of(function, runner.timed, seconds)


def runs_in_time(once: Callable[[], object], repeats: int | None) -> int:
    """Run to warm up; then say how many runs to time: `repeats`, unless it is None."""
    clock = [time.perf_counter()]
    while len(clock) <= WARM_RUNS or clock[-1] - clock[0] < WARM_SECONDS:
        once()
        clock.append(time.perf_counter())
    return repeats or min(max(math.ceil(SECONDS / float(np.diff(clock).min())), LEAST_RUNS), MOST_RUNS)


class _Runner:
    """Runs a timed program, each time with the given arrays; where it writes it gets copies."""

    def __init__(self, program: Program, timed: TimedExecutable, arrays: Sequence[NDArray[Any]]) -> None:
        self.timed = timed
        written = {target for _, target in program.updates}
        self._arrays: list[NDArray[Any]] = []
        self._originals: list[tuple[NDArray[Any], NDArray[Any]]] = []  # the copy, what it is a copy of
        for name, array in zip(program.inputs, arrays, strict=True):
            self._arrays.append(array.copy() if name in written else array)
            if name in written:
                self._originals.append((self._arrays[-1], array))

    def restored(self) -> list[NDArray[Any]]:
        """The arrays for a run, with the values that they had in the beginning."""
        for copy, original in self._originals:
            np.copyto(copy, original)
        return self._arrays

    def times(self, repeats: int | None) -> NDArray[np.float64]:
        """Seconds: a row for each run, a column for each kernel, and the last for what follows them."""
        def once() -> Sequence[float]:
            return self.timed.run(self.restored())

        return np.array([once() for _ in range(runs_in_time(once, repeats))])


def _profile_of(function: Function, timed: TimedExecutable, seconds: NDArray[np.float64]) -> Profile:
    program = timed.program
    kernels: list[Kernel | None] = [*program.kernels]
    costs = [cost_of(program, kernel) for kernel in program.kernels]
    if program.updates:
        kernels.append(None)
        costs.append(updates_cost(program))
    seconds = seconds[:, : len(kernels)]
    dtypes = sorted({dtype for cost in costs for dtype in cost.operations})
    machine = timed.machine(dtypes)
    medians, least, whole = np.median(seconds, axis=0), seconds.min(axis=0, initial=math.inf), seconds.sum(axis=1)
    rows = [
        _row(program, *parts, float(medians.sum()), machine)
        for parts in zip(kernels, costs, medians.tolist(), least.tolist(), strict=True)
    ]
    return Profile(
        function.name, function.backend, len(seconds), float(np.median(whole)), float(whole.min()), tuple(rows), machine
    )


def _row(
    program: Program,
    kernel: Kernel | None,
    cost: Cost,
    seconds: float,
    least: float,
    whole: float,
    machine: Machine | None,
) -> Row:
    share = seconds / whole if whole else 0.0
    measured = seconds, least, share, cost.total_operations, cost.bytes, *_roof(cost, seconds, machine)
    if kernel is None:
        return Row("updates", "copies", (), (), None, *measured)
    counts = [sum(stage_operations(program, stage).values()) for stage in kernel.stages]
    first = kernel.stages[counts.index(max(counts))]
    stages = (first, *kernel.stages)
    scopes = tuple(dict.fromkeys(stage.scope for stage in stages if stage.scope))
    ops = tuple(dict.fromkeys(stage.op for stage in kernel.stages if stage.op))
    return Row(kernel.name, kernel.kind, ops, scopes, first.where, *measured)


def _roof(cost: Cost, seconds: float, machine: Machine | None) -> tuple[str | None, float | None]:
    """Which roof is lower, and how near to it the kernel came."""
    if machine is None or not seconds or not (cost.operations or cost.bytes):
        return None, None
    compute = sum(count / machine.operations[dtype] for dtype, count in cost.operations.items())
    memory = cost.bytes / machine.bandwidth
    if compute >= memory:
        return "fma", compute / seconds
    is_cached = memory > seconds and cost.bytes <= machine.cache
    return ("cache", None) if is_cached else ("memory", memory / seconds)


def _added(name: str, rows: Sequence[Row]) -> Row:
    """One row for the kernels of a scope, or for all; see `Profile.total` for its roofline."""
    roofed = [(row.roofline, row.seconds) for row in rows if row.roofline is not None]
    under = sum(seconds for _, seconds in roofed)
    return Row(
        name,
        "1 kernel" if len(rows) == 1 else f"{len(rows)} kernels",
        tuple(dict.fromkeys(op for row in rows for op in row.ops)),
        (),
        None,
        sum(row.seconds for row in rows),
        sum(row.least for row in rows),
        sum(row.share for row in rows),
        sum(row.operations for row in rows),
        sum(row.bytes for row in rows),
        None,
        sum(share * seconds for share, seconds in roofed) / under if under else None,
    )

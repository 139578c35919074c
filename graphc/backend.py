"""What a backend is, and how backends are found.

A backend is an object with a `name` and a method `compile(program, options)`, registered by its distribution under
the entry-point group `graphc.backends`. graphc itself names none.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from graphc.errors import BackendError
from graphc.phased import PhasedProgram
from graphc.program import Program

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

ENTRY_POINT_GROUP = "graphc.backends"


@dataclass(frozen=True)
class Options:
    """How to compile: threads (None: as many as CPUs), cpu ("native" or a processor's name), winograd (whether 3x3
    convolutions may be computed by Winograd's algorithm, whose rounding errors differ from those of the direct sum)."""

    threads: int | None = None
    cpu: str = "native"
    winograd: bool = True


@runtime_checkable
class Executable(Protocol):
    """A compiled program."""

    def run(self, arrays: Sequence[NDArray[Any]]) -> Sequence[NDArray[Any]]:
        """Compute the outputs. `arrays` follow `program.inputs`; each is C-contiguous, aligned, and of the right dtype
        and shape. Params and states are updated in place, after everything that can fail. Outputs are new arrays."""
        ...

    def source(self, kind: str) -> str:
        """The generated text of a kind ("numpy", "llvm", "asm"); `BackendError` lists those that exist."""
        ...


@runtime_checkable
class Backend(Protocol):
    """Compiles programs."""

    name: str

    def compile(self, program: Program, options: Options) -> Executable:
        """Lower the program. May raise `BackendError`."""
        ...


@runtime_checkable
class PhasedBackend(Protocol):
    """A backend, besides, that compiles phased programs as a whole; for others `graphc.compiler.phases` calls the
    programs of their blocks one by one."""

    def compile_phased(self, program: PhasedProgram, options: Options) -> Callable[[PhasedProgram], Executable]:
        """What gives the executable for known sizes (`PhasedProgram.at`), at little cost. May raise `BackendError`."""
        ...


class FastCalls(Protocol):
    """The programs of one function that calls try before Python takes over: its compiled forms for several sizes."""

    def add(self, executable: Executable, variables: Sequence[NDArray[Any]], single: bool) -> None:
        """Let calls try an executable of this backend. variables: the arrays of its params and states, the last of
        `program.inputs`, which stay where they are; single: a call gives its one output, and not a tuple.

        It may be added again; how many are tried may be bounded."""
        ...

    def before(self, slow: Callable[..., Any]) -> Callable[..., Any]:
        """A callable that does what `slow` does, at once where an executable takes the arguments. It may take them

        - when there are no keywords, and as many arguments as inputs;
        - an ndarray, of no subclass, that is C-contiguous and aligned, of the input's dtype in native byte order and
          of its shape;
        - for an input of shape (), also a NumPy scalar of its dtype, or a Python float, int or bool whose conversion by
          `graphc.compiler.arguments` gives neither a warning nor an error;
        - and the program finds no index outside its axis.

        Anything else goes to `slow` as it came. A result may be the very array that an earlier call returned, once
        nobody holds that any more."""
        ...


@runtime_checkable
class FastBackend(Protocol):
    """A backend, besides, whose programs can be called without Python."""

    def fast_calls(self) -> FastCalls | None:
        """Those of a new function; None where this process does not allow it."""
        ...


class TimedExecutable(Protocol):
    """A compiled program that takes the time of each of its kernels."""

    program: Program
    """As it runs: a backend may have split kernels."""

    def run(self, arrays: Sequence[NDArray[Any]]) -> Sequence[float]:
        """Run once; `arrays` as for `Executable.run`, params and states are updated in place. Returns seconds: of each
        kernel of `program`, in order, then of what follows the last one."""
        ...

    def machine(self, dtypes: Sequence[str]) -> Machine | None:
        """What this machine can do at most with these float types; None where the backend cannot tell."""
        ...


@dataclass(frozen=True)
class Machine:
    """The most that a program can reach, as measured on this machine.

    threads: how many did the work together; operations: float operations a second, by dtype; bandwidth: bytes a second,
    from and to memory; cache: bytes that may be found in a cache instead; how: what was run to measure, for people."""

    threads: int
    operations: Mapping[str, float]
    bandwidth: float
    cache: int
    how: str


@runtime_checkable
class TimingBackend(Protocol):
    """A backend, besides, whose kernels can be timed."""

    def timed(self, program: Program, options: Options) -> TimedExecutable:
        """Compile the program as `compile` does, with clocks between its kernels. May raise `BackendError`."""
        ...


class Exported(list[str]):
    """The paths of the files that an export wrote, in order.

    left_out: a sentence for each file that was not made because this machine cannot. code_bytes, data_bytes: what the
    object puts into memory (0 each where its format does not tell). notes: a sentence for each thing that whoever links
    the object has to know."""

    def __init__(
        self,
        paths: Sequence[str],
        left_out: Sequence[str],
        code_bytes: int,
        data_bytes: int,
        notes: Sequence[str] = (),
    ) -> None:
        super().__init__(paths)
        self.left_out, self.code_bytes, self.data_bytes = tuple(left_out), code_bytes, data_bytes
        self.notes = tuple(notes)


@lru_cache(maxsize=1)
def _found() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points  # costs 30 ms, and is needed at the first compile only

    return {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}


def available() -> tuple[str, ...]:
    """The names of all installed backends, sorted."""
    return tuple(sorted(_found()))


def _quickly(name: str) -> str | None:
    """The value of a backend's entry point, from the files in which installers write them; None: not found there.

    importlib.metadata knows more kinds of installation, and takes 30 ms for that: a third of a first call whose code
    comes from the disk cache.
    """
    for folder in sys.path:
        try:
            with os.scandir(folder or os.curdir) as listing:
                infos = [item.path for item in listing if item.name.endswith(".dist-info")]
        except OSError:  # an archive, or nothing
            continue
        for info in infos:
            try:
                with open(os.path.join(info, "entry_points.txt"), encoding="utf-8") as file:
                    text = file.read()
            except (OSError, UnicodeDecodeError):
                continue
            section = ""
            for line in text.splitlines() if ENTRY_POINT_GROUP in text else ():
                key, equals, value = line.partition("=")
                if line.startswith("["):
                    section = line.strip()[1:-1]
                elif section == ENTRY_POINT_GROUP and equals and key.strip() == name:
                    return value.partition("[")[0].strip()  # extras do not matter
    return None


@cache
def load(name: str) -> Backend:
    """The backend called `name`; `BackendError` lists those that are installed."""
    value = _quickly(name)
    if value is None and (point := _found().get(name)) is not None:
        value = point.value
    if value is None:
        raise BackendError(f"there is no backend {name!r}; installed: {', '.join(available()) or 'none'}")
    try:
        module, _, attributes = value.partition(":")
        backend: object = importlib.import_module(module.strip())
        for attribute in filter(None, attributes.strip().split(".")):
            backend = getattr(backend, attribute)
    except Exception as error:
        raise BackendError(f"the backend {name!r} ({value}) cannot be loaded: {error}") from error
    if not isinstance(backend, Backend):
        raise BackendError(f"the backend {name!r} ({value}) has no `name` and `compile`")
    return backend

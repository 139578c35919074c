"""What a backend is, and how backends are found.

A backend is an object with a `name` and a method `compile(program, options)`, registered by its distribution under
the entry-point group `graphc.backends`. graphc itself names none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from graphc.errors import BackendError
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


@lru_cache(maxsize=1)
def _found() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points  # costs 30 ms, and is needed at the first compile only

    return {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}


def available() -> tuple[str, ...]:
    """The names of all installed backends, sorted."""
    return tuple(sorted(_found()))


@cache
def load(name: str) -> Backend:
    """The backend called `name`; `BackendError` lists those that are installed."""
    point = _found().get(name)
    if point is None:
        raise BackendError(f"there is no backend {name!r}; installed: {', '.join(available()) or 'none'}")
    try:
        backend = point.load()
    except Exception as error:
        raise BackendError(f"the backend {name!r} ({point.value}) cannot be loaded: {error}") from error
    if not isinstance(backend, Backend):
        raise BackendError(f"the backend {name!r} ({point.value}) has no `name` and `compile`")
    return backend

"""A call of a compiled function: natively where the backend can, else through Python, which says what is wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from numpy.typing import NDArray

from graphc.backend import FastBackend
from graphc.compiler.arguments import Arguments
from graphc.compiler.bounds import in_words
from graphc.compiler.specialise import MOST_SIZES, Specialisation, Specialisations
from graphc.errors import ArgumentError, ArgumentTypeError
from graphc.lang.source import user_line

Array: TypeAlias = NDArray[Any]


class Calls:
    """What a function does when it is called: check the arguments, find the sizes of named dimensions, compile the
    graph for them unless it has been, and run. `single`: there is one output, and not a list."""

    def __init__(self, forms: Specialisations, single: bool) -> None:
        self._forms = forms
        self._single = single
        self._arguments = Arguments(forms.name, forms.inputs, forms.dimensions)
        self._ready: dict[tuple[int, ...], Callable[..., Any]] = {}  # by sizes; called with arrays that fit them
        self._lock = threading.Lock()
        self._storages: tuple[Array, ...] | None = None
        self._fast_backend = forms.backend if isinstance(forms.backend, FastBackend) else None
        self._fast = self._fast_backend.fast_calls() if self._fast_backend is not None else None

    def entrance(self) -> Callable[..., Any]:
        """The fastest thing that does what `call` does. It holds this object, and this object does not hold it."""
        return self._fast.before(self.call) if self._fast is not None else self.call

    def call(self, *arguments: Any, **named: Any) -> Any:
        """The slow path: it accepts all that can be converted without loss, and refuses the rest in words."""
        if named:
            names = ", ".join(str(tensor.name) for tensor in self._forms.inputs)
            given = ", ".join(map(repr, named))
            raise ArgumentTypeError(
                f"{self._forms.name}: arguments are given by position ({names}), not by keyword: {given}", user_line()
            )
        arrays, sizes = self._arguments.check(arguments)
        ready = self._ready.get(sizes)
        if ready is None or self._forms.dimensions:
            ready = self._prepare(sizes)
        return ready(*arrays)

    def _prepare(self, sizes: tuple[int, ...]) -> Callable[..., Any]:
        """What computes for these sizes, from arrays; from now on calls with them should not come here. Sizes of
        dynamic dimensions may come once and never again: natively they are called from the second time on."""
        found = self._forms.find(sizes)
        executable = found.executable
        if self._storages is None:  # not before the first call, which is when initial values are computed
            self._storages = tuple(variable.storage for variable in self._forms.variables)
        ready, is_dynamic = self._ready.get(sizes), bool(self._forms.dynamic)
        if self._fast is not None and (ready is not None or not is_dynamic):
            self._fast.add(executable, self._storages, self._single)
        if ready is None:
            ready = _Run(self._forms.name, found, self._storages, self._single).call
            one = self._fast_backend.fast_calls() if self._fast_backend is not None and not is_dynamic else None
            if one is not None:
                one.add(executable, self._storages, self._single)
                ready = one.before(ready)
            with self._lock:
                if is_dynamic and len(self._ready) >= MOST_SIZES:
                    del self._ready[next(iter(self._ready))]
                self._ready[sizes] = ready
        return ready


class _Run:
    """An executable with the arrays of its params and states."""

    def __init__(self, name: str, found: Specialisation, storages: Sequence[Array], single: bool) -> None:
        self._name, self._storages, self._single = name, storages, single
        self._executable, self._program = found.executable, found.program

    def call(self, *arrays: Array) -> Any:
        try:
            results = self._executable.run([*arrays, *self._storages])
        except IndexError as error:
            raise ArgumentError(f"{self._name}: {in_words(error, self._program)}", user_line()) from None
        return results[0] if self._single else tuple(results)

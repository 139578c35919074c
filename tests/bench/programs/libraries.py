"""The libraries: which module writes the programs for which, imported when it is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final, TypeAlias

import numpy as np

from tests.bench.programs.problems import BATCHES, STEPS, Array, Problem


@dataclass(frozen=True)
class Program:
    """`call` computes the program once and waits for the end; `answer` gives what everyone must agree on."""

    call: Callable[[], Any]
    answer: Callable[[], list[Array]]


Begin: TypeAlias = Callable[[], Program]
"""Builds a program whose data and weights have been converted."""

Prepare: TypeAlias = Callable[[Problem, int], Begin]
"""(problem, threads): converts. Raises NotImplementedError for a problem that the library has no program for."""


def computed(call: Callable[[], Any]) -> Program:
    """A program without a state; a call returns an array or several."""

    def answer() -> list[Array]:
        found = call()
        return [np.asarray(array) for array in (found if isinstance(found, (list, tuple)) else [found])]

    return Program(call, answer)


def trained(step: Callable[[int], Any]) -> Program:
    """A training step: `step(number)` takes the batch of this number and returns the loss before the step."""

    def answer() -> list[Array]:
        return [np.array(float(step(number % BATCHES))) for number in range(STEPS)]

    return Program(lambda: step(0), answer)


@dataclass(frozen=True)
class Library:
    """A name on the command line, the distribution whose version is told, the module and its function."""

    distribution: str
    module: str
    function: str = "prepare"

    @property
    def version(self) -> str:
        """Of what is installed; raises PackageNotFoundError."""
        return version(self.distribution)

    def load(self) -> Prepare:
        """Import the library; raises what its import raises."""
        prepare: Prepare = getattr(importlib.import_module(f"tests.bench.programs.{self.module}"), self.function)
        return prepare


GRAPHC: Final = {
    "llvm": Library("graphc", "in_graphc"),
    "numpy": Library("graphc", "in_graphc", "prepare_numpy"),
}
"""graphc's backends."""

LIBRARIES: Final = {
    "torch": Library("torch", "in_torch"),
    "torch.compile": Library("torch", "in_torch", "prepare_compiled"),
    "jax": Library("jax", "in_jax"),
    "onnxruntime": Library("onnxruntime", "in_onnxruntime"),
    "pytensor": Library("pytensor", "in_pytensor"),
    "sympy": Library("sympy", "in_sympy"),
    "casadi": Library("casadi", "in_casadi"),
    "numba": Library("numba", "in_numba"),
    "numpy": Library("numpy", "in_numpy"),
}
"""The peers."""


def versions(names: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """({name: version of what is installed}, one line for each that is not); nothing is imported"""
    found: dict[str, str] = {}
    absent: list[str] = []
    for name in names:
        try:
            found[name] = LIBRARIES[name].version
        except PackageNotFoundError:
            absent.append(f"{name} is absent: {LIBRARIES[name].distribution} is not installed")
    return found, absent


def load(names: Iterable[str]) -> tuple[dict[str, Prepare], list[str]]:
    """(the libraries that can be imported, one line for each that cannot)"""
    found: dict[str, Prepare] = {}
    absent: list[str] = []
    for name in names:
        try:
            found[name] = LIBRARIES[name].load()
        except Exception as error:  # a broken installation raises anything
            absent.append(f"{name} is absent: {type(error).__name__}: {' '.join(str(error).split())}")
    return found, absent

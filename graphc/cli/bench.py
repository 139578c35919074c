"""graphc bench SPEC: how long a call takes, and where that time goes, kernel by kernel.

A tensor, or a list of them, is compiled first. Inputs are random: floats normal, integers 0 or 1, which are labels and
indices wherever there are at least two of what they count; where there are not, they are 0.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphc.cli.options import random_array, sizes_of
from graphc.cli.spec import Loaded, load
from graphc.compiler import Function, compile
from graphc.compiler.profile import profile, runs_in_time
from graphc.errors import ArgumentError, SpecError
from graphc.ir.dtypes import is_float
from graphc.ir.extent import dimension_names, evaluate, ints
from graphc.ir.graph import Graph
from graphc.lang.tensor import Tensor, variables
from graphc.render.levels import with_gradients

Array = NDArray[Any]
SIZE = 64  # of a named dimension: a batch that is worth its while
SEED = 0  # of the random inputs


def bench(
    spec: str,
    sizes: Sequence[str],
    threads: int | None,
    repeats: int | None,
    backward: bool,
    json_file: str | None,
    top: int | None,
) -> int:
    """Print the time of a call and the table of its kernels; 0."""
    loaded = load(spec)
    function = _function(loaded, threads, backward)
    arrays = inputs_of(function, loaded, sizes)
    seconds = _call_seconds(function, arrays, repeats)
    found = profile(function, arrays, repeats)
    call = {"runs": len(seconds), "seconds": statistics.median(seconds), "least": min(seconds)}
    if json_file is not None:
        text = json.dumps({"spec": spec, "call": call, **found.as_dict()}, indent=2)
        Path(json_file).write_text(text + "\n", encoding="utf-8")
    print(f"a call takes {call['seconds'] * 1e6:,.1f} us (median of {call['runs']}; least {call['least'] * 1e6:,.1f})")
    print()
    print(found.table("program" if top is None else "time", top))
    return 0


def _function(loaded: Loaded, threads: int | None, backward: bool) -> Function:
    if loaded.function is not None and not backward:
        if threads is not None:
            raise SpecError(f"--threads: {loaded.spec} is compiled already: by `threads=` there, or by GRAPHC_THREADS")
        return loaded.function
    outputs = with_gradients(loaded.tensors, None, loaded.spec) if backward else list(loaded.tensors)
    graph = Graph(tuple(tensor.node for tensor in outputs))
    inputs = [Tensor(leaf) for leaf in graph.inputs if leaf not in variables]
    name = loaded.spec.rpartition(":")[2]
    return compile(inputs, outputs, threads=threads, name=name)


def inputs_of(function: Function, loaded: Loaded, given: Sequence[str]) -> list[Array]:
    """An array for each input, with which the function can be called."""
    extents = [extent for tensor in function.inputs for extent in tensor.shape]
    dimensions = dict.fromkeys(name for extent in extents for name in sorted(dimension_names(extent)))
    sizes = sizes_of(loaded, given, list(dimensions), SIZE)
    rng = np.random.default_rng(SEED)
    arrays: list[Array] = []
    for tensor in function.inputs:
        shape = ints(tuple(evaluate(extent, sizes) for extent in tensor.shape))
        arrays.append(random_array(shape, tensor.dtype, rng))
    changed = _Restored(function)
    try:
        function(*arrays)
    except ArgumentError:  # an integer input is an index: the first one always exists
        arrays = [array if is_float(array.dtype.name) else np.zeros_like(array) for array in arrays]
        function(*arrays)
    changed.restore()
    return arrays


def _call_seconds(function: Function, arrays: Sequence[Array], repeats: int | None) -> list[float]:
    """The times of so many calls, each from the same params and states."""
    changed = _Restored(function)

    def once() -> float:
        start = time.perf_counter()
        function(*arrays)
        seconds = time.perf_counter() - start
        changed.restore()
        return seconds

    return [once() for _ in range(runs_in_time(once, repeats))]


class _Restored:
    """The params and states that a function reads, as they are now."""

    def __init__(self, function: Function) -> None:
        found = [variables[leaf].storage for leaf in function.graph.inputs if leaf in variables]
        self._values = [(storage, storage.copy()) for storage in found]

    def restore(self) -> None:
        """Set them to what they were."""
        for storage, value in self._values:
            np.copyto(storage, value)

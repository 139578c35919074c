"""graphc check SPEC: the derived gradients against central differences, in float64.

The gradients are derived as `gc.grad` derives them, in the user's dtypes; then the value and its gradients are rebuilt
in float64 and evaluated by the interpreter at random inputs. An output that is no scalar is multiplied by random
numbers and summed. At a point next to a kink (relu at 0, a tie of max) the two one-sided differences disagree; another
point is drawn then.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphc.cli.options import Draw, random_array, sizes_of, wrt_tensors
from graphc.cli.spec import Loaded, load
from graphc.errors import GradientError
from graphc.ir.dtypes import is_float
from graphc.ir.extent import ints
from graphc.ir.graph import Graph, specialise
from graphc.ir.interp import interpret
from graphc.ir.node import Input, Node
from graphc.ir.retype import widen
from graphc.lang.calculus import grad
from graphc.lang.reduce import sum as sum_of
from graphc.lang.tensor import Tensor, input, variables
from graphc.render.gradients import float_leaves

Array = NDArray[Any]
TOLERANCE = 1e-6  # times 1 + the greatest gradient
STEP = 1e-5
MOST_ELEMENTS = 24  # of one leaf that are moved; of a larger leaf as many drawn at random
POINTS = 12  # drawn before a kink is accepted


@dataclass(frozen=True)
class Row:
    """What was found for one leaf."""

    name: str
    elements: int
    tested: int
    greatest: float
    error: float
    is_kink: bool

    @property
    def is_good(self) -> bool:
        return not self.is_kink and self.error <= TOLERANCE * (1 + self.greatest)


def check(spec: str, wrt: str | None, seed: int, sizes: Sequence[str]) -> int:
    """Print a table; 0 when every gradient agrees, 1 when one does not."""
    loaded = load(spec)
    rows = check_gradients(loaded, wrt_tensors(loaded, wrt), seed, sizes)
    width = max(4, *(len(row.name) for row in rows))
    print(f"{'leaf':{width}}  elements  tested  max |gradient|  max error  ok")
    for row in rows:
        verdict = "yes" if row.is_good else ("kink" if row.is_kink else "NO")
        print(
            f"{row.name:{width}}  {row.elements:8d}  {row.tested:6d}  {row.greatest:14.6g}  {row.error:9.2e}  {verdict}"
        )
    bad = [row.name for row in rows if not row.is_good]
    if bad:
        print(f"{', '.join(bad)}: the derivative and the central difference do not agree")
    return 1 if bad else 0


def check_gradients(loaded: Loaded, wrt: Sequence[Tensor] | None, seed: int, sizes: Sequence[str]) -> list[Row]:
    """A row for each leaf. Errors: `GradientError` where there is nothing to differentiate, `SpecError`."""
    floats = [tensor for tensor in loaded.tensors if is_float(tensor.dtype)]
    if not floats:
        raise GradientError(f"{loaded.spec}: none of its outputs is a float, so there is no gradient to check")
    tensors = list(wrt) if wrt is not None else [Tensor(leaf) for leaf in float_leaves([t.node for t in floats])]
    if not tensors:
        raise GradientError(f"{loaded.spec}: it depends on no float input or param, so there is no gradient to check")
    for tensor in tensors:
        if not isinstance(tensor.node, Input):
            raise GradientError(f"{loaded.spec}: {tensor.name} is no leaf; only inputs and params can be moved")
    loss = _scalar(floats)
    graph = Graph((loss.node, *(gradient.node for gradient in grad(loss, tensors))))
    known: dict[Node, Node] = {}
    if graph.dimensions:
        graph = specialise(graph, sizes_of(loaded, sizes, graph.dimensions), known)
    graph, wide = widen(graph)
    leaves = {leaf: wide.get(known.get(leaf, leaf)) for leaf in (tensor.node for tensor in tensors)}
    point = _find_point(graph, [leaf for leaf in leaves.values() if leaf is not None], wide, seed)
    rows = []
    for position, tensor in enumerate(tensors, 1):
        leaf = leaves[tensor.node]
        rows.append(point.row(str(tensor.name), leaf, graph.outputs[position]))
    return rows


def _scalar(outputs: Sequence[Tensor]) -> Tensor:
    """A scalar that all elements of the outputs enter, each with a random weight of its own."""
    total: Tensor | None = None
    for number, output in enumerate(outputs):
        term = output
        if output.shape != ():
            term = sum_of(output * input(f"weights of output {number}", output.shape, dtype=output.dtype))
        total = term if total is None else total + term
    assert total is not None
    return total


class _Point:
    """Values of the leaves, with the value and the gradients there."""

    def __init__(self, graph: Graph, values: dict[Node, Array]) -> None:
        self.graph = graph
        self.loss = Graph(graph.outputs[:1])
        self.values = values
        self.results = dict(zip(graph.outputs, interpret(graph, values), strict=True))
        self.differences: dict[Node, tuple[list[int], Array, bool]] = {}

    @property
    def is_finite(self) -> bool:
        return all(np.isfinite(result).all() for result in self.results.values())

    def value(self, leaf: Node, element: int, move: float) -> float:
        moved = self.values[leaf].copy()
        moved.reshape(-1)[element] += move
        return float(interpret(self.loss, {**self.values, leaf: moved})[0])

    def measure(self, leaf: Node, rng: np.random.Generator) -> bool:
        """Central differences of some elements; whether a kink is near."""
        size = self.values[leaf].size
        elements = list(range(size))
        if size > MOST_ELEMENTS:
            elements = sorted(rng.choice(size, MOST_ELEMENTS, replace=False).tolist())
        here = float(self.results[self.graph.outputs[0]])
        found = np.zeros(len(elements))
        is_kink = False
        for position, element in enumerate(elements):
            step = STEP * max(1.0, abs(float(self.values[leaf].reshape(-1)[element])))
            up, down = self.value(leaf, element, step), self.value(leaf, element, -step)
            half_up, half_down = self.value(leaf, element, step / 2), self.value(leaf, element, -step / 2)
            coarse, fine = (up - down) / (2 * step), (half_up - half_down) / step
            found[position] = (4 * fine - coarse) / 3  # Richardson: the error of order step^2 goes
            # Across a kink the one-sided slopes differ by a jump that stays when the step is halved.
            bend, half_bend = (up - 2 * here + down) / step, (half_up - 2 * here + half_down) / (step / 2)
            jump = 1e-4 * (1 + abs(fine))
            is_kink |= not math.isfinite(found[position]) or (abs(bend) > jump and abs(half_bend) > 0.75 * abs(bend))
            is_kink |= abs(coarse - fine) > jump
        self.differences[leaf] = (elements, found, is_kink)
        return is_kink

    def row(self, name: str, leaf: Node | None, gradient: Node) -> Row:
        found = self.results[gradient].reshape(-1)
        greatest = float(np.abs(found).max(initial=0.0))
        if leaf is None:  # nothing depends on it
            return Row(name, found.size, 0, greatest, greatest, False)
        elements, differences, is_kink = self.differences[leaf]
        error = float(np.abs(found[elements] - differences).max(initial=0.0))
        return Row(name, found.size, len(elements), greatest, math.inf if math.isnan(error) else error, is_kink)


def _find_point(graph: Graph, leaves: Sequence[Node], wide: dict[Node, Node], seed: int) -> _Point:
    """The first of some random points where everything is finite and no kink is near."""
    rng = np.random.default_rng(seed)
    origin = {new: old for old, new in wide.items()}
    best: _Point | None = None
    for attempt in range(POINTS):
        draw = _DRAWS[attempt % len(_DRAWS)]
        values: dict[Node, Array] = {leaf: _draw(leaf, origin.get(leaf, leaf), rng, draw) for leaf in graph.inputs}
        try:
            point = _Point(graph, values)
        except IndexError:  # an integer input is an index: the first one always exists
            values = {leaf: v if is_float(leaf.dtype) else np.zeros_like(v) for leaf, v in values.items()}
            point = _Point(graph, values)
        kinks = [point.measure(leaf, rng) for leaf in leaves]
        if point.is_finite and not any(kinks):
            return point
        if best is None or (point.is_finite and not best.is_finite):
            best = point
    assert best is not None
    return best


# Around 0, then where logarithms and roots exist, then inside (0, 1).
_DRAWS: tuple[Draw, ...] = (
    lambda rng, shape: rng.standard_normal(shape),
    lambda rng, shape: rng.uniform(0.5, 2.0, shape),
    lambda rng, shape: rng.uniform(0.1, 0.9, shape),
)


def _draw(leaf: Node, old: Node, rng: np.random.Generator, draw: Draw) -> Array:
    """A value for a leaf: params near their own, floats as drawn, integers 0 or 1, states as they are."""
    shape = ints(leaf.shape)
    if old in variables:
        own = variables[old].storage.astype(leaf.dtype)
        is_moved = is_float(leaf.dtype) and isinstance(leaf, Input) and leaf.kind == "param"
        return np.asarray(own + 0.1 * rng.standard_normal(shape)) if is_moved else own
    return random_array(shape, leaf.dtype, rng, draw)

"""Derivatives of loops (`graphc.ir.loop`): a loop again, of the derivative of one step.

Reverse. The cotangents of the carried values are carried backwards through the steps, in each of which

    (dc', dv)  ->  dc, dx, dk       by the reverse sweep over one step: following c', value v, from c, x and constants k

Those of slices are stacked; those of constants are sums over all steps, carried, too. Where such a term is a sum itself
(a weight's gradient, over the batch), one sum over steps and batch follows the loop instead, of what the loop stacks.
What the sweep reads of the forward steps, and what is no leaf there, the forward loop stacks besides: it is one more of
its results. What `gc.checkpoint` marks inside a step is computed again instead.

Forward. The tangents are carried beside the values.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

from graphc.ir import scalar as sc
from graphc.ir.affine import AffineMap, axis_row
from graphc.ir.build import add_nodes, fill
from graphc.ir.dtypes import is_float
from graphc.ir.graph import Graph, replace, topological
from graphc.ir.loop import Loop, depends, loop_of, loops_of, value_of
from graphc.ir.node import Generic, Input, Node, Opaque, generic, leaf

Backward = Callable[[Sequence[Node], Sequence[Node], Sequence[Node]], Mapping[Node, Node]]
Forward = Callable[[Sequence[Node], Mapping[Node, Node]], Mapping[Node, Node]]


class Sweeps:
    """The loops that one reverse sweep meets. It meets the results of a loop one by one; when it has met all of them,
    their cotangents are known, and one loop gives those of the operands."""

    def __init__(self, order: Iterable[Node]) -> None:
        self._left: dict[Node, set[Node]] = {}
        for results in loops_of(order).values():
            left: set[Node] = set(results)
            self._left.update(dict.fromkeys(results, left))
        self._cotangents: dict[Loop, dict[Opaque, Node]] = {}
        self._sources: dict[Loop, Loop] = {}

    def __contains__(self, node: Node) -> bool:
        return node in self._left

    def reached(
        self, node: Node, source: Node, cotangent: Node | None, live: Collection[Node], backward: Backward
    ) -> Iterator[tuple[Node, Node]]:
        """What the operands get when the sweep has come to a result; `cotangent` None: nothing flows into it. `source`:
        what the sweep reads instead of the result, a copy that a checkpoint computes again, or the result itself."""
        loop, read = loop_of(node), loop_of(source)
        assert loop is not None and read is not None and isinstance(node, Opaque)
        if cotangent is not None:
            self._cotangents.setdefault(loop, {})[node] = cotangent
            self._sources[loop] = read
        self._left[node].discard(node)
        if not self._left[node] and loop in self._cotangents:
            wanted = [place for place, operand in enumerate(loop.operands) if operand in live]
            for place, contribution in _vjp(self._sources[loop], self._cotangents.pop(loop), wanted, backward):
                yield loop.operands[place], contribution


def _vjp(
    loop: Loop, cotangents: Mapping[Opaque, Node], wanted: Sequence[int], backward: Backward
) -> Iterator[tuple[int, Node]]:
    """Places of operands with their cotangents."""
    floats = [place for place in range(loop.carried) if is_float(loop.leaves[place].dtype)]
    asked = [*floats, *(place for place in wanted if place >= loop.carried)]
    finals = {node.attribute("final"): cotangent for node, cotangent in cotangents.items()}
    stacks = {node: cotangent for node, cotangent in cotangents.items() if node.attribute("final") < 0}
    carried = [_like(loop.leaves[place]) for place in floats]
    slices = [leaf(f"grad_{_name(value_of(node))}", value_of(node).shape, node.dtype, "input") for node in stacks]
    found = backward(
        [*(loop.following[place] for place in floats), *map(value_of, stacks)],
        [*carried, *slices],
        [loop.leaves[place] for place in asked],
    )
    reached = [place for place in asked if place >= loop.first_constant and loop.leaves[place] in found]
    after = {place: terms for place in reached if (terms := _sums(found[loop.leaves[place]])) is not None}
    constants = [place for place in reached if place not in after]
    sums = [_like(loop.leaves[place], "sum_") for place in constants]
    arrays = [place for place in asked if loop.carried <= place < loop.first_constant and loop.leaves[place] in found]
    following = [found.get(loop.leaves[place]) or _zeros(loop.leaves[place]) for place in floats]
    following += [add_nodes([total, found[loop.leaves[place]]]) for place, total in zip(constants, sums, strict=True)]
    values = [found[loop.leaves[place]] for place in arrays]
    later = depends([term for terms in after.values() for term in terms], [*carried, *slices])
    summed = {operand for terms in after.values() for term in terms for operand in term.operands if operand in later}
    values += [value for value in dict.fromkeys(summed) if value not in values]

    outputs, read, kept = _read_back(loop, [*following, *values])
    first: list[Node] = [finals.get(place) or _zeros(loop.leaves[place]) for place in floats]
    first += [_zeros(loop.leaves[place]) for place in constants]
    leaves = [*carried, *sums, *slices, *kept, *loop.leaves[loop.carried :]]
    operands = [*first, *stacks.values(), *read, *loop.operands[loop.carried :]]
    sliced = len(slices) + len(kept) + loop.sliced
    back = Loop(tuple(leaves), tuple(outputs[: len(following)]), tuple(operands), sliced, not loop.reverse)
    for number, place in enumerate([*floats, *constants]):
        if place in wanted:
            yield place, back.final(number)
    stacked = {value: back.stack(output) for value, output in zip(values, outputs[len(following) :], strict=True)}
    for place in arrays:
        yield place, stacked[found[loop.leaves[place]]]
    for place, terms in after.items():
        yield place, add_nodes([_over_steps(loop, term, stacked) for term in terms])


def _sums(node: Node) -> list[Generic] | None:
    """The sums that a node adds up; None where it is something else."""
    if not isinstance(node, Generic):
        return None
    if node.reducer == "sum" and node.reduced_axes:
        return [node]
    is_sum = node.is_map and isinstance(node.body, sc.Apply) and node.body.op == "add"
    if not is_sum or len(node.operands) != 2 or len(sc.postorder(node.body)) != 3:
        return None
    if not all(index_map.is_identity for index_map in node.maps):
        return None
    parts = [_sums(operand) for operand in node.operands]
    return [term for part in parts if part is not None for term in part] if None not in parts else None


def _over_steps(loop: Loop, term: Generic, stacked: Mapping[Node, Node]) -> Node:
    """The sum over all steps of a sum in one step; the step is the first axis of its domain."""
    rank = len(term.domain) + 1
    axes = range(1, rank)
    changing = depends(term.operands, loop.leaves[: loop.first_constant])
    whole: dict[Node, Node] = {**dict(zip(loop.leaves, loop.operands, strict=True))}
    operands: list[Node] = []
    maps: list[AffineMap] = []
    for operand, index_map in zip(term.operands, term.maps, strict=True):
        rows = index_map.renumber(rank, axes).rows
        if operand in stacked or operand in changing:
            is_slice = operand in loop.leaves[loop.carried :]
            operands.append(stacked.get(operand) or (whole[operand] if is_slice else loop.stack(operand)))
            rows = (axis_row(0), *rows)
        else:
            operands.append(replace(Graph((operand,)), whole).outputs[0])
        maps.append(AffineMap(rank, rows))
    body = sc.move_axes(term.body, [axis_row(axis) for axis in axes], rank)
    out_map, domain = term.out_map.renumber(rank, axes), (loop.length, *term.domain)
    return generic(domain, term.shape, out_map, operands, maps, term.modes, body, "sum")


def _read_back(loop: Loop, outputs: Sequence[Node]) -> tuple[Sequence[Node], list[Node], list[Input]]:
    """The outputs with new leaves for what the forward loop computes; the stacks that the leaves read."""
    order = topological(outputs)
    changing = depends(outputs, loop.leaves[: loop.first_constant])
    own = {one for one in order if isinstance(one, Input) and one not in loop.leaves}
    later = depends(outputs, own)
    known = set(loop.leaves[loop.carried :])
    edge = dict.fromkeys(
        operand for node in order if node in later for operand in node.operands if operand not in later
    )
    edge.update(dict.fromkeys(output for output in outputs if output not in later))
    saved = [one for one in edge if one in changing and one not in known]
    kept = [leaf(f"kept_{_name(one)}", one.shape, one.dtype, "input") for one in saved]
    changed = replace(Graph(tuple(outputs)), dict(zip(saved, kept, strict=True)))
    return changed.outputs, [loop.stack(one) for one in saved], kept


class Tangents:
    """The loops that one forward sweep meets. The results of a loop have their tangents from one loop."""

    def __init__(self) -> None:
        self._loops: dict[tuple[Loop, tuple[Node, ...]], tuple[Loop, Mapping[Node, Node]]] = {}

    def of(self, node: Node, tangents: Mapping[int, Node], forward: Forward) -> Node | None:
        """The tangent of a result from those of some operands; None when it does not depend on them smoothly."""
        loop = loop_of(node)
        assert loop is not None and isinstance(node, Opaque)
        key = (loop, tuple(tangents.values()))
        if key not in self._loops:
            floats = [place for place in range(loop.carried) if is_float(loop.leaves[place].dtype)]
            moved = [*floats, *(place for place in tangents if place >= loop.carried)]
            own_leaves = {place: _like(loop.leaves[place], "tangent_") for place in moved}
            self._loops[key] = _beside(loop, own_leaves, tangents)
        both, own = self._loops[key]
        floats = [place for place in range(loop.carried) if loop.leaves[place] in own]
        roots = [*(loop.following[place] for place in floats), value_of(node)]
        found = forward(roots, own)
        following = [found.get(root) or _zeros(root) for root in roots[:-1]]
        final = node.attribute("final")
        joined = Loop(
            both.leaves, (*loop.following, *following), both.operands, both.sliced, loop.reverse
        )
        if final >= 0:
            return joined.final(loop.carried + floats.index(final)) if final in floats else None
        return joined.stack(found[roots[-1]]) if roots[-1] in found else None


def _beside(
    loop: Loop, own: Mapping[int, Input], tangents: Mapping[int, Node]
) -> tuple[Loop, Mapping[Node, Node]]:
    """A loop with leaves for the tangents beside the loop's own; what follows from a step is not known yet."""
    bounds = (0, loop.carried, loop.first_constant, len(loop.leaves))
    leaves: list[Input] = []
    operands: list[Node] = []
    counts: list[int] = []
    for start, stop in itertools.pairwise(bounds):
        moved = [place for place in range(start, stop) if place in own]
        leaves += [*loop.leaves[start:stop], *(own[place] for place in moved)]
        operands += loop.operands[start:stop]
        operands += [tangents[place] if place in tangents else _zeros(loop.operands[place]) for place in moved]
        counts.append(stop - start + len(moved))
    both = Loop(tuple(leaves), loop.following, tuple(operands), counts[1], loop.reverse)
    return both, {loop.leaves[place]: tangent for place, tangent in own.items()}


def _like(one: Input, prefix: str = "grad_") -> Input:
    return leaf(f"{prefix}{one.name}", one.shape, one.dtype, "input")


def _zeros(node: Node) -> Node:
    return fill(node.shape, 0, node.dtype)


def _name(node: Node) -> str:
    return node.name if isinstance(node, Input) else "value"

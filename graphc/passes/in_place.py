"""Which updates can be computed into the memory of their target: the next value of a param, say, into the param.

That saves an array and a copy. A write must follow every reader of the old value and every check that can fail: a
failed call changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from graphc.ir.node import INSIDE, Generic, Opaque
from graphc.program import Buffer, Kernel, Stage


def in_place(
    buffers: Mapping[str, Buffer], kernels: Sequence[Kernel], outputs: Sequence[str], updates: Sequence[tuple[str, str]]
) -> frozenset[str]:
    """The sources of updates that may have the memory of their targets.

    Such a source is written once, as a map, by a kernel after which nothing reads the target and nothing can fail; in
    that kernel, the target is read at the element that is written, by stages no later than the one that writes.
    """

    def root(name: str) -> str:
        while (alias := buffers[name].alias) is not None:
            name = alias
        return name

    wanted = Counter(map(root, (*outputs, *(source for source, _ in updates))))
    last_check = max(_checking(buffers, kernels, root), default=-1)
    writers: dict[str, list[int]] = {}
    last_reader: dict[str, int] = {}
    for place, kernel in enumerate(kernels):
        for name in set(map(root, kernel.writes)):
            writers.setdefault(name, []).append(place)
        last_reader.update((root(name), place) for name in kernel.reads)
    found: set[str] = set()
    for source, target in updates:
        buffer, places = buffers[source], writers.get(source, [])
        if buffer.kind != "temporary" or buffer.alias is not None or buffers[target].dtype != buffer.dtype:
            continue
        if wanted[source] > 1 or len(places) != 1:
            continue
        (place,) = places
        if place <= last_check or last_reader.get(target, -1) > place:
            continue
        kernel = kernels[place]
        shown = {name for name in kernel.reads if root(name) == target}
        if _reads_what_it_writes(kernel, source, target, shown):
            found.add(source)
    return frozenset(found)


def _checking(
    buffers: Mapping[str, Buffer], kernels: Sequence[Kernel], root: Callable[[str], str]
) -> Iterator[int]:
    """The kernels that can fail: those that use indices which no earlier one has found inside an axis as long."""
    passed: set[tuple[str, int]] = set()
    for place, kernel in enumerate(kernels):
        if kernel.loop is not None:
            if any(isinstance(stage.node, Opaque) for stage in kernel.loop.program.all_stages()):
                yield place
            continue
        for stage in kernel.stages:
            if isinstance(stage.node, Opaque) and stage.node.op in ("take", "scatter_add", "checked"):
                if stage.node.op == "checked":
                    check = (root(stage.reads[0]), stage.node.attribute("extent"))
                else:
                    array = stage.reads[0] if stage.node.op == "take" else stage.write
                    check = (root(stage.reads[1]), buffers[array].shape[stage.node.attribute("axis")])
                if check not in passed:
                    passed.add(check)
                    yield place


def _reads_what_it_writes(kernel: Kernel, source: str, target: str, shown: set[str]) -> bool:
    """Whether the kernel writes `source` by one map, and reads `target` (also as `shown`) only there and no later."""
    (number,) = [n for n, stage in enumerate(kernel.stages) if stage.write == source] or [-1]
    if number < 0 or not _is_map(kernel.stages[number]):
        return False
    domain = kernel.stages[number].node.shape
    for place, stage in enumerate(kernel.stages):
        for j, name in enumerate(stage.reads):
            if name not in shown:
                continue
            node = stage.node
            if place > number or name != target or not _is_map(stage) or node.shape != domain:
                return False
            assert isinstance(node, Generic)
            if not node.maps[j].is_identity or node.modes[j] != INSIDE:
                return False
    return True


def _is_map(stage: Stage) -> bool:
    return isinstance(stage.node, Generic) and stage.node.is_map

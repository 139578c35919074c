"""How threads share a contraction: by its outer axes, or else by its tiles, its copying and its packing.

Everything follows from shapes: the number of threads is not known here, and does not change a result.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from graphc_llvm.contraction_cost import Work, ceil_div
from graphc_llvm.schedule import Axis, Cut

MOST_TASKS = 32  # of a section: enough that a thread that loses its processor for a while delays little
TASK_PRODUCTS = 1 << 17  # of a task: some 2 us; handing one out costs 0.1 us
TASK_ELEMENTS = 1 << 13  # of a task that copies or packs
LEAST_OUTER = 8  # points of the outer axes from which threads share these instead of what is inside
WIDE_BYTES = 256  # of the result, from which parts of an axis are far enough apart
NARROW = 0.5  # evenness, of 3, that is given up to avoid parts which are not


def tasks_of(elements: int) -> int:
    """Tasks for copying or packing so many elements."""
    return min(MOST_TASKS, elements // TASK_ELEMENTS)


def shared_axes(outer: tuple[Axis, ...], work: Work) -> tuple[int, int]:
    """How many leading outer axes threads share, and in how many tasks. A copy or a panel that depends on fewer axes
    would be made anew at each point, so these axes are shared alone."""
    points = 1
    products = work.depth * work.side_size(0) * work.side_size(1)
    for count, axis in enumerate(outer, 1):
        points *= axis.extent
        if points >= LEAST_OUTER:
            tasks = min(points, MOST_TASKS, points * products // TASK_PRODUCTS)
            return (count, tasks) if tasks > 1 else (0, 0)
    return 0, 0


def cut_tiles(counts: Mapping[str, tuple[int, int]], products: int) -> Cut | None:
    """The axis, or two, along which two, three and four threads share the tiles most evenly. `counts`: of each axis the
    extent, and how many bytes of the result lie between two of its indices: parts that are shorter than a few cache
    lines would have threads write to the same ones."""
    most = min(MOST_TASKS, products // TASK_PRODUCTS)

    def parts(name: str, limit: int) -> tuple[str, int, int]:
        count, _ = counts[name]
        return name, count, ceil_div(count, max(1, min(limit, count)))

    def score(cut: Cut) -> float:
        largest = prod(length for _, _, length in cut.parts)
        total = prod(extent for _, extent, _ in cut.parts)
        even = sum(total / (threads * largest * ceil_div(cut.tasks, threads)) for threads in (2, 3, 4))
        return even - sum(NARROW for name, _, length in cut.parts if counts[name][1] * length < WIDE_BYTES)

    names = [name for name, (count, _) in counts.items() if count > 1]
    cuts = [Cut((parts(name, most),)) for name in names]
    for one in names:
        whole = parts(one, most)
        limit = most // ceil_div(whole[1], whole[2])
        cuts += [Cut((whole, parts(other, limit))) for other in names if other != one and limit > 1]
    cuts = [cut for cut in cuts if 1 < cut.tasks <= most]
    return max(cuts, key=score, default=None)

"""`python -m tests.bench.first LIBRARY PROBLEM`: a new process that prints how many seconds go from converted data and
weights to the first result, after the library's import.

The library is graphc or a peer, the problem a row of the table of programs or a name in DEEP.
"""

from __future__ import annotations

import sys
import time
from typing import Final

from tests.bench.environment import threads_given
from tests.bench.programs.libraries import GRAPHC, LIBRARIES
from tests.bench.programs.problems import Problem, Training, deep
from tests.bench.programs.table import ROWS

DEEP: Final[dict[str, Problem]] = {
    f"{layers}-layer mlp": Training(deep(layers), 16, rate=0.01) for layers in (100, 1000)
}
PROBLEMS: Final[dict[str, Problem]] = {row.name: row.problem for row in ROWS} | DEEP


def seconds(library: str, problem: str) -> float:
    """Measured in this process, once."""
    prepare = GRAPHC["llvm"].load() if library == "graphc" else LIBRARIES[library].load()
    begin = prepare(PROBLEMS[problem], threads_given())
    start = time.perf_counter()
    begin().call()
    return time.perf_counter() - start


if __name__ == "__main__":
    print(seconds(sys.argv[1], sys.argv[2]))

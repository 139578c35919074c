"""One row: everyone's results are compared, then everyone is timed in turns."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np

from tests.bench.clock import Sampler, alternate, sampler
from tests.bench.measure import Setting
from tests.bench.peak import Peak
from tests.bench.programs.libraries import GRAPHC, Prepare, Program
from tests.bench.programs.problems import Array
from tests.bench.programs.table import Row
from tests.bench.times import Times


def compare(row: Row, peers: Mapping[str, Prepare], setting: Setting, peak: Peak) -> Times:
    """graphc and those of the peers that the row has."""
    programs, errors = checked(row, peers, setting.threads)
    result = Times(row.name, row.goal, errors=errors)
    if programs:
        samplers: dict[str, Sampler] = {
            name: sampler(program.call, setting.least) for name, program in programs.items()
        }
        samplers["peak"] = partial(peak.gflops, setting.threads)  # the last: see Peak.watch
        taken = alternate(samplers, setting.rounds, partial(peak.watch, setting.threads))
        medians = taken.medians
        result.seconds, result.others = {name: medians[name] for name in programs}, taken.others
    return result


def checked(row: Row, peers: Mapping[str, Prepare], threads: int) -> tuple[dict[str, Program], list[str]]:
    """(the programs whose results are right, one line for each that is not)

    graphc's side is the measure; where peers have results and none agrees, it is graphc's that is wrong.
    """
    prepares = {"graphc": GRAPHC[row.backend].load()}
    prepares.update((name, peers[name]) for name in row.peers if name in peers)
    programs: dict[str, Program] = {}
    answers: dict[str, list[Array]] = {}
    errors: list[str] = []
    for name, prepare in prepares.items():
        try:
            programs[name] = prepare(row.problem, threads)()
            answers[name] = programs[name].answer()
        except Exception as error:  # one that fails is no reason to stop
            errors.append(f"{name}: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
    if "graphc" not in answers:
        return {}, errors
    right = ["graphc"]
    for name in answers.keys() - {"graphc"}:
        if wrong := disagreement(answers["graphc"], answers[name], row.problem.tolerance):
            errors.append(f"{name}: {wrong}")
        else:
            right.append(name)
    if len(answers) > 1 and len(right) == 1:
        return {}, [*errors, "graphc: agrees with none of its peers"]
    return {name: programs[name] for name in prepares if name in right}, errors


def disagreement(graphc: list[Array], peer: list[Array], tolerance: float) -> str:
    """What is wrong; empty when no element differs by more than the tolerance times the array's greatest."""
    if [array.shape for array in graphc] != [array.shape for array in peer]:
        return f"the shapes {[array.shape for array in peer]} are not graphc's {[array.shape for array in graphc]}"
    for number, (ours, theirs) in enumerate(zip(graphc, peer, strict=True)):
        difference = float(np.max(np.abs(ours.astype("float64") - theirs), initial=0.0))
        greatest = float(np.max(np.abs(theirs), initial=0.0))
        if not difference <= tolerance * greatest:
            return f"result {number} differs from graphc's by {difference:.3g}, where the greatest is {greatest:.3g}"
    return ""

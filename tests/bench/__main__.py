"""`make bench`, or `python -m tests.bench`: prints what has a goal in time, medians of samples taken in turns."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from tests.bench import environment, measure, scaling, times
from tests.bench.clock import alternate
from tests.bench.compiling import COMPILING
from tests.bench.kernels import LINES, Line
from tests.bench.peak import Peak
from tests.bench.peers import PEERS, Peer, load
from tests.bench.programs import libraries, run
from tests.bench.programs.table import ROWS, SLOW, Row

THREADS = 2  # the goals' number
ALL_PEERS: Final = tuple(dict.fromkeys([*PEERS, *libraries.LIBRARIES]))


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(prog="tests.bench", description=__doc__)
    parser.add_argument("--only", metavar="REGEX", default="", help="the lines whose names it matches")
    parser.add_argument("--threads", metavar="N", type=int, help=f"of everyone (default: {THREADS}, or all there are)")
    parser.add_argument("--peers", metavar="LIST", help=f"of {','.join(ALL_PEERS)}; or none")
    parser.add_argument("--slow-peers", action="store_true", help=f"{', '.join(SLOW)}, too, when --peers is not given")
    parser.add_argument("--quick", action="store_true", help="3 rounds of samples instead of 9")
    parser.add_argument("--scaling", action="store_true", help="the kernels with 1 and N threads, graphc alone")
    parser.add_argument("--list", action="store_true", help="print the names of all lines and stop")
    parser.add_argument("--json", metavar="FILE", help="write the figures there, too")
    options = parser.parse_args(arguments)
    if options.peers is None:
        options.peers = [name for name in ALL_PEERS if options.slow_peers or name not in SLOW]
    else:
        options.peers = [] if options.peers in ("", "none") else options.peers.split(",")
    if unknown := [name for name in options.peers if name not in ALL_PEERS]:
        parser.error(f"unknown peers: {', '.join(unknown)}; known: {', '.join(ALL_PEERS)}")
    most = len(environment.available())
    if options.threads is None:
        options.threads = min(THREADS, most)
    if not 1 <= options.threads <= most:
        parser.error(f"--threads {options.threads}: this process may use {most} processors")
    if options.scaling and options.threads == 1:
        parser.error("--scaling compares one thread with several")
    return options


def head(setting: measure.Setting, versions: Mapping[str, str], peaks: Sequence[Peak]) -> dict[str, Any]:
    """Print, and return, what was measured and on what."""
    listed = ", ".join(f"{name} {version}" for name, version in versions.items()) or "none"
    print(f"{environment.processor_name()}; threads: {setting.threads}; rounds: {setting.rounds}; peers: {listed}")
    counts = sorted({1, setting.threads})
    samplers = {f"{peak.kind} on {n}": partial(peak.gflops, n) for peak in peaks for n in counts}
    medians = alternate(samplers, setting.rounds).medians
    rates = ", ".join(f"{rate:.0f} {what}" for what, rate in medians.items())
    print(f"multiply-add peak in GFLOP/s, by threads: {rates}", flush=True)
    return {
        "processor": environment.processor_name(), "threads": setting.threads, "rounds": setting.rounds,
        "peers": versions, "peak_gflops": medians,
    }


def kernels(lines: Sequence[Line], peers: Sequence[Peer], setting: measure.Setting, peak: Peak) -> list[measure.Result]:
    """Measure and print the table of kernels."""
    results = []
    print(f"\n{measure.HEADER}")
    for line in lines:
        results.append(measure.measure(line, peers, setting, peak))
        print(results[-1].text(), flush=True)
    print(measure.summary(results))
    return results


def scalings(lines: Sequence[Line], setting: measure.Setting, peak: Peak) -> list[scaling.Scaling]:
    """Measure and print the kernels with one thread and with all."""
    print(f"\n{scaling.header(setting.threads)}\n{scaling.scaling_of_peak(peak, setting).text()}", flush=True)
    results = []
    for line in lines:
        results.append(scaling.scaling(line, setting, peak))
        print(results[-1].text(), flush=True)
    print(scaling.summary(results))
    return results


Timed = times.Times | times.Factor
Job = tuple[Sequence[str], Callable[[], Sequence[Timed]]]
"""The names of lines, and what measures them."""


def table(jobs: Iterable[Job]) -> list[Timed]:
    """Measure and print lines of times."""
    results: list[Timed] = []
    print(f"\n{times.HEADER}")
    for names, job in jobs:
        try:
            found = job()
        except Exception as error:  # one that fails is no reason to stop
            found = [times.Times(name, errors=[f"{type(error).__name__}: {error}"]) for name in names]
        for result in found:
            print(result.text(), flush=True)
        results.extend(found)
    print(times.summary(results))
    return results


def programs(rows: Sequence[Row], names: Collection[str], setting: measure.Setting, peak: Peak) -> list[Timed]:
    """Measure and print the table of whole programs."""
    peers, absent = libraries.load(name for name in names if any(name in row.peers for row in rows))
    for line in absent:
        print(line)

    def job(row: Row) -> list[Timed]:
        return [run.compare(row, peers, setting, peak)]

    return table(([row.name], partial(job, row)) for row in rows)


def main() -> int:
    """Run what the options ask for; 1 when something of graphc's was wrong or failed."""
    options = parsed()
    try:
        wanted = re.compile(options.only)
    except re.error as error:
        print(f"--only {options.only}: {error}", file=sys.stderr)
        return 2
    lines = [line for line in LINES if wanted.search(line.name)]
    rows = [row for row in ROWS if wanted.search(row.name)]
    compilings = [row for row in COMPILING if any(map(wanted.search, row.names))]
    if options.list:
        names = [name for row in compilings for name in row.names]
        print("\n".join([*(line.name for line in lines), *(row.name for row in rows), *names]))
        return 0
    if options.scaling:
        rows, compilings, options.peers = [], [], []
    environment.start_again(options.threads)
    setting = measure.Setting(options.threads, rounds=3 if options.quick else 9)
    of_kernels, absent = load((name for name in options.peers if name in PEERS and lines), options.threads)
    compared = {name for row in rows for name in row.peers} | {name for row in compilings for name in row.peers}
    versions, missing = libraries.versions(name for name in options.peers if name in compared)
    peaks = [Peak("f32"), Peak("f64")]
    record = head(setting, {peer.name: peer.version for peer in of_kernels} | versions, peaks)
    for line in dict.fromkeys([*absent, *missing]):
        print(line)
    is_wrong = False
    if options.scaling:
        speed_ups = scalings(lines, setting, peaks[0])
        record["scaling"] = [result.record() for result in speed_ups]
        is_wrong = any(result.error for result in speed_ups)
    elif lines:
        results = kernels(lines, of_kernels, setting, peaks[0])
        record["kernels"] = [result.record() for result in results]
        is_wrong = any(result.graphc is None for result in results)
    if rows:
        timed = programs(rows, versions, setting, peaks[0])
        record["programs"] = [result.record() for result in timed]
        is_wrong |= any(result.graphc is None for result in timed)
    if compilings:
        timed = table((row.names, partial(row.measure, versions, setting)) for row in compilings)
        record["compiling"] = [result.record() for result in timed]
        is_wrong |= any(result.graphc is None for result in timed)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(record, file, indent=1)
            file.write("\n")
    return int(is_wrong)


if __name__ == "__main__":
    sys.exit(main())

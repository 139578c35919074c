"""`make bench`, or `python -m tests.bench`: prints what has a goal in time, medians of samples taken in turns."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from tests.bench import environment, measure, scaling
from tests.bench.clock import alternate
from tests.bench.compiling import COMPILING
from tests.bench.kernels import LINES, Line
from tests.bench.peak import Peak
from tests.bench.peers import PEERS, Peer, load
from tests.bench.programs import PROGRAMS

THREADS = 2  # the goals' number


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(prog="tests.bench", description=__doc__)
    parser.add_argument("--only", metavar="REGEX", default="", help="the lines whose names it matches")
    parser.add_argument("--threads", metavar="N", type=int, help=f"of everyone (default: {THREADS}, or all there are)")
    parser.add_argument("--peers", metavar="LIST", default=",".join(PEERS), help="of torch,jax,numpy; or none")
    parser.add_argument("--quick", action="store_true", help="3 rounds of samples instead of 9")
    parser.add_argument("--scaling", action="store_true", help="the kernels with 1 and N threads, graphc alone")
    parser.add_argument("--list", action="store_true", help="print the names of all lines and stop")
    parser.add_argument("--json", metavar="FILE", help="write the figures there, too")
    options = parser.parse_args(arguments)
    options.peers = [] if options.peers in ("", "none") else options.peers.split(",")
    if unknown := [name for name in options.peers if name not in PEERS]:
        parser.error(f"unknown peers: {', '.join(unknown)}; known: {', '.join(PEERS)}")
    most = len(environment.available())
    if options.threads is None:
        options.threads = min(THREADS, most)
    if not 1 <= options.threads <= most:
        parser.error(f"--threads {options.threads}: this process may use {most} processors")
    if options.scaling and options.threads == 1:
        parser.error("--scaling compares one thread with several")
    return options


def head(setting: measure.Setting, peers: Sequence[Peer], peaks: Sequence[Peak]) -> dict[str, Any]:
    """Print, and return, what was measured and on what."""
    versions = {peer.name: peer.version for peer in peers}
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


def times(table: dict[str, Callable[[int], dict[str, float]]], wanted: re.Pattern[str], rounds: int) -> dict[str, Any]:
    """Measure and print the lines of a table that are times."""
    found: dict[str, Any] = {}
    for name, run in table.items():
        if wanted.search(name):
            if not found:
                print()
            load = environment.Load()
            try:
                found[name] = run(rounds)
                text = "; ".join(f"{what} {_duration(seconds)}" for what, seconds in found[name].items())
            except Exception as error:  # one that fails is no reason to stop
                found[name] = {}
                text = f"ERROR {type(error).__name__}: {error}"
            print(f"{name:56}{text} {environment.disturbance(load.others())}".rstrip(), flush=True)
    return found


def _duration(seconds: float) -> str:
    if seconds < 1e-3:
        return f"{seconds * 1e6:.1f} us"
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def main() -> int:
    """Run what the options ask for; 1 when something of graphc's was wrong or failed."""
    options = parsed()
    try:
        wanted = re.compile(options.only)
    except re.error as error:
        print(f"--only {options.only}: {error}", file=sys.stderr)
        return 2
    lines = [line for line in LINES if wanted.search(line.name)]
    if options.list:
        names = [*(line.name for line in LINES), *PROGRAMS, *COMPILING]
        print("\n".join(filter(wanted.search, names)))
        return 0
    environment.start_again(options.threads)
    setting = measure.Setting(options.threads, rounds=3 if options.quick else 9)
    peers, absent = load([] if options.scaling or not lines else options.peers, options.threads)
    peaks = [Peak("f32"), Peak("f64")]
    record = head(setting, peers, peaks)
    for line in absent:
        print(line)
    is_wrong = False
    if options.scaling:
        speed_ups = scalings(lines, setting, peaks[0])
        record["scaling"] = [result.record() for result in speed_ups]
        is_wrong = any(result.error for result in speed_ups)
    else:
        if lines:
            results = kernels(lines, peers, setting, peaks[0])
            record["kernels"] = [result.record() for result in results]
            is_wrong = any(result.graphc is None for result in results)
        rounds = min(setting.rounds, 5)
        record["programs"] = times(PROGRAMS, wanted, rounds)
        record["compiling"] = times(COMPILING, wanted, rounds)
        is_wrong |= not all([*record["programs"].values(), *record["compiling"].values()])
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(record, file, indent=1)
            file.write("\n")
    return int(is_wrong)


if __name__ == "__main__":
    sys.exit(main())

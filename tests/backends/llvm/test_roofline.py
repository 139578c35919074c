"""The loops that measure what a machine can do: that they compute what they should, whatever the threads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from graphc_llvm import roofline
from graphc_llvm.roofline import FACTOR, TERM, MultiplyAdds, Stream, accumulators, last_level_bytes
from graphc_llvm.target import host_target


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_multiply_adds_compute_the_right_value(dtype: str, threads: int) -> None:
    target, rounds = host_target(), 6
    loop = MultiplyAdds(target, dtype, threads)
    loop.run(rounds)
    want = 0.0
    for start in range(accumulators(target)):
        value = float(start)
        for _ in range(rounds):
            value = value * FACTOR + TERM
        want += value
    lanes = target.lanes("f32" if dtype == "float32" else "f64")
    sums = loop.numbers[1:, :lanes]
    assert sums.shape == (roofline.TASKS_PER_THREAD * threads, lanes) and sums.dtype == dtype
    np.testing.assert_array_equal(sums, want)
    assert loop.operations == 2 * accumulators(target) * sums.size


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("size", [1, 100_000])
def test_the_stream_goes_over_all_elements(size: int, threads: int) -> None:
    stream = Stream(host_target(), size, threads)
    assert stream.x.nbytes + stream.y.nbytes >= size and stream.elements == stream.x.size == stream.y.size
    stream.x[:] = np.arange(stream.elements)
    for _ in range(2):
        stream.run()
    np.testing.assert_array_equal(stream.y, np.float32(1.5) * stream.x)


def test_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "MOST_BYTES", 1 << 20)  # this is about what is said, not about how fast it is
    monkeypatch.setattr(roofline, "SAMPLING", 0.0)
    monkeypatch.setattr(roofline, "SECONDS", 1e-5)
    for measure in (roofline.multiply_adds_per_second, roofline.bytes_per_second):
        monkeypatch.setattr(roofline, measure.__name__, measure.__wrapped__)  # not what others measured, nor for them
    found = roofline.machine(host_target(), 2, ["float32", "float64"])
    assert found.threads == 2 and found.bandwidth > 0
    assert set(found.operations) == {"float32", "float64"} and min(found.operations.values()) > 0
    assert found.how == "multiply-adds in registers; y = y*a + x over 1 MiB"
    assert roofline.machine(host_target(), 1, []).how == "y = y*a + x over 1 MiB"


def cache(processors: Path, number: int, index: int, level: str, size: str, shared: str) -> None:
    folder = processors / f"cpu{number}" / "cache" / f"index{index}"
    folder.mkdir(parents=True)
    for name, text in (("level", level), ("size", size), ("shared_cpu_list", shared)):
        (folder / name).write_text(f"{text}\n")


def test_the_caches_of_the_highest_level_are_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline.os, "sched_getaffinity", lambda pid: {0, 1, 2}, raising=False)
    for number, shared in ((0, "0-1"), (1, "0-1"), (2, "2-3"), (3, "2-3")):
        cache(tmp_path, number, 2, "2", "1024K", str(number))
        cache(tmp_path, number, 3, "3", "16384K", shared)
    assert last_level_bytes(tmp_path) == 2 * (16 << 20)


@pytest.mark.parametrize(("size", "expected"), [("48M", 48 << 20), ("many", roofline.DEFAULT_CACHE)])
def test_a_cache_that_is_told_in_another_way(
    size: str, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roofline.os, "sched_getaffinity", lambda pid: {0}, raising=False)
    cache(tmp_path, 0, 0, "1", size, "0")
    assert last_level_bytes(tmp_path) == expected
    assert last_level_bytes(tmp_path / "nowhere") == roofline.DEFAULT_CACHE

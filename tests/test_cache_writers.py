"""Writers of the disk cache: those that fail, that die, or are many at once; and that they keep to its size."""

from __future__ import annotations

import errno
import functools
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from graphc.cache import Cache
from tests.cache_support import MIB, content_of, fork, in_child, key_of, names, needs_fork, path_of

STEPS = ("makedirs", "stat", "open", "write", "close", "replace", "scandir")
"""The calls of the operating system that a writer makes, in which or between which it may die."""


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(str(tmp_path / "cache"), MIB)


# --- Writers that fail or die ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("room", [0, 1, 50, 98])
def test_a_full_disk(cache: Cache, room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    write, left = os.write, [room]

    def write_little(file: int, data: bytes) -> int:
        if not left[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        count = write(file, bytes(data)[: min(left[0], 7)])
        left[0] -= count
        return count

    monkeypatch.setattr(os, "write", write_little)
    cache.store(key_of(1), b"content", "name")  # 99 bytes
    assert left == [0] and cache.fetch(key_of(1)) is None and names(cache) == set()
    left[0] = 1000  # short writes alone are no failure
    cache.store(key_of(1), b"content", "name")
    assert cache.fetch(key_of(1)) == b"content"


@needs_fork
def test_a_limit_on_the_size_of_files(cache: Cache) -> None:
    import resource  # POSIX alone

    def work() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
        cache.store(key_of(1), bytes(10_000))
        assert cache.fetch(key_of(1)) is None and names(cache) == set()
        cache.store(key_of(1), bytes(1000))
        assert cache.fetch(key_of(1)) == bytes(1000)

    assert in_child(work) == 0


FILL = """
import os, sys
from graphc.cache import Cache
cache = Cache(sys.argv[1], 1 << 20)
contents = {bytes([number] * 32): os.urandom(9000) for number in range(60)}
for key, content in contents.items():
    cache.store(key, content)
found = [cache.fetch(key) for key in contents]
assert all(one in (None, content) for one, content in zip(found, contents.values()))
assert not any(name.endswith("-new") for name in os.listdir(cache.directory))
print(sum(one is not None for one in found))
"""


def test_a_disk_that_is_full_indeed(tmp_path: Path, requires_tool: Callable[[str], str]) -> None:
    (tmp_path / "disk").mkdir()
    mount = "mount -t tmpfs -o size=256k none disk"
    alone = [requires_tool("unshare"), "-rm", "sh", "-c"]
    if subprocess.run([*alone, mount], cwd=tmp_path, capture_output=True).returncode:
        pytest.skip("this process may not mount a file system")
    command = f'{mount} && exec "{sys.executable}" -c "$0" disk/cache'
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
    done = subprocess.run([*alone, command, FILL], cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert 10 < int(done.stdout) < 29  # of 256 KiB in pages of 4


def dying(cache: Cache, steps: list[str], at: int | None) -> None:
    """Store, and die by SIGKILL in the call of number `at`: before its effect, or, of a write, in its midst."""

    def counted(name: str, original: Callable[..., object], *arguments: object, **options: object) -> object:
        steps.append(name)
        if len(steps) - 1 == at:
            if name == "write":
                file, data = arguments
                original(file, bytes(data)[: len(data) // 2])  # type: ignore[call-overload, arg-type]
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **options)

    for name in STEPS:
        setattr(os, name, functools.partial(counted, name, getattr(os, name)))
    Cache(cache.directory, cache.bound).store(key_of(1), content_of(1))


@needs_fork
@pytest.mark.parametrize("before", ["nothing", "an older entry", "a damaged entry"])
def test_a_writer_that_is_killed_at_any_step(cache: Cache, monkeypatch: pytest.MonkeyPatch, before: str) -> None:
    def prepare() -> None:
        shutil.rmtree(cache.directory, ignore_errors=True)
        if before != "nothing":
            cache.store(key_of(1), b"older")
        if before == "a damaged entry":
            path_of(cache, key_of(1)).write_bytes(b"damaged")

    steps: list[str] = []
    prepare()
    with monkeypatch.context() as patch:
        for name in STEPS:
            patch.setattr(os, name, getattr(os, name))  # restored at the end
        dying(cache, steps, None)
    assert [step for step in steps if step != "stat"] == [step for step in STEPS if step != "stat"]
    outcomes = set()
    for at in range(len(steps)):
        prepare()
        status = in_child(functools.partial(dying, cache, [], at))
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        outcomes.add(cache.fetch(key_of(1)))
        left = {name for name in names(cache) if name.endswith("-new")}
        assert len(left) <= 1
        for name in left:
            os.utime(Path(cache.directory) / name, (0, time.time() - 3700))
        Cache(cache.directory, MIB).store(key_of(2), b"content")
        assert cache.fetch(key_of(2)) == b"content"
        assert not names(cache) & left, "an hour later it is cleaned up"
    assert outcomes == {b"older" if before == "an older entry" else None, content_of(1)}


@needs_fork
def test_writers_that_are_killed_at_random(cache: Cache) -> None:
    def work() -> None:
        for number in range(10**9):
            cache.store(key_of(number % 7), content_of(number % 7))

    for attempt in range(25):
        child = fork(work)
        time.sleep(0.001 + 0.0007 * attempt)  # lets the writer come to another point each time; none is awaited
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        for number in range(7):
            assert cache.fetch(key_of(number)) in (None, content_of(number))
    assert any(cache.fetch(key_of(number)) for number in range(7)), "no writer came to write"


def test_an_interrupt_leaves_no_file(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(file: int, data: bytes) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "write", interrupt)
    with pytest.raises(KeyboardInterrupt):
        cache.store(key_of(1), b"content")
    assert names(cache) == set()


@needs_fork
def test_many_processes_at_once(cache: Cache) -> None:
    cache.bound = 60_000  # a third of what they store
    writers = 6

    def work(seed: int) -> None:
        choose = random.Random(seed)
        hits = 0
        for turn in range(250):
            number = choose.randrange(25)
            found = cache.fetch(key_of(number))
            assert found in (None, content_of(number))
            hits += found is not None
            if found is None or turn % 5 == 0:
                cache.store(key_of(number), content_of(number))
            if turn % 100 == 99:
                cache.clear()
        assert hits

    children = [fork(functools.partial(work, seed)) for seed in range(writers)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * writers
    assert sum(entry.size for entry in cache.entries()) <= cache.bound
    assert all(entry.label is not None for entry in cache.entries())
    assert not any(name.endswith("-new") for name in names(cache))


# --- Size -----------------------------------------------------------------------------------------------------------


def aged(cache: Cache, number: int, seconds: float) -> None:
    """Make the last use of an entry so long ago."""
    os.utime(path_of(cache, key_of(number)), (0, time.time() - seconds))


def age_of(cache: Cache, number: int) -> float:
    return time.time() - path_of(cache, key_of(number)).stat().st_mtime


def test_what_was_used_longest_ago_goes_first(cache: Cache) -> None:
    cache.bound = 10_000
    for number in range(8):
        cache.store(key_of(number), bytes(1000))
        aged(cache, number, 10_000 - 1000 * number)
    assert cache.fetch(key_of(1)) is not None  # which makes it young
    cache.store(key_of(8), bytes(2000))  # 8 * 1088 + 2088 bytes are 2042 more than 7/8 of the bound
    kept = {number for number in range(9) if path_of(cache, key_of(number)).exists()}
    assert kept == {1, 3, 4, 5, 6, 7, 8}
    assert [entry.key for entry in cache.entries()][-1] == key_of(3)


def test_a_use_is_noted_once_an_hour(cache: Cache) -> None:
    cache.store(key_of(1), b"content")
    for age, is_noted in ((3000, False), (4000, True), (-3000, False), (-4000, True)):  # a clock may have gone back
        aged(cache, 1, age)
        cache.fetch(key_of(1))
        assert (abs(age_of(cache, 1)) < 100) is is_noted


def test_what_is_larger_than_the_bound_is_not_stored(cache: Cache) -> None:
    cache.store(key_of(1), b"small")
    for bound in (0, 1, 1000):
        cache.bound = bound
        cache.store(key_of(2), bytes(1000))
        assert cache.fetch(key_of(2)) is None and cache.fetch(key_of(1)) == b"small"


def test_the_bound_holds_for_any_mixture(cache: Cache) -> None:
    choose = random.Random(5)
    cache.bound = 50_000
    for number in range(300):
        cache.store(key_of(number), bytes(choose.choice((0, 100, 1000, 9000))))
        assert sum(entry.size for entry in cache.entries()) <= 50_000
    assert sum(entry.size for entry in cache.entries()) > 25_000


def test_few_writes_look_at_the_directory(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir, scans = os.scandir, []
    monkeypatch.setattr(os, "scandir", lambda path: scans.append(path) or scandir(path))
    for number in range(100):
        cache.store(key_of(number), bytes(1000))  # 1088 of 16384 bytes
    assert len(scans) == 1 + 99 // 16


def test_files_of_dead_writers_are_removed(cache: Cache) -> None:
    cache.store(key_of(1), b"content")
    old, young = (Path(cache.directory) / f"{digit * 16}.graphc-new" for digit in "12")
    for path, age in ((old, 3700), (young, 3000)):
        path.write_bytes(b"half")
        os.utime(path, (0, time.time() - age))
    Cache(cache.directory, MIB).store(key_of(2), b"content")
    assert not old.exists() and young.exists() and len(cache.entries()) == 2
    assert cache.clear() == 3 and names(cache) == set()

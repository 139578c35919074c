"""The disk cache gives back what was stored or nothing, whatever is in its directory; its settings."""

from __future__ import annotations

import errno
import functools
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from graphc import cache as cache_module
from graphc.cache import Cache, cache_directory, user_cache
from graphc.config import Config
from tests.cache_support import MIB, in_child, key_of, names, needs_fork, path_of


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(str(tmp_path / "cache"), MIB)


def settings(monkeypatch: pytest.MonkeyPatch, **changes: object) -> None:
    monkeypatch.setattr(cache_module, "config", Config(**changes))


# --- Round trips ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 63, 4096, 3 * MIB])
def test_what_was_stored_comes_back(cache: Cache, size: int) -> None:
    cache.bound = 8 * MIB
    content = random.Random(size).randbytes(size)
    assert cache.fetch(key_of(1)) is None
    cache.store(key_of(1), content, "name")
    assert cache.fetch(key_of(1)) == content and cache.fetch(key_of(2)) is None
    cache.store(key_of(1), content + b"!", "other")
    assert Cache(cache.directory, MIB).fetch(key_of(1)) == content + b"!"
    assert [entry.label for entry in cache.entries()] == ["other"] and len(names(cache)) == 1


def test_labels_may_be_any_text(cache: Cache) -> None:
    for number, label in enumerate(("", "größe\n\x1b[31m", "x" * 10_000, "\udc80")):
        cache.store(key_of(number), b"content", label)
        assert cache.fetch(key_of(number)) == b"content"
    assert {entry.label for entry in cache.entries()} == {"", "größe\n\x1b[31m", "x" * 10_000, "?"}


def test_nobody_else_may_read_or_write(cache: Cache) -> None:
    if os.name != "posix":
        pytest.skip("permissions of POSIX")  # elsewhere a file's mode does not say who may read it
    before = os.umask(0)
    try:
        cache.store(key_of(1), b"content")
    finally:
        os.umask(before)
    assert os.stat(cache.directory).st_mode & 0o777 == 0o700
    assert path_of(cache, key_of(1)).stat().st_mode & 0o777 == 0o600


def test_removed_and_cleared(cache: Cache) -> None:
    assert cache.entries() == [] and cache.clear() == 0
    cache.remove(key_of(1))
    for number in range(5):
        cache.store(key_of(number), b"content")
    cache.remove(key_of(3))
    assert cache.fetch(key_of(3)) is None and len(cache.entries()) == 4
    assert cache.clear() == 4 and cache.entries() == [] and cache.fetch(key_of(1)) is None


def test_the_files_of_others_are_left_alone(cache: Cache) -> None:
    cache.store(key_of(1), b"content")
    digits = key_of(1).hex()
    others = {"notes.graphc", f"{digits.upper()}.graphc", f"{digits}.txt", f"{digits}", "x.graphc-new", ".graphc"}
    for name in others:
        (Path(cache.directory) / name).write_bytes(b"mine")
        os.utime(Path(cache.directory) / name, (0, 0))
    cache.bound = 1
    cache._sweep()
    assert names(cache) == others and cache.entries() == [] and cache.clear() == 0


# --- Damage ---------------------------------------------------------------------------------------------------------


def stored(cache: Cache) -> tuple[Path, bytes]:
    """A small entry: its file, and what is in it."""
    cache.store(key_of(1), b"sixteen bytes...", "name")
    path = path_of(cache, key_of(1))
    return path, path.read_bytes()


def assert_refused(cache: Cache, path: Path, damaged: bytes) -> None:
    path.write_bytes(damaged)
    assert cache.fetch(key_of(1)) is None
    assert not path.exists(), "it should be gone"


def test_every_flipped_bit_is_found(cache: Cache) -> None:
    path, good = stored(cache)
    for position in range(len(good)):
        for bit in range(8):
            assert_refused(cache, path, good[:position] + bytes([good[position] ^ 1 << bit]) + good[position + 1 :])
    path.write_bytes(good)
    assert cache.fetch(key_of(1)) == b"sixteen bytes..."


def test_every_other_length_is_found(cache: Cache) -> None:
    path, good = stored(cache)
    for length in range(len(good)):
        assert_refused(cache, path, good[:length])
        assert_refused(cache, path, good[:length] + bytes(len(good) - length))  # as after a power failure
    assert_refused(cache, path, good + b"\0")
    assert_refused(cache, path, good + good)


def test_an_entry_is_not_valid_under_another_name(cache: Cache) -> None:
    path, good = stored(cache)
    other = path_of(cache, key_of(2))
    shutil.copy(path, other)
    assert cache.fetch(key_of(2)) is None and not other.exists()
    assert cache.fetch(key_of(1)) is not None and path.read_bytes() == good


def test_another_version_is_not_read(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "_VERSION", cache_module._VERSION + 1)
    stored(cache)
    monkeypatch.undo()
    assert cache.fetch(key_of(1)) is None


def test_damage_shows_in_the_list(cache: Cache) -> None:
    path, good = stored(cache)
    path.write_bytes(good[:-1])
    assert [(entry.label, entry.size) for entry in cache.entries()] == [(None, len(good) - 1)]


def put_directory(path: Path) -> None:
    path.mkdir()


def put_full_directory(path: Path) -> None:
    path.mkdir()
    (path / "file").write_bytes(b"")


def put_link_to_an_entry(path: Path) -> None:
    other = Cache(str(path.parent.parent / "other"), MIB)
    other.store(key_of(1), b"sixteen bytes...")
    path.symlink_to(path_of(other, key_of(1)))


def put_link_to_itself(path: Path) -> None:
    path.symlink_to(path)


def put_pipe(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.skipif(os.name != "posix", reason="makes links and pipes")
@pytest.mark.parametrize(
    "put", [put_directory, put_full_directory, put_link_to_an_entry, put_link_to_itself, put_pipe]
)
def test_what_is_no_file_is_no_entry(cache: Cache, put: Callable[[Path], None]) -> None:
    os.makedirs(cache.directory)
    put(path_of(cache, key_of(1)))
    assert cache.fetch(key_of(1)) is None
    cache.store(key_of(1), b"content")
    assert cache.fetch(key_of(1)) == (None if "directory" in put.__name__ else b"content")
    assert not any(name.endswith("-new") for name in names(cache))


@pytest.mark.skipif(os.name != "posix", reason="makes a pipe")
def test_a_pipe_in_the_way_is_not_read(cache: Cache) -> None:
    path = path_of(cache, key_of(1))
    os.makedirs(cache.directory)
    os.mkfifo(path)
    file = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    try:
        os.write(file, b"for somebody else")
        assert cache.fetch(key_of(1)) is None
        assert os.read(file, 100) == b"for somebody else"
    finally:
        os.close(file)


# --- Places that cannot be used -------------------------------------------------------------------------------------


def assert_no_cache(cache: Cache) -> None:
    cache.store(key_of(1), b"content", "name")
    assert cache.fetch(key_of(1)) is None
    cache.remove(key_of(1))


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    assert_no_cache(Cache(str(tmp_path / "file"), MIB))
    assert_no_cache(Cache(str(tmp_path / "file" / "below"), MIB))
    assert (tmp_path / "file").read_bytes() == b"mine"


def test_a_place_where_nothing_can_be_made() -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("/proc is Linux's")
    assert_no_cache(Cache("/proc/graphc", MIB))
    assert_no_cache(Cache("/proc/self/fd", MIB))


@needs_fork
@pytest.mark.parametrize("mode", [0o500, 0o000])
def test_a_directory_that_is_only_read(mode: int) -> None:
    user = 65534 if os.geteuid() == 0 else None  # "nobody": permissions do not bind the superuser
    with tempfile.TemporaryDirectory() as folder:  # tmp_path's parents are closed to other users
        cache = Cache(os.path.join(folder, "cache"), MIB)
        cache.store(key_of(1), b"old")
        os.utime(path_of(cache, key_of(1)), (0, 0))
        if user is not None:
            for path in (folder, cache.directory, path_of(cache, key_of(1))):
                os.chown(path, user, -1)
        os.chmod(cache.directory, mode)

        def work() -> None:
            expected = b"old" if mode else None
            assert cache.fetch(key_of(1)) == expected
            cache.store(key_of(1), b"new")
            cache.store(key_of(2), b"new")
            assert cache.fetch(key_of(1)) == expected and cache.fetch(key_of(2)) is None

        try:
            assert in_child(work, user) == 0
        finally:
            os.chmod(cache.directory, 0o700)
        assert len(names(cache)) == 1


def test_a_use_that_cannot_be_noted(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.store(key_of(1), b"content")
    os.utime(path_of(cache, key_of(1)), (0, 0))

    def refuse(path: str) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "utime", refuse)
    assert cache.fetch(key_of(1)) == b"content"


def test_a_directory_that_is_deleted(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.store(key_of(1), b"content")
    shutil.rmtree(cache.directory)
    assert cache.fetch(key_of(1)) is None
    cache.store(key_of(1), b"content")
    assert cache.fetch(key_of(1)) == b"content"
    replace = os.replace

    def delete_first(source: str, target: str) -> None:
        shutil.rmtree(cache.directory)
        replace(source, target)

    monkeypatch.setattr(os, "replace", delete_first)
    cache.store(key_of(2), b"content")
    assert not os.path.exists(cache.directory)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="files have no owner")
def test_nothing_of_another_user_is_used(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.store(key_of(1), b"content")
    real, before = os.geteuid(), names(cache)
    monkeypatch.setattr(os, "geteuid", lambda: real + 1)  # the directory's owner is then another user
    assert cache.fetch(key_of(1)) is None
    cache.store(key_of(2), b"content")
    assert names(cache) == before, "neither written to nor removed from"
    monkeypatch.undo()
    assert cache.fetch(key_of(1)) == b"content"

    fstat = os.fstat

    def of_another(file: int) -> os.stat_result:
        fields = list(fstat(file))
        fields[4] += 1  # st_uid
        return os.stat_result(fields)

    monkeypatch.setattr(os, "fstat", of_another)
    assert cache.fetch(key_of(1)) is None


def test_silent_unless_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_bytes(b"")
    broken, good = Cache(str(tmp_path / "file"), MIB), Cache(str(tmp_path / "cache"), MIB)
    for debug, lines in ((0, 0), (1, 4)):
        settings(monkeypatch, debug=debug)
        assert_no_cache(broken)  # a line for writing, one for reading
        assert_refused(good, stored(good)[0], b"short")
        good.store(key_of(5), bytes(2 * MIB), "large")
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == lines
    assert "is cut short" in err and "cannot be written" in err and "2097245 bytes are more than" in err


# --- Settings -------------------------------------------------------------------------------------------------------


def test_the_environment_sets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("", "_DIR", "_BYTES"):
        monkeypatch.delenv(f"GRAPHC_CACHE{name}", raising=False)
    assert Config.from_environment() == Config(cache=True, cache_directory=None, cache_bytes=256 * MIB)
    for variable, text in (("GRAPHC_CACHE", "0"), ("GRAPHC_CACHE_DIR", "/there"), ("GRAPHC_CACHE_BYTES", "1000")):
        monkeypatch.setenv(variable, text)
    assert Config.from_environment() == Config(cache=False, cache_directory="/there", cache_bytes=1000)


@pytest.mark.parametrize("variable", ["GRAPHC_CACHE", "GRAPHC_CACHE_BYTES"])
@pytest.mark.parametrize("text", ["-1", "1e6", "256M", "off"])
def test_a_malformed_setting_names_its_variable(variable: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, text)
    with pytest.raises(ValueError, match=f"{variable} must be a whole number, not '{text}'"):
        Config.from_environment()


@pytest.mark.skipif(os.name != "posix", reason="sets HOME")
@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {}, "/home/ada/.cache/graphc"),
        ("linux", {"XDG_CACHE_HOME": "/fast"}, "/fast/graphc"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, "/home/ada/.cache/graphc"),
        ("freebsd14", {}, "/home/ada/.cache/graphc"),
        ("darwin", {"XDG_CACHE_HOME": "/fast"}, "/home/ada/Library/Caches/graphc"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/graphc/Cache"),
        ("win32", {}, "/home/ada/AppData/Local/graphc/Cache"),
        ("linux", {"HOME": "relative"}, None),
    ],
)
def test_the_platform_tells_the_place(
    platform: str, variables: dict[str, str], expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings(monkeypatch)
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"HOME": "/home/ada"} | variables).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert cache_directory() == expected
    monkeypatch.setattr(cache_module, "user_cache", functools.cache(user_cache.__wrapped__))
    found = cache_module.user_cache()
    assert found is None if expected is None else found is not None and found.directory == expected
    settings(monkeypatch, cache_directory="/given")
    assert cache_directory() == "/given"


def test_the_users_cache_follows_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings(monkeypatch, cache=False, cache_directory=str(tmp_path))
    assert user_cache.__wrapped__() is None
    settings(monkeypatch, cache_directory=str(tmp_path), cache_bytes=77)
    found = user_cache.__wrapped__()
    assert found is not None and (found.directory, found.bound) == (str(tmp_path), 77)
    monkeypatch.chdir(tmp_path)
    settings(monkeypatch, cache_directory="below")
    found = user_cache.__wrapped__()
    monkeypatch.chdir("/")
    assert found is not None and found.directory == str(tmp_path / "below"), "it moved with the working directory"


@needs_fork
def test_a_relative_place_in_a_directory_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings(monkeypatch, cache_directory="below")

    def work() -> None:
        os.chdir(tmp_path)
        tmp_path.rmdir()
        assert user_cache.__wrapped__() is None

    assert in_child(work) == 0


def test_the_test_suite_has_no_cache() -> None:
    assert user_cache() is None, "tests would write to the user's cache, and read what other versions compiled"



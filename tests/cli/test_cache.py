"""graphc cache: tells the place and the size, lists, clears; a bad place is one line on stderr."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from graphc import cache as cache_module
from graphc.cache import Cache
from graphc.cli import cache as command
from graphc.cli import main
from graphc.config import Config


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    settings = Config(cache_directory=str(tmp_path / "cache"), cache_bytes=1_000_000)
    monkeypatch.setattr(cache_module, "config", settings)
    monkeypatch.setattr(command, "config", settings)
    return tmp_path / "cache"


@pytest.fixture
def filled(directory: Path) -> Cache:
    cache = Cache(str(directory), 1_000_000)
    for number, label in enumerate(("step", "predict\x1b[31m")):
        cache.store(bytes([number] * 32), bytes(1000), label)
    os.utime(directory / f"{'00' * 32}.graphc", (0, 10**9))  # in 2001, so that "step" comes last
    return cache


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    out, err = capsys.readouterr()
    assert err == ""
    return out.splitlines()


def test_a_place_where_nothing_is(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["--list"], ["--clear"]):
        assert main(["cache", *arguments]) == 0
        expected = [f"directory  {directory}", "entries    0", "bytes      0 of at most 1,000,000"]
        assert lines(capsys) == expected
    assert not directory.exists(), "to look should not make it"


def test_size_and_list(filled: Cache, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache"]) == 0
    short = lines(capsys)
    assert short[1:] == ["entries    2", "bytes      2,192 of at most 1,000,000"]
    (directory / f"{'00' * 32}.graphc").write_bytes(b"damaged")
    os.utime(directory / f"{'00' * 32}.graphc", (0, 10**9))
    assert main(["cache", "--list"]) == 0
    long = lines(capsys)
    assert long[:2] == short[:2] and len(long) == 5
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d        1,100  predict\?\[31m", long[3])
    assert re.fullmatch(r"2001-09-\d\d \d\d:\d\d            7  \(damaged\)", long[4])


def test_clear(filled: Cache, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (directory / "mine.txt").write_bytes(b"")
    assert main(["cache", "--clear"]) == 0
    assert lines(capsys)[1] == "entries    0"
    assert os.listdir(directory) == ["mine.txt"]


def test_what_cannot_be_cleared(
    filled: Cache, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "unlink", refuse)
    assert main(["cache", "--clear"]) == 1
    assert capsys.readouterr() == ("", f"graphc: {filled.directory}: 2 entries cannot be removed\n")


def test_a_file_in_the_way(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory.write_bytes(b"")
    assert main(["cache"]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("graphc: ") and str(directory) in err and err.count("\n") == 1


def test_no_home(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "cache_directory", lambda: None)
    assert main(["cache"]) == 1
    assert "GRAPHC_CACHE_DIR names a place" in capsys.readouterr().err


def test_the_installed_program_reads_the_environment(tmp_path: Path) -> None:
    environment = {**os.environ, "GRAPHC_CACHE": "0", "GRAPHC_CACHE_DIR": str(tmp_path), "GRAPHC_CACHE_BYTES": "77"}
    done = subprocess.run(
        [sys.executable, "-m", "graphc", "cache"], capture_output=True, text=True, env=environment
    )  # fmt: skip
    assert done.returncode == 0 and done.stderr == ""
    expected = [f"directory  {tmp_path} (not used: GRAPHC_CACHE is 0)", "entries    0", "bytes      0 of at most 77"]
    assert done.stdout.splitlines() == expected

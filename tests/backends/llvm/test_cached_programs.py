"""Programs from the disk cache: the same bits as compiled ones, whatever has happened to the cache."""

from __future__ import annotations

import atexit
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import graphc as gc
from graphc.cache import Cache
from graphc_llvm import cached, pool
from graphc_llvm import lower as lower_module
from graphc_llvm.executable import Native
from graphc_llvm.jit import Compilation, compile_object
from graphc_llvm.parallel import PARALLEL_FOR
from graphc_llvm.target import host_target, named_target
from tests.backends.llvm.cached_support import PROGRAMS, Case, Disk, draw, gather, product, results, use_disk


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    return use_disk(tmp_path, monkeypatch)


@pytest.fixture
def no_lowering(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    def forbid() -> None:
        def fail(*arguments: object, **options: object) -> None:
            pytest.fail("this program should come from the cache")

        monkeypatch.setattr(lower_module, "lower", fail)
        monkeypatch.setattr(Native, "_compiled", fail)

    return forbid


# --- Hits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", PROGRAMS)
def test_the_cache_gives_the_same_bits(
    build: Callable[[], Case], disk: Disk, no_lowering: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(cached, "user_cache", lambda: None)
        fresh = results(build())
    assert disk.compiled == 1 and disk.entries() == []
    assert results(build()) == fresh
    assert disk.compiled == 2 and len(disk.entries()) == 1
    no_lowering()
    assert results(build()) == fresh


def bodies(text: str) -> list[str]:
    """What stands between braces: the functions of a part of a module, without their heads."""
    return re.findall(r"(?s)\{\n(entry:.*?)\n\}", text)


@pytest.mark.parametrize("build", PROGRAMS)
def test_source_is_what_was_compiled(build: Callable[[], Case], disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    parts: list[str] = []
    add, finish = Compilation.add, Compilation.finish

    def noted_add(compilation: Compilation, text: str) -> None:
        parts.append(text)
        add(compilation, text)

    def noted_finish(compilation: Compilation, text: str) -> bytes:
        parts.append(text)
        return finish(compilation, text)

    monkeypatch.setattr(Compilation, "add", noted_add)
    monkeypatch.setattr(Compilation, "finish", noted_finish)
    fresh, hit = build()[0], build()[0]
    assert disk.compiled == 1
    source = hit.source("llvm")
    assert fresh.source("llvm") == source and fresh.source("asm") == hit.source("asm")
    assert [body for part in parts for body in bodies(part)] == bodies(source) != []


def test_an_error_from_the_cache_is_the_same(disk: Disk, no_lowering: Callable[[], None]) -> None:
    def step() -> tuple[gc.Function, gc.Variable]:
        w, i = gc.param("w", (5,), init=1.0), gc.input("i", (3,), dtype="int64")
        taken = gc.take(w, i)
        return gc.compile([i], taken, updates={w: w + gc.sum(taken)}, threads=1), w

    messages = []
    for turn in range(2):
        f, w = step()
        with pytest.raises(gc.errors.ArgumentError, match="index 5 is outside an axis of 5") as caught:
            f(np.array([0, 5, 1]))
        messages.append(caught.value.message)
        assert (w.value == 1).all()
        f(np.array([0, 1, 2]))
        assert (w.value == 4).all()
        if turn == 0:
            no_lowering()
    assert messages[0] == messages[1]


def test_named_sizes_are_entries_of_their_own(disk: Disk, no_lowering: Callable[[], None]) -> None:
    def norm() -> gc.Function:
        x = gc.input("x", ("N", 3))
        return gc.compile([x], gc.sum(x * x), threads=1)

    f = norm()
    expected = [f(draw((size, 3))) for size in (2, 5)]
    assert len(disk.entries()) == 2
    no_lowering()
    f = norm()
    assert [f(draw((size, 3))) for size in (2, 5)] == expected


def test_the_pool_comes_from_the_cache(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "register_at_fork", lambda **handlers: None)  # these pools start no workers
    monkeypatch.setattr(atexit, "register", lambda handler: None)
    target = host_target()
    found = []
    for turn in range(2):
        found.append(pool._loaded(target).symbols)
        with monkeypatch.context() as patch:
            patch.setattr(pool, "_posix_addresses", lambda target: {})
            found.append(pool._loaded(target).symbols)
        if turn == 0:
            monkeypatch.setattr(pool, "compile_object", lambda *_, **__: pytest.fail("it should come from the cache"))
    assert found[:2] == found[2:] and found[0] > found[1] == {PARALLEL_FOR} and len(disk.entries()) == 2


SCRIPT = """
import hashlib, sys
sys.path[:0] = [{root!r}]
from tests.backends.llvm.cached_support import PROGRAMS
from graphc_llvm.parallel import PARALLEL_FOR
from graphc_llvm.program_text import program_text
for build in PROGRAMS:
    f = build()[0]
    for text in (program_text(f.program), f.source("llvm")):
        print(build.__name__, hashlib.sha256(text.encode()).hexdigest())
"""


def test_texts_are_the_same_in_every_process() -> None:
    command = [sys.executable, "-c", SCRIPT.format(root=str(Path(__file__).parents[3]))]
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONHASHSEED": seed})
        for seed in ("0", "77")
    ]
    one, other = (process.communicate(timeout=60)[0].splitlines() for process in processes)
    assert one == other and len(one) == 2 * len(PROGRAMS)


# --- Damage ---------------------------------------------------------------------------------------------------------


def entry_of(disk: Disk) -> Path:
    (entry,) = disk.entries()
    return Path(disk.directory) / f"{entry.key.hex()}.graphc"


def test_damaged_entries_are_compiled_again(disk: Disk) -> None:
    def small() -> Case:
        x = gc.input("x", (3,))
        return gc.compile([x], x + 1, threads=1), [draw((3,))], []

    expected = results(small())
    path = entry_of(disk)
    good = path.read_bytes()
    assert disk.compiled == 1
    positions = [0, 7, 8, 12, 16, 24, 55, 56, 87, 88, 89, *range(90, len(good), len(good) // 20), len(good) - 1]
    damaged = [good[:at] + bytes([good[at] ^ 0x10]) + good[at + 1 :] for at in positions]
    damaged += [good[:length] for length in (0, 1, 55, 87, 88, 100, len(good) // 2, len(good) - 1)]
    damaged += [good + b"\0", bytes(len(good)), good[:200] + bytes(len(good) - 200)]
    for number, content in enumerate(damaged, 2):
        path.write_bytes(content)
        assert results(small()) == expected
        assert disk.compiled == number, "it was believed"
        assert path.read_bytes() == good


def forge(disk: Disk, change: Callable[[cached.Code], bytes]) -> None:
    """Store something else under the key of the one entry: its checksum is right."""
    (entry,) = disk.entries()
    content = disk.fetch(entry.key)
    assert content is not None
    disk.store(entry.key, change(cached._unpacked(content)))


def with_facts(facts: bytes) -> Callable[[cached.Code], bytes]:
    return lambda code: facts + b"\n" + code.object_bytes


def with_object(change: Callable[[bytes], bytes]) -> Callable[[cached.Code], bytes]:
    return lambda code: cached._packed(code._replace(object_bytes=change(code.object_bytes)))


def with_code(text: str, cpu: str = "native") -> Callable[[cached.Code], bytes]:
    target = host_target() if cpu == "native" else named_target(cpu)
    return with_object(lambda good: compile_object(text, target))


OTHER_CPU = "x86-64" if host_target().triple.startswith(("aarch64", "arm64")) else "neon"
UNDEFINED = "declare void @nowhere()\ndefine void @entry() {\n  call void @nowhere()\n  ret void\n}\n"
WRONG: dict[str, Callable[[cached.Code], bytes]] = {
    "nothing": lambda code: b"",
    "no object": with_object(lambda good: b""),
    "half an object": with_object(lambda good: good[: len(good) // 2]),
    "headers of an object": with_object(lambda good: good[:64]),
    "garbage": with_object(lambda good: b"garbage" * 99),
    "another processor": with_code("define i64 @entry(ptr %a, ptr %b) {\n  ret i64 0\n}\n", OTHER_CPU),
    "no entry": with_code("define void @other() {\n  ret void\n}\n"),
    "an undefined symbol": with_code(UNDEFINED),
    "no facts": with_facts(b"{}"),
    "other facts": lambda code: cached._packed(code._replace(facts={**code.facts, "more": 1})),
    "a list": with_facts(b"[1, 2]"),
    "no Python": with_facts(b"{'inputs': ("),
    "code": with_facts(b"__import__('sys').exit()"),
    "no text": with_facts(b"\xff\xfe"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_cannot_be_used_is_compiled_again(wrong: str, disk: Disk) -> None:
    expected = results(gather())
    good = entry_of(disk).read_bytes()
    forge(disk, WRONG[wrong])
    assert entry_of(disk).read_bytes() != good
    assert results(gather()) == expected
    assert disk.compiled == 2 and entry_of(disk).read_bytes() == good


def test_an_error_of_the_compiler_is_not_hidden(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise RuntimeError("the emitted LLVM IR is not valid")

    product()
    with monkeypatch.context() as patch:
        patch.setattr(lower_module, "lower", fail)
        product()
        with pytest.raises(RuntimeError, match="not valid"):
            gather()
    assert len(disk.entries()) == 1


def test_a_cache_that_cannot_be_written(disk: Disk, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    disk.directory = str(tmp_path / "file")
    assert results(product()) == results(product())
    assert disk.compiled == 2


# --- Processes ------------------------------------------------------------------------------------------------------

RUN = """
import sys
sys.path[:0] = [{root!r}]
import hashlib
import numpy as np
import graphc as gc
from graphc_llvm import cached
cached._sources = lambda: ("the sources",)  # somebody may edit a file while the tests run
x, w = gc.input("x", (40, 50)), gc.param("w", (50, 30), init=gc.init.he_normal(seed=3))
f = gc.compile([x], gc.tanh(x @ w), threads=2)
y = f(np.linspace(-1, 1, 2000, dtype="float32").reshape(40, 50))
print(hashlib.sha256(y.tobytes()).hexdigest(), "graphc_llvm.lower" in sys.modules)
"""


def start(directory: Path, **variables: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "GRAPHC_CACHE": "1", "GRAPHC_CACHE_DIR": str(directory), **variables}
    command = [sys.executable, "-c", RUN.format(root=str(Path(__file__).parents[3]))]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def finish(process: subprocess.Popen[str]) -> list[str]:
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and err == "", err
    return out.split()


def test_new_processes_find_what_old_ones_compiled(tmp_path: Path) -> None:
    directory = tmp_path / "cache"
    first, second = (finish(process) for process in [start(directory), start(directory)])
    assert first[0] == second[0] and "True" in (first[1], second[1])  # one may have been late enough for a hit
    by_label = {entry.label: entry.key.hex() for entry in Cache(str(directory), 1 << 20).entries()}
    assert set(by_label) == {"function", "calls without Python"}
    assert finish(start(directory)) == [first[0], "False"]
    assert finish(start(directory, GRAPHC_CACHE="0")) == [first[0], "True"]
    program, call = (directory / f"{by_label[label]}.graphc" for label in ("function", "calls without Python"))
    call.write_bytes(call.read_bytes()[:-1])
    program.unlink()
    assert finish(start(directory)) == [first[0], "True"]
    assert len(list(directory.iterdir())) == len(by_label) and finish(start(directory))[1] == "False"

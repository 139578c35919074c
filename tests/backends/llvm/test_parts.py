"""Modules in parts: the same code as in one piece, compiled side by side, and archives of objects."""

from __future__ import annotations

import gc as garbage
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

import graphc as gc
from graphc.errors import ArgumentError
from graphc.program import Program
from graphc_llvm import archive, jit, parts
from graphc_llvm import lower as lowering
from graphc_llvm.emit import Module
from graphc_llvm.lower import lower
from graphc_llvm.target import host_target
from tests.conftest import requires_tool

HOST = host_target()


def step() -> tuple[gc.Function, list[np.ndarray]]:
    """A training step with every kind of kernel, and its arguments."""
    x, t = gc.input("x", (8, 1, 12, 12)), gc.input("t", (8,), dtype="int64")
    layers = [gc.nn.Conv2d(1, 4, 3, seed=0), gc.nn.ReLU(), gc.nn.MaxPool2d(2), gc.nn.Flatten()]
    model = gc.nn.Sequential(*layers, gc.nn.Linear(100, 10, seed=1))
    loss = gc.nn.cross_entropy(model(x), t)
    updates = gc.optim.SGD(lr=0.1).updates(loss, model.parameters())
    function = gc.compile([x, t], [loss, model(x)], updates, threads=2)
    rng = np.random.default_rng(0)
    return function, [rng.normal(size=(8, 1, 12, 12)).astype("float32"), rng.integers(0, 10, 8)]


def lowered(program: Program, threads: int = 1) -> tuple[Module, list[str]]:
    """The module, and the texts of its parts."""
    made: list[parts.Parts] = []
    texts: list[str] = []

    def take(module: Module) -> None:
        if not made:
            made.append(parts.Parts(module))
        texts.extend(text for text in [made[0].ready()] if text is not None)

    module, _ = lower(program, HOST, threads=threads, after_kernel=take)
    return module, [*texts, made[0].rest()]


def compiled(texts: list[str]) -> bytes:
    compilation = jit.Compilation(HOST)
    for text in texts[:-1]:
        compilation.add(text)
    return compilation.finish(texts[-1])


def results(function: gc.Function, arguments: list[np.ndarray]) -> list[bytes]:
    return [array.tobytes() for _ in range(3) for array in function(*arguments)]


def test_each_function_a_part_of_its_own(monkeypatch):
    expected = results(*step())
    monkeypatch.setattr(parts, "PART_LINES", 1)
    assert results(*step()) == expected


def functions(assembly: str) -> dict[str, str]:
    """The instructions of each function, without labels and directives, which are numbered through the module."""
    found: dict[str, str] = {}
    for name, body in re.findall(r"(?ms)^(\w[\w.]*):.*?\n(.*?)^\.Lfunc_end", assembly):
        lines = [line.split("#")[0].strip() for line in body.splitlines()]
        kept = [line for line in lines if line and not line.startswith((".", "#"))]
        found[name] = "\n".join(re.sub(r"\.L\w+|\b\w[\w.]*@PLT|\bentry[\w.]*", "LABEL", line) for line in kept)
    return found


def test_the_same_instructions_as_in_one_piece(monkeypatch):
    program = step()[0].program
    monkeypatch.setattr(parts, "PART_LINES", 300)
    module, texts = lowered(program, threads=2)
    assert len(texts) > 2
    whole = functions(jit.compile_assembly(module.text(), HOST))
    apart = {name: code for text in texts for name, code in functions(jit.compile_assembly(text, HOST)).items()}
    assert apart == whole and len(whole) > 10


def test_a_small_module_is_one_part():
    x = gc.input("x", (4,))
    module, texts = lowered(gc.compile([x], x + 1, threads=1).program)
    assert texts == [module.text()]
    assert compiled(texts) == jit.compile_object(module.text(), HOST)


@pytest.mark.parametrize("bad", ["nonsense", "%x = add i32 0, 0\n  br label %missing"])
def test_an_error_in_one_part_is_an_error(bad):
    good = "define void @one() {\n  ret void\n}\n"
    with pytest.raises(RuntimeError, match="not valid"):
        compiled([good, "define void @two() {\n  " + bad + "\n}\n", good])
    garbage.collect()  # a module that is disposed of after its context ends the process


def test_without_the_bare_function_parts_are_compiled_one_by_one(monkeypatch):
    texts = [f"define i64 @f{n}() {{\n  ret i64 {n}\n}}\n" for n in range(3)]
    expected = compiled(texts)
    emit = jit._binding().ffi.lib.LLVMPY_TargetMachineEmitToMemory
    monkeypatch.setitem(jit._binding().ffi.lib._fntab, "LLVMPY_TargetMachineEmitToMemory", lambda *a: emit(*a))
    assert compiled(texts) == expected


def test_damaged_archives():
    blob = archive.pack({"a.o": b"12345", "b.o": b""})
    assert archive.unpack(blob) == {"a.o": b"12345", "b.o": b""}
    for end in range(1, len(blob) - 1):
        if end not in (8, 73, 74):  # after the magic, after the first member: whole, but shorter
            with pytest.raises(ValueError, match="archive"):
                archive.unpack(blob[:end])
            with pytest.raises(RuntimeError):
                jit.load(blob[:end])
    for name in ("sixteen_letters.o", "a/b", "ä"):
        with pytest.raises(ValueError, match="name"):
            archive.pack({name: b""})


def test_ar_reads_it(tmp_path: Path):
    ar = requires_tool("ar", "of binutils, which comes with gcc")
    content = {"one.o": b"odd", "two.o": b"even"}
    (tmp_path / "x.a").write_bytes(archive.pack(content))
    listed = subprocess.run([ar, "t", "x.a"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert listed.stdout.split() == list(content)
    subprocess.run([ar, "x", "x.a"], cwd=tmp_path, check=True)
    assert {name: (tmp_path / name).read_bytes() for name in content} == content


def test_a_long_program_is_called_in_pieces(monkeypatch):
    expected = results(*step())
    monkeypatch.setattr(lowering, "CALLS", 3)
    assert results(*step()) == expected


def test_a_failed_check_ends_a_program_in_pieces(monkeypatch):
    monkeypatch.setattr(lowering, "CALLS", 1)
    w, labels = gc.param("w", (4,), init=1.0), gc.input("labels", (2,), dtype="int64")
    taken = gc.take(w, labels)
    function = gc.compile([labels], gc.sum(taken), {w: w + gc.cumsum(w, axis=0) * gc.sum(taken)})
    with pytest.raises(ArgumentError, match="index 4"):
        function(np.array([0, 4]))
    np.testing.assert_array_equal(w.value, np.ones(4))
    assert function(np.array([0, 3])) == 2
    np.testing.assert_array_equal(w.value, 1 + 2 * np.arange(1, 5))

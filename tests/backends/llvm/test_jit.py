"""Compiling and loading: right code runs, wrong text and damaged objects are errors, never crashes."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from graphc_llvm import jit
from graphc_llvm.target import DEFAULT_CACHES, four_part_triple, host_caches, host_target, named_target, target_for

ANSWER = 'define i64 @answer() nounwind "no-builtins" {\n  ret i64 42\n}\n'
CALLER = """declare i64 @answer()
define i64 @twice() nounwind {
  %a = call i64 @answer()
  %b = add i64 %a, %a
  ret i64 %b
}
"""


def call(library: jit.Library, name: str) -> int:
    return int(ctypes.CFUNCTYPE(ctypes.c_int64)(library.address(name))())


def test_compile_load_call() -> None:
    library = jit.load(jit.compile_object(ANSWER, host_target()))
    assert call(library, "answer") == 42
    assert library.symbols == {"answer"}


def test_the_first_object_of_a_process_may_need_the_c_library() -> None:
    text = """declare i64 @strlen(ptr)
@word = private constant [5 x i8] c"seven"
define i64 @length() nounwind { ret i64 5 }
define i64 @other(ptr %p) nounwind { %n = call i64 @strlen(ptr %p) ret i64 %n }
"""
    code = f"""from graphc_llvm import jit
from graphc_llvm.target import host_target
print(sorted(jit.load(jit.compile_object({text!r}, host_target())).symbols))"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "['length', 'other']", done.stderr


def test_one_symbol_name_may_be_loaded_twice() -> None:
    other = ANSWER.replace("42", "7")
    first, second = (jit.load(jit.compile_object(text, host_target())) for text in (ANSWER, other))
    assert (call(first, "answer"), call(second, "answer")) == (42, 7)


def test_objects_are_deterministic() -> None:
    assert jit.compile_object(ANSWER, host_target()) == jit.compile_object(ANSWER, host_target())


def test_a_library_finds_symbols_in_another() -> None:
    answer = jit.load(jit.compile_object(ANSWER, host_target()))
    caller = jit.load(jit.compile_object(CALLER, host_target()), libraries=[answer])
    del answer
    assert call(caller, "twice") == 84


def test_a_symbol_may_be_an_address() -> None:
    answer = jit.load(jit.compile_object(ANSWER, host_target()))
    caller = jit.load(jit.compile_object(CALLER, host_target()), {"answer": answer.address("answer")})
    assert call(caller, "twice") == 84


def test_undefined_symbols_are_named() -> None:
    with pytest.raises(RuntimeError, match="nothing defines: answer"):
        jit.load(jit.compile_object(CALLER, host_target()))


def test_unknown_symbol_of_a_library() -> None:
    library = jit.load(jit.compile_object(ANSWER, host_target()))
    with pytest.raises(KeyError, match="no symbol 'question'"):
        library.address("question")


def test_invalid_text_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="not valid"):
        jit.compile_object("define i64 @f() { ret i32 0 }", host_target())


@pytest.mark.parametrize("damage", ["empty", "garbage", "half", "headers", "flipped"])
def test_damaged_objects_are_errors(damage: str) -> None:
    code = jit.compile_object(CALLER, host_target())
    bad = {
        "empty": b"", "garbage": b"\x7fELF garbage" * 20, "half": code[: len(code) // 2], "headers": code[:64],
        "flipped": code[:0x28] + b"\xff\xff\xff\xff\xff\xff\xff\x0f" + code[0x30:],
    }[damage]
    with pytest.raises(RuntimeError):
        jit.load(bad, {"answer": 0})


def test_assembly_is_text() -> None:
    assert "answer" in jit.compile_assembly(ANSWER, host_target())
    assert "answer" in jit.compile_assembly(ANSWER, named_target("neon"))


def test_light_passes_run_when_named() -> None:
    text = "define i64 @f() {\n  %p = alloca i64\n  store i64 3, ptr %p\n  %v = load i64, ptr %p\n  ret i64 %v\n}\n"
    plain, passed = (jit.compile_assembly(text, host_target(), passes) for passes in ((), ("sroa", "instcombine")))
    assert len(passed) < len(plain)


def test_importing_costs_no_llvmlite() -> None:
    code = "import sys, graphc_llvm.jit, graphc_llvm.vecmath; sys.exit('llvmlite' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path)}).returncode == 0


def test_triples_get_their_vendor() -> None:
    assert four_part_triple("aarch64-linux-gnu") == "aarch64-unknown-linux-gnu"
    assert four_part_triple("thumbv7em-none-eabihf") == "thumbv7em-unknown-none-eabihf"
    assert four_part_triple("x86_64-pc-windows-msvc") == "x86_64-pc-windows-msvc"
    assert target_for("armv7a-linux-gnueabihf", "cortex-a9", "+neon").lanes("f32") == 4


def test_host_caches_are_plausible() -> None:
    first, second, third = host_caches()
    assert 4096 <= first <= second and third >= 4096 and len(DEFAULT_CACHES) == 3

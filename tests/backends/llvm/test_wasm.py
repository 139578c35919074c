"""Object files become WebAssembly modules, or an error that says why not. tests/embed runs them."""

from __future__ import annotations

import contextlib
import random

import pytest

from graphc_llvm.emit import F32, I32, PTR, Module, Value
from graphc_llvm.jit import compile_object
from graphc_llvm.target import target_named
from graphc_llvm.wasm import STACK_BYTES, link


def made(module: Module) -> bytes:
    return compile_object(module.text(), target_named("wasm32", None))


def with_data() -> bytes:
    module = Module(target_named("wasm32", None))
    table = module.global_array("table", [1.5, 2.5, 3.5], "f32")
    b = module.function("third", [], F32)
    b.ret(b.load(b.gep(table, 2, "f32"), F32))
    b = module.function("place", [], PTR)
    b.ret(table)
    return made(module)


def test_data_lies_behind_the_stack_and_code_knows_it():
    content = link(with_data(), ["third", "place"])
    assert content[:8] == b"\0asm\x01\0\0\0"
    at = STACK_BYTES
    address = bytes([0x41, 0x80 | at & 0x7F, 0x80 | at >> 7 & 0x7F, 0x80 | at >> 14, 0x80, 0])  # i32.const, in 5 bytes
    assert content.count(address) == 2  # the segment's place, and what `place` returns
    assert b"third" in content and b"__heap_base" in content and b"reloc" not in content


def test_what_cannot_be_linked():
    with pytest.raises(ValueError, match="no WebAssembly object"):
        link(b"\x7fELF....", [])
    with pytest.raises(ValueError, match="defines no function missing"):
        link(with_data(), ["third", "missing"])
    module = Module()
    b = module.function("f", [("x", F32)], F32)
    b.ret(b.call("sinf", F32, b.params))
    with pytest.raises(ValueError, match="needs 'sinf', which nothing defines"):
        link(made(module), ["f"])
    module = Module()
    module.function("g", [], I32, linkage="internal").ret(Value("1", I32))
    module.function("f", [], PTR).ret(Value("@g", PTR))
    with pytest.raises(ValueError, match="addresses of functions"):
        link(made(module), ["f"])


def test_damaged_objects_are_refused_in_words():
    content = with_data()
    generator = random.Random(0)
    damaged = [content[:length] for length in range(8, len(content))]
    for _ in range(2000):
        changed = bytearray(content)
        changed[generator.randrange(8, len(content))] = generator.randrange(256)
        damaged.append(bytes(changed))
    for one in damaged:
        with contextlib.suppress(ValueError):
            link(one, ["third"])

"""Names of targets, processors and features, and what is known of each."""

from __future__ import annotations

import pytest

from graphc_llvm.emit import F32, F64, Module
from graphc_llvm.jit import compile_object
from graphc_llvm.target import ARCHITECTURES, TARGETS, host_target, target_named


@pytest.mark.parametrize("name", TARGETS)
def test_every_short_name_compiles(name, capfd):
    target = target_named(name, None)
    module = Module(target)
    b = module.function("f", [("x", F32), ("y", F64)], F32)
    b.ret(b.floor(b.fma(*[b.params[0]] * 3)))
    assert compile_object(module.text(), target)
    assert capfd.readouterr().err == ""  # LLVM warns there of processors and features that it does not know


@pytest.mark.parametrize(
    ("name", "cpu"), [(triple, cpu) for triple, row in (
        ("aarch64-linux-gnu", ARCHITECTURES["aarch64"]), ("armv7-linux-gnueabihf", ARCHITECTURES["armv7"]),
        ("thumbv7em-none-eabihf", ARCHITECTURES["thumbv7em"]),
    ) for cpu in row.processors],
)  # fmt: skip
def test_llvm_knows_every_processor(name, cpu, capfd):
    target = target_named(name, cpu)
    compile_object("", target)
    assert target.triple.split("-")[1] == "unknown"
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("name", "row"), [
    ("aarch64-linux", ARCHITECTURES["aarch64"]), ("armv7-linux", ARCHITECTURES["armv7"]),
    ("cortex-m7", ARCHITECTURES["thumbv7em"]), ("riscv64-linux", ARCHITECTURES["riscv64"]),
    ("wasm32", ARCHITECTURES["wasm32"]),
])  # fmt: skip
def test_llvm_knows_every_feature(name, row, capfd):
    for sign in "+-":
        cpu = next(reversed(row.processors)) + "".join(sign + feature for feature in row.features)
        compile_object("", target_named(name, cpu))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ["aarch64-linux", "aarch64-linux-gnu", "aarch64-unknown-linux-gnu"])
def test_spellings_of_one_target(name):
    assert target_named(name, None).triple.startswith("aarch64-unknown-linux")


def test_no_name_is_this_machine():
    assert target_named(None, None) == host_target() == target_named(None, "native")


# pointer bits, float32 lanes, FMA, rounding, float64 unit, operating system
@pytest.mark.parametrize(
    ("name", "cpu", "expected"),
    [
        ("x86-64", None, (64, 4, False, False, True, True)),
        ("x86-64-v4", None, (64, 16, True, True, True, True)),
        ("aarch64-linux", None, (64, 4, True, True, True, True)),
        ("armv7-linux", None, (32, 4, False, False, True, True)),
        ("armv7-linux", "cortex-a7", (32, 4, True, False, True, True)),
        ("armv7-linux", "cortex-a9+vfp4", (32, 4, True, False, True, True)),
        ("cortex-m4", None, (32, 1, True, False, False, False)),
        ("cortex-m7", None, (32, 1, True, True, True, False)),
        ("cortex-m7", "cortex-m7-fp64", (32, 1, True, True, False, False)),
        ("riscv64-linux", None, (64, 1, True, False, True, True)),
        ("riscv64-linux", "generic+v+zfa", (64, 4, True, True, True, True)),
        ("wasm32", None, (32, 4, False, True, True, False)),
        ("wasm32", "generic-simd128", (32, 1, False, True, True, False)),
    ],
)
def test_what_a_target_has(name, cpu, expected):
    t = target_named(name, cpu)
    found = (t.pointer_bits, t.lanes("f32"), t.has_fma, t.has_rounding, t.has_doubles, t.has_system)
    assert found == expected


def test_unknown_names_list_what_there_is():
    with pytest.raises(ValueError, match=r"unknown target 'vax'; known: x86-64, .*cortex-m7.*LLVM's triples of x86_64"):
        target_named("vax", None)
    with pytest.raises(ValueError, match="unknown target 'sparc-sun-solaris'"):
        target_named("sparc-sun-solaris", None)
    with pytest.raises(ValueError, match=r"processor 'z80' for armv7-linux; known: generic, cortex-a7.*of vfp4"):
        target_named("armv7-linux", "z80")
    with pytest.raises(ValueError, match="unknown feature 'mmx' of generic for riscv64-linux; known: v, zfa"):
        target_named("riscv64-linux", "generic+mmx")
    with pytest.raises(ValueError, match="unknown feature 'fma' of x86-64 for x86-64; known: none"):
        target_named("x86-64", "x86-64+fma")
    with pytest.raises(ValueError, match="unknown processor 'cortex-m4'"):
        target_named(None, "cortex-m4")

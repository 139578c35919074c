"""Exported code on other machines gives what the JIT gives here: x86-64's baseline, AArch64 in QEMU, WebAssembly in
Node. The other targets are in targets_elsewhere.py, which `make test-embed` runs."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from tests.embed.targets_cases import CASES, case, make
from tests.embed.targets_check import check, undefined_symbols
from tests.embed.targets_machines import MACHINES
from tests.embed.targets_wasm import check_wasm, export_wasm, imports, node


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("machine", ["x86-64", "aarch64"])
def test_results_agree(machine, name, tmp_path):
    check(case(name), MACHINES[machine], tmp_path)
    assert undefined_symbols(MACHINES[machine], tmp_path) == []


@pytest.mark.parametrize("name", CASES)
def test_webassembly_agrees_and_imports_nothing(name, tmp_path):
    check_wasm(case(name), tmp_path)
    assert imports(tmp_path) == []


def test_webassembly_without_vectors(tmp_path):
    check_wasm(case("training step"), tmp_path, "generic-simd128")


def test_the_loader_explains_what_is_wrong(tmp_path):
    table, index = gc.input("table", (4, 3)), gc.input("index", (2,), dtype="int64")
    taken = gc.compile([table, index], gc.take(table, index, axis=0), backend="llvm", name="taken")
    export_wasm(make(taken, [np.zeros((4, 3), "float32"), np.array([1, 3])]), tmp_path)
    printed = node(tmp_path, """
    import load from "./model.mjs";
    import { readFileSync } from "node:fs";
    const model = await load(readFileSync("model.wasm"));
    const table = Array.from({ length: 12 }, (_, i) => i / 2);
    console.log(model.run({ table, index: [3, 0] }).output.join(" "));
    const index = [0, 1];
    for (const inputs of [{ table }, { table, index: [1] }, { table, index: [0, 4] }, { table, index, x: [] }]) {
      try { model.run(inputs); } catch (error) { console.log(error.status, error.message); }
    }
    try { await load("./nowhere.wasm"); } catch (error) { console.log(error.code); }
    """)
    assert printed.splitlines() == [
        "4.5 5 5.5 0 0.5 1",
        "undefined model: the input index is missing",
        "undefined model: index is int64[2], 2 elements, not 1",
        "1 model: an index is outside its axis",
        "undefined model has no input x",
        "ENOENT",
    ]


def test_free_memory_begins_where_the_module_says(tmp_path):
    export_wasm(case("training step"), tmp_path)
    assert node(tmp_path, """
    import { readFileSync } from "node:fs";
    const bytes = readFileSync("model.wasm");
    const { memory, __heap_base } = new WebAssembly.Instance(new WebAssembly.Module(bytes), {}).exports;
    console.log(WebAssembly.validate(bytes), __heap_base.value % 64, __heap_base.value <= memory.buffer.byteLength);
    """) == "true 0 true\n"

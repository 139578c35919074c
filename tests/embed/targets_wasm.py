"""Export a case as a WebAssembly module with its JavaScript loader, run it in Node, compare with this machine."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tests.conftest import requires_tool
from tests.embed.targets_cases import Case
from tests.embed.targets_check import compare
from tests.embed.targets_driver import read_output

MAIN = """
import load, { DIMENSIONS, TENSORS } from "./model.mjs";
import { readFileSync } from "node:fs";
const types = { float32: Float32Array, float64: Float64Array, int32: Int32Array, int64: BigInt64Array,
  uint32: Uint32Array, bool: Uint8Array };
const bytes = readFileSync("arrays.bin");
let at = 0;
const SIZES = {}; // of dynamic dimensions, in order
Object.keys(DIMENSIONS).forEach((name, number) => { SIZES[name] = Number(process.argv[2 + number]); });
const read = ({ dtype, size, rows }) => {
  const array = new types[dtype](rows === undefined ? size : size * SIZES[rows]);
  new Uint8Array(array.buffer).set(bytes.subarray(at, at + array.byteLength));
  at += array.byteLength;
  return array;
};
const print = (name, array) =>
  console.log(name, Buffer.from(array.buffer, array.byteOffset, array.byteLength).toString("hex"));
const model = await load();
const inputs = Object.fromEntries(TENSORS.inputs.map((tensor) => [tensor.name, read(tensor)]));
for (const tensor of TENSORS.params) model.params[tensor.name].set(read(tensor));
model.selftest();
const outputs = model.run(inputs);
TENSORS.outputs.forEach(({ name }, number) => print(`outputs${number}`, outputs[name]));
TENSORS.params.forEach(({ name }, number) => print(`params${number}`, model.params[name]));
"""


def export_wasm(case: Case, folder: Path, cpu: str | None = None) -> None:
    """Write model.wasm and model.mjs."""
    case.function.export(folder / "model", target="wasm32", cpu=cpu, formats=["wasm"], loader="javascript")


def node(folder: Path, script: str, *arguments: str) -> str:
    """What a script prints. It is a module beside the exported one."""
    tool = requires_tool("node", "Debian: nodejs")
    (folder / "main.mjs").write_text(script, encoding="utf-8")
    command = [tool, "main.mjs", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def check_wasm(case: Case, folder: Path, cpu: str | None = None) -> float:
    """Asserts that the results agree; gives the largest relative error."""
    export_wasm(case, folder, cpu)
    (folder / "arrays.bin").write_bytes(b"".join(array.tobytes() for array in (*case.inputs, *case.params)))
    return compare(case, read_output(node(folder, MAIN, *map(str, case.sizes))))


def imports(folder: Path) -> list[str]:
    """What model.wasm needs from outside."""
    script = """
    import { readFileSync } from "node:fs";
    const module = new WebAssembly.Module(readFileSync("model.wasm"));
    console.log(JSON.stringify(WebAssembly.Module.imports(module)));
    """
    found: list[str] = json.loads(node(folder, script))
    return found

"""A JavaScript module beside the .wasm, for Node and browsers: typed arrays in, typed arrays out."""

from __future__ import annotations

import json
from urllib.parse import quote

from graphc.program import ALIGNMENT
from graphc_llvm.export_interface import ABI_VERSION, GROUPS, Field, Interface

_TEMPLATE = """\
// @PREFIX@: made by graphc. For Node (18 or later), web pages and workers; it needs @WASM@, which stands beside it.
//
//     import load from "./@PREFIX@.mjs";
//     const @PREFIX@ = await load();
//     @CALL@
//
// Each array is a typed array or an array of numbers, flat and row-major, of as many elements as TENSORS says. `run`
// returns new typed arrays, by name. `params` are typed arrays in the module's memory: set them before the first call;
// a training step changes them in place. An Error carries the status code as `status`, where there is one. Each `load`
// makes a program with a memory of its own; for many, compile a WebAssembly.Module once, and load that.

export const TENSORS = @TENSORS@;

const ARRAYS = {
  float32: Float32Array, float64: Float64Array, int32: Int32Array, int64: BigInt64Array, uint32: Uint32Array,
  bool: Uint8Array,
};
const CONVERSIONS = {
  bool: Boolean, int32: (given) => fitting(given, Number(given) | 0),
  int64: (given) => fitting(BigInt(given), BigInt.asIntN(64, BigInt(given))),
  uint32: (given) => fitting(given, Number(given) >>> 0),
};
const ALIGNMENT = @ALIGNMENT@, PAGE = 65536, POINTER = 4;

// `source`: a URL, relative to this file; a WebAssembly.Module; or the bytes of one (an ArrayBuffer or a typed array).
export default async function load(source = new URL("./@URL@", import.meta.url)) {
  return new Program(source instanceof WebAssembly.Module ? source : await compiled(source));
}

async function compiled(source) {
  if (source instanceof ArrayBuffer || ArrayBuffer.isView(source)) return compiledBytes(source, "the bytes");
  const url = new URL(source, import.meta.url);
  if (url.protocol === "file:") {
    const { readFile } = await import("node:fs/promises");
    return compiledBytes(await readFile(url), url);
  }
  const response = await fetch(url).catch((error) => {
    throw new Error(`@PREFIX@: ${url}: ${error.message}`, { cause: error });
  });
  if (!response.ok) throw new Error(`@PREFIX@: ${url}: ${response.status} ${response.statusText}`);
  // Compiled while it arrives, if the server says what it is, and nothing beside it: browsers refuse anything else.
  const type = (response.headers.get("Content-Type") ?? "").trim().toLowerCase();
  if (type !== "application/wasm") return compiledBytes(await response.arrayBuffer(), url);
  return WebAssembly.compileStreaming(response).catch((error) => refuse(error, url));
}

function compiledBytes(bytes, where) {
  return WebAssembly.compile(bytes).catch((error) => refuse(error, where));
}

function refuse(error, where) {
  if (!(error instanceof WebAssembly.CompileError)) throw error;
  throw new Error(`@PREFIX@: ${where} cannot be compiled as WebAssembly: ${error.message}`, { cause: error });
}

class Program {
  #module; #exports; #groups = {}; #structs = {}; #workspace; #workspaceBytes;

  constructor(module) {
    this.#module = module;
    this.#exports = instance(module);
    const version = this.#exports.@PREFIX@_abi_version?.();
    if (version === undefined) throw new Error("@PREFIX@: this WebAssembly module is another one");
    if (version !== @ABI@) throw new Error(`@WASM@ has ABI version ${version}, and this file is for @ABI@`);
    let end = this.#exports.__heap_base.value >>> 0;
    const take = (bytes) => {
      const start = Math.ceil(end / ALIGNMENT) * ALIGNMENT;
      end = start + bytes;
      return start;
    };
    const places = {};
    for (const [group, tensors] of Object.entries(TENSORS)) {
      places[group] = tensors.map(({ dtype, size }) => take(size * ARRAYS[dtype].BYTES_PER_ELEMENT));
      this.#structs[group] = take(POINTER * tensors.length);
    }
    this.#workspaceBytes = Number(this.#exports.@PREFIX@_workspace_bytes());
    this.#workspace = take(this.#workspaceBytes);
    grow(this.#exports.memory, end);
    const buffer = this.#exports.memory.buffer; // it never grows again, so that arrays over it stay valid
    for (const [group, tensors] of Object.entries(TENSORS)) {
      new Uint32Array(buffer, this.#structs[group], tensors.length).set(places[group]);
      this.#groups[group] = Object.fromEntries(
        tensors.map(({ name, dtype, size }, at) => [name, new ARRAYS[dtype](buffer, places[group][at], size)]),
      );
    }
    this.params = Object.freeze({ ...this.#groups.params });
  }

  run(inputs = {}) {
    for (const name of Object.keys(inputs)) {
      if (!Object.hasOwn(this.#groups.inputs, name)) throw new Error(`@PREFIX@ has no input ${name}`);
    }
    for (const { name, dtype, shape, size } of TENSORS.inputs) {
      const given = inputs[name];
      if (given === undefined) throw new Error(`@PREFIX@: the input ${name} is missing`);
      const wanted = `@PREFIX@: ${name} is ${dtype}[${shape}], ${size} elements`;
      if (!Array.isArray(given) && !ArrayBuffer.isView(given)) throw new Error(`${wanted} in an array, not ${given}`);
      if (given.length !== size) throw new Error(`${wanted}, not ${given.length}`);
      try {
        const convert = given instanceof ARRAYS[dtype] ? undefined : CONVERSIONS[dtype]; // `set` converts floats
        this.#groups.inputs[name].set(convert === undefined ? given : Array.from(given, convert));
      } catch (error) {
        throw new Error(`${wanted}; ${error.message}`, { cause: error });
      }
    }
    const { inputs: x, params, outputs } = this.#structs;
    this.#check(this.#exports, this.#exports.@PREFIX@_run(x, params, outputs, this.#workspace, this.#workspaceBytes));
    return Object.fromEntries(Object.entries(this.#groups.outputs).map(([name, array]) => [name, array.slice()]));
  }

  // Runs on generated inputs in memory of its own, and throws if the results are not those that were recorded.
  selftest() {
    const exports = instance(this.#module);
    const bytes = Number(exports.@PREFIX@_selftest_bytes());
    const start = Math.ceil((exports.__heap_base.value >>> 0) / ALIGNMENT) * ALIGNMENT;
    grow(exports.memory, start + bytes);
    this.#check(exports, exports.@PREFIX@_selftest(start, bytes));
  }

  version() {
    return text(this.#exports, this.#exports.@PREFIX@_version());
  }

  #check(exports, status) {
    if (status === 0) return;
    const error = new Error(`@PREFIX@: ${text(exports, exports.@PREFIX@_strerror(status))}`);
    error.status = status;
    throw error;
  }
}

function instance(module) {
  try {
    return new WebAssembly.Instance(module, {}).exports;
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new Error(`@PREFIX@: there is no memory for one more: ${error.message}`, { cause: error });
  }
}

function grow(memory, end) {
  const missing = Math.ceil((end - memory.buffer.byteLength) / PAGE);
  try {
    if (missing > 0) memory.grow(missing);
  } catch (error) {
    throw new Error(`@PREFIX@: it needs ${end} bytes of memory: ${error.message}`, { cause: error });
  }
}

function fitting(given, made) {
  if (typeof made === "bigint" ? given !== made : Number(given) !== made) throw new RangeError(`${given} does not fit`);
  return made;
}

function text(exports, address) {
  const bytes = new Uint8Array(exports.memory.buffer, address >>> 0);
  return new TextDecoder().decode(bytes.subarray(0, bytes.indexOf(0)));
}
"""


def javascript_loader(interface: Interface, wasm_name: str) -> str:
    """The text of P.mjs. `wasm_name`: the file name of the module, which stands in the same folder.

    Raises ValueError for a program whose dimensions are arguments of each call: its arrays have no fixed places.
    """
    if interface.dimensions:
        names = ", ".join(dimension.name for dimension in interface.dimensions)
        raise ValueError(f"the JavaScript loader needs fixed sizes, and {names} is given at each call")
    tensors = {group: [_tensor(field) for field in interface.fields[group]] for group in GROUPS}
    lines = ",\n".join(
        f"  {group}: [" + "".join(f"\n    {json.dumps(row)}," for row in rows) + ("\n  ]" if rows else "]")
        for group, rows in tensors.items()
    )
    inputs = ", ".join(str(row["name"]) for row in tensors["inputs"])
    outputs = ", ".join(str(row["name"]) for row in tensors["outputs"])
    words = {
        "PREFIX": interface.prefix, "WASM": json.dumps(wasm_name)[1:-1], "URL": quote(wasm_name),
        "ABI": str(ABI_VERSION), "ALIGNMENT": str(ALIGNMENT),
        "TENSORS": f"{{\n{lines},\n}}",
        "CALL": f"const {{ {outputs} }} = {interface.prefix}.run({{ {inputs} }});",
    }
    text = _TEMPLATE
    for word, replacement in words.items():
        text = text.replace(f"@{word}@", replacement)
    return text


def _tensor(field: Field) -> dict[str, object]:
    buffer = field.buffer
    return {"name": field.field, "dtype": buffer.dtype, "shape": list(buffer.shape), "size": buffer.size}

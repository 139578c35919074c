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

// The elements of a tensor with `rows` are those for each row of that dimension, whose size is found in the inputs.
export const TENSORS = @TENSORS@;
export const DIMENSIONS = @DIMENSIONS@;

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
  #module; #exports; #places = {}; #structs = {}; #views = {}; #free; #sizes; #workspace; #workspaceBytes;

  constructor(module) {
    this.#module = module;
    this.#exports = instance(module);
    const version = this.#exports.@PREFIX@_abi_version?.();
    if (version === undefined) throw new Error("@PREFIX@: this WebAssembly module is another one");
    if (version !== @ABI@) throw new Error(`@WASM@ has ABI version ${version}, and this file is for @ABI@`);
    this.#free = this.#exports.__heap_base.value >>> 0;
    for (const [group, tensors] of Object.entries(TENSORS)) this.#structs[group] = this.#take(POINTER * tensors.length);
    this.#places.params = TENSORS.params.map((tensor) => this.#take(bytesOf(tensor)));
    this.#lay(Object.fromEntries(Object.entries(DIMENSIONS).map(([name, { least }]) => [name, least])));
  }

  #take(bytes) {
    const start = Math.ceil(this.#free / ALIGNMENT) * ALIGNMENT;
    this.#free = start + bytes;
    return start;
  }

  // Gives inputs, outputs and the workspace their places, behind the params, which stay where they are.
  #lay(sizes) {
    const before = this.#free;
    const places = { ...this.#places };
    for (const group of ["inputs", "outputs"]) {
      places[group] = TENSORS[group].map((tensor) => this.#take(bytesOf(tensor, sizes)));
    }
    const needed = Number(this.#exports.@PREFIX@_workspace_bytes(...arguments_(sizes)));
    const workspace = this.#take(needed), end = this.#free;
    this.#free = before;
    grow(this.#exports.memory, end);
    this.#sizes = sizes;
    this.#places = places;
    this.#workspace = workspace;
    this.#workspaceBytes = needed;
    for (const [group, tensors] of Object.entries(TENSORS)) {
      new Uint32Array(this.#exports.memory.buffer, this.#structs[group], tensors.length).set(places[group]);
      this.#views[group] = this.#arrays(group);
    }
  }

  #arrays(group) {
    const { buffer } = this.#exports.memory;
    return Object.fromEntries(
      TENSORS[group].map((tensor, at) => {
        return [tensor.name, new ARRAYS[tensor.dtype](buffer, this.#places[group][at], sizeOf(tensor, this.#sizes))];
      }),
    );
  }

  // Typed arrays in the module's memory. A call with more rows than any before may give that another buffer: then take
  // them anew.
  get params() {
    return Object.freeze({ ...this.#views.params });
  }

  run(inputs = {}) {
    for (const name of Object.keys(inputs)) {
      if (!TENSORS.inputs.some((tensor) => tensor.name === name)) throw new Error(`@PREFIX@ has no input ${name}`);
    }
    const sizes = {};
    for (const tensor of TENSORS.inputs) {
      const { name, size, rows } = tensor, wanted = words(tensor);
      const given = Object.hasOwn(inputs, name) ? inputs[name] : undefined;
      if (given === undefined) throw new Error(`@PREFIX@: the input ${name} is missing`);
      if (!Array.isArray(given) && !ArrayBuffer.isView(given)) throw new Error(`${wanted} in an array, not ${given}`);
      if (rows === undefined ? given.length !== size : given.length % size) {
        throw new Error(`${wanted}, not ${given.length}`);
      }
      if (rows === undefined || size === 0) continue;
      sizes[rows] ??= given.length / size;
      if (sizes[rows] * size !== given.length) {
        throw new Error(`${wanted}, not ${given.length}: another input has ${sizes[rows]} rows`);
      }
    }
    for (const [name, { least, most }] of Object.entries(DIMENSIONS)) {
      sizes[name] ??= least;
      if (sizes[name] < least || sizes[name] > most) {
        throw new Error(`@PREFIX@: ${name} is from ${least} to ${most}, not ${sizes[name]}`);
      }
    }
    if (Object.keys(DIMENSIONS).some((name) => sizes[name] !== this.#sizes[name])) this.#lay(sizes);
    for (const tensor of TENSORS.inputs) {
      const { name, dtype } = tensor, given = inputs[name];
      try {
        const fits = given instanceof ARRAYS[dtype] && dtype !== "bool"; // of which each byte must be 0 or 1
        const convert = fits ? undefined : CONVERSIONS[dtype]; // floats are converted by `set`
        this.#views.inputs[name].set(convert === undefined ? given : Array.from(given, convert));
      } catch (error) {
        throw new Error(`${words(tensor)}; ${error.message}`, { cause: error });
      }
    }
    const { inputs: x, params, outputs } = this.#structs;
    const own = [this.#workspace, this.#workspaceBytes];
    this.#check(this.#exports, this.#exports.@PREFIX@_run(x, params, outputs, ...arguments_(this.#sizes), ...own));
    return Object.fromEntries(Object.entries(this.#views.outputs).map(([name, array]) => [name, array.slice()]));
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

function words({ name, dtype, shape, size, rows }) {
  if (rows === undefined) return `@PREFIX@: ${name} is ${dtype}[${shape}], ${size} elements`;
  const extents = [shape[0] === 1 ? rows : `${shape[0]}*${rows}`, ...shape.slice(1)];
  return `@PREFIX@: ${name} is ${dtype}[${extents}], ${size} elements for each of ${rows}`;
}

function sizeOf({ size, rows }, sizes = {}) {
  return rows === undefined ? size : size * sizes[rows];
}

function bytesOf(tensor, sizes) {
  return sizeOf(tensor, sizes) * ARRAYS[tensor.dtype].BYTES_PER_ELEMENT;
}

function arguments_(sizes) {
  return Object.keys(DIMENSIONS).map((name) => BigInt(sizes[name]));
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
    """The text of P.mjs. `wasm_name`: the file name of the module, which stands in the same folder."""
    tensors = {group: [_tensor(interface, field) for field in interface.fields[group]] for group in GROUPS}
    lines = ",\n".join(
        f"  {group}: [" + "".join(f"\n    {json.dumps(row)}," for row in rows) + ("\n  ]" if rows else "]")
        for group, rows in tensors.items()
    )
    limits = {one.name: {"least": one.least, "most": one.most} for one in interface.dimensions}
    inputs = ", ".join(str(row["name"]) for row in tensors["inputs"])
    outputs = ", ".join(str(row["name"]) for row in tensors["outputs"])
    words = {
        "PREFIX": interface.prefix, "WASM": json.dumps(wasm_name)[1:-1], "URL": quote(wasm_name),
        "ABI": str(ABI_VERSION), "ALIGNMENT": str(ALIGNMENT),
        "TENSORS": f"{{\n{lines},\n}}", "DIMENSIONS": json.dumps(limits),
        "CALL": f"const {{ {outputs} }} = {interface.prefix}.run({{ {inputs} }});",
    }
    text = _TEMPLATE
    for word, replacement in words.items():
        text = text.replace(f"@{word}@", replacement)
    return text


def _tensor(interface: Interface, field: Field) -> dict[str, object]:
    buffer = field.buffer
    about: dict[str, object] = {
        "name": field.field, "dtype": buffer.dtype, "shape": list(buffer.shape), "size": buffer.size
    }
    if field.rows is not None:
        about["rows"] = interface.dimensions[field.rows].name
    return about

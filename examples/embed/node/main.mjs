// Reads one digit, 64 float32 numbers in a file, with the exported classifier as WebAssembly.
// node main.mjs FOLDER FILE: the folder has digits.mjs and digits.wasm.
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { argv, exit } from "node:process";
import { pathToFileURL } from "node:url";

if (argv.length !== 4) {
  console.error("usage: node main.mjs FOLDER FILE (of 64 float32 numbers)");
  exit(2);
}
const { default: load } = await import(pathToFileURL(resolve(argv[2], "digits.mjs")));
const digits = await load();
digits.selftest();
const bytes = readFileSync(argv[3]);
const image = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
const { probabilities, digit } = digits.run({ image });
console.log(`this is a ${digit[0]} (probability ${probabilities[Number(digit[0])].toFixed(3)})`);

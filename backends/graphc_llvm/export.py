"""Export: a program as an object file and a C header, for programs that know nothing of Python.

The object holds pure functions over the caller's memory: no allocation, no writable data, no undefined symbol, each
symbol with the prefix. With prefix P:

    int64_t     P_workspace_bytes(void);
    int32_t     P_run(const P_inputs *, const P_params *, P_outputs *, void *workspace, size_t workspace_bytes);
    const char *P_strerror(int32_t status);

The structs hold bare pointers to row-major arrays in the order of declaration; a group without fields is an
incomplete type, for which NULL is passed. The workspace is 64-byte aligned. The code is what the JIT runs for the
same target, so the results are the same bits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphc.backend import Options
from graphc.errors import ExportError
from graphc.ir.extent import format_shape
from graphc.program import ALIGNMENT, Buffer, Program
from graphc_llvm.emit import I32, I64, PTR, Builder, Module, Type, Value
from graphc_llvm.jit import compile_object
from graphc_llvm.layout import Layout
from graphc_llvm.lower import lower
from graphc_llvm.target import Target, host_target, named_target

STATUS = (
    ("OK", "success"),
    ("BAD_INDEX", "an index is outside its axis"),
    ("NULL", "a pointer is null"),
    ("WORKSPACE_TOO_SMALL", "the workspace is smaller than workspace_bytes() says"),
    ("WORKSPACE_MISALIGNED", f"the workspace is not {ALIGNMENT}-byte aligned"),
)
"""Status codes from 0 up: the suffix of the macro and what strerror says."""

_C_TYPES = {
    "float32": "float",
    "float64": "double",
    "int32": "int32_t",
    "int64": "int64_t",
    "uint32": "uint32_t",
    "bool": "uint8_t",
}
_C_WORDS = frozenset(
    "auto break case char const continue default do double else enum extern float for goto if inline int long register "
    "restrict return short signed sizeof static struct switch typedef union unsigned void volatile while "
    "and or not xor bool class delete false friend namespace new operator private protected public template this "
    "throw true try typename using virtual".split()
)


def export_program(
    program: Program,
    path: str,
    values: Mapping[str, NDArray[Any]],
    options: Options,
    cpu: str | None = None,
    weights: str = "embed",
) -> list[str]:
    """Write `path`.o and `path`.h; returns both names.

    values: the params' and states' arrays by name. cpu: a processor's name (None: the function's own). weights:
    "embed" puts them into the object as read-only data (not for a program that updates them), "pass" has the caller
    pass pointers in P_params.
    """
    if weights not in ("embed", "pass"):
        raise ExportError(f'export: weights is "embed" or "pass", not {weights!r}')
    if weights == "embed" and program.updates:
        raise ExportError('export: a program that updates its params needs weights="pass"')
    base = Path(path)
    prefix = re.sub(r"\W", "_", base.name)
    if not prefix or prefix[0].isdigit() or prefix in _C_WORDS:
        raise ExportError(f"export: {base.name!r} cannot be the prefix of C names")
    target = _target(cpu or options.cpu)
    exporter = _Exporter(program, prefix, values if weights == "embed" else {}, target, options.winograd)
    base.parent.mkdir(parents=True, exist_ok=True)
    written = [base.with_name(base.name + ".o"), base.with_name(base.name + ".h")]
    written[0].write_bytes(compile_object(exporter.module.text(), target))
    written[1].write_text(exporter.header(), encoding="utf-8")
    return [str(one) for one in written]


def _target(cpu: str) -> Target:
    try:
        return host_target() if cpu == "native" else named_target(cpu)
    except ValueError as error:
        raise ExportError(f"export: cpu: {error}") from None


class _Exporter:
    def __init__(
        self, program: Program, prefix: str, embedded: Mapping[str, NDArray[Any]], target: Target, winograd: bool
    ) -> None:
        self.program, self.prefix = program, prefix
        self.module: Module
        self.layout: Layout
        entry = f"{prefix}_entry"
        self.module, self.layout = lower(program, target, entry=entry, linkage="internal", winograd=winograd)
        buffers = [program.by_name[name] for name in program.inputs]
        self.inputs = [buffer for buffer in buffers if buffer.kind == "input"]
        variables = [buffer for buffer in buffers if buffer.kind != "input"]
        self.embedded = {buffer.name: embedded[buffer.name] for buffer in variables if buffer.name in embedded}
        self.params = [buffer for buffer in variables if buffer.name not in self.embedded]
        self.outputs = [program.by_name[name] for name in program.outputs]
        self._run()
        self._workspace_bytes()
        self._strerror()

    def _run(self) -> None:
        names = ("inputs", "params", "outputs", "workspace")
        b = self.module.function(
            f"{self.prefix}_run", [*((name, PTR) for name in names), ("workspace_bytes", I64)], I32
        )
        inputs, params, outputs, workspace, size = b.params
        pointers: dict[str, Value] = {}
        for group, fields in ((inputs, self.inputs), (params, self.params), (outputs, self.outputs)):
            if not fields:
                continue
            _refuse(b, b.icmp("eq", group, Value("null", PTR)), "NULL")
            for position, buffer in enumerate(fields):
                pointer = b.load(b.gep(group, position, "ptr"), PTR, align=4)
                if buffer.size:
                    _refuse(b, b.icmp("eq", pointer, Value("null", PTR)), "NULL")
                pointers[self.program.root(buffer.name).name] = pointer
        _refuse(b, b.icmp("eq", workspace, Value("null", PTR)), "NULL")
        _refuse(b, b.icmp("ult", size, self.layout.arena_bytes), "WORKSPACE_TOO_SMALL")
        address = b.emit(f"ptrtoint ptr {workspace.text} to i64", I64)
        _refuse(b, b.icmp("ne", b.and_(address, ALIGNMENT - 1), 0), "WORKSPACE_MISALIGNED")
        for name, array in self.embedded.items():
            pointers[name] = self._data(name, array)
        for name in self.layout.constants:
            value = self.program.by_name[name].value
            assert value is not None
            pointers[name] = self._data(name, value)
        order = (*self.layout.inputs, *self.layout.outputs, *self.layout.constants)
        table = b.alloca("ptr", max(len(order), 1))
        for position, name in enumerate(order):
            b.lines.append(f"  store ptr {pointers[name].text}, ptr {b.gep(table, position, 'ptr').text}, align 4")
        status = b.call(f"{self.prefix}_entry", I64, [table, workspace])
        b.ret(b.trunc(status, I32))

    def _data(self, name: str, value: NDArray[Any]) -> Value:
        """Read-only data with the array's bytes."""
        content = np.ascontiguousarray(value, dtype=self.program.by_name[name].dtype).tobytes()
        text = "".join(f"\\{byte:02X}" for byte in content)
        symbol = f"{self.prefix}_data_{name}"
        self.module.define_bytes(symbol, len(content), text)
        return Value(f"@{symbol}", PTR)

    def _workspace_bytes(self) -> None:
        b = self.module.function(f"{self.prefix}_workspace_bytes", [], I64)
        b.ret(b.const(I64, self.layout.arena_bytes))

    def _strerror(self) -> None:
        b = self.module.function(f"{self.prefix}_strerror", [("status", I32)], PTR)
        (status,) = b.params
        for code, (_, text) in enumerate(STATUS):
            with b.if_(b.icmp("eq", status, code)):
                b.ret(self._text(code, text))
                b.start_block(b.new_label("unreachable"))
        b.ret(self._text(len(STATUS), "unknown status"))

    def _text(self, code: int, text: str) -> Value:
        return self.module.global_array(f"{self.prefix}_text_{code}", [*text.encode(), 0], "i8", align=1)

    def header(self) -> str:
        """The C header."""
        prefix, guard = self.prefix, f"{self.prefix.upper()}_H"
        lines = [
            f"/* {prefix}: made by graphc. Row-major arrays; see the comments for shapes. */",
            f"#ifndef {guard}",
            f"#define {guard}",
            "",
            "#include <stddef.h>",
            "#include <stdint.h>",
            "",
            "#ifdef __cplusplus",
            'extern "C" {',
            "#endif",
            "",
        ]
        lines += [f"#define {prefix.upper()}_{name} {code}" for code, (name, _) in enumerate(STATUS)]
        lines += ["", f"#define {prefix.upper()}_WORKSPACE_BYTES {self.layout.arena_bytes}", ""]
        updated = {target for _, target in self.program.updates}
        lines += self._struct("inputs", self.inputs, set())
        lines += self._struct("params", self.params, updated)
        lines += self._struct("outputs", self.outputs, {buffer.name for buffer in self.outputs})
        lines += [
            "/* Bytes that run() needs in its workspace, which must be 64-byte aligned. */",
            f"int64_t {prefix}_workspace_bytes(void);",
            "/* Computes the outputs; 0, or a status that strerror() explains. Reentrant; allocates nothing. */",
            f"int32_t {prefix}_run(const {prefix}_inputs *inputs, const {prefix}_params *params,",
            f"    const {prefix}_outputs *outputs, void *workspace, size_t workspace_bytes);",
            f"const char *{prefix}_strerror(int32_t status);",
            "",
            "#ifdef __cplusplus",
            "}",
            "#endif",
            "",
            "#endif",
            "",
        ]
        return "\n".join(lines)

    def _struct(self, group: str, fields: Sequence[Buffer], written: set[str]) -> list[str]:
        name = f"{self.prefix}_{group}"
        if not fields:
            return [f"typedef struct {name} {name}; /* no fields: pass NULL */", ""]
        lines = [f"typedef struct {name} {{"]
        for buffer in fields:
            const = "" if buffer.name in written else "const "
            field = f"{buffer.name}_" if buffer.name in _C_WORDS else buffer.name
            shape = format_shape(buffer.shape)
            lines.append(f"    {const}{_C_TYPES[buffer.dtype]} *{field}; /* {buffer.dtype}{shape} */")
        return [*lines, f"}} {name};", ""]


def _refuse(b: Builder, condition: Value, name: str) -> None:
    code = [status for status, _ in STATUS].index(name)
    with b.if_(condition):
        b.ret(b.const(Type("i32"), code))
        b.start_block(b.new_label("unreachable"))

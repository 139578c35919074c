"""Export: a program as an object file and a C header, for programs that know nothing of Python.

The object holds pure functions over the caller's memory: no allocation, no writable data, no undefined symbol (but for
threads, where they were asked for), each symbol with the prefix. With prefix P:

    int32_t     P_run(const P_inputs *, const P_params *, const P_outputs *, void *workspace, size_t workspace_bytes);
    int64_t     P_workspace_bytes(void);
    const P_tensor_info *P_describe(int32_t kind, int32_t i);
    const char *P_strerror(int32_t status);
    int32_t     P_selftest(void *workspace, size_t workspace_bytes);
    int64_t     P_selftest_bytes(void);
    const char *P_version(void);
    int32_t     P_abi_version(void);
    int32_t     P_threads_start(int32_t threads);   (these two only where threads were asked for: `export_threads`)
    void        P_threads_stop(void);

The structs hold bare pointers to row-major arrays in the order of declaration; a group without fields is an
incomplete type, for which NULL is passed. The workspace is 64-byte aligned. The kernels are what the JIT runs for the
same target, so the results are the same bits; only the entry around them differs. docs/embedding.md has it all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from graphc.backend import Exported, Options
from graphc.errors import ExportError
from graphc.files import write_aside
from graphc.phased import PhasedProgram
from graphc.program import Program
from graphc_llvm.emit import Module, Value
from graphc_llvm.export_archive import static_library
from graphc_llvm.export_elf import code_and_data, with_data
from graphc_llvm.export_entry import emit_run
from graphc_llvm.export_header import header
from graphc_llvm.export_interface import Interface, interface_of
from graphc_llvm.export_link import COMPILERS, TOOLS, find_linker, shared_library
from graphc_llvm.export_loader import python_loader
from graphc_llvm.export_metadata import emit_metadata, text_data
from graphc_llvm.export_names import is_prefix
from graphc_llvm.export_needs import note, run_time_functions
from graphc_llvm.export_recorded import Run, record
from graphc_llvm.export_selftest import emit_selftest
from graphc_llvm.export_threads import FUNCTIONS as THREAD_FUNCTIONS
from graphc_llvm.export_threads import checked_threads, emit_threads
from graphc_llvm.jit import compile_object
from graphc_llvm.lower import lower
from graphc_llvm.target import Target, host_target, target_named

FORMATS: Final = ("o", "h", "a", "so", "wasm")
LOADERS: Final = {"python": "so", "javascript": "wasm"}
"""Loaders, and the form that each one loads."""

_FAR: Final = 64 * 1024  # bytes of an array from which on it is not written as LLVM's text, three letters a byte
_FUNCTIONS: Final = (
    "run", "workspace_bytes", "describe", "strerror", "selftest", "selftest_bytes", "version", "abi_version",
)


def export_program(
    program: Program | PhasedProgram,
    path: str,
    values: Mapping[str, NDArray[Any]],
    options: Options,
    run: Run,
    names: Mapping[str, str],
    output_names: Sequence[str],
    weights: str | None = None,
    formats: Sequence[str] | None = None,
    loader: str | None = None,
    target: str | None = None,
    cpu: str | None = None,
    threads: int = 1,
) -> Exported:
    """Write the files of a program; see `graphc.compiler.Function.export` for the options.

    program: where dimensions are arguments of calls, for the sizes that the self-test is to have. values: the params'
    and states' arrays by buffer. run: the program here. names: what the user calls inputs, params
    and states, by buffer; output_names: and outputs, in order.
    """
    if weights is None:
        weights = "pass" if program.updates else "embed"
    if weights not in ("embed", "pass"):
        raise ExportError(f'export: weights is "embed" or "pass", not {weights!r}')
    if weights == "embed" and program.updates:
        updated = names.get(program.updates[0][1], program.updates[0][1])
        raise ExportError(f'export: {program.name} updates {updated}: that needs weights="pass", not "embed"')
    base, prefix = _base(path)
    embedded = dict(values) if weights == "embed" else {}
    machine = _target(target, cpu or (options.cpu if target is None else None))
    wanted = _wanted(formats, loader, machine)
    most = checked_threads(threads, machine)
    far: dict[str, bytes] | None = {} if _is_elf(machine) else None
    module, interface, tested = exported_module(
        program, prefix, embedded, machine, options.winograd, run, names, output_names, most, far
    )
    content = compile_object(module.text(), machine, outer=f"{prefix}_run")
    if far:
        content = with_data(content, far)
    needs = run_time_functions(content)
    made = {f"{base.name}.o": content, f"{base.name}.h": header(interface, tested, needs).encode()}
    functions = [f"{prefix}_{name}" for name in (*_FUNCTIONS, *(THREAD_FUNCTIONS if most > 1 else ()))]
    left_out: list[str] = []
    if "a" in wanted:
        made[f"{base.name}.a"] = static_library(prefix, content, functions)
    if "wasm" in wanted:
        from graphc_llvm.wasm import link  # only those who export for it need it

        made[f"{base.name}.wasm"] = link(content, functions)
    if "so" in wanted:
        # Not P.so: Python would take that for the module P, before P.py. And -lP finds libP.so.
        name = f"lib{base.name}.so"
        try:
            made[name] = _shared(content, name, machine, most > 1)
        except ExportError as error:
            if formats is not None or loader is not None:
                raise
            left_out.append(f"{name} is left out: {error.message.removeprefix('export: ')}")
    if loader == "javascript":
        from graphc_llvm.wasm_loader import javascript_loader  # as above

        made[f"{base.name}.mjs"] = javascript_loader(interface, f"{base.name}.wasm").encode()
    elif loader is not None:
        made[f"{base.name}.py"] = python_loader(interface, f"lib{base.name}.so").encode()
    written = _write(base.parent, made)
    code, data = code_and_data(content) or (0, 0)
    return Exported(written, left_out, code, data, [note(f"{base.name}.o", needs)] if needs else [])


def exported_module(
    program: Program | PhasedProgram,
    prefix: str,
    embedded: Mapping[str, NDArray[Any]],
    target: Target,
    winograd: bool,
    run: Run,
    names: Mapping[str, str],
    output_names: Sequence[str],
    threads: int,
    far: dict[str, bytes] | None = None,
) -> tuple[Module, Interface, Interface]:
    """The kernels with the entry points around them, their interface, and that for the self-test's sizes. embedded: the
    params and states that become read-only data. far: gets the bytes of large ones by symbol, which are then zeros in
    the module (None: all bytes are in it). threads: the most that a call may use."""
    module, layout = lower(
        program, target, entry=f"{prefix}_entry", linkage="internal", threads=threads, winograd=winograd
    )
    passed = [
        name for name in program.inputs if program.by_name[name].kind != "input" and name not in embedded
    ]
    tested = interface_of(program, prefix, passed, names, output_names, layout, target.pointer_bits, threads)
    interface = tested
    if isinstance(program, PhasedProgram):
        whole = program.open
        interface = interface_of(whole, prefix, passed, names, output_names, layout, target.pointer_bits, threads)
    arrays = dict(embedded)
    cells = {dimension.cell for dimension in interface.dimensions}
    for name in layout.constants:
        value = program.by_name[name].value
        assert value is not None
        if name not in cells:
            arrays[name] = value
    data: dict[str, Value] = {}
    for name, array in arrays.items():
        content = np.ascontiguousarray(array, dtype=program.by_name[name].dtype).tobytes()
        symbol = f"{prefix}_data_{name}"
        if far is not None and len(content) >= _FAR:
            far[symbol] = content
            data[name] = module.define_zeros(symbol, len(content))
        else:
            data[name] = text_data(module, symbol, content)
    emit_run(module, target, interface, layout, data)
    if threads > 1:
        emit_threads(module, interface)
    emit_metadata(module, target, interface)
    emit_selftest(module, target, tested, record(tested, embedded, run))
    return module, interface, tested


def _base(path: str) -> tuple[Path, str]:
    """The path without an ending, and the prefix of all names."""
    base = Path(path)
    prefix = re.sub(r"[^A-Za-z0-9]", "_", base.name)
    if not is_prefix(prefix):
        raise ExportError(
            f"export: {base.name!r} cannot be the prefix of C names: it must begin with a letter, and be no word of C, "
            "C++, Rust or Python"
        )
    return base, prefix


def _wanted(formats: Sequence[str] | None, loader: str | None, target: Target) -> list[str]:
    """The files to make, beside .o and .h, which are always."""
    is_wasm = target.triple.startswith("wasm")
    given = (("a", "wasm") if is_wasm else ("a", "so")) if formats is None else formats
    wanted = [one.removeprefix(".") for one in ([given] if isinstance(given, str) else given)]
    for one in wanted:
        if one not in FORMATS:
            raise ExportError(f"export: there is no format {one!r}; there are {', '.join(FORMATS)}")
    if loader is not None:
        if loader not in LOADERS:
            raise ExportError(f"export: there is no loader {loader!r}; there are {', '.join(LOADERS)}")
        wanted.append(LOADERS[loader])
    if "wasm" in wanted and not is_wasm:
        raise ExportError(f'export: a .wasm needs target="wasm32"; the target is {target.name}')
    return wanted


def _is_elf(target: Target) -> bool:
    """Whether its object files are ELF: what those of Linux and of machines without a system are."""
    return target.triple.split("-")[2] in ("linux", "none")


def _shared(content: bytes, name: str, target: Target, has_threads: bool) -> bytes:
    if target.triple.split("-")[0] != host_target().triple.split("-")[0] or not target.has_system:
        raise ExportError(f"export: a shared library for {target.name} cannot be linked on this machine")
    tools, what = (COMPILERS, "a C compiler") if has_threads else (TOOLS, "a C compiler or a linker")
    tool = find_linker(tools)
    if tool is None:
        raise ExportError(f"export: it needs {what}, and none of {', '.join(tools)} is on the PATH")
    return shared_library(tool, content, name, has_threads)


def _write(folder: Path, made: Mapping[str, bytes]) -> list[str]:
    """Each file whole or not at all."""
    written: list[str] = []
    for name, content in made.items():
        path = folder / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_aside(path, _writer(content))
        except OSError as error:
            raise ExportError(f"export: {path} cannot be written: {error.strerror or error}") from None
        written.append(str(path))
    return written


def _writer(content: bytes) -> Callable[[Any], None]:
    def write(file: Any) -> None:
        file.write(content)

    return write


def _target(target: str | None, cpu: str | None) -> Target:
    try:
        return target_named(target, cpu)
    except ValueError as error:
        raise ExportError(f"export: {error}") from None

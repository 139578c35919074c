"""From IR text to object code, and from object code to callable addresses.

Objects are position-independent with the small code model: the one form that the JIT, the disk cache and an
exported archive can all use. They are loaded through LLJIT with JITLink, which reports a damaged object or a
missing symbol as an error where the older engines crash. llvmlite is imported on first use because the
import costs 28 ms.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Final

from graphc_llvm.archive import MAGIC, pack, unpack
from graphc_llvm.target import Target

# Code generation level 1: on IR that is already tidy as fast as level 2, and quicker to compile.
CODEGEN_LEVEL: Final = 1
# IR passes that `passes=` may name, from llvmlite's pass manager.
PASSES: Final = {
    "sroa": "add_sroa_pass",
    "instcombine": "add_instruction_combine_pass",
    "gvn": "add_new_gvn_pass",
    "simplifycfg": "add_simplify_cfg_pass",
    "dce": "add_aggressive_dce_pass",
    "loop-rotate": "add_loop_rotate_pass",
}
# ELF's numbers of processors (e_machine; System V ABI, chapter 4), by the first word of LLVM's triples.
_MACHINES: Final = {"x86_64": 62, "aarch64": 183, "riscv64": 243}
_library_numbers = itertools.count()


@cache
def _binding() -> Any:
    """llvmlite.binding with this machine's code generator registered (lazy: see the module's docstring)."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm


@cache
def _target_machine(target: Target) -> Any:
    return _new_machine(target)


def _new_machine(target: Target) -> Any:
    llvm = _binding()
    try:
        made = llvm.Target.from_triple(target.triple)
    except RuntimeError:  # another architecture: to register all of them takes 1 ms
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()
        made = llvm.Target.from_triple(target.triple)
    return made.create_target_machine(
        cpu=target.cpu, features=target.features, opt=CODEGEN_LEVEL, reloc=target.relocation, codemodel="small",
        abiname=target.abi_name,
    )


def _parsed(ir_text: str, target: Target, passes: Sequence[str], context: Any = None) -> Any:
    llvm, machine = _binding(), _target_machine(target)
    try:
        module = llvm.parse_assembly(ir_text, context)
        module.verify()
    except RuntimeError as error:
        raise RuntimeError(f"the emitted LLVM IR is not valid: {error}") from error
    module.triple = target.triple
    module.data_layout = str(machine.target_data)
    if passes:
        manager = llvm.create_new_module_pass_manager()
        for name in passes:
            getattr(manager, PASSES[name])()
        options = llvm.create_pipeline_tuning_options(speed_level=1)
        manager.run(module, llvm.create_pass_builder(machine, options))
    return module


def compile_object(ir_text: str, target: Target, passes: Sequence[str] = (), outer: str | None = None) -> bytes:
    """Compile IR text to a relocatable object file; no IR pass runs but those named (see PASSES).

    outer: a function; what it calls with the attribute `alwaysinline` becomes a part of it, and what both keep on the
    stack, values. Other functions stay as they are.

    Raises RuntimeError with LLVM's message when the text does not parse or verify.
    """
    module = _parsed(ir_text, target, passes)
    if outer is not None:
        _inline(module, target, outer)
    return bytes(_target_machine(target).emit_object(module))


def _inline(module: Any, target: Target, outer: str) -> None:
    llvm = _binding()
    builder = llvm.create_pass_builder(_target_machine(target), llvm.create_pipeline_tuning_options(speed_level=1))
    inliner, promoter = llvm.create_new_module_pass_manager(), llvm.create_new_function_pass_manager()
    inliner.add_always_inliner_pass()
    inliner.run(module, builder)
    promoter.add_sroa_pass()
    promoter.run(module.get_function(outer), builder)


class Compilation:
    """Modules that refer to one another, compiled side by side while more are made, to one object or an archive of
    objects; `load` takes either.

    llvmlite lets one thread at a time into LLVM. LLVM itself needs that only for what threads share, and these share
    nothing: each has a context and a target machine of its own. So code generation is called past llvmlite's lock; with
    an llvmlite in which that function is not where it was, one module is compiled after another.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._function = getattr(_binding().ffi.lib.LLVMPY_TargetMachineEmitToMemory, "_cfn", None)
        self._texts: list[str] = []
        self._found: dict[int, bytes | BaseException] = {}
        self._waiting: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._workers: list[threading.Thread] = []

    def add(self, text: str) -> None:
        """One more module, but not the last."""
        self._texts.append(text)
        self._waiting.put(len(self._texts) - 1)
        if self._function is not None and len(self._workers) < min(len(self._texts), _processors() - 1):
            self._workers.append(threading.Thread(target=self._work))
            self._workers[-1].start()

    def finish(self, text: str) -> bytes:
        """The code, with the last module. Raises what `compile_object` does."""
        if not self._texts:
            return compile_object(text, self._target)
        self._texts.append(text)
        self._waiting.put(len(self._texts) - 1)
        for _ in range(len(self._workers) + 1):
            self._waiting.put(None)
        self._work()
        for worker in self._workers:
            worker.join()
        objects = [self._found[number] for number in range(len(self._texts))]
        for one in objects:
            if isinstance(one, BaseException):
                raise one
        return pack({f"{number}.o": one for number, one in enumerate(objects) if isinstance(one, bytes)})

    def _work(self) -> None:
        if self._function is None:
            while (number := self._waiting.get()) is not None:
                self._keep(number, lambda text: compile_object(text, self._target))
            return
        machine, context = _new_machine(self._target), _binding().create_context()

        def emit(text: str) -> bytes:
            module = _parsed(text, self._target, (), context)
            try:
                return _emitted(self._function, machine, module)
            finally:
                module.close()  # at once: to dispose of a module after its context would crash

        while (number := self._waiting.get()) is not None:
            self._keep(number, emit)
        context.close()

    def _keep(self, number: int, compiled: Callable[[str], bytes]) -> None:
        try:
            self._found[number] = compiled(self._texts[number])
        except RuntimeError as error:  # a new one: this one's frames hold modules
            self._found[number] = RuntimeError(str(error))
        except BaseException as error:
            self._found[number] = error.with_traceback(None)


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _emitted(function: Any, machine: Any, module: Any) -> bytes:
    """What `machine.emit_object(module)` gives, from the bare function."""
    llvm = _binding()
    lib = llvm.ffi.lib
    with llvm.ffi.OutputString() as message:
        buffer = function(machine._ptr, module._ptr, 1, message)
        if not buffer:
            raise RuntimeError(str(message))
    try:
        return ctypes.string_at(lib.LLVMPY_GetBufferStart(buffer), lib.LLVMPY_GetBufferSize(buffer))
    finally:
        lib.LLVMPY_DisposeMemoryBuffer(buffer)


def compile_assembly(ir_text: str, target: Target, passes: Sequence[str] = ()) -> str:
    """The same code as `compile_object`, as the target's assembly text."""
    return str(_target_machine(target).emit_assembly(_parsed(ir_text, target, passes)))


def object_symbols(object_bytes: bytes) -> tuple[list[str], list[str]]:
    """(defined global, undefined) symbol names of an ELF64 little-endian object; ValueError for another
    format.
    """
    data = object_bytes
    if data[:6] != b"\x7fELF\x02\x01":
        raise ValueError("not a 64-bit little-endian ELF object")

    def number(at: int, size: int) -> int:
        return int.from_bytes(data[at:at + size], "little")

    headers, count = number(0x28, 8), number(0x3C, 2)
    defined: list[str] = []
    undefined: list[str] = []
    for section in range(headers, headers + 64 * count, 64):
        if number(section + 4, 4) != 2:  # SHT_SYMTAB
            continue
        names = number(headers + 64 * number(section + 40, 4) + 24, 8)
        begin, size = number(section + 24, 8), number(section + 32, 8)
        for entry in range(begin + 24, begin + size, 24):
            at = names + number(entry, 4)
            name = data[at:data.index(b"\0", at)].decode()
            if number(entry + 6, 2) == 0:
                undefined.append(name)
            elif data[entry + 4] >> 4 != 0:  # not STB_LOCAL
                defined.append(name)
    return sorted(defined), sorted(undefined)


@cache
def _engine() -> Any:
    """The process's one LLJIT; it is never closed, because code may run until the process ends."""
    return _binding().create_lljit_compiler(use_jit_link=True)


class Library:
    """Loaded object code.  Its addresses are valid while it, or something that holds it, is alive."""

    def __init__(self, tracker: Any, addresses: dict[str, int], needed: Sequence[Library]) -> None:
        self._tracker = tracker
        self._needed = tuple(needed)  # kept: their code is called from here
        self.name: str = tracker.name
        self._addresses = addresses

    @property
    def symbols(self) -> frozenset[str]:
        """The names that the object defines and exports."""
        return frozenset(self._addresses)

    def address(self, symbol: str) -> int:
        """The address of a function or global that the object defines; KeyError when it defines none such."""
        known = self._addresses.get(symbol)
        if known is None:
            try:
                held = _engine().lookup(self.name, symbol)
            except RuntimeError as error:
                raise KeyError(f"the loaded object defines no symbol {symbol!r}: {error}") from error
            known = self._addresses[symbol] = int(held[symbol])
        return known


def _objects(object_bytes: bytes) -> list[bytes]:
    if not object_bytes.startswith(MAGIC):
        return [object_bytes]
    try:
        return list(unpack(object_bytes).values())
    except ValueError as error:
        raise RuntimeError(f"the object code cannot be loaded: {error}") from error


def load(
    object_bytes: bytes, symbols: Mapping[str, int] | None = None, libraries: Sequence[Library] = (), *,
    process_symbols: bool = True,
) -> Library:
    """Load an object, or an archive of objects, into this process.

    Undefined symbols are bound to `symbols` (name to address), to the symbols of other `libraries`, then,
    unless `process_symbols` is false, to those of this process (the C library). Raises RuntimeError that
    names them when one stays undefined, and for bytes that are no object for this machine.
    """
    llvm, engine = _binding(), _engine()  # before the engine exists, no symbol of the process is found
    machine = _MACHINES.get(llvm.get_process_triple().split("-")[0])
    builder = llvm.JITLibraryBuilder()
    exported: list[str] = []
    undefined: list[str] = []
    for one in _objects(object_bytes):
        if machine and one[:4] == b"\x7fELF" and one[18:20] != machine.to_bytes(2, "little"):
            raise RuntimeError("the object code is for another processor")  # LLVM would load it
        builder.add_object_img(one)
        try:
            symbols_of_one = object_symbols(one)
        except (ValueError, IndexError, UnicodeDecodeError):  # another format, or damaged: LLVM will tell
            continue
        exported += symbols_of_one[0]
        undefined += symbols_of_one[1]
    undefined = [name for name in undefined if name not in exported]
    provided = set(symbols or ()).union(*(library.symbols for library in libraries))
    missing = [
        name for name in undefined
        if name not in provided and not (process_symbols and llvm.address_of_symbol(name))
    ]
    if missing:
        raise RuntimeError(f"the object code needs symbols that nothing defines: {', '.join(missing)}")
    for name, address in (symbols or {}).items():
        builder.import_symbol(name, address)
    for library in libraries:
        builder.add_jit_library(library.name)
    if process_symbols:
        builder.add_current_process()
    for name in exported:
        builder.export_symbol(name)
    try:
        tracker = builder.link(engine, f"graphc{next(_library_numbers)}")
    except RuntimeError as error:
        raise RuntimeError(f"the object code cannot be loaded: {error}") from error
    return Library(tracker, {name: int(tracker[name]) for name in exported}, libraries)

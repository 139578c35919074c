"""Calls that need no Python: a native function in front of a Python one, which it calls for anything unusual.

The function is a CPython fast-call entry, the same machine code for all programs (`fastcall_code`), compiled once: what
a program takes, where its memory is and what it gives are records (`fastcall_layout`, `fastcall_entry`), which the
function follows. So a program's own code knows nothing of Python, takes no longer to compile for it, and may be kept on
disk for any process.

    builtin --self--> _Caller --> FastCalls --> Entry, Entry, ...     the programs that a call tries
                         |
                         `------> slow                                what it calls when none takes the arguments

Arrows own what they point to, and nothing points back: dropping the function frees all of it.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final

from numpy.typing import NDArray

from graphc.backend import Executable
from graphc_llvm import fastcall_layout as records
from graphc_llvm.cached import Code, cached
from graphc_llvm.executable import LlvmExecutable
from graphc_llvm.fastcall_entry import Entry
from graphc_llvm.jit import Library, compile_object, load
from graphc_llvm.target import host_target

_FLAGS: Final = 0x0080 | 0x0002  # METH_FASTCALL | METH_KEYWORDS (CPython's Include/methodobject.h)
_DOC: Final = b"call($self, /, *arguments)\n--\n\nThe outputs for these arguments."


class FastCalls:
    """See `graphc.backend.FastCalls`."""

    def __init__(self) -> None:
        self.record = records.ChainRecord()
        self._entries: list[Entry] = []
        self._turn = 0
        self._lock = threading.Lock()

    def add(self, executable: Executable, variables: Sequence[NDArray[Any]], single: bool) -> None:
        """From now on calls try the executable; when there are MOST_ENTRIES, then instead of the one that was added
        before all others."""
        assert isinstance(executable, LlvmExecutable)
        entry = executable.fast_entry(variables, single)
        if entry in self._entries:
            return
        with self._lock:
            if len(self._entries) < records.MOST_ENTRIES:
                place = len(self._entries)
                self._entries.append(entry)
            else:
                place, self._turn = self._turn, (self._turn + 1) % records.MOST_ENTRIES
                self._entries[place] = entry
            self.record.entries[place] = ctypes.addressof(entry.record)
            self.record.count = len(self._entries)

    def before(self, slow: Callable[..., Any]) -> Callable[..., Any]:
        """A builtin function that tries the executables, and calls `slow` when none takes the arguments."""
        prototype = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p)
        new_function = prototype(("PyCFunction_NewEx", ctypes.pythonapi))
        definition = _definition()
        made: Callable[..., Any] = new_function(ctypes.addressof(definition), _Caller(self, slow, definition), None)
        return made


class _Definition(ctypes.Structure):
    """CPython's PyMethodDef; `code` holds what `function` points into."""

    _fields_ = (
        ("name", ctypes.c_char_p), ("function", ctypes.c_void_p), ("flags", ctypes.c_int), ("doc", ctypes.c_char_p),
    )
    code: Library


class _Caller(records.CallerRecord):
    """The builtin's `self`: it owns what the record and the builtin hold bare addresses of."""

    def __init__(self, calls: FastCalls, slow: Callable[..., Any], definition: _Definition) -> None:
        super().__init__(ctypes.addressof(calls.record), id(slow))
        self._owned = calls, slow, definition


_loading = threading.Lock()
_definitions: Final[list[_Definition]] = []  # one at most


def _definition() -> _Definition:
    with _loading:
        if not _definitions:
            _definitions.append(_loaded())
        return _definitions[0]


def _loaded() -> _Definition:
    target = host_target()

    def compiled() -> Code:
        from graphc_llvm.fastcall_code import fast_call_text  # lazy: code from the disk cache needs none

        return Code(compile_object(fast_call_text(target), target), {})

    def loaded(code: Code) -> tuple[Library, int]:
        library = load(code.object_bytes, records.symbols(), process_symbols=False)
        return library, library.address(records.CALL)

    library, address = cached(("fast call", target), "calls without Python", compiled, loaded)
    definition = _Definition(b"call", address, _FLAGS, _DOC)
    definition.code = library
    return definition

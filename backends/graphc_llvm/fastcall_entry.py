"""One compiled program as the native call sees it: the records of its arguments and results, and their memory."""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from graphc.phased import PhasedProgram
from graphc.program import ALIGNMENT, Buffer, Program
from graphc_llvm import fastcall_layout as records
from graphc_llvm.estimate import nanoseconds
from graphc_llvm.layout import Layout
from graphc_llvm.memory import KEPT_BYTES, KEPT_FROM, aligned_bytes

SLOTS: Final = 2
"""Earlier results that are kept for each output: the one that the caller still holds while it calls again, and the one
before."""

LONG_NANOSECONDS: Final = 10_000
"""From this estimate on a program runs without the interpreter lock. To release it and take it again costs 40 ns when
nobody else wants it, but up to Python's switch interval, 5 ms, when another thread took it."""

_POINTER: Final = ctypes.sizeof(ctypes.c_void_p)


def takes_long(program: Program | PhasedProgram) -> bool:
    """Whether the program is worth the interpreter lock's release."""
    if isinstance(program, Program):
        return nanoseconds(program) >= LONG_NANOSECONDS
    return sum(nanoseconds(part) for _, part, _, _ in program.calls()) >= LONG_NANOSECONDS


class Entry:
    """`record` is what the native function follows; the entry owns all that the record points to.

    code: the address of the program's function, in `library`. constants: its constants, in the layout's order.
    variables: the arrays of its params and states, which are the last of its inputs; they stay where they are.
    single: whether a call gives its one output, and not a tuple.
    """

    def __init__(
        self, program: Program | PhasedProgram, layout: Layout, code: int, library: object,
        constants: Sequence[NDArray[Any]], variables: Sequence[NDArray[Any]], single: bool,
    ) -> None:
        self._owned: list[object] = [library, *constants, *variables]
        inputs = [program.by_name[name] for name in layout.inputs[: len(layout.inputs) - len(variables)]]
        outputs = [program.by_name[name] for name in program.outputs]
        assert layout.outputs == tuple(program.root(name).name for name in program.outputs)  # each has its own memory
        self.record = record = records.EntryRecord()
        record.argument_count, record.arguments = len(inputs), self._arguments(inputs)
        record.result_count, record.results = len(outputs), self._results(outputs)
        table = [0] * len(inputs) + [each.ctypes.data for each in variables]
        table += [0] * len(outputs) + [each.ctypes.data for each in constants]
        record.table = self._own((ctypes.c_void_p * len(table))(*table))
        record.result_table = record.table + _POINTER * len(layout.inputs)
        arena = aligned_bytes(layout.arena_bytes)
        self._owned.append(arena)
        record.arena, record.code = arena.ctypes.data, code
        record.releases_lock, record.single = takes_long(program), single
        _entries.add(self)

    def _own(self, memory: ctypes.Array[Any]) -> int:
        """The address of memory that lives as long as this entry."""
        self._owned.append(memory)
        return ctypes.addressof(memory)

    def _describe(self, record: Any, buffer: Buffer) -> None:
        dtype = np.dtype(buffer.dtype)
        self._owned.append(dtype)
        record.dtype, record.rank = id(dtype), len(buffer.shape)
        record.dimensions = self._own((ctypes.c_int64 * len(buffer.shape))(*buffer.shape))

    def _arguments(self, inputs: Sequence[Buffer]) -> int:
        arguments = (records.ArgumentRecord * len(inputs))()
        for argument, buffer in zip(arguments, inputs, strict=True):
            self._describe(argument, buffer)
            if not buffer.shape:
                argument.kind, argument.scalar = records.KINDS[buffer.dtype], id(np.dtype(buffer.dtype).type)
        return self._own(arguments)

    def _results(self, outputs: Sequence[Buffer]) -> int:
        """Their slots are the items of a list, which so owns what the native function puts there; first, None."""
        counts, left = [0] * len(outputs), KEPT_BYTES
        for _ in range(SLOTS):
            for number, buffer in enumerate(outputs):
                if buffer.nbytes <= left:
                    left -= buffer.nbytes
                    counts[number] += 1
        slots: list[object] = [None] * sum(counts)
        self._owned.append(slots)
        address = records.pointer_at(slots, records.LIST_ITEMS)
        results = (records.ResultRecord * len(outputs))()
        for result, buffer, count in zip(results, outputs, counts, strict=True):
            self._describe(result, buffer)
            result.raw_bytes = buffer.nbytes + ALIGNMENT if buffer.nbytes >= KEPT_FROM else 0
            result.slots, result.slot_count = address, count
            address += _POINTER * count
        return self._own(results)


_entries: Final[weakref.WeakSet[Entry]] = weakref.WeakSet()


def _forget_other_threads() -> None:
    """A forked child has one thread, which runs no program now: none is busy."""
    for entry in list(_entries):
        entry.record.busy = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_other_threads)

"""Phased programs (`graphc.phased`) as native code: one entry around the entries of the blocks' programs.

The entry is called as any program's is (`graphc_llvm.lower`): its table has the inputs, the outputs and the constants,
among which are the sizes of the dimensions. Its arena holds

    the status record
    the temporaries without rows
    for each thread the number of a block's first row, and the arena of a block's program
    the temporaries with rows, each from the next cache line on

A size that is one block may have a program of the whole. Otherwise each phase sets its sums to the reducers' identities
and goes over the blocks, which threads share where nothing is summed; a table's places of arrays with rows are moved on
from block to block, the others stand. No code knows a size, so that it is the same for all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from graphc.phased import FIRST_ROW, Phase, PhasedProgram
from graphc.program import ALIGNMENT, Buffer, Program
from graphc_llvm.bodies import memory_kind
from graphc_llvm.emit import I64, PTR, Builder, Module, Type, Value
from graphc_llvm.estimate import nanoseconds
from graphc_llvm.layout import Layout
from graphc_llvm.lower import MAY_FAIL, SHORT_ENTRY, STATUS_BYTES, Lowering
from graphc_llvm.parallel import COLD, parallel_for
from graphc_llvm.reducers import Reducer
from graphc_llvm.target import Target

_STATUS_NUMBERS = 3  # status, index, extent
_MOST_EVEN = 8  # threads that get as many blocks each; for more, some may have one less
_WORTH_SHARING = 5000  # nanoseconds of a block, about what it costs to wake a thread


def lower_phases(
    program: PhasedProgram,
    target: Target,
    entry: str,
    linkage: str,
    threads: int,
    winograd: bool,
    after_kernel: Callable[[Module], None] | None,
) -> tuple[Module, Layout]:
    """The module of a phased program, and how to call it, as `graphc_llvm.lower.lower` gives them."""
    module = Module(target, threads)
    parts: dict[Program, Part] = {}
    for number, phase in enumerate(program.all_phases()):
        for length, part in phase.programs:
            name = f"{entry}_{number}_{length}"
            lowering = Lowering(part, target, name, winograd, module)
            fails = any(kernel.kind in MAY_FAIL for kernel in lowering.kernels)
            parts[part] = Part(name, lowering.layout(after_kernel, "internal"), fails)
    return module, _Emitter(module, target, program.open, parts).emit(entry, linkage)


class Part:
    """A block's program that was lowered: its entry, how to call it, and whether it may fail."""

    def __init__(self, entry: str, layout: Layout, may_fail: bool) -> None:
        self.entry, self.layout, self.may_fail = entry, layout, may_fail

class _Emitter:
    """The entry, over a program whose buffers are for one row of each dimension."""

    def __init__(self, module: Module, target: Target, program: PhasedProgram, parts: Mapping[Program, Part]) -> None:
        self.module, self.target, self.program, self.parts = module, target, program, parts
        constants = tuple(buffer.name for buffer in program.buffers if buffer.value is not None)
        self.table = (*program.inputs, *program.outputs, *constants)
        self.constants = constants
        self.offsets: dict[str, int] = {}
        self.growing: list[Buffer] = []
        offset = STATUS_BYTES
        for buffer in program.buffers:
            if buffer.kind == "temporary" and buffer.name in program.rows:
                self.growing.append(buffer)
            elif buffer.kind == "temporary":
                self.offsets[buffer.name] = offset
                offset += _aligned(buffer.nbytes)
        arena = max((part.layout.arena_bytes for part in parts.values()), default=0)
        self.slots_at = offset
        self.slot_bytes = ALIGNMENT + _aligned(arena)
        self.fixed_bytes = self.slots_at + module.threads * self.slot_bytes

    def emit(self, entry: str, linkage: str) -> Layout:
        b = self.module.function(entry, [("buffers", PTR), ("arena", PTR)], I64, linkage=linkage)
        if any(part.may_fail for part in self.parts.values()):
            b.store(b.const(I64, 0), b.params[1])
        at = _Addresses(self, b, *b.params)
        if (whole := self.program.whole) is not None:
            for number, (length, _) in enumerate(whole.programs):
                with b.if_(b.icmp("eq", at.sizes[str(whole.dimension)], length)):
                    self._call(b, whole, number, at, b.const(I64, 0))
                    b.ret(b.const(I64, 0))
                    b.start_block(b.new_label("unreachable"))
        for order, phase in enumerate(self.program.phases):
            for name, reducer in phase.sums:
                self._fill(b, self.program.by_name[name], reducer, at.of[name])
            if phase.dimension is None:
                self._call(b, phase, 0, at, None)
            else:
                self._over_blocks(b, phase, f"{entry}_{order}", at, at.sizes[phase.dimension])
        b.ret(b.const(I64, 0))
        growing = tuple((self.program.rows[buffer.name], buffer.nbytes) for buffer in self.growing)
        return Layout(self.program.inputs, self.program.outputs, self.constants, self.fixed_bytes, growing=growing)

    def _over_blocks(self, b: Builder, phase: Phase, name: str, at: _Addresses, size: Value) -> None:
        first: Value = b.const(I64, 0)
        *longer, last = range(len(phase.programs))
        if longer:  # one row alone should not have to pass by all of them
            with b.if_(b.icmp("sge", size, phase.programs[longer[-1]][0]), [first]) as several:
                for number in longer:
                    first = self._of_one_length(b, phase, number, name, at, size, first)
                several.yield_([first])
            (first,) = several.results
        self._of_one_length(b, phase, last, name, at, size, first)

    def _of_one_length(
        self, b: Builder, phase: Phase, number: int, name: str, at: _Addresses, size: Value, start: Value
    ) -> Value:
        """As many blocks of one length as there are from row `start` on; gives the first row that is left over."""
        length, part = phase.programs[number]
        count = b.lshr(b.sub(size, start), length.bit_length() - 1)  # lengths are powers of two
        first = b.add(start, b.mul(count, length))
        begin, threads = start, self.module.threads
        if threads > 1 and not phase.sums and not self.parts[part].may_fail and nanoseconds(part) >= _WORTH_SHARING:
            # As many blocks for each thread; they share what is within those that are left.
            shared = b.sub(count, b.rem(count, min(threads, _MOST_EVEN)))
            with b.if_(b.icmp("ne", shared, 0)):
                self._shared(b, phase, number, f"{name}_{length}_blocks", at, start, shared)
            begin = b.add(start, b.mul(shared, length))
        self._in_order(b, phase, number, at, begin, first)
        if phase.again[number]:
            enough = b.icmp("sge", b.sub(size, first), phase.again[number])
            with b.if_(b.and_(enough, b.icmp("sge", size, length)), [first]) as branch:
                self._call(b, phase, number, at, b.sub(size, length))
                branch.yield_([size])
            (first,) = branch.results
        return first

    def _in_order(self, b: Builder, phase: Phase, number: int, at: _Addresses, start: Value, stop: Value) -> None:
        """One block after another."""
        with b.loop(start, stop, phase.programs[number][0], name="block") as blocks:
            self._call(b, phase, number, at, blocks.index)

    def _shared(
        self, b: Builder, phase: Phase, number: int, name: str, at: _Addresses, start: Value, count: Value
    ) -> None:
        """Blocks shared by threads, each of which has an arena of its own."""
        length = phase.programs[number][0]

        def block(task_function: Builder, task: Value, slot: Value, live: list[Value]) -> None:
            table, arena, begin = live
            its = _Addresses(self, task_function, table, arena, slot)
            first = task_function.add(begin, task_function.mul(task, length))
            self._call(task_function, phase, number, its, first)

        parallel_for(b, name, count, [at.table, at.arena, start], block, COLD)

    def _call(self, b: Builder, phase: Phase, number: int, at: _Addresses, first: Value | None) -> None:
        """Call the program of a block that begins at row `first`."""
        part = phase.programs[number][1]
        lowered = self.parts[part]
        named = dict(zip(part.inputs, phase.reads, strict=True))
        named |= dict(zip((part.root(name).name for name in part.outputs), phase.writes, strict=True))
        constants = [buffer.name for buffer in part.buffers if buffer.kind == "constant" and buffer.alias is None]
        named |= dict(zip(constants, phase.constants[number], strict=True))
        layout, inner = lowered.layout, b.gep(at.slot, ALIGNMENT, "i8")
        order = (*layout.inputs, *layout.outputs, *layout.constants)
        table = b.alloca("ptr", max(len(order), 1), align=16)
        for place, name in enumerate(order):
            if named[name] == FIRST_ROW:
                assert first is not None
                pointer = at.slot
                b.store(first, pointer)
            else:
                pointer = at.of[named[name]]
                if first is not None and self.program.rows.get(named[name]) == phase.dimension:
                    pointer = b.gep(pointer, b.mul(first, self.program.by_name[named[name]].nbytes), "i8")
            b.store(pointer, b.gep(table, place, "ptr"), align=4)
        is_short = len(self.module.functions[lowered.entry].lines) <= SHORT_ENTRY
        attribute = " alwaysinline" if is_short and phase.programs[number][0] == 1 else ""  # see jit.compile_object
        status = b.emit(f"call i64 @{lowered.entry}(ptr {table.text}, ptr {inner.text}){attribute}", I64)
        if lowered.may_fail:
            with b.if_(b.icmp("ne", status, 0)):
                for number in range(_STATUS_NUMBERS):
                    b.store(b.load(b.gep(inner, number, "i64"), I64), b.gep(at.arena, number, "i64"))
                b.ret(status)
                b.start_block(b.new_label("unreachable"))

    def _fill(self, b: Builder, buffer: Buffer, reducer: str, pointer: Value) -> None:
        """Set each element to what combines to nothing."""
        number = Reducer(reducer, buffer.dtype).identity_number
        kind = memory_kind(buffer.dtype)
        lanes = self.target.lanes(kind)
        whole = buffer.size - buffer.size % lanes
        for start, stop, type_ in ((0, whole, Type(kind, lanes)), (whole, buffer.size, Type(kind))):
            if start < stop:
                with b.loop(start, stop, type_.lanes or 1, name="fill") as loop:
                    b.store(b.const(type_, number), b.gep(pointer, loop.index, kind))


class _Addresses:
    """Where everything is, in a function that has the addresses of the table and the arena: `of` each buffer, the
    `sizes` of the dimensions, and the memory of one thread, `slot`."""

    def __init__(
        self, emitter: _Emitter, b: Builder, table: Value, arena: Value, slot: Value | None = None
    ) -> None:
        self.table, self.arena = table, arena
        self.of = {
            name: b.load(b.gep(table, place, "ptr"), PTR, align=4) for place, name in enumerate(emitter.table)
        }
        program = emitter.program
        self.sizes = {name: b.load(self.of[cell], I64) for name, cell, _ in program.dimensions}
        for name, offset in emitter.offsets.items():
            self.of[name] = b.gep(arena, offset, "i8")
        self.slot = b.gep(arena, emitter.slots_at, "i8")
        if slot is not None:
            self.slot = b.gep(self.slot, b.mul(slot, emitter.slot_bytes), "i8")
        end = b.gep(arena, emitter.fixed_bytes, "i8")
        for buffer in emitter.growing:
            self.of[buffer.name] = end
            size = b.mul(self.sizes[program.rows[buffer.name]], buffer.nbytes)
            end = b.gep(end, b.and_(b.add(size, ALIGNMENT - 1), -ALIGNMENT), "i8")


def _aligned(size: int) -> int:
    return -(-max(size, 1) // ALIGNMENT) * ALIGNMENT

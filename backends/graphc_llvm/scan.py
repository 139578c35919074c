"""Kernels of kind `scan`: a loop around the code of one step, which is a program of its own.

The step is lowered as any program is, to an entry `i64 STEP(ptr table, ptr arena)`. The kernel's workspace holds

    the step's pointer table    inputs, then outputs
    two places for each output that is carried and not stacked
    the step's arena

In each round the table gets the addresses of this round's slices and places; nothing is copied but the last value of
what is carried. A carried value is read where the round before left it: in its slice of a stack, or in the one of its
two places that this round does not write. A step that fails (an index outside its axis) leaves the record of it in the
step's arena; the kernel hands it on and stops.
"""

from __future__ import annotations

from typing import NamedTuple

from graphc.program import ALIGNMENT, Kernel, Loop, Program
from graphc_llvm.emit import I64, PTR, Builder, Module, Value
from graphc_llvm.kernel_code import KernelCode
from graphc_llvm.layout import Layout
from graphc_llvm.target import Target

POINTER_BYTES = 8
"""Room for an address; those of 32-bit targets leave half of it unused."""


class Step(NamedTuple):
    """A step that was lowered: its entry, and how to call it."""

    entry: str
    layout: Layout


def emit_scan(
    module: Module, target: Target, program: Program, kernel: Kernel, name: str, step: Step, workspace_at: int
) -> KernelCode:
    """Emit the kernel as a function. Its last argument is the arena of the call, which begins with the status record;
    the workspace lies at `workspace_at` bytes behind that."""
    loop = kernel.loop
    assert loop is not None
    reads, writes = kernel.stages[0].reads, [stage.write for stage in kernel.stages]
    roots = tuple(dict.fromkeys(program.root(one).name for one in (*reads, *writes)))
    params = [*((f"b{number}", PTR) for number in range(len(roots))), ("arena", PTR)]
    b = module.function(name, params, linkage="internal")
    at = dict(zip(roots, b.params, strict=False))
    emitter = _Emitter(b, target, loop, step, [at[program.root(one).name] for one in reads])
    emitter.emit([at[program.root(one).name] for one in writes], workspace_at)
    b.ret()
    return KernelCode(name, roots, emitter.workspace_bytes)


class _Emitter:
    def __init__(self, b: Builder, target: Target, loop: Loop, step: Step, operands: list[Value]) -> None:
        self.b, self.target, self.loop, self.step, self.operands = b, target, loop, step, operands
        self.outputs = step.layout.outputs
        """The buffers of the outputs, in the table's order."""
        self.number = {name: number for number, name in enumerate(self.outputs)}
        root = loop.program.root
        self.places = [self.number[root(name).name] for name in loop.program.outputs]
        self.stacked = {
            self.places[place]: stage
            for stage, (place, final) in enumerate(zip(loop.results, loop.finals, strict=True))
            if final < 0
        }
        self.slots: dict[int, int] = {}  # by output that is not stacked: the offset of its two places
        offset = _aligned(POINTER_BYTES * (len(step.layout.inputs) + len(self.outputs)))
        for place, name in enumerate(self.outputs):
            if place not in self.stacked:
                self.slots[place] = offset
                offset += 2 * self._room(name)
        self.arena_at = offset
        self.workspace_bytes = offset + step.layout.arena_bytes

    def _room(self, name: str) -> int:
        return _aligned(max(self.loop.program.by_name[name].nbytes, 1))

    def emit(self, results: list[Value], workspace_at: int) -> None:
        b, loop = self.b, self.loop
        arena = b.params[-1]
        workspace = b.gep(arena, workspace_at, "i8")
        inner = b.gep(workspace, self.arena_at, "i8")
        for place in range(loop.carried + loop.sliced, len(self.operands)):
            self._set(workspace, place, self.operands[place])
        inputs = loop.program.inputs
        with b.loop(0, loop.length, name="step", carried=self.operands[: loop.carried]) as steps:
            t = b.sub(loop.length - 1, steps.index) if loop.reverse else steps.index
            for place, carried in enumerate(steps.carried):
                self._set(workspace, place, carried)
            for place in range(loop.carried, loop.carried + loop.sliced):
                array = b.gep(self.operands[place], b.mul(t, loop.program.by_name[inputs[place]].nbytes), "i8")
                self._set(workspace, place, array)
            written: list[Value] = []
            for place, name in enumerate(self.outputs):
                if place in self.stacked:
                    start = results[self.stacked[place]]
                    to = b.gep(start, b.mul(t, loop.program.by_name[name].nbytes), "i8")
                else:
                    parity = b.mul(b.and_(steps.index, 1), self._room(name))
                    to = b.gep(b.gep(workspace, self.slots[place], "i8"), parity, "i8")
                written.append(to)
                self._set(workspace, len(inputs) + place, to)
            self._call(workspace, inner, arena)
            steps.yield_([written[self.places[place]] for place in loop.following])
        for stage, final in enumerate(loop.finals):
            if final >= 0:
                self._copy(inputs[final], steps.results[final], results[stage])

    def _set(self, table: Value, place: int, pointer: Value) -> None:
        self.b.store(pointer, self.b.gep(table, place, "ptr"), align=4)

    def _call(self, table: Value, inner: Value, arena: Value) -> None:
        b = self.b
        status = b.call(self.step.entry, I64, [table, inner])
        with b.if_(b.icmp("ne", status, 0)):
            for number in range(3):  # status, index, extent
                b.store(b.load(b.gep(inner, number, "i64"), I64), b.gep(arena, number, "i64"))
            b.ret()
            b.start_block(b.new_label("unreachable"))

    def _copy(self, name: str, source: Value, target: Value) -> None:
        from graphc_llvm.lower import copy_bytes  # which imports this module when it meets a loop

        copy_bytes(self.b, self.target, self.loop.program.by_name[name].nbytes, source, target)


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT

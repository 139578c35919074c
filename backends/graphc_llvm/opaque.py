"""Kernels of kind `opaque`: take, scatter_add, cumsum and checked as scalar loops.

Indices are checked before anything is moved: a kernel that finds one outside its axis stores it in the status record
of the call (see `lower`) and returns; the caller then stops before anything of the user's is written.
"""

from __future__ import annotations

import math

from graphc.ir.node import Opaque
from graphc.program import Kernel, Program
from graphc_llvm.bodies import memory_kind
from graphc_llvm.emit import I64, PTR, Builder, Module, Type, Value
from graphc_llvm.kernel_code import KernelCode

BAD_INDEX = 1
"""Status of a call that met an index outside its axis; the record holds (status, index, extent)."""


def emit_opaque(module: Module, program: Program, kernel: Kernel, name: str) -> KernelCode:
    """Emit the kernel as a function; its workspace begins with the call's status record (three i64)."""
    stage = kernel.stages[0]
    node = stage.node
    assert isinstance(node, Opaque)
    roots = tuple(dict.fromkeys(program.root(one).name for one in (*stage.reads, stage.write)))
    params = [*((f"b{number}", PTR) for number in range(len(roots))), ("status", PTR)]
    b = module.function(name, params, linkage="internal")
    at = dict(zip(roots, b.params, strict=False))
    pointers = [at[program.root(one).name] for one in (*stage.reads, stage.write)]
    if node.op == "cumsum":
        _cumsum(b, program, node, stage.reads[0], pointers)
    elif node.op == "checked":
        _checked(b, program, node, stage.reads[0], pointers)
    else:
        _indexed(b, program, node, stage.reads, pointers, b.params[-1])
    b.ret()
    return KernelCode(name, roots, 0)


def _blocks(shape: tuple[int, ...], axis: int) -> tuple[int, int, int]:
    """(slices before the axis, its extent, elements after it)"""
    return math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])


def _cumsum(b: Builder, program: Program, node: Opaque, source: str, pointers: list[Value]) -> None:
    buffer = program.by_name[source]
    before, extent, after = _blocks(buffer.shape, node.attribute("axis"))
    kind = memory_kind(buffer.dtype)
    if not before * extent * after:
        return
    with b.loop(0, before, name="row") as row, b.loop(0, after, name="column") as column:
        base = b.add(b.mul(row.index, extent * after), column.index)
        zero = b.const(Type(kind), 0)
        with b.loop(0, extent, name="step", carried=[zero]) as step:
            place = b.sub(extent - 1, step.index) if node.attribute("reverse") else step.index
            where = b.add(base, b.mul(place, after))
            total = b.add(step.carried[0], b.load(b.gep(pointers[0], where, kind), Type(kind)))
            b.store(total, b.gep(pointers[1], where, kind))
            step.yield_([total])


def _indexed(
    b: Builder, program: Program, node: Opaque, reads: tuple[str, ...], pointers: list[Value], status: Value
) -> None:
    """take copies slices from their index, scatter_add adds them at theirs."""
    data, indices = program.by_name[reads[0]], program.by_name[reads[1]]
    axis = node.attribute("axis")
    is_take = node.op == "take"
    full = data.shape if is_take else tuple(e for e in node.shape if isinstance(e, int))
    before, extent, after = _blocks(full, axis)
    index_kind, kind = memory_kind(indices.dtype), memory_kind(data.dtype)
    if not is_take:
        with b.loop(0, before * extent * after, name="clear") as clear:
            b.store(b.const(Type(kind), 0), b.gep(pointers[2], clear.index, kind))
    with b.loop(0, indices.size, name="check") as check:
        _refuse_outside(b, _index(b, pointers[1], check.index, index_kind), extent, status)
    if not data.size or not indices.size:
        return
    with b.loop(0, before, name="row") as row, b.loop(0, indices.size, name="index") as at:
        index = _index(b, pointers[1], at.index, index_kind)
        slot = b.add(b.mul(row.index, indices.size), at.index)
        entry = b.add(b.mul(row.index, extent), index)
        source, target = (entry, slot) if is_take else (slot, entry)
        with b.loop(0, after, name="element") as element:
            where = b.add(b.mul(source, after), element.index)
            value = b.load(b.gep(pointers[0], where, kind), Type(kind))
            place = b.gep(pointers[2], b.add(b.mul(target, after), element.index), kind)
            if not is_take:
                value = b.add(b.load(place, Type(kind)), value)
            b.store(value, place)


def _checked(b: Builder, program: Program, node: Opaque, source: str, pointers: list[Value]) -> None:
    buffer = program.by_name[source]
    kind = memory_kind(buffer.dtype)
    with b.loop(0, buffer.size, name="check") as check:
        value = b.load(b.gep(pointers[0], check.index, kind), Type(kind))
        index = value if kind == "i64" else b.sext(value, I64)
        _refuse_outside(b, index, node.attribute("extent"), b.params[-1])
        b.store(value, b.gep(pointers[1], check.index, kind))


def _refuse_outside(b: Builder, index: Value, extent: int, status: Value) -> None:
    """Return with a record of an index that lies outside its axis."""
    with b.if_(b.icmp("uge", index, extent)):
        for position, value in enumerate((b.const(I64, BAD_INDEX), index, b.const(I64, extent))):
            b.store(value, b.gep(status, position, "i64"))
        b.ret()
        b.start_block(b.new_label("unreachable"))


def _index(b: Builder, pointer: Value, where: Value, kind: str) -> Value:
    loaded = b.load(b.gep(pointer, where, kind), Type(kind))
    return loaded if kind == "i64" else b.sext(loaded, I64)

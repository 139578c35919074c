"""The entry point `P_run`: every argument is checked, then the kernels are called.

The checks have no branch for each argument: conditions are collected, and tested once for each kind of error. Whatever
is written is compared with all other memory: a few pairs of address ranges in a row, many in a loop, a vector of them
at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.program import ALIGNMENT
from graphc_llvm.emit import I32, I64, PTR, Builder, Module, Type, Value
from graphc_llvm.export_interface import GROUPS, Field, Interface, status_code
from graphc_llvm.layout import Layout
from graphc_llvm.target import Target

_NULL = Value("null", PTR)
_FEW_PAIRS = 32  # are compared in a row, four instructions each; more are compared in a loop
_BEHIND_ALL, _BEFORE_ALL = 2**63 - 1, -1  # the first and the last byte of nothing


def size_type(target: Target) -> Type:
    """C's size_t."""
    return I64 if target.pointer_bits == 64 else I32


def emit_run(module: Module, target: Target, interface: Interface, layout: Layout, data: dict[str, Value]) -> None:
    """`P_run`. data: the pointers of the program's constants and embedded weights, by buffer."""
    prefix = interface.prefix
    params = [*((group, PTR) for group in GROUPS), *((f"dimension{i}", I64) for i in range(len(interface.dimensions)))]
    params += [("workspace", PTR), ("workspace_bytes", size_type(target))]
    b = module.function(f"{prefix}_run", params, I32)
    groups, (workspace, size) = dict(zip(GROUPS, b.params, strict=False)), b.params[-2:]
    pointers = dict(data)
    given: list[tuple[Field, Value]] = []
    for group in GROUPS:
        if interface.fields[group]:
            refuse(b, b.icmp("eq", groups[group], _NULL), "NULL")
        for position, field in enumerate(interface.fields[group]):
            pointers[field.root] = b.load(b.gep(groups[group], position, "ptr"), PTR, align=4)
            if field.buffer.size:  # the address of nothing may be anything
                given.append((field, pointers[field.root]))
    addresses = [_address(b, pointer) for _, pointer in given]
    _check_pointers(b, [field for field, _ in given], addresses)
    check_workspace(b, workspace, size, interface.workspace_bytes)
    _check_overlaps(b, module, target, interface, given, addresses, workspace)
    order = (*layout.inputs, *layout.outputs, *layout.constants)
    table = b.alloca("ptr", max(len(order), 1), align=16)
    for position, name in enumerate(order):
        b.lines.append(f"  store ptr {pointers[name].text}, ptr {b.gep(table, position, 'ptr').text}, align 4")
    b.ret(b.trunc(b.call(f"{prefix}_entry", I64, [table, workspace]), I32))


def refuse(b: Builder, condition: Value, name: str) -> None:
    """Return a status where the condition holds."""
    with b.if_(condition):
        b.ret(b.const(I32, status_code(name)))
        b.start_block(b.new_label("unreachable"))


def check_workspace(b: Builder, workspace: Value, size: Value, needed: int) -> None:
    """Return the status of a workspace that cannot be used."""
    refuse(b, b.icmp("eq", workspace, _NULL), "WORKSPACE_NULL")
    refuse(b, b.icmp("ult", size, needed), "WORKSPACE_TOO_SMALL")
    refuse(b, b.icmp("ne", b.and_(_address(b, workspace), ALIGNMENT - 1), 0), "WORKSPACE_MISALIGNED")


def _address(b: Builder, pointer: Value) -> Value:
    return b.emit(f"ptrtoint ptr {pointer.text} to i64", I64)


def _check_pointers(b: Builder, fields: Sequence[Field], addresses: Sequence[Value]) -> None:
    if not fields:
        return
    is_null = b.icmp("eq", addresses[0], 0)
    low_bits: Value | None = None
    for field, address in zip(fields, addresses, strict=True):
        if address is not addresses[0]:
            is_null = b.or_(is_null, b.icmp("eq", address, 0))
        if field.item_size > 1:
            bits = b.and_(address, field.item_size - 1)
            low_bits = bits if low_bits is None else b.or_(low_bits, bits)
    refuse(b, is_null, "NULL")
    if low_bits is not None:
        refuse(b, b.icmp("ne", low_bits, 0), "MISALIGNED")


def _check_overlaps(
    b: Builder,
    module: Module,
    target: Target,
    interface: Interface,
    given: Sequence[tuple[Field, Value]],
    addresses: Sequence[Value],
    workspace: Value,
) -> None:
    """In a loop, with a table of first bytes and one of last bytes: of the workspace, then of what is written, then of
    what is read, then of nothing, so that the last vector is whole."""
    arguments = list(zip((field for field, _ in given), addresses, strict=True))
    if not arguments:
        return
    lanes = _overlap_lanes(target)
    ranges = [(_address(b, workspace), interface.workspace_bytes)]
    ranges += [(address, field.buffer.nbytes) for field, address in arguments if field.is_written]
    written = len(ranges)
    ranges += [(address, field.buffer.nbytes) for field, address in arguments if not field.is_written]
    pairs = [(i, j) for i in range(written) for j in range(i + 1, len(ranges))]
    if len(pairs) <= _FEW_PAIRS:
        with_workspace = len(ranges) - 1
        _check_pairs(b, ranges, pairs[:with_workspace], "WORKSPACE_OVERLAP")
        _check_pairs(b, ranges, pairs[with_workspace:], "OVERLAP")
        return
    room = len(ranges) + lanes - 1
    firsts, lasts = b.alloca("i64", room, align=16), b.alloca("i64", room, align=16)
    for position in range(room):
        start, end = b.const(I64, _BEHIND_ALL), b.const(I64, _BEFORE_ALL)
        if position < len(ranges):
            start = ranges[position][0]
            end = b.add(start, ranges[position][1] - 1)
        b.store(start, b.gep(firsts, position, "i64"))
        b.store(end, b.gep(lasts, position, "i64"))
    name = f"{interface.prefix}_overlap"
    _emit_overlap(module, lanes, name)
    count = b.const(I64, len(ranges))
    with b.if_(b.icmp("ne", b.call(name, I32, [firsts, lasts, b.const(I64, written), count]), 0)):
        of_workspace = b.call(name, I32, [firsts, lasts, b.const(I64, 1), count])
        code, other = (b.const(I32, status_code(status)) for status in ("WORKSPACE_OVERLAP", "OVERLAP"))
        b.ret(b.select(b.icmp("ne", of_workspace, 0), code, other))
        b.start_block(b.new_label("unreachable"))


def _check_pairs(
    b: Builder, ranges: Sequence[tuple[Value, int]], pairs: Sequence[tuple[int, int]], status: str
) -> None:
    """Refuse where the ranges of a pair overlap. One begins in the other, or the other in it: as unsigned numbers,
    start_j - start_i + bytes_j - 1 < bytes_i + bytes_j - 1."""
    found: Value | None = None
    for i, j in pairs:
        (start, nbytes), (other, other_bytes) = ranges[i], ranges[j]
        distance = b.add(b.sub(other, start), other_bytes - 1)
        both = b.icmp("ult", distance, nbytes + other_bytes - 1)
        found = both if found is None else b.or_(found, both)
    if found is not None:
        refuse(b, found, status)


def _overlap_lanes(target: Target) -> int:
    """Vectors pay from four addresses up, and two 32-bit registers make no vector of addresses."""
    lanes = target.lanes("i64")
    return lanes if lanes >= 4 else 1


def _emit_overlap(module: Module, lanes: int, name: str) -> None:
    """i32 (firsts, lasts, rows, count): whether one of the first `rows` ranges overlaps one behind it. Addresses of
    programs are positive as signed numbers, which every vector unit compares."""
    params = [("firsts", PTR), ("lasts", PTR), ("rows", I64), ("count", I64)]
    b = module.function(name, params, I32, linkage="internal")
    firsts, lasts, rows, count = b.params
    vector = Type("i64", lanes if lanes > 1 else 0)
    none = b.const(vector.mask(), 0)

    def widened(value: Value) -> Value:
        return b.splat(value, lanes) if vector.lanes else value

    with b.loop(0, rows, name="one", carried=[none]) as one:
        first = widened(b.load(b.gep(firsts, one.index, "i64"), I64))
        last = widened(b.load(b.gep(lasts, one.index, "i64"), I64))
        with b.loop(b.add(one.index, 1), count, lanes, name="others", carried=one.carried) as others:
            their_firsts = b.load(b.gep(firsts, others.index, "i64"), vector)
            their_lasts = b.load(b.gep(lasts, others.index, "i64"), vector)
            both = b.and_(b.icmp("sle", their_firsts, last), b.icmp("sle", first, their_lasts))
            others.yield_([b.or_(others.carried[0], both)])
        one.yield_(others.results)
    b.ret(b.zext(b.any_(one.results[0]), I32))

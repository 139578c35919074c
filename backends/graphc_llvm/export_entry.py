"""The entry point `P_run`: every argument is checked, then the kernels are called.

The checks have no branch for each argument: conditions are collected, and tested once for each kind of error. Whatever
is written is compared with all other memory: a few pairs of address ranges in a row, many in a loop, a vector of them
at a time. Where a glance can tell that all is right (`export_glance`), the checks are in a function of their own, which
is called otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

from graphc.program import ALIGNMENT
from graphc_llvm.emit import I32, I64, PTR, Builder, Module, Type, Value
from graphc_llvm.export_glance import Argument, are_right, can_glance
from graphc_llvm.export_interface import GROUPS, Field, Interface, status_code
from graphc_llvm.export_sizes import Sizes, size_params
from graphc_llvm.layout import Layout
from graphc_llvm.lower import SHORT_ENTRY
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
    params = [*((group, PTR) for group in GROUPS), *size_params(interface)]
    params += [("workspace", PTR), ("workspace_bytes", size_type(target))]
    b = module.function(f"{prefix}_run", params, I32)
    pointers, arguments = _arguments(b, interface)
    if not interface.dimensions and can_glance(target, arguments, interface.workspace_bytes):
        careful = module.function(f"{prefix}_careful", params, I32, linkage="internal", attributes="noinline cold")
        its_pointers, its_arguments = _arguments(careful, interface)
        _check(careful, module, target, interface, its_arguments)
        _call(careful, prefix, layout, data | its_pointers)
        workspace, size = b.params[-2:]
        right = are_right(b, arguments, _address(b, workspace), interface.workspace_bytes)
        with b.if_(b.not_(b.and_(right, b.icmp("uge", size, interface.workspace_bytes)))):
            b.ret(b.call(careful.name, I32, b.params))
            b.start_block(b.new_label("unreachable"))
    else:
        _check(b, module, target, interface, arguments)
    pointers |= _sizes(b, interface).cells()
    is_short = len(module.functions[f"{prefix}_entry"].lines) <= SHORT_ENTRY
    _call(b, prefix, layout, data | pointers, is_short or bool(interface.dimensions))


def _call(
    b: Builder, prefix: str, layout: Layout, pointers: dict[str, Value], is_inlined: bool = False
) -> None:
    """Call the kernels, and return their status."""
    order = (*layout.inputs, *layout.outputs, *layout.constants)
    table = b.alloca("ptr", max(len(order), 1), align=16)
    for position, name in enumerate(order):
        b.lines.append(f"  store ptr {pointers[name].text}, ptr {b.gep(table, position, 'ptr').text}, align 4")
    attribute = " alwaysinline" if is_inlined else ""  # see jit.compile_object
    status = b.emit(f"call i64 @{prefix}_entry(ptr {table.text}, ptr {b.params[-2].text}){attribute}", I64)
    b.ret(b.trunc(status, I32))


def _arguments(b: Builder, interface: Interface) -> tuple[dict[str, Value], list[Argument]]:
    """The pointers that the caller passes, by buffer, and those of them that are checked; a struct that is null is
    refused."""
    groups = [(b.params[number], interface.fields[group]) for number, group in enumerate(GROUPS)]
    nulls = [b.icmp("eq", struct, _NULL) for struct, fields in groups if fields]
    if nulls:
        refuse(b, reduce(b.or_, nulls), "NULL")
    pointers: dict[str, Value] = {}
    arguments: list[Argument] = []
    for struct, fields in groups:
        for position, field in enumerate(fields):
            place = b.gep(struct, position, "ptr")
            pointers[field.root] = b.load(place, PTR, align=4)
            if field.buffer.size:  # the address of nothing may be anything
                arguments.append(Argument(field, _address(b, pointers[field.root]), place))
    return pointers, arguments


def _check(b: Builder, module: Module, target: Target, interface: Interface, arguments: Sequence[Argument]) -> None:
    """Return the status of the first thing that is wrong, if anything is."""
    workspace, size = b.params[-2:]
    sizes = _sizes(b, interface)
    if interface.dimensions:
        refuse(b, sizes.are_wrong(), "BAD_SIZE")
    fields = [argument.field for argument in arguments]
    addresses = [sizes.address(argument.field, argument.address) for argument in arguments]
    _check_pointers(b, fields, addresses)
    needed = sizes.workspace_bytes()
    check_workspace(b, workspace, size, needed)
    if arguments:
        ranges = [_Range(address, sizes.nbytes(field)) for field, address in zip(fields, addresses, strict=True)]
        written = [one for one, field in zip(ranges, fields, strict=True) if field.is_written]
        read = [one for one, field in zip(ranges, fields, strict=True) if not field.is_written]
        _check_overlaps(b, module, target, interface.prefix, [_Range(_address(b, workspace), needed), *written], read)


def _sizes(b: Builder, interface: Interface) -> Sizes:
    return Sizes(b, interface, b.params[len(GROUPS) : -2])


def refuse(b: Builder, condition: Value, name: str) -> None:
    """Return a status where the condition holds."""
    with b.if_(condition):
        b.ret(b.const(I32, status_code(name)))
        b.start_block(b.new_label("unreachable"))


def check_workspace(b: Builder, workspace: Value, size: Value, needed: Value | int) -> None:
    """Return the status of a workspace that cannot be used."""
    refuse(b, b.icmp("eq", workspace, _NULL), "WORKSPACE_NULL")
    least = b.trunc(needed, size.type) if isinstance(needed, Value) and size.type is I32 else needed
    refuse(b, b.icmp("ult", size, least), "WORKSPACE_TOO_SMALL")
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


class _Range(NamedTuple):
    """Memory: its address and its bytes."""

    start: Value
    nbytes: Value | int


def _check_overlaps(
    b: Builder, module: Module, target: Target, prefix: str, written: Sequence[_Range], read: Sequence[_Range]
) -> None:
    """Refuse where something written, of which the first is the workspace, overlaps anything else. Many are compared in
    a loop, with a table of first bytes and one of last bytes: of what is written, then of what is read, then of
    nothing, so that the last vector is whole."""
    lanes = _overlap_lanes(target)
    ranges = [*written, *read]
    pairs = [(i, j) for i in range(len(written)) for j in range(i + 1, len(ranges))]
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
            start = ranges[position].start
            end = b.add(start, _added(b, ranges[position].nbytes, -1))
        b.store(start, b.gep(firsts, position, "i64"))
        b.store(end, b.gep(lasts, position, "i64"))
    name = f"{prefix}_overlap"
    _emit_overlap(module, lanes, name)
    count = b.const(I64, len(ranges))
    with b.if_(b.icmp("ne", b.call(name, I32, [firsts, lasts, b.const(I64, len(written)), count]), 0)):
        of_workspace = b.call(name, I32, [firsts, lasts, b.const(I64, 1), count])
        code, other = (b.const(I32, status_code(status)) for status in ("WORKSPACE_OVERLAP", "OVERLAP"))
        b.ret(b.select(b.icmp("ne", of_workspace, 0), code, other))
        b.start_block(b.new_label("unreachable"))


def _check_pairs(
    b: Builder, ranges: Sequence[_Range], pairs: Sequence[tuple[int, int]], status: str
) -> None:
    """Refuse where the ranges of a pair overlap. One begins in the other, or the other in it: as unsigned numbers,
    start_j - start_i + bytes_j - 1 < bytes_i + bytes_j - 1."""
    found: Value | None = None
    for i, j in pairs:
        (start, nbytes), (other, other_bytes) = ranges[i], ranges[j]
        distance = b.add(b.sub(other, start), _added(b, other_bytes, -1))
        both = b.icmp("ult", distance, _added(b, _added(b, nbytes, other_bytes), -1))
        found = both if found is None else b.or_(found, both)
    if found is not None:
        refuse(b, found, status)


def _added(b: Builder, left: Value | int, right: Value | int) -> Value | int:
    if isinstance(left, int) and isinstance(right, int):
        return left + right
    return b.add(left, right) if isinstance(left, Value) else b.add(right, left)


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

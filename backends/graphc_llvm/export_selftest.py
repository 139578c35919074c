"""The self-test of an exported program: it runs on inputs from a generator, and compares with what was recorded.

    int64_t P_selftest_bytes(void);
    int32_t P_selftest(void *workspace, size_t workspace_bytes);

The workspace holds run's own, then all tensors that the caller passes, which the object's own code fills with what
`export_recorded` describes.
"""

from __future__ import annotations

import numpy as np

from graphc.program import ALIGNMENT, Buffer
from graphc_llvm.bodies import memory_kind
from graphc_llvm.emit import I32, I64, PTR, Builder, Module, Type, Value
from graphc_llvm.export_entry import check_workspace, refuse, size_type
from graphc_llvm.export_interface import GROUPS, Field, Interface
from graphc_llvm.export_metadata import text_data
from graphc_llvm.export_recorded import INCREMENT, MULTIPLIER, TOLERANCE, Recorded, float_range, seed_of, step_of
from graphc_llvm.target import Target


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def selftest_bytes(interface: Interface) -> int:
    """What the self-test needs."""
    arguments = interface.arguments()
    return _aligned(interface.workspace_bytes) + sum(_aligned(field.buffer.nbytes) for _, _, field in arguments)


def emit_selftest(module: Module, target: Target, interface: Interface, recorded: Recorded) -> None:
    """`P_selftest_bytes` and `P_selftest`. interface: for the sizes that the test is for."""
    prefix, needed = interface.prefix, selftest_bytes(interface)
    b = module.function(f"{prefix}_selftest_bytes", [], I64)
    b.ret(b.const(I64, needed))
    size = size_type(target)
    b = module.function(f"{prefix}_selftest", [("workspace", PTR), ("workspace_bytes", size)], I32)
    workspace, given = b.params
    check_workspace(b, workspace, given, needed)
    places: dict[str, Value] = {}
    structs = {group: b.alloca("ptr", max(len(interface.fields[group]), 1), align=16) for group in GROUPS}
    offset = _aligned(interface.workspace_bytes)
    for number, (group, position, field) in enumerate(interface.arguments()):
        place = places[field.root] = b.gep(workspace, offset, "i8")
        offset += _aligned(field.buffer.nbytes)
        b.lines.append(f"  store ptr {place.text}, ptr {b.gep(structs[group], position, 'ptr').text}, align 4")
        if field.buffer.size:
            fill = _fill(module, prefix, field.buffer, recorded.bound)
            b.call(fill, None, [place, b.const(I64, field.buffer.size), b.const(I32, _signed(seed_of(number)))])
    groups = [structs[group] for group in GROUPS]
    own = b.const(size, interface.workspace_bytes)
    status = b.call(f"{prefix}_run", I32, [*groups, *(b.const(I64, one) for one in interface.sizes), workspace, own])
    if recorded.status:
        refuse(b, b.icmp("ne", status, recorded.status), "SELFTEST_FAILED")
        b.ret(b.const(I32, 0))
        return
    with b.if_(b.icmp("ne", status, 0)):
        b.ret(status)
        b.start_block(b.new_label("unreachable"))
    wrong = b.const(I32, 0)
    for _, _, field in interface.arguments():
        if field.is_written and field.buffer.size:
            wrong = b.or_(wrong, _compare(b, module, prefix, field, recorded, places[field.root]))
    refuse(b, b.icmp("ne", wrong, 0), "SELFTEST_FAILED")
    b.ret(b.const(I32, 0))


def _signed(word: int) -> int:
    return word - 2**32 if word >= 2**31 else word


def _fill(module: Module, prefix: str, buffer: Buffer, bound: int) -> str:
    """The name of a function (array, count, seed) that fills as `generated` does."""
    is_float = buffer.dtype in TOLERANCE
    offset, scale = float_range(buffer)
    what = {"param": "params", "state": "states"}.get(buffer.kind, "inputs") if is_float else "inputs"
    name = f"{prefix}_selftest_{what}_{buffer.dtype}"
    if module.has_function(name):
        return name
    kind = memory_kind(buffer.dtype)
    b = module.function(name, [("array", PTR), ("count", I64), ("seed", I32)], linkage="internal")
    array, count, seed = b.params
    with b.loop(0, count, name="element", carried=[seed]) as loop:
        word = b.add(b.mul(loop.carried[0], MULTIPLIER), INCREMENT)
        if is_float:
            value = b.mul(b.sitofp(b.sub(b.lshr(word, 9), offset), Type(kind)), scale)
        else:
            bit = b.and_(b.lshr(word, 31), bound)
            value = b.zext(bit, I64) if kind == "i64" else bit if kind == "i32" else b.trunc(bit, Type(kind))
        b.store(value, b.gep(array, loop.index, kind))
        loop.yield_([word])
    b.ret()
    return name


def _compare(b: Builder, module: Module, prefix: str, field: Field, recorded: Recorded, place: Value) -> Value:
    """An i32: 0 where all that was recorded of a tensor is there."""
    dtype = field.buffer.dtype
    pairs = np.stack([recorded.results[field.root], recorded.tolerances[field.root]], axis=1)
    want = text_data(module, f"{prefix}_selftest_data_{field.field}", pairs.tobytes())
    arguments = [place, want, b.const(I64, len(pairs)), b.const(I64, step_of(field.buffer.size))]
    return b.call(_comparison(module, prefix, dtype), I32, arguments)


def _comparison(module: Module, prefix: str, dtype: str) -> str:
    """The name of a function (array, recorded, count, step); each recorded value is followed by its tolerance."""
    name = f"{prefix}_selftest_compare_{dtype}"
    if module.has_function(name):
        return name
    kind = memory_kind(dtype)
    params = [("array", PTR), ("recorded", PTR), ("count", I64), ("step", I64)]
    b = module.function(name, params, I32, linkage="internal")
    array, recorded, count, step = b.params
    with b.loop(0, count, name="value", carried=[b.const(I32, 0)]) as loop:
        got = b.load(b.gep(array, b.mul(loop.index, step), kind), Type(kind))
        at = b.mul(loop.index, 2)
        want, tolerance = (b.load(b.gep(recorded, b.add(at, one), kind), Type(kind)) for one in (0, 1))
        if dtype in TOLERANCE:
            both_nan = b.and_(b.fcmp("uno", got, got), b.fcmp("uno", want, want))
            near = b.fcmp("ole", b.abs(b.sub(got, want)), tolerance)  # not so for equal infinities
            right = b.or_(b.or_(near, b.fcmp("oeq", got, want)), both_nan)
            right = b.or_(right, b.fcmp("oeq", tolerance, np.inf))
        else:
            right = b.or_(b.icmp("eq", got, want), b.icmp("ne", tolerance, 0))
        loop.yield_([b.or_(loop.carried[0], b.zext(b.not_(right), I32))])
    b.ret(loop.results[0])
    return name

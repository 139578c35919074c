"""The self-test of an exported program: inputs from a generator, and some of the results that they had here.

    int64_t P_selftest_bytes(void);
    int32_t P_selftest(void *workspace, size_t workspace_bytes);

The workspace holds run's own, then all tensors that the caller passes, filled by a generator of integers, so that
nothing but results is recorded: up to 16 of each tensor that is written, evenly spaced. The generator is the linear
congruential one of Numerical Recipes (Press et al., third edition, section 7.1.4), modulo 2^32, begun anew for each
tensor. Of each number 23 bits make a float of [-1, 1) for inputs, of [-1/8, 1/8) for params and of [0, 1/8) for states,
some of which are square-rooted; one bit makes an integer, 0 or 1, which is a label or an index almost everywhere. Where
it is none, integers are 0, and where that is none either, run must say BAD_INDEX.

A result may differ from the recorded one by a part of the greatest recorded one of its tensor: another processor adds
in another order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from graphc.program import ALIGNMENT, Buffer
from graphc_llvm.bodies import memory_kind
from graphc_llvm.emit import I32, I64, PTR, Builder, Module, Type, Value
from graphc_llvm.export_entry import check_workspace, refuse, size_type
from graphc_llvm.export_interface import GROUPS, Field, Interface, status_code
from graphc_llvm.export_metadata import text_data
from graphc_llvm.target import Target

Array = NDArray[Any]
Run = Callable[[Sequence[Array]], Sequence[Array]]

RECORDED: Final = 16  # results of a tensor
TOLERANCE: Final = {"float32": 1e-4, "float64": 1e-9}
_FACTOR, _STEP = 1664525, 1013904223  # Numerical Recipes' "quick and dirty" generator
_SEED: Final = 2654435761  # 2^32 over the golden ratio (Knuth, TAOCP 3, 6.4): seeds far apart
_RANGES: Final = {"param": (1 << 22, 2.0**-25), "state": (0, 2.0**-26)}  # what is taken off 23 bits, and a factor
_INPUT_RANGE: Final = (1 << 22, 2.0**-22)


@dataclass(frozen=True)
class Recorded:
    """What the program did here: its status, and what stood in each tensor that it wrote, by root. `bound` is the
    greatest integer among the inputs."""

    status: int
    bound: int
    results: Mapping[str, Array]


def record(interface: Interface, embedded: Mapping[str, Array], run: Run) -> Recorded:
    """Run the program on the generator's arrays, and on copies of the embedded ones."""
    program = interface.program
    for bound in (1, 0):
        arrays = {name: array.copy() for name, array in embedded.items()}
        for number, (_, _, field) in enumerate(interface.arguments()):
            if field.buffer.name in program.inputs:
                arrays[field.buffer.name] = generated(field.buffer, number, bound)
        try:
            outputs = run([arrays[name] for name in program.inputs])
        except IndexError:
            continue
        written = dict(zip((program.root(name).name for name in program.outputs), outputs, strict=True))
        written.update({target: arrays[target] for _, target in program.updates})
        return Recorded(0, bound, written)
    return Recorded(status_code("BAD_INDEX"), 0, {})


def generated(buffer: Buffer, number: int, bound: int) -> Array:
    """The tensor that the object's own code fills in the same way; `number` counts a call's tensors."""
    factors = np.full(buffer.size, _FACTOR, np.uint32)
    powers = np.cumprod(factors, dtype=np.uint32)
    sums = np.cumsum(np.concatenate([np.ones(1, np.uint32), powers[:-1]]), dtype=np.uint32)[: buffer.size]
    states = powers * np.uint32(_seed(number)) + sums * np.uint32(_STEP)
    if buffer.dtype in TOLERANCE:
        offset, scale = _RANGES.get(buffer.kind, _INPUT_RANGE)
        floats = (states >> np.uint32(9)).astype(np.int32) - np.int32(offset)
        made: Array = floats.astype(buffer.dtype) * np.dtype(buffer.dtype).type(scale)
        return made.reshape(buffer.shape)
    return ((states >> np.uint32(31)) * np.uint32(bound)).astype(buffer.dtype).reshape(buffer.shape)


def _seed(number: int) -> int:
    return _SEED * (number + 1) % 2**32


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def selftest_bytes(interface: Interface) -> int:
    """What the self-test needs."""
    arguments = interface.arguments()
    return _aligned(interface.workspace_bytes) + sum(_aligned(field.buffer.nbytes) for _, _, field in arguments)


def emit_selftest(module: Module, target: Target, interface: Interface, recorded: Recorded) -> None:
    """`P_selftest_bytes` and `P_selftest`."""
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
            b.call(fill, None, [place, b.const(I64, field.buffer.size), b.const(I32, _signed(_seed(number)))])
    groups = [structs[group] for group in GROUPS]
    own = b.const(size, interface.workspace_bytes)
    status = b.call(f"{prefix}_run", I32, [*groups, workspace, own])
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
            wrong = b.or_(wrong, _compare(b, module, prefix, field, recorded.results[field.root], places[field.root]))
    refuse(b, b.icmp("ne", wrong, 0), "SELFTEST_FAILED")
    b.ret(b.const(I32, 0))


def _signed(word: int) -> int:
    return word - 2**32 if word >= 2**31 else word


def _fill(module: Module, prefix: str, buffer: Buffer, bound: int) -> str:
    """The name of a function (array, count, seed) that fills as `generated` does."""
    is_float = buffer.dtype in TOLERANCE
    offset, scale = _RANGES.get(buffer.kind, _INPUT_RANGE)
    what = {"param": "params", "state": "states"}.get(buffer.kind, "inputs") if is_float else "inputs"
    name = f"{prefix}_selftest_{what}_{buffer.dtype}"
    if module.has_function(name):
        return name
    kind = memory_kind(buffer.dtype)
    b = module.function(name, [("array", PTR), ("count", I64), ("seed", I32)], linkage="internal")
    array, count, seed = b.params
    with b.loop(0, count, name="element", carried=[seed]) as loop:
        word = b.add(b.mul(loop.carried[0], _FACTOR), _STEP)
        if is_float:
            value = b.mul(b.sitofp(b.sub(b.lshr(word, 9), offset), Type(kind)), scale)
        else:
            bit = b.and_(b.lshr(word, 31), bound)
            value = b.zext(bit, I64) if kind == "i64" else bit if kind == "i32" else b.trunc(bit, Type(kind))
        b.store(value, b.gep(array, loop.index, kind))
        loop.yield_([word])
    b.ret()
    return name


def _compare(b: Builder, module: Module, prefix: str, field: Field, result: Array, place: Value) -> Value:
    """An i32: 0 where all that was recorded of a tensor is there."""
    dtype = field.buffer.dtype
    flat = result.reshape(-1)
    step = -(-flat.size // RECORDED)
    chosen = flat[::step]
    tolerance = np.zeros(1, dtype)
    if dtype in TOLERANCE:
        finite = np.abs(chosen[np.isfinite(chosen)])
        tolerance[0] = TOLERANCE[dtype] * float(finite.max(initial=0))
    content = np.concatenate([tolerance, chosen]).tobytes()
    want = text_data(module, f"{prefix}_selftest_data_{field.field}", content)
    arguments = [place, want, b.const(I64, len(chosen)), b.const(I64, step)]
    return b.call(_comparison(module, prefix, dtype), I32, arguments)


def _comparison(module: Module, prefix: str, dtype: str) -> str:
    """The name of a function (array, recorded, count, step), whose recorded values follow their tolerance."""
    name = f"{prefix}_selftest_compare_{dtype}"
    if module.has_function(name):
        return name
    kind = memory_kind(dtype)
    params = [("array", PTR), ("recorded", PTR), ("count", I64), ("step", I64)]
    b = module.function(name, params, I32, linkage="internal")
    array, recorded, count, step = b.params
    tolerance = b.load(recorded, Type(kind))
    with b.loop(0, count, name="value", carried=[b.const(I32, 0)]) as loop:
        got = b.load(b.gep(array, b.mul(loop.index, step), kind), Type(kind))
        want = b.load(b.gep(recorded, b.add(loop.index, 1), kind), Type(kind))
        if dtype in TOLERANCE:
            both_nan = b.and_(b.fcmp("uno", got, got), b.fcmp("uno", want, want))
            near = b.fcmp("ole", b.abs(b.sub(got, want)), tolerance)  # not so for equal infinities
            right = b.or_(b.or_(near, b.fcmp("oeq", got, want)), both_nan)
        else:
            right = b.icmp("eq", got, want)
        loop.yield_([b.or_(loop.carried[0], b.zext(b.not_(right), I32))])
    b.ret(loop.results[0])
    return name

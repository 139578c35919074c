"""The glance at a call's arguments: it takes nothing for right that is wrong, and what is right for right."""

from __future__ import annotations

import ctypes
import mmap
import random
from functools import cache

import numpy as np
import pytest

import graphc as gc
from graphc.program import ALIGNMENT, Buffer
from graphc_llvm import jit
from graphc_llvm.emit import I32, I64, PTR, Module
from graphc_llvm.export_glance import Argument, are_right, can_glance
from graphc_llvm.export_interface import Field, status_code
from graphc_llvm.target import host_target, target_named
from tests.backends.llvm.export_support import Raw, aligned

WORKSPACE_BYTES = 192
# Arrays as (dtype, elements, whether it is written), in the order of the caller's struct: with the workspace they fill
# a part of a vector, one, more than one, several.
LAYOUTS = {
    "a few": [("float32", 1, False), ("float32", 4, True), ("int64", 3, False)],
    "a vector": [("float32", 5, k in (2, 5)) for k in range(7)],
    "one more": [("float64" if k % 3 else "bool", 7, k in (0, 7)) for k in range(8)],
    "three vectors": [("float32", 1 + k, k == 16) for k in range(17)],
}
CPUS = ("x86-64-v3", "x86-64-v4")


def runs(cpu):
    """Whether this machine runs code for a level of x86-64."""
    host, target = host_target(), host_target(cpu)
    same = "x86_64" in host.triple and host.has_fma and host.vector_bits >= target.vector_bits
    return same and (host.has_avx512 or not target.has_avx512)


def arguments_of(b, layout):
    """The arguments of a struct that b's first parameter points to."""
    found = []
    for number, (dtype, count, is_written) in enumerate(layout):
        buffer = Buffer(f"a{number}", (count,), dtype, "output" if is_written else "input")
        place = b.gep(b.params[0], number, "ptr")
        address = b.emit(f"ptrtoint ptr {b.load(place, PTR, align=4).text} to i64", I64)
        found.append(Argument(Field(buffer.name, buffer.name, buffer, buffer.name, is_written), address, place))
    return found


@cache
def glance(name, cpu):
    """bool (struct, workspace)."""
    target = host_target(cpu)
    module = Module(target)
    b = module.function("glance", [("struct", PTR), ("workspace", I64)], I32)
    arguments = arguments_of(b, LAYOUTS[name])
    assert can_glance(target, arguments, WORKSPACE_BYTES)
    b.ret(b.zext(are_right(b, arguments, b.params[1], WORKSPACE_BYTES), I32))
    library = jit.load(jit.compile_object(module.text(), target), process_symbols=False)
    called = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_int64)(library.address("glance"))

    def call(addresses, workspace):
        return bool(called((ctypes.c_uint64 * len(addresses))(*addresses), workspace)), library

    return call


def truth(layout, addresses, workspace):
    """Whether a call with these addresses is right, one argument after another."""
    arrays = [(a, np.dtype(dtype).itemsize, n, w) for (dtype, n, w), a in zip(layout, addresses, strict=True)]
    if workspace == 0 or workspace % ALIGNMENT or any(a == 0 or a % item for a, item, _, _ in arrays):
        return False
    ranges = [(workspace, WORKSPACE_BYTES, True), *((a, item * n, w) for a, item, n, w in arrays)]
    return not any(
        (first_written or second_written) and first < second + second_bytes and second < first + first_bytes
        for i, (first, first_bytes, first_written) in enumerate(ranges)
        for second, second_bytes, second_written in ranges[:i]
    )


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("name", LAYOUTS)
def test_it_says_what_one_check_after_another_says(name, cpu):
    if not runs(cpu):
        pytest.skip(f"this processor cannot run code for {cpu}")  # an illegal instruction would end the whole run
    layout, call, rng = LAYOUTS[name], glance(name, cpu), random.Random(0)
    seen = {True: 0, False: 0}
    for trial in range(3000):
        # One after another, in some order, touching here and there; then, mostly, one thing is changed.
        base = rng.choice((64, 2**21, 2**32 - 512, 2**46))
        places, at = {}, base
        for number in rng.sample(range(len(layout) + 1), len(layout) + 1):
            if number == len(layout):
                at = -(-at // ALIGNMENT) * ALIGNMENT
                places[number], at = at, at + WORKSPACE_BYTES
                continue
            item = np.dtype(layout[number][0]).itemsize
            at = -(-at // item) * item
            places[number], at = at, at + item * layout[number][1]
        addresses = [places[number] for number in range(len(layout) + 1)]
        changed = rng.randrange(len(addresses))
        match trial % 4:
            case 0:
                addresses[changed] = 0
            case 1:
                addresses[changed] += rng.choice((-8, -4, -2, -1, 1, 2, 4, 8, 64, -64))
            case 2:
                addresses[changed] = addresses[rng.randrange(len(addresses))]
        *arrays, workspace = addresses
        right = truth(layout, arrays, workspace)
        seen[right] += 1
        is_sure = right and all(address % 2**32 for address in addresses)
        assert call(arrays, workspace)[0] == is_sure, (addresses, right)
    assert min(seen.values()) > 300


def test_where_it_is_made():
    """Where eight low halves of addresses fill a register, and for three arrays or more, but not many, none huge."""
    few = [("float32", 4, False), ("float32", 4, True), ("float32", 4, True)]
    huge = [*few[:2], ("float32", 2**29, False)]
    for name, layout, is_made in (
        ("x86-64-v3", few, True), ("x86-64-v2", few, False), ("aarch64-linux", few, False), ("cortex-m4", few, False),
        ("x86-64-v3", few[:2], False), ("x86-64-v3", huge, False), ("x86-64-v3", few[1:] * 7, True),
        ("x86-64-v3", few[1:] * 8, False),
    ):
        target = target_named(name, None)
        b = Module(target).function("glance", [("struct", PTR), ("workspace", I64)], I32)
        assert can_glance(target, arguments_of(b, layout), 64) == is_made, (name, layout)


@pytest.mark.skipif(not runs("x86-64-v3"), reason="elsewhere the checks are one after another alone")
def test_arrays_4_gib_apart_are_right_although_the_glance_doubts_it(tmp_path):
    x, y = gc.input("x", (4,)), gc.input("y", (4,))
    gc.compile([x, y], [(x + y).named("sum"), (x - y).named("less")], backend="llvm", name="two").export(
        tmp_path / "two", formats=["so"]
    )
    raw = Raw(tmp_path, "two")
    reserve = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
    with mmap.mmap(-1, 2**32 + mmap.PAGESIZE, reserve) as memory:
        far = np.frombuffer(memory, "float32")
        near, behind, other = far[:4], far[2**30 : 2**30 + 4], np.array([4, 3, 2, 1], "float32")
        near[:] = [1, 2, 3, 4]
        less, workspace = np.zeros(4, "float32"), aligned(raw.workspace_bytes)
        inputs = [near.ctypes.data, other.ctypes.data]
        for total, status in ((behind, "OK"), (near, "OVERLAP")):
            outputs = [total.ctypes.data, less.ctypes.data]
            assert raw.run(inputs, None, outputs, workspace.ctypes.data, len(workspace)) == status_code(status)
        np.testing.assert_array_equal(near, [1, 2, 3, 4])
        np.testing.assert_array_equal(behind, [5, 5, 5, 5])
        np.testing.assert_array_equal(less, [-3, -1, 1, 3])
        del far, near, behind, total  # a mapping that arrays still see cannot be closed

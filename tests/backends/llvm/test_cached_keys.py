"""The key of a program's code: it tells apart what differs, and only that; the text of a program in it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc import cache as cache_module
from graphc.config import Config
from graphc.ir import scalar as sc
from graphc.ir.affine import identity
from graphc.ir.graph import Graph
from graphc.ir.node import Generic, Input
from graphc.passes.plan import plan
from graphc.program import Buffer, Program
from graphc_llvm import cached
from graphc_llvm.program_text import program_text
from graphc_llvm.target import host_target
from tests.backends.llvm.cached_support import Disk, product, results, use_disk


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    return use_disk(tmp_path, monkeypatch)


# --- Keys -----------------------------------------------------------------------------------------------------------


def test_weights_are_not_in_the_key(disk: Disk) -> None:
    one, other = product(seed=1), product(seed=2)
    assert disk.compiled == 1 and len(disk.entries()) == 1
    assert results(one) != results(other)
    f, (x, b), (w,) = other
    np.testing.assert_allclose(f(x, b), np.maximum(x @ w.value + b, 0), rtol=1e-5, atol=1e-5)


def test_constants_are_in_the_key(disk: Disk) -> None:
    x = gc.input("x", (2,))
    for values in ([1.0, 2.0], [1.0, 3.0], [0.0, 2.0], [-0.0, 2.0], [1.0, 2.0]):
        f = gc.compile([x], x * np.array(values, dtype="float32"), threads=1)
        np.testing.assert_array_equal(f(np.ones(2, dtype="float32")), np.array(values, dtype="float32"))
    assert disk.compiled == 4


def test_choices_are_in_the_key(disk: Disk) -> None:
    choices: list[dict[str, Any]] = [{}, {"threads": 2}, {"threads": 3}, {"winograd": False}]
    if host_target().triple.startswith("x86_64"):
        choices.append({"cpu": "x86-64"})
    for options in choices * 2:
        product(**options)
    assert disk.compiled == len(disk.entries()) == len(choices)


def test_names_and_places_do_not_matter(disk: Disk) -> None:
    x = gc.input("x", (4,))
    gc.compile([x], x + x, name="one", threads=1)
    x = gc.input("x", (4,))
    gc.compile([x], x + x, name="two", threads=1)
    assert disk.compiled == 1 and disk.entries()[0].label == "one"


@pytest.mark.parametrize("part", ["_sources", "_versions", "_FORMAT"])
def test_another_version_compiles_again(part: str, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    product()
    product()
    assert disk.compiled == 1
    monkeypatch.setattr(cached, part, 2 if part == "_FORMAT" else lambda: ("another",))
    product()
    product()
    assert disk.compiled == 2


def test_versions_say_what_runs() -> None:
    import llvmlite
    import llvmlite.binding as llvm

    assert {gc.__version__, llvmlite.__version__, llvm.llvm_version_info, np.__version__} < set(cached._versions())


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that counts as the package's."""
    for name in ("a.py", "b.py", "c.txt"):
        (tmp_path / name).write_text("pass\n")
        os.utime(tmp_path / name, (1000, 1000))
    (tmp_path / "below.py").mkdir()
    os.utime(tmp_path / "below.py", (1000, 1000))
    monkeypatch.setattr(cached, "__file__", str(tmp_path / "a.py"))
    return tmp_path


def quiet_sources(monkeypatch: pytest.MonkeyPatch) -> tuple[object, ...] | None:
    monkeypatch.setattr(cached, "LOADED_AT", 4e9)  # in 2096: somebody may edit a file of graphc while the tests run
    return cached._sources()


def test_sources_differ_when_a_file_does(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = [quiet_sources(monkeypatch)]
    assert seen[0] is not None and "node.py" in repr(seen[0]) and "program.py" in repr(seen[0])
    assert cached._sources() == seen[0]
    (tree / "c.txt").write_text("other")
    assert cached._sources() == seen[0]
    (tree / "b.py").write_text("fail\n")
    os.utime(tree / "b.py", ns=(0, 1000 * 10**9 + 1))
    seen.append(cached._sources())
    (tree / "b.py").write_text("pass  \n")
    os.utime(tree / "b.py", (1000, 1000))
    seen.append(cached._sources())
    (tree / "b.py").rename(tree / "d.py")
    seen.append(cached._sources())
    (tree / "d.py").unlink()
    seen.append(cached._sources())
    assert len({repr(one) for one in seen}) == 5


def test_sources_that_changed_since_the_import_are_not_known(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quiet_sources(monkeypatch)
    os.utime(tree / "b.py", (0, 4e9 + 1))
    assert cached._sources() is None
    monkeypatch.setattr(cached, "__file__", str(tree / "missing" / "a.py"))
    assert cached._sources() is None


def test_without_known_sources_nothing_is_kept(
    disk: Disk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cached, "_sources", lambda: None)
    assert results(product()) == results(product())
    assert disk.compiled == 2 and disk.entries() == []
    monkeypatch.setattr(cache_module, "config", Config(debug=1))
    cached.cached(("what",), "label", lambda: cached.Code(b"", {}), lambda code: None)
    assert capsys.readouterr().err.startswith("graphc: the cache: not used: graphc's sources have changed")
    monkeypatch.setattr(cache_module, "config", Config())
    changing = iter(range(100))
    monkeypatch.setattr(cached, "_sources", lambda: (next(changing),))
    product()
    assert disk.compiled == 3 and disk.entries() == []


# --- The text -------------------------------------------------------------------------------------------------------


def sample() -> Program:
    """A program with each kind of kernel, and with each kind of scalar that a body can have."""
    x, w, i = gc.input("x", (3, 4)), gc.param("w", (4, 2), init=0.5), gc.input("i", (2,), dtype="int64")
    table = np.arange(6.0, dtype="float32").reshape(3, 2)
    padded = gc.exp(gc.pad(gc.take(x, i, axis=0) * 2, ((1, 0), (0, 0))))
    y = gc.where(gc.sum(padded) > 1.5, x @ w, -0.0) * table
    z = gc.scan(lambda h, v: (h + v * i[0], None), 0.0, gc.reshape(y, (6,))[::2])[0]
    return gc.compile([x, i], z, updates={w: w + gc.grad(gc.max(x @ w), w)}, backend="numpy").program


def changed(value: Any) -> Iterator[Any]:
    """Other values of the same type."""
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield value + 1
    elif isinstance(value, float):
        yield value + 1 if value == value else 0.0
    elif isinstance(value, str):
        yield value + "_"
    elif value is None:
        yield "other"
    elif isinstance(value, np.ndarray):
        yield value + 1
        yield value.reshape(-1)
        yield value.view("int32")
    elif isinstance(value, tuple):
        for position, part in enumerate(value):
            for other in changed(part):
                yield (*value[:position], other, *value[position + 1 :])
        yield (*value, value[0] if value else 1)
    elif dataclasses.is_dataclass(value):
        yield from variants(value)


def changed_operands(operands: tuple[Any, ...]) -> Iterator[Any]:
    """With an operand of another dtype or shape; the others' fields are those of other kernels."""
    for position, operand in enumerate(operands):
        for dtype, shape in ((operand.dtype + "_", operand.shape), (operand.dtype, (*operand.shape, 7))):
            yield (*operands[:position], SimpleNamespace(dtype=dtype, shape=shape), *operands[position + 1 :])


def variants(item: Any) -> Iterator[Any]:
    """The object with one field changed, for each field that matters and each part of it."""
    left_out = {"Program": {"name"}, "Stage": {"where", "scope", "op"}, "Opaque": {"step"}}
    ignored = left_out.get(type(item).__name__, set())
    fields = [field.name for field in dataclasses.fields(item) if field.init]
    for name in fields:
        if name in ignored:
            continue
        for other in changed_operands(item.operands) if name == "operands" else changed(getattr(item, name)):
            made = object.__new__(type(item))  # unchecked, and not interned: such a program need not make sense
            for field in fields:
                object.__setattr__(made, field, other if field == name else getattr(item, field))
            yield made


def test_each_field_of_a_program_is_in_its_text() -> None:
    program = sample()
    bodies = [stage.node.body for stage in program.stages() if isinstance(stage.node, Generic)]
    assert {type(part).__name__ for body in bodies for part in sc.postorder(body)} == {
        "Arg", "Index", "Literal", "InBounds", "Apply"
    }  # fmt: skip
    assert {kernel.kind for kernel in program.kernels} == {"loops", "contraction", "opaque", "scan"}
    texts = [program_text(other) for other in (program, *variants(program))]
    assert len(texts) > 500
    assert len(set(texts)) == len(texts), "two programs have one text"


def one_kernel(body: sc.Scalar, dtype: str = "float32", reads: int = 2, kind: str = "temporary") -> Program:
    """out[i] = body(a[i], b[i]), and a buffer of the given kind."""
    leaves = [Input(name, (4,), dtype, "input", number) for number, name in enumerate("ab")]
    row = identity(1)
    node = Generic((4,), (4,), row, tuple(leaves[:reads]), (row,) * reads, ("inside",) * reads, body, None)
    program = plan(Graph((node,)), "f", leaves, 1, [])
    return dataclasses.replace(program, buffers=(*program.buffers, Buffer("extra", (3,), "float32", kind)))


def number(value: float, dtype: str = "float32") -> sc.Literal:
    """A literal of its own: interned, the first NaN would stand for all."""
    made = object.__new__(sc.Literal)
    for field, content in (("value", value), ("dtype", dtype), ("order", (5, 0, 0))):
        object.__setattr__(made, field, content)
    return made


def test_texts_tell_apart_what_prints_alike() -> None:
    a, b = sc.Arg(0, "float32"), sc.Arg(1, "float32")
    one_nan, other_nan = np.array([0x7FF8 << 48, 0xFFF8 << 48], dtype="uint64").view("float64").tolist()
    programs = [
        one_kernel(sc.apply("sub", a, b)),
        one_kernel(sc.apply("sub", b, a)),
        one_kernel(sc.apply("sub", a, b), kind="scratch"),
        one_kernel(sc.apply("add", a, sc.apply("mul", a, b))),
        one_kernel(sc.apply("mul", sc.apply("add", a, a), b)),
        *(
            one_kernel(sc.Apply("add", (a, number(value)), "float32"))
            for value in (0.0, -0.0, 1.0, np.nextafter(1.0, 2.0).item(), float("inf"), one_nan, other_nan)
        ),
        *(
            one_kernel(sc.cast(sc.apply("add", sc.cast(a, dtype), number(2.0, dtype)), "float32"))
            for dtype in ("float32", "float64")
        ),
        *(
            one_kernel(sc.apply("add", sc.Arg(0, dtype), sc.literal(1, dtype)), dtype, reads=1)
            for dtype in ("int32", "int64", "uint32")
        ),
    ]
    assert len({program_text(program) for program in programs}) == len(programs) == 17
    assert len({str(program) for program in programs}) < 17, "what people read would do as well"


def test_a_deep_body_needs_no_deep_recursion() -> None:
    body: sc.Scalar = sc.Arg(0, "float32")
    for _ in range(5000):
        body = sc.apply("sin", body)
    assert program_text(one_kernel(body, reads=1)).count("sin") == 5000


def test_numbers_of_numpy_are_numbers() -> None:
    program = one_kernel(sc.Arg(0, "float32"), reads=1)
    buffers = [dataclasses.replace(buffer, shape=(np.int64(4),)) for buffer in program.buffers[:2]]
    assert program_text(dataclasses.replace(program, buffers=(*buffers, *program.buffers[2:]))) == program_text(program)

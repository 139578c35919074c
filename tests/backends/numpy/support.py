"""What the tests of the numpy backend share: Generics from short text, and the comparison with the interpreter."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphc.backend import Options
from graphc.ir import scalar as sc
from graphc.ir.affine import Affine, AffineMap, affine
from graphc.ir.graph import Graph
from graphc.ir.interp import interpret
from graphc.ir.node import Input, Node, generic, leaf
from graphc.ir.verify import verify
from graphc.passes.plan import plan
from graphc.program import Program
from graphc_numpy import NumpyExecutable, backend

LETTERS = "ijklmnpq"


def row(text: str) -> Affine:
    """An affine row such as "2*i + j - 1"."""
    terms: dict[int, int] = {}
    start = 0
    for sign, factor, letter, number in re.findall(r"([+-]?)\s*(?:(\d+)\*)?(?:([a-z])|(\d+))", text):
        value = (int(factor or 1) if letter else int(number)) * (-1 if sign == "-" else 1)
        if letter:
            axis = LETTERS.index(letter)
            terms[axis] = terms.get(axis, 0) + value
        else:
            start += value
    return affine(terms, start)


def index_map(rank: int, text: str) -> AffineMap:
    """A map such as "i, 2*j + k"; "" has no rows."""
    return AffineMap(rank, tuple(row(part) for part in text.split(",") if part.strip()))


def make(
    domain: Sequence[int],
    shape: Sequence[int],
    out: str,
    reads: Sequence[tuple[Node, str] | tuple[Node, str, str]],
    body: sc.Scalar | str = "copy",
    reducer: str | None = None,
) -> Node:
    """A Generic. body: "copy" (the first operand), "mul" (the product of all operands), or a scalar."""
    rank = len(domain)
    operands = [read[0] for read in reads]
    modes = [read[2] if len(read) > 2 else "inside" for read in reads]
    args = [sc.Arg(j, operand.dtype) for j, operand in enumerate(operands)]
    if isinstance(body, str):
        product: sc.Scalar = args[0]
        for arg in args[1:] if body == "mul" else []:
            product = sc.apply("and" if arg.dtype == "bool" else "mul", product, arg)
        body = product
    maps = [index_map(rank, read[1]) for read in reads]
    return generic(tuple(domain), tuple(shape), index_map(rank, out), operands, maps, modes, body, reducer)


def array(name: str, *shape: int, dtype: str = "float64") -> Input:
    return leaf(name, shape, dtype, "input")


def sample(shape: Sequence[int], dtype: str, seed: int = 0) -> np.ndarray[Any, Any]:
    """Numbers that are as good as random; a few are equal, so that ties occur."""
    rng = np.random.default_rng([seed, *shape])
    if dtype == "bool":
        return rng.random(shape) < 0.5
    if dtype.startswith("int"):
        return rng.integers(-4, 5, shape).astype(dtype)
    return np.round(rng.standard_normal(shape), 1).astype(dtype)


def compiled(outputs: Sequence[Node], leaves: Sequence[Input] | None = None) -> tuple[Program, NumpyExecutable]:
    graph = Graph(tuple(outputs))
    verify(graph)
    program = plan(graph, "step", tuple(leaves) if leaves is not None else graph.inputs, len(outputs), ())
    return program, backend.compile(program, Options())


class Numpy:
    """NumPy, with an `empty` that shows what is never written."""

    def __getattr__(self, name: str) -> Any:
        return spoiled if name == "empty" else getattr(np, name)


def spoiled(shape: tuple[int, ...], dtype: Any) -> np.ndarray[Any, Any]:
    """In place of np.empty: memory that is surely not 0."""
    return np.full(shape, 77, dtype)


def run_text(text: str, name: str, arrays: Sequence[np.ndarray[Any, Any]]) -> tuple[np.ndarray[Any, Any], ...]:
    """Run a generated module in a namespace of its own."""
    namespace: dict[str, Any] = {}
    exec(text, namespace)
    namespace["np"] = Numpy() if "np.empty(" in text else namespace["np"]
    result = namespace[name](*arrays)
    return tuple(np.asarray(value) for value in (result if isinstance(result, tuple) else (result,)))


def assert_same(found: np.ndarray[Any, Any], expected: np.ndarray[Any, Any], scale: float = 1.0) -> None:
    assert found.dtype == expected.dtype and found.shape == expected.shape
    if expected.dtype.kind == "f":
        eps = np.finfo(expected.dtype).eps
        if expected.dtype == np.float64:  # the interpreter itself adds in float64, one term after another
            scale *= scale
        rtol = 64 * eps * max(1.0, scale / 4)
        np.testing.assert_allclose(found, expected, rtol=rtol, atol=64 * eps * scale)
    else:
        np.testing.assert_array_equal(found, expected)


def check(
    *outputs: Node, values: Mapping[Node, np.ndarray[Any, Any]] | None = None, scale: float | None = None
) -> str:
    """The generated code, run on its own, gives what the interpreter gives, in contiguous arrays; its text."""
    program, executable = compiled(outputs)
    graph = Graph(tuple(outputs))
    given = {node: sample(node.shape, node.dtype, seed) for seed, node in enumerate(graph.inputs)}
    given.update(values or {})
    expected = interpret(graph, given)
    arrays = [given[node].copy() for node in graph.inputs]
    text = executable.source("numpy")
    found = run_text(text, program.name, arrays)
    for before, after in zip((given[node] for node in graph.inputs), arrays, strict=True):
        np.testing.assert_array_equal(before, after, err_msg=f"an input was written\n{text}")
    if scale is None:
        scale = max([1.0, *(float(np.sqrt(math.prod(getattr(n, "domain", (1,))))) * 4 for n in graph.nodes)])
    for one, other in zip(found, expected, strict=True):
        try:
            assert_same(one, other, scale)
            assert one.flags.c_contiguous and not any(np.shares_memory(one, a) for a in arrays)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{graph}\n{text}") from None
    return text

"""Generics that hypothesis makes: any maps, modes, bodies and reducers, alone and in small graphs."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from graphc.ir import scalar as sc
from graphc.ir.affine import Affine, AffineMap, affine, axis_row
from graphc.ir.graph import Graph
from graphc.ir.node import Node, generic, view
from graphc.ir.verify import verify
from graphc.passes.gather import gather
from tests.backends.numpy.support import array, check

SIZES = st.sampled_from([1, 2, 3, 7, 8, 9])
DTYPES = st.sampled_from(["float64", "float64", "float32", "int64", "bool"])
MOST_POINTS = 3000


@st.composite
def domains(draw: st.DrawFn) -> tuple[int, ...]:
    domain: list[int] = []
    for _ in range(draw(st.integers(1, 4))):
        extent = draw(SIZES if draw(st.integers(0, 30)) else st.just(0))
        if math.prod(domain) * extent <= MOST_POINTS:
            domain.append(extent)
    return tuple(domain)


@st.composite
def rows(draw: st.DrawFn, domain: tuple[int, ...]) -> Affine:
    kind = draw(st.integers(0, 5))
    axis = draw(st.integers(0, len(domain) - 1))
    if kind <= 2:
        return axis_row(axis)
    if kind == 3:
        return affine({axis: draw(st.sampled_from([1, -1, 2, -2, 3]))}, draw(st.integers(-3, 9)))
    if kind == 4:
        other = draw(st.integers(0, len(domain) - 1))
        terms = {axis: draw(st.sampled_from([1, 2, -1])), other: draw(st.sampled_from([1, -1, 2]))}
        return affine(terms, draw(st.integers(-3, 4)))
    return affine({}, draw(st.integers(0, 3)))


def _fitted(row: Affine, domain: Sequence[int]) -> tuple[Affine, int]:
    """The row shifted so that it starts at 0 or later, and the extent that holds it."""
    assert isinstance(row.const, int)
    low = row.const + sum(min(c * (domain[a] - 1), 0) for a, c in row.terms)
    high = row.const + sum(max(c * (domain[a] - 1), 0) for a, c in row.terms)
    shift = -low if low < 0 else 0
    return affine(dict(row.terms), row.const + shift), high + shift + 1


@st.composite
def bodies(draw: st.DrawFn, dtype: str, count: int, rank: int) -> sc.Scalar:
    args: list[sc.Scalar] = [sc.Arg(j, dtype) for j in range(count)]
    if dtype == "bool":
        return draw(st.sampled_from([args[0], sc.apply("and", args[0], args[-1]), sc.apply("xor", args[0], args[-1])]))
    product = args[0]
    for arg in args[1:]:
        product = sc.apply("mul", product, arg)
    index = sc.cast(sc.Index(draw(st.integers(0, rank - 1))), dtype)
    choices = [
        args[0], product, product, sc.apply("neg", product), sc.apply("add", args[0], args[-1]),
        sc.apply("select", sc.apply("lt", args[0], sc.literal(0, dtype)), args[-1], product),
        sc.apply("maximum", args[0], sc.literal(1, dtype)), sc.apply("add", product, index),
        sc.apply("mul", sc.apply("mul", product, sc.literal(2, dtype)), index),
        sc.apply("select", sc.apply("le", args[0], sc.literal(0, dtype)), sc.literal(0, dtype), args[0]),
    ]  # fmt: skip
    if dtype.startswith("float"):
        choices.append(sc.apply("mul", sc.apply("tanh", args[0]), args[-1]))
        choices.append(sc.apply("div", product, sc.literal(3, dtype)))
    return draw(st.sampled_from(choices))


@st.composite
def generics(draw: st.DrawFn, sources: Sequence[Node] = ()) -> Node:
    domain, dtype = draw(domains()), draw(DTYPES)
    if not domain:
        domain = (3,)
    rank = len(domain)
    operands: list[Node] = []
    maps: list[AffineMap] = []
    modes: list[str] = []
    for j in range(draw(st.integers(1, 3))):
        read = [draw(rows(domain)) for _ in range(draw(st.integers(0, 3)))]
        mode = draw(st.sampled_from(["inside", "inside", "zero", "skip"]))
        fitted = [_fitted(row, domain) for row in read]
        if math.prod(max(1, extent) for _, extent in fitted) > 20000:
            read, fitted = [], []
        if mode == "inside":
            read = [row for row, _ in fitted]
            shape = tuple(max(extent, 0) for _, extent in fitted)
        else:
            shape = tuple(max(0, extent - draw(st.integers(0, 3))) for _, extent in fitted)
        known = [x for x in sources if x.dtype == dtype and x.shape == shape]
        operands.append(known[0] if known else array(f"x{j}", *shape, dtype=dtype))
        maps.append(AffineMap(rank, tuple(read)))
        modes.append(mode)
    body = draw(bodies(dtype, len(operands), rank))
    reducer = draw(st.sampled_from([None, "sum", "sum", "prod", "max", "min", "argmax", "argmin"]))
    if dtype == "bool" and reducer not in (None, "prod"):
        reducer = "sum"
    if reducer is None:
        axes = draw(st.permutations(range(rank)))
        steps = [(draw(st.sampled_from([1, 1, 1, 2, -1])), draw(st.integers(-1, 3))) for _ in axes]
        out = [affine({a: c}, start if draw(st.booleans()) else 0) for a, (c, start) in zip(axes, steps, strict=True)]
    elif reducer == "sum" and draw(st.booleans()):
        out = [draw(rows(domain)) for _ in range(draw(st.integers(0, 3)))]
    else:
        axes = draw(st.permutations(range(rank)))
        out = [axis_row(axis) for axis in axes[: draw(st.integers(0, rank))]]
    fitted = [_fitted(row, domain) for row in out]
    shape = tuple(max(0, extent - draw(st.sampled_from([0, 0, 1, -1]))) for _, extent in fitted)
    if math.prod(shape) > 20000:
        out, shape = [], ()
        reducer = "sum"
    if draw(st.booleans()) and reducer in (None, "sum"):
        out = [row for row, _ in fitted][: len(out)]
    return generic(domain, shape, AffineMap(rank, tuple(out)), operands, maps, modes, body, reducer)


@given(generics())
def test_any_generic(node: Node) -> None:
    check(node)


@given(generics())
def test_any_generic_in_gather_form(node: Node) -> None:
    """Parts joined by residue, windows that skip, and what the pass leaves as it is; the result is a valid graph."""
    graph = gather(Graph((node,)))
    verify(graph, "gather")
    check(*graph.outputs)


@given(st.data())
def test_a_chain_of_generics(data: st.DataObject) -> None:
    """Later ones read the earlier ones where the shapes happen to fit, or a view of them."""
    nodes: list[Node] = []
    for _ in range(data.draw(st.integers(2, 4))):
        flat = [view(node, (math.prod(node.shape),)) for node in nodes if all(isinstance(e, int) for e in node.shape)]
        nodes.append(data.draw(generics([*nodes, *flat])))
        last = nodes[-1]
        if last.shape and last.dtype.startswith("float"):
            body = sc.apply("tanh", sc.Arg(0, last.dtype))
            rank = len(last.shape)
            plain = AffineMap(rank, tuple(axis_row(a) for a in range(rank)))
            turned = AffineMap(rank, tuple(axis_row(rank - 1 - a) for a in range(rank)))
            shape = tuple(reversed(last.shape))
            nodes.append(generic(shape, shape, plain, (last,), (turned,), ("inside",), body, None))
    check(*nodes)

"""The verifier: each complaint provoked once, by nodes made without the factories, which check."""

from __future__ import annotations

import inspect

import pytest

import graphc as gc
from graphc.errors import VerifyError
from graphc.ir import scalar as sc
from graphc.ir.affine import ZERO, AffineMap, affine, axis_row, identity
from graphc.ir.extent import dimension
from graphc.ir.graph import Graph
from graphc.ir.node import INSIDE, Generic, Join, Opaque, View, leaf
from graphc.ir.origin import Origin, add_origins
from graphc.ir.verify import verify
from graphc.passes import pipeline

X = leaf("x", (3,), "float32", "input")
A = leaf("a", (2, 3), "float32", "input")
A0, A1 = sc.Arg(0, "float32"), sc.Arg(1, "float32")
ROW = identity(1)


def node(
    domain=(3,), shape=(3,), out_map=ROW, operands=(X,), maps=(ROW,), modes=(INSIDE,), body=A0, reducer=None
) -> Generic:
    """A correct copy of X, but for what is said."""
    return Generic(domain, shape, out_map, operands, maps, modes, body, reducer)


def part(start, extent, shape=(3,), reducer=None):
    """Writes elements start, start + 1, ... of an array of `shape`."""
    return node(domain=(extent,), shape=shape, out_map=AffineMap(1, (affine({0: 1}, start),)), reducer=reducer)


BOOL = sc.Apply("lt", (A0, A0), "bool")
TALL = dimension("N")
COMPLAINTS = {
    "unknown dtype float16": leaf("h", (3,), "float16", "input"),
    "the output map does not fit the domain and the shape": node(shape=(3, 1)),
    "the output map does not fit": node(domain=(3, 2), reducer="sum"),
    "operands, maps and modes differ in number": node(operands=(X, X)),
    "operands, maps and modes differ": node(modes=()),
    "does not fit a domain of rank 1 and an operand (2, 3)": node(operands=(A,)),
    "does not fit a domain of rank 1 and an operand (3,)": node(maps=(AffineMap(2, (axis_row(1),)),)),
    "unknown mode sideways": node(modes=("sideways",)),
    "the read (i) -> (i + 1) leaves (3,)": node(maps=(AffineMap(1, (affine({0: 1}, 1),)),)),
    "unknown reducer mode": node(reducer="mode"),
    "max needs an output map that selects axes": node(out_map=AffineMap(1, (affine({0: 2}),)), reducer="max"),
    "prod needs an output map": node(shape=(3,), out_map=AffineMap(1, (ZERO,)), reducer="prod"),
    "the body reads operand 1, which does not exist": node(body=A1),
    "the body reads operand 0 as float64": node(body=sc.Arg(0, "float64")),
    "the body reads axis 1, which does not exist": node(body=sc.Index(1)),
    "a bounds test that does not fit the domain": node(body=sc.InBounds(identity(2), (3, 3))),
    "sin with 2 arguments": node(body=sc.Apply("sin", (A0, A0), "float32")),
    "dance with 1 arguments": node(body=sc.Apply("dance", (A0,), "float32")),
    "select of ['float32', 'float32', 'float32']": node(body=sc.Apply("select", (A0, A0, A0), "float32")),
    "select of ['bool', 'float32', 'int64']": node(body=sc.Apply("select", (BOOL, A0, sc.Index(0)), "float32")),
    "add of ['float32', 'int64']": node(body=sc.Apply("add", (A0, sc.Index(0)), "float32")),
    "exp of int64": node(body=sc.Apply("exp", (sc.Index(0),), "int64")),
    "a view of (2, 3) as (5,)": View(A, (5,)),
    "parts of different shapes or dtypes": Join((part(0, 1), part(1, 2, shape=(4,)))),
    "a part that reduces with max": Join((part(0, 1, reducer="max"), part(1, 2))),
    "element (1,) is written 2 times": Join((part(0, 2), part(1, 2))),
    "element (2,) is written 0 times": Join((part(0, 1), part(1, 1))),
    "an unknown opaque op": Opaque("shuffle", (X,), (), (3,), "float32"),
}


@pytest.mark.parametrize("complaint", COMPLAINTS)
def test_complaint(complaint):
    with pytest.raises(VerifyError) as caught:
        verify(Graph((COMPLAINTS[complaint],)), "fuse")
    assert caught.value.message.startswith("after fuse: ")
    assert complaint in caught.value.message


@pytest.mark.parametrize(
    "good",
    [
        node(),
        Join((part(0, 1), part(1, 2))),
        node(domain=(4,), shape=(4,), modes=("zero",)),
        node(domain=(0,), shape=(0,), maps=(AffineMap(1, (affine({0: 1}, 9),)),)),
        node(domain=(TALL,), shape=(TALL,), operands=(leaf("n", (TALL,), "float32", "input"),)),
        View(A, (6,)),
    ],
)
def test_what_is_allowed(good):
    verify(Graph((good,)))


def test_the_message_shows_the_pass_the_node_its_operands_and_the_line():
    bad = node(body=A1)
    add_origins(bad, (Origin("relu", "model.py", 12),))
    with pytest.raises(VerifyError) as caught:
        verify(Graph((bad,)), "gather")
    text = str(caught.value)
    assert "after gather" in text and "x: float32(3,) = input" in text and "relu: float32(3,)" in text
    assert caught.value.where == "model.py:12"


def test_the_verifier_runs_between_passes(monkeypatch):
    def breaks(graph):
        return Graph((node(body=A1),))

    monkeypatch.setattr(pipeline, "PIPELINE", (pipeline.simplify, breaks, pipeline.fuse))
    x = gc.input("x", (3,))
    with pytest.raises(VerifyError, match="after breaks: the body reads operand 1"):
        pipeline.run_passes(Graph((gc.sin(x).node,)), check=True)


def test_the_line_is_the_users(monkeypatch):
    line = inspect.currentframe().f_lineno + 1
    y = gc.sin(gc.input("x", (3,))).node
    bad = Generic(y.domain, y.shape, y.out_map, y.operands, y.maps, ("sideways",), y.body, None)
    add_origins(bad, tuple(gc.ir.origin.origins_of(y)))
    with pytest.raises(VerifyError) as caught:
        verify(Graph((bad,)))
    assert caught.value.where == f"{__file__}:{line}"

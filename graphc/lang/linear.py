"""Products that sum over shared axes: matmul, einsum, outer, dot. Each is one Generic."""

from __future__ import annotations

from collections.abc import Sequence

from graphc.errors import ArgumentError, ShapeError
from graphc.ir import build
from graphc.ir import scalar as sc
from graphc.ir.affine import Affine, AffineMap, axis_row
from graphc.ir.dtypes import promote
from graphc.ir.extent import Extent, Shape, format_shape, product
from graphc.ir.node import INSIDE, Node, generic, view
from graphc.lang.source import named_op
from graphc.lang.tensor import Tensor, TensorLike, as_tensor


def contract(
    domain: Shape, shape: Shape, out_axes: Sequence[int], operands: Sequence[Node], reads: Sequence[Sequence[int]]
) -> Node:
    """The sum over `domain` of the product of the operands, each read at some of the domain's axes."""
    rank = len(domain)
    dtype = promote(*(operand.dtype for operand in operands))
    body: sc.Scalar | None = None
    for j, operand in enumerate(operands):
        factor = sc.cast(sc.Arg(j, operand.dtype), dtype)
        body = factor if body is None else sc.apply("and" if dtype == "bool" else "mul", body, factor)
    assert body is not None
    maps = [AffineMap(rank, tuple(axis_row(axis) for axis in axes)) for axes in reads]
    out_map = AffineMap(rank, tuple(axis_row(axis) for axis in out_axes))
    return generic(domain, shape, out_map, operands, maps, [INSIDE] * len(operands), body, "sum")


@named_op
def matmul(a: TensorLike, b: TensorLike) -> Tensor:
    """a @ b over the last two axes, with the leading ones broadcast; a vector on either side loses its axis.

    >>> import graphc as gc
    >>> gc.input("a", ("N", 3)) @ gc.input("b", (3, 5))
    <Tensor float32(N, 5)>
    """
    left, right = as_tensor(a, "matmul").node, as_tensor(b, "matmul").node
    if not left.shape or not right.shape:
        raise ShapeError("matmul: a scalar has no axis to sum over; use * instead")
    left_shape, right_shape = left.shape, right.shape
    if len(left_shape) == 1:
        left = view(left, (1, *left_shape))
    if len(right_shape) == 1:
        right = view(right, (*right_shape, 1))
    if left.shape[-1] != right.shape[-2]:
        raise ShapeError(
            f"matmul: {format_shape(left_shape)} @ {format_shape(right_shape)}: "
            f"the inner extents {left.shape[-1]} and {right.shape[-2]} differ"
        )
    batch = (
        build.broadcast_shapes("matmul", (left.shape[:-2], right.shape[:-2]))
        if max(len(left.shape), len(right.shape)) > 2
        else ()
    )
    rank = len(batch)
    m, n, k = left.shape[-2], right.shape[-1], left.shape[-1]
    domain: Shape = (*batch, m, n, k)
    maps = [
        AffineMap(rank + 3, (*_batch_rows(operand.shape[:-2], batch), axis_row(one), axis_row(two)))
        for operand, one, two in ((left, rank, rank + 2), (right, rank + 2, rank + 1))
    ]
    dtype = promote(left.dtype, right.dtype)
    factors = [sc.cast(sc.Arg(j, operand.dtype), dtype) for j, operand in enumerate((left, right))]
    body = sc.apply("and" if dtype == "bool" else "mul", *factors)
    out_map = AffineMap(rank + 3, tuple(axis_row(axis) for axis in range(rank + 2)))
    node = generic(domain, (*batch, m, n), out_map, (left, right), maps, (INSIDE, INSIDE), body, "sum")
    shape = batch + (() if len(left_shape) == 1 else (m,)) + (() if len(right_shape) == 1 else (n,))
    return Tensor(view(node, shape))


def _batch_rows(shape: Shape, batch: Shape) -> tuple[Affine, ...]:
    return build.broadcast_map(shape, batch).rows


@named_op
def einsum(subscripts: str, *operands: TensorLike) -> Tensor:
    """Einstein's summation as in NumPy: `einsum("bij,bjk->bik", x, y)`; "..." is not supported.

    Without "->" the result has the letters that occur once, in alphabetical order.
    """
    text = subscripts.replace(" ", "")
    inputs, arrow, output = text.partition("->")
    terms = inputs.split(",")
    if "." in text:
        raise ArgumentError('einsum: "..." is not supported; name the axes')
    if not all(letter.isalpha() for term in (*terms, output) for letter in term):
        raise ArgumentError(f"einsum: cannot read {subscripts!r}")
    if len(terms) != len(operands):
        raise ArgumentError(f"einsum: {subscripts!r} names {len(terms)} operands, {len(operands)} came")
    if not arrow:
        joined = "".join(terms)
        output = "".join(sorted(letter for letter in set(joined) if joined.count(letter) == 1))
    nodes = [as_tensor(operand, "einsum").node for operand in operands]
    extents: dict[str, Extent] = {}
    for term, node in zip(terms, nodes, strict=True):
        if len(term) != len(node.shape):
            raise ShapeError(f"einsum: {term!r} names {len(term)} axes of an operand {format_shape(node.shape)}")
        for letter, extent in zip(term, node.shape, strict=True):
            if extents.setdefault(letter, extent) != extent:
                raise ShapeError(f"einsum: the axis {letter!r} is {extents[letter]} and {extent}")
    if len(set(output)) != len(output) or not set(output) <= set(extents):
        raise ArgumentError(f"einsum: the output {output!r} must name axes of the operands, each once")
    letters = [*output, *(letter for letter in extents if letter not in output)]
    place = {letter: axis for axis, letter in enumerate(letters)}
    domain = tuple(extents[letter] for letter in letters)
    reads = [[place[letter] for letter in term] for term in terms]
    shape = tuple(extents[letter] for letter in output)
    return Tensor(contract(domain, shape, range(len(output)), nodes, reads))


@named_op
def outer(a: TensorLike, b: TensorLike) -> Tensor:
    """a[i] * b[j] for all i, j; both are flattened."""
    left, right = as_tensor(a), as_tensor(b)
    flat = [Tensor(view(t.node, (product(t.shape),))) for t in (left, right)]
    return einsum("i,j->ij", *flat)


@named_op
def dot(a: TensorLike, b: TensorLike) -> Tensor:
    """NumPy's dot for tensors of rank 1 and 2: the inner product, or matmul."""
    left, right = as_tensor(a, "dot"), as_tensor(b, "dot")
    if left.ndim == 0 or right.ndim == 0:
        raise ShapeError("dot: use * with a scalar")
    if left.ndim > 2 or right.ndim > 2:
        raise ShapeError("dot: for more than two axes use matmul or einsum")
    return matmul(left, right)


@named_op
def tensordot(a: TensorLike, b: TensorLike, axes: int | tuple[Sequence[int], Sequence[int]] = 2) -> Tensor:
    """Sum over axes of a with axes of b: the last n with the first n, or two lists."""
    left, right = as_tensor(a).node, as_tensor(b).node
    if isinstance(axes, int):
        pairs = [(len(left.shape) - axes + n, n) for n in range(axes)]
    else:
        pairs = [(x % len(left.shape), y % len(right.shape)) for x, y in zip(*axes, strict=True)]
    for x, y in pairs:
        if left.shape[x] != right.shape[y]:
            raise ShapeError(f"tensordot: axis {x} is {left.shape[x]}, axis {y} is {right.shape[y]}")
    free_left = [a for a in range(len(left.shape)) if a not in [x for x, _ in pairs]]
    free_right = [b for b in range(len(right.shape)) if b not in [y for _, y in pairs]]
    shape = tuple(left.shape[a] for a in free_left) + tuple(right.shape[b] for b in free_right)
    summed = {x: len(shape) + n for n, (x, _) in enumerate(pairs)}
    reads_left = [summed[a] if a in summed else free_left.index(a) for a in range(len(left.shape))]
    matched = {y: len(shape) + n for n, (_, y) in enumerate(pairs)}
    offset = len(free_left)
    reads_right = [matched[b] if b in matched else offset + free_right.index(b) for b in range(len(right.shape))]
    domain = (*shape, *(left.shape[x] for x, _ in pairs))
    return Tensor(contract(domain, shape, range(len(shape)), (left, right), (reads_left, reads_right)))

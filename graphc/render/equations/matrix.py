"""Nodes as terms in matrix notation, told from their maps, body and reducer alone.

A product of two arrays over one shared axis is a matrix product, whichever of them is transposed; one without a shared
axis is an outer product; a sum of one array is a sum over rows, columns or all; a body over aligned reads is written
element by element. What is none of these (windows, scatters, sums over several shared axes) has no term: it is
printed in index notation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from graphc.ir import scalar as sc
from graphc.ir.affine import ZERO as ZERO_ROW
from graphc.ir.affine import AffineMap, axis_row, identity
from graphc.ir.classify import Contraction, classify
from graphc.ir.extent import Extent, Shape
from graphc.ir.node import ZERO, Const, Generic, Join, Node, Opaque, View, generic
from graphc.render.equations import formula as fm
from graphc.render.equations.formula import Term
from graphc.render.equations.windows import window_of

_MOST_PARTS = 40  # of a body that is written out in one term
Read = Callable[[Node], Term]


def term_of(node: Node, read: Read) -> Term | None:
    """The term of a node whose operands are read by `read`; None where matrix notation has none."""
    match node:
        case Const() if node.value.size == 1:
            return fm.spread(fm.number(node.value.reshape(-1)[0].item()), node.shape)
        case View():
            return _reshaped(read(node.operand), node.shape)
        case Opaque(step=None):
            if node.op in _TRANSPARENT:
                return read(node.operands[0])
            attributes = tuple(item for item in node.attributes if item[0] not in ("key", "extent"))
            return Term("apply", tuple(map(read, node.operands)), node.shape, (node.op, attributes))
        case Generic():
            if node.reducer is None:
                small = _without_unit_axes(node)
                return None if small is None else _map(small, read)
            return _reduction(node, read)
        case Join():
            return None
    return None


# What passes its first operand on: its other operands and its attributes say how derivatives and checks treat it.
_TRANSPARENT = (
    "stop_gradient", "custom_vjp", "checkpoint_in", "checkpoint_out", "again", "checked",
)  # fmt: skip


def unit_axes_only(one: Shape, other: Shape) -> bool:
    """Whether two shapes differ in axes of extent 1 alone."""
    return [extent for extent in one if extent != 1] == [extent for extent in other if extent != 1]


def _reshaped(term: Term, shape: Shape) -> Term:
    if term.op == "reshape":
        term = term.args[0]
    if term.shape == shape:
        return term
    if term.op == "full" and not term.args[0].shape:
        return fm.spread(term.args[0], shape)
    return Term("reshape", (term,), shape)


def _without_unit_axes(node: Generic) -> Generic | None:
    """The same with the output's axes alone as its domain, where every other axis has extent 1."""
    kept = node.out_map.projection
    if node.is_map:
        return node
    if kept is None or any(node.domain[axis] != 1 for axis in range(len(node.domain)) if axis not in kept):
        return None
    rank = len(kept)
    place = {axis: number for number, axis in enumerate(kept)}
    rows = [axis_row(place[axis]) if axis in place else ZERO_ROW for axis in range(len(node.domain))]
    maps = [AffineMap(rank, tuple(row.substitute(rows) for row in m.rows)) for m in node.maps]
    body = sc.move_axes(node.body, rows, rank)
    domain = tuple(node.domain[axis] for axis in kept)
    found = generic(domain, node.shape, identity(rank), node.operands, maps, node.modes, body, None)
    return found if isinstance(found, Generic) and found.is_map else None


def _map(node: Generic, read: Read) -> Term | None:
    if ZERO in node.modes:
        return None
    product = _outer(node, read)
    if product is not None:
        return product
    reads: list[Term] = []
    for operand, index_map in zip(node.operands, node.maps, strict=True):
        term = _aligned(read(operand), index_map, node.domain)
        if term is None:
            return None
        reads.append(term)
    body = body_term(node.body, reads)
    return None if body is None else fm.spread(body, node.shape)


def _outer(node: Generic, read: Read) -> Term | None:
    """u v^T: each element of one vector times each of another."""
    body = node.body
    if len(node.domain) != 2 or len(node.operands) != 2 or not isinstance(body, sc.Apply) or body.op != "mul":
        return None
    if not all(isinstance(arg, sc.Arg) for arg in body.args):
        return None
    vectors: dict[int, Term] = {}
    for operand, index_map in zip(node.operands, node.maps, strict=True):
        axes = [row.single_axis for row in index_map.rows if row.terms]
        if len(axes) != 1 or axes[0] is None or any(row.const != 0 for row in index_map.rows):
            return None
        vectors[axes[0]] = _squeezed(read(operand), index_map)[0]
    if len(vectors) != 2:
        return None
    return Term("outer", (vectors[0], vectors[1]), node.shape)


def _aligned(term: Term, index_map: AffineMap, domain: Shape) -> Term | None:
    """The term such that NumPy's broadcasting reads it as the map does."""
    rank = len(domain)
    if term.op == "full" and not term.args[0].shape:
        return term.args[0]
    if not index_map.rows:
        return term
    if index_map.is_identity and term.shape == domain:
        return term
    part = _slice(term, index_map, domain)
    if part is not None:
        return part
    axes: list[int | None] = []
    for row, extent in zip(index_map.rows, term.shape, strict=True):
        axis = row.single_axis
        if axis is None and not (extent == 1 and not row.terms and row.const == 0):
            return None
        if axis is not None and domain[axis] != extent:
            return None
        axes.append(axis)
    offset = rank - len(axes)
    if all(axis is None or axis == offset + place for place, axis in enumerate(axes)):
        return term
    kept = [axis for axis in axes if axis is not None]
    if len(kept) < len(axes):
        return _aligned(*_squeezed(term, index_map), domain)
    if axes == list(range(rank - 1)):
        return Term("column", (term,), (*term.shape, 1))
    if sorted(axis if axis is not None else -1 for axis in axes) == list(range(rank)):
        order = tuple(axes.index(axis) for axis in range(rank))
        return fm.permute(term, order)
    return None


def _slice(term: Term, index_map: AffineMap, domain: Shape) -> Term | None:
    """x[:, 8:16]: a start, a stop and a step for each axis; None where it is no slice, or the whole."""
    if len(index_map.rows) != len(domain):
        return None
    ranges: list[tuple[Extent, Extent, int] | None] = []
    for axis, (row, extent) in enumerate(zip(index_map.rows, term.shape, strict=True)):
        if len(row.terms) != 1 or row.terms[0][0] != axis or row.terms[0][1] < 1:
            return None
        step = row.terms[0][1]
        whole = step == 1 and row.const == 0 and extent == domain[axis]
        ranges.append(None if whole else (row.const, row.const + (domain[axis] - 1) * step + 1, step))
    return None if not any(ranges) else Term("slice", (term,), domain, tuple(ranges))


def _reduction(node: Generic, read: Read) -> Term | None:
    if node.reducer is None:
        return None
    window = window_of(node)
    if window is not None:
        first, second = (read(node.operands[place]) for place in window.places)
        return Term("window", (first, second), node.shape, (window.kind, node))
    if ZERO in node.modes:
        return None
    if node.out_map.projection is None:  # axes of extent 1 that no loop goes over, as of a bias of a convolution
        kept = [place for place, row in enumerate(node.out_map.rows) if row.terms or row.const != 0]
        if len(kept) == len(node.shape) or any(node.shape[a] != 1 for a in range(len(node.shape)) if a not in kept):
            return None
        rows = tuple(node.out_map.rows[place] for place in kept)
        shape = tuple(node.shape[place] for place in kept)
        small = AffineMap(node.out_map.rank, rows)
        if small.projection is None:
            return None
        inner = generic(node.domain, shape, small, node.operands, node.maps, node.modes, node.body, node.reducer)
        term = term_of(inner, read)
        return None if term is None else _reshaped(term, node.shape)
    if tuple(node.domain[axis] for axis in node.out_map.projection) != node.shape:
        return None
    classes = classify(node)
    if isinstance(classes, Contraction) and all(_reads_all(node, place) for place in range(2)):
        return _contraction(node, classes, read)
    out = node.out_map.projection
    if out != tuple(range(len(out))) or node.reducer in ("argmax", "argmin"):
        return None
    # The body over the whole domain, in the order in which its one full operand has the axes.
    full = [axes for m in node.maps if (axes := m.projection) is not None and len(axes) == len(node.domain)]
    if not full:
        return None
    order = full[0]
    place = [order.index(axis) for axis in range(len(order))]
    domain = tuple(node.domain[axis] for axis in order)
    reads: list[Term] = []
    for operand, index_map in zip(node.operands, node.maps, strict=True):
        moved = index_map.renumber(len(domain), place)
        term = _aligned(read(operand), moved, domain)
        if term is None:
            return None
        reads.append(term)
    body = body_term(node.body, reads)
    if body is None:
        return None
    axes = tuple(sorted(place[axis] for axis in node.reduced_axes))
    if [axis for axis in order if axis in out] != list(out):
        return None
    return fm.reduce(node.reducer, axes, fm.spread(body, domain), node.shape)


def _squeezed(term: Term, index_map: AffineMap) -> tuple[Term, AffineMap]:
    """A read without the axes of extent 1 that it reads at 0."""
    rows = tuple(row for row in index_map.rows if row.terms)
    shape = tuple(extent for extent, row in zip(term.shape, index_map.rows, strict=True) if row.terms)
    return _reshaped(term, shape), AffineMap(index_map.rank, rows)


def _reads_all(node: Generic, place: int) -> bool:
    """Whether an operand is read over its whole, an axis of the domain for each of its own."""
    axes = node.maps[place].projection
    return axes is not None and tuple(node.domain[axis] for axis in axes) == node.operands[place].shape


def _contraction(node: Generic, found: Contraction, read: Read) -> Term | None:
    left_axes, right_axes = node.maps[0].projection, node.maps[1].projection
    out = node.out_map.projection
    assert left_axes is not None and right_axes is not None and out is not None
    left, right = read(node.operands[0]), read(node.operands[1])
    if not found.m and not found.n and set(left_axes) == set(right_axes):  # row by row, or all together
        if left_axes != right_axes:
            return None
        if len(left_axes) > 1:
            axes = tuple(place for place, axis in enumerate(left_axes) if axis in found.k)
            if [axis for axis in left_axes if axis in out] != list(out):
                return None
            inner = fm.elementwise("mul", (left, right))
            return fm.reduce("sum", axes, fm.spread(inner, left.shape), node.shape)
    if len(found.k) != 1 or len(found.m) > 1 or len(found.n) > 1:
        return _stacked(found, left, right, left_axes, right_axes, out, node.shape)
    (k,) = found.k
    m: tuple[int, ...]
    n: tuple[int, ...]
    if found.n and (not found.m or out.index(found.n[0]) < out.index(found.m[0])):
        left, right, left_axes, right_axes = right, left, right_axes, left_axes
        m, n = found.n, found.m
    else:
        m, n = found.m, found.n
    batch: tuple[int, ...] = found.batch
    if out != (*batch, *m, *n) or (batch and not (m and n)):
        return None
    first = _oriented(left, left_axes, (*batch, *m, k))
    second = _oriented(right, right_axes, (*batch, k, *n))
    if first is None or second is None:
        return None
    return fm.matmul(first, second, node.shape)


def _oriented(term: Term, axes: Sequence[int], wanted: Sequence[int]) -> Term | None:
    """The term with its axes as wanted, transposed where its last two are the other way round; a vector stays."""
    if tuple(axes) == tuple(wanted):
        return term
    if len(axes) >= 2 and (*axes[:-2], axes[-1], axes[-2]) == tuple(wanted):
        return fm.transpose(term)
    return None


def _stacked(
    found: Contraction,
    left: Term,
    right: Term,
    left_axes: tuple[int, ...],
    right_axes: tuple[int, ...],
    out: tuple[int, ...],
    shape: Shape,
) -> Term | None:
    """A stack of matrices times one matrix, X W^T with X of any rank: NumPy's matmul."""
    if found.batch or len(found.k) != 1:
        return None
    m: tuple[int, ...]
    n: tuple[int, ...]
    if len(found.m) == 1 and len(found.n) > 1:
        left, right, left_axes, right_axes = right, left, right_axes, left_axes
        m, n = found.n, found.m
    else:
        m, n = found.m, found.n
    (k,) = found.k
    if len(n) != 1 or out != (*m, *n) or left_axes != (*m, k):
        return None
    second = _oriented(right, right_axes, (k, *n))
    return None if second is None else fm.matmul(left, second, shape)


# --- Bodies ---------------------------------------------------------------------------------------------------------

_COMPARISONS = ("eq", "ne", "lt", "le")
_LOGIC = ("and", "or", "xor", "not")


def body_term(root: sc.Scalar, reads: Sequence[Term]) -> Term | None:
    """A scalar body over reads, element by element; None where it reads loop indices, or is too long."""
    done: dict[sc.Scalar, Term] = {}
    for node in sc.postorder(root):
        if isinstance(node, sc.Index | sc.InBounds):
            return None
        done[node] = reads[node.index] if isinstance(node, sc.Arg) else scalar_term(node, done)
        if done[node].weight > _MOST_PARTS:
            return None
    return done[root]


def scalar_term(node: sc.Scalar, done: Mapping[sc.Scalar, Term]) -> Term:
    """One part of a body, a number or an op, from the terms of its arguments."""
    match node:
        case sc.Literal():
            return fm.number(node.value)
        case sc.Size():
            return Term("size", (), (), node.extent)
        case sc.Apply():
            return _applied(node, [done[arg] for arg in node.args])
    raise TypeError(f"{type(node).__name__} depends on where it is read")


def _applied(node: sc.Apply, args: list[Term]) -> Term:
    match node.op:
        case "add" | "mul" | "div" | "pow":
            return fm.elementwise(node.op, args)
        case "sub":
            return fm.elementwise("add", (args[0], _negative(args[1])))
        case "neg":
            return _negative(args[0])
        case "select":
            return _select(args)
        case "cast":
            source = node.args[0].dtype
            if source == "bool":
                return fm.elementwise("iverson", args)
            if source.startswith("float") and not node.dtype.startswith("float"):
                return fm.elementwise("call", args, "trunc")
            return args[0]
        case op if op in _COMPARISONS:
            return fm.elementwise("compare", args, op)
        case op if op in _LOGIC:
            return fm.elementwise("logic", args, op)
        case op:
            return fm.elementwise("call", args, op)


def _negative(term: Term) -> Term:
    return fm.elementwise("mul", (fm.number(-1), term))


def _select(args: Sequence[Term]) -> Term:
    condition, then, other = args
    if fm.is_number(then, 0) and condition.op == "compare" and condition.value == "le":
        x, bound = condition.args
        if fm.is_number(bound, 0) and fm.alike(x, other):
            return fm.elementwise("call", (x,), "relu")
    return fm.elementwise("select", args)

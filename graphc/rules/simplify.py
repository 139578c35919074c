"""Algebra on graphs: what reads through what, so that views, fills and identity matrices cost nothing.

The rules are the Reasons below; those for bodies stand in `graphc.rules.simplify_scalar`.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.ir import scalar as sc
from graphc.ir.affine import ZERO, Affine, AffineMap, affine, axis_row, identity
from graphc.ir.changes import Reason, note
from graphc.ir.dtypes import is_float
from graphc.ir.extent import Shape
from graphc.ir.graph import Graph, rewrite
from graphc.ir.node import INSIDE, Const, Generic, Node, View, generic, view
from graphc.rules.inline import Draft, can_inline, inline_into
from graphc.rules.pattern import Rule
from graphc.rules.simplify_scalar import simplify_scalar

REINDEX = Reason("rewritten", "reindex", "what only re-reads another (transpose, slice, pad) is read through")
VIEW = Reason("rewritten", "view", "a view that adds or drops axes of extent 1 is read through")
FILL = Reason("rewritten", "fill", "a node without operands (a constant, arange, eye) is computed where it is used")
CONSTANT = Reason("folded", "constant", "a constant of one element becomes a number in the body that reads it")
DELTA = Reason("rewritten", "delta", "sum[k] select(k == e, f(k), 0) -> f(e)")
UNIT_AXIS = Reason("rewritten", "unit axis", "a reduced axis of extent 1 goes")
UNIT_COPY = Reason("rewritten", "unit copy", "a copy that only adds or drops axes of extent 1 is a view")
UNIT_OUTPUT = Reason("rewritten", "unit output", "an axis of extent 1 that is always 0 is added by a view")
UNIT_MAP = Reason("rewritten", "unit map", "a map of what has fewer axes is computed without its own axes of extent 1")
UNUSED_AXIS = Reason("rewritten", "unused axis", "a sum over an axis that nothing reads is a product with its extent")
ALGEBRA = Reason("rewritten", "algebra", "the rows of simplify_scalar that apply to the body")

MASK_PRODUCT = Rule("mask product", "select(p, 1, 0) * x", "select(p, x, 0)", "a mask made by graphc selects")


def simplify_outputs(outputs: Sequence[Node]) -> list[Node]:
    """Simplify graphs that hold masks made by graphc itself (the unit cotangents of a Jacobian)."""
    graph = Graph(tuple(outputs))
    for _ in range(2):  # the second round sees the deltas that the first one uncovered
        graph = rewrite(graph, lambda node: simplify_node(node, masks=True))
    return list(graph.outputs)


def simplify_node(node: Node, masks: bool = False) -> Node:
    """One node, whose operands are simple already, in its simplest form."""
    if not isinstance(node, Generic):
        return node
    node = _read_through(node)
    if not isinstance(node, Generic):
        return node
    body = simplify_scalar(node.body)
    if masks:
        body = _select_masks(body)
    if body is not node.body:
        node = note(ALGEBRA, node, _with_body(node, body))
    if isinstance(node, Generic) and node.reducer == "sum":
        node = note(DELTA, node, _delta(node))
    if isinstance(node, Generic) and any(node.domain[axis] == 1 for axis in node.reduced_axes):
        node = note(UNIT_AXIS, node, _unit_axes(node))
    if isinstance(node, Generic) and node.reducer == "sum":
        node = note(UNUSED_AXIS, node, _unused_axes(node))
    return note(UNIT_COPY, node, _unit_copy(node)) if isinstance(node, Generic) else node


def _unit_copy(node: Generic) -> Node:
    if not (node.is_map and isinstance(node.body, sc.Arg) and node.modes == (INSIDE,)):
        return node
    source = node.operands[0]
    read = [(row.single_axis, e) for row, e in zip(node.maps[0].rows, source.shape, strict=True) if e != 1]
    written = [(axis, extent) for axis, extent in enumerate(node.shape) if extent != 1]
    return view(source, node.shape) if read == written else node


def _unit_axes(node: Generic) -> Node:
    """Without the reduced axes of extent 1, whose index is 0."""
    gone = [axis for axis in node.reduced_axes if node.domain[axis] == 1]
    rank = len(node.domain) - len(gone)
    rows: list[Affine] = []
    for axis in range(len(node.domain)):
        rows.append(ZERO if axis in gone else axis_row(axis - sum(1 for other in gone if other < axis)))
    inner = AffineMap(rank, tuple(rows))
    domain = tuple(e for axis, e in enumerate(node.domain) if axis not in gone)
    maps = [index_map.compose(inner) for index_map in node.maps]
    body = sc.move_axes(node.body, rows, rank)
    out_map = node.out_map.compose(inner)
    return generic(domain, node.shape, out_map, node.operands, maps, node.modes, body, node.reducer)


def _with_body(node: Generic, body: sc.Scalar) -> Node:
    return generic(node.domain, node.shape, node.out_map, node.operands, node.maps, node.modes, body, node.reducer)


def _read_through(node: Generic) -> Node:
    for _ in range(8):  # producers are simple already: one or two rounds do
        if not any(map(_may_be_transparent, node.operands)):
            return node
        draft = Draft.of(node)
        read: list[tuple[Reason, Node]] = []
        for j, operand in enumerate(node.operands):
            if isinstance(operand, Const) and operand.value.size == 1 and node.modes[j] == INSIDE:
                number = sc.literal(operand.value.reshape(-1)[0], operand.dtype)
                draft.body = sc.substitute(draft.body, {sc.Arg(j, operand.dtype): number})
                read.append((CONSTANT, operand))
            elif isinstance(operand, View) and node.modes[j] == INSIDE and (rows := _unit_rows(operand, node.maps[j])):
                draft.operands[j] = operand.operand
                draft.maps[j] = AffineMap(node.maps[j].rank, rows)
                read.append((VIEW, operand))
            elif _is_transparent(node, j) and can_inline(node, j):
                inline_into(draft, node, j)
                read.append((REINDEX if operand.operands else FILL, operand))
        if not read:
            return node
        new = draft.finish(node)
        for reason, operand in read:
            note(reason, node, new, operand)
        if not isinstance(new, Generic):
            return new
        node = new
    return node


def _may_be_transparent(operand: Node) -> bool:
    """A quick look, which most operands do not pass."""
    if isinstance(operand, Generic):
        return not operand.operands or isinstance(operand.body, sc.Arg)
    return isinstance(operand, (Const, View))


def _unit_rows(operand: View, read: AffineMap) -> tuple[Affine, ...] | None:
    """The read of what a view shows, when the view only adds or drops axes of extent 1."""
    source = operand.operand.shape
    long = [axis for axis, extent in enumerate(operand.shape) if extent != 1]
    wanted = [axis for axis, extent in enumerate(source) if extent != 1]
    if not source or [operand.shape[axis] for axis in long] != [source[axis] for axis in wanted]:
        return None
    place = dict(zip(wanted, long, strict=True))
    return tuple(read.rows[place[axis]] if axis in place else ZERO for axis in range(len(source)))


def _is_transparent(node: Generic, j: int) -> bool:
    """A re-read or a fill; read through only where that cannot turn outside into inside."""
    producer = node.operands[j]
    if not isinstance(producer, Generic) or not producer.is_map:
        return False
    if not producer.operands:
        return node.modes[j] == INSIDE
    if not isinstance(producer.body, sc.Arg):
        return False
    return node.modes[j] == INSIDE or (producer.maps[0].is_identity and producer.shape == producer.operands[0].shape)


def _select_masks(body: sc.Scalar) -> sc.Scalar:
    replaced: dict[sc.Scalar, sc.Scalar] = {}
    for part in sc.postorder(body):
        if isinstance(part, sc.Apply) and part.op == "mul":
            now = sc.substitute(part, replaced)
            new = MASK_PRODUCT.apply(now)
            if new is not None:
                replaced[part] = new
    return simplify_scalar(sc.substitute(body, replaced))


def drop_unit_outputs(node: Node) -> Node:
    """Write the axes of extent 1 that the output map holds at 0 through a view: [i, 0] becomes a view of [i]."""
    if not isinstance(node, Generic):
        return node
    kept = [p for p, row in enumerate(node.out_map.rows) if not (row is ZERO and node.shape[p] == 1)]
    if len(kept) == len(node.shape):
        return node
    shape = tuple(node.shape[p] for p in kept)
    out_map = AffineMap(node.out_map.rank, tuple(node.out_map.rows[p] for p in kept))
    inner = generic(node.domain, shape, out_map, node.operands, node.maps, node.modes, node.body, node.reducer)
    return note(UNIT_OUTPUT, node, view(inner, node.shape))


def drop_unit_axes(node: Node) -> Node:
    """Compute what has fewer axes than its result without the result's axes of extent 1, and show it through a view.

    A mean with keepdims and all that follows from it (a channel's deviation, 1 x C x 1 x 1) then have the axes of the
    sums from which they come, and can be computed beside them.
    """
    if not (isinstance(node, Generic) and node.is_map and node.operands and 1 in node.shape):
        return node
    if any(len(operand.shape) >= len(node.shape) for operand in node.operands):
        return node
    long = [axis for axis, extent in enumerate(node.shape) if extent != 1]
    shape, rank = tuple(node.shape[axis] for axis in long), len(long)
    rows = [axis_row(long.index(axis)) if axis in long else ZERO for axis in range(len(node.shape))]
    inner = AffineMap(rank, tuple(rows))
    maps = [index_map.compose(inner) for index_map in node.maps]
    body = sc.move_axes(node.body, rows, rank)
    inside = generic(shape, shape, identity(rank), node.operands, maps, node.modes, body, None)
    return note(UNIT_MAP, node, view(inside, node.shape))


def _delta(node: Generic) -> Node:
    """sum[k] select(k == e, f, 0): keep the one k, where it lies in the domain."""
    body = node.body
    if not (isinstance(body, sc.Apply) and body.op == "select" and isinstance(body.args[2], sc.Literal)):
        return node
    condition, _, other = body.args
    if not isinstance(other, sc.Literal) or other.value != 0:
        return node
    reduced = set(node.reduced_axes)
    for equality in _conjuncts(condition):
        found = _solve(equality, reduced)
        if found is None:
            continue
        axis, row = found
        return _fix_axis(node, axis, row)
    return node


def _conjuncts(condition: sc.Scalar) -> list[sc.Scalar]:
    if isinstance(condition, sc.Apply) and condition.op == "and":
        return [part for arg in condition.args for part in _conjuncts(arg)]
    return [condition]


def _solve(equality: sc.Scalar, reduced: set[int]) -> tuple[int, Affine] | None:
    if not (isinstance(equality, sc.Apply) and equality.op == "eq"):
        return None
    for one, other in (equality.args, equality.args[::-1]):
        if isinstance(one, sc.Index) and one.axis in reduced:
            row = as_affine(other)
            if row is not None and row.coefficient(one.axis) == 0:
                return one.axis, row
    return None


def as_affine(node: sc.Scalar) -> Affine | None:
    """An integer scalar as an affine expression of loop indices, if it is one."""
    match node:
        case sc.Index():
            return axis_row(node.axis)
        case sc.Literal() if node.dtype == "int64":
            return Affine((), int(node.value))
        case sc.Size():
            return Affine((), node.extent)
        case sc.Apply(op="add") | sc.Apply(op="sub"):
            left, right = (as_affine(arg) for arg in node.args)
            if left is None or right is None:
                return None
            return left.plus(right, 1 if node.op == "add" else -1)
        case sc.Apply(op="mul"):
            for one, other in (node.args, node.args[::-1]):
                row = as_affine(other)
                if isinstance(one, sc.Literal) and row is not None:
                    return Affine((), 0).plus(row, int(one.value))
    return None


def _fix_axis(node: Generic, axis: int, row: Affine) -> Node:
    """The axis takes the value `row`, an expression of the other axes; outside the domain the point is 0."""
    rank = len(node.domain) - 1
    axes = [a if a < axis else a - 1 for a in range(rank + 1)]
    own = affine({axes[a]: c for a, c in row.terms}, row.const)
    rows = [own if a == axis else axis_row(axes[a]) for a in range(rank + 1)]
    inner = AffineMap(rank, tuple(rows))
    domain = tuple(e for a, e in enumerate(node.domain) if a != axis)
    body = sc.move_axes(node.body, rows, rank)
    modes = list(node.modes)
    maps = [index_map.compose(inner) for index_map in node.maps]
    bound = AffineMap(rank, (own,))
    limits: Shape = (node.domain[axis],)
    if not bound.stays_inside(domain, limits):
        body = sc.apply("select", sc.InBounds(bound, limits), body, sc.literal(0, body.dtype))
        modes = ["zero" if mode == INSIDE else mode for mode in modes]
    new = generic(
        domain, node.shape, node.out_map.compose(inner), node.operands, maps, modes, _known_equalities(body), "sum"
    )
    return _delta(new) if isinstance(new, Generic) and new.reducer == "sum" else new


def _known_equalities(body: sc.Scalar) -> sc.Scalar:
    """i == i is true."""
    same: dict[sc.Scalar, sc.Scalar] = {
        part: sc.TRUE
        for part in sc.postorder(body)
        if isinstance(part, sc.Apply)
        and part.op == "eq"
        and part.args[0] is part.args[1]
        and not is_float(part.args[0].dtype)
    }
    return simplify_scalar(sc.substitute(body, same))


def _unused_axes(node: Generic) -> Node:
    """Sum over an axis that neither map, body nor output reads: a product with the extent."""
    if not is_float(node.dtype):
        return node
    used = node.out_map.axes | sc.axes_of(node.body)
    for index_map in node.maps:
        used |= index_map.axes
    idle = [axis for axis in range(len(node.domain)) if axis not in used]
    if not idle:
        return node
    rank = len(node.domain) - len(idle)
    axes: list[int] = []
    for axis in range(len(node.domain)):
        axes.append(axis - sum(1 for other in idle if other < axis))
    body = node.body
    for axis in idle:
        if node.domain[axis] != 1:
            body = sc.apply("mul", body, sc.cast(sc.size_of(node.domain[axis]), body.dtype))
    domain = tuple(e for a, e in enumerate(node.domain) if a not in idle)
    body = sc.move_axes(body, [axis_row(a) for a in axes], rank)
    maps = [index_map.renumber(rank, axes) for index_map in node.maps]
    out_map = node.out_map.renumber(rank, axes)
    return generic(domain, node.shape, out_map, node.operands, maps, node.modes, simplify_scalar(body), "sum")

"""The vector-Jacobian and Jacobian-vector products of each kind of node.

Generic, sum:   out[o(d)] += f(x_0[m_0(d)], ...)   gives   x̄_j[m_j(d)] += ō[o(d)] * df/dx_j
                the output map and input map j change places; the cotangent is one more input, read through o
Generic, max:   the same, where d is the first maximum: select(d == argmax[o(d)], ., 0)
Generic, prod:  the same, times the product of the other factors
View, Join:     the cotangent in the operand's shape; the cotangent for each part
Opaque:         a rule of its own
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeAlias

from graphc.errors import GradientError
from graphc.ir import scalar as sc
from graphc.ir.affine import Affine, AffineMap, axis_row, identity
from graphc.ir.build import add_nodes, fill
from graphc.ir.extent import Shape
from graphc.ir.node import INSIDE, SKIP, Generic, Join, Node, Opaque, View, generic, opaque, view
from graphc.ir.origin import where
from graphc.rules.derivative import adjoints
from graphc.rules.simplify_scalar import simplify_scalar


def vjp_node(node: Node, cotangent: Node, wanted: Collection[int]) -> dict[int, Node]:
    """For each wanted operand (by position) on which the node depends smoothly, its cotangent."""
    match node:
        case Generic():
            return _vjp_generic(node, cotangent, wanted)
        case View():
            return {0: view(cotangent, node.operand.shape)}
        case Join():
            return dict.fromkeys(wanted, cotangent)
        case Opaque():
            rule = OPAQUE_VJP.get(node.op)
            if rule is None:
                raise GradientError(f"{node.op} has no gradient", where(node))
            return rule(node, cotangent, wanted)
    return {}


def _vjp_generic(node: Generic, cotangent: Node, wanted: Collection[int]) -> dict[int, Node]:
    if node.reducer in ("argmax", "argmin"):
        return {}
    reads = _Reads(node)
    extra = None
    masked = _unmasked(cotangent) if node.is_map and not _is_linear(node.body) else None
    if masked is not None:
        cotangent, mask = masked
        extra = reads.add(mask, node.out_map)
    seed = reads.add(cotangent, node.out_map)
    if node.reducer in ("max", "min"):
        extra = _is_extreme(node, reads)
    elif node.reducer == "prod":
        seed = sc.apply("mul", seed, reads.add(_product_of_others(node), identity(len(node.domain))))
    own = adjoints(node.body, seed, wanted)
    result: dict[int, Node] = {}
    for j, body in own.items():
        if isinstance(body, sc.Literal) and body.value == 0:
            continue
        if extra is not None:
            body = sc.apply("select", extra, body, sc.literal(0, body.dtype))
        operands, maps, modes, body = reads.with_output(node, body)
        operand = node.operands[j]
        result[j] = generic(node.domain, operand.shape, node.maps[j], operands, maps, modes, body, "sum")
    return result


def _unmasked(cotangent: Node) -> tuple[Node, Node] | None:
    """A cotangent select(mask, value, 0) as (value, mask): a partial that is infinite where the mask is false must
    not meet the 0, so that where(x > 0, log(x), 0) has the derivative 0 at 0."""
    if not isinstance(cotangent, Generic) or not cotangent.is_map or SKIP in cotangent.modes:
        return None
    body = cotangent.body
    if not (isinstance(body, sc.Apply) and body.op == "select"):
        return None
    mask, value, other = body.args
    if isinstance(value, sc.Literal):
        mask, value, other = sc.apply("not", mask), other, value
    if not isinstance(other, sc.Literal) or other.value != 0:
        return None
    reads = (cotangent.domain, cotangent.shape, cotangent.out_map, cotangent.operands, cotangent.maps, cotangent.modes)
    return generic(*reads, value, None), generic(*reads, mask, None)


_LINEAR = frozenset({"add", "sub", "neg", "cast", "select", "eq", "ne", "lt", "le", "and", "or", "not", "isnan"})


def _is_linear(body: sc.Scalar) -> bool:
    """All partials are plain numbers."""
    return all(
        part.op in _LINEAR or (part.op == "mul" and isinstance(part.args[1], sc.Literal))
        for part in sc.postorder(body)
        if isinstance(part, sc.Apply)
    )


class _Reads:
    """The operands of a derivative: the node's own, then the ones added."""

    def __init__(self, node: Generic) -> None:
        self.operands = list(node.operands)
        self.maps = list(node.maps)
        self.modes = list(node.modes)

    def add(self, operand: Node, index_map: AffineMap, mode: str = SKIP) -> sc.Scalar:
        self.operands.append(operand)
        self.maps.append(index_map)
        self.modes.append(mode)
        return sc.Arg(len(self.operands) - 1, operand.dtype)

    def with_output(
        self, node: Generic, body: sc.Scalar
    ) -> tuple[Sequence[Node], Sequence[AffineMap], Sequence[str], sc.Scalar]:
        """Where the derivative uses the node's own value (exp' = y), read it instead of computing it again."""
        if node.is_map and isinstance(node.body, sc.Apply) and SKIP not in node.modes:
            new = sc.Arg(len(self.operands), node.dtype)
            shared = sc.replace_one(body, node.body, new)
            if shared is not body:
                operands = [*self.operands, node]
                return operands, [*self.maps, node.out_map], [*self.modes, INSIDE], shared
        return self.operands, self.maps, self.modes, body


def _is_extreme(node: Generic, reads: _Reads) -> sc.Scalar:
    """Whether this point of the domain is the one whose value the max (or min) took."""
    first = generic(
        node.domain, node.shape, node.out_map, node.operands, node.maps, node.modes, node.body, f"arg{node.reducer}"
    )
    return sc.apply("eq", _position(node), reads.add(first, node.out_map))


def _position(node: Generic) -> sc.Scalar:
    """The row-major position within the reduced axes, the number that argmax gives."""
    position: sc.Scalar = sc.literal(0, "int64")
    for axis in node.reduced_axes:
        scaled = sc.apply("mul", position, sc.size_of(node.domain[axis]))
        position = simplify_scalar(sc.apply("add", simplify_scalar(scaled), sc.Index(axis)))
        position = simplify_scalar(position)
    return position


def _product_of_others(node: Generic) -> Node:
    """For each point of the domain the product of the body over the other points with the same output."""
    rank, reduced = len(node.domain), node.reduced_axes
    wide = rank + len(reduced)
    rows: list[Affine] = [axis_row(axis) for axis in range(rank)]
    same: sc.Scalar = sc.TRUE
    for position, axis in enumerate(reduced):
        rows[axis] = axis_row(rank + position)
        equal = sc.apply("eq", sc.Index(axis), sc.Index(rank + position))
        same = simplify_scalar(sc.apply("and", same, equal))
    other = AffineMap(wide, tuple(rows))
    body = sc.move_axes(node.body, rows, wide)
    body = sc.apply("select", same, sc.literal(1, body.dtype), body)
    domain = (*node.domain, *(node.domain[axis] for axis in reduced))
    keep = AffineMap(wide, tuple(axis_row(axis) for axis in range(rank)))
    maps = [index_map.compose(other) for index_map in node.maps]
    return generic(domain, node.domain, keep, node.operands, maps, node.modes, body, "prod")


def jvp_node(node: Node, tangents: Mapping[int, Node]) -> Node | None:
    """The tangent of a node from those of some operands; None when it does not depend on them smoothly."""
    match node:
        case Generic():
            return _jvp_generic(node, tangents)
        case View():
            return view(tangents[0], node.shape)
        case Join():
            parts = [t for j in range(len(node.parts)) if (t := tangents.get(j)) is not None]
            return add_nodes(parts)
        case Opaque():
            rule = OPAQUE_JVP.get(node.op)
            if rule is None:
                raise GradientError(f"{node.op} has no derivative", where(node))
            return rule(node, tangents)
    return None


def _jvp_generic(node: Generic, tangents: Mapping[int, Node]) -> Node | None:
    if node.reducer in ("argmax", "argmin"):
        return None
    reads = _Reads(node)
    slopes = adjoints(node.body, sc.literal(1, node.body.dtype), tangents)
    terms: list[sc.Scalar] = []
    for j, slope in slopes.items():
        if isinstance(slope, sc.Literal) and slope.value == 0:
            continue
        tangent = reads.add(tangents[j], node.maps[j], node.modes[j])
        terms.append(_times(slope, tangent))
    if not terms:
        return None
    body = terms[0]
    for term in terms[1:]:
        body = sc.apply("add", body, term)
    if node.reducer in ("max", "min"):
        body = sc.apply("select", _is_extreme(node, reads), body, sc.literal(0, body.dtype))
    elif node.reducer == "prod":
        body = sc.apply("mul", body, reads.add(_product_of_others(node), identity(len(node.domain))))
    operands, maps, modes, body = reads.with_output(node, body)
    reducer = None if node.reducer is None else "sum"
    return generic(node.domain, node.shape, node.out_map, operands, maps, modes, body, reducer)


def _times(slope: sc.Scalar, tangent: sc.Scalar) -> sc.Scalar:
    """slope * tangent, with the product inside a mask."""
    if isinstance(slope, sc.Apply) and slope.op == "select":
        condition, then, other = slope.args
        return sc.apply("select", condition, _times(then, tangent), _times(other, tangent))
    if isinstance(slope, sc.Literal) and slope.value == 0:
        return slope
    tangent = sc.cast(tangent, slope.dtype)
    return simplify_scalar(sc.apply("mul", slope, tangent))


# --- Opaque ops -----------------------------------------------------------------------------------------------------


def _take_vjp(node: Opaque, cotangent: Node, wanted: Collection[int]) -> dict[int, Node]:
    array, indices = node.operands
    axis = node.attribute("axis")
    return {0: opaque("scatter_add", (cotangent, indices), array.shape, array.dtype, axis=axis)}


def _scatter_add_vjp(node: Opaque, cotangent: Node, wanted: Collection[int]) -> dict[int, Node]:
    updates, indices = node.operands
    return {0: opaque("take", (cotangent, indices), updates.shape, updates.dtype, axis=node.attribute("axis"))}


def _cumsum_vjp(node: Opaque, cotangent: Node, wanted: Collection[int]) -> dict[int, Node]:
    reverse = 1 - node.attribute("reverse")
    axis = node.attribute("axis")
    return {0: opaque("cumsum", (cotangent,), cotangent.shape, cotangent.dtype, axis=axis, reverse=reverse)}


CustomBackward: TypeAlias = Callable[[Node, Sequence[Node]], Sequence[Node | None]]
_custom_backward: dict[int, CustomBackward] = {}


def register_custom(backward: CustomBackward) -> int:
    """Keep the user's backward function of one application: of the cotangent and (the value, the arguments). The key
    goes into the node's attributes."""
    key = len(_custom_backward) + 1
    _custom_backward[key] = backward
    return key


def _custom_vjp(node: Opaque, cotangent: Node, wanted: Collection[int]) -> dict[int, Node]:
    """Operand 0 is the value; the gradients of the others are what the user's function says."""
    gradients = _custom_backward[node.attribute("key")](cotangent, node.operands)
    return {j + 1: gradient for j, gradient in enumerate(gradients) if gradient is not None and j + 1 in wanted}


def _value_vjp(node: Opaque, cotangent: Node, wanted: Collection[int]) -> dict[int, Node]:
    return {0: cotangent}


def _value_jvp(node: Opaque, tangents: Mapping[int, Node]) -> Node | None:
    return tangents.get(0)


def _linear_jvp(node: Opaque, tangents: Mapping[int, Node]) -> Node | None:
    """All three are linear in their first operand."""
    if 0 not in tangents:
        return None
    operands = (tangents[0], *node.operands[1:])
    return opaque(node.op, operands, node.shape, node.dtype, **dict(node.attributes))


OPAQUE_VJP: Mapping[str, Callable[[Opaque, Node, Collection[int]], dict[int, Node]]] = {
    "take": _take_vjp,
    "scatter_add": _scatter_add_vjp,
    "cumsum": _cumsum_vjp,
    "checked": lambda node, cotangent, wanted: {},
    "stop_gradient": lambda node, cotangent, wanted: {},
    "custom_vjp": _custom_vjp,
    "checkpoint_in": _value_vjp,
    "checkpoint_out": _value_vjp,
    "again": _value_vjp,
}
OPAQUE_JVP: Mapping[str, Callable[[Opaque, Mapping[int, Node]], Node | None]] = {
    "take": _linear_jvp,
    "scatter_add": _linear_jvp,
    "cumsum": _linear_jvp,
    "checked": lambda node, tangents: None,
    "stop_gradient": lambda node, tangents: None,
    "custom_vjp": _value_jvp,
    "checkpoint_in": _value_jvp,
    "checkpoint_out": _value_jvp,
    "again": _value_jvp,
}


def zeros(shape: Shape, dtype: str) -> Node:
    """The cotangent of what a loss does not depend on."""
    return fill(shape, 0, dtype)

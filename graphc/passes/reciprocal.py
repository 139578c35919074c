"""Division by a root that many elements share becomes multiplication by its reciprocal.

    x[i,j] / s[i]  with s = sqrt(v)    ->    x[i,j] * r[i]  with r = 1 / s

A processor divides some twenty times slower than it multiplies, and normalisation divides every element by the root of
its row's (or channel's) variance. The result differs by at most one unit in the last place: two roundings instead of
one. It is done for roots alone, because theirs are the reciprocals that neither overflow nor lose digits: a root that
is not 0 or infinite lies between 3e-23 and 2e19 in float32 (2e-162 and 2e154 in float64); and 0 and infinity give the
same in both forms.
"""

from __future__ import annotations

from math import prod

from graphc.ir import scalar as sc
from graphc.ir.affine import identity
from graphc.ir.changes import Reason, note
from graphc.ir.extent import ints
from graphc.ir.graph import Graph, rewrite
from graphc.ir.node import Generic, Node, generic, scalar_map
from graphc.ir.origin import originating, origins_of

LEAST_SHARED = 8  # elements that divide by one root
RECIPROCAL = Reason("rewritten", "shared reciprocal", "x[i,j] / sqrt(v)[i] -> x[i,j] * r[i]", "products are faster")


def multiply_by_reciprocals(graph: Graph) -> Graph:
    """Before: extents are known. After: the divisions of the module's text are multiplications."""
    return rewrite(graph, lambda node: _rewritten(node) if isinstance(node, Generic) else node)


def _rewritten(node: Generic) -> Node:
    order = sc.postorder(node.body)
    divisors = {part.args[1] for part in order if isinstance(part, sc.Apply) and part.op == "div"}
    operands, maps, modes = list(node.operands), list(node.maps), list(node.modes)
    factors: dict[sc.Scalar, sc.Scalar] = {}
    for j, root in enumerate(node.operands):
        divisor = sc.Arg(j, root.dtype)
        if divisor in divisors and _is_root(root) and prod(ints(node.domain)) >= LEAST_SHARED * prod(ints(root.shape)):
            factors[divisor] = sc.Arg(len(operands), root.dtype)
            operands.append(_reciprocal(root))
            maps.append(node.maps[j])
            modes.append(node.modes[j])
    if not factors:
        return node
    done: dict[sc.Scalar, sc.Scalar] = {}
    for part in order:
        if isinstance(part, sc.Apply) and part.op == "div" and part.args[1] in factors:
            done[part] = sc.apply("mul", done[part.args[0]], factors[part.args[1]])
        else:
            arguments = part.args if isinstance(part, sc.Apply) else ()
            done[part] = sc.substitute(part, {arg: done[arg] for arg in arguments if done[arg] is not arg})
    new = generic(node.domain, node.shape, node.out_map, operands, maps, modes, done[node.body], node.reducer)
    return note(RECIPROCAL, node, new)


def _is_root(node: Node) -> bool:
    """A map of square roots, every element of which may be read."""
    return isinstance(node, Generic) and node.is_map and isinstance(node.body, sc.Apply) and node.body.op == "sqrt"


def _reciprocal(root: Node) -> Node:
    one, x = sc.literal(1, root.dtype), sc.Arg(0, root.dtype)
    with originating(origins_of(root)):
        return scalar_map(root.shape, (root,), (identity(len(root.shape)),), sc.apply("div", one, x))

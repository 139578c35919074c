"""A mask x <= 0 is read from y = relu(x) instead of from x.

For y = select(x <= 0, a, x) with a <= 0, the tests  y <= 0  and  x <= 0  agree for every x, NaN and the zeros
included, and so do  0 < y  and  0 < x.  The gradient of ReLU tests x, the next layer reads y: where y is stored anyway,
x then has no other reader than y, and never becomes an array (the bias of a layer stays in the epilogue of its
contraction).
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.ir import scalar as sc
from graphc.ir.changes import Reason, carried, note
from graphc.ir.classify import is_product
from graphc.ir.graph import Graph, rebuild
from graphc.ir.node import Generic, Node
from graphc.ir.origin import originating, origins_of
from graphc.ir.walk import postorder

BY_RESULT = Reason("rewritten", "mask by result", "x <= 0 -> relu(x) <= 0", "x need not be stored for its sign alone")


def mask_by_result(graph: Graph) -> Graph:
    """After: no node is stored only for its sign, where a stored node has the same sign."""
    readers = graph.readers()
    outputs = set(graph.outputs)
    same_sign: dict[Node, Node] = {}  # x: y
    for node in graph.nodes:
        if not _keeps_sign(node) or not (node in outputs or any(map(_needs_array, readers[node]))):
            continue
        (source,) = node.operands
        others = [reader for reader in readers[source] if reader is not node]
        if isinstance(source, Generic) and source not in outputs and others:
            if all(_reads_sign(reader, source) for reader in others):
                same_sign[source] = node
    if not same_sign:
        return graph

    def reads(node: Node) -> Sequence[Node]:
        return [o if same_sign.get(o, node) is node else same_sign[o] for o in node.operands]

    done: dict[Node, Node] = {}
    for node in postorder(graph.outputs, reads):
        with originating(origins_of(node)):
            read = reads(node)
            new = rebuild(node, [done[operand] for operand in read])
            done[node] = new if tuple(read) == node.operands else note(BY_RESULT, node, new)
    carried(done)
    return Graph(tuple(done[node] for node in graph.outputs), graph.names)


def _keeps_sign(node: Node) -> bool:
    """y = select(x <= 0, a, x), elementwise, where a is a number that is not positive, or x times a positive one."""
    if not isinstance(node, Generic) or not node.is_map or len(node.operands) != 1 or not node.maps[0].is_identity:
        return False
    x = sc.Arg(0, node.operands[0].dtype)
    zero = sc.literal(0, x.dtype)
    match node.body:
        case sc.Apply(op="select", args=(condition, below, above)):
            if condition is not sc.apply("le", x, zero) or above is not x or node.operands[0].shape != node.shape:
                return False
            match below:
                case sc.Literal():
                    return bool(below.value <= 0)
                case sc.Apply(op="mul", args=(factor, sc.Literal() as slope)):
                    return factor is x and bool(slope.value > 0)
    return False


def _needs_array(reader: Node) -> bool:
    """Whether what the node reads has to be stored: a product reads each element many times."""
    return not isinstance(reader, Generic) or is_product(reader)


def _reads_sign(reader: Node, source: Node) -> bool:
    """The node uses nothing of the source but the tests x <= 0 and 0 < x."""
    if not isinstance(reader, Generic):
        return False
    args = {sc.Arg(j, source.dtype) for j, operand in enumerate(reader.operands) if operand is source}
    zero = sc.literal(0, source.dtype)
    for part in sc.postorder(reader.body):
        if isinstance(part, sc.Apply) and not args.isdisjoint(part.args):
            one, other = part.args[0], part.args[-1]
            if not ((part.op == "le" and other is zero) or (part.op == "lt" and one is zero)):
                return False
    return reader.body not in args

"""The ops outside index notation (`graphc.ir.opaque`) as NumPy calls."""

from __future__ import annotations

from collections.abc import Sequence

from graphc.errors import BackendError
from graphc.ir.extent import ints
from graphc.ir.node import Opaque
from graphc_numpy.code import Code, shape_text
from graphc_numpy.literals import dtype_text


def define(code: Code, node: Opaque, names: Sequence[str], target: str) -> None:
    """Lines that define `target`."""
    memory = (ints(node.shape), node.dtype)
    if node.op == "take":
        array, indices = names
        axis = node.attribute("axis")
        extent = ints(node.operands[0].shape)[axis]
        code.statement(f'{code.helper("check_bounds")}({indices}, {extent}, "take")', (indices,))
        code.assign(f"np.take({array}, {indices}, axis={axis})", (array, indices), memory, target)
    elif node.op == "scatter_add":
        _scatter_add(code, node, names, target)
    elif node.op == "checked":
        (indices,) = names
        extent = node.attribute("extent")
        code.statement(f'{code.helper("check_bounds")}({indices}, {extent}, "checked")', (indices,))
        code.assign(indices, (indices,), memory, target, view_of=indices)
    elif node.op == "cumsum":
        (array,) = names
        axis = node.attribute("axis")
        dtype = dtype_text(node.dtype)
        if node.attribute("reverse"):
            text = f"np.flip(np.cumsum(np.flip({array}, {axis}), axis={axis}, dtype={dtype}), {axis}).copy()"
        else:
            text = f"np.cumsum({array}, axis={axis}, dtype={dtype})"
        code.assign(text, (array,), memory, target)
    elif node.op in ("stop_gradient", "custom_vjp"):
        code.assign(f"{names[0]}.copy()", (names[0],), memory, target)
    else:
        raise BackendError(f"numpy: the op {node.op!r} is not known")


def _scatter_add(code: Code, node: Opaque, names: Sequence[str], target: str) -> None:
    updates, indices = names
    axis = node.attribute("axis")
    shape = ints(node.shape)
    index_shape, update_shape = ints(node.operands[1].shape), ints(node.operands[0].shape)
    rank = len(index_shape)
    # The gradient of take: the op that the user wrote, and whose indices these are.
    code.statement(f'{code.helper("check_bounds")}({indices}, {shape[axis]}, "take")', (indices,))
    code.assign(f"np.zeros({shape_text(shape)}, {dtype_text(node.dtype)})", (), (shape, node.dtype), target)
    if axis == 0:
        code.statement(f"np.add.at({target}, {indices}, {updates})", (target, indices, updates))
        return
    source = tuple(range(axis, axis + rank))
    order = [*source, *(a for a in range(len(update_shape)) if a not in source)]
    moved = f"np.moveaxis({target}, {axis}, 0)"
    code.statement(
        f"np.add.at({moved}, {indices}, {updates}.transpose({', '.join(map(str, order))}))", (target, indices, updates)
    )

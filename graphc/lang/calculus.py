"""Derivatives as graphs: grad, vjp, jvp, jacobian, hessian, hvp, stop_gradient, custom_vjp.

All are built symbolically, before anything is compiled, and can be differentiated again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import overload

from graphc.errors import ArgumentError, GradientError, ShapeError
from graphc.ir import scalar as sc
from graphc.ir.build import fill
from graphc.ir.dtypes import is_float
from graphc.ir.extent import format_shape
from graphc.ir.graph import topological
from graphc.ir.node import Node, Opaque, leaf, opaque, scalar_map
from graphc.ir.origin import originating, where
from graphc.lang.source import named_op, new_origin, user_line
from graphc.lang.tensor import Tensor, TensorLike, as_tensor
from graphc.rules.batch import stack_over
from graphc.rules.grad import backward, forward
from graphc.rules.simplify import simplify_outputs
from graphc.rules.stable import stabilise
from graphc.rules.vjp import OPAQUE_VJP, register_custom


def _tensors(what: str, values: Tensor | Sequence[Tensor]) -> list[Tensor]:
    items = list(values) if isinstance(values, Iterable) and not isinstance(values, Tensor) else [values]
    for item in items:
        if not isinstance(item, Tensor):
            raise ArgumentError(f"{what}: a tensor is needed, not {type(item).__name__}", user_line())
    return items


def _check_leaves(op: str, leaves: Sequence[Tensor]) -> None:
    for tensor in leaves:
        if not is_float(tensor.dtype):
            label = tensor.name or "a tensor"
            raise GradientError(f"{op}: {label} has dtype {tensor.dtype}; only floats have gradients", user_line())


def _check_paths(op: str, outputs: Sequence[Node], leaves: Sequence[Node]) -> None:
    """A leaf that is reached only through an op without a gradient is an error, not silently zero."""
    for node in topological(outputs):
        if isinstance(node, Opaque) and node.step is None and node.op not in OPAQUE_VJP:
            below = set(topological((node,)))
            if any(one in below for one in leaves):
                raise GradientError(f"{op}: {node.op} has no gradient", where(node) or user_line())


def _sweep(op: str, outputs: list[Node], cotangents: list[Node], wrt: list[Tensor]) -> list[Tensor]:
    leaves = [tensor.node for tensor in wrt]
    _check_paths(op, outputs, leaves)
    outputs = stabilise(outputs, keep=leaves)
    found = backward(outputs, cotangents, leaves)
    result: list[Node] = []
    for one in leaves:
        result.append(found[one] if one in found else fill(one.shape, 0, one.dtype))
    return [Tensor(node) for node in stabilise(result, keep=leaves)]


@overload
def grad(loss: Tensor, wrt: Tensor) -> Tensor: ...
@overload
def grad(loss: Tensor, wrt: Sequence[Tensor]) -> list[Tensor]: ...
def grad(loss: Tensor, wrt: Tensor | Sequence[Tensor]) -> Tensor | list[Tensor]:
    """The gradient of a scalar with respect to a tensor, or to each of a list (a list for a list, one for one).

    A float tensor that the loss does not depend on has gradient zeros. Errors: `GradientError` for a loss that is not
    a float scalar, for an integer tensor, and for an op without a gradient on the way.

    >>> import graphc as gc
    >>> x = gc.input("x", (3,))
    >>> gc.grad(gc.sum(x * x), x)
    <Tensor float32(3,)>
    """
    leaves = _tensors("grad", wrt)
    (target,) = _tensors("grad", loss)
    if target.shape != ():
        raise GradientError(
            f"grad: the loss must be a scalar, its shape is {format_shape(target.shape)}; "
            "take a sum or a mean, or use vjp or jacobian",
            user_line(),
        )
    if not is_float(target.dtype):
        raise GradientError(f"grad: the loss has dtype {target.dtype}; only floats have gradients", user_line())
    _check_leaves("grad", leaves)
    with originating((replace(new_origin("one"), role="grad"),)):
        seed = fill((), 1, target.dtype)
    found = _sweep("grad", [target.node], [seed], leaves)
    return found[0] if isinstance(wrt, Tensor) else found


@overload
def vjp(output: Tensor, wrt: Tensor, cotangent: TensorLike) -> Tensor: ...
@overload
def vjp(output: Tensor, wrt: Sequence[Tensor], cotangent: TensorLike) -> list[Tensor]: ...
def vjp(output: Tensor, wrt: Tensor | Sequence[Tensor], cotangent: TensorLike) -> Tensor | list[Tensor]:
    """The vector-Jacobian product: the gradient of sum(cotangent * output), the cotangent in the output's shape."""
    leaves = _tensors("vjp", wrt)
    vector = as_tensor(cotangent, "vjp")
    if vector.shape != output.shape:
        raise ShapeError(
            f"vjp: the cotangent has shape {format_shape(vector.shape)}, the output {format_shape(output.shape)}",
            user_line(),
        )
    _check_leaves("vjp", leaves)
    found = _sweep("vjp", [output.node], [vector.astype(output.dtype).node], leaves)
    return found[0] if isinstance(wrt, Tensor) else found


def jvp(output: Tensor, wrt: Tensor | Sequence[Tensor], tangent: TensorLike | Sequence[TensorLike]) -> Tensor:
    """The Jacobian-vector product: how the output changes when each leaf moves along its tangent."""
    leaves = _tensors("jvp", wrt)
    given = [tangent] if isinstance(wrt, Tensor) else list(tangent)
    if len(given) != len(leaves):
        raise ArgumentError(f"jvp: {len(leaves)} tensors, but {len(given)} tangents", user_line())
    _check_leaves("jvp", leaves)
    vectors = [as_tensor(vector, "jvp").astype(one.dtype) for vector, one in zip(given, leaves, strict=True)]
    for one, vector in zip(leaves, vectors, strict=True):
        if one.shape != vector.shape:
            raise ShapeError(
                f"jvp: a tangent of shape {format_shape(vector.shape)} for {one.name or 'a tensor'} "
                f"of shape {format_shape(one.shape)}",
                user_line(),
            )
    nodes = [one.node for one in leaves]
    (target,) = stabilise([output.node], keep=nodes)
    found = forward([target], {one: vector.node for one, vector in zip(nodes, vectors, strict=True)})
    if target not in found:
        return Tensor(fill(output.shape, 0, output.dtype))
    return Tensor(found[target])


@overload
def jacobian(output: Tensor, wrt: Tensor) -> Tensor: ...
@overload
def jacobian(output: Tensor, wrt: Sequence[Tensor]) -> list[Tensor]: ...
def jacobian(output: Tensor, wrt: Tensor | Sequence[Tensor]) -> Tensor | list[Tensor]:
    """All partial derivatives: shape output.shape + leaf.shape, J[i..., j...] = d output[i...] / d leaf[j...]."""
    leaves = _tensors("jacobian", wrt)
    _check_leaves("jacobian", leaves)
    if not is_float(output.dtype):
        raise GradientError(f"jacobian: the output has dtype {output.dtype}; only floats have gradients", user_line())
    shape = output.shape
    with originating((new_origin("jacobian"),)):
        seed = leaf("cotangent", shape, output.dtype, "input")
        found = _sweep("jacobian", [output.node], [seed], leaves)
        rank = len(shape)
        same: sc.Scalar = sc.TRUE
        for axis in range(rank):
            equal = sc.apply("eq", sc.Index(axis), sc.Index(rank + axis))
            same = equal if same is sc.TRUE else sc.apply("and", same, equal)
        body = sc.apply("select", same, sc.literal(1, output.dtype), sc.literal(0, output.dtype))
        unit = scalar_map((*shape, *shape), (), (), body)
        stacked = stack_over([tensor.node for tensor in found], seed, unit, shape)
        result = [Tensor(node) for node in simplify_outputs(stacked)]
    return result[0] if isinstance(wrt, Tensor) else result


def hessian(loss: Tensor, wrt: Tensor) -> Tensor:
    """Second derivatives of a scalar: shape wrt.shape + wrt.shape."""
    return jacobian(grad(loss, wrt), wrt)


def hvp(
    loss: Tensor, wrt: Tensor | Sequence[Tensor], vector: TensorLike | Sequence[TensorLike]
) -> list[Tensor] | Tensor:
    """The Hessian of a scalar times a vector, without the Hessian: the tangent of the gradient along the vector."""
    if isinstance(wrt, Tensor):
        return jvp(grad(loss, wrt), wrt, vector)
    return [jvp(one, wrt, vector) for one in grad(loss, wrt)]


@named_op
def stop_gradient(x: TensorLike) -> Tensor:
    """x, treated as a constant by every derivative."""
    node = as_tensor(x).node
    return Tensor(opaque("stop_gradient", (node,), node.shape, node.dtype))


def custom_vjp(function: Callable[..., Tensor], rule: Callable[..., Sequence[Tensor | None]]) -> Callable[..., Tensor]:
    """`function` with a gradient of one's own: rule(cotangent, output, *arguments) gives one for each argument.

    >>> import graphc as gc
    >>> clipped = gc.custom_vjp(lambda x: x, lambda g, y, x: [gc.clip(g, -1, 1)])
    >>> x = gc.input("x", ())
    >>> float(gc.evaluate(gc.grad(5 * clipped(x), x), {x: 2.0}))
    1.0
    """

    def wrapped(*arguments: TensorLike) -> Tensor:
        tensors = [as_tensor(argument, "custom_vjp") for argument in arguments]
        value = function(*tensors)

        def run(cotangent: Node, nodes: Sequence[Node]) -> list[Node | None]:
            output, *arguments = map(Tensor, nodes)  # what stands for value and tensors by now
            gradients = rule(Tensor(cotangent), output, *arguments)
            if len(gradients) != len(tensors):
                raise GradientError(
                    f"custom_vjp: the rule gave {len(gradients)} gradients for {len(tensors)} arguments", user_line()
                )
            out: list[Node | None] = []
            for gradient, tensor in zip(gradients, tensors, strict=True):
                if gradient is not None and gradient.shape != tensor.shape:
                    raise GradientError(
                        f"custom_vjp: the rule gave a gradient {format_shape(gradient.shape)} "
                        f"for an argument {format_shape(tensor.shape)}",
                        user_line(),
                    )
                out.append(None if gradient is None else gradient.node)
            return out

        with originating((new_origin("custom_vjp"),)):
            operands = [value.node, *(tensor.node for tensor in tensors)]
            key = register_custom(run)
            return Tensor(opaque("custom_vjp", operands, value.shape, value.dtype, key=key))

    return wrapped

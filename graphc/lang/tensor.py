"""Tensor: an expression with a shape and a dtype; leaves of four kinds.

Operators, NumPy functions and indexing build graphs; nothing is computed until `gc.compile` or `gc.evaluate`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from graphc.errors import ArgumentError, DTypeError, GraphcError, ShapeError
from graphc.ir.dtypes import USER_DTYPES, as_dtype
from graphc.ir.extent import Extent, Shape, as_extent, format_shape, ints
from graphc.ir.node import Input, Node, const, leaf
from graphc.ir.origin import add_origins, origins_of
from graphc.lang.source import named_op, new_origin, registry, user_line

Array: TypeAlias = NDArray[Any]
ShapeLike: TypeAlias = int | str | Sequence[int | str | Extent]
TensorLike: TypeAlias = Any  # a Tensor, a number, or anything that NumPy can turn into an array of numbers
Initialiser: TypeAlias = Callable[[tuple[int, ...], str], Array]


class Tensor:
    """An expression. `shape` is a tuple of ints and symbolic extents, `dtype` the name of a NumPy dtype."""

    __array_priority__ = 1000  # NumPy scalars leave the operators to us
    __slots__ = ("__weakref__", "node")

    def __init__(self, node: Node) -> None:
        self.node = node

    @property
    def shape(self) -> Shape:
        return self.node.shape

    @property
    def dtype(self) -> str:
        return self.node.dtype

    @property
    def ndim(self) -> int:
        return len(self.node.shape)

    @property
    def name(self) -> str | None:
        """The name of a leaf, or the one given by `named`."""
        if isinstance(self.node, Input):
            return self.node.name
        return next((origin.name for origin in origins_of(self.node) if origin.name), None)

    def named(self, name: str) -> Tensor:
        """The same tensor, called `name` in drawings and generated code."""
        from dataclasses import replace

        origins = origins_of(self.node) or (new_origin("tensor"),)
        add_origins(self.node, (replace(origins[0], name=name),))
        return self

    def __repr__(self) -> str:
        label = f" {self.name!r}" if self.name else ""
        return f"<{type(self).__name__}{label} {self.dtype}{format_shape(self.shape)}>"

    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        raise GraphcError(
            "a symbolic tensor has no truth value before it is computed; use gc.where to choose between expressions",
            user_line(),
        )

    def __len__(self) -> int:
        if not self.shape or not isinstance(self.shape[0], int):
            raise ShapeError(f"a tensor of shape {format_shape(self.shape)} has no known length", user_line())
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[index] for index in range(len(self)))

    def __float__(self) -> float:
        raise GraphcError("a symbolic tensor has no value yet; use gc.evaluate(tensor, {input: array})", user_line())

    __int__ = __index__ = __float__  # all refuse with the same words

    # Operators and NumPy's protocols look the op up by name: the ops are defined in terms of tensors.

    def __add__(self, other: TensorLike) -> Tensor:
        return _call("add", self, other)

    def __radd__(self, other: TensorLike) -> Tensor:
        return _call("add", other, self)

    def __sub__(self, other: TensorLike) -> Tensor:
        return _call("subtract", self, other)

    def __rsub__(self, other: TensorLike) -> Tensor:
        return _call("subtract", other, self)

    def __mul__(self, other: TensorLike) -> Tensor:
        return _call("multiply", self, other)

    def __rmul__(self, other: TensorLike) -> Tensor:
        return _call("multiply", other, self)

    def __truediv__(self, other: TensorLike) -> Tensor:
        return _call("divide", self, other)

    def __rtruediv__(self, other: TensorLike) -> Tensor:
        return _call("divide", other, self)

    def __floordiv__(self, other: TensorLike) -> Tensor:
        return _call("floor_divide", self, other)

    def __rfloordiv__(self, other: TensorLike) -> Tensor:
        return _call("floor_divide", other, self)

    def __mod__(self, other: TensorLike) -> Tensor:
        return _call("remainder", self, other)

    def __rmod__(self, other: TensorLike) -> Tensor:
        return _call("remainder", other, self)

    def __pow__(self, other: TensorLike) -> Tensor:
        return _call("power", self, other)

    def __rpow__(self, other: TensorLike) -> Tensor:
        return _call("power", other, self)

    def __matmul__(self, other: TensorLike) -> Tensor:
        return _call("matmul", self, other)

    def __rmatmul__(self, other: TensorLike) -> Tensor:
        return _call("matmul", other, self)

    def __lt__(self, other: TensorLike) -> Tensor:
        return _call("less", self, other)

    def __le__(self, other: TensorLike) -> Tensor:
        return _call("less_equal", self, other)

    def __gt__(self, other: TensorLike) -> Tensor:
        return _call("greater", self, other)

    def __ge__(self, other: TensorLike) -> Tensor:
        return _call("greater_equal", self, other)

    def __and__(self, other: TensorLike) -> Tensor:
        return _call("logical_and", self, other)

    def __or__(self, other: TensorLike) -> Tensor:
        return _call("logical_or", self, other)

    def __xor__(self, other: TensorLike) -> Tensor:
        return _call("logical_xor", self, other)

    def __eq__(self, other: object) -> Tensor:  # type: ignore[override]  # elementwise, as in NumPy
        return _call("equal", self, other)

    def __ne__(self, other: object) -> Tensor:  # type: ignore[override]  # elementwise, as in NumPy
        return _call("not_equal", self, other)

    def __neg__(self) -> Tensor:
        return _call("negative", self)

    def __abs__(self) -> Tensor:
        return _call("absolute", self)

    def __invert__(self) -> Tensor:
        return _call("logical_not", self)

    def __getitem__(self, index: Any) -> Tensor:
        return _call("getitem", self, index)

    @property
    def T(self) -> Tensor:
        """The axes in reverse order."""
        return _call("transpose", self)

    def reshape(self, *shape: Any) -> Tensor:
        """The same elements in another shape, given as one sequence or as several arguments."""
        return _call("reshape", self, shape[0] if len(shape) == 1 else shape)

    def transpose(self, *axes: int) -> Tensor:
        """The axes in another order."""
        return _call("transpose", self, axes or None)

    def astype(self, dtype: Any) -> Tensor:
        """Converted to another dtype."""
        return _call("astype", self, dtype)

    def sum(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """Sum over axes."""
        return _call("sum", self, axis, keepdims)

    def mean(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """Mean over axes."""
        return _call("mean", self, axis, keepdims)

    def max(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """Greatest value over axes."""
        return _call("max", self, axis, keepdims)

    def min(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """Least value over axes."""
        return _call("min", self, axis, keepdims)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        op = registry.get(_UFUNC_ALIASES.get(ufunc.__name__, ufunc.__name__))
        if method != "__call__" or kwargs or op is None:
            what = f"numpy.{ufunc.__name__}" + (f".{method}" if method != "__call__" else "")
            detail = f" with {', '.join(kwargs)}" if kwargs else ""
            raise GraphcError(f"{what}{detail} is not available for symbolic tensors", user_line())
        return op(*inputs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        op = registry.get(_FUNCTION_ALIASES.get(function.__name__, function.__name__))
        if op is None:
            raise GraphcError(f"numpy.{function.__name__} is not available for symbolic tensors", user_line())
        return op(*args, **kwargs)

    def __array__(self, *args: Any, **kwargs: Any) -> Array:
        raise GraphcError(
            "a symbolic tensor is not an array; use gc.evaluate(tensor, {input: array}) for its value", user_line()
        )

    def to_sympy(self) -> Any:
        """The expression in SymPy: of a small graph, with symbols named after the inputs."""
        return registry["to_sympy"](self)

    def _repr_svg_(self) -> str | None:
        """The forward graph, for notebooks."""
        from graphc.render.display import (
            svg_for_display,  # drawing is above the language, and only notebooks ask for it
        )

        return svg_for_display(self)

    def _repr_latex_(self) -> str:
        """The defining equations, for notebooks."""
        from graphc.render.display import latex_for_display  # as above

        return latex_for_display(self)

    def _repr_html_(self) -> str:
        """The forward graph and, folded, the equations, for notebooks."""
        from graphc.render.display import html_of_tensor  # as above

        return html_of_tensor(self)


def _call(op: str, *args: Any) -> Tensor:
    result: Tensor = registry[op](*args)
    return result


_UFUNC_ALIASES = {
    "true_divide": "divide",
    "mod": "remainder",
    "abs": "absolute",
    "bitwise_and": "logical_and",
    "bitwise_or": "logical_or",
    "bitwise_xor": "logical_xor",
    "invert": "logical_not",
    "bitwise_invert": "logical_not",
}
_FUNCTION_ALIASES = {
    "amax": "max",
    "amin": "min",
    "round": "rint",
    "permute_dims": "transpose",
    "concat": "concatenate",
}


class Variable(Tensor):
    """A leaf that holds a value between calls: a parameter or a state."""

    __slots__ = ("_init", "_next", "_value")

    def __init__(self, node: Input, init: Any) -> None:
        super().__init__(node)
        self._init = init
        self._value: Array | None = None
        self._next: Tensor | None = None
        variables[node] = self

    @property
    def value(self) -> Array:
        """A copy of the current value."""
        return self.storage.copy()

    @value.setter
    def value(self, new: Any) -> None:
        array = np.asarray(new, dtype=self.dtype)
        if array.shape != ints(self.shape):
            raise ArgumentError(
                f"{self.name}: a value of shape {array.shape} cannot be set, the shape is {ints(self.shape)}",
                user_line(),
            )
        self.install(array if self.is_made else np.array(array, order="C"))

    @property
    def is_made(self) -> bool:
        """Whether there is a value: the initialiser runs when it is first needed, and not where one is set before.

        A leaf of another class may share the memory of another variable, and counts as made.
        """
        return self._value is not None or type(self) is not Variable

    def install(self, array: Array) -> None:
        """Set the value to an array of this shape and dtype; where none was made, that array itself is kept."""
        if self.is_made:
            self.storage[...] = array
        else:
            self._value = array

    @property
    def storage(self) -> Array:
        """The array itself, which compiled functions read and update in place."""
        if self._value is None:
            self._value = _initial_value(self.name or "", ints(self.shape), self.dtype, self._init)
        return self._value

    @property
    def next_value(self) -> Tensor | None:
        """What a compiled function that reaches this state writes into it, if anything."""
        return self._next

    def set_next(self, expression: Tensor) -> None:
        """Say what the state becomes after a call; `gc.compile` collects it."""
        if expression.shape != self.shape:
            raise ShapeError(
                f"the next value of {self.name} has shape {format_shape(expression.shape)}, "
                f"the state {format_shape(self.shape)}",
                user_line(),
            )
        self._next = expression


variables: WeakKeyDictionary[Node, Variable] = WeakKeyDictionary()


def _initial_value(name: str, shape: tuple[int, ...], dtype: str, init: Any) -> Array:
    value = init(shape, dtype) if callable(init) else init
    array = np.array(np.broadcast_to(np.asarray(value), shape), dtype=dtype, order="C")
    return array


def parse_shape(what: str, shape: ShapeLike) -> Shape:
    """A shape from an int, a name, or a sequence of them."""
    items: Sequence[Any] = (shape,) if isinstance(shape, (int, str, np.integer)) else tuple(shape)
    try:
        return tuple(as_extent(item) for item in items)
    except ValueError as error:
        raise ShapeError(f"{what}: {error}", user_line()) from None


def _user_dtype(what: str, dtype: Any) -> str:
    try:
        name = as_dtype(dtype, what)
    except DTypeError as error:
        raise DTypeError(error.message, user_line()) from None
    if name not in USER_DTYPES:
        raise DTypeError(f"{what}: {name} is not for inputs; use one of {', '.join(USER_DTYPES)}", user_line())
    return name


def _leaf(name: str, shape: ShapeLike, dtype: Any, kind: str) -> Input:
    node = leaf(name, parse_shape(f"{kind} {name!r}", shape), _user_dtype(f"{kind} {name!r}", dtype), kind)
    add_origins(node, (new_origin(kind, name),))
    return node


def input(name: str, shape: ShapeLike = (), dtype: Any = "float32") -> Tensor:
    """An array that a call provides. A name in `shape` is a symbolic extent, the same wherever it occurs.

    >>> import graphc as gc
    >>> gc.input("x", ("N", 784))
    <Tensor 'x' float32(N, 784)>
    """
    return Tensor(_leaf(name, shape, dtype, "input"))


def param(name: str, shape: ShapeLike | None = None, init: Any = None, dtype: Any = None) -> Variable:
    """A learnable array that all functions compiled from it share; `.value` is a copy, and can be set.

    init: an array, a number, or a function (shape, dtype) -> array, called when the value is first needed. `shape`
    may be left out when `init` is an array. dtype: float32 unless said (an array of integers or bools keeps its own).

    >>> import graphc as gc
    >>> gc.param("b", (3,), init=0).value
    array([0., 0., 0.], dtype=float32)
    """
    return Variable(*_variable(name, shape, init, dtype, "param"))


def state(name: str, shape: ShapeLike | None = None, init: Any = 0, dtype: Any = None) -> Variable:
    """A value kept between calls that is not learnt: a step count, a learning rate, running statistics.

    Its next value is given by `set_next`, and written after a call of any compiled function that reaches the state.
    """
    return Variable(*_variable(name, shape, init, dtype, "state"))


def _variable(name: str, shape: ShapeLike | None, init: Any, dtype: Any, kind: str) -> tuple[Input, Any]:
    array: Array | None = None
    if init is not None and not callable(init):
        array = np.asarray(init)
    if shape is None:
        if array is None:
            raise ShapeError(f"{kind} {name!r} needs a shape, or an array as init", user_line())
        shape = array.shape
    if dtype is None:
        given = array.dtype.name if array is not None and isinstance(init, np.ndarray) else "float32"
        dtype = given if given in ("int32", "int64", "bool") else "float32"
    node = _leaf(name, shape, dtype, kind)
    if not all(isinstance(extent, int) for extent in node.shape):
        raise ShapeError(f"{kind} {name!r}: every extent must be a number, not {format_shape(node.shape)}", user_line())
    if array is not None:
        try:
            np.broadcast_to(array, ints(node.shape))
        except ValueError:
            raise ShapeError(
                f"{kind} {name!r}: an init of shape {array.shape} does not fit {format_shape(node.shape)}", user_line()
            ) from None
    return node, 0 if init is None else init


@named_op
def constant(value: Any, dtype: Any = None) -> Tensor:
    """An array fixed when the graph is built; Python floats become float32, Python ints int64.

    >>> import graphc as gc
    >>> gc.constant([1.0, 2.0])
    <Tensor float32(2,)>
    """
    array = np.asarray(value)
    if dtype is None:
        strong = isinstance(value, (np.ndarray, np.generic))
        dtype = "float32" if array.dtype.kind == "f" and not strong else array.dtype.name
        if array.dtype.kind in "iu" and dtype not in USER_DTYPES:
            dtype = "int64"
        if array.dtype == np.float16:
            dtype = "float32"
    name = as_dtype(dtype, "constant")
    return Tensor(const(array, name))


def as_tensor(value: Any, what: str = "argument") -> Tensor:
    """A Tensor as it is; anything array-like as a constant."""
    if isinstance(value, Tensor):
        return value
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise DTypeError(f"{what}: {type(value).__name__} is neither a tensor nor an array of numbers", user_line())
    return constant(value)

"""Scalar expressions: the bodies of Generics, an interned DAG of typed nodes.

    Scalar ::= Arg(j)               the value read from operand j
             | Index(a)             the loop index along axis a (int64)
             | Literal(value)       a number
             | Size(extent)         a symbolic extent as a number (int64)
             | InBounds(map, shape) whether map(d) lies inside an array of that shape (bool)
             | Apply(op, args)      an op of the table OPS, among them select(c, a, b) and cast

Nodes with equal content are one object. Commutative arguments are put in one order (Args first, by number; then
applications; numbers last), which is what makes a*b and b*a the same. Only constants are folded here; algebra is a
table in `graphc.rules.simplify`.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np

from graphc.ir import walk
from graphc.ir.affine import Affine, AffineMap
from graphc.ir.dtypes import is_float
from graphc.ir.extent import Extent, Polynomial, Shape, evaluate
from graphc.ir.intern import Interned


@dataclass(frozen=True)
class ScalarOp:
    """A row of the table of scalar ops.

    result: "same" as the arguments, or "bool". symbol: infix text for printing. accepts: kinds of arguments.
    """

    name: str
    arity: int
    result: str = "same"
    commutative: bool = False
    symbol: str | None = None
    accepts: str = "number"  # "float": floats alone; "number": floats and ints; "bool": bools; "any"


OPS: Mapping[str, ScalarOp] = {
    op.name: op
    for op in (
        ScalarOp("add", 2, commutative=True, symbol="+"),
        ScalarOp("sub", 2, symbol="-"),
        ScalarOp("mul", 2, commutative=True, symbol="*"),
        ScalarOp("div", 2, symbol="/", accepts="float"),
        ScalarOp("floordiv", 2, symbol="//"),
        ScalarOp("mod", 2, symbol="%"),
        ScalarOp("pow", 2, symbol="**"),
        ScalarOp("maximum", 2, commutative=True),
        ScalarOp("minimum", 2, commutative=True),
        ScalarOp("atan2", 2, accepts="float"),
        ScalarOp("neg", 1),
        ScalarOp("abs", 1),
        ScalarOp("sign", 1),
        ScalarOp("floor", 1, accepts="float"),
        ScalarOp("ceil", 1, accepts="float"),
        ScalarOp("rint", 1, accepts="float"),
        ScalarOp("sqrt", 1, accepts="float"),
        ScalarOp("rsqrt", 1, accepts="float"),
        ScalarOp("exp", 1, accepts="float"),
        ScalarOp("expm1", 1, accepts="float"),
        ScalarOp("log", 1, accepts="float"),
        ScalarOp("log1p", 1, accepts="float"),
        ScalarOp("sin", 1, accepts="float"),
        ScalarOp("cos", 1, accepts="float"),
        ScalarOp("tan", 1, accepts="float"),
        ScalarOp("tanh", 1, accepts="float"),
        ScalarOp("sigmoid", 1, accepts="float"),
        ScalarOp("softplus", 1, accepts="float"),
        ScalarOp("erf", 1, accepts="float"),
        ScalarOp("ndtr", 1, accepts="float"),
        ScalarOp("isnan", 1, result="bool", accepts="float"),
        ScalarOp("eq", 2, result="bool", commutative=True, symbol="==", accepts="any"),
        ScalarOp("ne", 2, result="bool", commutative=True, symbol="!=", accepts="any"),
        ScalarOp("lt", 2, result="bool", symbol="<", accepts="any"),
        ScalarOp("le", 2, result="bool", symbol="<=", accepts="any"),
        ScalarOp("and", 2, commutative=True, symbol="&", accepts="integer"),
        ScalarOp("or", 2, commutative=True, symbol="|", accepts="integer"),
        ScalarOp("xor", 2, commutative=True, symbol="^", accepts="integer"),
        ScalarOp("shl", 2, symbol="<<", accepts="integer"),
        ScalarOp("shr", 2, symbol=">>", accepts="integer"),
        ScalarOp("not", 1, accepts="bool"),
        ScalarOp("select", 3, accepts="any"),
        ScalarOp("cast", 1, accepts="any"),
    )
}


@dataclass(frozen=True, eq=False, slots=True, weakref_slot=True)
class Arg(metaclass=Interned):
    """The value read from operand `index`."""

    index: int
    dtype: str
    order: tuple[int, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "order", (0, self.index, _crc(self.dtype)))


@dataclass(frozen=True, eq=False, slots=True, weakref_slot=True)
class Index(metaclass=Interned):
    """The loop index along `axis`."""

    axis: int
    dtype: str = field(init=False, default="int64")
    order: tuple[int, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "order", (1, self.axis))


@dataclass(frozen=True, eq=False, slots=True, weakref_slot=True)
class Size(metaclass=Interned):
    """A symbolic extent as a number."""

    extent: Polynomial
    dtype: str = field(init=False, default="int64")
    order: tuple[int, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "order", (4, self.extent.digest))


@dataclass(frozen=True, eq=False, slots=True, weakref_slot=True)
class Literal(metaclass=Interned):
    """A number of the given dtype, rounded to it."""

    value: float | int | bool
    dtype: str
    order: tuple[int, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "order", (5, _crc(repr(self.value)), _crc(self.dtype)))

    @staticmethod
    def intern_key(value: float | int | bool, dtype: str) -> tuple[str, str]:
        return repr(value), dtype  # repr tells -0.0 from 0.0, 1 from True, and finds nan equal to itself


@dataclass(frozen=True, eq=False, slots=True, weakref_slot=True)
class InBounds(metaclass=Interned):
    """Whether map(d) lies inside an array of `shape`."""

    map: AffineMap
    shape: Shape
    dtype: str = field(init=False, default="bool")
    order: tuple[int, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        sizes = tuple(e if isinstance(e, int) else e.digest for e in self.shape)
        object.__setattr__(self, "order", (2, hash((self.map.digest, sizes))))


@dataclass(frozen=True, eq=False, slots=True, weakref_slot=True)
class Apply(metaclass=Interned):
    """An op of the table on arguments; made by `apply`, which checks and folds."""

    op: str
    args: tuple[Scalar, ...]
    dtype: str
    order: tuple[int, ...] = field(init=False, repr=False)
    depth: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        depth = 1 + max(arg.depth if isinstance(arg, Apply) else 0 for arg in self.args)
        object.__setattr__(self, "depth", depth)
        content = hash((_crc(self.op), _crc(self.dtype), *(hash(arg.order) for arg in self.args)))
        object.__setattr__(self, "order", (3, depth, content))


Scalar: TypeAlias = Arg | Index | Size | Literal | InBounds | Apply
_crc_cache: dict[str, int] = {}
_CACHED = 1 << 14  # bodies whose facts are remembered: most graphs have few different ones


def _crc(text: str) -> int:
    """A hash of text that is the same in every process (unlike Python's own)."""
    found = _crc_cache.get(text)
    if found is None:
        found = zlib.crc32(text.encode())
        if len(text) < 12:
            _crc_cache[text] = found
    return found


_NUMPY_TYPES = {
    name: getattr(np, name if name != "bool" else "bool_")
    for name in ("float32", "float64", "int32", "int64", "uint32", "bool")
}


def literal(value: Any, dtype: str) -> Literal:
    """A number of this dtype, rounded to it (float) or wrapped (integer)."""
    if dtype == "bool":
        return Literal(bool(value), dtype)
    if is_float(dtype):
        with np.errstate(over="ignore"):
            return Literal(float(_NUMPY_TYPES[dtype](value)), dtype)
    return Literal(int(np.array(int(value)).astype(dtype)), dtype)


def size_of(extent: Extent) -> Scalar:
    """An extent as an int64 scalar."""
    return Size(extent) if isinstance(extent, Polynomial) else literal(extent, "int64")


TRUE, FALSE = literal(True, "bool"), literal(False, "bool")


def apply(op: str, *args: Scalar) -> Scalar:
    """An op on arguments of one dtype; constants are folded and commutative arguments ordered."""
    row = OPS[op]
    if op == "select":
        condition, then, other = args
        if isinstance(condition, Literal):
            return then if condition.value else other
        if then is other:
            return then
        dtype = then.dtype
    else:
        dtype = "bool" if row.result == "bool" else args[0].dtype
    if row.commutative and args[1].order < args[0].order:
        args = (args[1], args[0])
    if all(isinstance(arg, Literal) for arg in args) and op != "cast":
        folded = fold(op, [arg.value for arg in args if isinstance(arg, Literal)], args[-1].dtype, dtype)
        if folded is not None:
            return folded
    return Apply(op, args, dtype)


def cast(x: Scalar, dtype: str) -> Scalar:
    """x converted to another dtype as NumPy's astype converts it."""
    if x.dtype == dtype:
        return x
    if isinstance(x, Literal) and not (not is_float(dtype) and dtype != "bool" and not math.isfinite(x.value)):
        return literal(x.value, dtype)
    return Apply("cast", (x,), dtype)


def fold(op: str, values: Sequence[Any], dtype: str, result: str) -> Literal | None:
    """The op on numbers, computed by NumPy in their dtype; None where it is left to run time."""
    function = NUMPY_FUNCTIONS.get(op)
    if function is None or (op in ("floordiv", "mod") and not values[1]):
        return None
    with np.errstate(all="ignore"):
        return literal(function(*(_NUMPY_TYPES[dtype](value) for value in values)), result)


def _softplus(x: Any) -> Any:
    return np.logaddexp(x, np.zeros_like(x))


def _sigmoid(x: Any) -> Any:
    return np.exp(-np.logaddexp(np.zeros_like(x), -x))


# The reference meaning of each op in NumPy's terms. erf and ndtr have none there: `graphc.ir.interp` adds them.
NUMPY_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "floordiv": np.floor_divide,
    "mod": np.mod,
    "pow": np.power,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "atan2": np.arctan2,
    "neg": np.negative,
    "abs": np.abs,
    "sign": np.sign,
    "floor": np.floor,
    "ceil": np.ceil,
    "rint": np.rint,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "tanh": np.tanh,
    "sigmoid": _sigmoid,
    "softplus": _softplus,
    "isnan": np.isnan,
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "shl": np.left_shift,
    "shr": np.right_shift,
    "not": np.logical_not,
}


def postorder(*roots: Scalar) -> list[Scalar]:
    """Every node below the roots, arguments before what uses them, each once; iterative, so depth is no limit."""
    return walk.postorder(roots, _arguments)


def _arguments(node: Scalar) -> tuple[Scalar, ...]:
    return node.args if isinstance(node, Apply) else ()


def use_counts(order: Sequence[Scalar]) -> dict[Scalar, int]:
    """How often each node is an argument of the nodes of a postorder."""
    uses: dict[Scalar, int] = {}
    for node in order:
        for arg in _arguments(node):
            uses[arg] = uses.get(arg, 0) + 1
    return uses


def substitute(root: Scalar, replace: Mapping[Scalar, Scalar]) -> Scalar:
    """Put other nodes in place of some; what is not touched is reused."""
    if not replace:
        return root
    done: dict[Scalar, Scalar] = dict(replace)
    for node in postorder(root):
        if node in done:
            continue
        if isinstance(node, Apply):
            args = tuple(done[arg] for arg in node.args)
            if args == node.args:
                done[node] = node
            elif node.op == "cast":
                done[node] = cast(args[0], node.dtype)
            else:
                done[node] = apply(node.op, *args)
        else:
            done[node] = node
    return done[root]


@lru_cache(maxsize=_CACHED)
def replace_one(root: Scalar, old: Scalar, new: Scalar) -> Scalar:
    """Put one node in place of another."""
    return substitute(root, {old: new})


def renumber_args(root: Scalar, numbers: Sequence[int]) -> Scalar:
    """Arg j becomes Arg numbers[j]."""
    return _renumber_args(root, tuple(numbers))


@lru_cache(maxsize=_CACHED)
def _renumber_args(root: Scalar, numbers: tuple[int, ...]) -> Scalar:
    args = [node for node in postorder(root) if isinstance(node, Arg)]
    return substitute(
        root, {arg: Arg(numbers[arg.index], arg.dtype) for arg in args if numbers[arg.index] != arg.index}
    )


def move_axes(root: Scalar, rows: Sequence[Affine], rank: int) -> Scalar:
    """Rewrite loop indices: axis a becomes the affine expression rows[a] over a domain of `rank` axes."""
    replace: dict[Scalar, Scalar] = {}
    inner = AffineMap(rank, tuple(rows))
    for node in postorder(root):
        if isinstance(node, Index):
            replace[node] = affine_scalar(rows[node.axis])
        elif isinstance(node, InBounds):
            replace[node] = InBounds(node.map.compose(inner), node.shape)
    return substitute(root, {a: b for a, b in replace.items() if a is not b})


def affine_scalar(row: Affine) -> Scalar:
    """An affine row as an int64 scalar."""
    total: Scalar | None = None
    for axis, coefficient in row.terms:
        term: Scalar = Index(axis)
        if coefficient != 1:
            term = apply("mul", term, literal(coefficient, "int64"))
        total = term if total is None else apply("add", total, term)
    if total is None:
        return size_of(row.const)
    return total if row.const == 0 else apply("add", total, size_of(row.const))


def specialise(root: Scalar, sizes: Mapping[str, int]) -> Scalar:
    """Put numbers in place of named dimensions."""
    replace: dict[Scalar, Scalar] = {}
    for node in postorder(root):
        if isinstance(node, Size):
            replace[node] = size_of(evaluate(node.extent, sizes))
        elif isinstance(node, InBounds):
            replace[node] = InBounds(node.map.evaluate(sizes), tuple(evaluate(e, sizes) for e in node.shape))
    return substitute(root, replace)


@lru_cache(maxsize=_CACHED)
def args_of(root: Scalar) -> frozenset[int]:
    """The numbers of the operands that a body reads."""
    return frozenset(node.index for node in postorder(root) if isinstance(node, Arg))


@lru_cache(maxsize=_CACHED)
def ops_of(root: Scalar) -> frozenset[str]:
    """The names of the ops that a body applies."""
    return frozenset(node.op for node in postorder(root) if isinstance(node, Apply))


@lru_cache(maxsize=_CACHED)
def axes_of(root: Scalar) -> frozenset[int]:
    """The loop axes that a body reads as numbers."""
    axes: set[int] = set()
    for node in postorder(root):
        if isinstance(node, Index):
            axes.add(node.axis)
        elif isinstance(node, InBounds):
            axes |= node.map.axes
    return frozenset(axes)

"""To and from SymPy: `from_sympy` makes a graph of an expression, `to_sympy` computes a graph with symbols.

SymPy is imported inside the functions: its import costs 0.2 s, which a program that never calls them should not pay.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from graphc.errors import ArgumentError
from graphc.ir import build
from graphc.ir import scalar as sc
from graphc.ir.affine import AffineMap
from graphc.ir.dtypes import is_float
from graphc.ir.extent import format_shape, ints
from graphc.ir.graph import topological
from graphc.ir.node import SKIP, Const, Generic, Input, Join, Node, Opaque, View
from graphc.ir.opaque import REFERENCE
from graphc.lang import arrays
from graphc.lang import elementwise as ew
from graphc.lang.source import named_op, user_line
from graphc.lang.tensor import Tensor, TensorLike, as_tensor, input

Expr: TypeAlias = Any  # SymPy has no types

_MOST_POINTS = 20_000  # of one node: symbols are for formulas, not for data

# SymPy's functions by name, with ours. Max, Min, And and Or take any number of arguments, two at a time.
_FUNCTIONS: Mapping[str, Callable[..., Tensor]] = {
    "exp": ew.exp, "log": ew.log, "sin": ew.sin, "cos": ew.cos, "tan": ew.tan, "tanh": ew.tanh, "sinh": ew.sinh,
    "cosh": ew.cosh, "asin": ew.arcsin, "acos": ew.arccos, "atan": ew.arctan, "atan2": ew.arctan2, "Abs": ew.absolute,
    "sign": ew.sign, "erf": ew.erf, "floor": ew.floor, "ceiling": ew.ceil, "Max": ew.maximum, "Min": ew.minimum,
    "Mod": ew.remainder, "And": ew.logical_and, "Or": ew.logical_or, "Not": ew.logical_not, "Equality": ew.equal,
    "Unequality": ew.not_equal, "StrictLessThan": ew.less, "LessThan": ew.less_equal,
    "StrictGreaterThan": ew.greater, "GreaterThan": ew.greater_equal,
}  # fmt: skip
_FOLDED = {"Max", "Min", "And", "Or"}


@named_op
def from_sympy(expr: Expr, inputs: Mapping[Any, TensorLike] | None = None) -> Tensor:
    """A SymPy expression as a tensor; equal subexpressions are one node.

    expr: numbers, symbols, sums, products, powers, elementary functions, Piecewise, relations, or a Matrix or Array of
    them (stacked to a tensor of its shape). inputs: tensors by symbol or by its name; they broadcast. A symbol that is
    not among them becomes a float32 input of shape (). A function that has no counterpart here raises ArgumentError.

    >>> import sympy
    >>> x = sympy.Symbol("x")
    >>> from_sympy(sympy.exp(-x) * sympy.sin(x))
    <Tensor float32()>
    """
    import sympy as sp  # heavy: see the module's text

    given = {str(key): as_tensor(value, str(key)) for key, value in (inputs or {}).items()}
    expr = sp.sympify(expr)
    if isinstance(expr, (sp.MatrixBase, sp.NDimArray)):
        reader = _Reader(sp, given)
        parts = [_tensor(reader.read(item)) for item in sp.flatten(expr)]
        if not parts:
            raise ArgumentError("from_sympy: an empty matrix")
        return _stacked(parts, tuple(int(extent) for extent in expr.shape))
    return _tensor(_Reader(sp, given).read(expr))


def _tensor(value: Tensor | float) -> Tensor:
    return value if isinstance(value, Tensor) else as_tensor(float(value), "from_sympy")


def _stacked(parts: Sequence[Tensor], shape: tuple[int, ...]) -> Tensor:
    """Elements, row-major, as one tensor: the shape of the elements follows that of the matrix."""
    common = build.broadcast_shapes("from_sympy", [part.shape for part in parts])
    return arrays.reshape(arrays.stack([arrays.broadcast_to(part, common) for part in parts]), (*shape, *common))


class _Reader:
    """From SymPy trees to tensors, each subtree once. Python floats stand for numbers, which take any dtype."""

    def __init__(self, sp: Any, inputs: Mapping[str, Tensor]) -> None:
        self.sp, self.inputs = sp, dict(inputs)
        self.done: dict[Expr, Tensor | float] = {}

    def read(self, expr: Expr) -> Tensor | float:
        if expr not in self.done:
            self.done[expr] = self._read(expr)
        return self.done[expr]

    def _read(self, expr: Expr) -> Tensor | float:
        sp = self.sp
        if expr.is_Symbol:
            name = str(expr)
            if name not in self.inputs:
                self.inputs[name] = input(name)
            return self.inputs[name]
        if expr in (sp.true, sp.false):
            return bool(expr)
        if not expr.free_symbols and getattr(expr, "is_number", False):
            return self._number(expr)
        if expr.is_Add:
            return self._sum(expr.as_ordered_terms())
        if expr.is_Mul:
            return self._product(expr)
        if expr.is_Pow:
            return self._power(expr.base, expr.exp)
        if isinstance(expr, sp.Piecewise):
            return self._piecewise(expr.args)
        name = type(expr).__name__
        if name not in _FUNCTIONS:
            known = ", ".join(sorted(_FUNCTIONS))
            raise ArgumentError(f"from_sympy: {name} has no counterpart here, in {expr}; there are {known}")
        args = [self.read(arg) for arg in expr.args]
        if name not in _FOLDED:
            return _FUNCTIONS[name](*args)
        total = args[0]
        for arg in args[1:]:
            total = _FUNCTIONS[name](total, arg)
        return total

    def _number(self, expr: Expr) -> float:
        if expr.is_Integer:
            return int(expr)
        if expr.is_real is False or expr is self.sp.zoo:
            raise ArgumentError(f"from_sympy: {expr} is not a real number")
        return float(expr)

    def _sum(self, terms: Sequence[Expr]) -> Tensor | float:
        total: Any = None
        for term in sorted(terms, key=lambda term: bool(term.could_extract_minus_sign())):  # x - y, not -y + x
            if total is None:
                total = self.read(term)
            elif term.could_extract_minus_sign():
                total = ew.subtract(total, self.read(-term))
            else:
                total = ew.add(total, self.read(term))
        return total  # type: ignore[no-any-return]

    def _product(self, expr: Expr) -> Tensor | float:
        above: list[Expr] = []
        below: list[Expr] = []
        for factor in expr.as_ordered_factors():
            is_below = factor.is_Pow and factor.exp.is_Rational and factor.exp.is_negative
            (below if is_below else above).append(1 / factor if is_below else factor)
        number = [factor for factor in above if factor.is_number]
        if number == [self.sp.S.NegativeOne] and len(above) > 1:
            return ew.negative(self.read(-expr))
        total: Any = self.read(above[0]) if above else 1
        for factor in above[1:]:
            total = ew.multiply(total, self.read(factor))
        for factor in below:
            total = ew.divide(total, self.read(factor))
        return total  # type: ignore[no-any-return]

    def _power(self, base: Expr, exponent: Expr) -> Tensor | float:
        half = self.sp.Rational(1, 2)
        if base is self.sp.E:
            return ew.exp(self.read(exponent))
        if exponent == half:
            return ew.sqrt(self.read(base))
        if exponent == -half:
            return ew.rsqrt(self.read(base))
        if exponent.is_Rational and exponent.is_negative:
            return ew.divide(1, self.read(base**-exponent))
        if exponent == 2:
            return ew.square(self.read(base))
        return ew.power(self.read(base), self.read(exponent))

    def _piecewise(self, pieces: Sequence[Expr]) -> Tensor | float:
        """The last piece inwards; NaN where no condition holds, as in SymPy."""
        total: Any = math.nan
        for value, condition in reversed(pieces):
            total = self.read(value) if condition == self.sp.true else self._where(condition, self.read(value), total)
        return total  # type: ignore[no-any-return]

    def _where(self, condition: Expr, then: Any, other: Any) -> Tensor:
        if not isinstance(then, Tensor) and not isinstance(other, Tensor):
            then = as_tensor(float(then), "from_sympy")
        return ew.where(self.read(condition), then, other)


# --- To SymPy ---------------------------------------------------------------------------------------------------------


@named_op
def to_sympy(tensor: Tensor) -> Expr:
    """The formula of a tensor: an expression where it is a scalar, else a Matrix (rank 2) or an Array of expressions.

    An input called x of shape () is the symbol x; of shape (3, 3), the symbols x00 ... x22 (x_0_10 where an extent has
    two digits). Every extent must be known. Raises ArgumentError for symbolic extents, for arrays that are too large to
    be formulas, and for ops that SymPy does not have.

    >>> x = input("x", (2,))
    >>> to_sympy(ew.exp(x) * x)
    [x0*exp(x0), x1*exp(x1)]
    """
    import sympy as sp  # heavy: see the module's text

    done: dict[Node, Any] = {}
    for node in topological((tensor.node,)):
        if not all(isinstance(extent, int) for extent in node.shape):
            raise ArgumentError(f"to_sympy: the extents of {format_shape(node.shape)} must be known", user_line())
        points = math.prod(ints(node.domain if isinstance(node, Generic) else node.shape))
        if points > _MOST_POINTS:
            raise ArgumentError(f"to_sympy: {points} elements are too many for formulas", user_line())
        done[node] = _Formulas(sp).of(node, [done[operand] for operand in node.operands])
    value = done[tensor.node]
    if not tensor.shape:
        return value[()]
    array = sp.ImmutableDenseNDimArray(list(value.reshape(-1)), value.shape)
    return sp.ImmutableMatrix(array) if tensor.ndim == 2 else array


class _Formulas:
    """The nodes' semantics (see `graphc.ir`) on arrays of SymPy expressions."""

    def __init__(self, sp: Any) -> None:
        self.sp = sp

    def of(self, node: Node, operands: Sequence[Any]) -> Any:
        shape = ints(node.shape)
        match node:
            case Input():
                separator = "_" if any(extent > 10 for extent in shape) else ""
                out = np.empty(shape, dtype=object)
                for at in np.ndindex(*shape):
                    out[at] = self.sp.Symbol(node.name + separator + separator.join(map(str, at)))
                return out
            case Const():
                return _objects(shape, (self.number(item, node.dtype) for item in node.value.reshape(-1)))
            case View():
                return operands[0].reshape(shape)
            case Join():
                parts = zip(*(operand.reshape(-1) for operand in operands), strict=True)
                return _objects(shape, (self.sp.Add(*terms) for terms in parts))
            case Generic():
                return self.generic(node, operands)
            case Opaque(op="stop_gradient" | "checked" | "custom_vjp" | "checkpoint_in" | "checkpoint_out" | "again"):
                return operands[0]
            case Opaque(op="take") if all(item.is_Integer for item in operands[1].reshape(-1)):
                return REFERENCE["take"](node, [operands[0], operands[1].astype(np.int64)])
        raise ArgumentError(f"to_sympy: {getattr(node, 'op', 'this')} has no formula", user_line())

    def number(self, value: Any, dtype: str) -> Expr:
        """A simple fraction where it rounds to the same float, else the float; ints and bools as they are."""
        if dtype == "bool":
            return self.sp.true if value else self.sp.false
        if not is_float(dtype):
            return self.sp.Integer(int(value))
        if not math.isfinite(value):
            return self.sp.nan if math.isnan(value) else self.sp.oo * (1 if value > 0 else -1)
        near = self.sp.Rational(float(value)).limit_denominator(1000)
        return near if np.dtype(dtype).type(float(near)) == np.dtype(dtype).type(value) else self.sp.Float(float(value))

    def generic(self, node: Generic, operands: Sequence[Any]) -> Any:
        cells: dict[tuple[int, ...], list[Expr]] = {at: [] for at in np.ndindex(*ints(node.shape))}
        for point in itertools.product(*(range(extent) for extent in ints(node.domain))):
            target = _position(node.out_map, point)
            if target not in cells:
                continue
            reads = []
            for operand, index_map, mode in zip(operands, node.maps, node.modes, strict=True):
                at = _position(index_map, point)
                is_inside = all(0 <= index < extent for index, extent in zip(at, operand.shape, strict=True))
                if not is_inside and mode == SKIP:
                    break
                reads.append(operand[at] if is_inside else self.sp.Integer(0))
            else:
                cells[target].append(self.scalar(node.body, reads, point))
        return _objects(ints(node.shape), (self.reduce(node, terms) for terms in cells.values()))

    def reduce(self, node: Generic, terms: list[Expr]) -> Expr:
        sp = self.sp
        match node.reducer:
            case None:
                return terms[0] if terms else sp.Integer(0)
            case "sum":
                return sp.Add(*terms)
            case "prod":
                return sp.Mul(*terms)
            case "max":
                return sp.Max(*terms)
            case "min":
                return sp.Min(*terms)
        better = sp.Ge if node.reducer == "argmax" else sp.Le
        pieces = [(position, sp.And(*(better(term, other) for other in terms))) for position, term in enumerate(terms)]
        return sp.Piecewise(*pieces[:-1], (len(terms) - 1, True)) if terms else sp.Integer(-1)

    def scalar(self, body: sc.Scalar, reads: Sequence[Expr], point: Sequence[int]) -> Expr:
        done: dict[sc.Scalar, Expr] = {}
        for part in sc.postorder(body):
            match part:
                case sc.Arg():
                    done[part] = reads[part.index]
                case sc.Index():
                    done[part] = self.sp.Integer(point[part.axis])
                case sc.Literal():
                    done[part] = self.number(part.value, part.dtype)
                case sc.InBounds():
                    at = _position(part.map, point)
                    is_inside = all(0 <= index < extent for index, extent in zip(at, ints(part.shape), strict=True))
                    done[part] = self.sp.true if is_inside else self.sp.false
                case sc.Apply():
                    done[part] = self.apply(part, [done[arg] for arg in part.args])
                case sc.Size():
                    raise ArgumentError(f"to_sympy: the extent {part.extent} must be known", user_line())
        return done[body]

    def apply(self, part: sc.Apply, args: list[Expr]) -> Expr:
        sp = self.sp
        if part.op == "cast":
            return self.cast(args[0], part.args[0].dtype, part.dtype)
        if part.op in ("and", "or", "xor") and part.dtype == "bool":
            return {"and": sp.And, "or": sp.Or, "xor": sp.Xor}[part.op](*args)
        formulas: Mapping[str, Callable[..., Expr]] = {
            "add": sp.Add, "mul": sp.Mul, "pow": sp.Pow, "mod": sp.Mod, "maximum": sp.Max, "minimum": sp.Min,
            "atan2": sp.atan2, "abs": sp.Abs, "sign": sp.sign, "floor": sp.floor, "ceil": sp.ceiling, "sqrt": sp.sqrt,
            "exp": sp.exp, "log": sp.log, "sin": sp.sin, "cos": sp.cos, "tan": sp.tan, "tanh": sp.tanh, "erf": sp.erf,
            "eq": sp.Eq, "ne": sp.Ne, "lt": sp.Lt, "le": sp.Le, "not": sp.Not,
            "sub": lambda a, b: a - b,
            "div": lambda a, b: a / b,
            "neg": lambda a: -a,
            "floordiv": lambda a, b: sp.floor(a / b),
            "rsqrt": lambda a: 1 / sp.sqrt(a),
            "expm1": lambda a: sp.exp(a) - 1,
            "log1p": lambda a: sp.log(1 + a),
            "sigmoid": lambda a: 1 / (1 + sp.exp(-a)),
            "softplus": lambda a: sp.log(1 + sp.exp(a)),
            "ndtr": lambda a: (1 + sp.erf(a / sp.sqrt(2))) / 2,
            "isnan": lambda a: sp.true if a is sp.nan else sp.false,
            "select": lambda c, a, b: sp.Piecewise((a, c), (b, True)),
        }  # fmt: skip
        if part.op not in formulas:
            raise ArgumentError(f"to_sympy: {part.op} has no formula", user_line())
        return formulas[part.op](*args)

    def cast(self, value: Expr, source: str, target: str) -> Expr:
        sp = self.sp
        if source == "bool" and target != "bool":
            return sp.Piecewise((1, value), (0, True))
        if target == "bool" and source != "bool":
            return sp.Ne(value, 0)
        if is_float(source) and not is_float(target):
            return sp.sign(value) * sp.floor(sp.Abs(value))
        return value


def _position(index_map: AffineMap, point: Sequence[int]) -> tuple[int, ...]:
    rows = (row.const + sum(c * point[axis] for axis, c in row.terms) for row in index_map.rows)
    return ints(tuple(rows))


def _objects(shape: tuple[int, ...], items: Any) -> Any:
    out = np.empty(math.prod(shape), dtype=object)
    for position, item in enumerate(items):
        out[position] = item
    return out.reshape(shape)

"""Lowering of index notation: from the syntax of a body to reads and a typed scalar expression (see `lang.define`)."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, Protocol, TypeAlias

from graphc.ir import scalar as sc
from graphc.ir.affine import Affine, AffineMap, affine, axis_row
from graphc.ir.dtypes import is_float, promote, promote_weak
from graphc.ir.extent import Extent, Polynomial, Shape, dimension
from graphc.ir.node import REDUCERS

Term: TypeAlias = sc.Scalar | int | float  # a plain number is weak: it takes the dtype of what it meets

_BINARY: Mapping[type, tuple[str, Callable[[Any, Any], Any]]] = {
    ast.Add: ("add", operator.add),
    ast.Sub: ("sub", operator.sub),
    ast.Mult: ("mul", operator.mul),
    ast.Div: ("div", operator.truediv),
    ast.FloorDiv: ("floordiv", operator.floordiv),
    ast.Mod: ("mod", operator.mod),
    ast.Pow: ("pow", operator.pow),
}
_LOGIC: Mapping[type, str] = {ast.BitAnd: "and", ast.BitOr: "or", ast.BitXor: "xor", ast.And: "and", ast.Or: "or"}
_COMPARE: Mapping[type, tuple[str, bool]] = {  # op, and whether the sides change places
    ast.Lt: ("lt", False),
    ast.LtE: ("le", False),
    ast.Gt: ("lt", True),
    ast.GtE: ("le", True),
    ast.Eq: ("eq", False),
    ast.NotEq: ("ne", False),
}
_NOT_CALLED = {"cast", "and", "or", "xor", "shl", "shr", "not"}
FUNCTIONS: Mapping[str, str] = {  # what a call may be named, and the scalar op that it is
    **{name: name for name in sc.OPS if name not in _NOT_CALLED},
    **{"max": "maximum", "min": "minimum", "where": "select", "absolute": "abs", "arctan2": "atan2", "power": "pow"},
}


class Notation(Protocol):
    """What the lowering asks of a definition."""

    indices: tuple[str, ...]
    operands: dict[str, tuple[str | int, ...]]
    parameters: dict[str, int]
    reducer: str | None
    body: ast.expr

    def fail(self, problem: str, at: int | ast.AST) -> NoReturn: ...


class Lowering:
    """One walk over a body, for given extents of the dimensions, shapes and dtypes of the operands.

    reads: (operand, map) in order, with the place in the line. whole: for each axis the (operand, axis of it) that it
    alone indexes. is_trial: dimensions are only names yet and dtypes not known, so what depends on them is not refused.
    """

    def __init__(
        self,
        owner: Notation,
        names: Mapping[str, Extent],
        shapes: Mapping[str, Shape],
        dtypes: Mapping[str, str],
        is_trial: bool = False,
    ) -> None:
        self.owner, self.shapes, self.dtypes, self.is_trial = owner, shapes, dtypes, is_trial
        self.names: dict[str, Extent] = {**names, **owner.parameters}
        floats = [dtype for dtype in dtypes.values() if is_float(dtype)]
        self.float_dtype = promote(*floats) if floats else "float32"
        self.axes = {index: axis for axis, index in enumerate(owner.indices)}
        self.reads: dict[tuple[str, AffineMap], ast.AST] = {}
        self.used: set[str] = set()
        self.whole: dict[int, list[tuple[str, int]]] = {}
        self.is_bool_extreme = False

    def body(self) -> sc.Scalar:
        """The body in the dtype of the result; sums and products of integers and bools are int64."""
        value = self._strong(self._term(self.owner.body))
        if self.owner.reducer in ("sum", "prod") and not is_float(value.dtype):
            return sc.cast(value, "int64")
        if self.owner.reducer is not None and value.dtype == "bool":
            self.is_bool_extreme = self.owner.reducer in ("max", "min")
            return sc.cast(value, "int32")
        return value

    # --- Values -------------------------------------------------------------------------------------------------------

    def _term(self, tree: ast.expr) -> Term:
        match tree:
            case ast.Constant(value=int() | float() as number):
                return sc.literal(number, "bool") if isinstance(number, bool) else number
            case ast.Name(id=name):
                return self._name(name, tree)
            case ast.Subscript():
                return self._read(tree)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                value = self._term(operand)
                return -value if isinstance(value, int | float) else sc.apply("neg", self._number(value))
            case ast.UnaryOp(op=ast.UAdd(), operand=operand):
                return self._term(operand)
            case ast.UnaryOp(op=ast.Not() | ast.Invert() as op, operand=operand):
                value = self._strong(self._term(operand))
                if isinstance(op, ast.Invert) and value.dtype != "bool" and not self.is_trial:
                    self.owner.fail(f"~ is for truth values, not for {value.dtype}; write not, or x == 0", tree)
                return sc.apply("not", self._bool(value))
            case ast.BinOp(op=op) if type(op) in _BINARY:
                return self._arithmetic(*_BINARY[type(op)], self._term(tree.left), self._term(tree.right), tree)
            case ast.BinOp(op=op) if type(op) in _LOGIC:
                sides = self._alike(self._term(tree.left), self._term(tree.right))
                if is_float(sides[0].dtype) and self.is_trial:
                    return sc.FALSE
                if is_float(sides[0].dtype):
                    self.owner.fail(f"{ast.unparse(tree)!r} takes integers or truth values, not floats", tree)
                return sc.apply(_LOGIC[type(op)], *sides)
            case ast.BoolOp(op=op, values=values):
                terms = [self._bool(self._term(value)) for value in values]
                for term in terms[1:]:
                    terms[0] = sc.apply(_LOGIC[type(op)], terms[0], term)
                return terms[0]
            case ast.Compare() if all(type(op) in _COMPARE for op in tree.ops):
                return self._comparison(tree)
            case ast.IfExp(test=test, body=then, orelse=other):
                return self._select(self._term(test), self._term(then), self._term(other))
            case ast.Call():
                return self._call(tree)
        self.owner.fail(f"{ast.unparse(tree)!r} has no meaning in index notation", tree)

    def _name(self, name: str, tree: ast.expr) -> Term:
        if name in self.axes:
            return sc.Index(self.axes[name])
        if name in self.names:
            extent = self.names[name]
            return extent if isinstance(extent, int) else sc.size_of(extent)
        if name in self.owner.operands:
            return self._load(name, (), tree)
        if name in FUNCTIONS or name == "inside":
            self.owner.fail(f"{name} is a function: call it, as in {name}(...)", tree)
        self.owner.fail(f"unknown name {name!r}: it is no operand, index, dimension or parameter", tree)

    def _read(self, tree: ast.Subscript) -> sc.Scalar:
        name, rows = self._reference(tree)
        return self._load(name, rows, tree)

    def _reference(self, tree: ast.expr) -> tuple[str, tuple[Affine, ...]]:
        value, at = (tree.value, tree.slice) if isinstance(tree, ast.Subscript) else (tree, ast.Tuple([]))
        if not isinstance(value, ast.Name):
            self.owner.fail("a read is the name of an operand with indices, as in x[i,j]", tree)
        if value.id not in self.owner.operands:
            known = "an index" if value.id in self.axes else "a number" if value.id in self.names else "unknown"
            self.owner.fail(
                f'{value.id!r} is {known}, not an operand; give its dimensions by a keyword, {value.id}="N ..."', tree
            )
        parts = at.elts if isinstance(at, ast.Tuple) else [at]
        return value.id, tuple(self.affine(part) for part in parts)

    def _check_rank(self, name: str, rows: tuple[Affine, ...], tree: ast.AST) -> None:
        dims = self.owner.operands[name]
        if len(rows) != len(dims):
            text = ", ".join(map(str, dims))
            self.owner.fail(f"{name} is ({text}), of rank {len(dims)}, but is read with {len(rows)} indices", tree)

    def _load(self, name: str, rows: tuple[Affine, ...], tree: ast.AST) -> sc.Scalar:
        self._check_rank(name, rows, tree)
        self.used.add(name)
        for position, row in enumerate(rows):
            if row.single_axis is not None:
                self.whole.setdefault(row.single_axis, []).append((name, position))
        read = (name, AffineMap(len(self.axes), rows))
        self.reads.setdefault(read, tree)
        value = sc.Arg(list(self.reads).index(read), self.dtypes[name])
        return sc.cast(value, self.float_dtype) if is_float(value.dtype) else value

    # --- Operations ---------------------------------------------------------------------------------------------------

    def _strong(self, value: Term, dtype: str | None = None) -> sc.Scalar:
        """A term as a typed scalar; of `dtype` when given."""
        if isinstance(value, int | float):
            return sc.literal(value, dtype or (self.float_dtype if isinstance(value, float) else "int64"))
        return sc.cast(value, dtype) if dtype else value

    def _number(self, value: sc.Scalar) -> sc.Scalar:
        return sc.cast(value, "int64") if value.dtype == "bool" else value

    def _float(self, value: Term) -> sc.Scalar:
        return self._strong(value, self.float_dtype)

    def _bool(self, value: Term) -> sc.Scalar:
        value = self._strong(value)
        return value if value.dtype == "bool" else sc.apply("ne", value, sc.literal(0, value.dtype))

    def _alike(self, *values: Term) -> list[sc.Scalar]:
        """Terms in one dtype: what they promote to, numbers weak."""
        strong = [value.dtype for value in values if not isinstance(value, int | float)]
        numbers = [value for value in values if isinstance(value, int | float)]
        dtype = promote(*strong) if strong else "int64"
        for number in numbers:
            dtype = promote_weak(dtype, number)
        dtype = self.float_dtype if is_float(dtype) else dtype
        return [self._strong(value, dtype) for value in values]

    def _arithmetic(self, op: str, plain: Callable[[Any, Any], Any], a: Term, b: Term, tree: ast.AST) -> Term:
        if isinstance(a, int | float) and isinstance(b, int | float):
            try:
                number = plain(a, b)
            except ArithmeticError as error:
                self.owner.fail(f"cannot compute {ast.unparse(tree)}: {error}", tree)
            return number if isinstance(number, int | float) else float("nan")
        return self._apply(op, a, b)

    def _apply(self, op: str, *values: Term) -> sc.Scalar:
        row = sc.OPS[op]
        if row.accepts == "float":
            return sc.apply(op, *(self._float(value) for value in values))
        alike = self._alike(*values)
        return sc.apply(op, *([self._number(value) for value in alike] if row.accepts == "number" else alike))

    def _comparison(self, tree: ast.Compare) -> sc.Scalar:
        sides = [self._term(side) for side in (tree.left, *tree.comparators)]
        total: sc.Scalar | None = None
        for op, left, right in zip(tree.ops, sides, sides[1:], strict=False):
            name, is_swapped = _COMPARE[type(op)]
            one = self._apply(name, right, left) if is_swapped else self._apply(name, left, right)
            total = one if total is None else sc.apply("and", total, one)
        assert total is not None
        return total

    def _select(self, condition: Term, then: Term, other: Term) -> sc.Scalar:
        return sc.apply("select", self._bool(condition), *self._alike(then, other))

    def _call(self, tree: ast.Call) -> sc.Scalar:
        name = tree.func.id if isinstance(tree.func, ast.Name) else ast.unparse(tree.func)
        if tree.keywords:
            self.owner.fail(f"{name} takes no keywords here", tree)
        if name == "inside":
            if len(tree.args) != 1:
                self.owner.fail("inside takes one read, as in inside(x[i-1])", tree)
            operand, rows = self._reference(tree.args[0])
            self._check_rank(operand, rows, tree)
            self.used.add(operand)
            return sc.InBounds(AffineMap(len(self.axes), rows), self.shapes[operand])
        if name not in FUNCTIONS:
            hint = f"; {name} as a reducer is {name}[k] ..., first on the right" if name in REDUCERS else ""
            self.owner.fail(f"unknown function {name!r}{hint}; there are {', '.join(sorted(FUNCTIONS))}", tree)
        op = FUNCTIONS[name]
        if len(tree.args) != sc.OPS[op].arity:
            self.owner.fail(f"{name} takes {sc.OPS[op].arity} arguments, not {len(tree.args)}", tree)
        terms = [self._term(arg) for arg in tree.args]
        return self._select(*terms) if op == "select" else self._apply(op, *terms)

    # --- Indices and extents ------------------------------------------------------------------------------------------

    def affine(self, tree: ast.expr, keyword: str | None = None) -> Affine:
        """An index expression as an affine row; `keyword` quotes the keyword that it came from, if it did."""

        def fail(problem: str, at: ast.AST) -> NoReturn:
            if keyword is not None:
                self.owner.fail(f"{keyword}: {problem}", 0)
            self.owner.fail(problem, at)

        match tree:
            case ast.Constant(value=int(number)) if not isinstance(number, bool):
                return affine({}, number)
            case ast.Name(id=name) if name in self.axes and keyword is None:
                return axis_row(self.axes[name])
            case ast.Name(id=name) if name in self.names:
                return affine({}, self.names[name])
            case ast.Name(id=name):
                kind = "dimension or parameter" if keyword else "index, dimension or parameter"
                fail(f"unknown name {name!r}: it is no {kind}", tree)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return affine({}, 0).plus(self.affine(operand, keyword), -1)
            case ast.BinOp(op=ast.Add() | ast.Sub() as op, left=left, right=right):
                sign = 1 if isinstance(op, ast.Add) else -1
                return self.affine(left, keyword).plus(self.affine(right, keyword), sign)
            case ast.BinOp(op=ast.Mult(), left=left, right=right):
                a, b = self.affine(left, keyword), self.affine(right, keyword)
                if a.terms and b.terms:
                    fail(f"{ast.unparse(tree)!r} is not affine: a product of indices", tree)
                scale, row = (a.const, b) if b.terms else (b.const, a)
                if not row.terms:
                    return affine({}, row.const * scale)
                if self.is_dimension(left) or self.is_dimension(right) or not isinstance(scale, int):
                    fail(
                        f"{ast.unparse(tree)!r} is not affine with whole coefficients: a coefficient is a number or an "
                        "integer parameter, not a dimension",
                        tree,
                    )
                return affine({}, 0).plus(row, scale)
            case ast.BinOp(op=ast.FloorDiv(), left=left, right=right):
                a, b = self.affine(left, keyword), self.affine(right, keyword)
                if a.terms or b.terms:
                    fail(f"{ast.unparse(tree)!r} is not affine: an index is divided", tree)
                if self.is_trial and isinstance(b.const, Polynomial):
                    return affine({}, dimension("quotient"))
                try:
                    return affine({}, a.const // b.const)  # type: ignore[operator]  # an extent refuses in its own words
                except (ValueError, ZeroDivisionError, TypeError) as error:
                    fail(f"{ast.unparse(tree)}: {error}", tree)
        fail(f"{ast.unparse(tree)!r} is not affine: indices are added, and multiplied by whole numbers", tree)

    def is_dimension(self, tree: ast.expr) -> bool:
        """Whether an expression uses a dimension (in whose place a number may stand by now)."""
        parts = [part.id for part in ast.walk(tree) if isinstance(part, ast.Name)]
        return any(name in self.names and name not in self.owner.parameters for name in parts)

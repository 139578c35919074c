"""Index notation: an op is a line, `gc.define("C[i,j] = sum[k] A[i,k] * B[k,j]", A="I K", B="K J")`.

    line    ::= name[index, ...] = [reducer[index, ...]] body          `name = ...` and `name[] = ...` are scalars
    reducer ::= sum | prod | max | min | argmax | argmin               it reduces the whole body
    body    ::= numbers, x[affine, ...], x[] or x (rank 0), indices, dimensions and integer parameters as numbers,
                + - * / // % ** < <= > >= == != & | ~ and or not, a if c else b, (), where(c, a, b), max(a, b),
                the scalar ops (exp, log1p, sigmoid, ...), inside(x[affine, ...])
    affine  ::= indices times whole numbers, plus a constant that may use dimensions, as in x[L-1-i]

Floats are computed in the promoted float dtype of all operands (float32 when there is none); integers and bools keep
their dtype until they meet a float, so that `t[i] == j` compares whole numbers.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from graphc.errors import ArgumentError, ArgumentTypeError, GraphcError, IndexNotationError, ShapeError
from graphc.ir import build
from graphc.ir.affine import Affine, AffineMap, axis_row
from graphc.ir.extent import Extent, FloorQuotient, Polynomial, Shape, dimension, format_shape
from graphc.ir.node import INSIDE, REDUCERS, SKIP, ZERO, Node, generic
from graphc.ir.origin import originating
from graphc.lang.notation import Lowering
from graphc.lang.source import new_origin, user_line
from graphc.lang.tensor import Tensor, TensorLike, as_tensor

_HEAD = re.compile(r"([^\W\d]\w*)\s*(?:\[([^\]]*)\])?\s*=(?!=)\s*")
_REDUCER = re.compile(  # a reducer that exists, or a name with indices that stands before an operand as one would
    rf"({'|'.join(REDUCERS)})\s*\[([^\]]*)\]\s*|([^\W\d]\w*)\s*\[[^\]]*\]\s*(?=[\w(.~])(?!(?:if|and|or|in|is|not)\b)"
)
_REDUCER_INSIDE = re.compile(rf"\b({'|'.join(REDUCERS)})\s*\[")


def define(line: str, /, *, outside: str | Mapping[str, str] | None = None, **extents: Any) -> Definition:
    """A new op from a line of index notation; its gradient needs nothing more.

    line: see the grammar above. extents: a keyword named as an operand gives its dimensions ("N C L": names or
    ints; "" for rank 0), and their order is that of the arguments; one named as an index gives its extent (an int or an
    expression in the dimensions), needed where no read has that index alone as a whole row; any other name with an int
    is a parameter of the line. outside: what a read outside an array gives: "zero" reads 0, "skip" leaves the point
    out; for all operands, or a dict by operand. Without it such a read is an error.

    Raises IndexNotationError, which points into the line, for what cannot be read; a call raises it for reads outside
    and ShapeError for shapes that do not fit.

    >>> import graphc as gc
    >>> conv = gc.define("y[n,o,i] = sum[c,k] x[n,c,s*i+k] * w[o,c,k]", x="N C L", w="O C K", s=2, i="(L-K)//s+1")
    >>> conv(gc.input("x", ("N", 3, 9)), gc.input("w", (8, 3, 3)))
    <Tensor float32(N, 8, 4)>
    """
    if not isinstance(line, str):
        raise ArgumentTypeError(f"define: a line of text is needed, not {type(line).__name__}", user_line())
    return Definition(line, outside, extents)


class Definition:
    """An op that a line of index notation defines: call it with one tensor for each operand. `name` is the output's."""

    def __init__(self, line: str, outside: str | Mapping[str, str] | None, extents: Mapping[str, Any]) -> None:
        self.line = " ".join(line.split())
        head = _HEAD.match(self.line)
        if head is None:
            self.fail("the line must begin with the output, as in y[i,j] = ...", 0)
        self.name = head.group(1)
        self.indices = self._index_names(head.group(2) or "", head.start(2))
        start, self.reducer = head.end(), None
        reduction = _REDUCER.match(self.line, start)
        if reduction is not None:
            if reduction.group(1) is None:
                self.fail(f"{reduction.group(3)!r} is no reducer; use one of {', '.join(REDUCERS)}", start)
            self.reducer, start = reduction.group(1), reduction.end()
            reduced = self._index_names(reduction.group(2), reduction.start(2))
            if not reduced:
                self.fail(f"{self.reducer}[] needs an index to reduce over", reduction.start(2))
            self.indices += reduced
        self.rank_out = len(self.indices) - (len(reduced) if self.reducer else 0)
        for position, index in enumerate(self.indices):
            if index in self.indices[:position]:
                self.fail(f"the index {index!r} is declared twice", self._find(index, 1))
        self.body = self._parse_body(start)
        self._sort_keywords(extents)
        self.modes = self._outside_modes(outside)
        self._check()

    def __repr__(self) -> str:
        return self.line

    def __call__(self, *operands: TensorLike, **named: TensorLike) -> Tensor:
        """The op on one tensor, or array, for each operand, in the order of the keywords or by name."""
        origin = new_origin(self.name)
        with originating((origin,)):
            try:
                return self._apply(operands, named)
            except GraphcError as error:
                if error.where is not None or origin.where is None:
                    raise
                raise type(error)(error.message, origin.where) from None

    # --- Reading the line ---------------------------------------------------------------------------------------------

    def fail(self, problem: str, at: int | ast.AST) -> NoReturn:
        """Quote the line and point at a column of it or at a part of the body."""
        if isinstance(at, ast.AST):
            at = self._column(at)
        caret = " " * min(at, len(self.line)) + "^"
        raise IndexNotationError(f"{problem}\n    {self.line}\n    {caret}", user_line())

    def _column(self, tree: ast.AST) -> int:
        """The column of a part of the body in the line (syntax trees count bytes of the parenthesised body)."""
        before = f"({self.line[self._start :]})".encode()[: getattr(tree, "col_offset", 1)]
        return self._start + len(before.decode()) - 1

    def _find(self, name: str, nth: int = 0) -> int:
        """The column of the nth place (or the last) after the output's name where a name stands."""
        found = [match.start() for match in re.finditer(rf"\b{re.escape(name)}\b", self.line)]
        found = [column for column in found if column >= len(self.name)] or [0]
        return found[min(nth, len(found) - 1)]

    def _index_names(self, text: str, start: int) -> tuple[str, ...]:
        names: list[str] = []
        for piece in text.split(",") if text.strip() else []:
            name = piece.strip()
            if not name.isidentifier() or name in REDUCERS:
                at = start + len(piece) - len(piece.lstrip())
                self.fail(f"an index is a plain name, not {name!r}; offsets and strides belong into the reads", at)
            names.append(name)
            start += len(piece) + 1
        return tuple(names)

    def _parse_body(self, start: int) -> ast.expr:
        self._start, text = start, self.line[start:]
        if not text.strip():
            self.fail("the body is missing", start)
        nested = _REDUCER_INSIDE.search(text)
        if nested:
            self.fail(
                f"{nested.group(1)} stands inside the body: a line has one reducer, first on the right; "
                "define the inner one as an op of its own",
                start + nested.start(),
            )
        text = re.sub(r"\[\s*\]", lambda found: " " * len(found.group()), text)  # x[] reads as x
        try:
            return ast.parse(f"({text})", mode="eval").body
        except SyntaxError as error:
            self.fail(f"cannot read the body: {error.msg}", start + max((error.offset or 2) - 2, 0))

    def _sort_keywords(self, keywords: Mapping[str, Any]) -> None:
        """Keywords are dimensions of operands, extents of indices, or integer parameters."""
        subscripted = {
            tree.value.id
            for tree in ast.walk(self.body)
            if isinstance(tree, ast.Subscript) and isinstance(tree.value, ast.Name)
        }
        self.operands: dict[str, tuple[str | int, ...]] = {}
        self.given: dict[str, ast.expr] = {}
        self.parameters: dict[str, int] = {}
        for name, value in keywords.items():
            is_int = hasattr(value, "__index__") and not isinstance(value, bool)
            if name in self.indices:
                self.given[name] = self._extent_syntax(name, value)
            elif isinstance(value, str | tuple | list) or (is_int and name in subscripted):
                self.operands[name] = self._dimensions(name, value)
            elif is_int:
                self.parameters[name] = int(value)
            else:
                self.fail(f"{name}={value!r}: dimensions as text, or an int, are expected", 0)
        self.dimensions = {d for dims in self.operands.values() for d in dims if isinstance(d, str)}
        for name in (*self.operands, *self.parameters):
            if name in REDUCERS or name == self.name or name in self.dimensions:
                kind = "a reducer" if name in REDUCERS else "the output" if name == self.name else "a dimension"
                self.fail(f"the keyword {name} is also the name of {kind}", self._find(name))
        for name in self.dimensions.intersection(self.indices):
            self.fail(f"{name!r} is an index and a dimension", self._find(name))

    def _dimensions(self, name: str, value: Any) -> tuple[str | int, ...]:
        items = re.split(r"[\s,]+", value.strip()) if isinstance(value, str) else value
        items = (items,) if hasattr(items, "__index__") else [item for item in items if item != ""]
        out: list[str | int] = []
        for item in items:
            if isinstance(item, str) and item.isidentifier():
                out.append(item)
            elif not isinstance(item, bool) and (hasattr(item, "__index__") or str(item).isdecimal()):
                out.append(int(item))
            else:
                self.fail(f"{name}={value!r}: a dimension is a name or a number, not {item!r}", self._find(name))
        return tuple(out)

    def _extent_syntax(self, name: str, value: Any) -> ast.expr:
        try:
            return ast.parse(str(value).strip(), mode="eval").body
        except SyntaxError:
            self.fail(f"cannot read the extent {name}={value!r}", self._find(name))

    def _outside_modes(self, outside: str | Mapping[str, str] | None) -> dict[str, str]:
        by_name = dict(outside) if isinstance(outside, Mapping) else dict.fromkeys(self.operands, outside)
        for name, mode in by_name.items():
            if name not in self.operands:
                self.fail(f"outside= names {name!r}, which is no operand", 0)
            if mode not in (None, ZERO, SKIP):
                self.fail(f'outside= is "zero" or "skip", not {mode!r}', 0)
        return {name: mode for name, mode in by_name.items() if mode is not None}

    def _check(self) -> None:
        """Lower the body once for dimensions that are only names, so that what is wrong with the line shows now."""
        names: dict[str, Extent] = {name: dimension(name) for name in self.dimensions}
        shapes = {
            name: tuple(names[d] if isinstance(d, str) else d for d in dims) for name, dims in self.operands.items()
        }
        lowering = Lowering(self, names, shapes, dict.fromkeys(self.operands, "float32"), is_trial=True)
        lowering.body()
        for name in self.operands:
            if name not in lowering.used:
                self.fail(f"the operand {name!r} is not read in the body", len(self.line))
        self.whole = lowering.whole
        for axis, index in enumerate(self.indices):
            if index in self.given:
                lowering.affine(self.given[index], f"{index}={ast.unparse(self.given[index])}")
            elif axis not in self.whole:
                self.fail(
                    f"the index {index!r} has no extent: no read has it alone as a whole row; give {index}=...",
                    self._find(index),
                )

    # --- Calling ------------------------------------------------------------------------------------------------------

    def _apply(self, positional: tuple[TensorLike, ...], named: Mapping[str, TensorLike]) -> Tensor:
        expected = ", ".join(self.operands)
        given = dict(zip(self.operands, positional, strict=False))
        is_complete = {*given, *named} == {*self.operands} and not given.keys() & named.keys()
        if len(positional) > len(self.operands) or not is_complete:
            got = f"{len(positional)} given" + (f" and {', '.join(named)} by name" if named else "")
            raise ArgumentError(f"{self.name} takes {len(self.operands)} operands ({expected}): {got}")
        tensors = {name: as_tensor(value, name) for name, value in (given | dict(named)).items()}
        shapes = {name: tensors[name].shape for name in self.operands}
        names = self._bind(shapes)
        dtypes = {name: tensors[name].dtype for name in self.operands}
        lowering = Lowering(self, names, shapes, dtypes)
        domain = self._domain(lowering, shapes)
        body = lowering.body()
        nodes: list[Node] = []
        maps: list[AffineMap] = []
        modes: list[str] = []
        for (name, index_map), tree in lowering.reads.items():
            mode = self.modes.get(name, INSIDE)
            if mode == INSIDE:
                self._require_inside(name, index_map, domain, shapes[name], tree)
            nodes.append(tensors[name].node)
            maps.append(index_map)
            modes.append(mode)
        shape = domain[: self.rank_out]
        if self.reducer not in (None, "sum", "prod") and any(extent == 0 for extent in domain[self.rank_out :]):
            raise ShapeError(f"{self.name}: an index of extent 0 has no {self.reducer}")
        out_map = AffineMap(len(domain), tuple(axis_row(axis) for axis in range(self.rank_out)))
        node = generic(domain, shape, out_map, nodes, maps, modes, body, self.reducer)
        return Tensor(build.cast_node(node, "bool") if lowering.is_bool_extreme else node)

    def _bind(self, shapes: Mapping[str, Shape]) -> dict[str, Extent]:
        """The extents of the dimensions, from the shapes of the operands."""
        bound: dict[str, tuple[Extent, str]] = {}
        for name, dims in self.operands.items():
            shape = shapes[name]
            text = f"({', '.join(map(str, dims))})"
            if len(shape) != len(dims):
                raise ShapeError(f"{self.name}: {name} is {text}, but the tensor given has shape {format_shape(shape)}")
            for dim, extent in zip(dims, shape, strict=True):
                if isinstance(dim, int):
                    known: tuple[Extent, str] = (dim, "the definition")
                else:
                    known = bound.setdefault(dim, (extent, name))
                if known[0] != extent:
                    other = f", {known[1]} {format_shape(shapes[known[1]])}" if known[1] in shapes else ""
                    raise ShapeError(
                        f"{self.name}: the dimension {dim} is {known[0]} in {known[1]} and {extent} in {name}; "
                        f"{name} {text} has shape {format_shape(shape)}{other}"
                    )
        return {dim: extent for dim, (extent, _) in bound.items()}

    def _domain(self, lowering: Lowering, shapes: Mapping[str, Shape]) -> Shape:
        domain: list[Extent] = []
        for axis, index in enumerate(self.indices):
            if index in self.given:
                text = ast.unparse(self.given[index])
                extent = lowering.affine(self.given[index], f"{index}={text}").const
                if isinstance(extent, int) and extent < 0:
                    sizes = ", ".join(f"{name}={lowering.names[name]}" for name in sorted(self.dimensions))
                    raise ShapeError(f"{self.name}: the extent of {index} is {text} = {extent} ({sizes})")
            else:
                (first, position), *others = self.whole[axis]
                extent = shapes[first][position]
                for other, place in others:
                    if shapes[other][place] != extent:
                        raise ShapeError(
                            f"{self.name}: the index {index} runs over axis {position} of {first} "
                            f"{format_shape(shapes[first])} and over axis {place} of {other} "
                            f"{format_shape(shapes[other])}: {extent} and {shapes[other][place]} differ"
                        )
            domain.append(extent)
        return tuple(domain)

    def _require_inside(self, name: str, index_map: AffineMap, domain: Shape, shape: Shape, tree: ast.AST) -> None:
        if index_map.stays_inside(domain, shape):
            return
        ranges = index_map.range_of(domain)
        for axis, (row, extent, bounds) in enumerate(zip(index_map.rows, shape, ranges, strict=True)):
            text = row.text(self.indices)
            if bounds is not None and (bounds[0] < 0 or (isinstance(extent, int) and bounds[1] >= extent)):
                self.fail(
                    f"{self.name} reads outside {name}: the index {text} runs from {bounds[0]} to {bounds[1]}, "
                    f'axis {axis} has extent {extent}; give outside="zero" or outside="skip", or another extent',
                    tree,
                )
            if not _provably_inside(row, domain, extent):
                self.fail(
                    f"{self.name}: it is not known whether the index {text} stays inside axis {axis} of {name}, "
                    f'of extent {extent}; give outside="zero" or outside="skip", or an extent for which it is',
                    tree,
                )


def _provably_inside(row: Affine, domain: Shape, extent: Extent) -> bool:
    low: Extent = row.const
    high: Extent = row.const
    for axis, coefficient in row.terms:
        span = (domain[axis] - 1) * coefficient
        low, high = (low, high + span) if coefficient > 0 else (low + span, high)
    return _least(low) >= 0 and _least(extent - 1 - high) >= 0


def _least(extent: Extent) -> float:
    """A number that the extent is never below: dimensions are not negative, and m * (D // m) is at most D."""
    if isinstance(extent, int):
        return extent
    for monomial, coefficient in extent.terms:
        if len(monomial) == 1 and isinstance(monomial[0][0], FloorQuotient) and monomial[0][1] == 1:
            atom = monomial[0][0]
            if coefficient < 0 and coefficient % atom.divisor == 0:
                quotient = Polynomial(((monomial, 1),))
                return _least(extent - quotient * coefficient + atom.dividend * (coefficient // atom.divisor))
    constant = sum(coefficient for monomial, coefficient in extent.terms if not monomial)
    is_bounded = all(c >= 0 and all(isinstance(a, str) for a, _ in m) for m, c in extent.terms if m)
    return constant if is_bounded else -math.inf

"""Rewrite rules as text: "log(1 + x)" -> "log1p(x)".

A pattern is a Python expression over the scalar ops: names of ops are called, + - * / ** < <= == & | are the infix
ones, a bare name matches any expression (the same one each time), a name that starts with `c` matches a number only,
and a number matches itself. Commutative ops match in either order.

>>> from graphc.ir import scalar as sc
>>> x = sc.Arg(0, "float32")
>>> rule = Rule("log1p", "log(1 + x)", "log1p(x)", "log(1+x) loses x when x is small")
>>> new = rule.apply(sc.apply("log", sc.apply("add", x, sc.literal(1, "float32"))))
>>> new is sc.apply("log1p", x)
True
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TypeAlias

from graphc.ir import scalar as sc
from graphc.ir.changes import Reason


@dataclass(frozen=True)
class Variable:
    """Matches any expression, or any number when its name starts with c."""

    name: str


@dataclass(frozen=True)
class Number:
    value: float


@dataclass(frozen=True)
class Call:
    op: str
    args: tuple[Pattern, ...]


Pattern: TypeAlias = Variable | Number | Call
Bindings: TypeAlias = Mapping[str, sc.Scalar]

_INFIX: Mapping[type, str] = {
    ast.Add: "add",
    ast.Sub: "sub",
    ast.Mult: "mul",
    ast.Div: "div",
    ast.Pow: "pow",
    ast.BitAnd: "and",
    ast.BitOr: "or",
}
_COMPARE: Mapping[type, str] = {ast.Lt: "lt", ast.LtE: "le", ast.Eq: "eq", ast.NotEq: "ne"}


@cache
def parse(text: str) -> Pattern:
    """Read a pattern."""
    return _parse(ast.parse(text, mode="eval").body)


def _parse(tree: ast.expr) -> Pattern:
    match tree:
        case ast.Name(id=name):
            return Variable(name)
        case ast.Constant(value=int() | float() as value):
            return Number(value)
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return Number(-value)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return Call("neg", (_parse(operand),))
        case ast.UnaryOp(op=ast.Invert(), operand=operand):
            return Call("not", (_parse(operand),))
        case ast.BinOp(left=left, op=operator, right=right):
            return Call(_INFIX[type(operator)], (_parse(left), _parse(right)))
        case ast.Compare(left=left, ops=[operator], comparators=[right]):
            return Call(_COMPARE[type(operator)], (_parse(left), _parse(right)))
        case ast.Call(func=ast.Name(id=name), args=args):
            return Call(name, tuple(_parse(arg) for arg in args))
    raise ValueError(f"not a pattern: {ast.unparse(tree)}")


def matches(pattern: Pattern, node: sc.Scalar, bound: Bindings | None = None) -> Iterator[dict[str, sc.Scalar]]:
    """All ways in which a pattern matches a scalar expression."""
    bound = bound or {}
    match pattern:
        case Variable(name):
            if name in bound:
                if bound[name] is node:
                    yield dict(bound)
            elif not name.startswith("c") or isinstance(node, sc.Literal):
                yield {**bound, name: node}
        case Number(value):
            if (
                isinstance(node, sc.Literal)
                and node.dtype != "bool"
                and node.value == sc.literal(value, node.dtype).value
            ):
                yield dict(bound)
        case Call(op, args):
            if not isinstance(node, sc.Apply) or node.op != op:
                return
            orders = [node.args]
            if sc.OPS[op].commutative:
                orders.append(node.args[::-1])
            for order in orders:
                yield from _match_all(args, order, bound)


def _match_all(
    patterns: tuple[Pattern, ...], nodes: tuple[sc.Scalar, ...], bound: Bindings
) -> Iterator[dict[str, sc.Scalar]]:
    if not patterns:
        yield dict(bound)
        return
    for first in matches(patterns[0], nodes[0], bound):
        yield from _match_all(patterns[1:], nodes[1:], first)


def build(pattern: Pattern, bound: Bindings, dtype: str) -> sc.Scalar:
    """The expression that a pattern stands for; numbers take the dtype of what they meet, `dtype` where alone."""
    match pattern:
        case Variable(name):
            return bound[name]
        case Number(value):
            return sc.literal(value, dtype)
        case Call(op, args):
            if op == "select":
                return sc.apply(op, build(args[0], bound, dtype), *_alike(args[1:], bound, dtype))
            return sc.apply(op, *_alike(args, bound, dtype))


def _alike(args: tuple[Pattern, ...], bound: Bindings, dtype: str) -> list[sc.Scalar]:
    built = [None if isinstance(arg, Number) else build(arg, bound, dtype) for arg in args]
    shared = next((arg.dtype for arg in built if arg is not None), dtype)
    return [arg if arg is not None else build(pattern, bound, shared) for arg, pattern in zip(built, args, strict=True)]


@dataclass(frozen=True)
class Rule:
    """A row: name, what is matched, what takes its place, why, and (rarely) a condition on the match."""

    name: str
    before: str
    after: str
    why: str
    condition: Callable[[Bindings], bool] | None = None
    root: str = field(init=False)
    reason: Reason = field(init=False)

    def __post_init__(self) -> None:
        pattern = parse(self.before)
        assert isinstance(pattern, Call)
        object.__setattr__(self, "root", pattern.op)
        reason = Reason("rewritten", self.name, f"{self.before} -> {self.after}", self.why)
        object.__setattr__(self, "reason", reason)

    def apply(self, node: sc.Scalar) -> sc.Scalar | None:
        """What takes the place of `node`, or None when the rule does not apply."""
        for bound in matches(parse(self.before), node):
            if self.condition is None or self.condition(bound):
                return build(parse(self.after), bound, node.dtype)
        return None


def by_root(rules: tuple[Rule, ...]) -> dict[str, tuple[Rule, ...]]:
    """The rules by the op at the root of what they match."""
    table: dict[str, tuple[Rule, ...]] = {}
    for rule in rules:
        table[rule.root] = (*table.get(rule.root, ()), rule)
    return table

"""The words for what a pass did: nodes by the user's names, chains of matrices with their parentheses, lines."""

from __future__ import annotations

import re
from pathlib import PurePath

from graphc.ir.classify import is_product
from graphc.ir.dtypes import is_float
from graphc.ir.node import Const, Generic, Input, Node
from graphc.ir.origin import origins_of
from graphc.ir.printer import format_scalar
from graphc.passes.chain import REORDERED, matrix_product
from graphc.passes.compare import Comparison, Row
from graphc.render.names import constant_text, is_constant, is_derived, is_recomputed, op_label, scope_of, user_names

MOST_NUMBERS = 4  # of a constant, that stand for it
LONGEST_BODY = 32  # letters of a body that stands for the node


class Words:
    """Names for the nodes of both graphs of a comparison."""

    def __init__(self, comparison: Comparison) -> None:
        self.names = {**user_names(comparison.after), **user_names(comparison.before)}
        self.gone = set(comparison.gone)

    def label(self, node: Node) -> str:
        """The node in a word or two: `h = relu`, `x`, `0.5`, `softplus(x)`."""
        name = self.names.get(node)
        if isinstance(node, Input):
            return node.name
        what = number_text(node) or op_label(node)
        if is_derived(node) and not is_constant(node):
            what += ", again" if is_recomputed(node) else ", backward"
        return f"{name} = {what}" if name else what

    def text(self, row: Row) -> str:
        """What a rule did to which nodes, and in which of the user's scopes."""
        scope = "/".join(scope_of((*row.before, *row.after)[0]))
        return f"{self._text(row)}, in {scope}" if scope else self._text(row)

    def _text(self, row: Row) -> str:
        if not row.before:  # of what another pass made, when all are compared
            return " and ".join(map(self.label, row.after))
        node, *through = row.before
        own = self.label(node)
        result = row.result
        if row.reason == REORDERED and result is not None:
            old, new = self._chain(node, self.gone), self._chain(result, {*row.made})
            if old is not None and new is not None:
                return f"{old[0]} -> {new[0]}, {_power(old[1])} -> {_power(new[1])} multiply-adds"
        match row.reason.kind:
            case "merged":
                return f"{own} is {' and '.join(map(self.label, through))}"
            case "fused" if through:
                return f"{' and '.join(map(self.label, through))} into {own}{self._reads(result)}"
            case "folded" if result is not None and is_constant(result):
                return f"{own} -> {number_text(result) or 'an array'}"
        return f"{' and '.join(map(self.label, through))} into {own}" if through else own

    def _reads(self, result: Node | None) -> str:
        """What the fused node reads."""
        if result is None or not result.operands:
            return ""
        return f" (one kernel reads {', '.join(map(self.short, result.operands))})"

    def short(self, node: Node) -> str:
        """The name of a node, or its op where it has none."""
        return self.names.get(node) or number_text(node) or op_label(node)

    def body(self, node: Node) -> str | None:
        """What a node computes, in short; None where that is long, or a product, whose op says it better."""
        if not isinstance(node, Generic) or not node.operands or is_product(node):
            return None
        body = format_scalar(node.body, [self.short(operand) for operand in node.operands])
        text = re.sub(r"(\d)\.0\b", r"\1", f"{node.reducer} of {body}" if node.reducer else body)
        return text if len(text) <= LONGEST_BODY else None

    def _chain(self, node: Node, inner: set[Node]) -> tuple[str, float] | None:
        """A product of matrices with its parentheses, and its multiply-adds; None for another node. inner: the products
        that belong to it."""
        product = matrix_product(node)
        if product is None:
            return None
        left, right = product
        cost = float(left.rows * left.columns * right.columns)
        texts: list[str] = []
        for factor in product:
            text = self.short(factor.node)
            own = self._chain(factor.node, inner) if factor.node in inner else None
            if own is not None:
                text, cost = f"({own[0]})", cost + own[1]
            texts.append(f"{text}'" if factor.transposed and len(factor.node.shape) > 1 else text)
        return " ".join(texts), cost


def asking_places(node: Node) -> tuple[str, ...]:
    """The user's lines that asked for a node other than a leaf or a constant, as file:line."""
    if isinstance(node, Input) or is_constant(node):
        return ()
    return tuple(dict.fromkeys(place(origin.file, origin.line) for origin in origins_of(node) if origin.line))


def places_of(row: Row) -> tuple[str, ...]:
    """The user's lines from which what was rewritten came, as file:line, each once."""
    found: dict[str, None] = {}
    first, *through = row.before or row.after
    for node in (first, *(node for node in through if not is_constant(node))):
        for origin in origins_of(node)[:1]:
            if origin.line:
                found[place(origin.file, origin.line)] = None
    return tuple(found)


def number_text(node: Node) -> str | None:
    """The number, or the few numbers, of a constant, in four digits; None for another node and for more numbers."""
    if isinstance(node, Const) and is_float(node.dtype) and 0 < node.value.size <= MOST_NUMBERS:
        numbers = [f"{number:.4g}" for number in node.value.reshape(-1).tolist()]
        return numbers[0] if node.value.size == 1 else f"[{', '.join(numbers)}]"
    return constant_text(node)


def place(file: str, line: int) -> str:
    """model.py:7"""
    return f"{PurePath(file).name}:{line}"


def _power(count: float) -> str:
    """2.1e6"""
    digits, _, exponent = f"{count:.1e}".partition("e")
    return f"{digits}e{int(exponent)}"

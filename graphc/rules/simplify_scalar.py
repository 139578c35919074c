"""Algebra on scalar expressions: the table of rows, and the one function that applies it.

Rows keep the value for every finite number; like NumPy's own they do not assume that NaN and infinities are absent
(x*0 stays), with two licences: the sign of a zero is not kept by x + 0, and x*(1/y) may be computed as x/y.
"""

from __future__ import annotations

from functools import lru_cache

from graphc.ir import scalar as sc
from graphc.ir.changes import Reason, applied, recording
from graphc.ir.dtypes import is_float
from graphc.rules.pattern import Rule, by_root

RULES: tuple[Rule, ...] = (
    Rule("add zero", "x + 0", "x", "adding nothing"),
    Rule("subtract zero", "x - 0", "x", "subtracting nothing"),
    Rule("subtract from zero", "0 - x", "-x", "one op instead of two reads"),
    Rule("multiply by one", "x * 1", "x", "scaling by nothing"),
    Rule("multiply by minus one", "x * -1", "-x", "a sign is cheaper than a product"),
    Rule("divide by one", "x / 1", "x", "scaling by nothing"),
    Rule("double negation", "-(-x)", "x", "signs cancel"),
    Rule("add negated", "x + -y", "x - y", "one op instead of two"),
    Rule("subtract negated", "x - -y", "x + y", "one op instead of two"),
    Rule("pull sign out of product", "(-x) * y", "-(x * y)", "signs meet and cancel"),
    Rule("pull sign out of dividend", "(-x) / y", "-(x / y)", "signs meet and cancel"),
    Rule("multiply by reciprocal", "x * (1 / y)", "x / y", "one rounding instead of two", lambda b: not _one(b["x"])),
    Rule("numbers of a product", "c1 * (x * c2)", "x * (c1 * c2)", "numbers are folded"),
    Rule("sign of number", "c1 * -x", "x * -c1", "the sign goes into the number"),
    Rule("power zero", "x ** 0", "1", "x**0 is 1 for every x, NaN too (C99)"),
    Rule("power one", "x ** 1", "x", "nothing to do"),
    Rule("power two", "x ** 2", "x * x", "a product is exact to one rounding and cheap"),
    Rule("power three", "x ** 3", "x * x * x", "two products"),
    Rule("power minus one", "x ** -1", "1 / x", "a quotient", lambda b: is_float(b["x"].dtype)),
    Rule("power minus two", "x ** -2", "1 / (x * x)", "a quotient", lambda b: is_float(b["x"].dtype)),
    Rule("square of square root", "sqrt(x) * sqrt(x)", "select(x < 0, sqrt(x), x)", "exact; NaN below 0 is kept"),
    Rule("abs of abs", "abs(abs(x))", "abs(x)", "already done"),
    Rule("abs of negated", "abs(-x)", "abs(x)", "the sign goes"),
    Rule("maximum of itself", "maximum(x, x)", "x", "the same"),
    Rule("minimum of itself", "minimum(x, x)", "x", "the same"),
    Rule("not not", "~~x", "x", "cancels"),
    Rule("select of not", "select(~p, x, y)", "select(p, y, x)", "one op less"),
    Rule("select in select", "select(p, select(p, x, y), z)", "select(p, x, z)", "the condition is known"),
    Rule("select beside select", "select(p, x, select(p, y, z))", "select(p, x, z)", "the condition is known"),
    Rule("and with itself", "p & p", "p", "the same"),
)
CAST_BACK = Reason("rewritten", "cast back", "float32(float64(x)) -> x", "a wider dtype loses nothing")
KNOWN_CONDITION = Reason("rewritten", "known condition", "x & True -> x, x & False -> False", "the condition is known")
_TABLE = by_root(RULES)
_MOST_ROUNDS = 8  # rewrites of one node before it is left as it is: rows shrink, so few are ever needed


def _one(node: sc.Scalar) -> bool:
    return isinstance(node, sc.Literal) and node.value == 1


@lru_cache(maxsize=8192)
def simplify_scalar(body: sc.Scalar) -> sc.Scalar:
    """The body with every row applied, from the leaves up, until none applies."""
    if not isinstance(body, sc.Apply):
        return body
    done: dict[sc.Scalar, sc.Scalar] = {}
    settled: set[sc.Scalar] = set()
    for node in sc.postorder(body):
        if isinstance(node, sc.Apply):
            done[node] = _settle(_again(node, tuple(done[arg] for arg in node.args)), settled)
        else:
            done[node] = node
    return done[body]


def reasons_for(body: sc.Scalar) -> list[Reason]:
    """The rows that `simplify_scalar` applies to a body, each once, in order."""
    with recording() as changes:
        simplify_scalar.__wrapped__(body)  # what has been cached would not be done again
    return list(dict.fromkeys(changes.applied))


def _settle(node: sc.Scalar, settled: set[sc.Scalar]) -> sc.Scalar:
    """Apply rows to a node, and to what they put in its place, until none applies. What is settled is not visited
    again, so that the recursion is as deep as a row's replacement."""
    for _ in range(_MOST_ROUNDS):
        if node in settled or not isinstance(node, sc.Apply):
            return node
        node = _again(node, tuple(_settle(arg, settled) if arg not in settled else arg for arg in node.args))
        better = _step(node)
        if better is None or better is node:
            break
        node = better
    settled.add(node)
    return node


def _again(node: sc.Apply, args: tuple[sc.Scalar, ...]) -> sc.Scalar:
    if args == node.args:
        return node
    return sc.cast(args[0], node.dtype) if node.op == "cast" else sc.apply(node.op, *args)


def _step(node: sc.Scalar) -> sc.Scalar | None:
    if not isinstance(node, sc.Apply):
        return None
    if node.op == "cast":
        new = _cast(node)
        return None if new is None else applied(CAST_BACK, new)
    if node.op == "and" and node.dtype == "bool":
        for one, other in (node.args, node.args[::-1]):
            if isinstance(one, sc.Literal):
                return applied(KNOWN_CONDITION, other if one.value else sc.FALSE)
    for rule in _TABLE.get(node.op, ()):
        new = rule.apply(node)
        if new is not None:
            return applied(rule.reason, new)
    return None


def _cast(node: sc.Apply) -> sc.Scalar | None:
    """A cast of a cast that went to a wider dtype of the same kind and comes back."""
    inner = node.args[0]
    if isinstance(inner, sc.Apply) and inner.op == "cast":
        source = inner.args[0].dtype
        widened = (source, inner.dtype) in (("float32", "float64"), ("int32", "int64"))
        if widened or (source == "bool" and inner.dtype != "bool"):
            return sc.cast(inner.args[0], node.dtype)
    return None

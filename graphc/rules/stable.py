"""Numerical stability: rewrites that keep the value where it could be computed and save it where it could not.

Each row has a name, what it matches, what takes its place and the failure that it prevents; a test shows each
failure. The scalar rows match through elementwise nodes, however the user split the expression over lines; two rows
match sums as well (log-sum-exp, variance). `grad` applies them before and after differentiating, `compile` once more.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.ir import build
from graphc.ir import scalar as sc
from graphc.ir.affine import AffineMap
from graphc.ir.changes import Reason, carried, note
from graphc.ir.graph import Graph, rebuild
from graphc.ir.node import INSIDE, SKIP, Generic, Node, Opaque, Step, View, generic, opaque, scalar_map, view
from graphc.ir.origin import originating, origins_of
from graphc.rules.inline import Draft, can_inline, inline_into
from graphc.rules.pattern import Bindings, Rule, by_root, matches, parse
from graphc.rules.simplify_scalar import simplify_scalar


def _is_positive_number(bound: Bindings) -> bool:
    node = bound["c1"]
    return isinstance(node, sc.Literal) and node.value > 0


RULES: tuple[Rule, ...] = (
    Rule("log of exp", "log(exp(x))", "x", "exp overflows although the result is x"),
    Rule("log1p", "log(1 + x)", "log1p(x)", "1 + x loses a small x"),
    Rule("softplus", "log1p(exp(x))", "softplus(x)", "exp overflows from 89 on in float32"),
    Rule("expm1", "exp(x) - 1", "expm1(x)", "exp(x) - 1 loses a small x"),
    Rule("expm1 added", "exp(x) + -1", "expm1(x)", "exp(x) - 1 loses a small x"),
    Rule("sigmoid", "1 / (1 + exp(-x))", "sigmoid(x)", "exp(-x) overflows for x below -88 and its gradient is inf/inf"),
    Rule("sigmoid of negated", "1 / (1 + exp(x))", "sigmoid(-x)", "exp overflows, and its gradient is inf/inf"),
    Rule("sigmoid as quotient", "exp(x) / (1 + exp(x))", "sigmoid(x)", "inf/inf for x from 89 on in float32"),
    Rule("log of sigmoid", "log(sigmoid(x))", "-softplus(-x)", "sigmoid underflows to 0 for x below -104"),
    Rule("complement of sigmoid", "1 - sigmoid(x)", "sigmoid(-x)", "1 - s is 0 for x from 17 on in float32"),
    Rule("log of quotient of exp", "log(exp(x) / y)", "x - log(y)", "exp(x)/y underflows: log(softmax) is -inf"),
    Rule("root of square", "sqrt(x * x)", "abs(x)", "x*x overflows or underflows, and the gradient at 0 is 0/0"),
    Rule(
        "x by root of square plus number",
        "x / sqrt(x*x + c1)",
        "select(abs(x) < 1, x * rsqrt(x*x + c1), sign(x) * rsqrt(1 + c1/(x*x)))",
        "x*x overflows and the quotient becomes 0",
        _is_positive_number,
    ),
)
FORWARD_ONLY = frozenset({"complement of sigmoid"})
"""Rows that would put a second transcendental into a derivative, whose form s(1-s) is accurate where it matters."""

STEP = Reason("rewritten", "step of a loop", "the rows of this table, in the step of a loop")

_TABLE = by_root(RULES)
_TRIGGERS = frozenset({"exp", "log", "sqrt", "sigmoid", "log1p"})
_DEEPEST = 4  # elementwise nodes that a pattern may span


def stabilise(outputs: Sequence[Node], keep: Sequence[Node] = ()) -> list[Node]:
    """The outputs with every row applied wherever it matches; the nodes in `keep` stay as they are."""
    graph = Graph(tuple(outputs))
    kept = set(keep)
    reach: dict[Node, int] = {}  # how many nodes above a node may still match because of what it computes
    done: dict[Node, Node] = {}
    for node in graph.nodes:
        if node in kept:
            done[node] = node
            reach[node] = 0
            continue
        new = node
        if any(done[operand] is not operand for operand in node.operands) or _reach(node, reach):
            with originating(origins_of(node)):
                new = rebuild(node, [done[operand] for operand in node.operands])
                if isinstance(new, Generic) and _reach(new, reach):
                    new = _stabilise_node(new, kept)
        if isinstance(new, Opaque) and new.step is not None:
            new = _with_stable_step(new, new.step)
        done[node] = new
        if new not in reach:
            _reach(new, reach)
    carried(done)
    return [done[node] for node in outputs]


def _with_stable_step(node: Opaque, step: Step) -> Node:
    *following, value = stabilise((*step.following, step.value))
    stable: Step = Step(step.leaves, tuple(following), value)
    return note(STEP, node, opaque(node.op, node.operands, node.shape, node.dtype, stable, **dict(node.attributes)))


def _reach(node: Node, reach: dict[Node, int]) -> int:
    """Above 0 when the node or one of the few below it that a pattern may span has an op that every row needs."""
    known = reach.get(node)
    if known is None:
        if isinstance(node, Generic) and _may_start(node):
            known = _DEEPEST
        else:
            known = max((reach.get(operand, 0) - 1 for operand in node.operands), default=0)
        reach[node] = known
    return max(known, 0)


def _may_start(node: Generic) -> bool:
    if not _TRIGGERS.isdisjoint(sc.ops_of(node.body)):
        return True
    bodies = [node.body, *(operand.body for operand in node.operands if isinstance(operand, Generic))]
    return node.reducer == "sum" and any(_has_square(body) for body in bodies)  # a variance sums squares


def _has_square(body: sc.Scalar) -> bool:
    return not sc.ops_of(body).isdisjoint(("mul", "pow")) and any(
        isinstance(part, sc.Apply) and (part.op == "pow" or (part.op == "mul" and part.args[0] is part.args[1]))
        for part in sc.postorder(body)
    )


def _stabilise_node(node: Generic, kept: set[Node]) -> Node:
    in_gradient = any(origin.role == "grad" for origin in origins_of(node)[:1])
    if sc.ops_of(node.body).isdisjoint(_TABLE):
        return node
    draft = Draft.of(node)
    for _ in range(_DEEPEST):
        rule, body = _apply_rows(draft.body, in_gradient)
        if rule is not None:
            draft.body = body
            new = note(rule.reason, node, draft.finish(node))
            return _stabilise_node(new, kept) if isinstance(new, Generic) else new
        if not _expand(draft, node, kept):
            break
    return _match_sums(node, draft)


def _apply_rows(body: sc.Scalar, in_gradient: bool) -> tuple[Rule | None, sc.Scalar]:
    for part in sc.postorder(body):
        if not isinstance(part, sc.Apply):
            continue
        for rule in _TABLE.get(part.op, ()):
            if in_gradient and rule.name in FORWARD_ONLY:
                continue
            new = rule.apply(part)
            if new is not None:
                return rule, simplify_scalar(sc.substitute(body, {part: new}))
    return None, body


def _expand(draft: Draft, node: Generic, kept: set[Node]) -> bool:
    """Compute the elementwise operands in place, one layer; False when there is none."""
    expanded = False
    used = sc.args_of(draft.body)
    for j in range(len(draft.operands)):
        producer = draft.operands[j]
        if j not in used or producer in kept or not isinstance(producer, Generic):
            continue
        probe = Generic(
            node.domain,
            node.shape,
            node.out_map,
            tuple(draft.operands),
            tuple(draft.maps),
            tuple(draft.modes),
            draft.body,
            node.reducer,
        )
        if draft.modes[j] == INSIDE and can_inline(probe, j):
            inline_into(draft, node, j)
            expanded = True
    if expanded:
        draft.compact()
        draft.body = simplify_scalar(draft.body)
    return expanded


# --- Rows that match sums -------------------------------------------------------------------------------------------

LOG_SUM_EXP = Reason(
    "rewritten",
    "log-sum-exp",
    "log(sum(exp(x))) -> m + log(sum(exp(x - m))), m = max(x)",
    "exp overflows or underflows",
)
VARIANCE = Reason(
    "rewritten", "variance", "mean(x*x) - mean(x)**2 -> mean((x - mean(x))**2)", "two close numbers cancel"
)
SUM_RULES = (LOG_SUM_EXP, VARIANCE)


def _match_sums(node: Generic, draft: Draft) -> Node:
    body = draft.body
    for part in sc.postorder(body):
        if not (isinstance(part, sc.Apply) and part.op == "log" and isinstance(part.args[0], sc.Arg)):
            continue
        j = part.args[0].index
        operand = draft.operands[j]
        total = _behind_view(operand)
        shifted = _log_sum_exp(total) if isinstance(total, Generic) and draft.modes[j] == INSIDE else None
        if shifted is not None:
            place = len(draft.operands)
            draft.operands.append(view(shifted, operand.shape))
            draft.maps.append(draft.maps[j])
            draft.modes.append(INSIDE)
            draft.body = sc.substitute(draft.body, {part: sc.Arg(place, shifted.dtype)})
    if draft.body is not body:
        return note(LOG_SUM_EXP, node, draft.finish(node))
    if isinstance(body, sc.Apply) and body.op == "sub" and node.is_map:
        return note(VARIANCE, node, _variance(node, draft) or node)
    return node


def _expanded(node: Generic) -> Draft:
    draft = Draft.of(node)
    for _ in range(_DEEPEST):
        if not _expand(draft, node, set()):
            break
    return draft


def _log_sum_exp(total: Generic) -> Node | None:
    """log of a sum of exp(u), u not shifted yet."""
    if total.reducer != "sum" or not total.reduced_axes or total.out_map.projection is None or SKIP in total.modes:
        return None
    draft = _expanded(total)
    if not (isinstance(draft.body, sc.Apply) and draft.body.op == "exp"):
        return None
    exponent = draft.body.args[0]
    if any(isinstance(operand, Opaque) and operand.op == "stop_gradient" for operand in draft.operands):
        return None
    greatest = generic(
        total.domain, total.shape, total.out_map, draft.operands, draft.maps, draft.modes, exponent, "max"
    )
    arg = sc.Arg(0, greatest.dtype)
    infinite = sc.apply("eq", sc.apply("abs", arg), sc.literal(float("inf"), arg.dtype))
    finite = build.elementwise("finite", (greatest,), sc.apply("select", infinite, sc.literal(0, arg.dtype), arg))
    shift = opaque("stop_gradient", (finite,), finite.shape, finite.dtype)
    place = len(draft.operands)
    inner = sc.apply("exp", sc.apply("sub", exponent, sc.Arg(place, shift.dtype)))
    operands, maps = [*draft.operands, shift], [*draft.maps, total.out_map]
    modes = [*draft.modes, INSIDE]
    summed = generic(total.domain, total.shape, total.out_map, operands, maps, modes, inner, "sum")
    body = sc.apply("add", sc.apply("log", sc.Arg(0, summed.dtype)), sc.Arg(1, shift.dtype))
    return build.elementwise("logsumexp", (summed, shift), body)


def _variance(node: Generic, draft: Draft) -> Node | None:
    """S2/n - (S1/n)*(S1/n), where S2 sums x*x and S1 sums x over the same n points."""
    for bound in _variance_matches(draft.body):
        read = draft.operands[bound[0]]
        square_sum, plain_sum = _behind_view(read), _behind_view(draft.operands[bound[1]])
        if draft.maps[bound[0]] is not draft.maps[bound[1]] or read.shape != draft.operands[bound[1]].shape:
            continue
        if not isinstance(square_sum, Generic) or not isinstance(plain_sum, Generic):
            continue
        if square_sum.reducer != "sum" or plain_sum.reducer != "sum" or square_sum.domain != plain_sum.domain:
            continue
        squares, plain = _expanded(square_sum), _expanded(plain_sum)
        if square_sum.out_map is not plain_sum.out_map or not _is_square_of(squares, plain):
            continue
        mean_body = sc.apply("div", sc.Arg(0, plain_sum.dtype), bound[2])
        mean = build.elementwise("mean", (plain_sum,), mean_body)
        centred = sc.apply("sub", plain.body, sc.Arg(len(plain.operands), mean.dtype))
        deviations = generic(
            plain_sum.domain,
            plain_sum.shape,
            plain_sum.out_map,
            [*plain.operands, mean],
            [*plain.maps, plain_sum.out_map],
            [*plain.modes, INSIDE],
            sc.apply("mul", centred, centred),
            "sum",
        )
        result = build.elementwise("variance", (deviations,), sc.apply("div", sc.Arg(0, mean.dtype), bound[2]))
        index_map: AffineMap = draft.maps[bound[0]]
        return scalar_map(node.shape, (view(result, read.shape),), (index_map,), sc.Arg(0, result.dtype))
    return None


def _behind_view(node: Node) -> Node:
    """The sum that keepdims shows with axes of extent 1."""
    return node.operand if isinstance(node, View) else node


def _variance_matches(body: sc.Scalar) -> list[tuple[int, int, sc.Scalar]]:
    found: list[tuple[int, int, sc.Scalar]] = []
    for bound in matches(parse("s / c1 - (t / c1) * (t / c1)"), body):
        s, t = bound["s"], bound["t"]
        if isinstance(s, sc.Arg) and isinstance(t, sc.Arg):
            found.append((s.index, t.index, bound["c1"]))
    return found


def _is_square_of(squares: Draft, plain: Draft) -> bool:
    body = squares.body
    if not (isinstance(body, sc.Apply) and body.op == "mul" and body.args[0] is body.args[1]):
        return False
    return (
        squares.operands == plain.operands
        and squares.maps == plain.maps
        and squares.modes == plain.modes
        and body.args[0] is plain.body
    )

"""A graph as equations: which values have one of their own, in which part it stands, and what its right side is.

A value has an equation when the user named it, when it is the last of a line of the user's, a layer's output, or the
value of a gradient that others read; everything else is written inside of what reads it. The parts are those of the
lectures: what is given; the forward pass; backward pass 1, the gradients of intermediate values from the loss back;
backward pass 2, those of parameters and inputs; of a compiled step, the updates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from graphc.ir.extent import product
from graphc.ir.graph import Graph, topological
from graphc.ir.loop import Loop, loop_of, value_of
from graphc.ir.node import Const, Generic, Input, Node, Opaque, View
from graphc.ir.origin import origins_of
from graphc.render.equations import formula as fm
from graphc.render.equations.derivation import (
    BACKWARD_1,
    BACKWARD_2,
    FORWARD,
    GIVEN,
    TITLES,
    UPDATES,
    Equation,
    Equations,
    Recurrence,
    declared,
    leaf_order,
)
from graphc.render.equations.formula import Term
from graphc.render.equations.known import Call, calls_of
from graphc.render.equations.matrix import term_of, unit_axes_only
from graphc.render.equations.stacks import plain_stack
from graphc.render.equations.symbols import Symbol, carried_symbol, distinct, given_symbol
from graphc.render.gradients import Gradients, recovered, scalar_loss
from graphc.render.names import is_derived, scope_of, user_names

_LONGEST = 10  # leaves and functions that fit into one line, and levels of brackets
_SMALL = 3  # so much may be written more than once


def equations_of(
    graph: Graph,
    gradients: Gradients | None = None,
    *,
    index: bool = False,
    targets: Sequence[Node] = (),
    inner: bool = False,
) -> Equations:
    """The equations of a graph.

    gradients: which node is the derivative of which value. Left out, it is found again when the graph holds one float
    scalar output and gradients made by `gc.grad`. index: one equation for each node, in index notation.
    targets: what the outputs after the named ones are the new values of. inner: write out the ops that are made of
    other ops, such as softmax.
    """
    return _Choice(graph, gradients, index, targets, inner or index).equations()


class _Choice:
    """The decisions, in the order of the methods."""

    def __init__(
        self, graph: Graph, gradients: Gradients | None, index: bool, targets: Sequence[Node], inner: bool
    ) -> None:
        self.graph, self.index, self.targets = graph, index, targets
        count = len(graph.names)
        named = graph.outputs[:count] or graph.outputs
        self.of: Mapping[Node, Node] = gradients.of if gradients is not None else recovered(graph)
        self.loss = gradients.loss if gradients is not None else scalar_loss([n for n in named if not is_derived(n)])
        self.wrt = gradients.wrt if gradients is not None else ()
        self.given = user_names(graph)
        self.users = graph.users()
        self.order = {node: place for place, node in enumerate(graph.nodes)}
        present = set(graph.nodes)
        self.owners: dict[Node, list[Node]] = {}
        for value in reversed(graph.nodes):
            if value in self.of and self.of[value] in present:
                self.owners.setdefault(self.of[value], []).append(value)
        self.updated = graph.outputs[count:] if targets else ()
        self.forward = self._forward(named)
        self.known = {} if inner else self._known()
        self.heads: set[Node] = set()
        self.terms: dict[Node, Term | None] = {}
        self.alias: dict[Node, Node] = {}  # what index notation reads in place of a value without a symbol

    def _forward(self, named: Sequence[Node]) -> set[Node]:
        """The nodes that no derivative made."""
        later: set[Node] = set()  # what follows from gradients: the updates of an optimiser
        for node in self.graph.nodes:
            if is_derived(node) or node in self.owners or any(operand in later for operand in node.operands):
                later.add(node)
        told = set(topological(named)) if self.updated else set(self.graph.nodes)
        return {node for node in self.graph.nodes if node in told and node not in later} or set(named)

    def _known(self) -> dict[Node, Callable[[], Term]]:
        """The terms of calls that are written as one, and of the gradients of what they alone read."""
        found: dict[Node, Callable[[], Term]] = {}
        for call in calls_of(self.graph):
            scores, result = call.operands[0], call.result
            gradient, upstream = self.of.get(scores), self.of.get(result)
            alone = all(user in call.inner for user in self.users[scores] if user in self.forward)
            if gradient in self.users and gradient is not None and upstream is not None:
                if not alone:
                    continue
                found[gradient] = partial(self._slope, call, upstream)
            found[result] = partial(self._value, call)
        return found

    def _value(self, call: Call) -> Term:
        return call.row.equation([self._read(operand) for operand in call.operands], call.result.shape)

    def _slope(self, call: Call, upstream: Node) -> Term:
        operands = [self._read(operand) for operand in call.operands]
        return call.row.gradient(operands, self._read(call.result), self._read(upstream))

    def equations(self) -> Equations:
        """Everything, decided."""
        self.heads = {node for node in self.graph.nodes if self._stands_alone(node)}
        count = -1
        while count != len(self.heads):  # each round may find more values that need an equation
            count = len(self.heads)
            self._build()
            self.heads |= self._promoted()
        self._drop_unread()
        owner: dict[Node, Node] = {}
        for gradient in self.graph.nodes:
            if gradient in self.heads and any(value in self.heads for value in self.owners.get(gradient, ())):
                owner[gradient] = self._owner(gradient)
        lines = self._lines(owner)
        heads, symbols = frozenset(self.heads), self._symbols(owner)
        return Equations(self.graph, self.loss, lines, symbols, owner, self.alias, self.terms, heads)

    def _drop_unread(self) -> None:
        """Keep what the outputs need, now that each right side is known."""
        waiting = [self.alias.get(node, node) for node in self.graph.outputs]
        for node in self.graph.outputs:
            term = self.terms.get(node)
            if node not in self.heads and term is not None:
                waiting += [part.value for part in term.parts() if part.op in ("value", "delta")]
        needed: set[Node] = set()
        while waiting:
            node = waiting.pop()
            if node in needed:
                continue
            needed.add(node)
            term = self.terms.get(node)
            if term is None:
                waiting += [self.alias.get(operand, operand) for operand in node.operands]
            else:
                waiting += [part.value for part in term.parts() if part.op in ("value", "delta")]
        self.heads = {node for node in self.heads if node in needed or isinstance(node, Input)}

    # --- Which values have an equation of their own ---

    def _stands_alone(self, node: Node) -> bool:
        if self.index:
            return True
        if isinstance(node, Input):
            return True
        if node in self.graph.outputs and node not in self.updated:
            return not _is_plain_number(node)
        if isinstance(node, Opaque) and node.step is not None:
            return True
        if isinstance(node, Const):
            return node.value.size != 1
        if _is_plain_number(node):
            return False
        if node in self.owners:
            return any(self._is_spoken_of(value) for value in self.owners[node]) or node in set(self.wrt_gradients())
        return node in self.forward and self._is_spoken_of(node)

    def wrt_gradients(self) -> list[Node]:
        return [self.of[leaf] for leaf in self.wrt if leaf in self.of]

    def _is_spoken_of(self, node: Node) -> bool:
        """A value that the reader knows: named, the last of a line, a layer's output."""
        if node in self.given or node in self.heads:
            return True
        if isinstance(node, Input):
            return True
        if node not in self.forward or _is_plain_number(node):
            return False
        readers = [user for user in self.users[node] if user in self.forward]
        if not readers:
            return node in self.graph.outputs
        scope = scope_of(node)
        if scope and all(scope_of(user) != scope for user in readers):
            return not isinstance(node, View) or product(node.shape) != product(node.operand.shape) or len(scope) > 0
        if isinstance(node, View):
            return False
        own = _line(node)
        return own is not None and all(_line(user) not in (None, own) for user in readers)

    # --- Right sides -----------------------------------------------------------------------------------------------

    def _build(self) -> None:
        """The term of every node, from the leaves up; what grows beyond a line becomes an equation on the way."""
        self.terms = {}
        for node in self.graph.nodes:
            if node in self.known:
                term: Term | None = self.known[node]()
                self.heads.add(node)
            else:
                term = None if self.index or isinstance(node, Input) else term_of(node, self._read)
            self.terms[node] = term
            if isinstance(node, Input):
                continue
            if term is None:
                self.heads.add(node)
                for operand in node.operands:  # index notation reads values that have a symbol
                    self._make_head(operand, always=loop_of(node) is None)
                continue
            if node in self.heads or _is_plain_number(node):
                continue
            uses = len(self.users[node])
            if (uses > 1 and not _may_repeat(term)) or max(term.weight, term.depth) > _LONGEST:
                self._make_head(node)

    def _make_head(self, node: Node, always: bool = False) -> None:
        term = self.terms.get(node)
        if (_is_plain_number(node) and not always) or term is None or node in self.heads:
            return
        if term.op == "reshape" and unit_axes_only(term.shape, term.args[0].shape):
            term = term.args[0]
        if term.op in ("value", "delta"):
            self.alias[node] = term.value
        else:
            self.heads.add(node)

    def _read(self, node: Node) -> Term:
        term = self.terms.get(node)
        if node in self.heads or term is None:
            return fm.delta(node) if node in self.owners else fm.value(node)
        return term

    def _promoted(self) -> set[Node]:
        """Values whose gradient has an equation, and that have none themselves: they get one."""
        found: set[Node] = set()
        for gradient in self.heads:
            owners = self.owners.get(gradient)
            if not owners:
                continue
            known = [value for value in owners if value in self.heads]
            inner = [value for value in owners if not isinstance(value, Input) and not isinstance(value, View)]
            read = any(user in self.heads or self.terms.get(user) is not None for user in self.users[gradient])
            if not known or (read and inner and all(isinstance(value, Input) for value in known)):
                found.add((inner or owners)[0])
        for gradient, owners in self.owners.items():
            is_known = any(value in self.heads and not isinstance(value, Input) for value in owners)
            if is_known and len(self.users[gradient]) > 1 and not _is_plain_number(gradient):
                found.add(gradient)
        return found

    def _owner(self, gradient: Node) -> Node:
        """Of several values with this gradient, the one that it is called after: no leaf, one that the user knows, a
        layer's product, the one nearest to the loss."""
        values = [value for value in self.owners[gradient] if value in self.heads]

        def rank(value: Node) -> tuple[int, ...]:
            if isinstance(value, Input):
                return 1, value.kind == "input", self.order[value]
            term = self.terms[value]
            is_product = term is not None and term.has("matmul", "window")
            return 0, value not in self.given, not scope_of(value), not is_product

        return min(values, key=rank)

    # --- Lines -----------------------------------------------------------------------------------------------------

    def _lines(self, owner: Mapping[Node, Node]) -> tuple[Equation | Recurrence, ...]:
        lines: dict[str, list[Equation | Recurrence]] = {part: [] for part in TITLES}
        loops: dict[Loop, list[Opaque]] = {}
        for node in self.graph.nodes:
            if node not in self.heads:
                continue
            part = self._part(node, owner)
            loop = loop_of(node)
            if loop is not None and isinstance(node, Opaque):
                if loop not in loops:
                    first = FORWARD if node in self.forward else BACKWARD_1
                    lines[first].append(self._recurrence(loop, node, first))
                    loops[loop] = []
                loops[loop].append(node)
                if node.attribute("final") >= 0:
                    lines[part].append(Equation(node, part, of=owner.get(node), loop=loop))
                continue
            lines[part].append(Equation(node, part, self.terms[node], owner.get(node)))
        lines[GIVEN].sort(key=declared)
        self._repeated(lines, owner)
        lines[BACKWARD_2].sort(key=lambda line: leaf_order(line, self.order))
        for target, node in zip(self.targets, self.updated, strict=False):
            lines[UPDATES].append(Equation(node, UPDATES, self._read(node), target=target))
        return tuple(line for part in TITLES for line in lines[part])

    def _part(self, node: Node, owner: Mapping[Node, Node]) -> str:
        if isinstance(node, Input | Const):
            return GIVEN
        if node in owner:
            return BACKWARD_2 if isinstance(owner[node], Input) else BACKWARD_1
        if node in self.forward:
            return FORWARD
        return BACKWARD_1 if is_derived(node) else UPDATES

    def _repeated(self, lines: dict[str, list[Equation | Recurrence]], owner: Mapping[Node, Node]) -> None:
        """One node serves as the gradient of several values, or none does: say so."""
        for gradient, first in owner.items():
            for value in self.owners[gradient]:
                if value is first or value not in self.heads:
                    continue
                part = BACKWARD_2 if isinstance(value, Input) else BACKWARD_1
                if part == BACKWARD_2 or value in self.given:
                    lines[part].append(Equation(gradient, part, self._read(gradient), value, same=True))
        for leaf in self.wrt:
            found = self.of.get(leaf)
            if found is None or (found not in self.heads and found in self.owners):
                term = fm.number(0) if found is None else self.terms.get(found)
                lines[BACKWARD_2].append(Equation(found or leaf, BACKWARD_2, term, leaf, same=True))

    def _recurrence(self, loop: Loop, first: Node, part: str) -> Recurrence:
        results = [node for node in self.graph.nodes if node in self.heads and loop_of(node) == loop]
        opaques = [node for node in results if isinstance(node, Opaque) and self._is_told(node)]
        roots = tuple(dict.fromkeys((*loop.following, *map(value_of, opaques))))
        step = equations_of(Graph(roots), Gradients(roots[0], (), {}), index=self.index)
        stacks = tuple(node for node in opaques if node.attribute("final") < 0)
        return Recurrence(loop, stacks, step, part, first)

    def _is_layer_output(self, node: Node) -> bool:
        """A value that a layer gives to what stands outside of it, or as a result."""
        scope = scope_of(node)
        if not scope or node not in self.forward:
            return False
        readers = [user for user in self.users[node] if user in self.forward]
        return not readers or any(scope_of(user) != scope for user in readers)

    def _is_told(self, result: Node) -> bool:
        """A result of a loop has a line, unless only other loops read it, and by a name that it has besides."""
        if plain_stack(result) is None or result in self.graph.outputs or result in self.given:
            return True
        for user in self.users[result]:
            loop = loop_of(user)
            if loop is None or result in (*loop.operands[: loop.carried], *loop.operands[loop.first_constant :]):
                return True
        return False

    # --- Symbols ---------------------------------------------------------------------------------------------------

    def _symbols(self, owner: Mapping[Node, Node]) -> dict[Node, Symbol]:
        symbols: dict[Node, Symbol] = {}
        taken: set[str] = set()

        def add(node: Node, symbol: Symbol) -> None:
            symbol = distinct(symbol, taken)
            taken.update((symbol.text, symbol.latex, symbol.code))
            symbols[node] = symbol

        for node in self.graph.nodes:
            if node in self.given and (node in self.heads or isinstance(node, Input)):
                add(node, given_symbol(node, self.given[node]))
        for loop in dict.fromkeys(loop_of(node) for node in self.graph.nodes if node in self.heads):
            if loop is not None:
                named = user_names(Graph(loop.following))
                for leaf, node in zip(loop.leaves, loop.following, strict=False):
                    name = named[node] if node in named and node is not leaf else leaf.name
                    add(leaf, carried_symbol(leaf, name))
        number = 0
        for node in self.graph.nodes:
            if node not in self.heads or node in owner or node in symbols:
                continue
            if self._is_layer_output(node) and not self.index:
                term = self.terms[node]
                product = term is not None and term.has("matmul", "window")
                add(node, Symbol("Z" if product else "H", ".".join(scope_of(node)), len(node.shape)))
                continue
            number += 1
            letter = "g" if node not in self.forward and is_derived(node) else "v"
            add(node, Symbol(f"{letter.upper() if len(node.shape) > 1 else letter}{number}", "", len(node.shape)))
        return symbols


def _may_repeat(term: Term) -> bool:
    return term.weight <= _SMALL and not term.has("call", "prime", "matmul", "reduce", "apply", "select")


def _is_plain_number(node: Node) -> bool:
    """One number over a whole array."""
    if isinstance(node, Const):
        return node.value.size == 1
    return isinstance(node, Generic) and not node.operands and node.is_map and term_of(node, fm.value) is not None


def _line(node: Node) -> tuple[str, int] | None:
    found = origins_of(node)
    return (found[0].file, found[0].line) if found and found[0].line and not found[0].role else None

"""What the optimisers share: the learning rate as a state, slots for each parameter, checks of options."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from graphc.errors import ArgumentError, ArgumentTypeError, ShapeError
from graphc.lang.calculus import grad
from graphc.lang.source import named_op, scope, user_line
from graphc.lang.tensor import Tensor, Variable, state


class Optimiser:
    """Base of optimisers: `updates` gives next values to parameters and states, for `gc.compile(updates=...)`.

    `lr` is a state: `optimiser.lr.value = 1e-4` takes effect at the next call, without compiling again. All states
    begin at 0 and belong to the optimiser: `updates` called again for the same parameters (with another loss, say)
    goes on with them; for other parameters it is refused, as they need an optimiser of their own.

    dtype: of the learning rate and the step count, "float32" or "float64"; slots have their parameter's dtype.
    """

    def __init__(self, lr: float, dtype: str = "float32") -> None:
        self.lr = state("lr", (), init=self._at_least("lr", lr), dtype=dtype)
        self._dtype = dtype
        self._slots: dict[tuple[str, int], Variable] = {}
        self._parameters: tuple[Variable, ...] = ()
        self._labels: dict[int, str] = {}

    def updates(self, loss: Tensor, parameters: Sequence[Variable]) -> dict[Variable, Tensor]:
        """The next values {variable: expression}: first the parameters in their order, then the states.

        loss: a float scalar. Errors: `GradientError` for another loss; `ArgumentError` for no parameters, for one
        that is listed twice and for a second, different list; `ArgumentTypeError` for what is not a parameter.
        """
        given = self._checked(parameters)
        return self.updates_from(grad(loss, given), given)

    def updates_from(self, gradients: Sequence[Tensor], parameters: Sequence[Variable]) -> dict[Variable, Tensor]:
        """The same from gradients that were changed first: clipped, say. One for each parameter, in its shape."""
        given = self._checked(parameters)
        if len(gradients) != len(given):
            raise ArgumentError(
                f"{self._name}: {len(given)} parameters, but {len(gradients)} gradients", user_line()
            )
        for variable, gradient in zip(given, gradients, strict=True):
            if gradient.shape != variable.shape:
                raise ShapeError(
                    f"{self._name}: the gradient of {variable.name} has shape {gradient.shape}, "
                    f"the parameter {variable.shape}",
                    user_line(),
                )
        self._adopt(given)
        pairs = [(p, g.astype(p.dtype)) for p, g in zip(given, gradients, strict=True)]
        with scope(self._name):
            return self._build(pairs)

    def _build(self, pairs: list[tuple[Variable, Tensor]]) -> dict[Variable, Tensor]:
        """All updates; an optimiser with a step count adds to this."""
        parameters: dict[Variable, Tensor] = {}
        states: dict[Variable, Tensor] = {}
        for parameter, gradient in pairs:
            parameters[parameter] = _next_value(self, parameter, gradient, states)
        return parameters | states

    def rule(self, parameter: Variable, gradient: Tensor, states: dict[Variable, Tensor]) -> Tensor:
        """The next value of one parameter; next values of its slots are put into `states`."""
        raise NotImplementedError

    # --- For subclasses ---------------------------------------------------------------------------------------------

    @property
    def _name(self) -> str:
        return type(self).__name__

    def _rate(self, parameter: Variable) -> Tensor:
        return self.lr.astype(parameter.dtype)

    def _slot(self, kind: str, parameter: Variable) -> Variable:
        """The state `kind/parameter`, zeros at first."""
        key = (kind, id(parameter))
        if key not in self._slots:
            name = f"{kind}/{self._labels[id(parameter)]}"
            self._slots[key] = state(name, parameter.shape, init=0, dtype=parameter.dtype)
        return self._slots[key]

    def _count(self) -> Variable:
        """Steps done so far; a float, which counts exactly to 2^24 and rests there: no formula can tell by then."""
        if ("step", 0) not in self._slots:
            self._slots["step", 0] = state("step", (), init=0, dtype=self._dtype)
        return self._slots["step", 0]

    def _at_least(self, option: str, value: float, least: float = 0.0) -> float:
        return self._number(option, value, f"from {least:g} up", lambda number: number >= least)

    def _fraction(self, option: str, value: float) -> float:
        return self._number(option, value, "in [0, 1)", lambda number: 0 <= number < 1)

    def _number(self, option: str, value: Any, what: str, is_good: Any) -> float:
        if isinstance(value, bool) or not hasattr(value, "__float__") or isinstance(value, Tensor):
            raise ArgumentTypeError(f"{self._name}: {option} must be a number {what}, not {value!r}", user_line())
        number = float(value)
        if not is_good(number) or number == float("inf"):
            raise ArgumentError(f"{self._name}: {option} must be {what}, not {value!r}", user_line())
        return number

    def _checked(self, parameters: Sequence[Variable]) -> list[Variable]:
        if isinstance(parameters, Tensor):
            raise ArgumentTypeError(f"{self._name}: a list of parameters is needed, not one tensor", user_line())
        given = list(parameters)
        if not given:
            raise ArgumentError(f"{self._name}: no parameters to update", user_line())
        for variable in given:
            if not isinstance(variable, Variable):
                raise ArgumentTypeError(f"{self._name}: {variable!r} is not a parameter", user_line())
        counts = Counter(id(variable) for variable in given)
        for variable in given:
            if counts[id(variable)] > 1:
                raise ArgumentError(f"{self._name}: the parameter {variable.name} is listed twice", user_line())
        return given

    def _adopt(self, given: list[Variable]) -> None:
        """Keep the parameters, and give each a name of its own for its states."""
        if self._parameters:
            if {id(p) for p in self._parameters} != {id(p) for p in given}:
                raise ArgumentError(
                    f"{self._name}: this optimiser has other parameters already; make one for each set", user_line()
                )
            return
        self._parameters = tuple(given)
        taken: Counter[str] = Counter()
        for variable in given:
            name = variable.name or "parameter"
            taken[name] += 1
            self._labels[id(variable)] = name if taken[name] == 1 else f"{name}_{taken[name]}"


@named_op
def _next_value(
    optimiser: Optimiser, parameter: Variable, gradient: Tensor, states: dict[Variable, Tensor]
) -> Tensor:
    return optimiser.rule(parameter, gradient, states)

"""What the optimisers share: the learning rate as a state, its schedule, clipping, slots for each parameter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, Unpack

from graphc.errors import ArgumentError, ArgumentTypeError, ShapeError
from graphc.lang.calculus import grad
from graphc.lang.snapshot import Differences, restore, snapshot
from graphc.lang.source import named_op, scope, user_line
from graphc.lang.tensor import Tensor, Variable, state
from graphc.optim.clipping import clip_by_norm, clip_by_value
from graphc.optim.options import WithOptions, above_zero, at_least
from graphc.optim.schedules import ScheduleFunction, scheduled_rate


class Common(TypedDict, total=False):
    """The options that every optimiser takes: see `Optimiser`."""

    dtype: str
    schedule: ScheduleFunction | None
    clip_norm: float | None
    clip_value: float | None


class Optimiser(WithOptions):
    """Base of optimisers: `updates` gives next values to parameters and states, for `gc.compile(updates=...)`.

    `lr` is a state: `optimiser.lr.value = 1e-4` takes effect at the next call, without compiling again. The states
    belong to the optimiser: `updates` called again for the same parameters (with another loss, say) goes on with them;
    for other parameters it is refused, as they need an optimiser of their own. So groups of parameters with different
    options are several optimisers:

        updates = {**SGD(lr=0.1).updates(loss, body), **SGD(lr=0.01).updates(loss, head)}

    Options that every optimiser takes:
    dtype: of the learning rate and the step count, "float32" or "float64"; slots have their parameter's dtype.
    schedule: what the learning rate is multiplied by at each step (`graphc.optim.schedules`). The step count is a
        float, which is exact to 2^24 steps in float32 and rests there.
    clip_value, clip_norm: limits of each element of the gradients and of the norm of all of them (`clip_by_value`,
        `clip_by_norm`). Both: first by value, so that the norm keeps its limit. weight_decay's penalty is added after.
    Errors: `ArgumentTypeError` for an option that does not exist, `ArgumentError` for a value outside its range.
    """

    common_options = tuple(Common.__annotations__)

    def __init__(self, lr: float, **common: Unpack[Common]) -> None:
        self._dtype = common.get("dtype", "float32")
        if self._dtype not in ("float32", "float64"):
            raise ArgumentError(f'{self._name}: dtype must be "float32" or "float64", not {self._dtype!r}', user_line())
        self.lr = state("lr", (), init=at_least(self._name, "lr", lr), dtype=self._dtype)
        self.schedule = common.get("schedule")
        if self.schedule is not None and not callable(self.schedule):
            raise ArgumentTypeError(
                f"{self._name}: schedule must be a function of the step count, not {self.schedule!r}", user_line()
            )
        self.clip_norm = self._limit("clip_norm", common.get("clip_norm"))
        self.clip_value = self._limit("clip_value", common.get("clip_value"))
        self._now: Tensor = self.lr
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
        changed = list(gradients)
        with scope(self._name):
            if self.clip_value is not None:
                changed = clip_by_value(changed, self.clip_value)
            if self.clip_norm is not None:
                changed = clip_by_norm(changed, self.clip_norm)
            if self.schedule is not None:
                self._now = scheduled_rate(self._name, self.lr, self.schedule, self._count())
            return self._build([(p, g.astype(p.dtype)) for p, g in zip(given, changed, strict=True)])

    def _build(self, pairs: list[tuple[Variable, Tensor]]) -> dict[Variable, Tensor]:
        parameters: dict[Variable, Tensor] = {}
        states: dict[Variable, Tensor] = {}
        for parameter, gradient in pairs:
            parameters[parameter] = _next_value(self, parameter, gradient, states)
        if ("step", 0) in self._slots:  # something asked for the count: without that there is none
            states[self._count()] = self._count() + 1
        return parameters | states

    def rule(self, parameter: Variable, gradient: Tensor, states: dict[Variable, Tensor]) -> Tensor:
        """The next value of one parameter; next values of its slots are put into `states`."""
        raise NotImplementedError

    # --- States -----------------------------------------------------------------------------------------------------

    def named_states(self) -> list[tuple[str, Variable]]:
        """(name, state): `lr`, then those that `updates` made, in its order: "exp_avg/0.weight", "step"."""
        return [("lr", self.lr)] + [(slot.name or "", slot) for slot in self._slots.values()]

    def state_dict(self) -> dict[str, Any]:
        """A copy of each state by its name; with the parameters' values it is all that a run needs to go on.

        The states exist after the first `updates`, of which those of a new optimiser must be called before loading.
        """
        return snapshot(self.named_states())

    def load_state_dict(self, values: Mapping[str, Any], strict: bool = True) -> Differences:
        """Set the states, as `Module.load_state_dict` sets parameters: all is checked before anything changes."""
        return restore(f"{self._name}.load_state_dict", self.named_states(), values, strict)

    # --- For subclasses ---------------------------------------------------------------------------------------------

    @property
    def _name(self) -> str:
        return type(self).__name__

    def _rate(self, parameter: Variable) -> Tensor:
        """The learning rate of this step."""
        return self._now.astype(parameter.dtype)

    def _slot(self, kind: str, parameter: Variable, init: float = 0) -> Variable:
        """The state `kind/parameter`, filled with `init` at first."""
        key = (kind, id(parameter))
        if key not in self._slots:
            name = f"{kind}/{self._labels[id(parameter)]}"
            self._slots[key] = state(name, parameter.shape, init=init, dtype=parameter.dtype)
        return self._slots[key]

    def _scalar(self, name: str, init: float = 0) -> Variable:
        """A state of the optimiser itself, in its dtype."""
        if (name, 0) not in self._slots:
            self._slots[name, 0] = state(name, (), init=init, dtype=self._dtype)
        return self._slots[name, 0]

    def _count(self) -> Variable:
        """Steps done so far; a float, which counts exactly to 2^24 in float32 and rests there."""
        return self._scalar("step")

    def _limit(self, option: str, value: float | None) -> float | None:
        return None if value is None else above_zero(self._name, option, value)

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

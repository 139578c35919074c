"""Schedules: functions of the step count that a compiled step multiplies its learning rate by.

    gc.optim.SGD(lr=0.1, schedule=gc.optim.StepLR(step_size=30 * steps_per_epoch, gamma=0.1))

The rate of a step is `lr * schedule(step)`: lr is the optimiser's state, which can still be set, and `step` is 0 for
the first step, 1 for the second. Both are states of the optimiser, so that a run goes on from a copy of its states as
if it had not been interrupted. The names and formulas are those of `torch.optim.lr_scheduler`, which counts epochs
where its `step()` is called once an epoch; here everything counts steps. What is known in epochs is multiplied by the
steps of an epoch; a rate that changes between epochs only is `lambda step: schedule(gc.floor(step / steps_per_epoch))`.

Any function of one float scalar tensor is a schedule: `lambda step: gc.rsqrt(step + 1)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from graphc.errors import ArgumentError, ArgumentTypeError, ShapeError
from graphc.lang.arrays import full_like
from graphc.lang.elementwise import cos, floor, greater_equal, maximum, minimum, power, where
from graphc.lang.source import named_op, user_line
from graphc.lang.tensor import Tensor
from graphc.optim.options import WithOptions, at_least, fraction, number, share, whole

ScheduleFunction: TypeAlias = Callable[[Tensor], Any]


@named_op
def scheduled_rate(owner: str, lr: Tensor, schedule: ScheduleFunction, step: Tensor) -> Tensor:
    """lr * schedule(step), in lr's dtype. Errors name what a schedule that is no such function gave."""
    return lr * as_factor(owner, schedule(step), lr)


def as_factor(owner: str, given: Any, like: Tensor) -> Tensor:
    """What a schedule gave as a scalar in the dtype of `like`. Errors: `ArgumentTypeError`, `ShapeError`."""
    if not isinstance(given, Tensor):
        return full_like(like, number(f"{owner}: the schedule", "factor", given, "from 0 up", lambda found: found >= 0))
    if given.shape != ():
        raise ShapeError(f"{owner}: the schedule gave an array of shape {given.shape}, not a scalar", user_line())
    if given.dtype == "bool":
        raise ArgumentTypeError(f"{owner}: the schedule gave a bool, not a number", user_line())
    return given.astype(like.dtype)


class Schedule(WithOptions):
    """Base of the schedules here: checked options, kept as attributes of their names, and shown."""

    def __call__(self, step: Tensor) -> Tensor:
        """The factor of a step, a scalar."""
        raise NotImplementedError

    @property
    def _name(self) -> str:
        return type(self).__name__

    def __repr__(self) -> str:
        return f"{self._name}({', '.join(f'{option}={value!r}' for option, value in vars(self).items())})"


class StepLR(Schedule):
    """gamma ^ floor(step / step_size).

    >>> import graphc as gc
    >>> halve = gc.optim.StepLR(step_size=10, gamma=0.5)
    >>> [float(gc.evaluate(halve(gc.constant(step)), {})) for step in (0.0, 9.0, 10.0, 25.0)]
    [1.0, 1.0, 0.5, 0.25]
    """

    def __init__(self, step_size: int, gamma: float = 0.1) -> None:
        self.step_size = whole(self._name, "step_size", step_size)
        self.gamma = at_least(self._name, "gamma", gamma)

    def __call__(self, step: Tensor) -> Tensor:
        return power(self.gamma, floor(step / self.step_size))


class MultiStepLR(Schedule):
    """gamma ^ (how many of the milestones are at or before the step)."""

    def __init__(self, milestones: Sequence[int], gamma: float = 0.1) -> None:
        self.milestones = _milestones(self._name, "milestones", milestones)
        self.gamma = at_least(self._name, "gamma", gamma)

    def __call__(self, step: Tensor) -> Tensor:
        factor = full_like(step, 1)
        for passed, milestone in enumerate(self.milestones, start=1):
            factor = where(greater_equal(step, milestone), self.gamma**passed, factor)
        return factor


class ExponentialLR(Schedule):
    """gamma ^ step. To lose the factor g in an epoch: gamma = g ** (1 / steps_per_epoch)."""

    def __init__(self, gamma: float) -> None:
        self.gamma = at_least(self._name, "gamma", gamma)

    def __call__(self, step: Tensor) -> Tensor:
        return power(self.gamma, step)


class CosineAnnealingLR(Schedule):
    """r + (1 - r) (1 + cos(pi step / T_max)) / 2 with r = eta_min_ratio: from lr to r * lr in T_max steps.

    As in PyTorch the rate rises again after T_max. Its eta_min, a rate, is eta_min_ratio * lr.
    Source: I. Loshchilov, F. Hutter, SGDR, arXiv:1608.03983, equation 5.
    """

    def __init__(self, T_max: int, eta_min_ratio: float = 0.0) -> None:
        self.T_max = whole(self._name, "T_max", T_max)
        self.eta_min_ratio = at_least(self._name, "eta_min_ratio", eta_min_ratio)

    def __call__(self, step: Tensor) -> Tensor:
        return _cosine(1.0, self.eta_min_ratio, step / self.T_max)


class LinearWarmup(Schedule):
    """From `start` to 1 along a line in `steps` steps, then 1: start + (1 - start) min(step / steps, 1).

    PyTorch's LinearLR(start_factor=start, total_iters=steps), with its 1/3. With start=0 the first step moves nothing.
    """

    def __init__(self, steps: int, start: float = 1 / 3) -> None:
        self.steps = whole(self._name, "steps", steps)
        self.start = share(self._name, "start", start)

    def __call__(self, step: Tensor) -> Tensor:
        return self.start + (1 - self.start) * minimum(step / self.steps, 1.0)


class PolynomialLR(Schedule):
    """(1 - min(step, total_iters) / total_iters) ^ power: 0 from step total_iters on."""

    def __init__(self, total_iters: int = 5, power: float = 1.0) -> None:
        self.total_iters = whole(self._name, "total_iters", total_iters)
        self.power = at_least(self._name, "power", power)

    def __call__(self, step: Tensor) -> Tensor:
        return power(1.0 - minimum(step / self.total_iters, 1.0), self.power)


class OneCycleLR(Schedule):
    """From 1 / div_factor up to 1 at step pct_start * total_steps - 1, down to 1 / (div_factor * final_div_factor) at
    step total_steps - 1, both along a cosine, and on at that rate. The optimiser's lr is PyTorch's max_lr.

    Momentum is left as it is (PyTorch's cycle_momentum=False).
    Source: L. Smith, N. Topin, Super-convergence, arXiv:1708.07120, as in PyTorch.
    """

    def __init__(
        self, total_steps: int, pct_start: float = 0.3, div_factor: float = 25.0, final_div_factor: float = 1e4
    ) -> None:
        self.total_steps = whole(self._name, "total_steps", total_steps, least=2)
        self.pct_start = fraction(self._name, "pct_start", pct_start)
        self.div_factor = at_least(self._name, "div_factor", div_factor, least=1)
        self.final_div_factor = at_least(self._name, "final_div_factor", final_div_factor, least=1)

    def __call__(self, step: Tensor) -> Tensor:
        peak, last = self.pct_start * self.total_steps - 1, self.total_steps - 1
        lowest = 1 / (self.div_factor * self.final_div_factor)
        down = _cosine(1.0, lowest, minimum(maximum((step - peak) / (last - peak), 0.0), 1.0))
        if peak <= 0:
            return down
        return where(greater_equal(step, peak), down, _cosine(1 / self.div_factor, 1.0, step / peak))


class SequentialLR(Schedule):
    """One schedule after another: schedules[n] takes over at step milestones[n - 1], and begins with its step 0.

    >>> import graphc as gc
    >>> warm_up, cool_down = gc.optim.LinearWarmup(steps=4, start=0.5), gc.optim.CosineAnnealingLR(T_max=10)
    >>> both = gc.optim.SequentialLR([warm_up, cool_down], milestones=[4])
    >>> [round(float(gc.evaluate(both(gc.constant(step)), {})), 6) for step in (0.0, 2.0, 4.0, 9.0)]
    [0.5, 0.75, 1.0, 0.5]
    """

    def __init__(self, schedules: Sequence[ScheduleFunction], milestones: Sequence[int]) -> None:
        self.schedules = _schedules(self._name, "schedules", schedules)
        self.milestones = _milestones(self._name, "milestones", milestones)
        if len(self.schedules) != len(self.milestones) + 1:
            raise ArgumentError(
                f"SequentialLR: {len(self.schedules)} schedules need {len(self.schedules) - 1} milestones between "
                f"them, not {len(self.milestones)}",
                user_line(),
            )

    def __call__(self, step: Tensor) -> Tensor:
        factor = as_factor("SequentialLR", self.schedules[0](step), step)
        for schedule, milestone in zip(self.schedules[1:], self.milestones, strict=True):
            next_one = as_factor("SequentialLR", schedule(step - milestone), step)
            factor = where(greater_equal(step, milestone), next_one, factor)
        return factor


def _cosine(start: float, end: float, done: Tensor) -> Tensor:
    """From start to end along half a cosine, of which the share `done` is behind."""
    return end + (start - end) / 2 * (1.0 + cos(math.pi * done))


def _milestones(owner: str, option: str, value: Any) -> tuple[int, ...]:
    if isinstance(value, (int, str)) or not isinstance(value, Sequence):
        raise ArgumentTypeError(f"{owner}: {option} is a list of steps, not {value!r}", user_line())
    found = tuple(whole(owner, f"{option}[{n}]", step) for n, step in enumerate(value))
    if sorted(set(found)) != list(found):
        raise ArgumentError(f"{owner}: each of the {option} must be above the one before, not {value!r}", user_line())
    return found


def _schedules(owner: str, option: str, value: Any) -> tuple[ScheduleFunction, ...]:
    if not isinstance(value, Sequence) or not value or not all(callable(one) for one in value):
        raise ArgumentTypeError(f"{owner}: {option} is a list of functions of the step, not {value!r}", user_line())
    return tuple(value)

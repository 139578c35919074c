"""Checks of options, in words: of optimisers, schedules and clipping alike."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from typing import Any

from graphc.errors import ArgumentError, ArgumentTypeError
from graphc.lang.source import user_line
from graphc.lang.tensor import Tensor


class WithOptions:
    """Base of classes whose call refuses an unknown option with a list of those that exist.

    `common_options` are the names that __init__ takes beyond those of its own signature.
    """

    common_options: tuple[str, ...] = ()

    def __new__(cls, *args: Any, **options: Any) -> Any:
        """Checks the names alone; __init__ checks the values."""
        check_names(cls.__name__, _named(cls), len(args), options)
        return super().__new__(cls)


def _named(cls: type[WithOptions]) -> list[str]:
    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
    own = [p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    return own + [name for name in cls.common_options if name not in own]


def check_names(owner: str, known: list[str], positional: int, options: dict[str, Any]) -> None:
    """`ArgumentTypeError` for an option that is not known, and for more options without a name than there are."""
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise ArgumentTypeError(
                f"{owner}: there is no option {name!r}{hint}; the options are {', '.join(known)}", user_line()
            )
    if positional > len(known):
        raise ArgumentTypeError(
            f"{owner}: {positional} options were given, there are {len(known)}: {', '.join(known)}", user_line()
        )


def number(owner: str, option: str, value: Any, what: str, is_good: Callable[[float], bool]) -> float:
    """A finite number for which `is_good`; `what` says in words what that means."""
    if isinstance(value, (bool, str, Tensor)) or not hasattr(value, "__float__"):
        raise ArgumentTypeError(f"{owner}: {option} must be a number {what}, not {value!r}", user_line())
    found = float(value)
    if not is_good(found) or found == float("inf"):
        raise ArgumentError(f"{owner}: {option} must be {what}, not {value!r}", user_line())
    return found


def at_least(owner: str, option: str, value: Any, least: float = 0.0) -> float:
    """A number from `least` up."""
    return number(owner, option, value, f"from {least:g} up", lambda found: found >= least)


def above_zero(owner: str, option: str, value: Any) -> float:
    """A number above 0."""
    return number(owner, option, value, "above 0", lambda found: found > 0)


def fraction(owner: str, option: str, value: Any) -> float:
    """A number in [0, 1)."""
    return number(owner, option, value, "in [0, 1)", lambda found: 0 <= found < 1)


def share(owner: str, option: str, value: Any) -> float:
    """A number in [0, 1]."""
    return number(owner, option, value, "in [0, 1]", lambda found: 0 <= found <= 1)


def whole(owner: str, option: str, value: Any, least: int = 1) -> int:
    """A whole number from `least` up."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ArgumentError(f"{owner}: {option} must be a whole number from {least} up, not {value!r}", user_line())
    return value


def two_fractions(owner: str, option: str, value: Any) -> tuple[float, float]:
    """Two numbers in [0, 1)."""
    if isinstance(value, str) or not hasattr(value, "__len__") or len(value) != 2:
        raise ArgumentError(f"{owner}: {option} are two numbers in [0, 1), not {value!r}", user_line())
    return fraction(owner, f"{option}[0]", value[0]), fraction(owner, f"{option}[1]", value[1])

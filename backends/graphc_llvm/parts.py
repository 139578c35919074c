"""A module in parts that are compiled side by side, each a module of its own.

LLVM compiles one function after another on one thread, and takes longer for that than all the rest of a compilation
does. A module's functions are cut into parts of neighbours, whatever the number of processors; what is internal to the
module becomes hidden, so that the parts find one another when they are loaded together.
"""

from __future__ import annotations

import re
from typing import Final

from graphc_llvm.emit import Builder, Module

PART_LINES: Final = 1200
"""Lines of a part, at least: some 30 ms of compilation. A part of its own costs 1 ms."""

_SYMBOL = re.compile(r"@([\w.]+)")


class Parts:
    """The parts of a module that is still being made: `ready` gives the text of the next one once there is enough for
    it, `rest` of the last. A module with variables is one part."""

    def __init__(self, module: Module) -> None:
        self._module = module
        self._taken = 0  # functions

    def ready(self) -> str | None:
        """A part, if the functions that were begun since the one before are enough; all of them must be finished."""
        waiting = list(self._module.functions.values())[self._taken :]
        if sum(len(function.lines) for function in waiting) < PART_LINES or self._is_whole():
            return None
        self._taken += len(waiting)
        return _text(self._module, waiting)

    def rest(self) -> str:
        """The last part, or the whole."""
        waiting = list(self._module.functions.values())[self._taken :]
        return _text(self._module, waiting) if self._taken else self._module.text()

    def _is_whole(self) -> bool:
        return any(" global " in line for line in self._module.declarations.values())


def _text(module: Module, part: list[Builder]) -> str:
    bodies = [function.text(hidden=True) for function in part]
    own = {function.name for function in part}
    used = {name for body in bodies for name in _SYMBOL.findall(body)} - own
    declared = [line for name, line in module.declarations.items() if name in used and name not in module.functions]
    declared += [function.declaration() for name, function in module.functions.items() if name in used]
    return "\n".join([*declared, *bodies, ""])

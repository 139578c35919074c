"""Names of variables in generated code: identifiers that hide nothing that the code itself needs."""

from __future__ import annotations

import builtins
import keyword
import re

from graphc.ir.walk import unique_name
from graphc_numpy.helpers import HELPERS

_RESERVED = frozenset((*keyword.kwlist, *keyword.softkwlist, *dir(builtins), *HELPERS, "np", "base64"))


class Names:
    """Gives out unique identifiers.

    >>> names = Names()
    >>> names.unique("h"), names.unique("h"), names.unique("lambda"), names.unique("2 fast")
    ('h', 'h_2', 'lambda_', '_2_fast')
    """

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def unique(self, stem: str) -> str:
        """An identifier like `stem` that was not given out before."""
        stem = re.sub(r"\W", "_", stem, flags=re.ASCII) or "value"
        if stem[0].isdigit():
            stem = f"_{stem}"
        if stem in _RESERVED:
            stem = f"{stem}_"
        return unique_name(stem, self._taken)

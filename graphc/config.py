"""The one frozen configuration, read from the environment when graphc is imported.

GRAPHC_DEBUG    0 (default): silent; 1: a line for each pass with its time; 2: the graph after each pass as well;
                3: the program and the generated source as well. The verifier runs between passes from 1 on.
GRAPHC_BACKEND  the backend of `gc.compile` when none is named (default: llvm).
GRAPHC_THREADS  the number of threads of compiled functions when none is named (default: the CPUs that the process
                may use).
GRAPHC_WINOGRAD 0: no convolution by Winograd's algorithm where `gc.compile` does not say (default: 1).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class Config:
    """Settings of the process; see the module's text for the meaning of each."""

    debug: int = 0
    backend: str = "llvm"
    threads: int | None = None
    winograd: bool = True

    @classmethod
    def from_environment(cls) -> Self:
        """Read the settings; a malformed number is an error that names its variable."""
        return cls(
            debug=_integer("GRAPHC_DEBUG", 0) or 0,
            backend=os.environ.get("GRAPHC_BACKEND", cls.backend),
            threads=_integer("GRAPHC_THREADS", None),
            winograd=_integer("GRAPHC_WINOGRAD", 1) != 0,
        )


def _integer(variable: str, default: int | None) -> int | None:
    text = os.environ.get(variable, "").strip()
    if not text:
        return default
    if not text.isdecimal():
        raise ValueError(f"{variable} must be a whole number, not {text!r}")
    return int(text)


config = Config.from_environment()

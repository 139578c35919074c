"""The one frozen configuration, read from the environment when graphc is imported.

GRAPHC_DEBUG        0 (default): silent; 1: a line for each pass with its time, and one when the cache cannot be used;
                    2: the graph after each pass as well; 3: the program and the generated source as well. The verifier
                    runs between passes from 1 on.
GRAPHC_BACKEND      the backend of `gc.compile` when none is named (default: llvm).
GRAPHC_THREADS      the number of threads of compiled functions when none is named (default: the CPUs that the process
                    may use).
GRAPHC_WINOGRAD     0: no convolution by Winograd's algorithm where `gc.compile` does not say (default: 1).
GRAPHC_CACHE        0: compiled code is neither kept on disk nor taken from there (default: 1); see `graphc.cache`.
GRAPHC_CACHE_DIR    where it is kept (default: `graphc` in the platform's directory for caches).
GRAPHC_CACHE_BYTES  how many bytes are kept there (default: 268435456, which is 256 MiB).
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Final, Self, TypeVar

_Default = TypeVar("_Default", int, None)

LOADED_AT: Final = time.time()
"""When graphc began to be imported: a source file that changed later may not be what this process runs."""


@dataclass(frozen=True)
class Config:
    """Settings of the process; see the module's text for the meaning of each."""

    debug: int = 0
    backend: str = "llvm"
    threads: int | None = None
    winograd: bool = True
    cache: bool = True
    cache_directory: str | None = None
    cache_bytes: int = 256 << 20

    @classmethod
    def from_environment(cls) -> Self:
        """Read the settings; a malformed number is an error that names its variable."""
        return cls(
            debug=_integer("GRAPHC_DEBUG", 0),
            backend=os.environ.get("GRAPHC_BACKEND", cls.backend),
            threads=_integer("GRAPHC_THREADS", None),
            winograd=_integer("GRAPHC_WINOGRAD", 1) != 0,
            cache=_integer("GRAPHC_CACHE", 1) != 0,
            cache_directory=os.environ.get("GRAPHC_CACHE_DIR") or None,
            cache_bytes=_integer("GRAPHC_CACHE_BYTES", cls.cache_bytes),
        )


def _integer(variable: str, default: _Default) -> int | _Default:
    text = os.environ.get(variable, "").strip()
    if not text:
        return default
    if not text.isdecimal():
        raise ValueError(f"{variable} must be a whole number, not {text!r}")
    return int(text)


config = Config.from_environment()

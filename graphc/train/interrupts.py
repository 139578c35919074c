"""Ctrl-C that stops between steps: the first is noted, the second raises KeyboardInterrupt at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any, Self

_NOTICE = b"\nstopping after this step; Ctrl-C again stops at once\n"


class Interrupts:
    """While the block runs, a first SIGINT is noted. The handler that was there before is put back at the end.

    Only a main thread can have handlers: in another one, and where SIGINT is ignored, nothing is changed.
    """

    def __init__(self) -> None:
        self._came = False
        self._previous: Any = None
        self._is_installed = False

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.getsignal(signal.SIGINT)
            if self._previous not in (signal.SIG_IGN, None):  # None: a handler that Python cannot put back
                signal.signal(signal.SIGINT, self._note)
                self._is_installed = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_installed:
            signal.signal(signal.SIGINT, self._previous)

    def should_stop(self) -> bool:
        """Whether Ctrl-C came."""
        return self._came

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._came:
            raise KeyboardInterrupt
        self._came = True
        if sys.stderr is not None and sys.stderr.isatty():
            os.write(2, _NOTICE)  # not print: the handler may interrupt a print

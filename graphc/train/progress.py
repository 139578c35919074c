"""A progress bar on stderr: redrawn in place on a terminal, silent elsewhere."""

from __future__ import annotations

import sys

WIDTH = 28


class Progress:
    """`advance` once a step; `report` prints a line that stays, on a terminal or not.

    total: the steps to come; None where nobody knows, and they are counted.
    """

    def __init__(self, total: int | None, label: str) -> None:
        self.total = total
        self.label = label
        self.done = 0
        self.is_terminal = sys.stderr.isatty()
        self._shown = -1

    def advance(self) -> None:
        self.done += 1
        if not self.is_terminal:
            return
        if self.total is None:
            print(f"\r{self.label} {self.done}", end="", file=sys.stderr, flush=True)
            return
        filled = min(WIDTH, WIDTH * self.done // max(self.total, 1))
        if filled != self._shown:
            self._shown = filled
            bar = "█" * filled + "░" * (WIDTH - filled)
            percent = 100 * self.done // max(self.total, 1)
            print(f"\r{self.label} {bar} {percent:3d}%", end="", file=sys.stderr, flush=True)

    def report(self, line: str) -> None:
        """Write a whole line; the bar goes on below it."""
        if self.is_terminal:
            print(f"\r\033[K{line}", file=sys.stderr, flush=True)
            self._shown = -1
        else:
            print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Remove the bar."""
        if self.is_terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
